"""Train: choose a teacher, a student and β, press Start, and watch the student learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import streamlit as st

from distill_core import estimate
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
from pages import _controls, _data_controls, _draft, _identity, _looks, _router, _session, _sweep_axes
from pages._copy_link import copy_link
from pages._phone import close_sidebar

TEACHERS = {"lstm": "LSTM", "pretrained": "Pre-trained", "file": "File"}
STUDENTS = {"lstm": "LSTM", "gru": "GRU", "textcnn": "CNN", "bag": "Bag"}
TASKS = {"language_model": "the next word", "lsa": "words of the same texts"}
MODES = {"offline": "only answers", "joint": "learns too (joint)"}
DISTANCES = _sweep_axes.SETTINGS["objective.divergence"].words
VECTORS = _sweep_axes.SETTINGS["student.word_vectors"].words


def settings() -> bool:
    """The sidebar: what to train, and Start; returns whether it can be started."""
    _controls.choose_preset()
    # Containers keep their place whatever they hold; without them a change above "More" would close it.
    with st.container():
        _data_controls.choose_data()
        profile, usable = _profile()
    known = profile or estimate.assumed(_draft.typed("data", "name"))
    vocabulary, classes = known.vocabulary, len(known.labels)
    with st.container():
        _choose_model("teacher", TEACHERS, vocabulary, classes)
    with st.container():
        _choose_student(vocabulary, classes)
    _controls.slide("objective", "beta", 0.0, 10.0, 0.5)
    _controls.slide("training", "epochs", 1, 60, 1)
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
    return _start(profile, usable)


def _choose_model(role: Literal["teacher", "student"], kinds: Mapping[str, str], vocabulary: int, classes: int) -> None:
    parameters = _parameters(role, vocabulary, classes)
    listed = " · ".join(f"{size} {_looks.millions(count)}" for size, count in parameters.items())
    kind = _controls.choose_kind(role, kinds, f"Parameters: {listed}.")
    if kind not in ("pretrained", "file"):
        _controls.choose_size(role, parameters)


def _choose_student(vocabulary: int, classes: int) -> None:
    """Kind and size of the student, unless its teacher decides them."""
    student = _draft.drafted_parts().student
    if not student.like_teacher:
        _choose_model("student", STUDENTS, vocabulary, classes)
        return
    if student.kind != "lstm":
        _controls.choose_kind("student", STUDENTS, "")
    st.caption("The student has the shape of its teacher (self-distillation, under More).")


def _profile() -> tuple[Profile | None, bool]:
    """What the chosen data set looks like, where that is known, and whether it can be used; says why not."""
    if _data_controls.ask_for_file():
        return None, False
    try:
        return _session.profile_of(_draft.drafted_data()), True
    except DistillError as error:
        _looks.show_error(error)
        return None, False


def _teacher_settings() -> None:
    kind = _draft.drafted_parts().teacher.kind
    if kind == "file":
        st.caption("Its answers stand in the columns teacher_LABEL of your file, as probabilities or raw scores.")
        return
    if kind == "lstm":
        _controls.switch("teacher", "pretrain")
        _controls.choose("teacher", "pretrain_task", options=TASKS)
        if _draft.drafted_parts().teacher.pretrain_task == "language_model":
            _controls.number("teacher", "pretrain_epochs", step=1)
            _controls.number("teacher", "pretrain_learning_rate", step=0.0005, format="%g")
        _shape_settings("teacher")
    else:
        _controls.text("teacher", "model")
        _controls.switch("teacher", "frozen")
        if not _draft.drafted_parts().teacher.frozen:
            _controls.number("teacher", "encoder_learning_rate", step=1e-5, format="%g")
        _controls.number("teacher", "encoder_max_tokens", step=32)
    _controls.number("teacher", "epochs", step=1)
    if kind == "lstm":
        _controls.number("teacher", "learning_rate", step=0.0005, format="%g")
    _controls.number("teacher", "batch_size", step=16)


def _student_settings() -> None:
    _controls.choose("student", "word_vectors", options=VECTORS)
    _controls.switch("student", "like_teacher")
    if not _draft.drafted_parts().student.like_teacher:
        _shape_settings("student")


def _shape_settings(section: str) -> None:
    part = getattr(_draft.drafted_parts(), section)
    if part.kind in ("lstm", "gru"):
        _controls.switch(section, "bidirectional")
        _controls.choose(section, "pooling")
        _controls.number(section, "layers", step=1)
    _controls.number(section, "dropout", step=0.05, format="%.2f")


def _loss_settings() -> None:
    _controls.choose("objective", "mode", options=MODES)
    _controls.choose("objective", "divergence", options=DISTANCES)
    _controls.slide("objective", "temperature", 0.5, 10.0, 0.5)
    _controls.number("objective", "student_ce_weight", step=0.5)
    if _draft.drafted_parts().objective.mode == "joint":
        _controls.number("objective", "teacher_ce_weight", step=0.5)
    _controls.slide("objective", "beta_ramp", 0.0, 1.0, 0.05)


def _teaching_settings() -> None:
    _controls.number("training", "label_share", step=0.05, format="%.2f")
    _controls.switch("training", "transfer")
    _controls.number("training", "augment", step=1)
    _controls.choose("training", "assistant")


def _training_settings() -> None:
    _controls.number("training", "seeds", step=1)
    _controls.switch("training", "baseline")
    _controls.number("training", "learning_rate", step=0.0005, format="%g")
    _controls.number("training", "batch_size", step=16)
    _controls.switch("training", "average_weights")
    _controls.number("training", "seed", step=1)
    _controls.choose("training", "precision")


MORE: Mapping[str, Callable[[], None]] = {
    "Data": _data_controls.data_settings,
    "Teacher": _teacher_settings,
    "Student": _student_settings,
    "Loss": _loss_settings,
    "Teaching": _teaching_settings,
    "Training": _training_settings,
}


def _parameters(role: str, vocabulary: int, classes: int) -> dict[str, int]:
    section = getattr(_draft.drafted_parts(), role)
    table = TEACHER_WIDTHS if role == "teacher" else STUDENT_WIDTHS
    return {size: parameter_count(section.model_copy(update={"size": size}), vocabulary, classes) for size in table}


def _start(profile: Profile | None, usable: bool) -> bool:
    """Start, and what it will do or why it cannot; what is wrong with the data has been said beside them."""
    config = None
    if usable:
        try:
            config = _draft.drafted_config()
        except DistillError as error:
            _looks.show_error(error)
    if config is not None:
        with st.container(key="outlook"):
            _session.read_behind(config, _outlook(config, profile))
    ready = config is not None
    pressed = st.button(
        "Start", type="primary", width="stretch", icon=":material/play_arrow:", key="train.start", disabled=not ready
    )
    if pressed and config is not None:
        _submit(config)
    if ready:
        copy_link(_session.link(), key="train.link")
    _session.keep_draft()
    return ready


def _submit(config: RunConfig) -> None:
    """Starts a run of this person, unless the lab's limits forbid it."""
    try:
        run_id = _session.executor().submit(config, _identity.owner())
    except DistillError as error:
        _looks.show_error(error)
        return
    _session.choose_run(run_id)
    st.session_state["train.started"] = run_id
    st.rerun()


