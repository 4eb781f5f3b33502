"""Train: choose a teacher, a student and β, press Start, and watch the student learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import streamlit as st

from distill_core import estimate
from distill_core.analysis.verdict import verdict
from distill_core.config import RunConfig
from distill_core.data.profile import Profile
from distill_core.errors import DistillError
from distill_core.events import History, stages_of
from distill_core.models.sizes import (
    STUDENT_WIDTHS,
    TEACHER_WIDTHS,
    parameter_count,
    student_model,
    teacher_parameters,
)
from distill_core.store import Status
from pages import _data_controls, _evaluation, _figures, _widgets
from pages._live_chart import live_chart

POLL_SECONDS = 0.5
TEACHERS = {"lstm": "LSTM", "pretrained": "Pre-trained", "file": "File"}
STUDENTS = {"lstm": "LSTM", "gru": "GRU", "textcnn": "CNN", "bag": "Bag"}
MODES = {"offline": "only answers", "joint": "learns too (joint)"}
DISTANCES = {
    "kl_teacher_student": "KL(teacher‖student)",
    "kl_student_teacher": "KL(student‖teacher)",
    "jensen_shannon": "Jensen–Shannon",
    "logit_mse": "logit MSE",
}
VECTORS = {"random": "random", "teacher": "from the teacher", "glove": "GloVe"}


def settings() -> bool:
    """The sidebar: what to train, and Start; returns whether it can be started."""
    _widgets.choose_preset()
    _data_controls.choose_data()
    profile, problem = _profile()
    known = profile or estimate.UNREAD
    vocabulary, classes = known.vocabulary, len(known.labels)
    _choose_model("teacher", TEACHERS, vocabulary, classes)
    _choose_model("student", STUDENTS, vocabulary, classes)
    _widgets.slide("objective", "beta", 0.0, 10.0, 0.5)
    _widgets.slide("training", "epochs", 1, 30, 1)
    with st.expander("More"):
        section = st.pills(
            "Settings of",
            list(MORE),
            default="Teacher",
            required=True,
            help="Everything else that decides a run. The defaults are good ones.",
            key="train.more",
        )
        MORE[section]()
    return _start(profile, problem)


def _choose_model(role: Literal["teacher", "student"], kinds: Mapping[str, str], vocabulary: int, classes: int) -> None:
    parameters = _parameters(role, vocabulary, classes)
    listed = " · ".join(f"{size} {_widgets.millions(count)}" for size, count in parameters.items())
    kind = _widgets.choose_kind(role, kinds, f"Parameters: {listed}.")
    if kind not in ("pretrained", "file"):
        _widgets.choose_size(role, parameters)


def _profile() -> tuple[Profile | None, str]:
    """What the chosen data set looks like, where that is known; or why it cannot be used."""
    try:
        return _widgets.profile_of(_widgets.drafted_parts()), ""
    except DistillError as error:
        st.error(str(error))
        return None, "The data cannot be used yet."


def _teacher_settings() -> None:
    kind = _widgets.drafted_parts().teacher.kind
    if kind == "file":
        st.caption("Its answers stand in the columns teacher_LABEL of your file, as probabilities or raw scores.")
        return
    if kind == "lstm":
        _widgets.switch("teacher", "pretrain")
        _widgets.number("teacher", "pretrain_epochs", step=1)
        _widgets.number("teacher", "pretrain_learning_rate", step=0.0005, format="%.4f")
        _shape_settings("teacher")
    else:
        _widgets.text("teacher", "model")
        _widgets.switch("teacher", "frozen")
        _widgets.number("teacher", "encoder_learning_rate", step=1e-5, format="%.6f")
        _widgets.number("teacher", "encoder_max_tokens", step=32)
    _widgets.number("teacher", "epochs", step=1)
    if kind == "lstm":
        _widgets.number("teacher", "learning_rate", step=0.0005, format="%.4f")
    _widgets.number("teacher", "batch_size", step=16)


def _student_settings() -> None:
    _widgets.choose("student", "word_vectors", options=VECTORS)
    _widgets.switch("student", "like_teacher")
    _shape_settings("student")


def _shape_settings(section: str) -> None:
    part = getattr(_widgets.drafted_parts(), section)
    if part.kind in ("lstm", "gru"):
        _widgets.switch(section, "bidirectional")
        _widgets.choose(section, "pooling")
        _widgets.number(section, "layers", step=1)
    _widgets.number(section, "dropout", step=0.05, format="%.2f")


def _loss_settings() -> None:
    _widgets.choose("objective", "mode", options=MODES)
    _widgets.choose("objective", "divergence", options=DISTANCES)
    _widgets.slide("objective", "temperature", 0.5, 10.0, 0.5)
    _widgets.number("objective", "student_ce_weight", step=0.5)
    if _widgets.drafted_parts().objective.mode == "joint":
        _widgets.number("objective", "teacher_ce_weight", step=0.5)
    _widgets.slide("objective", "beta_ramp", 0.0, 1.0, 0.05)


def _teaching_settings() -> None:
    _widgets.switch("training", "transfer")
    _widgets.number("training", "augment", step=1)
    _widgets.choose("training", "assistant")


def _training_settings() -> None:
    _widgets.number("training", "seeds", step=1)
    _widgets.switch("training", "baseline")
    _widgets.number("training", "learning_rate", step=0.0005, format="%.4f")
    _widgets.number("training", "batch_size", step=16)
    _widgets.switch("training", "average_weights")
    _widgets.number("training", "seed", step=1)
    _widgets.choose("training", "precision")


MORE: Mapping[str, Callable[[], None]] = {
    "Data": _data_controls.data_settings,
    "Teacher": _teacher_settings,
    "Student": _student_settings,
    "Loss": _loss_settings,
    "Teaching": _teaching_settings,
    "Training": _training_settings,
}


def _parameters(role: str, vocabulary: int, classes: int) -> dict[str, int]:
    section = getattr(_widgets.drafted_parts(), role)
    table = TEACHER_WIDTHS if role == "teacher" else STUDENT_WIDTHS
    return {size: parameter_count(section.model_copy(update={"size": size}), vocabulary, classes) for size in table}


def _start(profile: Profile | None, problem: str) -> bool:
    config = None
    try:
        config = _widgets.drafted_config()
    except DistillError as error:
        if not problem:
            st.error(str(error))
    if config is not None and not problem:
        st.markdown(_outlook(config, profile))
    ready = config is not None and not problem
    pressed = st.button(
        "Start", type="primary", width="stretch", icon=":material/play_arrow:", key="train.start", disabled=not ready
    )
    if pressed and config is not None:
        _widgets.choose_run(_widgets.executor().submit(config))
        st.rerun()
    return ready


def _outlook(config: RunConfig, profile: Profile | None) -> str:
    """What the run makes of what, and how long that takes."""
    known = profile or estimate.UNREAD
    vocabulary, classes = known.vocabulary, len(known.labels)
    teacher = teacher_parameters(config.teacher, vocabulary, classes)
    large = {"file": "a file", "pretrained": config.teacher.model}.get(config.teacher.kind, "")
    if teacher is not None:
        large = _widgets.millions(teacher)
    small = _widgets.millions(parameter_count(student_model(config), vocabulary, classes))
    expected = sum(estimate.seconds_by_stage(config, profile, _widgets.store()).values())
    ready = ", teacher ready" if estimate.teacher_is_cached(config, _widgets.store()) else ""
    return f"**{large} → {small}** parameters  \nabout **{_widgets.duration(expected)}**{ready}"


def welcome(ready: bool) -> None:
    """What the lab does, before anything has been trained."""
    _widgets.title("Teach a small model")
    st.markdown(
        "A large **teacher** learns to tell texts of one kind from those of another, such as good film reviews from "
        "bad ones. A small **student** then learns from the labels *and* from its teacher's answers, and you watch. "
        "In the end all models answer texts that none of them has seen, beside a twin of the student that learned "
        "**without** the teacher: so you see whether the teacher helped."
    )
    _widgets.stage_line(History(), stages_of(_widgets.drafted_parts()), over=False)
    with st.container(horizontal_alignment="center"):
        st.space("small")
        first = st.button(
            "Start the first run", type="primary", icon=":material/play_arrow:", key="train.first", disabled=not ready
        )
        if first:
            _widgets.choose_run(_widgets.executor().submit(_widgets.drafted_config()))
            st.rerun()
        st.caption("The choices in the sidebar decide what is trained. These are good ones to begin with.")


def watch(status: Status) -> None:
    """One run: how far it is, its charts and, once it is over, how it ended."""
    run_id = status.run_id
    history = _widgets.history_of(run_id)
    config = _widgets.store().config(run_id)
    _widgets.title("Teach a small model", _widgets.run_note(status, history))
    _widgets.stage_line(history, history.stages or stages_of(config), status.over)
    progress_row(status, history, config)
    for warning in history.warnings:
        st.warning(warning, icon=":material/info:")
    charts(run_id, history, config, live=not status.over)
    if status.over:
        outcome(status)


def watch_live(run_id: str) -> None:
    """The fragment that polls a run that is not over; the page itself draws the end, whose buttons stay."""
    status = _widgets.store().status(run_id)
    if status.over:
        st.rerun()
    watch(status)


def progress_row(status: Status, history: History, config: RunConfig) -> None:
    """How far the run is, and the way out."""
    left, right = st.columns([5, 1], vertical_alignment="center")
    if status.over:
        words, took = _widgets.STATUS_WORDS[status.status], (status.ended or 0.0) - (status.started or status.created)
        left.progress(1.0 if status.status == "finished" else 0.0, text=f"{words} after {_widgets.duration(took)}")
        return
    with left:
        if status.status == "queued":
            position = _widgets.executor().position(status.run_id)
            ahead = (position or 1) - 1
            st.progress(0.0, text=f"Waiting: {ahead} ahead of this run" if ahead else "Starting")
        else:
            done, remaining = _progress(history, config)
            st.progress(done, text=f"{100 * done:.0f} % · {_widgets.duration(remaining)} left")
    with right:
        stopping = st.session_state.get("train.stopping") == status.run_id
        if st.button(
            "Stopping…" if stopping else "Cancel",
            disabled=stopping,
            width="stretch",
            key="train.cancel",
            help="Stops this run at its next batch. What it has shown so far stays, but no student is kept.",
        ):
            st.session_state["train.stopping"] = status.run_id
            _widgets.executor().cancel(status.run_id)
            st.rerun(scope="fragment")


def _progress(history: History, config: RunConfig) -> tuple[float, float]:
    """The part of the run's time that is over, 0 to 1, and the seconds that are left."""
    try:
        profile = _widgets.known_profile(config)
    except DistillError:  # its file may be gone; the run has read it
        profile = None
    expected = estimate.seconds_by_stage(config, profile, _widgets.store())
    return estimate.remaining(history, expected)


