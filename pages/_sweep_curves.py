"""A sweep's cells as lines with error bars, parallel coordinates and bars of importance. No Streamlit here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill_core.sweep.cells import Cell, Measured, measured
from distill_core.sweep.space import SweepConfig
from pages import _sweep_axes, _sweep_means
from pages._figures import BASELINE, STUDENT, TEACHER, Chart
from pages._sweep_axes import Scale
from pages._sweep_figures import accuracy_axis, chart, limits
from pages._sweep_means import Found, Mean

LOOKS = (
    (STUDENT, "solid", "circle"),
    ("#009E73", "6px,3px", "square"),
    ("#CC79A7", "2px,3px", "diamond"),
    ("#E69F00", "9px,3px,2px,3px", "cross"),
    ("#56B4E9", "14px,4px", "triangle-up"),
)
"""Colour, dash and marker of several students; blue and grey are the teacher's and the baseline's."""
THIN = [[0, "#6C8EAD"], [0.5, "#B08A6A"], [1, STUDENT]]
"""From low to high accuracy for thin lines, which must be seen on white and on black."""
Values = Callable[[Measured], tuple[float, ...]]


@dataclass(frozen=True)
class _Lane:
    """The cells of one line, the words that tell it from others, and its number."""

    words: str
    cells: Sequence[Found]
    number: int


def lines(config: SweepConfig, cells: Sequence[Cell], along: str, by: str | None = None) -> Chart:
    """Test accuracy along an axis, a line for each value of another; the rest is averaged.

    Error bars are one standard deviation over seeds. Teacher and baseline are drawn once where they do not depend on
    `by`, else once for each of its values. A point's `customdata` is its cell's number, of several the one that does
    best on validation.
    """
    x, lanes = Scale.of(config, along), _lanes(config, measured(cells), by)
    students = [_student(x, lane, alone=by is None) for lane in lanes]
    references = [
        *_references(x, lanes, "teacher", {"color": TEACHER, "width": 2}, _sweep_means.teachers),
        *_references(x, lanes, "alone", {"color": BASELINE, "dash": "dash", "width": 2}, _sweep_means.baselines),
    ]
    drawn = [line for line in [*references, *students] if line["x"]]
    made = chart(x.layout(), accuracy_axis(drawn))
    made["data"] = drawn
    return made


def _lanes(config: SweepConfig, cells: Sequence[Found], by: str | None) -> list[_Lane]:
    if by is None:
        return [_Lane("", cells, 0)]
    setting = _sweep_axes.setting(by)
    return [
        _Lane(
            f"{_sweep_axes.title([by])} {setting.said(value)}",
            [each for each in cells if each[0].values.get(by) == value],
            n,
        )
        for n, value in enumerate(Scale.of(config, by).values)
    ]


def _student(x: Scale, lane: _Lane, *, alone: bool) -> dict[str, Any]:
    colour, dash, symbol = LOOKS[lane.number % len(LOOKS)]
    drawn = _line(x, lane.cells, lane.words or "student", _sweep_means.accuracies)
    drawn["line"] = {"color": colour, "dash": dash, "width": 3.5 if alone else 2.5}
    drawn["marker"] = {"color": colour, "size": 9, "symbol": symbol}
    return drawn


def _references(
    x: Scale, lanes: Sequence[_Lane], role: str, look: Mapping[str, Any], of: Values
) -> list[dict[str, Any]]:
    """A role's lines: a single one, unless its values differ between the lanes."""
    found = [_line(x, lane.cells, f"{role}, {lane.words}" if lane.words else role, of) for lane in lanes]
    if _are_alike(found):
        found = [_line(x, [each for lane in lanes for each in lane.cells], role, of)]
    for number, line in enumerate(found):
        symbol = LOOKS[number % len(LOOKS)][2] if len(found) > 1 else "circle"
        line |= {"line": dict(look), "marker": {"color": look["color"], "size": 6, "symbol": symbol}}
    return found


def _are_alike(drawn: Sequence[Mapping[str, Any]]) -> bool:
    """Whether lines have one value wherever several of them have any."""
    seen: dict[float, float] = {}
    return all(
        abs(seen.setdefault(x, y) - y) < 1e-9 for line in drawn for x, y in zip(line["x"], line["y"], strict=True)
    )


