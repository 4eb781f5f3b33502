"""The sidebar of the page Sweep: a question or axes of one's own, how cells are chosen, what that takes, and Start."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import streamlit as st
from pydantic import ValidationError

from distill_core.data.sources import describe
from distill_core.errors import DistillError
from distill_core.store import Store
from distill_core.sweep import answers, sweeper
from distill_core.sweep.outlook import Outlook, outlook
from distill_core.sweep.questions import QUESTIONS
from distill_core.sweep.space import Axis, SweepConfig, parse_sweep
from pages import _draft, _identity, _looks, _session, _sweep_axes
from pages._sweep_choice import choose_sweep

OWN = "own"
MOST_AXES = 4
SAMPLERS = {
    "grid": "all combinations",
    "random": "at random",
    "tpe": "where accuracy was high (TPE)",
    "nsga2": "best trades of accuracy, size and speed (NSGA-II)",
}
PRUNERS = {"none": "no", "median": "worse than the median", "hyperband": "Hyperband"}
PLACES = {"local": "This machine", "ray": "Ray cluster"}
FAR = "Only who sits at the lab's machine can use a cluster: its nodes run what the lab sends and are trusted."


def drafted_sweep() -> SweepConfig | None:
    """The sidebar down to Start; returns the sweep that it shows, None while something about it is wrong."""
    if "sweep.axes" not in st.session_state:
        take(_shown_last())
    _ask()
    config = None
    try:
        axes = _choose_axes()
        _choose_seeds()
        with st.expander("More"):
            _choose_cells()
            _choose_place()
        config, ahead = _prepared(json.dumps(_settings(axes)), _session.store().home)
        st.session_state["sweep.kept"] = config.model_dump(mode="json", exclude={"base"})
        _session.keep_draft()
        st.markdown(f"**{in_words(config)}** · about **{_looks.duration(ahead.seconds)}**", help=_effort(ahead))
    except DistillError as error:
        _looks.show_error(error)
    pressed = st.button(
        "Start the sweep",
        type="primary",
        width="stretch",
        icon=":material/play_arrow:",
        key="sweep.start",
        disabled=config is None,
    )
    if config is not None:
        st.caption(_common(config))
        if pressed:
            begin(config)
    return config


def _shown_last() -> SweepConfig:
    """What this browser's sidebar showed before a refresh; else the first ready question."""
    kept = st.session_state.get("sweep.kept")
    with suppress(DistillError, ValidationError):
        if kept is not None:
            return SweepConfig.model_validate(kept)
    return next(iter(QUESTIONS.values())).config


def begin(config: SweepConfig) -> None:
    """Starts a sweep of this person and shows it."""
    try:
        sweep_id = sweeper.submit(_session.store(), config, _identity.owner())
    except DistillError as error:
        _looks.show_error(error)
        return
    choose_sweep(sweep_id)
    st.session_state["sweep.started"] = sweep_id
    st.rerun()


def take(config: SweepConfig) -> None:
    """Puts a sweep's question, axes and choices into the sidebar, whose controls must not have been drawn yet."""
    state = st.session_state
    state["sweep.question"] = config.question if config.question in QUESTIONS else OWN
    state["sweep.axes"] = [axis.field for axis in config.axes]
    for axis in config.axes:
        state[_key(axis.field)] = _sweep_axes.words(axis)
    state["sweep.seeds"], state["sweep.sampler"], state["sweep.pruner"] = config.seeds, config.sampler, config.pruner
    state["sweep.cells"] = config.cells or config.planned
    state["sweep.between"] = any(not axis.values for axis in config.axes)
    state["sweep.executor"], state["sweep.address"] = config.executor, config.address or ""


def in_words(config: SweepConfig) -> str:
    """How much a sweep is, as in "20 cells × 3 seeds"."""
    cells, seeds = config.planned, config.seeds
    return f"{cells:,} cell{'s' * (cells != 1)} × {seeds} seed{'s' * (seeds != 1)}"


def _common(config: SweepConfig) -> str:
    """What all cells have in common, in a line."""
    base, varied = config.base, {axis.field for axis in config.axes}
    teacher = {"pretrained": base.teacher.model, "file": "a file"}.get(base.teacher.kind, f"LSTM {base.teacher.size}")
    kind = "" if "student.kind" in varied else f"{answers.WORDS['student.kind'][base.student.kind]} "
    texts = base.data.train_limit
    said = {
        "data.name": describe(base.data).title + ("" if texts is None else f", {texts:,} training texts"),
        "teacher.size": f"teacher {teacher}",
        "student.size": f"student {kind}{base.student.size}",
        "training.epochs": f"{base.training.epochs} epochs",
        "objective.beta": f"β = {base.objective.beta:g}",
        "objective.temperature": f"temperature {base.objective.temperature:g}",
    }
    return "All cells: " + " · ".join(words for name, words in said.items() if name not in varied)


def _effort(ahead: Outlook) -> str:
    same = "" if ahead.runs == ahead.cells else f", of which {ahead.runs:,} differ in their outcome"
    return (
        f"{ahead.cells:,} cells{same}; {ahead.trainings:,} trainings of students and baselines. The time is learned "
        "from past runs on this machine; a teacher that is ready takes none."
    )


