"""A table of texts, labels and perhaps a teacher's answers becomes a data set."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from distill_core.config import DataConfig
from distill_core.data.answers import PREFIX, find_answers
from distill_core.data.splitting import Row, Side, assemble
from distill_core.data.tables import MAX_CELL, Record, Table
from distill_core.data.texts import Check, Dataset, Report
from distill_core.errors import DataError

TEXT_COLUMNS = ("text", "sentence", "review", "content")
LABEL_COLUMNS = ("label", "class", "sentiment", "category")
MAX_CLASSES = 50
MAX_LABEL = 200
"""Characters of a label."""
SIDES: Mapping[str, Side] = {
    "train": "train",
    "val": "val",
    "dev": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


@dataclass(frozen=True, slots=True)
class _Columns:
    text: str
    label: str
    split: str | None


@dataclass(frozen=True, slots=True)
class _Draft:
    """A row whose label is not named yet."""

    record: Record
    text: str
    label: str | None
    side: Side | None


def from_table(
    table: Table,
    config: DataConfig,
    *,
    order: Sequence[str] = (),
    published_test: bool = False,
    check: Check = lambda: None,
) -> Dataset:
    """Finds the columns, names the classes, and leaves out what cannot be used.

    Classes are numbered in the order of their labels, numbers before words. A row without a label gives an unlabelled
    text. Sample ids are row numbers, from 1.

    Args:
        order: all labels in the order of their numbers, where the source knows it.
        published_test: leave the test side as it was published.

    Raises:
        DataError: naming field or row, its value, and the remedy.
    """
    columns = _columns(table.columns, config)
    drafts = []
    for index, record in enumerate(table.records):
        if index % 1000 == 0:
            check()
        drafts.append(_draft(record, columns))
    filled = [draft for draft in drafts if draft.text]
    names = _names(order or _ordered({draft.label for draft in filled if draft.label}), config.label_names)
    classes = tuple(dict.fromkeys(names.values()))
    _require_classes(classes, columns.label)
    answers, remarks = find_answers([draft.record for draft in filled], table.columns, classes, names)
    rows = [
        Row(draft.record.number, draft.text, names[draft.label] if draft.label else None, draft.side, answer)
        for draft, answer in zip(filled, answers or [()] * len(filled), strict=True)
    ]
    dropped = {"over max_rows": table.total - len(table.records), "empty text": len(drafts) - len(filled)}
    notes = (*table.notes, *_remarks(columns, config, names, rows), *remarks)
    report = Report(table.total, dropped, notes)
    return assemble(rows, classes, seed=config.split_seed, report=report, published_test=published_test, check=check)


def is_used(config: DataConfig) -> Callable[[str], bool]:
    """Says of a column, by its name, whether `from_table` might read it."""
    own = (config.text_column, config.label_column, config.split_column)
    names = {*TEXT_COLUMNS, *LABEL_COLUMNS, *(name.strip().lower() for name in own if name)}
    return lambda column: (folded := column.strip().lower()) in names or folded.startswith(PREFIX)


def find_column(field: str, wanted: str | None, usual: Sequence[str], columns: Sequence[str]) -> str:
    """The column that a setting names, or the first of the usual names, whatever its capitals.

    Raises:
        DataError: there is none; its message lists those that are there.
    """
    if wanted and wanted in columns:
        return wanted
    folded = {name.strip().lower(): name for name in reversed(columns)}
    for name in [wanted.strip().lower()] if wanted else usual:
        if name in folded:
            return folded[name]
    there = ", ".join(repr(name[:40]) for name in columns[:20]) + (", …" if len(columns) > 20 else "")
    asked = repr(wanted) if wanted else f"none called {', '.join(usual[:-1])} or {usual[-1]}"
    raise DataError(f"data.{field} must be a column of the data, got {asked}; choose one of {there}")


def label_of(value: object) -> str | None:
    """A label as trimmed text, None where there is none: 1, 1.0 and "1" are the same, and so are true and "True"."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    text = str(value).strip()
    if text.lower() in {"true", "false"}:
        return text.lower()
    return re.sub(r"^([+-]?[0-9]+)\.0+$", r"\1", text) or None


def _columns(there: Sequence[str], config: DataConfig) -> _Columns:
    text = find_column("text_column", config.text_column, TEXT_COLUMNS, there)
    label = find_column("label_column", config.label_column, LABEL_COLUMNS, there)
    split = find_column("split_column", config.split_column, (), there) if config.split_column else None
    if len({text, label, split}) < 3:
        remedy = "give each its own with data.text_column, data.label_column and data.split_column"
        raise DataError(f"texts, labels and sides must be in different columns, got {text!r} and {label!r}; {remedy}")
    return _Columns(text, label, split)


def _draft(record: Record, columns: _Columns) -> _Draft:
    text = _cell(record, columns.text).strip()
    if len(text) > MAX_CELL:
        message = f"{record}: the text must have at most {MAX_CELL:,} characters, got {len(text):,}"
        raise DataError(f"{message}; cut it into several rows")
    label = label_of(_cell(record, columns.label))
    if label and len(label) > MAX_LABEL:
        message = f"{record}: the label must have at most {MAX_LABEL} characters, got {label[:40]!r}…"
        raise DataError(f"{message}; name the column of the labels with data.label_column")
    return _Draft(record, text, label, _side(record, columns.split) if columns.split and label else None)


def _cell(record: Record, column: str) -> str:
    """A cell as text that can be written as UTF-8; empty where there is none."""
    value = record.cells.get(column)
    if isinstance(value, (dict, list)):
        message = (
            f"{record}: column {column!r} must hold text, got {'an object' if isinstance(value, dict) else 'a list'}"
        )
        raise DataError(f"{message}; write it as one text")
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _side(record: Record, column: str) -> Side:
    value = _cell(record, column).strip()
    side = SIDES.get(value.lower())
    if side is None:
        raise DataError(
            f"{record}: column {column!r} must hold train, val (or dev) or test, got {value[:40]!r}; mend it"
        )
    return side


def _ordered(labels: set[str]) -> list[str]:
    def place(label: str) -> tuple[bool, float, str]:
        number = re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", label) is not None
        return (not number, float(label) if number else 0.0, label)

    return sorted(labels, key=place)


def _names(labels: Sequence[str], names: Mapping[str, str]) -> dict[str, str]:
    """The shown name of each label."""
    shown = {label_of(label): name.strip() for label, name in names.items()}
    return {label: shown.get(label) or label for label in labels}


def _require_classes(classes: Sequence[str], column: str) -> None:
    if not 2 <= len(classes) <= MAX_CLASSES:
        remedy = "is it the right column? Set data.label_column"
        raise DataError(f"column {column!r} must hold 2 to {MAX_CLASSES} classes, got {len(classes)}; {remedy}")


def _remarks(columns: _Columns, config: DataConfig, names: Mapping[str, str], rows: Sequence[Row]) -> list[str]:
    notes = [f"The texts are in column {columns.text!r}, the labels in column {columns.label!r}."]
    if columns.split:
        notes.append(f"Column {columns.split!r} says which texts are for training and which for testing.")
    unlabelled = sum(row.label is None for row in rows)
    if unlabelled:
        notes.append(f"{unlabelled:,} {_rows(unlabelled)} no label; their texts are kept as unlabelled.")
    strangers = [label for label in config.label_names if label_of(label) not in names]
    if strangers:
        notes.append(f"No text has the label {', '.join(repr(label) for label in strangers[:10])}.")
    return notes


def _rows(count: int) -> str:
    return "row has" if count == 1 else "rows have"
