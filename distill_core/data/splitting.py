"""Rows become a data set: duplicates leave, classes are numbered, and the sides that are missing are cut from train."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from distill_core.data.texts import Check, Dataset, Report, Split
from distill_core.errors import DataError

Side = Literal["train", "val", "test"]
SHARE = 0.1
"""Part of the texts of each class that goes to validation, and as much again to testing."""
DUPLICATE, CONTRADICTORY = "duplicate text", "contradictory labels"


@dataclass(frozen=True, slots=True)
class Row:
    """A text, the name of its class or None, the side on which its source puts it, and its teacher's logits."""

    id: int
    text: str
    label: str | None
    side: Side | None = None
    answers: tuple[float, ...] = ()


def assemble(
    rows: Sequence[Row],
    label_names: Sequence[str],
    *,
    seed: int,
    report: Report,
    published_test: bool = False,
    check: Check = lambda: None,
) -> Dataset:
    """Removes duplicates and puts each labelled text on one side, classes in equal shares.

    Two texts are the same if they differ in nothing but spaces and capitals, which is what the models would see. Of
    the same text with the same label one stays, on the test side rather than in val, and there rather than in train;
    the same text with different labels goes altogether. A side that no row is on is cut from train.

    Args:
        label_names: the classes, in the order of their numbers.
        seed: decides which texts of a class are cut from train.
        report: what the source already knows; the counts and remarks of this function are added.
        published_test: leave the test side as it was published, so that results can be compared with those of others.

    Raises:
        DataError: fewer than two classes are left, or too few texts to cut the sides from.
    """
    keys = _keys(rows, check)
    kept, dropped = _without_duplicates(rows, keys, published_test)
    labelled = [index for index in kept if rows[index].label is not None]
    sides, notes = _cut(rows, keys, labelled, seed)
    unlabelled = [rows[index] for index in kept if rows[index].label is None]
    train, val, test = (_split([rows[index] for index in sorted(sides[side])], label_names) for side in _SIDES)
    _require_texts(train, val, test)
    return Dataset(
        tuple(label_names),
        train,
        val,
        test,
        tuple(row.text for row in unlabelled),
        _answers(unlabelled),
        Report(report.rows, dict(Counter(report.dropped) + dropped), (*report.notes, *notes)),
    )


def plain(text: str) -> str:
    """A text without what does not count: capitals, and how much space there is between words."""
    return " ".join(text.lower().split())


_SIDES: tuple[Side, ...] = ("train", "val", "test")
_RANK = {"test": 0, "val": 1, "train": 2, None: 2}


def _keys(rows: Sequence[Row], check: Check) -> list[bytes]:
    """What the same texts have in common, 16 bytes each."""
    keys = []
    for number, row in enumerate(rows):
        if number % 1000 == 0:
            check()
        keys.append(hashlib.blake2b(plain(row.text).encode(), digest_size=16).digest())
    return keys


def _without_duplicates(
    rows: Sequence[Row], keys: Sequence[bytes], published_test: bool
) -> tuple[list[int], Counter[str]]:
    """Indices of the rows that stay, in order, and how many go for which reason."""
    first_label: dict[bytes, str] = {}
    contradictory = {
        key
        for key, row in zip(keys, rows, strict=True)
        if row.label and first_label.setdefault(key, row.label) != row.label
    }
    seen: set[bytes] = set()
    kept: list[int] = []
    dropped = Counter[str]()
    for index in sorted(range(len(rows)), key=lambda index: _precedence(rows[index])):
        row, key = rows[index], keys[index]
        if published_test and row.side == "test" and row.label is not None:
            kept.append(index)
        elif row.label is not None and key in contradictory:
            dropped[CONTRADICTORY] += 1
        elif key in seen:
            dropped[DUPLICATE] += 1
        else:
            kept.append(index)
        seen.add(key)
    return sorted(kept), dropped


def _precedence(row: Row) -> int:
    return 3 if row.label is None else _RANK[row.side]


def _cut(
    rows: Sequence[Row], keys: Sequence[bytes], labelled: Iterable[int], seed: int
) -> tuple[dict[Side, list[int]], list[str]]:
    """Indices of each side, and remarks on what was cut from train."""
    sides: dict[Side, list[int]] = {"train": [], "val": [], "test": []}
    for index in labelled:
        sides[rows[index].side or "train"].append(index)
    missing: list[Side] = [side for side in ("test", "val") if not sides[side]]
    classes: dict[str, list[int]] = defaultdict(list)
    for index in sides["train"]:
        classes[rows[index].label or ""].append(index)
    small, sides["train"] = [], []
    for label, members in classes.items():
        members.sort(key=lambda index: hashlib.blake2b(keys[index], salt=seed.to_bytes(8, "big")).digest())
        count = max(1, round(SHARE * len(members))) if len(members) > len(missing) else 0
        small += [label] if missing and not count else []
        for place, side in enumerate(missing):
            sides[side] += members[place * count : (place + 1) * count]
        sides["train"] += members[len(missing) * count :]
    return sides, _remarks(missing, small, given=any(row.side for row in rows))


def _remarks(missing: Sequence[Side], small: Sequence[str], *, given: bool) -> list[str]:
    notes = [
        f"No text was meant for {side}; 10 % of the training texts were cut off for it." for side in missing if given
    ]
    if small:
        names = ", ".join(repr(label) for label in small[:10])
        notes.append(f"Too few texts to stand on every side, so they are all in train: {names}.")
    return notes


def _split(rows: Sequence[Row], label_names: Sequence[str]) -> Split:
    numbers = {name: number for number, name in enumerate(label_names)}
    labels = tuple(numbers[row.label] for row in rows if row.label is not None)
    return Split(tuple(row.id for row in rows), tuple(row.text for row in rows), labels, _answers(rows))


def _answers(rows: Sequence[Row]) -> tuple[tuple[float, ...], ...]:
    return tuple(row.answers for row in rows) if any(row.answers for row in rows) else ()


def _require_texts(train: Split, val: Split, test: Split) -> None:
    if not (len(train) and len(val) and len(test)):
        counts = f"{len(train)} for train, {len(val)} for val and {len(test)} for test"
        raise DataError(f"the data must hold texts for all three sides, got {counts}; add texts, 3 of a class at least")
    if len(set(train.labels)) < 2:
        raise DataError("the training texts must be of 2 classes at least, got 1; add texts of another class")
