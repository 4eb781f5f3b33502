"""How much each axis explains, against the analysis of variance of whole grids."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_core.sweep.cells import Cell, measured
from distill_core.sweep.importance import importances
from distill_core.sweep.space import Axis, SweepConfig, Values, grid
from tests.made_cells import all_finished, drawn, finished, measured_of, sweep_of

BITS = drawn(np.random.default_rng(0), 0.7, texts=60)
CONFIG = sweep_of(
    objective__beta=(0, 0.5, 1, 2, 5), objective__temperature=(1, 2, 4, 8), student__size=("XS", "S", "M")
)
SIZES = {"XS": 0.0, "S": 1.0, "M": 2.0}
RANGES = (
    Axis(field="objective.beta", low=0, high=5),
    Axis(field="training.learning_rate", low=1e-4, high=1, log=True),
    Axis(field="student.dropout", low=0, high=0.9),
)
RANDOM = SweepConfig(axes=RANGES, sampler="random", cells=2000)


def cells_of(config: SweepConfig, accuracy: Callable[[Values], float]) -> list[Cell]:
    """The cells of a grid with a validation accuracy for each."""
    return all_finished(config, [measured_of(BITS, val_accuracy=accuracy(values)) for values in grid(config)])


def analysis_of_variance(config: SweepConfig, cells: Sequence[Cell]) -> dict[str, float]:
    """The share of each axis of a whole grid in the variance of the means along the axes."""
    parts = {}
    for axis in config.axes:
        rows = [
            [found.val_accuracy for cell, found in measured(cells) if cell.values[axis.field] == value]
            for value in axis.values
        ]
        parts[axis.field] = float(np.var([np.mean(row) for row in rows]))
    return {field: part / sum(parts.values()) for field, part in parts.items()}


@given(seed=st.integers(0, 999), weights=st.lists(st.floats(0.002, 0.03), min_size=3, max_size=3))
@settings(max_examples=5)
def test_shares_of_a_whole_grid_are_about_those_of_the_analysis_of_variance(seed: int, weights: list[float]) -> None:
    chance = np.random.default_rng(seed)

    def accuracy(values: Values) -> float:
        along = (values["objective.beta"] > 0, np.log2(values["objective.temperature"]), SIZES[values["student.size"]])
        return float(0.7 + np.dot(weights, along) + 0.001 * chance.standard_normal())

    cells = cells_of(CONFIG, accuracy)
    found, expected = importances(CONFIG, cells), analysis_of_variance(CONFIG, cells)
    assert sum(found.values()) == pytest.approx(1)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert found == pytest.approx(expected, abs=0.12)


def test_the_gaps_between_listed_values_do_not_count() -> None:
    near = sweep_of(objective__beta=(1, 2, 3), student__size=("S", "M"))
    far = sweep_of(objective__beta=(1, 2, 300), student__size=("S", "M"))
    heights = iter([0.7, 0.71, 0.72, 0.73, 0.74, 0.76] * 2)
    found = [importances(config, cells_of(config, lambda values: next(heights))) for config in (near, far)]
    assert found[0] == found[1]


def test_an_axis_of_one_value_is_left_out() -> None:
    config = sweep_of(objective__beta=(0, 1, 2, 5), student__size=("S",))
    assert importances(config, cells_of(config, lambda values: 0.7 + 0.01 * values["objective.beta"])) == {
        "objective.beta": 1.0
    }


@pytest.mark.parametrize("count", [0, 1, 3])
def test_few_cells_explain_nothing(count: int) -> None:
    cells = cells_of(CONFIG, lambda values: 0.7 + 0.01 * values["objective.beta"])
    assert importances(CONFIG, cells[:count]) == {}
    assert importances(CONFIG, [*cells[:count], *(Cell(number, {}, "failed") for number in range(50, 60))]) == {}


def test_equal_cells_explain_nothing() -> None:
    assert importances(CONFIG, cells_of(CONFIG, lambda values: 0.7)) == {}


def test_one_cell_among_thousands_may_escape_all_trees() -> None:
    cells = [finished(number, _drawn_values(number), measured_of(BITS, val_accuracy=0.7)) for number in range(1000)]
    for odd in range(0, 1000, 200):
        one = measured_of(BITS, val_accuracy=0.8)
        found = importances(RANDOM, [*cells[:odd], finished(odd, cells[odd].values, one), *cells[odd + 1 :]])
        assert found == {} or sum(found.values()) == pytest.approx(1)


def test_a_sweep_that_was_extended_counts_the_values_that_it_had_before() -> None:
    cells = cells_of(CONFIG, lambda values: 0.7 + 0.01 * SIZES[values["student.size"]])
    narrower = sweep_of(objective__beta=(0, 0.5), objective__temperature=(1, 2), student__size=("S", "M"))
    assert importances(narrower, cells)["student.size"] > 0.99


def _drawn_values(number: int) -> dict[str, Any]:
    beta, rate, dropout = np.random.default_rng(number).random(3)
    return {"objective.beta": 5 * beta, "training.learning_rate": 10 ** (-4 * rate), "student.dropout": 0.9 * dropout}


def test_two_thousand_cells_of_ranges_are_weighed_within_a_second_or_two() -> None:
    def accuracy(values: dict[str, Any]) -> float:
        return 0.7 + 0.01 * values["objective.beta"] + 0.01 * abs(np.log10(values["training.learning_rate"]) + 2)

    drawn_cells = [_drawn_values(number) for number in range(2000)]
    cells = [
        finished(number, values, measured_of(BITS, val_accuracy=accuracy(values)))
        for number, values in enumerate(drawn_cells)
    ]
    importances(RANDOM, cells[:4])  # imports Optuna
    began = time.process_time()
    found = importances(RANDOM, cells)
    assert time.process_time() - began < 1.5
    # The variance of 0.05 u is 0.05² / 12, that of 0.01 |4 v - 2| is 0.02² / 12.
    assert found["objective.beta"] == pytest.approx(0.05**2 / (0.05**2 + 0.02**2), abs=0.05)
    assert found["student.dropout"] < 0.01
