"""Who answers in Compare: a teacher, its student, the student alone, and up to three more students of that teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import streamlit as st

from distill_core import comparison, device
from distill_core.analysis.predict import Predictor
from distill_core.data.sources import describe
from distill_core.status import short
from distill_core.store import Store
from pages import _comparison, _figures, _looks, _session
from pages._run_actions import file_names

MOST_BESIDE = 3
KNOWN_RUNS = 20_000
"""Finished runs of which a few facts are kept in memory: they do not change, and a sweep leaves thousands."""
FURTHER = ("#E69F00", "#6A3D9A", "#A65628")
"""Colours of further students: none that a role or a loss has."""


@dataclass(frozen=True)
class Voice:
    """A model that answers. `entry` is what its run's result says of it, `note` what sets it apart.

    `further` marks the students of further runs.
    """

    run_id: str
    role: str
    name: str
    colour: str
    entry: Mapping[str, Any]
    note: str = ""
    further: bool = False

    @property
    def cost(self) -> str:
        """Its time a text, its size and its parameters."""
        entry = self.entry
        return (
            f"{entry['latency_ms']:.2f} ms a text · {_looks.millions(entry['bytes'])}B · "
            f"{_looks.millions(entry['parameters'])} parameters"
        )


def in_a_line(run_id: str) -> str:
    """A finished run: what taught what, on which data, and what the student is worth."""
    return _in_a_line(_session.store().home, run_id)


@lru_cache(maxsize=KNOWN_RUNS)
def _in_a_line(home: Path, run_id: str) -> str:
    store = Store(home)
    config, result = store.config(run_id), store.result(run_id)
    assert result is not None
    return (
        f"{short(run_id)} · {describe(config.data).title} · {_looks.models(config)} · "
        f"β {config.objective.beta:g} · student {100 * result['student']['test_accuracy']:.1f} %"
    )


@st.cache_resource(max_entries=16, show_spinner="Loading the models…")
def predictor_of(home: str, run_id: str, roles: tuple[str, ...] | None) -> Predictor:
    """The models of a run, read once."""
    return Predictor.load(_session.store(), run_id, roles)


def predictor(run_id: str, further: bool = False) -> Predictor:
    """The same for the lab's own home folder, to be asked on one core: many people type, and a training may run.

    Args:
        further: whether the run stands beside another, whose teacher is its own too: then its student is enough.
    """
    device.use_one_core()
    return predictor_of(str(_session.store().home), run_id, ("student",) if further else None)


def voices(run_id: str, beside: Sequence[str]) -> list[Voice]:
    """All who answer, the teacher first, where it can be asked.

    Args:
        beside: further runs, whose students answer too.
    """
    store = _session.store()
    result, there = store.result(run_id), predictor(run_id).readers
    assert result is not None
    names = {"teacher": "Teacher", "student": "Student", "baseline": "Student alone"}
    notes = _notes([run_id, *beside], store, file_names())
    found = [
        Voice(run_id, role, name, _figures.COLOURS[role], result[role], notes[run_id] if role == "student" else "")
        for role, name in names.items()
        if role in there
    ]
    for number, other in enumerate(beside):
        own = store.result(other)
        assert own is not None
        found.append(
            Voice(other, "student", f"Student {short(other)}", FURTHER[number], own["student"], notes[other], True)
        )
    return found


def _notes(run_ids: Sequence[str], store: Store, files: Mapping[str, str]) -> dict[str, str]:
    """For each run the settings in which it differs from the others."""
    configs = [store.config(run_id) for run_id in run_ids]
    titles, found = comparison.setting_titles(), comparison.differing_settings(configs)
    # What a title says in brackets explains it; there is no room for that here.
    names = {path: titles[path].partition(" (")[0] for path in found}
    return {
        run_id: ", ".join(f"{names[path]} {_comparison.said(values[number], files)}" for path, values in found.items())
        for number, run_id in enumerate(run_ids)
    }


def companions(run_id: str, finished: Sequence[str]) -> list[str]:
    """Finished runs whose student learned from the same teacher, latest first."""
    home = _session.store().home
    teacher = _teacher_of(home, run_id)
    if teacher is None:
        return []
    return [other for other in finished if other != run_id and _teacher_of(home, other) == teacher]


@lru_cache(maxsize=KNOWN_RUNS)
def _teacher_of(home: Path, run_id: str) -> str | None:
    """What decides the teacher of a finished run, and its worth; None for one that learned with its student."""
    store = Store(home)
    config, result = store.config(run_id), store.result(run_id)
    if config.objective.mode == "joint":
        return None
    settings = config.model_dump_json(include={"data": True, "teacher": True, "training": {"seed"}})
    return settings if result is None else f"{settings} {result['labels']} {result['teacher'].get('nll')}"


def difference_of(run_id: str, other: str) -> str:
    """The settings in which another run differs, in a few words."""
    return _difference(_session.store().home, run_id, other, tuple(file_names().items()))


@lru_cache(maxsize=KNOWN_RUNS)
def _difference(home: Path, run_id: str, other: str, files: tuple[tuple[str, str], ...]) -> str:
    return _notes([run_id, other], Store(home), dict(files))[other] or "the same settings"