def _outlook(config: RunConfig, profile: Profile | None) -> str:
    """What the run makes of what, and how long that takes."""
    known = profile or estimate.assumed(config.data.name)
    vocabulary, classes = known.vocabulary, len(known.labels)
    teacher = teacher_parameters(config.teacher, vocabulary, classes)
    large = {"file": "a file", "pretrained": config.teacher.model}.get(config.teacher.kind, "")
    if teacher is not None:
        large = _looks.millions(teacher)
    small = _looks.millions(parameter_count(student_model(config), vocabulary, classes))
    expected = sum(estimate.seconds_by_stage(config, profile, _session.store()).values())
    ready = ", teacher ready" if estimate.teacher_is_cached(config, _session.store()) else ""
    return f"**{large} → {small}** parameters  \nabout **{_looks.duration(expected)}**{ready}"


def welcome(ready: bool) -> None:
    """What the lab does, before anything has been trained."""
    _looks.title("Teach a small model")
    st.markdown(
        "A large **teacher** learns to tell texts of one kind from those of another, such as good film reviews from "
        "bad ones. A small **student** then learns from the labels *and* from its teacher's answers, and you watch. "
        "In the end all models answer texts that none of them has seen, beside a twin of the student that learned "
        "**without** the teacher: so you see whether the teacher helped."
    )
    _looks.stage_line(History(), stages_of(_draft.drafted_parts()), over=False)
    with st.container(horizontal_alignment="center"):
        st.space("small")
        first = st.button(
            "Start the first run", type="primary", icon=":material/play_arrow:", key="train.first", disabled=not ready
        )
        st.caption("The choices in the sidebar decide what is trained.")
        if first:
            _submit(_draft.drafted_config())


_router.enter_by_router("pages/train.py")
with st.sidebar:
    startable = settings()
shown = _session.chosen_run()
if shown is None:
    welcome(startable)
else:
    from pages import _run_view  # with its charts, which the first page needs none of

    _session.choose_run(shown)
    if st.session_state.get("train.started") == shown:
        close_sidebar(shown)
    try:
        _run_view.show(shown)
    except DistillError as error:  # its files cannot be read; another can be started
        _looks.show_error(error)
