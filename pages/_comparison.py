"""Several runs beside one another, as figures and tables. No Streamlit here."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from distill_core import comparison
from distill_core.comparison import Figure, Kind
from distill_core.config import RunConfig
from distill_core.events import History, Step
from distill_core.status import short
from pages import _looks
from pages._run_rows import Row

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A7A7A")
"""Okabe & Ito's, without the yellow that white swallows, and grey for their black."""
DASHES = ("solid", "6px,3px", "2px,3px", "9px,3px,2px,3px", "14px,4px", "6px,3px,2px,3px,2px,3px")
"""Lengths of dashes and gaps in turn, as Plotly takes them."""
LOSSES: Mapping[str, Callable[[Step], float | None]] = {
    "Total": lambda step: step.loss,
    "CE": lambda step: step.ce,
    "KL": lambda step: step.kl,
}
HEIGHT = 340
MAX_POINTS = 500
BEST = "★"
LACKING = "–"


@dataclass(frozen=True)
class Look:
    """How a run is drawn: both its colour and its dash tell it from the others."""

    colour: str
    dash: str


def looks(run_ids: Sequence[str], kept: Mapping[str, Look] | None = None) -> dict[str, Look]:
    """A look for each run, made of its id, so that it is the same on any day and beside any others.

    Where two runs would have one colour, the one that was there before keeps it and the other takes the next that is
    free, or once all are taken another dash.

    Args:
        kept: the looks of runs that were there before.
    """
    found = {run_id: look for run_id, look in (kept or {}).items() if run_id in run_ids}
    for run_id in run_ids:
        if run_id not in found:
            found[run_id] = _free_look(run_id, found.values())
    return {run_id: found[run_id] for run_id in run_ids}


def _free_look(run_id: str, taken: Iterable[Look]) -> Look:
    colours, dashes = _turned(COLOURS, run_id, "colour"), _turned(DASHES, run_id, "dash")
    used = {(look.colour, look.dash) for look in taken}
    colour = next((colour for colour in colours if colour not in {first for first, _ in used}), colours[0])
    return Look(colour, next(dash for dash in dashes if (colour, dash) not in used))


def _turned(values: Sequence[str], run_id: str, what: str) -> Sequence[str]:
    """The values in their circle, from the one that is a run's own."""
    first = int.from_bytes(hashlib.sha256(f"{what} {run_id}".encode()).digest()[:4]) % len(values)
    return [*values[first:], *values[:first]]


def names(rows: Sequence[Row]) -> list[str]:
    """What to call runs beside one another: by their names, and by their ids too where two have one name."""
    plain = [row.name for row in rows]
    return [
        name if plain.count(name) == 1 else f"{name} ({short(row.run_id)})"
        for name, row in zip(plain, rows, strict=True)
    ]


# Curves


def key(called: Sequence[str], drawn: Sequence[Look]) -> str:
    """The runs' names with a piece of their lines, as HTML."""
    items = [
        f'<li style="{_ITEM}"><i style="{_LINE} {_stripes(look)}"></i>{html.escape(name)}</li>'
        for name, look in zip(called, drawn, strict=True)
    ]
    return f'<ul class="lab-key" style="{_LIST}">{"".join(items)}</ul>'


_LIST = "display: flex; flex-wrap: wrap; gap: 0.2rem 1.4rem; list-style: none; margin: 0; padding: 0;"
_ITEM = "display: flex; gap: 0.5rem; align-items: center; margin: 0; overflow-wrap: anywhere;"
_LINE = "flex: none; width: 36px; height: 3px;"


def _stripes(look: Look) -> str:
    """A dash as a background, since Streamlit leaves no SVG in HTML."""
    if look.dash == "solid":
        return f"background: {look.colour};"
    stops, place = [], 0
    for number, length in enumerate(look.dash.split(",")):
        end = place + int(length.removesuffix("px"))
        stops.append(f"{look.colour if number % 2 == 0 else 'transparent'} {place}px {end}px")
        place = end
    return f"background: repeating-linear-gradient(90deg, {', '.join(stops)});"


def accuracy_figure(called: Sequence[str], drawn: Sequence[Look], histories: Sequence[History]) -> go.Figure:
    """The students' accuracy on validation, epoch by epoch."""
    figure = _figure("accuracy on validation", ".0%")
    for name, look, history in zip(called, drawn, histories, strict=True):
        distil = history.progress.get("distil")
        epochs = [epoch for epoch in (distil.epochs if distil else []) if epoch.accuracy is not None]
        xs, ys = [epoch.epoch for epoch in epochs], [epoch.accuracy for epoch in epochs]
        _add(figure, name, look, xs=xs, ys=ys, hover="%{y:.1%}", marked=True)
    values = [value for trace in figure.data for value in trace.y] or [0.5]
    middle, half = (min(values) + max(values)) / 2, max((max(values) - min(values)) * 0.6, 0.05)
    figure.update_yaxes(range=[max(middle - half, -0.02), min(middle + half, 1.02)])  # the scale must not magnify noise
    return figure


