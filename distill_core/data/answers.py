"""A teacher's answers that lie in columns `teacher_LABEL` beside the texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from distill_core.data.tables import Record
from distill_core.data.texts import Answers
from distill_core.errors import DataError

PREFIX = "teacher_"
SUM_TOLERANCE = 0.02
"""How far from 1 the probabilities of a row may add up, since files often hold rounded numbers."""
SMALLEST = 1e-6
"""Least probability, since the logarithm of 0 is not finite."""


def find_answers(
    records: Sequence[Record], columns: Sequence[str], classes: Sequence[str], names: Mapping[str, str]
) -> tuple[Answers, list[str]]:
    """A teacher's logits for each record, empty where there are no such columns, and remarks.

    A column is named after a label as it stands in the data or as it is shown, whatever its capitals. Numbers that are
    never negative and add up to 1 in each row are probabilities, whose logarithms are taken; others are logits.

    Args:
        names: the shown name of each label; several labels may share one.

    Raises:
        DataError: columns are missing, or a cell is not a finite number.
    """
    own = [column for column in columns if column.strip().lower().startswith(PREFIX)]
    by_class = _columns_by_class(own, classes, names)
    strangers = [column for column in own if column not in by_class.values()]
    notes = [f"Column {column!r} is not used: no class has this name." for column in strangers]
    if not by_class:
        return (), notes
    missing = [PREFIX + name for name in classes if name not in by_class]
    if missing:
        got, lacking = ", ".join(by_class.values()), ", ".join(missing)
        raise DataError(f"a teacher's answers must have a column for each class, got {got}; add {lacking}")
    used = [by_class[name] for name in classes]
    numbers_NC = np.array([[_number(record, column) for column in used] for record in records])
    kind = "probabilities" if _are_probabilities(numbers_NC) else "logits"
    notes.append(f"The teacher's answers are {kind}, in columns {', '.join(used)}.")
    logits_NC = _log(numbers_NC) if kind == "probabilities" else numbers_NC
    return tuple(tuple(row) for row in logits_NC.tolist()), notes


def _columns_by_class(own: Sequence[str], classes: Sequence[str], names: Mapping[str, str]) -> dict[str, str]:
    """The column of each class that has one; a shown name goes before a label of the data."""
    known = {label.lower(): name for label, name in names.items()} | {name.lower(): name for name in classes}
    found: dict[str, str] = {}
    for column in own:
        name = known.get(column.strip().lower().removeprefix(PREFIX).strip())
        if name is not None and name in found:
            raise DataError(f"class {name!r} must have one column of answers, got {found[name]} and {column}; drop one")
        if name is not None:
            found[name] = column
    return found


def _number(record: Record, column: str) -> float:
    value = record.cells.get(column)
    try:
        number = float(value) if isinstance(value, (str, int, float)) else float("nan")
    except (ValueError, OverflowError):
        number = float("nan")
    if not np.isfinite(number):
        message = f"{record}: column {column!r} must hold a finite number, got {str(value)[:40]!r}"
        raise DataError(f"{message}; let the teacher answer every text, or leave its columns out")
    return number


def _are_probabilities(numbers_NC: NDArray[np.float64]) -> bool:
    return bool((numbers_NC >= 0).all() and (abs(numbers_NC.sum(1) - 1) <= SUM_TOLERANCE + 1e-9).all())


def _log(probabilities_NC: NDArray[np.float64]) -> NDArray[np.float64]:
    clamped_NC = np.maximum(probabilities_NC, SMALLEST)
    logits_NC: NDArray[np.float64] = np.log(clamped_NC / clamped_NC.sum(1, keepdims=True))
    return logits_NC
