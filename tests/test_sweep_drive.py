"""Sweeps as they are carried out: all cells, none twice, in spite of pauses, kills and failures."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill_core.errors import Interrupted, RunError
from distill_core.events import StageStarted
from distill_core.store import Store
from distill_core.sweep import sweeper
from distill_core.sweep.cells import Cell
from distill_core.sweep.drive import drive
from distill_core.sweep.record import Sweeps
from distill_core.sweep.space import SweepConfig, grid, parse_axis, parse_sweep
from tests.runs import config_of, made_rows, write_csv

pytestmark = pytest.mark.slow
BETAS, TEMPERATURES = "objective.beta=0,1,2", "objective.temperature=1,4"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "reviews.csv", made_rows(64))


def sweep(file: Path, *axes: str, run: tuple[str, ...] = (), **settings: Any) -> SweepConfig:
    base = config_of(file, "training.epochs=1", "teacher.epochs=1", *run)
    return parse_sweep({"base": base, "axes": [parse_axis(axis) for axis in axes], "seeds": 1, **settings})


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def count(cells: list[Cell], state: str) -> int:
    return sum(cell.state == state for cell in cells)


def test_a_grid_is_carried_out_with_one_teacher_and_one_run_for_each_outcome(store: Store, file: Path) -> None:
    sweeps = Sweeps(store)
    config = sweep(file, BETAS, TEMPERATURES)
    heard = list[Cell]()
    sweep_id = sweeps.create(config)
    assert drive(sweep_id, sweeps, heard.append) == "finished"
    cells = sweeps.cells(sweep_id)
    assert [cell.values for cell in cells] == grid(config)
    assert {cell.state for cell in cells} == {"finished"}
    without_teacher = [cell for cell in cells if cell.values["objective.beta"] == 0]
    assert len({cell.run_id for cell in without_teacher}) == 1
    assert len({cell.run_id for cell in cells}) == 5 == len(store.run_ids())
    for cell in cells:
        assert cell.run_id is not None
        result = store.result(cell.run_id)
        assert result is not None
        assert cell.measured is not None
        assert cell.measured.accuracy == pytest.approx(result["student"]["test_accuracy"])
        if cell.values["objective.beta"] > 0:
            objective = store.config(cell.run_id).objective
            assert (objective.beta, objective.temperature) == tuple(cell.values.values())
        assert store.status(cell.run_id).sweep == sweep_id
    assert {cell.number for cell in heard if cell.state == "finished"} == set(range(6))
    assert len(list((store.home / "teachers").iterdir())) == 1
    status = sweeps.status(sweep_id)
    assert (status.status, status.error) == ("finished", None)
    assert 0 < status.worked < 120


def test_one_seed_more_gives_error_bars(store: Store, file: Path) -> None:
    sweeps = Sweeps(store)
    sweep_id = sweeps.create(sweep(file, "objective.beta=1", seeds=2))
    drive(sweep_id, sweeps)
    (cell,) = sweeps.cells(sweep_id)
    assert cell.measured is not None
    assert len(cell.measured.accuracies) == len(cell.measured.baselines) == len(cell.measured.right) == 2
    assert cell.measured.deviation is not None


def test_a_killed_sweep_goes_on_with_exactly_the_missing_cells(store: Store, file: Path) -> None:
    """Driver and workers are killed, as by a machine that loses its power."""
    sweeps = Sweeps(store)
    long = ("training.epochs=150", "training.baseline=false")
    sweep_id = sweeper.submit(store, sweep(file, "objective.beta=1,2,3,4,5", run=long))
    until(lambda: count(sweeps.cells(sweep_id), "finished") >= 1 and count(sweeps.cells(sweep_id), "running") >= 1)
    driver = sweeps.status(sweep_id).pid
    assert driver is not None
    os.killpg(driver, signal.SIGKILL)
    until(lambda: sweeps.status(sweep_id).status == "interrupted")
    before = {cell.number: cell for cell in sweeps.cells(sweep_id)}
    done = {cell.run_id for cell in before.values() if cell.state == "finished"}
    started = {cell.run_id for cell in before.values() if cell.run_id is not None}
    written = {run_id: (store.run_folder(run_id) / "events.jsonl").read_bytes() for run_id in done if run_id}
    assert drive(sweep_id, sweeps) == "finished"
    cells = sweeps.cells(sweep_id)
    assert sorted(cell.values["objective.beta"] for cell in cells) == [1, 2, 3, 4, 5]
    assert count(cells, "finished") == 5
    assert all((store.run_folder(run_id) / "events.jsonl").read_bytes() == text for run_id, text in written.items())
    assert started <= {cell.run_id for cell in cells}, "those that had begun go on with their own run"
    assert len(store.run_ids()) == 5


def test_a_driver_that_dies_takes_its_workers_along(store: Store, file: Path) -> None:
    sweeps = Sweeps(store)
    config = sweep(file, "objective.beta=1,2", run=("training.epochs=500", "training.baseline=false"))
    sweep_id = sweeper.submit(store, config)
    until(lambda: any(store.status(run_id).pid for run_id in store.run_ids()))
    driver = sweeps.status(sweep_id).pid
    assert driver is not None
    os.kill(driver, signal.SIGKILL)
    until(lambda: not any(store.is_claimed(run_id) for run_id in store.run_ids()), 20)


def test_a_paused_sweep_keeps_what_it_has_and_goes_on(store: Store, file: Path) -> None:
    sweeps = Sweeps(store)
    long = ("training.epochs=150", "training.baseline=false")
    sweep_id = sweeper.submit(store, sweep(file, "objective.beta=1,2,3,4", run=long))
    until(lambda: count(sweeps.cells(sweep_id), "finished") >= 1)
    sweeper.pause(store, sweep_id)
    until(lambda: sweeps.status(sweep_id).status == "paused", 20)
    done = count(sweeps.cells(sweep_id), "finished")
    assert not any(store.is_claimed(run_id) for run_id in store.run_ids())
    with pytest.raises(RunError, match="must be at work to pause"):
        sweeper.pause(store, sweep_id)
    sweeper.resume(store, sweep_id)
    until(lambda: sweeps.status(sweep_id).status == "finished")
    assert done < 4 == count(sweeps.cells(sweep_id), "finished")


def test_a_cancelled_sweep_ends_and_keeps_its_cells(store: Store, file: Path) -> None:
    sweeps = Sweeps(store)
    sweep_id = sweeper.submit(store, sweep(file, "objective.beta=1,2,3,4", run=("training.epochs=300",)))
    until(lambda: count(sweeps.cells(sweep_id), "running") >= 1)
    sweeper.cancel(store, sweep_id)
    until(lambda: sweeps.status(sweep_id).status == "cancelled", 20)
    assert sweeps.cells(sweep_id)
    assert not any(store.is_claimed(run_id) for run_id in store.run_ids())


def test_an_interrupted_driver_leaves_a_sweep_that_goes_on(store: Store, file: Path) -> None:
    sweeps, stop = Sweeps(store), threading.Event()

    def heed() -> None:
        if stop.is_set():
            raise Interrupted

    sweep_id = sweeps.create(sweep(file, "objective.beta=1,2,3"))
    state = drive(sweep_id, sweeps, lambda cell: stop.set() if cell.state == "finished" else None, heed)
    assert state == "interrupted"
    done = count(sweeps.cells(sweep_id), "finished")
    assert drive(sweep_id, sweeps) == "finished"
    assert 1 <= done <= count(sweeps.cells(sweep_id), "finished") == 3


def test_more_values_make_more_cells_and_leave_the_others(store: Store, file: Path) -> None:
    sweeps = Sweeps(store)
    sweep_id = sweeps.create(sweep(file, "objective.beta=1"))
    drive(sweep_id, sweeps)
    (first,) = sweeps.cells(sweep_id)
    with pytest.raises(RunError, match="must keep 1"):
        sweeper.extended(store, sweep_id, sweep(file, "objective.beta=2"))
    sweeper.extended(store, sweep_id, sweep(file, "objective.beta=1,2"))
    drive(sweep_id, sweeps)
    cells = sweeps.cells(sweep_id)
    assert cells[0] == first
    assert [cell.values["objective.beta"] for cell in cells] == [1, 2]


def test_a_cell_that_fails_says_why_and_leaves_the_others_alone(store: Store, file: Path) -> None:
    sweeps = Sweeps(store)
    sweep_id = sweeps.create(sweep(file, "student.word_vectors=random,glove"))
    assert drive(sweep_id, sweeps) == "finished"
    good, bad = sweeps.cells(sweep_id)
    assert (good.state, bad.state) == ("finished", "failed")
    assert bad.error is not None
    assert "glove" in bad.error


def test_a_sweep_whose_cells_all_fail_has_failed_itself(store: Store, file: Path) -> None:
    sweeps = Sweeps(store)
    config = sweep(file, "objective.beta=1,2")
    file.unlink()
    sweep_id = sweeps.create(config)
    assert drive(sweep_id, sweeps) == "failed"
    error = sweeps.status(sweep_id).error
    assert error is not None
    assert "reviews.csv" in error


def test_teachers_of_an_axis_are_each_trained_once(store: Store, file: Path) -> None:
    sweeps = Sweeps(store)
    sweep_id = sweeps.create(sweep(file, "teacher.size=XS,S", "objective.beta=1,2"))
    drive(sweep_id, sweeps)
    trained = Counter[bool]()
    for run_id in store.run_ids():
        events = [event for _, event in store.read_events(run_id)[0] if isinstance(event, StageStarted)]
        trained.update(event.cached for event in events if event.stage == "finetune")
    assert trained == {True: 4}
    assert len(list((store.home / "teachers").iterdir())) == 2


def test_hopeless_cells_are_stopped_and_called_so(store: Store, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps = Sweeps(store)
    monkeypatch.setattr("distill_core.sweep.study.Study.is_hopeless", lambda self, number, epoch, accuracy: number == 1)
    long = ("training.epochs=300", "training.baseline=false")
    sweep_id = sweeps.create(sweep(file, "objective.beta=1,2", run=long, pruner="median"))
    assert drive(sweep_id, sweeps) == "finished"
    assert [cell.state for cell in sweeps.cells(sweep_id)] == ["finished", "pruned"]


def test_two_drivers_do_not_share_a_sweep(store: Store, file: Path) -> None:
    sweeps = Sweeps(store)
    sweep_id = sweeps.create(sweep(file, "objective.beta=1"))
    with sweeps.claim(sweep_id), pytest.raises(RunError, match="another process drives"):
        drive(sweep_id, sweeps)
