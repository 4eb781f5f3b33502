"""Two charts that grow each 0.3 s, as those of a run do; the query tells how many points there are at first."""

from __future__ import annotations

import math
import time
from typing import Any

import streamlit as st

from pages._live_chart import live_chart

STEPS = 3000


def loss_spec(count: int) -> dict[str, Any]:
    """CE, a KL that begins at 0, and the total in the colour of text."""
    steps = [10 * place for place in range(1, count + 1)]
    ce = [0.3 + math.exp(-step / 400) + 0.08 * math.sin(step * 1.7) for step in steps]
    kl = [0.0 if step <= 30 else 0.5 * math.exp(-step / 300) for step in steps]
    total = [one + other for one, other in zip(ce, kl, strict=True)]
    lines = (("CE", ce, "#CC79A7", "solid"), ("β·KL", kl, "#009E73", "dot"))
    data = [
        {
            "x": steps,
            "y": ys,
            "name": name,
            "mode": "lines",
            "line": {"color": colour, "dash": dash, "width": 2},
            "hovertemplate": "%{y:.3f}",
        }
        for name, ys, colour, dash in (*lines, ("total", total, "var(--st-text-color)", "solid"))
    ]
    layout = {
        "height": 340,
        "hovermode": "x unified",
        "uirevision": "keep",
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "margin": {"l": 56, "r": 12, "t": 34, "b": 44},
        "xaxis": {"title": {"text": "step"}, "range": [0, max(STEPS, steps[-1])]},
        "yaxis": {"title": {"text": "nats"}},
    }
    return {"data": data, "layout": layout}


def accuracy_spec(count: int) -> dict[str, Any]:
    """A teacher's level and a student whose axis moves with each epoch."""
    epochs = list(range(1, count + 1))
    student = [0.8 - 0.3 * math.exp(-epoch / 10) for epoch in epochs]
    data = [
        {"x": [0.5, count + 0.5], "y": [0.8, 0.8], "name": "teacher", "mode": "lines", "line": {"color": "#0072B2"}},
        {
            "x": epochs,
            "y": student,
            "name": "=student",
            "mode": "lines+markers",
            "line": {"color": "#D55E00", "width": 3},
        },
    ]
    axis = {"tickformat": ".0%", "range": [0.5 - 0.001 * count, 0.85], "title": {"text": "accuracy"}}
    layout = {"height": 340, "hovermode": "x unified", "xaxis": {"title": {"text": "epoch"}}, "yaxis": axis}
    layout["xaxis"]["range"] = [0.5, count + 0.5]
    return {"data": data, "layout": layout}


@st.fragment(run_every=0.3)
def grow() -> None:
    """One more point at each tick."""
    began = st.session_state.setdefault("began", time.monotonic())
    count = int(st.query_params.get("points", "20")) + int((time.monotonic() - began) / 0.3)
    left, right = st.columns(2)
    with left:
        live_chart(loss_spec(count), key="loss", label="Student: CE, β·KL and total", smooth=True, log=True)
    with right:
        live_chart(accuracy_spec(count), key="accuracy", label="Accuracy on validation texts")


st.set_page_config(layout="wide")
if st.query_params.get("gone") != "1" and not st.checkbox("without charts"):
    grow()
