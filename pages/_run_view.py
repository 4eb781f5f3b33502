"""One run on the page Train: how far it is, what can be asked of it, its charts, and how it ended."""

from __future__ import annotations

import html
from collections.abc import Callable

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from distill_core import estimate, steering
from distill_core.analysis.verdict import verdict
from distill_core.config import RunConfig
from distill_core.errors import DistillError
from distill_core.events import History, stages_of
from distill_core.queueing import Outlook
from distill_core.status import Status
from distill_core.steering import Request
from distill_core.sweep.record import Sweeps
from pages import _batch_view, _draft, _evaluation, _figures, _identity, _looks, _reruns, _session, _watching
from pages._live_chart import live_chart
from pages._sweep_choice import choose_sweep
from pages._watching import View

POLL_SECONDS = 0.5
SHARE = 0.05
"""Seconds by which each further session that watches makes the looks of all of them rarer."""
ASKED = {"pause": "Pausing…", "keep": "Stopping…", "discard": "Stopping…", "interrupt": "Stopping…"}
"""What is said while a wish has been heard and not yet been heeded."""


def show(run_id: str) -> None:
    """A run that is over as it ended; one that is not follows by itself."""
    view = _watching.view(_session.store(), run_id)
    if view.status.over:
        watch(view)
    else:
        _reruns.polling(watch_live, _poll_seconds, key="train.live")(run_id)


def _poll_seconds() -> float:
    context = get_script_run_ctx()
    count = _watching.watchers(context.session_id if context is not None else "")
    return max(POLL_SECONDS, SHARE * count)


def watch_live(run_id: str) -> None:
    """The fragment that polls a run that is not over; the page itself draws the end, whose buttons stay."""
    if not _watching.is_live(_session.store(), run_id):
        st.rerun()
    watch(_watching.view(_session.store(), run_id))


def watch(view: View) -> None:
    """Everything about a run on one screen."""
    status, history, config = view.status, view.history, view.config
    _looks.title("Teach a small model", _looks.run_note(status, history))
    _looks.stage_line(history, history.stages or stages_of(config), status.over)
    if status.over:
        _end_row(view)
    else:
        _progress_row(view)
    with st.container():  # there with and without a batch: charts that change their place are built anew
        if view.batch is not None:
            _batch_view.show(view.batch, config)
    charts(view)
    if status.over:
        outcome(status)
    for warning in history.warnings:
        st.warning(_looks.named(warning), icon=":material/info:")


def _end_row(view: View) -> None:
    state, worked = view.status.status, view.history.worked
    after = f" after {_looks.duration(worked)}" if worked > 0 else ""
    st.progress(1.0 if state == "finished" else 0.0, text=f"{_looks.STATUS_WORDS[state]}{after}")


def _progress_row(view: View) -> None:
    """How far the run is, and what can be asked of it."""
    mine = _identity.may_manage(view.status)
    left, right = st.columns([2, 5] if view.status.status == "paused" else [5, 4], vertical_alignment="center")
    with left:
        st.progress(*_progress(view))
    with right, st.container(horizontal=True, horizontal_alignment="right"):
        if mine:
            _steering_buttons(view)
        else:
            st.caption("Started in another browser: watch it here, or start your own with its settings.")
            st.button("Use its settings", key="train.copy", on_click=_draft.draft_from, args=(view.config,))


def _progress(view: View) -> tuple[float, str]:
    """The part of the run's time that is over, 0 to 1, and words for it."""
    if view.status.status == "queued":
        return 0.0, _waiting(view.outlook)
    done, remaining = estimate.remaining(view.history, view.expected)
    shown, most = st.session_state.get("train.progress", ("", 0.0))
    if shown == view.status.run_id:
        done = max(done, most)  # a stage that takes longer than it seemed does not undo what was done
    st.session_state["train.progress"] = view.status.run_id, done
    share = f"{100 * done:.0f} %"
    if view.status.status == "paused":
        return done, f"Paused · {share}"
    return done, f"{share} · {ASKED.get(view.wish.what) or f'{_looks.duration(remaining)} left'}"


def _waiting(outlook: Outlook | None) -> str:
    """Where a waiting run stands in the queue, and how long that will take."""
    if outlook is None or not (outlook.ahead or outlook.working):
        return "Starting"
    before = f"{outlook.ahead + outlook.working} before this one"
    if outlook.seconds is None:
        return f"Waiting: {before}; a paused run has to make way"
    return f"Waiting: {before} · starts in about {_looks.duration(outlook.seconds)}"


def _steering_buttons(view: View) -> None:
    run_id, state = view.status.run_id, view.status.status
    heard = view.wish.what in ASKED and not (view.wish.what == "pause" and state == "paused")
    if state == "paused":
        _ask_button("Go on", "run", run_id, "play_arrow", "Training goes on.", disabled=heard)
        one = "Takes one batch. Where a student learns, its texts, answers and losses are shown."
        _ask_button("One batch", "batch", run_id, "skip_next", one, disabled=heard)
        _ask_button("One epoch", "epoch", run_id, "fast_forward", "Trains to the end of this epoch.", disabled=heard)
    elif state == "running":
        _ask_button(
            "Pause", "pause", run_id, "pause", "Stands still at the next batch; then single batches can be followed.",
            disabled=heard,
        )  # fmt: skip
    if state != "queued":
        ready = "distil" in view.history.progress
        keep = "Ends the training here: the student, at its best so far, is tested and stays usable."
        early = "There is no student to keep yet: first its teacher learns, and the baseline."
        _ask_button("Stop and keep", "keep", run_id, "stop", keep if ready else early, disabled=heard or not ready)
    _discard_button(run_id, disabled=view.wish.what == "discard")


