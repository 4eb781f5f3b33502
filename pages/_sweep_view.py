"""One sweep on the page Sweep: how far it is, what can be asked of it, and what it says."""

from __future__ import annotations

import html
import time
from collections.abc import Callable

import streamlit as st

from distill_core.errors import DistillError, RunError
from distill_core.sweep import outlook, questions, sweeper
from distill_core.sweep.space import Axis, SweepConfig
from pages import _identity, _looks, _reruns, _session, _sweep_cells, _sweep_charts, _sweep_controls, _sweep_reading
from pages._sweep_choice import forget_sweep
from pages._sweep_reading import View

POLL_SECONDS = 1.5
STATES = {**_looks.STATUS_WORDS, "queued": "Starting", "cancelled": "Cancelled"}
ASKED = {"pause": "Pausing…", "cancel": "Stopping…"}
"""What is said while a wish has been heard and not yet been heeded."""
MOST_ERRORS = 3


def show(sweep_id: str, drafted: SweepConfig | None) -> None:
    """A sweep; one that works is followed.

    Args:
        drafted: what the sidebar shows, whose values and cells can be added.
    """
    if _sweep_reading.view(_session.store(), sweep_id).status.over:
        st.fragment(_rest, key="sweep.rest")(sweep_id, drafted)
    else:
        _reruns.polling(_work, lambda: POLL_SECONDS, key="sweep.live")(sweep_id, drafted)


def _rest(sweep_id: str, drafted: SweepConfig | None) -> None:
    seen = _seen(sweep_id)
    if not seen.status.over:  # another browser has resumed it
        st.rerun()
    _body(seen, drafted)


def _work(sweep_id: str, drafted: SweepConfig | None) -> None:
    seen = _seen(sweep_id)
    if seen.status.over:
        st.rerun()
    _body(seen, drafted)


def _seen(sweep_id: str) -> View:
    """The sweep now; of one that cannot be read any more the whole page says so."""
    try:
        return _sweep_reading.view(_session.store(), sweep_id)
    except DistillError:
        st.rerun()


def _body(seen: View, drafted: SweepConfig | None) -> None:
    _sweep_cells.heed_table(seen)
    _progress_row(seen, drafted)
    # Containers keep their place whatever they hold: what comes after them is drawn once and not moved.
    with st.container():
        _problems(seen)
    answer = st.container()  # of thousands of cells it takes a moment, for which the chart need not wait
    with st.container():
        _sweep_charts.charts(seen)
    with answer:
        _answer(seen)
    _sweep_cells.panel(seen)
    _sweep_cells.table(seen)


# How far it is, and what can be asked of it


def _progress_row(seen: View, drafted: SweepConfig | None) -> None:
    left, right = st.columns([5, 4], vertical_alignment="center")
    with left:
        st.progress(*progress(seen, time.time()))
    with right, st.container(horizontal=True, horizontal_alignment="right"):
        if _identity.may_manage(seen.status):
            _buttons(seen, drafted)
        else:
            st.caption("Started in another browser: watch it here, or start your own.")
        words = "Puts its question, axes and choices into the sidebar, to start it anew or to add to them."
        taken = st.button(
            "Take its axes",
            key="sweep.take",
            type="tertiary",
            help=words,
            on_click=_sweep_controls.take,
            args=(seen.config,),
        )
        if taken:
            st.rerun()  # the sidebar lies outside of this fragment


def progress(seen: View, now: float) -> tuple[float, str]:
    """The part of a sweep's cells that have ended, 0 to 1, and words for it.

    Args:
        now: seconds since the epoch.
    """
    planned = max(seen.config.planned, len(seen.cells))
    words = _of_cells(seen.ended, planned)
    share = min(seen.ended / planned, 1.0)
    if seen.status.over:
        finished = sum(cell.state == "finished" for cell in seen.cells)
        return share, f"{STATES[seen.status.status]} · {_of_cells(finished, planned)}"
    if seen.status.status == "queued":
        return share, f"Waiting for its turn · {words}" + (f" · {ASKED[seen.wish]}" if seen.wish in ASKED else "")
    left = outlook.remaining(seen.config, seen.status, seen.cells, now)
    until = "" if left is None else f" · about {_looks.duration(left)} left"
    return share, words + (f" · {ASKED[seen.wish]}" if seen.wish in ASKED else until)


def _of_cells(count: int, planned: int) -> str:
    return f"{count:,} of {planned:,} cell{'s' * (planned != 1)}"


