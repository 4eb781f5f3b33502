"""What decides a cached thing, as a hash. Needs no PyTorch, so that pages can ask what is cached at once."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from distill_core.config import RunConfig, digest
from distill_core.data.sources import fingerprint


def data_key(config: RunConfig, folder: Path) -> str:
    """Hash of all that decides the token ids of a data set; `folder` holds downloaded data.

    Where a file lies does not matter, only what is in it.
    """
    settings = config.data.model_dump(mode="json", exclude={"path"})
    return digest([settings, fingerprint(config.data, folder), code_version("data")])


def teacher_key(config: RunConfig, precision: str, folder: Path) -> str:
    """Hash of all that decides a teacher: data, seed, its configuration, precision, and the code that trains it."""
    return digest(
        [
            data_key(config, folder),
            config.training.seed,
            config.teacher.model_dump(mode="json"),
            precision,
            version("torch"),
            code_version("models", "training"),
        ]
    )


def transfer_key(config: RunConfig, precision: str, folder: Path) -> str:
    """Hash of all that decides the texts without labels and their teacher's answers to them."""
    return digest([teacher_key(config, precision, folder), config.training.transfer, config.training.augment])


def words_key(config: RunConfig, precision: str, folder: Path) -> str:
    """Hash of all that decides what a teacher makes of the vocabulary's words."""
    return digest([teacher_key(config, precision, folder), "words"])


def code_version(*packages: str) -> str:
    """Hash of the source text of some of our packages, so that what old code computed is not taken for new."""
    folder = Path(__file__).parent
    files = sorted(file for package in packages for file in (folder / package).glob("*.py"))
    return digest([[str(file.relative_to(folder)), file.read_text(encoding="utf-8")] for file in files])