@st.cache_data(ttl=30, max_entries=64, show_spinner=False)
def _prepared(settings: str, home: Path) -> tuple[SweepConfig, Outlook]:
    """The sweep, with all its cells checked, and what it takes. Raises ConfigError."""
    config = parse_sweep(json.loads(settings))
    return config, outlook(config, Store(home))


def _settings(axes: Sequence[Axis]) -> dict[str, Any]:
    state = st.session_state
    question = None if state["sweep.question"] == OWN else state["sweep.question"]
    base = QUESTIONS[question].config.base if question else _draft.drafted_config()
    grid = state["sweep.sampler"] == "grid"
    near = _identity.is_local()  # asked again: a browser can send what a control that is off would not
    return {
        "question": question,
        "base": base.model_dump(mode="json"),
        "axes": [axis.model_dump(mode="json") for axis in axes],
        "seeds": state["sweep.seeds"],
        "sampler": state["sweep.sampler"],
        "cells": None if grid else state["sweep.cells"],
        "pruner": state["sweep.pruner"],
        "executor": state["sweep.executor"] if near else "local",
        "address": (near and state.get("sweep.address", "").strip()) or None,
    }


# The controls


def _ask() -> None:
    question = st.selectbox(
        "Question",
        [*QUESTIONS, OWN],
        format_func=lambda name: QUESTIONS[name].title if name in QUESTIONS else "Your own",
        help="A sweep trains the same student again and again with a few settings changed. Each ready question comes "
        "with the settings that answer it.",
        key="sweep.question",
        on_change=_take_question,
        persist_state="session",
    )
    if question in QUESTIONS:
        st.caption(QUESTIONS[question].description)
    else:
        st.caption("All that does not vary is as set on the page Train.")


def _take_question() -> None:
    asked = QUESTIONS.get(st.session_state["sweep.question"])
    if asked is not None:
        take(asked.config)


def _choose_axes() -> list[Axis]:
    """What varies, and over which values. Raises ConfigError."""
    chosen = st.session_state["sweep.axes"]
    names = st.multiselect(
        "What varies",
        list(dict.fromkeys([*_sweep_axes.SETTINGS, *chosen])),
        format_func=lambda name: _sweep_axes.title([name]),
        max_selections=MOST_AXES,
        placeholder="Choose two to four settings",
        help="Each combination of their values is a cell: a run of its own that can be opened and compared.",
        key="sweep.axes",
        persist_state="session",
    )
    ranged = st.session_state.get("sweep.sampler") != "grid" and bool(st.session_state.get("sweep.between"))
    return [_sweep_axes.axis(name, _choose_values(name), ranged=ranged) for name in names]


def _choose_values(name: str) -> list[str]:
    known, key, words = _sweep_axes.setting(name), _key(name), _sweep_axes.title([name])
    suggested = [known.said(value) for value in known.values]
    chosen = st.session_state.setdefault(key, suggested)
    typed: list[str] = st.multiselect(
        words[0].upper() + words[1:] if words.isascii() else words,
        list(dict.fromkeys([*suggested, *chosen])),
        accept_new_options=known.numeric,
        placeholder="Choose or type values" if known.numeric else "Choose values",
        key=key,
        persist_state="session",
    )
    return typed


def _key(name: str) -> str:
    return f"sweep.values.{name}"


def _choose_seeds() -> None:
    st.number_input(
        "Seeds",
        min_value=1,
        max_value=50,
        step=1,
        help="Trainings of student and baseline in each cell, from different starts. More make the error bars shorter "
        "and take as many times longer.",
        key="sweep.seeds",
        persist_state="session",
    )


def _choose_cells() -> None:
    """How cells are chosen, and whether some may be stopped early."""
    sampler = st.selectbox(
        "Cells to try",
        list(SAMPLERS),
        format_func=SAMPLERS.__getitem__,
        help=SweepConfig.model_fields["sampler"].description,
        key="sweep.sampler",
        persist_state="session",
    )
    if sampler != "grid":
        st.number_input("Number of cells", 1, 10_000, step=10, key="sweep.cells", persist_state="session")
        st.toggle(
            "Values in between, too",
            help="Tries all numbers between the least and the largest value of each axis, and not only those listed.",
            key="sweep.between",
            persist_state="session",
        )
    st.selectbox(
        "Stop hopeless cells",
        list(PRUNERS),
        format_func=PRUNERS.__getitem__,
        help=SweepConfig.model_fields["pruner"].description,
        key="sweep.pruner",
        persist_state="session",
    )


def _choose_place() -> None:
    near = _identity.is_local()
    st.selectbox(
        "Where it works",
        list(PLACES),
        format_func=PLACES.__getitem__,
        disabled=not near,
        help="Cells are shared out among the cores of this machine, or of all machines of a Ray cluster."
        if near
        else FAR,
        key="sweep.executor",
        persist_state="session",
    )
    if st.session_state["sweep.executor"] == "ray":
        st.text_input(
            "Address of the cluster",
            placeholder="empty starts one on this machine",
            disabled=not near,
            help="As in 10.0.0.5:6379 or ray://10.0.0.5:10001.",
            key="sweep.address",
            persist_state="session",
        )
