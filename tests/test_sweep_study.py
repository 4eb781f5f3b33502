"""A sweep as a study of Optuna: which cells it asks for, and that it can be taken up and rebuilt."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from distill_core.errors import ConfigError
from distill_core.sweep.cells import Cell, Measured
from distill_core.sweep.space import SweepConfig, grid, parse_axis, parse_sweep
from distill_core.sweep.study import Study


def sweep(*axes: str, **settings: Any) -> SweepConfig:
    return parse_sweep({"axes": [parse_axis(axis) for axis in axes], **settings})


def measured(accuracy: float) -> Measured:
    return Measured(
        dataset="csv", test_texts=4, val_accuracy=accuracy, accuracies=(accuracy,), baselines=(), right=("f0",),
        right_alone=(), gain=None, gain_margin=None, retention=1.0, agreement=1.0, kl=0.0, parameters=10, bytes=40,
        latency_ms=0.1, teacher_accuracy=0.9, teacher_parameters=100, teacher_latency_ms=1.0, seconds=1.0,
    )  # fmt: skip


def carried_out(study: Study, cells: list[Cell], accuracy: float = 0.5) -> list[Cell]:
    """All cells that the study asks for, each finished at once."""
    while (found := study.next_values()) is not None:
        cell = Cell(*found, state="finished", measured=measured(accuracy))
        study.finish(cell)
        cells = [*cells, cell]
    return cells


GRID = ("objective.beta=0,0.5,2", "student.size=S,M")


def test_a_grid_has_each_combination_once(tmp_path: Path) -> None:
    config = sweep(*GRID)
    cells = carried_out(Study("s", config, tmp_path, []), [])
    assert [cell.values for cell in cells] == grid(config)
    assert [cell.number for cell in cells] == list(range(6))
    (stored,) = optuna.get_all_study_summaries(f"sqlite:///{tmp_path / 'sweeps.db'}")
    assert stored.n_trials == 6


def test_a_study_taken_up_asks_for_what_is_missing(tmp_path: Path) -> None:
    config = sweep(*GRID)
    study = Study("s", config, tmp_path, [])
    first = study.next_values()
    assert first is not None
    done = Cell(*first, state="finished", measured=measured(0.6))
    study.finish(done)
    under_way = study.next_values()
    assert under_way is not None
    cells = carried_out(
        Study("s", config, tmp_path, [done, Cell(*under_way, state="running")]), [done, Cell(*under_way)]
    )
    assert sorted(str(cell.values) for cell in cells) == sorted(map(str, grid(config)))
    assert len({cell.number for cell in cells}) == 6


def test_a_lost_database_is_made_again_from_the_cells(tmp_path: Path) -> None:
    config = sweep(*GRID)
    cells = carried_out(Study("s", config, tmp_path / "..", []), [])[:4]
    (tmp_path / "other").mkdir()
    again = Study("s", config, tmp_path / "other", cells)
    assert [cell.values for cell in carried_out(again, cells)] == grid(config)


def test_an_extended_grid_asks_for_the_new_cells_alone(tmp_path: Path) -> None:
    cells = carried_out(Study("s", sweep(*GRID), tmp_path, []), [])
    wider = sweep("objective.beta=0,0.5,2,8", "student.size=S,M,L")
    more = carried_out(Study("s", wider, tmp_path, cells), cells)
    assert more[:6] == cells
    assert len(more) == 12
    assert {str(cell.values) for cell in more} == {str(values) for values in grid(wider)}


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_samplers_stay_within_the_axes_and_stop_at_their_number(tmp_path: Path, sampler: str) -> None:
    config = sweep("objective.beta=0.1..8:log", "student.size=S,M", sampler=sampler, cells=9)
    cells = carried_out(Study("s", config, tmp_path, []), [])
    assert len(cells) == 9
    assert all(0.1 <= cell.values["objective.beta"] <= 8 and cell.values["student.size"] in "SM" for cell in cells)


def test_a_random_sweep_taken_up_draws_others(tmp_path: Path) -> None:
    config = sweep("objective.beta=0..8", sampler="random", cells=4)
    cells = carried_out(Study("s", config, tmp_path, []), [])
    more = carried_out(Study("s", config.model_copy(update={"cells": 8}), tmp_path, cells), cells)
    assert len({cell.values["objective.beta"] for cell in more}) == 8


def test_tpe_looks_where_accuracy_was_high(tmp_path: Path) -> None:
    config = sweep("objective.beta=0..8", sampler="tpe", cells=40)
    study, cells = Study("s", config, tmp_path, []), list[Cell]()
    while (found := study.next_values()) is not None:
        cells.append(Cell(*found, state="finished", measured=measured(1 - abs(found[1]["objective.beta"] - 6) / 10)))
        study.finish(cells[-1])
    late = [cell.values["objective.beta"] for cell in cells[20:]]
    assert sum(abs(value - 6) < 1.5 for value in late) > len(late) / 2


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_hopeless_cells_are_recognised_by_their_epochs(tmp_path: Path, pruner: str) -> None:
    config = sweep("objective.beta=0..8", sampler="random", cells=30, pruner=pruner)
    study, cells, stopped = Study("s", config, tmp_path, []), list[Cell](), list[float]()
    for number in itertools.count():
        found = study.next_values()
        if found is None:
            break
        accuracy = 0.9 if number % 2 == 0 else 0.1
        hopeless = any(study.is_hopeless(found[0], epoch, accuracy) for epoch in range(1, 7))
        if hopeless:
            stopped.append(accuracy)
        cell = Cell(*found, state="pruned" if hopeless else "finished", measured=measured(accuracy))
        study.finish(replace(cell, measured=None) if hopeless else cell)
        cells.append(cell)
    assert 0.1 in stopped
    assert stopped.count(0.1) > 2 * stopped.count(0.9)


def test_a_grid_leaves_nothing_out_by_itself(tmp_path: Path) -> None:
    study = Study("s", sweep(*GRID), tmp_path, [])
    found = study.next_values()
    assert found is not None
    assert not any(study.is_hopeless(found[0], epoch, 0.0) for epoch in range(1, 7))


def test_a_database_that_cannot_be_opened_is_told_without_its_password(tmp_path: Path) -> None:
    config = sweep(*GRID, storage="postgresql://me:secret@nowhere/db")
    with pytest.raises(ConfigError, match="storage must be a database") as caught:
        Study("s", config, tmp_path, [])
    assert "secret" not in str(caught.value)
