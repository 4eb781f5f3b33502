"""Runs: everything that was trained; open one to see its charts again."""

from __future__ import annotations

import time
from typing import Any

import pandas as pd
import streamlit as st

from distill_core.analysis.verdict import verdict
from distill_core.data.sources import describe
from distill_core.errors import DistillError
from distill_core.store import short
from pages import _evaluation, _figures, _widgets

POLL_SECONDS = 2.0
PERCENT = st.column_config.NumberColumn(format="%.1f %%")
COLUMNS = {
    "Teacher %": PERCENT,
    "Student %": PERCENT,
    "Alone %": st.column_config.NumberColumn(format="%.1f %%", help="The same student without its teacher"),
    "Kept %": st.column_config.NumberColumn(format="%.1f %%", help="The student's accuracy as a part of its teacher's"),
    "β": st.column_config.NumberColumn(format="%g"),
    "T": st.column_config.NumberColumn(format="%g", help="Temperature"),
}


def nothing_yet() -> None:
    """What to do when there is no run."""
    st.markdown("Every run that you start is kept here, with its settings, charts and results.")
    if st.button("Start the first one", type="primary", icon=":material/school:", key="runs.train"):
        st.switch_page("pages/train.py")


def table(run_ids: list[str]) -> str | None:
    """All runs, latest first; returns the one that was clicked."""
    frame = pd.DataFrame([_row(run_id) for run_id in run_ids])
    event = st.dataframe(
        frame,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        column_config=COLUMNS,
        key="runs.table",
    )
    rows = event["selection"]["rows"]
    return run_ids[rows[0]] if rows and rows[0] < len(run_ids) else None


def _row(run_id: str) -> dict[str, Any]:
    try:
        return _readable_row(run_id)
    except DistillError:
        return {"Run": short(run_id), "Status": "Unreadable"}


def _readable_row(run_id: str) -> dict[str, Any]:
    status, config = _widgets.store().status(run_id), _widgets.store().config(run_id)
    result = _widgets.store().result(run_id)

    def percent(role: str) -> float | None:
        entry = result and result[role]
        return 100 * entry["test_accuracy"] if entry else None

    return {
        "Run": short(run_id),
        "Status": _widgets.STATUS_WORDS[status.status],
        "Started": time.strftime("%d %b %H:%M", time.localtime(status.created)),
        "Data": describe(config.data).title,
        "Models": _widgets.models(config),
        "β": config.objective.beta,
        "T": config.objective.temperature,
        "Epochs": config.training.epochs,
        "Teacher %": percent("teacher"),
        "Student %": percent("student"),
        "Alone %": percent("baseline"),
        "Kept %": 100 * result["retention"] if result and result["retention"] else None,
    }


def details(run_id: str) -> None:
    """One run's charts, verdict and settings."""
    store = _widgets.store()
    status, config, result = store.status(run_id), store.config(run_id), store.result(run_id)
    history = _widgets.history_of(run_id)
    _widgets.title(f"Run {short(run_id)}", _widgets.place(history))
    _widgets.stage_line(history, history.stages, status.over)
    if result is not None:
        for sentence in verdict(result):
            st.html(f'<p class="lab-verdict">{sentence}</p>')
    elif status.error:
        st.error(f"This run failed: {status.error}")
    _actions(run_id, finished=result is not None)
    _charts(run_id)
    with st.expander("Settings"):
        rows = [
            {"Setting": f"{section}.{name}", "Value": "" if value is None else str(value)}
            for section, fields in config.model_dump(mode="json").items()
            for name, value in fields.items()
        ]
        st.dataframe(pd.DataFrame(rows), hide_index=True)
    if result is not None:
        with st.expander("All figures"):
            _evaluation.show(result, "runs")


def _actions(run_id: str, *, finished: bool) -> None:
    with st.container(horizontal=True):
        if st.button("Compare on your own text", disabled=not finished, key="runs.compare"):
            _widgets.choose_run(run_id)
            st.switch_page("pages/compare.py")
        if st.button("Use these settings", key="runs.reuse", help="Puts this run's settings into Train."):
            _widgets.draft_from(_widgets.store().config(run_id))
            _widgets.choose_run(run_id)
            st.switch_page("pages/train.py")


def _charts(run_id: str) -> None:
    history, config = _widgets.history_of(run_id), _widgets.store().config(run_id)
    drawn = [stage for stage in _figures.LOSS_STAGES if stage in history.progress and history.progress[stage].curve]
    if not drawn:
        st.caption("This run has no curves: it ended before its first step.")
        return
    stage = st.segmented_control(
        "Loss of",
        drawn,
        default=drawn[-1],
        required=True,
        format_func=_widgets.STAGE_WORDS.__getitem__,
        key="runs.stage",
    )
    left, right = st.columns(2)
    with left:
        st.markdown(f"**{_figures.loss_title(stage, config)}**")
        st.plotly_chart(
            _figures.loss_figure(history, config, stage, _widgets.ink()), key="runs.loss", config=_figures.CHART_CONFIG
        )
    with right:
        st.markdown("**Accuracy on validation texts**")
        st.plotly_chart(_figures.accuracy_figure(history, config), key="runs.accuracy", config=_figures.CHART_CONFIG)


def overview() -> None:
    """The table, and below it the run that was clicked."""
    run_ids = list(reversed(_widgets.store().run_ids()))
    clicked = table(run_ids)
    if clicked is not None:
        _widgets.choose_run(clicked)
        details(clicked)
    else:
        st.caption("Choose a run by the box at its left to see its charts again.")


_widgets.enter_by_router("pages/runs.py")
_widgets.title("Runs")
known = _widgets.store().run_ids()
if not known:
    nothing_yet()
else:
    busy = any(_widgets.is_open(run_id) for run_id in known)
    st.fragment(overview, run_every=POLL_SECONDS if busy else None, key="runs.live")()
