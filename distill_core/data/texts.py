"""What every source gives: labelled texts on three sides, texts without labels, and a report of what was left out."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

Item = TypeVar("Item")
Answers = tuple[tuple[float, ...], ...]
"""A teacher's logits, one row a text, one number a class in the order of the label names."""
Check = Callable[[], None]
"""Called often while texts are read; what it raises ends the work."""
Progress = Callable[[str, float], None]
"""Told what is being done, and how much of it is done, from 0 to 1."""


@dataclass(frozen=True)
class Split:
    """Labelled texts. `ids` are unique across the splits of a data set and stay the same from run to run.

    `answers` has a row for each text, or none at all where no teacher has answered.
    """

    ids: tuple[int, ...]
    texts: tuple[str, ...]
    labels: tuple[int, ...]
    answers: Answers = ()

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Report:
    """Rows that were read, how many were left out for which reason, and remarks in plain sentences."""

    rows: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Three labelled splits, texts without labels, and the name of each label.

    `unlabelled_answers` is empty or as long as `unlabelled`.
    """

    label_names: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    unlabelled: tuple[str, ...]
    unlabelled_answers: Answers = ()
    report: Report = Report()


def limited(dataset: Dataset, train: int | None, unlabelled: int | None) -> Dataset:
    """At most so many training and unlabelled texts, drawn once and for all, in their old order; None means all."""
    part, rows = dataset.train, _drawn(len(dataset.train), train)
    others = _drawn(len(dataset.unlabelled), unlabelled)
    return replace(
        dataset,
        train=Split(
            _pick(part.ids, rows), _pick(part.texts, rows), _pick(part.labels, rows), _pick(part.answers, rows)
        ),
        unlabelled=_pick(dataset.unlabelled, others),
        unlabelled_answers=_pick(dataset.unlabelled_answers, others),
    )


def _drawn(count: int, limit: int | None) -> Sequence[int]:
    if limit is None or limit >= count:
        return range(count)
    return sorted(random.Random(0).sample(range(count), limit))


def _pick(items: tuple[Item, ...], rows: Sequence[int]) -> tuple[Item, ...]:
    """The items in `rows`; a column that is empty stays empty."""
    return tuple(items[row] for row in rows) if items else ()
