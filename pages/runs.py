"""Runs: everything that was trained; open one to see its charts again."""

from __future__ import annotations

import html
import time
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from distill_core.analysis.verdict import verdict
from distill_core.data.sources import describe
from distill_core.errors import DistillError
from distill_core.store import short
from pages import _draft, _evaluation, _figures, _looks, _session

POLL_SECONDS = 2.0
COLUMNS = {
    name: st.column_config.NumberColumn(format="%.1f %%", help=words)
    for name, words in {
        "Teacher %": "Accuracy on test",
        "Student %": "Accuracy on test; the mean where there are several seeds",
        "Alone %": "The same student without its teacher; the mean where there are several seeds",
        "Kept %": "The student's accuracy as a part of its teacher's",
    }.items()
} | {
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
    status, config = _session.store().status(run_id), _session.store().config(run_id)
    result = _session.store().result(run_id)
    return {
        "Run": short(run_id),
        "Status": _looks.STATUS_WORDS[status.status],
        "Started": time.strftime("%d %b %H:%M", time.localtime(status.created)),
        "Data": describe(config.data).title,
        "Models": _looks.models(config),
        "β": config.objective.beta,
        "T": config.objective.temperature,
        "Epochs": config.training.epochs,
        "Teacher %": _percent(result, "teacher"),
        "Student %": _percent(result, "student"),
        "Alone %": _percent(result, "baseline"),
        "Kept %": 100 * result["retention"] if result and result["retention"] else None,
    }


def _percent(result: Mapping[str, Any] | None, role: str) -> float | None:
    """A model's test accuracy, the mean of those of all seeds where there are several."""
    if result is None or not result[role]:
        return None
    spread = (result.get("seeds") or {}).get(role)
    return 100 * float(spread["mean"] if spread else result[role]["test_accuracy"])


def details(run_id: str) -> None:
    """One run's charts, verdict and settings."""
    store = _session.store()
    status, config, result = store.status(run_id), store.config(run_id), store.result(run_id)
    history = _session.history_of(run_id)
    _looks.title(f"Run {short(run_id)}", _looks.place(history))
    _looks.stage_line(history, history.stages, status.over)
    if result is not None:
        for sentence in verdict(result):
            st.html(f'<p class="lab-verdict">{html.escape(sentence)}</p>')
    elif status.error:
        st.error(f"This run failed: {_looks.named(status.error)}")
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
            _session.choose_run(run_id)
            st.switch_page("pages/compare.py")
        if st.button("Use these settings", key="runs.reuse", help="Puts this run's settings into Train."):
            _draft.draft_from(_session.store().config(run_id))
            _session.choose_run(run_id)
            st.switch_page("pages/train.py")


def _charts(run_id: str) -> None:
    history, config = _session.history_of(run_id), _session.store().config(run_id)
    drawn = [stage for stage in _figures.LOSS_STAGES if stage in history.progress and history.progress[stage].curve]
    if not drawn:
        st.caption("This run has no curves: it ended before its first step.")
        return
    stage = st.segmented_control(
        "Loss of",
        drawn,
        default=drawn[-1],
        required=True,
        format_func=_looks.STAGE_WORDS.__getitem__,
        key="runs.stage",
    )
    left, right = st.columns(2)
    with left:
        st.markdown(f"**{_figures.loss_title(stage, config)}**")
        st.plotly_chart(
            _figures.loss_figure(history, config, stage, _looks.ink()), key="runs.loss", config=_figures.CHART_CONFIG
        )
    with right:
        st.markdown("**Accuracy on validation texts**")
        st.plotly_chart(_figures.accuracy_figure(history, config), key="runs.accuracy", config=_figures.CHART_CONFIG)


def overview() -> None:
    """The table, and below it the run that was clicked."""
    run_ids = list(reversed(_session.store().run_ids()))
    clicked = table(run_ids)
    if clicked is not None:
        _session.choose_run(clicked)
        details(clicked)
    else:
        st.caption("Choose a run by the box at its left to see its charts again.")


_session.enter_by_router("pages/runs.py")
_looks.title("Runs")
known = _session.store().run_ids()
if not known:
    nothing_yet()
else:
    busy = any(_session.is_open(run_id) for run_id in known)
    st.fragment(overview, run_every=POLL_SECONDS if busy else None, key="runs.live")()