def _ask_button(words: str, request: Request, run_id: str, icon: str, help: str, *, disabled: bool) -> None:
    pressed = st.button(words, icon=f":material/{icon}:", help=help, key=f"train.ask.{request}", disabled=disabled)
    if pressed:
        _do(lambda: steering.ask(_session.store(), run_id, request))


def _discard_button(run_id: str, *, disabled: bool) -> None:
    """Asks once more before a training is thrown away."""
    sure = st.session_state.get("train.discarding") == run_id
    words = "Really discard" if sure else "Discard"
    help = "Ends the run at its next batch. Its curves stay, no student is kept; a teacher that is ready stays ready."
    # A poll that comes with the click can have Streamlit deliver it twice: a second "Discard" must not count as sure.
    key = "train.discard.sure" if sure else "train.discard"
    if st.button(words, key=key, help=help, disabled=disabled, type="primary" if sure else "secondary"):
        st.session_state["train.discarding"] = None if sure else run_id
        if sure:
            _do(lambda: _session.executor().cancel(run_id))
        else:
            _reruns.again()


def _do(action: Callable[[], None]) -> None:
    """Does what a button is for and shows at once that it has been heard."""
    try:
        action()
    except (DistillError, OSError) as error:  # the run has moved on meanwhile, or the disk is full
        st.toast(_looks.named(error), icon=":material/info:")
        return
    _watching.forget(_session.store(), str(st.session_state.get("run")))
    _reruns.again()


def charts(view: View) -> None:
    """Loss at the left, accuracy at the right."""
    stage = shown_stage(view.history, view.config)
    draw = _finished_chart if view.status.over else _growing_chart
    left, right = st.columns(2)
    with left:
        draw(view, "loss", stage, _figures.loss_title(stage, view.config))
    with right:
        draw(view, "accuracy", stage, "Accuracy on validation texts")


def _growing_chart(view: View, name: str, stage: str, heading: str) -> None:
    st.markdown(f"**{heading}**")
    losses = name == "loss"
    chart = _watching.chart(_session.store(), view.status.run_id, stage if losses else None)
    live_chart(chart, key=f"train.{name}.{view.status.run_id}.{stage}", label=heading, smooth=losses, log=losses)


def _finished_chart(view: View, name: str, stage: str, heading: str) -> None:
    st.markdown(f"**{heading}**")
    if name == "loss":
        figure = _figures.loss_figure(view.history, view.config, stage, _looks.ink())
    else:
        figure = _figures.accuracy_figure(view.history, view.config)
    st.plotly_chart(figure, key=f"train.done.{name}", config=_figures.CHART_CONFIG)


def shown_stage(history: History, config: RunConfig) -> str:
    """The latest stage that has a loss to show."""
    began = [stage for stage in _figures.LOSS_STAGES if stage in history.progress]
    drawn = [stage for stage in began if not history.progress[stage].cached]
    return drawn[-1] if drawn else next(stage for stage in stages_of(config) if stage in _figures.LOSS_STAGES)


def outcome(status: Status) -> None:
    """The verdict of a finished run; why another ended, and what to do then."""
    result = _session.store().result(status.run_id)
    if status.status == "finished" and result is not None:
        for sentence in verdict(result):
            st.html(f'<p class="lab-verdict">{html.escape(sentence)}</p>')
        if status.sweep in Sweeps(_session.store()).ids():
            _point_to_sweep(str(status.sweep))
        alone = _session.store().config(status.run_id).teacher.kind == "file"
        asked = "Ask the student about" if alone else "Compare teacher and student on"
        if st.button(f"{asked} your own text", type="primary", key="train.compare"):
            st.switch_page("pages/compare.py")
        with st.expander("All figures"):
            _evaluation.show(result, "train")
    elif status.status == "cancelled":
        st.info("This run was discarded. Start another one in the sidebar; a teacher that was ready stays ready.")
    elif status.status == "interrupted":
        _offer_resume(status)
    else:
        st.error(f"This run failed: {_looks.named(status.error or 'it left no message')}")


def _point_to_sweep(sweep_id: str) -> None:
    """Says that a run is one of many."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("One of the runs of a sweep, whose best may be lucky: the sweep says what they show together.")
        if st.button("Open the sweep", icon=":material/grid_view:", key="train.sweep"):
            choose_sweep(sweep_id)
            st.switch_page("pages/sweep.py")


def _offer_resume(status: Status) -> None:
    """What has interrupted a run, and the button that lets it go on."""
    reason = _looks.named(status.error or "Its process is gone.")
    st.warning(f"This run was interrupted. {reason}\n\nIt goes on from its last checkpoint.", icon=":material/bolt:")
    if not _identity.may_manage(status):
        st.caption("It was started in another browser; only there it can be resumed.")
    elif st.button("Resume", type="primary", icon=":material/play_arrow:", key="train.resume"):
        try:
            _session.executor().resume(status.run_id)
        except DistillError as error:
            _looks.show_error(error)
        else:
            _watching.forget(_session.store(), status.run_id)
            st.rerun()
