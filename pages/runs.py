"""Runs: everything that was trained; find, name and compare runs, open one again, delete it, or hand it on."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from distill_core import comparison
from pages import _comparison, _looks, _reruns, _router, _run_rows, _session
from pages._run_actions import (
    CHOSEN,
    SHOWN,
    TABLE,
    choose,
    chosen,
    delete_button,
    file_names,
    import_archive,
    offer_undo,
    plain,
)
from pages._run_details import POLL_SECONDS, details, draw
from pages._run_rows import Row

MOST = 8  # runs that can be compared at once; a string here would be shown on the page
COLUMNS = {
    name: st.column_config.NumberColumn(format="%.1f", help=words)
    for name, words in {
        "Teacher %": "Accuracy on test",
        "Student %": "Accuracy on test; the mean where there are several seeds",
        "±": "Standard deviation of the student's accuracy over the seeds, in points",
        "Alone %": "The same student without its teacher; the mean where there are several seeds",
        "Kept %": "The student's accuracy as a part of its teacher's",
    }.items()
} | {
    "Run": st.column_config.TextColumn(pinned=True, width=150),
    "Started": st.column_config.DatetimeColumn(format="DD MMM HH:mm"),
    "β": st.column_config.NumberColumn(format="%g"),
    "T": st.column_config.NumberColumn(format="%g", help="Temperature"),
    "Tags": st.column_config.ListColumn(),
}


def nothing_yet() -> None:
    """What to do when there is no run."""
    st.markdown("Every run that you start is kept here, with its settings, charts and results.")
    if st.button("Start the first one", type="primary", icon=":material/school:", key="runs.train"):
        st.switch_page("pages/train.py")


# The table, and what is chosen in it


def table() -> None:
    """All runs that fit the search, latest first. Clicks count for the lines that the person saw."""
    before = chosen()
    _take_clicks()
    rows = _run_rows.rows(_session.store())
    search = st.session_state.get("runs.search") or ""
    found = [row for row in rows if row.fits(search, file_names())]
    known = {row.run_id for row in rows}
    st.session_state[CHOSEN] = [run_id for run_id in chosen() if run_id in known]
    _put_clicks([row.run_id for row in found])
    st.dataframe(
        pd.DataFrame([row.cells(file_names()) for row in found], columns=list(_run_rows.COLUMNS)),
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        column_config=COLUMNS,
        placeholder="",
        height="auto" if len(found) <= 8 else 330,
        key=TABLE,
    )
    _say_what_is_hidden(len(rows), found)
    if chosen() != before or st.session_state.get("runs.busy") != any(not row.over for row in rows):
        st.session_state["runs.busy"] = any(not row.over for row in rows)
        st.rerun()


def _take_clicks() -> None:
    shown, state = st.session_state.get(SHOWN, []), st.session_state.get(TABLE)
    if state is not None and shown:
        clicked = [shown[place] for place in state["selection"]["rows"] if place < len(shown)]
        kept = [run_id for run_id in chosen() if run_id not in shown or run_id in clicked]
        st.session_state[CHOSEN] = kept + [run_id for run_id in clicked if run_id not in kept]


def _put_clicks(run_ids: list[str]) -> None:
    """Ticks the chosen runs again where their lines have moved."""
    if st.session_state.get(SHOWN) != run_ids or TABLE not in st.session_state:
        places = [place for place, run_id in enumerate(run_ids) if run_id in chosen()]
        st.session_state[TABLE] = {"selection": {"rows": places, "columns": [], "cells": []}}
        st.session_state[SHOWN] = run_ids


def _say_what_is_hidden(total: int, found: Sequence[Row]) -> None:
    hidden = set(chosen()) - {row.run_id for row in found}
    if len(found) < total or chosen():
        words = [f"{len(found)} of {total} runs"] if len(found) < total else []
        words += [f"{len(chosen())} chosen"] if chosen() else []
        words += [f"{len(hidden)} of them hidden by the search"] if hidden else []
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(" · ".join(words), width="content")
            if chosen():
                st.button("Choose none", type="tertiary", key="runs.none", on_click=choose, args=([],))


# Several runs


def compare(rows: Sequence[Row]) -> None:
    """Two to eight runs beside one another."""
    readable = [row for row in rows if row.config is not None]
    _looks.title("Comparison", f"{len(readable)} runs")
    with st.container(horizontal=True):
        delete_button(rows)
    if len(readable) < len(rows):
        st.caption(f"{len(rows) - len(readable)} cannot be read and is left out.")
    if len(readable) < 2:
        return
    live = any(not row.over for row in readable)
    curves = _reruns.polling(_curves, lambda: POLL_SECONDS, key="runs.curves") if live else _curves
    curves([row.run_id for row in readable])
    _results(readable)
    _differences(readable)


def _curves(run_ids: Sequence[str]) -> None:
    store = _session.store()
    rows = [row for row in (_run_rows.row(store, run_id) for run_id in run_ids) if row.config is not None]
    configs = [row.config for row in rows if row.config is not None]
    looks = _comparison.looks(run_ids, st.session_state.get("runs.looks"))
    st.session_state["runs.looks"] = looks
    called, drawn = _comparison.names(rows), [looks[row.run_id] for row in rows]
    histories = [_session.history_of(row.run_id) for row in rows]
    live = any(not row.over for row in rows)
    st.html(_comparison.key(called, drawn))
    left, right = st.columns(2)
    with left:
        title = "Students: accuracy on validation texts"
        st.markdown(f"**{title}**")
        st.space("medium")
        draw("accuracies", title, _comparison.accuracy_figure(called, drawn, histories), live=live)
    with right:
        st.markdown("**Students: loss while they learn**")
        what = st.segmented_control(
            "Loss",
            list(_comparison.LOSSES),
            default="Total",
            required=True,
            label_visibility="collapsed",
            key="runs.what",
        )
        figure = _comparison.loss_figure(what, called, drawn, histories, configs)
        draw("losses", f"Students: {what}", figure, live=live)
        if what != "CE" and _comparison.unlike_distances(configs):
            st.caption("These runs measure the distance to the teacher differently: compare shapes, not heights.")


def _results(rows: Sequence[Row]) -> None:
    figures = comparison.figures([row.result for row in rows])
    if not figures:
        st.caption("None of these runs has a result yet.")
        return
    called = _comparison.names(rows)
    places = {row.run_id: place for place, row in enumerate(rows)}
    st.markdown("#### Results")
    reference = st.selectbox(
        "Differences to",
        list(places),
        format_func=lambda run_id: called[places[run_id]] if run_id in places else run_id,
        help="The run from which the others are measured; for accuracies in points.",
        width=320,
        key="runs.reference",
    )
    frame = _comparison.results_table(called, figures, places.get(reference, 0))
    st.dataframe(frame, height="content", alt="Results of the runs, with differences")
    st.caption(
        "Measured on test texts, the mean where there are several seeds. In brackets the difference to "
        f"{plain(called[places.get(reference, 0)])}, for accuracies in points; {_comparison.BEST} is the best of "
        "these. What is smaller than the margin (±) may be chance."
    )


def _differences(rows: Sequence[Row]) -> None:
    st.markdown("#### Settings that differ")
    frame = _comparison.settings_table(
        _comparison.names(rows), [row.config for row in rows if row.config is not None], file_names()
    )
    if frame.empty:
        st.caption("None: all settings of these runs are the same.")
    else:
        st.dataframe(frame, height="content", alt="Settings that differ between the runs")


def overview(rows: Sequence[Row]) -> None:
    """The search, the table, and below it what is chosen."""
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    with left:
        st.text_input(
            "Search",
            placeholder="Search by name, tag, data set, model or status",
            label_visibility="collapsed",
            icon=":material/search:",
            key="runs.search",
            persist_state="session",
        )
    with right:
        import_archive()
    offer_undo()
    if "runs.problem" in st.session_state:
        st.error(_looks.named(st.session_state.pop("runs.problem")))
    if not rows:
        nothing_yet()
        return
    busy = st.session_state["runs.busy"] = any(not row.over for row in rows)
    follow = (
        _reruns.polling(table, lambda: POLL_SECONDS, key="runs.live") if busy else st.fragment(table, key="runs.live")
    )
    follow()
    by_id = {row.run_id: row for row in rows}
    picked = [by_id[run_id] for run_id in chosen() if run_id in by_id]
    if not picked:
        st.caption("Choose a run by the box at its left to see its charts again, or several to compare them.")
    elif len(picked) == 1:
        if picked[0].config is not None:
            _session.choose_run(picked[0].run_id)
        details(picked[0])
    elif len(picked) <= MOST:
        compare(picked)
    else:
        st.info(f"Up to {MOST} runs can be compared; {len(picked)} are chosen. Take some boxes off.")
        delete_button(picked)


_router.enter_by_router("pages/runs.py")
_looks.title("Runs")
overview(_run_rows.rows(_session.store()))
