"""A Plotly chart that is updated in place: one DOM node, zoom kept while data grows (Streamlit components v2).

plotly.js comes from the installed `plotly` package. It is put once into `static/`, which Streamlit serves.
"""

from __future__ import annotations

import json
import secrets
from functools import cache
from pathlib import Path

import plotly.graph_objects as go
import streamlit as st
from plotly.offline import get_plotlyjs, get_plotlyjs_version

_HERE = Path(__file__).parent
_STATIC = _HERE.parents[1] / "static"

_mount = st.components.v2.component(
    "distill_lab.live_chart",
    html='<div class="live-chart" role="img"></div>',
    css=(_HERE / "live_chart.css").read_text(encoding="utf-8"),
    js=(_HERE / "live_chart.js").read_text(encoding="utf-8"),
    isolate_styles=False,  # plotly.js puts its style sheet into the page's head, which a shadow root would not see
)


def live_chart(figure: go.Figure, *, key: str, label: str) -> None:
    """Draws `figure`, or moves the chart that has this key to it.

    Args:
        key: the chart's identity; zoom and legend choices last as long as it stays on the page.
        label: what the chart shows, for people who do not see it.
    """
    spec = json.loads(figure.to_json())
    spec["layout"].pop("template", None)
    data = {"spec": spec, "label": label, "plotly": _plotly_file()}
    _mount(key=key, data=data, height=figure.layout.height)


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
