"""Runs that share a teacher, several at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distill_core import packing
from distill_core.config import RunConfig
from distill_core.errors import DataError
from distill_core.events import RunCancelled, StageStarted
from distill_core.store import Store
from distill_core.worker import work
from tests.runs import config_of, made_rows, write_csv

BETAS = (0, 1, 5)


@dataclass(frozen=True)
class Packed:
    """Three runs of one teacher, the first of which was over before the others began."""

    store: Store
    file: Path
    run_ids: list[str]
    ended: list[str]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    folder = tmp_path_factory.mktemp("packed")
    file, store, ended = write_csv(folder / "reviews.csv", made_rows(64)), Store(folder / "home"), list[str]()
    run_ids = [store.create_run(config_for(file, beta)) for beta in BETAS]
    store.end_run(run_ids[0], RunCancelled())
    packing.run_all(store, run_ids, workers=2, tell=ended.append)
    return Packed(store, file, run_ids, ended)


def config_for(file: Path, beta: float) -> RunConfig:
    return config_of(file, "training.epochs=1", "teacher.epochs=1", f"objective.beta={beta}")


def test_a_run_that_cannot_go_on_leaves_the_others_alone(packed: Packed) -> None:
    assert sorted(packed.ended) == sorted(packed.run_ids)
    states = [packed.store.status(run_id).status for run_id in packed.run_ids]
    assert states == ["cancelled", "finished", "finished"]


def test_a_shared_teacher_is_trained_before_the_runs_begin(packed: Packed) -> None:
    for run_id in packed.run_ids[1:]:
        events, _ = packed.store.read_events(run_id)
        stages = {event.stage: event.cached for _, event in events if isinstance(event, StageStarted)}
        assert stages["finetune"]
        assert not stages["distil"]


def test_packed_students_are_those_of_runs_alone_on_one_core(
    packed: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, before = Store(tmp_path), torch.get_num_threads()
    other = alone.create_run(config_for(packed.file, BETAS[-1]))
    packing.prepare(alone, [other])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    try:
        work(other, alone)
    finally:
        torch.set_num_threads(before)
    weights, expected = (
        load_file(store.run_folder(run_id) / "student.safetensors")
        for store, run_id in ((packed.store, packed.run_ids[-1]), (alone, other))
    )
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())


def test_data_that_cannot_be_read_is_told_before_a_run_begins(store: Store, tmp_path: Path) -> None:
    gone = write_csv(tmp_path / "gone.csv", made_rows(12))
    run_id = store.create_run(config_of(gone))
    gone.unlink()
    with pytest.raises(DataError, match=r"gone\.csv"):
        packing.run_all(store, [run_id], workers=1)
    assert store.status(run_id).status == "queued"
