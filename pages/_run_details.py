"""One run on the page Runs: what people call it, what can be done with it, its charts, verdict and settings."""

from __future__ import annotations

import html
from dataclasses import replace
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from distill_core import comparison
from distill_core.analysis.verdict import verdict
from distill_core.status import short
from pages import _comparison, _draft, _evaluation, _figures, _looks, _reruns, _run_rows, _session
from pages._live_chart import live_chart
from pages._run_actions import NOT_YOURS, delete_button, export_button, file_names, manages, plain
from pages._run_rows import Row

POLL_SECONDS = 2.0


def details(row: Row) -> None:
    """One run: what people call it, what can be done with it, its charts, verdict and settings."""
    if row.status is None or row.config is None:
        st.error(
            f"The folder of run {plain(row.run_id)} cannot be read: it is incomplete, or another program has "
            "changed it."
        )
        with st.container(horizontal=True):
            delete_button([row])
        return
    _looks.title(row.notes.name or f"Run {short(row.run_id)}", _note_of(row))
    _notes(row)
    _actions(row)
    if row.over:
        _body(row.run_id)
    else:
        _reruns.polling(_live_body, lambda: POLL_SECONDS, key="runs.details")(row.run_id)
    _figures_and_settings(row)


def _note_of(row: Row) -> str:
    place = _looks.place(_session.history_of(row.run_id))
    return " · ".join(part for part in (f"run {short(row.run_id)}" if row.notes.name else "", row.state, place) if part)


def _notes(row: Row) -> None:
    """Name, tags and note; outside of all that is drawn again by itself, so that nobody loses what they type."""
    mine = manages(row)
    known = sorted({tag for other in _run_rows.rows(_session.store()) for tag in other.notes.tags})
    left, middle, right = st.columns([2, 2, 3])
    kept = {"name": row.notes.name, "tags": list(row.notes.tags), "note": row.notes.note}
    for field, value in kept.items():
        st.session_state.setdefault(f"runs.{field}.{row.run_id}", value)
    with left:
        st.text_input(
            "Name",
            placeholder=short(row.run_id),
            max_chars=80,
            help="What to call this run instead of its id." if mine else NOT_YOURS,
            key=f"runs.name.{row.run_id}",
            on_change=_write_note,
            args=(row.run_id, "name"),
            disabled=not mine,
        )
    with middle:
        st.multiselect(
            "Tags",
            sorted({*known, *row.notes.tags}),
            accept_new_options=True,
            placeholder="Choose or type",
            help="Words to find this run by; the search knows them." if mine else NOT_YOURS,
            key=f"runs.tags.{row.run_id}",
            on_change=_write_note,
            args=(row.run_id, "tags"),
            disabled=not mine,
        )
    with right:
        st.text_area(
            "Note",
            height=68,
            max_chars=10_000,
            placeholder="What this run was for",
            help="A remark to find later." if mine else NOT_YOURS,
            key=f"runs.note.{row.run_id}",
            on_change=_write_note,
            args=(row.run_id, "note"),
            disabled=not mine,
        )


def _write_note(run_id: str, field: str) -> None:
    store = _session.store()
    row, value = _run_rows.row(store, run_id), st.session_state[f"runs.{field}.{run_id}"]
    if row.status is not None and manages(row):
        changed: dict[str, Any] = {field: tuple(value) if field == "tags" else value}
        try:
            store.write_notes(run_id, replace(store.notes(run_id), **changed))
        except OSError as error:  # the disk is full, say; what was typed is still in its field
            st.session_state["runs.problem"] = f"The {field} could not be kept: {error.strerror}; make room, type again"


def _actions(row: Row) -> None:
    with st.container(horizontal=True):
        if st.button("Compare on your own text", disabled=not row.finished, key="runs.compare"):
            _session.choose_run(row.run_id)
            st.switch_page("pages/compare.py")
        if st.button("Open settings in Train", key="runs.reuse", help="Puts this run's settings into Train."):
            assert row.config is not None
            _draft.draft_from(row.config)
            _session.choose_run(row.run_id)
            st.switch_page("pages/train.py")
        export_button(row)
        delete_button([row])
    problem = st.session_state.get("runs.unpacked", {}).pop(row.run_id, None)
    if problem:
        st.error(_looks.named(problem))


def _live_body(run_id: str) -> None:
    if _run_rows.row(_session.store(), run_id).over:
        st.rerun()
    _body(run_id)


def _body(run_id: str) -> None:
    """What a run has shown so far."""
    row, history = _run_rows.row(_session.store(), run_id), _session.history_of(run_id)
    if row.status is None or row.config is None:
        return
    _looks.stage_line(history, history.stages, row.over)
    if row.result is not None:
        for sentence in verdict(row.result):
            st.html(f'<p class="lab-verdict">{html.escape(sentence)}</p>')
    elif row.status.status == "failed" and row.status.error:
        st.error(f"This run failed: {_looks.named(row.status.error)}")
    _charts(row)


def _charts(row: Row) -> None:
    history, config = _session.history_of(row.run_id), row.config
    assert config is not None
    drawn = [stage for stage in _figures.LOSS_STAGES if stage in history.progress and history.progress[stage].curve]
    if not drawn:
        st.caption("This run has no curves: it ended before its first step." if row.over else "No curves yet.")
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
        title = _figures.loss_title(stage, config)
        st.markdown(f"**{title}**")
        draw("loss", title, _figures.loss_figure(history, config, stage, _looks.ink()), live=not row.over)
    with right:
        title = "Accuracy on validation texts"
        st.markdown(f"**{title}**")
        draw("accuracy", title, _figures.accuracy_figure(history, config), live=not row.over)


def draw(name: str, title: str, figure: go.Figure, *, live: bool) -> None:
    """A chart; one that grows is updated in place."""
    if live:
        live_chart(figure, key=f"runs.live.{name}", label=title)
    else:
        st.plotly_chart(figure, key=f"runs.{name}", config=_figures.CHART_CONFIG)


def _figures_and_settings(row: Row) -> None:
    assert row.config is not None
    with st.expander("Settings"):
        titles = comparison.setting_titles()
        values = _comparison.all_settings(row.config, file_names())
        lines = [{"Setting": titles[path], "Value": value, "Name": path} for path, value in values.items()]
        st.dataframe(pd.DataFrame(lines), hide_index=True)
    if row.result is not None:
        with st.expander("All figures"):
            _evaluation.show(row.result, "runs")
