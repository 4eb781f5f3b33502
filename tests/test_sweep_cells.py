"""Cells as JSON and as a tidy table, and what counts of a run's result."""

from __future__ import annotations

import json
import statistics
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_core.sweep.cells import Cell, CellState, Measured, latest, measured, tidy
from tests.made_cells import drawn, finished, measured_of

shares = st.lists(st.floats(0, 1), min_size=1, max_size=4).map(tuple)
results = st.builds(
    Measured,
    dataset=st.text(max_size=5),
    test_texts=st.integers(1, 99),
    val_accuracy=st.floats(0, 1),
    accuracies=shares,
    baselines=shares | st.just(()),
    right=st.lists(st.text("0123456789abcdef", max_size=6), max_size=3).map(tuple),
    right_alone=st.lists(st.text("0123456789abcdef", max_size=6), max_size=3).map(tuple),
    gain=st.none() | st.floats(-1, 1),
    gain_margin=st.none() | st.floats(0, 1),
    retention=st.none() | st.floats(0, 2),
    agreement=st.floats(0, 1),
    kl=st.floats(0, 9),
    parameters=st.integers(1, 10**9),
    bytes=st.integers(1, 10**9),
    latency_ms=st.floats(0, 99),
    teacher_accuracy=st.floats(0, 1),
    teacher_parameters=st.none() | st.integers(1, 10**9),
    teacher_latency_ms=st.none() | st.floats(0, 99),
    seconds=st.floats(0, 1e6),
)
cells = st.builds(
    Cell,
    number=st.integers(0, 9),
    values=st.dictionaries(
        st.sampled_from(["objective.beta", "student.size"]), st.integers(0, 9) | st.text(max_size=3) | st.booleans()
    ),
    state=st.sampled_from(get_args(CellState)),
    run_id=st.none() | st.text(max_size=5),
    error=st.none() | st.text(max_size=5),
    ended=st.none() | st.floats(0, 1e10),
    measured=st.none() | results,
)


@given(cell=cells)
def test_a_cell_comes_back_from_its_json(cell: Cell) -> None:
    assert Cell.from_json(json.loads(json.dumps(cell.as_json()))) == cell


def test_a_cell_of_other_fields_is_refused() -> None:
    with pytest.raises(TypeError):
        Cell.from_json({"number": 0, "values": {}, "colour": "red"})


@given(rows=st.lists(cells, max_size=20))
def test_each_cell_counts_as_it_was_written_last(rows: list[Cell]) -> None:
    found = latest(rows)
    assert [cell.number for cell in found] == sorted({cell.number for cell in rows})
    assert all(cell == [row for row in rows if row.number == cell.number][-1] for cell in found)


@given(rows=st.lists(cells, max_size=20))
def test_a_table_has_a_row_for_each_cell(rows: list[Cell]) -> None:
    table = tidy(rows)
    assert [(row["cell"], row["state"], row["run_id"], row["error"]) for row in table] == [
        (cell.number, cell.state, cell.run_id, cell.error) for cell in rows
    ]
    for row, cell in zip(table, rows, strict=True):
        assert cell.values.items() <= row.items()
        assert (row["test_accuracy"] is None) == (cell.measured is None)
        assert all(value is None or isinstance(value, bool | int | float | str) for value in row.values())


def test_accuracies_in_a_table_are_means_over_seeds_with_their_spread() -> None:
    found = measured_of(drawn(np.random.default_rng(0), 0.7), drawn(np.random.default_rng(1), 0.6))
    row = tidy([finished(3, {"objective.beta": 2}, found)])[0]
    assert row["test_accuracy"] == statistics.fmean(found.accuracies)
    assert row["test_accuracy_std"] == statistics.stdev(found.accuracies)
    assert row["baseline_accuracy"] == statistics.fmean(found.baselines)
    assert (row["cell"], row["objective.beta"], row["seeds"]) == (3, 2, 3)


def test_one_seed_has_no_spread_and_no_baseline_no_accuracy() -> None:
    found = measured_of(drawn(np.random.default_rng(0), 0.7, seeds=1))
    assert (found.deviation, found.alone) == (None, None)


@given(rows=st.lists(cells, max_size=20))
def test_only_finished_cells_have_been_measured(rows: list[Cell]) -> None:
    assert [cell for cell, _ in measured(rows)] == [
        cell for cell in rows if cell.state == "finished" and cell.measured is not None
    ]


SEVERAL = {"student": {"values": [0.7, 0.8]}, "val_accuracies": [0.8, None, 0.7]}
"""Two seeds' test accuracies; of validation a seed that was stopped before its first epoch has none."""


def result(seeds: dict[str, Any] | None, baseline: dict[str, Any] | None) -> dict[str, Any]:
    student = {"val_accuracy": 0.8, "test_accuracy": 0.7, "agreement": 0.9, "kl": 0.1, "confusion": [[3, 1], [2, 6]]}
    return {
        "dataset": "csv",
        "sizes": {"test": 12},
        "teacher": {"val_accuracy": 0.85, "test_accuracy": 0.9, "parameters": None, "latency_ms": None},
        "student": {**student, "parameters": 10, "bytes": 40, "latency_ms": 0.5},
        "baseline": baseline,
        "seeds": seeds,
        "right": {"student": ["fff0"], "baseline": [] if baseline is None else ["ff00"]},
        "gain": None,
        "gain_margin": None,
        "retention": 0.8,
        "seconds": {"distil": 2.0, "test": 1.5},
    }


def test_a_result_of_one_seed_is_measured_by_its_entries() -> None:
    found = Measured.of(result(None, {"test_accuracy": 0.6}))
    assert (found.teacher_val_accuracy, found.commonest) == (0.85, 8 / 12)
    assert (found.accuracies, found.baselines) == ((0.7,), (0.6,))
    assert (found.right, found.right_alone, found.seconds) == (("fff0",), ("ff00",), 3.5)
    assert (found.teacher_parameters, found.teacher_latency_ms) == (None, None)


def test_a_result_of_several_seeds_is_measured_by_all() -> None:
    seeds = {**SEVERAL, "baseline": {"values": [0.5, 0.6]}}
    found = Measured.of(result(seeds, {"test_accuracy": 0.5}))
    assert (found.accuracies, found.baselines) == ((0.7, 0.8), (0.5, 0.6))
    assert found.val_accuracy == pytest.approx(0.75)


@pytest.mark.parametrize("seeds", [None, {**SEVERAL, "baseline": None}])
def test_a_result_without_a_baseline_has_no_accuracy_of_one(seeds: dict[str, Any] | None) -> None:
    found = Measured.of(result(seeds, None))
    assert (found.baselines, found.right_alone) == ((), ())
