"""A sweep's cells as Plotly charts: what all of them share, and the heat map. No Streamlit here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from distill_core.sweep.cells import Cell, measured
from distill_core.sweep.space import SweepConfig
from pages import _sweep_axes, _sweep_means
from pages._figures import BASELINE, STUDENT, Chart
from pages._sweep_axes import Scale
from pages._sweep_means import Found, Mean
from pages._watching import INK

HEIGHT = 390
SHADES = "Cividis"
"""From low to high accuracy; made to look alike to all kinds of colour vision."""
LEAST_SPAN = 0.02
"""The least difference of accuracy that all shades or the whole height stand for: chance must not look like much."""
MOST_TEXTS = 150
"""Squares up to which each has its value in it; of more a browser would draw long, and nobody could read them."""
MARKS = {"running": ("circle-open", STUDENT), "failed": ("x", BASELINE), "pruned": ("line-ew-open", BASELINE)}
"""How a square without a value is marked, by the state of its cell."""


def chart(x: dict[str, Any], y: dict[str, Any]) -> Chart:
    """A chart without any trace, between two axes."""
    layout = {"height": HEIGHT, "hovermode": "closest", "margin": {"l": 72, "r": 14, "b": 48}, "xaxis": x, "yaxis": y}
    return {"data": [], "layout": layout}


def accuracy_axis(traces: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The axis of test accuracies: all of some traces and their error bars, with a little air."""
    ends = []
    for trace in traces:
        bars = trace.get("error_y", {}).get("array") or [0.0] * len(trace["y"])
        ends += [value + sign * bar for value, bar in zip(trace["y"], bars, strict=True) for sign in (-1, 1)]
    return {"title": {"text": "test accuracy"}, "tickformat": ".1%", "range": limits(ends, air=0.05)}


def limits(values: Sequence[float], air: float = 0.0) -> list[float]:
    """Least and largest value of an axis or of shades, with a part of their distance as air at both ends."""
    low, high = (min(values), max(values)) if values else (0.5, 0.5)
    half, middle = max(high - low, LEAST_SPAN) / 2 * (1 + 2 * air), (low + high) / 2
    return [middle - half, middle + half]


def best_cell(cells: Sequence[Found]) -> int | None:
    """The number of the cell that does best on the validation texts; None where all do as well."""
    if len(cells) > 1 and len({found.val_accuracy for _, found in cells}) == 1:
        return None
    return max(cells, key=lambda each: each[1].val_accuracy)[0].number if cells else None


# Heat map


def heat_map(config: SweepConfig, cells: Sequence[Cell], across: str, down: str) -> Chart:
    """Test accuracy over two axes, by their fields; cells that differ in other axes are averaged.

    A square's `customdata` is its cell's number, of several the one that does best on validation. Where an axis is a
    range, cells are points and not squares.
    """
    x, y = Scale.of(config, across), Scale.of(config, down)
    if not (x.values and y.values):
        return _map(x, y, cells)
    drawn = chart(x.layout() | {"showgrid": False}, y.layout() | {"showgrid": False, "automargin": True})
    squares = _squares(x, y, cells)
    means = {place: _sweep_means.mean(measured(own)) for place, own in squares.items()}
    every = [(column, row) for row in range(len(y.values)) for column in range(len(x.values))]
    empty = [place for place in every if means.get(place) is None]
    drawn["data"] = [_heat(x, y, means, squares), *_marks(squares, empty)]
    best = best_cell(measured(cells))
    framed = [place for place, mean in means.items() if mean is not None and mean.best == best]
    drawn["layout"]["shapes"] = [
        *_outline(empty, {"color": "rgba(127,127,127,0.55)", "width": 1, "dash": "dot"}, 0.44),
        *_outline(framed, {"color": INK, "width": 3}, 0.485),
    ]
    return drawn


def _squares(x: Scale, y: Scale, cells: Sequence[Cell]) -> dict[tuple[int, int], list[Cell]]:
    found: dict[tuple[int, int], list[Cell]] = {}
    for cell in cells:
        values = cell.values
        if values.get(x.name) in x.values and values.get(y.name) in y.values:
            place = x.values.index(values[x.name]), y.values.index(values[y.name])
            found.setdefault(place, []).append(cell)
    return found