def loss_figure(
    what: str,
    called: Sequence[str],
    drawn: Sequence[Look],
    histories: Sequence[History],
    configs: Sequence[RunConfig],
) -> go.Figure:
    """A loss of the students as they learn from their teachers; epochs, since their steps are of unlike size.

    Args:
        what: one of `LOSSES`.
    """
    figure = _figure("nats", None)
    for name, look, history, config in zip(called, drawn, histories, configs, strict=True):
        distil = history.progress.get("distil")
        curve = distil.curve if distil else []
        shown = curve[:: -(-len(curve) // MAX_POINTS) or 1]
        scale = config.training.epochs / max(distil.steps if distil else 1, 1)
        xs, ys = [step.step * scale for step in shown], [LOSSES[what](step) for step in shown]
        _add(figure, name, look, xs=xs, ys=ys, hover="%{y:.3f}")
    return figure


def unlike_distances(configs: Sequence[RunConfig]) -> bool:
    """Whether the runs measure the distance to the teacher in unlike ways, so that their losses are not comparable."""
    return len({(config.objective.divergence, config.objective.temperature) for config in configs}) > 1


def _add(
    figure: go.Figure,
    name: str,
    look: Look,
    *,
    xs: Sequence[float],
    ys: Sequence[float | None],
    hover: str,
    marked: bool = False,
) -> None:
    if any(value is not None for value in ys):
        figure.add_scatter(
            x=xs,
            y=ys,
            name=html.escape(name, quote=False),
            mode="lines+markers" if marked or len(xs) == 1 else "lines",
            line={"color": look.colour, "dash": look.dash, "width": 2.5},
            marker={"size": 6},
            hovertemplate=hover,
        )


def _figure(y_title: str, tick_format: str | None) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        height=HEIGHT,
        margin={"l": 56, "r": 12, "t": 12, "b": 44},
        hovermode="x unified",
        showlegend=False,
        uirevision="keep",
    )
    figure.update_xaxes(title={"text": "epoch"}, rangemode="tozero")
    figure.update_yaxes(title={"text": y_title}, tickformat=tick_format)
    return figure


# Tables


def settings_table(called: Sequence[str], configs: Sequence[RunConfig], files: Mapping[str, str]) -> pd.DataFrame:
    """The settings that differ, one a row, with a column a run.

    Args:
        files: what people call the files that they have given to the lab.
    """
    titles = comparison.setting_titles()
    found = comparison.differing_settings(configs)
    lines = [[said(value, files) for value in values] for values in found.values()]
    return pd.DataFrame(lines, index=[titles[path] for path in found], columns=list(called))


def all_settings(config: RunConfig, files: Mapping[str, str]) -> dict[str, str]:
    """Every setting of a run in words, by name."""
    return {path: said(value, files) for path, value in comparison.flat(config).items()}


def said(value: object, files: Mapping[str, str]) -> str:
    if value is None:
        return LACKING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} = {said}" for name, said in value.items()) or LACKING
    return files.get(str(value), f"{value:g}" if isinstance(value, float) else str(value))


def results_table(called: Sequence[str], figures: Sequence[Figure], reference: int) -> pd.DataFrame:
    """What came out, a figure a row, with the difference to one of the runs and a mark at the best."""
    lines = [[_told(figure, place, reference) for place in range(len(called))] for figure in figures]
    return pd.DataFrame(lines, index=[figure.title for figure in figures], columns=list(called))


def _told(figure: Figure, place: int, reference: int) -> str:
    value = figure.values[place]
    if value is None:
        return LACKING
    margin = figure.margins[place] if figure.margins else None
    parts = [_FORMATS[figure.kind](value)]
    if margin is not None:
        parts.append(f"± {100 * margin:.1f}")
    difference = figure.differences(reference)[place]
    if difference is not None:
        parts.append(f"({_DIFFERENCES[figure.kind](difference)})")
    if place in figure.best():
        parts.append(BEST)
    return " ".join(parts)


def _count(count: float) -> str:
    return f"{count:,.0f}" if abs(count) < 10_000 else f"{count / 1e6:.2f} M"


def _signed_count(count: float) -> str:
    return f"{'+' if count >= 0 else '-'}{_count(abs(count))}"


_FORMATS: Mapping[Kind, Callable[[float], str]] = {
    "share": lambda value: f"{100 * value:.1f} %",
    "points": lambda value: f"{100 * value:+.1f}",
    "nats": lambda value: f"{value:.3f}",
    "count": _count,
    "ms": lambda value: f"{value:.2f} ms",
    "seconds": _looks.duration_exact,
}
_DIFFERENCES: Mapping[Kind, Callable[[float], str]] = {
    "share": lambda value: f"{100 * value:+.1f}",
    "points": lambda value: f"{100 * value:+.1f}",
    "nats": lambda value: f"{value:+.3f}",
    "count": _signed_count,
    "ms": lambda value: f"{value:+.2f}",
    "seconds": lambda value: f"{'+' if value >= 0 else '-'}{_looks.duration_exact(abs(value))}",
}
