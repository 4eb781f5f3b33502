"""Cells of a sweep averaged over what a chart does not show, with the spread over seeds. No Streamlit here."""

from __future__ import annotations

import html
import statistics
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from distill_core.sweep.cells import Cell, Measured
from pages import _sweep_axes

Found = tuple[Cell, Measured]
"""A finished cell with what it has measured."""
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Mean:
    """The mean of a value over cells and seeds.

    `deviation` is the standard deviation over seeds of the cells' average, None with one seed; `best` is the number of
    the cell that does best on validation.
    """

    value: float
    deviation: float | None
    cells: int
    best: int


def accuracies(found: Measured) -> tuple[float, ...]:
    """The student's test accuracy, a value a seed."""
    return found.accuracies


def baselines(found: Measured) -> tuple[float, ...]:
    """The baseline's test accuracy, a value a seed; none where there was no baseline."""
    return found.baselines


def teachers(found: Measured) -> tuple[float, ...]:
    """The teacher's test accuracy, once: all seeds share it."""
    return (found.teacher_accuracy,)


def mean(cells: Sequence[Found], of: Callable[[Measured], tuple[float, ...]] = accuracies) -> Mean | None:
    """The mean over cells, with the deviation over the seeds that all of them have; None where nothing is known."""
    known = [(cell, measured, of(measured)) for cell, measured in cells if of(measured)]
    if not known:
        return None
    seeds = min(len(values) for _, _, values in known)
    by_seed = [statistics.fmean(values[seed] for _, _, values in known) for seed in range(seeds)]
    best = max(known, key=lambda each: each[1].val_accuracy)[0].number
    value = statistics.fmean(statistics.fmean(values) for _, _, values in known)
    return Mean(value, statistics.stdev(by_seed) if seeds > 1 else None, len(known), best)


def grouped(cells: Iterable[Found], key: Callable[[Found], Key]) -> dict[Key, list[Found]]:
    """The cells by a key, in the order in which the keys come up."""
    groups: dict[Key, list[Found]] = {}
    for each in cells:
        groups.setdefault(key(each), []).append(each)
    return groups


def per_cent(share: float) -> str:
    """A share with one decimal, as in 78.1 %."""
    return f"{100 * share:.1f}\u00a0%"


def spread(value: Mean) -> str:
    """A mean with its deviation, as in 78.1 % ± 0.4."""
    return per_cent(value.value) + ("" if value.deviation is None else f" ± {100 * value.deviation:.1f}")


def cell_words(cell: Cell, measured: Measured | None) -> str:
    """What a chart says of a cell under the cursor, in Plotly's small HTML."""
    lines = [html.escape(_sweep_axes.label(cell.values), quote=False)]
    if measured is None:
        return "<br>".join([*lines, STATE_WORDS[cell.state]])
    own = mean([(cell, measured)])
    if own is not None:
        lines.append(f"{spread(own)} of test texts right")
    if measured.gain is not None:
        margin = "" if measured.gain_margin is None else f" ± {100 * measured.gain_margin:.1f}"
        lines.append(f"{100 * measured.gain:+.1f}{margin} points by its teacher")
    lines.append(f"{measured.parameters:,} parameters, {measured.latency_ms:.2f} ms")
    return "<br>".join(lines)


STATE_WORDS = {
    "waiting": "waiting",
    "running": "running",
    "finished": "finished",
    "failed": "failed",
    "pruned": "stopped early",
    "cancelled": "cancelled",
}
