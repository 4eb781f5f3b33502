"""The answers to the ready questions, each in a sentence or two that the cells support. Needs no PyTorch.

Each takes the sweep and its cells, and gives no sentence where the cells that have finished cannot answer yet.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import takewhile

from distill_core.config import SIZES
from distill_core.sweep.answers import (
    VALIDATION,
    accuracy,
    amount,
    best_cell,
    best_level,
    data_title,
    more,
    named,
    percent,
    points,
    val_accuracy,
    value_text,
)
from distill_core.sweep.cells import Cell, Measured, measured
from distill_core.sweep.contrast import (
    Contrast,
    Finished,
    against_teacher,
    by_texts,
    contrast,
    levels,
    pooled,
    right,
    right_alone,
)
from distill_core.sweep.space import SweepConfig

LABELS = "training.label_share"
OF_TEACHER = "The teacher itself has learned from all labels."
POINT = 0.01
"""A loss of accuracy below which a model counts as about as good."""
CLASSES = {"rotten_tomatoes": "two classes", "imdb": "two classes", "bbc_news": "five classes"}
"""How many classes the data sets that come with the lab have, in words."""


def how_much_beta(config: SweepConfig, cells: Sequence[Cell]) -> list[str]:
    """The best cell, and which values of β cannot be told from the best one."""
    groups = by_texts(measured(cells))
    if len(groups) != 1:
        return []
    said = [best_cell(groups[0]), best_level(groups[0], "objective.beta")]
    return [sentence for sentence in said if sentence is not None]


def does_temperature_matter(config: SweepConfig, cells: Sequence[Cell]) -> list[str]:
    """For each data set, how far the temperatures lie apart on test that are best and worst on validation."""
    said = [_temperature_in(group) for group in by_texts(measured(cells))]
    return [sentence for sentence in said if sentence is not None]


def _temperature_in(group: Sequence[Finished]) -> str | None:
    by_value = levels(group, "objective.temperature")
    ranked = sorted(by_value, key=lambda value: val_accuracy(by_value[value]))
    if len(ranked) < 2:
        return None
    worst, best = ranked[0], ranked[-1]
    apart = contrast(pooled(map(right, by_value[best])), pooled(map(right, by_value[worst])))
    if apart is None:
        return None
    where, classes = f"On {data_title(group[0][1])}", CLASSES.get(group[0][1].dataset)
    where = where if classes is None else f"{where} ({classes})"
    high, low = (value_text("objective.temperature", value) for value in (best, worst))
    if apart.clear:
        return (
            f"{where} temperature matters: at temperature {high} students get {points(apart)} {more(apart)} right "
            f"than at {low}."
        )
    return (
        f"{where} temperature makes no difference that this test can show ({points(apart)} between temperatures "
        f"{high} and {low})."
    )


def how_small(config: SweepConfig, cells: Sequence[Cell]) -> list[str]:
    """The smallest student that loses less than a point against its teacher on validation, and what it loses on test.

    Where there is none, what the best one loses.
    """
    groups = by_texts(measured(cells))
    if len(groups) != 1 or len(groups[0]) < 2 or any(found.teacher_val_accuracy is None for _, found in groups[0]):
        return []
    by_size = sorted(groups[0], key=lambda pair: pair[1].parameters)
    close = next((pair for pair in by_size if _lead_on_validation(pair[1]) > -POINT), None)
    if close is None:
        best, found = max(by_size, key=lambda pair: _lead_on_validation(pair[1]))
        head = f"No student comes within 1 point of its teacher {VALIDATION}"
        return [f"{head}; the best of them, {_student(best, found)}, {_beside_teacher(found)}."]
    smallest, found = close
    head = f"The smallest student that loses less than 1 point {VALIDATION} is one of {_student(smallest, found)}"
    return [f"{head}: it {_beside_teacher(found)}{_doubt(against_teacher(found))}."]


def _lead_on_validation(found: Measured) -> float:
    assert found.teacher_val_accuracy is not None
    return found.val_accuracy - found.teacher_val_accuracy


def _doubt(apart: Contrast) -> str:
    """Whether the test texts agree that less than a point is lost."""
    if apart.difference + apart.margin <= -POINT:
        return ", which is more than validation promised"
    return "" if apart.difference - apart.margin > -POINT else "; that it loses more than 1 point is not ruled out"


def _student(cell: Cell, found: Measured) -> str:
    return f"{amount(found.parameters)} parameters ({named(cell.values)})"


def _beside_teacher(found: Measured) -> str:
    apart = against_teacher(found)
    reached = f"gets {percent(found.accuracy)} of the test texts right, {points(apart)} {more(apart)} than its teacher"
    if not found.teacher_parameters:
        return reached
    return f"{reached} of {amount(found.teacher_parameters)} parameters"


def bigger_teacher(config: SweepConfig, cells: Sequence[Cell]) -> list[str]:
    """Whether students of the largest teacher are worse than those of the smaller one that is best on validation."""
    groups = by_texts(measured(cells))
    by_size = levels(groups[0], "teacher.size") if len(groups) == 1 else {}
    if len(by_size) < 2:
        return []
    *smaller, largest = sorted(by_size, key=SIZES.index)
    rival = max(smaller, key=lambda size: val_accuracy(by_size[size]))
    apart = contrast(pooled(map(right, by_size[largest])), pooled(map(right, by_size[rival])))
    if apart is None:
        return []
    own = {size: statistics.fmean(found.teacher_accuracy for found in by_size[size]) for size in (rival, largest)}
    return [
        f"{_capacity(apart, own[largest] > own[rival])}: students of teacher {largest} get "
        f"{percent(accuracy(by_size[largest]))} of the test texts right, {points(apart)} {more(apart)} than those of "
        f"{rival}, the best of the smaller teachers {VALIDATION}.",
        f"The teachers themselves get {percent(own[largest])} ({largest}) and {percent(own[rival])} ({rival}).",
    ]


def _capacity(largest_minus_rival: Contrast, knows_more: bool) -> str:
    if not largest_minus_rival.clear:
        return "A bigger teacher makes no difference that this test can show"
    if largest_minus_rival.difference > 0:
        return "The biggest teacher teaches best"
    return f"A bigger teacher is not better{', though itself more often right (a capacity gap)' if knows_more else ''}"


def how_few_labels(config: SweepConfig, cells: Sequence[Cell]) -> list[str]:
    """With how few labels a taught student is about as good as its baseline with all; and the baseline with as few.

    The shares are tried from the largest down until one falls behind, so that no lucky small one is picked.
    """
    groups = by_texts(measured(cells))
    by_share = levels(groups[0], LABELS) if len(groups) == 1 else {}
    axis = next(axis for axis in config.axes if axis.field == LABELS)
    if len(by_share) < 2 or (most := max(by_share)) != max(axis.values, default=axis.high):
        return []
    reference = pooled(map(right_alone, by_share[most]))
    lead = {
        share: apart
        for share in sorted(by_share, reverse=True)
        if (apart := contrast(pooled(map(right, by_share[share])), reference)) is not None
    }
    if len(lead) < len(by_share):
        return []
    enough = list(takewhile(lambda share: _is_about_as_good(lead[share]), lead))
    if not enough:
        behind = f"with {_labels(most)} its student gets {points(lead[most])} fewer of the test texts right"
        said = f"No part of the labels is enough with a teacher: {behind} than the same student without it"
        return [f"{said}{_chance(lead[most])}.", OF_TEACHER]
    return [_enough(by_share, enough, lead), *_with_as_few(by_share[enough[-1]], enough[-1]), OF_TEACHER]


def _is_about_as_good(apart: Contrast) -> bool:
    return apart.difference > -POINT and not (apart.clear and apart.difference < 0)


def _enough(
    by_share: Mapping[float, Sequence[Measured]], enough: Sequence[float], lead: Mapping[float, Contrast]
) -> str:
    """The fewest labels that are enough, and how much is lost with the next fewer."""
    fewest, most = enough[-1], enough[0]
    too_few = next((share for share in lead if share < fewest), None)
    further = "" if too_few is None else f"; with {_labels(too_few)}, {_behind(lead[too_few])}"
    return (
        f"With {_labels(fewest)} a taught student gets {percent(accuracy(by_share[fewest]))} of the test texts right, "
        f"{points(lead[fewest])} {more(lead[fewest])} than the same student with {_labels(most)} and no "
        f"teacher{further}."
    )


def _behind(apart: Contrast) -> str:
    return f"{points(apart)} {more(apart)}{_chance(apart)}"


def _chance(apart: Contrast) -> str:
    return "" if apart.clear else ", which may be chance"


def _with_as_few(found: Sequence[Measured], share: float) -> list[str]:
    """How far the baseline with the same labels lies behind."""
    alone = pooled(map(right_alone, found))
    gain = contrast(pooled(map(right, found)), alone)
    if alone is None or gain is None:
        return []
    behind = Contrast(-gain.difference, gain.margin)
    return [f"Without a teacher, {_labels(share)} bring it to {percent(alone.mean())}, {_behind(behind)}."]


def _labels(share: float) -> str:
    return "all labels" if share == 1 else f"{value_text(LABELS, share)} of the labels"
