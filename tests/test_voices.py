"""Which students of one teacher can stand side by side in Compare, and how they are told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill_core.presets import load
from distill_core.store import Store
from pages import _voices


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("DISTILL_HOME", str(tmp_path))
    return Store(tmp_path)


def finished(store: Store, *settings: str, nll: float = 0.5) -> str:
    run_id = store.create_run(load("tiny", settings=settings))
    store.write_result(
        run_id, {"labels": ["bad", "good"], "teacher": {"nll": nll}, "student": {"test_accuracy": 0.75}, "seconds": {}}
    )
    return run_id


def test_only_students_of_the_same_teacher_stand_side_by_side(home: Store) -> None:
    first = finished(home, "objective.beta=1")
    sibling = finished(home, "objective.beta=2", "student.size=S")
    others = [
        finished(home, "teacher.size=S"),
        finished(home, "training.seed=7"),
        finished(home, nll=0.6),
        finished(home, "objective.mode=joint"),
    ]
    runs = [first, sibling, *others]
    assert _voices.companions(first, runs) == [sibling]
    assert _voices.companions(others[-1], runs) == []
    assert _voices.difference_of(first, sibling) == "Size S, β 2"


def test_what_is_known_of_finished_runs_is_not_read_again(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [finished(home, f"objective.beta={beta}") for beta in range(4)]

    def asked() -> list[object]:
        named = [_voices.difference_of(runs[0], other) for other in runs[1:]]
        return [_voices.companions(runs[0], runs), named, [_voices.in_a_line(run_id) for run_id in runs]]

    before = asked()
    for name in ("config", "result"):
        monkeypatch.delattr(Store, name)
    assert asked() == before
