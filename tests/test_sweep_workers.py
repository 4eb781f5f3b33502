"""Runs that share a teacher and baselines, one a core."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distill_core.config import RunConfig
from distill_core.errors import DataError
from distill_core.events import Epoch, RunCancelled, StageStarted
from distill_core.store import Store
from distill_core.sweep.chores import job_without_run, prepare, train_ahead
from distill_core.sweep.workers import Ended, LocalWorkers
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
    prepare(store, [store.config(run_ids[0])])
    run_all(store, run_ids, ended)
    return Packed(store, file, run_ids, ended)


def run_all(store: Store, run_ids: list[str], ended: list[str], *, help: bool = False) -> None:
    """Has two processes take the runs to their end; one that is free may help the other."""
    workers = LocalWorkers(store, slots=2)
    try:
        for run_id in run_ids:
            workers.submit(run_id)
        deadline = time.monotonic() + 60
        while len(ended) < len(run_ids):
            assert time.monotonic() < deadline
            if help:
                workers.help()
            found = workers.ended(1)
            assert not any(one.lost for one in found)
            ended.extend(one.run_id for one in found)
    finally:
        workers.close()


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
    prepare(alone, [alone.config(other)])
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


def test_runs_that_differ_in_beta_share_one_baseline(packed: Packed) -> None:
    kept = [path.name for path in (packed.store.home / "baselines").iterdir()]
    assert len(kept) == 1
    first, second = (
        load_file(packed.store.run_folder(run_id) / "baseline.safetensors") for run_id in packed.run_ids[1:]
    )
    assert all(torch.equal(first[name], tensor) for name, tensor in second.items())


def test_a_free_process_trains_the_last_seeds_of_a_run_that_another_works_on(store: Store, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "reviews.csv", made_rows(128))
    config = config_of(file, "training.epochs=16", "training.seeds=4", "teacher.epochs=1")
    alone, helped = store.create_run(config), store.create_run(config)
    prepare(store, [config])
    run_all(store, [alone], [])
    run_all(store, [helped], [], help=True)
    told = [(event.seed, event.epoch) for event in epochs_of(store, helped)]
    assert sorted(told) == sorted((event.seed, event.epoch) for event in epochs_of(store, alone))
    assert told.index((config.training.seed + 3, 1)) < told.index((config.training.seed + 1, 16))
    first, second = store.result(alone), store.result(helped)
    assert first is not None
    assert second is not None
    assert second["seeds"] == first["seeds"]


def test_nobody_helps_a_run_that_has_ended(store: Store, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "reviews.csv", made_rows(64))
    run_id = store.create_run(config_of(file, "training.seeds=3", "training.epochs=1"))
    prepare(store, [store.config(run_id)])
    compute = job_without_run(store.config(run_id), store, lambda: None).context.compute
    checkpoints = store.checkpoints(run_id, compute.name)
    with store.claim(run_id):
        store.update_status(run_id, status="running")
        store.end_run(run_id, RunCancelled())
    train_ahead(store.home, run_id)
    with checkpoints.alone(None) as mine:
        assert not mine
    assert not checkpoints.folder.exists()


def test_a_run_that_is_deleted_does_not_keep_others_from_being_helped(store: Store, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "reviews.csv", made_rows(64))
    run_id = store.create_run(config_of(file, "training.seeds=3", "training.epochs=1"))
    workers = LocalWorkers(store, slots=2)
    try:
        workers.submit(run_id)
        store.end_run(run_id, RunCancelled())
        store.delete_run(run_id)
        workers.help()
        assert [one.run_id for one in until_ended(workers)] == [run_id]
    finally:
        workers.close()


def epochs_of(store: Store, run_id: str) -> list[Epoch]:
    """Epochs of students of further seeds."""
    events, _ = store.read_events(run_id)
    return [event for _, event in events if isinstance(event, Epoch) and event.role == "student"]


def test_data_that_cannot_be_read_is_told_before_a_run_begins(store: Store, tmp_path: Path) -> None:
    gone = write_csv(tmp_path / "gone.csv", made_rows(12))
    config = config_of(gone)
    gone.unlink()
    with pytest.raises(DataError, match=r"gone\.csv"):
        prepare(store, [config])


@contextmanager
def one_at_work(store: Store, folder: Path) -> Iterator[tuple[LocalWorkers, str]]:
    """A process that has been given a long run."""
    file = write_csv(folder / "reviews.csv", made_rows(64))
    run_id = store.create_run(config_of(file, "training.epochs=400", "training.baseline=false"))
    prepare(store, [store.config(run_id)])
    workers = LocalWorkers(store, slots=1)
    try:
        workers.submit(run_id)
        yield workers, run_id
    finally:
        workers.close()


def test_runs_of_killed_processes_are_lost_and_can_be_submitted_again(store: Store, tmp_path: Path) -> None:
    with one_at_work(store, tmp_path) as (workers, run_id):
        kill_once_at_work(store, run_id)
        (one,) = until_ended(workers)
        assert one.run_id == run_id
        assert one.lost
        workers.submit(run_id)
        wait_for_pid(store, run_id)
        workers.cancel(run_id)
        (one,) = until_ended(workers)
        assert (one.lost, store.status(run_id).status) == (None, "cancelled")


def test_stopped_runs_can_go_on(store: Store, tmp_path: Path) -> None:
    with one_at_work(store, tmp_path) as (workers, run_id):
        wait_for_pid(store, run_id)
        workers.stop()
        assert store.status(run_id).status == "interrupted"


def wait_for_pid(store: Store, run_id: str) -> int:
    """The process that works on a run, once its student learns."""
    deadline = time.monotonic() + 60
    while True:
        events, _ = store.read_events(run_id)
        pid = store.status(run_id).pid
        if pid is not None and any(isinstance(event, StageStarted) and event.stage == "distil" for _, event in events):
            return pid
        assert time.monotonic() < deadline
        time.sleep(0.05)


def kill_once_at_work(store: Store, run_id: str) -> None:
    os.kill(wait_for_pid(store, run_id), signal.SIGKILL)


def until_ended(workers: LocalWorkers) -> list[Ended]:
    deadline = time.monotonic() + 60
    while not (found := workers.ended(1)):
        assert time.monotonic() < deadline
    return found
