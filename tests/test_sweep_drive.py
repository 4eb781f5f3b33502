"""Sweeps as they are carried out: all cells, none twice, in spite of pauses, kills and failures."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from distill_core.errors import DataError, RunError
from distill_core.events import StageStarted
from distill_core.store import Store
from distill_core.sweep import sweeper
from distill_core.sweep.cells import Cell
from distill_core.sweep.drive import common_error, drive
from distill_core.sweep.record import Sweeps
from distill_core.sweep.space import SweepConfig, grid, parse_axis, parse_sweep
from tests.runs import config_of, made_rows, write_csv

pytestmark = pytest.mark.slow
LONG = ("training.epochs=60", "training.baseline=false")


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


def count(cells: Sequence[Cell], state: str) -> int:
    return sum(cell.state == state for cell in cells)


def test_a_grid_is_carried_out_with_one_teacher_and_one_run_for_each_outcome(store: Store, file: Path) -> None:
    sweeps = Sweeps(store)
    config = sweep(file, "objective.beta=0,1", "objective.temperature=1,4", seeds=2)
    heard = list[Cell]()
    sweep_id = sweeps.create(config)
    assert drive(sweep_id, sweeps, heard.append) == "finished"
    cells = sweeps.cells(sweep_id)
    assert [cell.values for cell in cells] == grid(config)
    assert {cell.state for cell in cells} == {"finished"}
    assert len({cell.run_id for cell in cells if cell.values["objective.beta"] == 0}) == 1
    assert len({cell.run_id for cell in cells}) == 3 == len(store.run_ids())
    for cell in cells:
        assert cell.run_id is not None
        result = store.result(cell.run_id)
        assert result is not None
        assert cell.measured is not None
        assert list(cell.measured.accuracies) == result["seeds"]["student"]["values"]
        assert len(cell.measured.baselines) == len(cell.measured.right) == 2
        assert store.config(cell.run_id).objective.beta == cell.values["objective.beta"]
        assert store.status(cell.run_id).sweep == sweep_id
    assert {cell.number for cell in heard if cell.state == "finished"} == set(range(4))
    assert len(list((store.home / "teachers").iterdir())) == 1
    assert len(list((store.home / "baselines").iterdir())) == 2
    status = sweeps.status(sweep_id)
    assert (status.status, status.error) == ("finished", None)
    assert status.worked > 0


def test_a_killed_sweep_goes_on_with_exactly_the_missing_cells(store: Store, file: Path) -> None:
    """Its driver is killed; its workers notice."""
    sweeps = Sweeps(store)
    sweep_id = sweeper.submit(store, sweep(file, "objective.beta=1,2,3,4", run=LONG))
    until(lambda: count(sweeps.cells(sweep_id), "finished") >= 1 and count(sweeps.cells(sweep_id), "running") >= 1)
    driver = sweeps.status(sweep_id).pid
    assert driver is not None
    os.kill(driver, signal.SIGKILL)
    until(lambda: sweeps.status(sweep_id).status == "interrupted")
    until(lambda: not any(store.is_claimed(run_id) for run_id in store.run_ids()), 20)
    before = sweeps.cells(sweep_id)
    done = [cell for cell in before if cell.state == "finished"]
    started = {cell.run_id for cell in before}
    written = {cell.run_id: (store.run_folder(str(cell.run_id)) / "events.jsonl").read_bytes() for cell in done}
    assert drive(sweep_id, sweeps) == "finished"
    cells = sweeps.cells(sweep_id)
    assert sorted(cell.values["objective.beta"] for cell in cells) == [1, 2, 3, 4]
    assert count(cells, "finished") == 4
    assert all((store.run_folder(str(run)) / "events.jsonl").read_bytes() == text for run, text in written.items())
    assert started <= {cell.run_id for cell in cells}, "those that had begun go on with their own run"
    assert len(store.run_ids()) == 4


def test_a_paused_sweep_goes_on_and_takes_more_values(store: Store, file: Path) -> None:
    sweeps = Sweeps(store)
    sweep_id = sweeper.submit(store, sweep(file, "objective.beta=1,2,3", run=LONG))
    with pytest.raises(RunError, match="must be at rest to be resumed"):
        sweeper.resume(store, sweep_id)
    until(lambda: count(sweeps.cells(sweep_id), "finished") >= 1)
    sweeper.pause(store, sweep_id)
    until(lambda: sweeps.status(sweep_id).status == "paused", 20)
    assert count(sweeps.cells(sweep_id), "finished") < 3
    assert not any(store.is_claimed(run_id) for run_id in store.run_ids())
    with pytest.raises(RunError, match="must be at work to pause"):
        sweeper.pause(store, sweep_id)
    with pytest.raises(RunError, match="must keep 1"):
        sweeper.extended(store, sweep_id, sweep(file, "objective.beta=2,3,4", run=LONG))
    sweeper.extend(store, sweep_id, sweep(file, "objective.beta=1,2,3,4", run=LONG))
    until(lambda: sweeps.status(sweep_id).status == "finished")
    cells = sweeps.cells(sweep_id)
    assert [cell.values["objective.beta"] for cell in cells if cell.state == "finished"] == [1, 2, 3, 4]


def test_a_cancelled_sweep_ends_and_keeps_its_cells(store: Store, file: Path) -> None:
    sweeps = Sweeps(store)
    sweep_id = sweeper.submit(store, sweep(file, "objective.beta=1,2,3", run=("training.epochs=400",)))
    until(lambda: any(store.is_claimed(run_id) for run_id in store.run_ids()))
    sweeper.cancel(store, sweep_id)
    until(lambda: sweeps.status(sweep_id).status == "cancelled", 20)
    assert sweeps.cells(sweep_id)
    assert not any(store.is_claimed(run_id) for run_id in store.run_ids())


def test_each_teacher_is_trained_once_and_a_cell_that_fails_leaves_the_others_alone(store: Store, file: Path) -> None:
    sweeps = Sweeps(store)
    sweep_id = sweeps.create(sweep(file, "teacher.size=XS,S", "student.word_vectors=random,glove"))
    assert drive(sweep_id, sweeps) == "finished"
    cells = sweeps.cells(sweep_id)
    assert {str(cell.values["student.word_vectors"]): cell.state for cell in cells} == {
        "random": "finished",
        "glove": "failed",
    }
    assert all("glove" in str(cell.error) for cell in cells if cell.state == "failed")
    trained = Counter[bool]()
    for run_id in store.run_ids():
        events = [event for _, event in store.read_events(run_id)[0] if isinstance(event, StageStarted)]
        trained.update(event.cached for event in events if event.stage == "finetune")
    assert trained == {True: 2}
    assert len(list((store.home / "teachers").iterdir())) == 2


def test_hopeless_cells_are_stopped_and_called_so(store: Store, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps = Sweeps(store)
    monkeypatch.setattr("distill_core.sweep.study.Study.is_hopeless", lambda self, number, epoch, accuracy: number == 1)
    long = ("training.epochs=150", "training.baseline=false")
    sweep_id = sweeps.create(sweep(file, "objective.beta=1,2", run=long, pruner="median"))
    assert drive(sweep_id, sweeps) == "finished"
    assert [cell.state for cell in sweeps.cells(sweep_id)] == ["finished", "pruned"]


def test_a_sweep_without_its_data_has_failed_and_says_why(store: Store, file: Path) -> None:
    sweeps, config = Sweeps(store), sweep(file, "objective.beta=1,2")
    file.unlink()
    with pytest.raises(DataError, match=r"reviews\.csv"):
        sweeper.submit(store, config)
    assert sweeps.ids() == []
    sweep_id = sweeps.create(config)
    with pytest.raises(DataError, match=r"reviews\.csv"):
        drive(sweep_id, sweeps)
    status = sweeps.status(sweep_id)
    assert status.status == "failed"
    assert "reviews.csv" in str(status.error)


def test_a_sweep_has_failed_only_if_all_of_its_cells_have() -> None:
    bad, good = Cell(0, {}, "failed", error="no such file"), Cell(1, {}, "finished")
    assert common_error([bad, bad]) == "no such file"
    assert common_error([bad, good]) is None
    assert common_error([]) is None


def test_two_drivers_do_not_share_a_sweep(store: Store, file: Path) -> None:
    sweeps = Sweeps(store)
    sweep_id = sweeps.create(sweep(file, "objective.beta=1"))
    with sweeps.claim(sweep_id), pytest.raises(RunError, match="another process drives"):
        drive(sweep_id, sweeps)