def charts(run_id: str, history: History, config: RunConfig, *, live: bool) -> None:
    """Loss at the left, accuracy at the right."""
    stage = _shown_stage(history, config)
    left, right = st.columns(2)
    loss, accuracy = (
        _figures.loss_figure(history, config, stage, _widgets.ink()),
        _figures.accuracy_figure(history, config),
    )
    for column, name, figure, heading in (
        (left, "loss", loss, _figures.loss_title(stage, config)),
        (right, "accuracy", accuracy, "Accuracy on validation texts"),
    ):
        with column:
            st.markdown(f"**{heading}**")
            if live:
                live_chart(figure, key=f"train.{name}.{run_id}.{stage}", label=heading)
            else:
                st.plotly_chart(figure, key=f"train.done.{name}", config=_figures.CHART_CONFIG)


def _shown_stage(history: History, config: RunConfig) -> str:
    """The latest stage that has a loss to show."""
    began = [stage for stage in _figures.LOSS_STAGES if stage in history.progress]
    drawn = [stage for stage in began if not history.progress[stage].cached]
    return drawn[-1] if drawn else next(stage for stage in stages_of(config) if stage in _figures.LOSS_STAGES)


def outcome(status: Status) -> None:
    """The verdict of a finished run; why another ended."""
    result = _widgets.store().result(status.run_id)
    if status.status == "finished" and result is not None:
        for sentence in verdict(result):
            st.html(f'<p class="lab-verdict">{sentence}</p>')
        alone = _widgets.store().config(status.run_id).teacher.kind == "file"
        asked = "Ask the student about" if alone else "Compare teacher and student on"
        if st.button(f"{asked} your own text", type="primary", key="train.compare"):
            st.switch_page("pages/compare.py")
        with st.expander("All figures"):
            _evaluation.show(result, "train")
    elif status.status == "cancelled":
        st.info("This run was cancelled. Start another one in the sidebar; a teacher that was ready stays ready.")
    else:
        st.error(f"This run failed: {status.error or 'it left no message'}")


_widgets.enter_by_router("pages/train.py")
with st.sidebar:
    startable = settings()
shown = _widgets.chosen_run()
if shown is None:
    welcome(startable)
elif (status := _widgets.store().status(shown)).over:
    watch(status)
else:
    st.fragment(watch_live, run_every=POLL_SECONDS, key="train.live")(shown)