def _line(x: Scale, cells: Sequence[Found], name: str, of: Values) -> dict[str, Any]:
    groups = _sweep_means.grouped(cells, lambda each: x.place(each[0].values[x.name]))
    means = {place: _sweep_means.mean(groups[place], of) for place in sorted(groups)}
    known = {place: mean for place, mean in means.items() if mean is not None}
    drawn = {
        "type": "scatter",
        "mode": "lines+markers" if x.values else "markers",
        "name": name,
        "x": list(known),
        "y": [mean.value for mean in known.values()],
        "customdata": [mean.best for mean in known.values()],
        "hovertext": [_words(mean) for mean in known.values()],
        "hovertemplate": "%{fullData.name}: %{hovertext}<extra></extra>",
    }
    deviations = [mean.deviation or 0.0 for mean in known.values()]
    if any(deviations):
        drawn["error_y"] = {"array": deviations, "visible": True, "width": 4, "thickness": 1.5}
    return drawn


def _words(mean: Mean) -> str:
    return _sweep_means.spread(mean) + (f" on the average of {mean.cells} cells" if mean.cells > 1 else "")


# All axes side by side


def parallel(config: SweepConfig, cells: Sequence[Cell]) -> Chart:
    """Parallel coordinates: a line for each finished cell through its settings and what came of them."""
    done = measured(cells)
    accuracies = [found.accuracy for _, found in done]
    low, high = limits(accuracies)
    sizes = [_sweep_axes.logarithm(found.parameters) for _, found in done]
    made = chart({}, {})
    made["layout"]["margin"] = {"l": 60, "r": 50, "b": 24}
    made["data"] = [
        {
            "type": "parcoords",
            "uirevision": "keep",  # what a person has narrowed down stays while cells arrive
            "line": {"color": accuracies, "colorscale": THIN, "cmin": low, "cmax": high},
            "domain": {"y": [0, 0.86]},
            "labelangle": -14,  # long names side by side on a phone
            "dimensions": [
                *(_settings(Scale.of(config, axis.field), done) for axis in config.axes),
                {"label": "accuracy", "values": accuracies, "tickformat": ".1%", "range": [low, high]},
                {"label": "parameters", "values": sizes, **_decades(sizes)},
                {"label": "ms a text", "values": [found.latency_ms for _, found in done]},
            ],
        }
    ]
    return made


def _settings(x: Scale, cells: Sequence[Found]) -> dict[str, Any]:
    places = [x.place(cell.values[x.name]) for cell, _ in cells]
    if x.values:
        ticks = {"tickvals": list(range(len(x.values))), "ticktext": x.ticks}
        return {"label": x.title, "values": places, "range": [-0.2, len(x.values) - 0.8], **ticks}
    if x.log:
        places = [_sweep_axes.logarithm(place) for place in places]
        return {"label": x.title, "values": places, **_decades(places)}
    return {"label": x.title, "values": places}


def _decades(logarithms: Sequence[float]) -> dict[str, Any]:
    """Range and ticks for values that are given as logarithms: both ends and the middle."""
    low, high = (min(logarithms), max(logarithms)) if logarithms else (0.0, 1.0)
    if high - low < 1e-9:
        low, high, ticks = low - 0.5, high + 0.5, [low]
    else:
        ticks = [low, (low + high) / 2, high]
    words = [_sweep_axes.shown_logarithm(tick) for tick in ticks]
    return {"name": "log", "range": [low, high], "tickvals": ticks, "ticktext": words}


# What matters


def importance(shares: Mapping[str, float]) -> Chart:
    """How much of the differences between cells each setting explains, as shares by field; the largest comes first."""
    ordered = sorted(shares.items(), key=lambda each: -each[1])
    made = chart(
        {"type": "category", "fixedrange": True, "showgrid": False}, {"title": {"text": "share of the differences"}}
    )
    made["layout"]["yaxis"] |= {"tickformat": ".0%", "range": [0, 1.08], "fixedrange": True}
    made["layout"] |= {"showlegend": False, "bargap": 0.5}
    made["data"] = [
        {
            "type": "bar",
            "name": "share",
            "x": [_sweep_axes.title([name]) for name, _ in ordered],
            "y": [share for _, share in ordered],
            "marker": {"color": STUDENT},
            "text": [f"{100 * share:.0f} %" for _, share in ordered],
            "textposition": "outside",
            "hovertemplate": "%{x}: %{text}<extra></extra>",
        }
    ]
    return made
