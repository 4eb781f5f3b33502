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
ROUNDING = 1e-6
"""How far above 1 a probability may lie, since those of float32 do."""
SMALLEST = 1e-6
"""Least probability, since the logarithm of 0 is not finite."""


def find_answers(
    records: Sequence[Record], columns: Sequence[str], classes: Sequence[str], names: Mapping[str, str]
) -> tuple[Answers, list[str]]:
    """A teacher's logits for each record, empty where there are no such columns, and remarks.

    A column is named after a label as it stands in the data or as it is shown, whatever its capitals. Numbers from 0
    to 1 are probabilities, whose logarithms are taken; numbers from 0 to 100 that add up to 100 in most rows are the
    same in percent; others are logits. Rows of probabilities that do not add up to 1 are divided by their sum.

    Args:
        names: the shown name of each label; several labels may share one.

    Raises:
        DataError: columns are missing, a cell is not a finite number, or all probabilities of a row are 0.
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
    whole = _whole(numbers_NC)
    kind = {None: "logits", 1: "probabilities", 100: "percentages, which were divided by 100"}[whole]
    notes.append(f"The teacher's answers are {kind}, in columns {', '.join(used)}.")
    if whole is not None:
        _require_positive(numbers_NC, records)
        notes += _remarks(numbers_NC, whole)
    logits_NC = numbers_NC if whole is None else _log(numbers_NC / numbers_NC.sum(1, keepdims=True))
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


def _whole(numbers_NC: NDArray[np.float64]) -> int | None:
    """What a row of probabilities adds up to: 1, or 100 where they are percentages; None for logits."""
    least, largest = numbers_NC.min(), numbers_NC.max()
    if least >= 0 and largest <= 1 + ROUNDING:
        return 1
    if least >= 0 and largest <= 100 * (1 + ROUNDING) and _are_off(numbers_NC, 100).mean() < 0.5:
        return 100
    return None


def _are_off(numbers_NC: NDArray[np.float64], whole: int) -> NDArray[np.bool_]:
    """Which rows do not add up to the whole."""
    off_N: NDArray[np.bool_] = abs(numbers_NC.sum(1) / whole - 1) > SUM_TOLERANCE + 1e-9
    return off_N


def _require_positive(numbers_NC: NDArray[np.float64], records: Sequence[Record]) -> None:
    sums_N = numbers_NC.sum(1)
    if not sums_N.all():
        message = f"{records[int(sums_N.argmin())]}: a teacher's answers must add up to more than 0, got 0 in each"
        raise DataError(f"{message}; let the teacher answer every text, or leave its columns out")


def _remarks(numbers_NC: NDArray[np.float64], whole: int) -> list[str]:
    mended = int(_are_off(numbers_NC, whole).sum())
    rows = "row" if mended == 1 else "rows"
    return [f"In {mended:,} {rows} they did not add up to {whole} and were divided by their sum."] if mended else []


def _log(probabilities_NC: NDArray[np.float64]) -> NDArray[np.float64]:
    clamped_NC = np.maximum(probabilities_NC, SMALLEST)
    logits_NC: NDArray[np.float64] = np.log(clamped_NC / clamped_NC.sum(1, keepdims=True))
    return logits_NC