def _buttons(seen: View, drafted: SweepConfig | None) -> None:
    store, sweep_id, over = _session.store(), seen.sweep_id, seen.status.over
    heard = not over and seen.wish in ASKED
    if not over:
        words = "Stops within seconds. Cells at work go on later, on this machine from where they were."
        if st.button("Pause", icon=":material/pause:", key="sweep.pause", help=words, disabled=heard):
            _do(lambda: sweeper.pause(store, sweep_id))
    elif seen.status.status != "finished":
        words = "Works on the cells that are missing."
        if st.button("Resume", icon=":material/play_arrow:", key="sweep.resume", help=words, type="primary"):
            _do(lambda: sweeper.resume(store, sweep_id))
    if seen.status.status not in ("finished", "cancelled"):
        words = "Ends the sweep. Cells that have finished stay."
        if st.button("Cancel", key="sweep.cancel", help=words, disabled=not over and seen.wish == "cancel"):
            _do(lambda: sweeper.cancel(store, sweep_id))
    if over:
        _delete_button(sweep_id)
    words = "Adds the values or cells that the sidebar has more." if over else "A sweep at work cannot grow; pause it."
    grows = over and drafted is not None
    if st.button("Extend", icon=":material/add:", key="sweep.extend", help=words, disabled=not grows):
        assert drafted is not None
        _do(lambda: sweeper.extend(store, sweep_id, extended(seen.config, drafted)))


def _delete_button(sweep_id: str) -> None:
    with st.popover("Delete", icon=":material/delete:"):
        words = "They go to the trash, from which Runs can bring them back. Else they stay among the runs."
        with_runs = st.toggle("Its runs, too", help=words, key="sweep.delete.runs")
        if st.button("Delete this sweep", type="primary", key="sweep.delete"):
            _do(lambda: _delete(sweep_id, with_runs))


def _delete(sweep_id: str, with_runs: bool) -> None:
    sweeper.delete(_session.store(), sweep_id, with_runs=with_runs)
    forget_sweep()


def _do(action: Callable[[], None]) -> None:
    """Does what a button is for, and draws the page anew: other buttons may be right now."""
    try:
        action()
    except DistillError as error:
        _looks.show_error(error)
    else:
        st.rerun()


def extended(config: SweepConfig, drafted: SweepConfig) -> SweepConfig:
    """A sweep with the values and cells that another has more; all else stays. Raises RunError: there are none."""
    more = {axis.field: axis for axis in drafted.axes}
    if set(more) != {axis.field for axis in config.axes}:
        raise RunError(
            f"axes must be {', '.join(axis.field for axis in config.axes)} to extend this sweep, got "
            f"{', '.join(more)}; press Take its axes, then add values"
        )
    axes = tuple(_joined(axis, more[axis.field]) for axis in config.axes)
    cells = None if config.cells is None else max(drafted.cells or 0, config.cells)
    if (axes, cells) == (config.axes, config.cells):
        raise RunError(
            "the sidebar must have more values or cells than this sweep to extend it, got no more; add some there"
        )
    return config.model_copy(update={"axes": axes, "cells": cells})


def _joined(axis: Axis, more: Axis) -> Axis:
    if not (axis.values and more.values):
        return axis
    values = list(dict.fromkeys([*axis.values, *more.values]))
    if all(isinstance(value, int | float) for value in values):
        values.sort()
    return axis.model_copy(update={"values": tuple(values)})


# What it says


def _problems(seen: View) -> None:
    """Why the sweep or some of its cells have failed, or wait for somebody."""
    state = seen.status.status
    if state == "failed":
        st.error(f"This sweep failed: {_looks.named(seen.status.error or 'it left no message')}")
    elif state == "interrupted":
        st.warning(
            "This sweep was interrupted: its process is gone. Resume goes on with the missing cells.",
            icon=":material/bolt:",
        )
    failed = [cell for cell in seen.cells if cell.state == "failed"]
    for cell in failed[:MOST_ERRORS]:
        st.error(f"{_sweep_cells.plain_label(cell)}: {_looks.named(cell.error or 'it left no message')}")
    if len(failed) > MOST_ERRORS:
        st.caption(f"{len(failed) - MOST_ERRORS} more cells failed; the table has their errors.")


def _nothing_yet(seen: View) -> str:
    if seen.status.over:
        return "No cell has finished."
    if any(cell.state != "waiting" for cell in seen.cells):
        return "The answer appears with the first cells."
    return (
        "First the texts are read and the teacher is trained, where that has not been done before. Then cells appear."
    )


def _answer(seen: View) -> None:
    """What the cells support so far, in sentences."""
    store = _session.store()
    said = _sweep_reading.made(store, seen, "answer", lambda: questions.answer_of(seen.config, seen.cells))
    words = html.escape(" ".join(said) or _nothing_yet(seen)).replace(" %", "\u00a0%")
    st.html(f'<p class="lab-verdict" aria-live="polite">{words}</p>')
