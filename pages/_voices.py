"""Who answers in Compare: a teacher, its student, the student alone, and up to three more students of that teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from distill_core import device
from distill_core.analysis.predict import Predictor
from distill_core.config import RunConfig
from distill_core.status import short
from distill_core.store import Store
from pages import _comparison, _figures, _looks, _session
from pages._run_actions import file_names

MOST_BESIDE = 3
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
    notes = _notes([run_id, *beside], store)
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


def _notes(run_ids: Sequence[str], store: Store) -> dict[str, str]:
    """For each run the settings in which it differs from the others."""
    configs = [store.config(run_id) for run_id in run_ids]
    table = _comparison.settings_table(run_ids, configs, file_names())
    # What a title says in brackets explains it; there is no room for that here.
    return {
        run_id: ", ".join(f"{title.partition(' (')[0]} {table.at[title, run_id]}" for title in table.index)
        for run_id in run_ids
    }


def companions(run_id: str, finished: Sequence[str]) -> list[str]:
    """Finished runs whose student learned from the same teacher, latest first."""
    return [other for other in finished if other != run_id and _same_teacher(run_id, other, _session.store())]


def _same_teacher(one: str, other: str, store: Store) -> bool:
    """Whether two runs learned from one teacher: the same settings, data and chance, and so the same answers."""
    configs = [store.config(run_id) for run_id in (one, other)]
    results = [store.result(run_id) for run_id in (one, other)]
    if any(config.objective.mode == "joint" for config in configs):
        return False  # each has a teacher that has learned with it
    teachers = [None if result is None else (result["labels"], result["teacher"].get("nll")) for result in results]
    return _teaching(configs[0]) == _teaching(configs[1]) and teachers[0] == teachers[1]


def _teaching(config: RunConfig) -> tuple[Any, ...]:
    return config.data, config.teacher, config.training.seed


def difference_of(run_id: str, other: str) -> str:
    """The settings in which another run differs, in a few words."""
    return _notes([run_id, other], _session.store())[other] or "the same settings"
