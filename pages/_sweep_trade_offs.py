"""What accuracy costs: a sweep's cells against size and latency, with the front of best trades. No Streamlit here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from distill_core.sweep.cells import Cell, Measured, measured
from pages import _sweep_means
from pages._figures import BASELINE, STUDENT, TEACHER, Chart
from pages._sweep_figures import accuracy_axis, chart, points
from pages._sweep_means import Found
from pages._sweep_published import Published, published
from pages._watching import INK

Cost = Literal["parameters", "latency"]
MOST_BARS = 40
"""Cells up to which each has its error bar."""
AXES: Mapping[Cost, dict[str, Any]] = {
    "parameters": {"title": {"text": "parameters of the model"}, "tickformat": "~s"},
    "latency": {"title": {"text": "milliseconds a text"}, "tickformat": "~g"},
}


def _cost(found: Measured, cost: Cost) -> float:
    return found.parameters if cost == "parameters" else found.latency_ms


def data_sets(cells: Sequence[Cell]) -> list[str]:
    """The data sets on which cells were measured; accuracies on unlike ones cannot be held against each other."""
    return list(dict.fromkeys(found.dataset for _, found in measured(cells)))


def trade_off(cells: Sequence[Cell], cost: Cost, data: str) -> Chart:
    """Test accuracy against size or latency, of the cells on one data set; a cell's `customdata` is its number.

    Teachers and baselines are drawn once for each size. Published results are drawn against size alone: latencies of
    other machines say nothing.
    """
    done = [each for each in measured(cells) if each[1].dataset == data]
    others = published(data) if cost == "parameters" else []
    traces = [_cells(done, cost), _front(done, cost), _baselines(done, cost), _teachers(done, cost), _others(others)]
    drawn = [trace for trace in traces if trace["x"]]
    made = chart({"type": "log", "dtick": _ticks(drawn), **AXES[cost]}, accuracy_axis(drawn))
    made["data"] = drawn
    return made


def _ticks(traces: Sequence[Mapping[str, Any]]) -> str | int:
    """Labels at 1, 2, 5 of each decade, or where there are many decades at 1 alone."""
    costs = [x for trace in traces for x in trace["x"] if x > 0] or [1.0]
    return "D2" if max(costs) / min(costs) < 100 else 1


def front(cells: Sequence[Found], cost: Cost) -> list[Found]:
    """The cells that no other beats in accuracy without costing more, or in cost without being worse; cheapest first.

    Of several that are equal in both, the first is kept.
    """
    kept: list[Found] = []
    for each in sorted(cells, key=lambda each: (_cost(each[1], cost), -each[1].accuracy)):
        if not kept or each[1].accuracy > kept[-1][1].accuracy:
            kept.append(each)
    return kept


def _front(cells: Sequence[Found], cost: Cost) -> dict[str, Any]:
    kept = front(cells, cost)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "best trades",
        "x": [_cost(found, cost) for _, found in kept],
        "y": [found.accuracy for _, found in kept],
        "line": {"color": STUDENT, "width": 1.5, "shape": "hv"},
        "hoverinfo": "skip",
    }


def _cells(cells: Sequence[Found], cost: Cost) -> dict[str, Any]:
    drawn = points([(_cost(found, cost), found.accuracy, cell) for cell, found in cells], "student")
    drawn["marker"] = {"color": STUDENT, "size": 9, "opacity": 0.75}
    deviations = [found.deviation or 0.0 for _, found in cells]
    if any(deviations) and len(cells) <= MOST_BARS:
        drawn["error_y"] = {"array": deviations, "visible": True, "width": 3, "thickness": 1}
    return drawn


def _baselines(cells: Sequence[Found], cost: Cost) -> dict[str, Any]:
    known = [each for each in cells if each[1].baselines]
    groups = _sweep_means.grouped(known, lambda each: each[1].parameters)
    drawn = _roles(groups, lambda found: _cost(found, cost), _sweep_means.baselines, "alone")
    return drawn | {"marker": {"color": BASELINE, "size": 9, "symbol": "square"}}


def _teachers(cells: Sequence[Found], cost: Cost) -> dict[str, Any]:
    def of(found: Measured) -> float | None:
        return found.teacher_parameters if cost == "parameters" else found.teacher_latency_ms

    known = [each for each in cells if of(each[1]) is not None]
    groups = _sweep_means.grouped(known, lambda each: (each[1].teacher_parameters, each[1].teacher_accuracy))
    drawn = _roles(groups, lambda found: of(found) or 0.0, _sweep_means.teachers, "teacher")
    return drawn | {"marker": {"color": TEACHER, "size": 12, "symbol": "diamond"}}


def _roles(
    groups: Mapping[Any, Sequence[Found]],
    cost: Callable[[Measured], float],
    of: Callable[[Measured], tuple[float, ...]],
    name: str,
) -> dict[str, Any]:
    """A point for each group: its mean cost and its mean accuracy."""
    means = [(own, mean) for own in groups.values() if (mean := _sweep_means.mean(own, of)) is not None]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [sum(cost(found) for _, found in own) / len(own) for own, _ in means],
        "y": [mean.value for _, mean in means],
        "hovertext": [_sweep_means.spread(mean) for _, mean in means],
        "hovertemplate": "%{fullData.name}: %{hovertext}, %{x:,.4~g}<extra></extra>",
    }


def _others(found: Sequence[Published]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "published",
        "x": [each.parameters for each in found],
        "y": [each.accuracy for each in found],
        "hovertext": [f"{each.name}, {each.source}<br>{each.url.removeprefix('https://')}" for each in found],
        "hovertemplate": "%{hovertext}<br>%{y:.1%}, %{x:,} parameters<extra></extra>",
        "marker": {"color": INK, "size": 11, "symbol": "star"},
    }