def _heat(
    x: Scale,
    y: Scale,
    means: Mapping[tuple[int, int], Mean | None],
    squares: Mapping[tuple[int, int], Sequence[Cell]],
) -> dict[str, Any]:
    def rows(of: Callable[[Mean, tuple[int, int]], Any], otherwise: object = None) -> list[list[Any]]:
        grid = [[(column, row) for column in range(len(x.values))] for row in range(len(y.values))]
        return [
            [otherwise if (mean := means.get(place)) is None else of(mean, place) for place in line] for line in grid
        ]

    known = [mean.value for mean in means.values() if mean is not None]
    low, high = limits(known)
    return {
        "type": "heatmap",
        "x": list(range(len(x.values))),
        "y": list(range(len(y.values))),
        "z": rows(lambda mean, _: mean.value),
        "text": rows(lambda mean, _: f"{100 * mean.value:.1f}", ""),
        "texttemplate": "%{text}" if len(x.values) * len(y.values) <= MOST_TEXTS else "",
        "textfont": {"size": 15},
        "customdata": rows(lambda mean, _: mean.best),
        "hovertext": rows(lambda mean, place: _square_words(x, y, mean, squares[place])),
        "hovertemplate": "%{hovertext}<extra></extra>",
        "hoverongaps": False,
        "colorscale": SHADES,
        "zmin": low,
        "zmax": high,
        "showscale": False,
        "xgap": 3,
        "ygap": 3,
    }


def _square_words(x: Scale, y: Scale, mean: Mean, cells: Sequence[Cell]) -> str:
    if mean.cells == 1:
        return next(_sweep_means.cell_words(cell, found) for cell, found in measured(cells))
    values = {scale.name: cells[0].values[scale.name] for scale in (x, y)}
    return f"{_sweep_axes.label(values)}<br>{_sweep_means.spread(mean)} on the average of {mean.cells} cells"


def _marks(squares: Mapping[tuple[int, int], Sequence[Cell]], empty: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """A trace for each state that a square without a value may have."""
    traces = []
    for state, (symbol, colour) in MARKS.items():
        own = [
            (place, next(cell for cell in squares[place] if cell.state == state))
            for place in empty
            if any(cell.state == state for cell in squares.get(place, ()))
        ]
        if own:
            traces.append(points([(*place, cell) for place, cell in own], _sweep_means.STATE_WORDS[state]))
            traces[-1]["marker"] = {"symbol": symbol, "size": 13, "color": colour, "line": {"width": 2}}
    return traces


def points(cells: Sequence[tuple[float, float, Cell]], name: str) -> dict[str, Any]:
    """Cells as markers to click."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [x for x, _, _ in cells],
        "y": [y for _, y, _ in cells],
        "customdata": [cell.number for _, _, cell in cells],
        "hovertext": [_sweep_means.cell_words(cell, cell.measured) for _, _, cell in cells],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _outline(places: Sequence[tuple[int, int]], line: dict[str, Any], half: float) -> list[dict[str, Any]]:
    """One shape around all these squares."""
    if not places:
        return []
    path = " ".join(
        f"M{x - half},{y - half} L{x + half},{y - half} L{x + half},{y + half} L{x - half},{y + half} Z"
        for x, y in places
    )
    return [{"type": "path", "path": path, "line": line}]


def _map(x: Scale, y: Scale, cells: Sequence[Cell]) -> Chart:
    """Finished cells as points in the shade of their accuracy, and those at work as rings."""
    drawn = chart(x.layout(), y.layout() | {"automargin": True})
    done = [(x.place(cell.values[x.name]), y.place(cell.values[y.name]), cell) for cell, _ in measured(cells)]
    values = [found.accuracy for _, found in measured(cells)]
    low, high = limits(values)
    dots = points(done, "finished")
    dots["marker"] = {"size": 13, "color": values, "colorscale": SHADES, "cmin": low, "cmax": high}
    dots["marker"] |= {"line": {"width": 1, "color": INK}, "showscale": True, "colorbar": _bar()}
    at_work = [cell for cell in cells if cell.state == "running"]
    rings = points([(x.place(cell.values[x.name]), y.place(cell.values[y.name]), cell) for cell in at_work], "running")
    rings["marker"] = {"size": 13, "symbol": "circle-open", "color": STUDENT, "line": {"width": 2}}
    drawn["data"] = [dots, *([rings] if at_work else [])]
    return drawn


def _bar() -> dict[str, Any]:
    return {"tickformat": ".1%", "thickness": 10, "outlinewidth": 0, "nticks": 5}
