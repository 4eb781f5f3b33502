"""A Plotly chart that is updated in place: one DOM node, the person's view kept while data grows (components v2).

plotly.js comes from the installed `plotly` package. It is put once into `static/`, which Streamlit serves. Zoom,
hidden lines, smoothing, scale and table are kept by the browser beside the chart; the script never hears of them. It
hears of clicks on points, where it asks to.
"""

from __future__ import annotations

import base64
import json
import math
import secrets
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from plotly.offline import get_plotlyjs, get_plotlyjs_version

MAX_POINTS = 1000
"""The most points of a line that are sent to the browser."""
MAX_MARKERS = 2000
"""The most of a trace of markers: each is a thing of its own, that somebody may look for."""
HEIGHT = 340
"""Pixels, where the layout names none."""
_KEPT = 64
"""How many charts' messages are kept for further watchers."""

_HERE = Path(__file__).parent
_STATIC = _HERE.parents[1] / "static"


def _source(*names: str) -> str:
    return "\n".join((_HERE / name).read_text(encoding="utf-8") for name in names)


_mount = st.components.v2.component(
    "distill_lab.live_chart",
    html=_source("live_chart.html"),
    css=_source("live_chart.css"),
    js=_source("values.js", "words.js", "live_chart.js"),
    isolate_styles=False,  # plotly.js puts its style sheet into the page's head, which a shadow root would not see
)


def live_chart(
    figure: go.Figure | Mapping[str, Any],
    *,
    key: str,
    label: str,
    smooth: bool = False,
    log: bool = False,
    clicks: bool = False,
) -> object:
    """Draws `figure`, or moves the chart that has this key to it; returns what a click has just chosen, once.

    Args:
        figure: a Plotly figure, or its {"data": […], "layout": {…}}. Such a dictionary may be shared by sessions; it
            is read once and must not be changed afterwards: new data come in a new one. Colours may be theme
            variables, as in "var(--st-text-color)". A trace with meta "level" holds for every x.
        key: the chart's identity; the person's view lasts as long as it stays on the page.
        label: what the chart shows, for people who do not see it, for the table and for the names of files.
        smooth: whether smoothing is offered.
        log: whether a logarithmic y axis is offered.
        clicks: whether points can be clicked that have `customdata`.

    Returns:
        The `customdata` of the point that was clicked, as the browser sends it, so not to be trusted.
    """
    if isinstance(figure, go.Figure):
        spec = figure.to_plotly_json()
        message = _message(spec, label, smooth, log, clicks)
    else:
        spec = figure
        message = _messages.of(spec, label, smooth, log, clicks)
    if not clicks:
        _mount(key=key, data=message, height=_height(spec))
        return None
    return _mount(key=key, data=message, height=_height(spec), on_clicked_change=_nothing).get("clicked")


def _nothing() -> None:
    """The script, or the fragment that the chart is in, runs again by itself."""


def _height(spec: Mapping[str, Any]) -> int:
    return int(spec.get("layout", {}).get("height") or HEIGHT)


class _Messages:
    """The latest messages, so that many watchers of one chart cost one serialization.

    A specification is recognised by being the same object; it is held here, so its id cannot be given to another.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str, bool, bool, bool], tuple[Mapping[str, Any], bytes]] = {}
        self._lock = threading.Lock()

    def of(self, spec: Mapping[str, Any], label: str, smooth: bool, log: bool, clicks: bool = False) -> bytes:
        place = (id(spec), label, smooth, log, clicks)
        found = self._kept.get(place)
        if found is not None:
            return found[1]
        message = _message(spec, label, smooth, log, clicks)
        with self._lock:
            self._kept[place] = (spec, message)
            while len(self._kept) > _KEPT:
                del self._kept[next(iter(self._kept))]
        return message


_messages = _Messages()


def _message(spec: Mapping[str, Any], label: str, smooth: bool, log: bool, clicks: bool) -> bytes:
    """What the browser is told, as JSON; bytes, since Streamlit would serialize a dictionary twice at each call."""
    layout = {name: value for name, value in spec.get("layout", {}).items() if name != "template"}
    drawn = {"data": [thinned(trace) for trace in spec.get("data", ())], "layout": layout}
    offers = {"smooth": smooth, "log": log, "clicks": clicks}
    message = {"spec": drawn, "label": label, "height": _height(spec), "plotly": _plotly_file(), **offers}
    try:
        text = json.dumps(message, allow_nan=False, default=_plain)
    except ValueError:
        text = json.dumps(_finite(message), allow_nan=False, default=_plain)
    return text.encode()


def thinned(trace: Mapping[str, Any]) -> dict[str, Any]:
    """A line with at most `MAX_POINTS` points, the first and the last among them; markers with `MAX_MARKERS`.

    Points are taken at an even stride, so that lines of one length keep common x values and points stay where they
    are while data grow.
    """
    read = {**trace, **{axis: _values(trace[axis]) for axis in ("x", "y") if trace.get(axis) is not None}}
    count, most = len(read.get("y", ())), MAX_MARKERS if read.get("mode") == "markers" else MAX_POINTS
    if count <= most or not read.get("type", "scatter").startswith("scatter"):
        return read
    stride = math.ceil((count - 1) / (most - 1))
    places = [*range(0, count - 1, stride), count - 1]
    return {"x": places, **{name: _picked(value, count, places) for name, value in read.items()}}


def _picked(value: Any, count: int, places: Sequence[int]) -> Any:
    """The chosen places of whatever has a value for each point; anything else as it is."""
    if isinstance(value, Mapping):
        return {name: _picked(inner, count, places) for name, inner in value.items()}
    values = _values(value)
    if isinstance(values, list | tuple) and len(values) == count:
        return [values[place] for place in places]
    return value


def _values(value: Any) -> Any:
    """Numbers as a list, also those that Plotly has packed as base64."""
    if isinstance(value, Mapping) and "bdata" in value:
        return np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"]).tolist()
    return value.tolist() if hasattr(value, "tolist") else value


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a chart's {type(value).__name__} is not JSON: {value!r}; pass numbers, texts and lists of them")


def _finite(value: Any) -> Any:
    """The same with null for what JSON has no number for: NaN and infinities."""
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@cache
def _plotly_file() -> str:
    """The name of plotly.js under `static/`, written there when it is missing."""
    file = _STATIC / f"plotly-{get_plotlyjs_version()}.min.js"
    if not file.is_file():
        _STATIC.mkdir(exist_ok=True)
        aside = file.with_suffix(f".{secrets.token_hex(4)}")
        aside.write_text(get_plotlyjs(), encoding="utf-8")
        aside.replace(file)
    return file.name
