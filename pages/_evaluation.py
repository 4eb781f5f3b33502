"""All that a result says, as tables and figures; on Train and on Runs alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import streamlit as st

from pages import _figures, _looks

ROLES = {"teacher": "Teacher", "baseline": "Student alone", "student": "Student"}
ROWS = {
    "architecture": "Architecture",
    "parameters": "Parameters",
    "bytes": "Size",
    "latency_ms": "Time a text",
    "val_accuracy": "Accuracy on validation",
    "test_accuracy": "Accuracy on test",
    "test_interval": "95 % interval",
    "macro_f1": "Macro F1",
    "nll": "Negative log-likelihood",
    "ece": "Calibration error",
    "agreement": "Agrees with the teacher",
    "kl": "KL(student‖teacher)",
    "kl_reverse": "KL(teacher‖student)",
}
TRAIN_ROWS = {
    "accuracy": "Accuracy",
    "agreement": "Agrees with the teacher",
    "kl": "KL(student‖teacher)",
    "kl_reverse": "KL(teacher‖student)",
}


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _nats(value: float) -> str:
    return f"{value:.3f} nats"


FORMATS: Mapping[str, Callable[[Any], str]] = {
    "parameters": _looks.millions,
    "bytes": lambda value: f"{_looks.millions(value)}B",
    "latency_ms": lambda value: f"{value:.2f} ms",
    "test_interval": lambda value: f"{100 * value[0]:.1f} to {100 * value[1]:.1f} %",
    **dict.fromkeys(("val_accuracy", "test_accuracy", "macro_f1", "ece", "agreement", "accuracy"), _share),
    **dict.fromkeys(("nll", "kl", "kl_reverse"), _nats),
}


def show(result: Mapping[str, Any], key: str) -> None:
    """The figures of a result.

    Args:
        key: a prefix for the keys of its elements.
    """
    models = {role: result[role] for role in ROLES if result[role]}
    st.markdown("**On the test texts**, which no model has seen")
    st.dataframe(_table(models, ROWS), height="content")
    st.markdown(
        "**On the training texts**: how well the student copies what it was taught. Much better here than above means "
        "that it has learned by heart."
    )
    st.dataframe(
        _table({role: entry["train"] for role, entry in models.items() if "train" in entry}, TRAIN_ROWS),
        height="content",
    )
    if result.get("seeds"):
        st.markdown("**By seed**: test accuracy from different starts")
        st.plotly_chart(_figures.seeds_figure(result), key=f"{key}.seeds", config=_figures.CHART_CONFIG)
    confused = {role: entry for role, entry in models.items() if "confusion" in entry}
    if not confused:
        return
    st.markdown("**Right and wrong answers**: true class by row, answer by column")
    for column, (role, entry) in zip(st.columns(len(confused)), confused.items(), strict=True):
        with column:
            st.caption(ROLES[role])
            figure = _figures.confusion_figure(entry["confusion"], result["labels"], role)
            st.plotly_chart(figure, key=f"{key}.confusion.{role}", config={"displayModeBar": False})


def _table(models: Mapping[str, Mapping[str, Any]], rows: Mapping[str, str]) -> pd.DataFrame:
    def cell(name: str, value: Any) -> str:
        return "–" if value is None else FORMATS.get(name, str)(value)

    return pd.DataFrame(
        {ROLES[role]: [cell(name, entry.get(name)) for name in rows] for role, entry in models.items()},
        index=list(rows.values()),
    )
