"""What a sweep goes on with: its plan, its limits and its times, without training anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distill_core import estimate, files
from distill_core.config import RunConfig
from distill_core.errors import LimitError
from distill_core.events import RunInterrupted
from distill_core.store import Store
from distill_core.sweep import outlook, sweeper
from distill_core.sweep.cells import Cell
from distill_core.sweep.drive import outcome
from distill_core.sweep.plan import Plan
from distill_core.sweep.record import Sweeps
from distill_core.sweep.space import SweepConfig, cell_config, grid, parse_axis, parse_sweep
from tests.test_sweep_study import measured

NO_TEACHER = ("objective.beta=0", "objective.temperature=1,2,4")
"""Three cells of one outcome."""


def sweep(*axes: str, **settings: Any) -> SweepConfig:
    return parse_sweep({"base": RunConfig(), "axes": [parse_axis(axis) for axis in axes], "seeds": 1, **settings})


def planned(sweeps: Sweeps, sweep_id: str) -> tuple[Plan, list[Cell]]:
    """The plan of a sweep, and the cells that it would have trained, in order."""
    plan, taken = Plan(sweep_id, sweeps, lambda cell: None), list[Cell]()
    while (cell := plan.take(lambda cell: True)) is not None:
        taken.append(cell)
    return plan, taken


def test_cells_of_one_outcome_end_with_the_first(store: Store) -> None:
    sweeps = Sweeps(store)
    sweep_id = sweeps.create(sweep(*NO_TEACHER))
    plan, (leader,) = planned(sweeps, sweep_id)
    assert [cell.state for cell in sweeps.cells(sweep_id)] == ["running", "waiting", "waiting"]
    plan.write(replace(leader, state="finished", measured=measured(0.7)))
    assert [cell.state for cell in sweeps.cells(sweep_id)] == ["finished"] * 3
    assert len({cell.run_id for cell in sweeps.cells(sweep_id)}) == 1
    assert len((sweeps.folder(sweep_id) / "cells.jsonl").read_text().splitlines()) == 7  # each is written once a change


def test_cells_whose_run_was_stopped_from_outside_go_on_together(store: Store) -> None:
    sweeps = Sweeps(store)
    sweep_id = sweeps.create(sweep(*NO_TEACHER))
    plan, (leader,) = planned(sweeps, sweep_id)
    store.end_run(str(leader.run_id), RunInterrupted("its memory was full"))
    plan.write(replace(leader, state="failed", error="Begun 3 times"))
    plan, (again,) = planned(sweeps, sweep_id)
    assert again.run_id == leader.run_id
    plan.write(replace(again, state="finished", measured=measured(0.7)))
    assert [cell.state for cell in sweeps.cells(sweep_id)] == ["finished"] * 3


def test_a_failed_cell_whose_run_is_deleted_stays_failed(store: Store) -> None:
    sweeps = Sweeps(store)
    sweep_id = sweeps.create(sweep("objective.beta=1,2"))
    plan, (first, second) = planned(sweeps, sweep_id)
    store.end_run(str(first.run_id), RunInterrupted("killed"))
    plan.write(replace(first, state="failed", error="Begun 3 times"))
    store.delete_run(str(first.run_id))
    _, again = planned(sweeps, sweep_id)
    assert [cell.number for cell in again] == [second.number]


def test_a_cell_that_never_was_written_leaves_no_hole_for_others_to_fall_into(store: Store) -> None:
    sweeps = Sweeps(store)
    sweep_id = sweeps.create(sweep("objective.beta=1,2"))
    for number, beta in ((0, 1), (2, 2)):  # a driver died between choosing cell 1 and writing it
        sweeps.append(sweep_id, Cell(number, {"objective.beta": beta}, "finished", measured=measured(0.5)))
    files.write_text(sweeps.folder(sweep_id) / "sweep.json", sweep("objective.beta=1,2,3,4").to_json())
    _, new = planned(sweeps, sweep_id)
    assert [cell.number for cell in new] == [3, 4]
    assert [cell.values["objective.beta"] for cell in new] == [3, 4]


def test_a_student_that_was_stopped_and_kept_is_not_compared() -> None:
    cell = Cell(0, {"objective.beta": 1}, "running", "run")
    stopped = outcome(cell, {"stopped": {"stage": "distil", "step": 3, "steps": 9, "in_student": True}})
    assert (stopped.state, stopped.measured) == ("cancelled", None)
    assert "stopped" in str(stopped.error)


def test_a_cancelled_sweep_leaves_neither_cells_nor_runs_at_work(store: Store) -> None:
    sweeps = Sweeps(store)
    sweep_id = sweeps.create(sweep("objective.beta=1,2,3"))
    plan, (first, *_) = planned(sweeps, sweep_id)
    plan.write(replace(first, state="finished", measured=measured(0.7)))
    sweeps.update(sweep_id, status="paused")
    sweeper.cancel(store, sweep_id)
    cells = sweeps.cells(sweep_id)
    assert [cell.state for cell in cells] == ["finished", "cancelled", "cancelled"]
    assert {store.status(str(cell.run_id)).status for cell in cells[1:]} == {"cancelled"}
    assert sweeps.status(sweep_id).status == "cancelled"


def test_one_person_cannot_have_all_others_wait(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "_start", lambda store, sweep_id: None)
    store.home.mkdir(parents=True)
    files.write_json(store.home / "limits.json", {"queued_per_owner": 2})
    config = sweep("objective.beta=1,2")
    for _ in range(2):
        sweeper.submit(store, config, "me")
    with pytest.raises(LimitError, match="queued_per_owner must not exceed 2, got 3"):
        sweeper.submit(store, config, "me")
    sweeper.submit(store, config, "you")


def test_the_cells_of_a_sweep_wait_for_their_driver_alone(store: Store) -> None:
    sweeps = Sweeps(store)
    sweep_id = sweeps.create(sweep("objective.beta=1"))
    _, (cell,) = planned(sweeps, sweep_id)
    assert store.status(str(cell.run_id)).status == "queued"
    assert store.open_runs() == []
    other = store.create_run(RunConfig())
    assert [status.run_id for status in store.open_runs()] == [other]


def test_cells_without_cost_do_not_make_the_others_look_quick(store: Store) -> None:
    sweeps, config = Sweeps(store), sweep("objective.beta=0,1", "objective.temperature=1,2,4,8")
    sweep_id = sweeps.create(config, estimated=100.0)
    status = replace(sweeps.status(sweep_id), status="running", started=0.0, worked=0.0)
    shared = [Cell(number, cell, "finished", "one run", ended=20.0) for number, cell in enumerate(grid(config)[:4])]
    left = outlook.remaining(config, status, shared, 20.0)
    assert left is not None
    assert 75 <= left <= 85  # four cells of one run in 20 s, four more of a run each


@pytest.mark.parametrize(
    "axes", [("training.epochs=2,4,6,8,10,12,14,16",), ("student.size=XS,S,M,L", "training.epochs=2,9")]
)
def test_the_time_that_is_left_counts_the_length_of_cells(store: Store, axes: tuple[str, ...]) -> None:
    """Long cells come first, so a pace by their number would promise too little until the end."""
    sweeps, config = Sweeps(store), sweep(*axes)
    sweep_id = sweeps.create(config, estimated=100.0)
    status = replace(sweeps.status(sweep_id), status="running", started=0.0, worked=0.0)
    _, taken = planned(sweeps, sweep_id)
    works = [estimate.work_by_stage(cell_config(config, cell.values), None)["distil"] for cell in taken]
    spent = [200 * sum(works[: count + 1]) / sum(works) for count in range(8)]
    for count in range(8):
        ended = [replace(cell, state="finished", run_id=str(cell.number)) for cell in taken[: count + 1]]
        left = outlook.remaining(config, status, ended, spent[count])
        trust = (count + 1) / 8  # the rest is the estimate of 100 s
        assert left == pytest.approx(trust * (200 - spent[count]) + (1 - trust) * max(100 - spent[count], 0))


def test_what_is_ready_takes_no_time(store: Store, tmp_path: Path) -> None:
    config = sweep("objective.beta=0,1,2", "objective.temperature=1,2", seeds=3)
    ahead = outlook.outlook(config, store)
    assert (ahead.cells, ahead.runs, ahead.trainings) == (6, 5, 5 * 3 + 3)
    begun = [Cell(0, {"objective.beta": 1, "objective.temperature": 1}, "finished", "r")]
    rest = outlook.outlook(config, store, begun)
    assert (rest.cells, rest.runs) == (5, 4)
    assert 0 < rest.seconds < ahead.seconds
    one = outlook.outlook(sweep("objective.beta=1,2", seeds=1), store)
    assert one.trainings == 2 + 1
    assert outlook.outlook(sweep("student.size=S,M", "student.kind=lstm,bag", seeds=2), store).trainings == 8 + 8


@pytest.mark.parametrize(
    ("axes", "order"),
    [
        (("objective.beta=1,2", "student.size=S,M"), [(1, "M"), (2, "M"), (1, "S"), (2, "S")]),
        (
            ("student.size=XS,L,M", "teacher.size=M,S"),
            [("L", "M"), ("M", "M"), ("XS", "M"), ("L", "S"), ("M", "S"), ("XS", "S")],
        ),
        (("training.epochs=3,9", "student.kind=bag,lstm"), [(9, "lstm"), (9, "bag"), (3, "lstm"), (3, "bag")]),
    ],
)
def test_long_cells_of_a_teacher_come_first(store: Store, axes: tuple[str, ...], order: list[tuple[Any, ...]]) -> None:
    sweeps = Sweeps(store)
    _, taken = planned(sweeps, sweeps.create(sweep(*axes)))
    assert [tuple(cell.values.values()) for cell in taken] == order
    assert [cell.number for cell in taken] == list(range(len(order)))
