"""Axes as text and as values, grids, and the run configuration of each cell."""

from __future__ import annotations

import json
import math
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_core import presets
from distill_core.config import RunConfig
from distill_core.errors import ConfigError
from distill_core.sweep.space import (
    MOST_CELLS,
    Axis,
    SweepConfig,
    cell_config,
    corners,
    distinct,
    grid,
    label,
    parse_axis,
    parse_sweep,
    sameness,
)
from tests.made_cells import sweep_of

words = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8).filter(
    lambda word: word not in ("true", "false", "null")
)
numbers = st.integers(-(10**6), 10**6) | st.floats(allow_nan=False, allow_infinity=False)
FIELDS = ("objective.beta", "objective.temperature", "student.size", "training.learning_rate")


def values_of(kind: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(kind, min_size=1, max_size=5, unique=True)


@given(values=values_of(numbers) | values_of(words) | values_of(st.booleans()))
def test_a_list_of_values_comes_back_from_its_text(values: list[Any]) -> None:
    axis = Axis(field="objective.beta", values=tuple(values))
    again = parse_axis(f"{axis.field}={axis.as_text()}")
    assert again == axis
    assert [type(value) for value in again.values] == [type(value) for value in axis.values]


@given(ends=st.lists(st.floats(1e-9, 1e9), min_size=2, max_size=2, unique=True), log=st.booleans())
def test_a_range_comes_back_from_its_text(ends: list[float], log: bool) -> None:
    axis = Axis(field="training.learning_rate", low=min(ends), high=max(ends), log=log)
    assert parse_axis(f"{axis.field}={axis.as_text()}") == axis


def test_dots_in_a_path_make_no_range() -> None:
    assert parse_axis("data.path=../one.csv,two/../three.csv").values == ("../one.csv", "two/../three.csv")
    assert parse_axis("data.path=two/../three.csv").values == ("two/../three.csv",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("objective.beta", "--axes must read section.field=value,value, got 'objective.beta'"),
        ("beta=1,2", "--axes must read section.field=value,value, got 'beta=1,2'"),
        ("objective.beta=", "--axes must read section.field=value,value, got 'objective.beta='"),
        ("objective.beta=one..two", "axis objective.beta must go between two numbers, got 'one..two'"),
        ("objective.beta=1..", "axis objective.beta must go between two numbers, got '1..'"),
        ("objective.beta=nan..2", "axis objective.beta must go between two numbers, got 'nan..2'"),
        ("objective.beta=1..2:log2", "axis objective.beta may go by :log alone, got 'log2'"),
        ("objective.beta=2..1", r"axis objective.beta must go from a lower to a higher number, got '2.0..1.0'"),
        ("objective.beta=0..1:log", "axis objective.beta must be above 0 to go by factors, got 0"),
        ("objective.beta=1,2,1", "axis objective.beta must have each value once, got '1,2,1'"),
        ("objective.beta=1,1.0", "axis objective.beta must have each value once, got '1,1.0'"),
    ],
)
def test_an_axis_that_cannot_be_read_says_why(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_axis(text)


@pytest.mark.parametrize("value", ["1e400", "NaN", "-Infinity"])
def test_a_number_that_is_none_is_told_with_its_setting(value: str) -> None:
    config = {"axes": [parse_axis(f"objective.beta=1,{value}")]}
    with pytest.raises(ConfigError, match=f"objective.beta must be .*got '{value}'"):
        parse_sweep(config)


def test_an_axis_has_values_or_a_range_and_not_both() -> None:
    with pytest.raises(ConfigError, match=r"axis objective\.beta must have values or a range"):
        Axis(field="objective.beta")
    with pytest.raises(ConfigError, match=r"axis objective\.beta must have values or a range"):
        Axis(field="objective.beta", values=(1,), low=1, high=2)


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_a_grid_is_the_product_of_its_axes(sizes: list[int]) -> None:
    axes = tuple(Axis(field=name, values=tuple(range(1, size + 1))) for name, size in zip(FIELDS, sizes, strict=False))
    config = SweepConfig(axes=axes)
    cells = grid(config)
    assert len(cells) == config.planned == math.prod(sizes)
    assert [tuple(cell.values()) for cell in cells] == list(product(*(axis.values for axis in axes)))
    assert all(list(cell) == [axis.field for axis in axes] for cell in cells)


def test_the_last_axis_of_a_grid_moves_fastest() -> None:
    cells = grid(sweep_of(objective__beta=(0, 1), objective__temperature=(2, 4)))
    assert [label(cell) for cell in cells] == [
        "beta 0, temperature 2",
        "beta 0, temperature 4",
        "beta 1, temperature 2",
        "beta 1, temperature 4",
    ]


def test_corners_try_each_value_and_both_ends() -> None:
    axes = (Axis(field="objective.beta", values=(1, 2)), Axis(field="training.learning_rate", low=0.1, high=0.2))
    found = [tuple(cell.values()) for cell in corners(SweepConfig(axes=axes, sampler="random", cells=3))]
    assert found == [(1, 0.1), (2, 0.1), (1, 0.1), (1, 0.2)]


def test_a_cell_is_the_base_with_its_values_and_the_sweeps_seeds() -> None:
    config = SweepConfig(base=presets.load("tiny"), seeds=4, axes=(Axis(field="objective.beta", values=(0, 3)),))
    base = presets.load("tiny")
    assert cell_config(config, {"objective.beta": 3}) == base.model_copy(
        update={
            "objective": base.objective.model_copy(update={"beta": 3}),
            "training": base.training.model_copy(update={"seeds": 4}),
        }
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axes": [{"field": "objective.gamma", "values": [1]}]}, r"objective\.gamma is not a setting, got 1"),
        ({"axes": [{"field": "gamma.beta", "values": [1]}]}, r"axis gamma\.beta is not a setting, got 1"),
        ({"axes": [{"field": "objective.beta", "values": [1, -1]}]}, r"objective\.beta must be .* got -1"),
        ({"axes": [{"field": "objective.beta", "values": [0]}] * 2}, "axes must each be another setting"),
        ({"axes": [{"field": "training.seeds", "values": [1]}]}, r"axes must not vary training\.seeds"),
        ({"axes": []}, "axes must name at least one setting"),
        ({"sampler": "tpe"}, "cells must say how many tpe is to try"),
        ({"cells": 3}, "cells must be left out of a grid, got 3"),
        ({"sampler": "nsga2", "cells": 9, "pruner": "median"}, "pruner must be none with nsga2, got median"),
        ({"storage": "sweeps.db"}, "storage must be the URL of a database, got 'sweeps.db'"),
        ({"seeds": 0}, "sweep seeds: .*got 0"),
        ({"flavour": 1}, "sweep flavour: .*got 1"),
        ({"base": {"objective": {"beta": -1}}}, r"objective\.beta must be .* got -1"),
        ({"axes": [{"field": "objective.beta", "low": 0, "high": 1}]}, r"axis objective\.beta must list its values in"),
        (
            {"axes": [{"field": "training.epochs", "low": 2, "high": 9}], "sampler": "random", "cells": 3},
            r"axis training\.epochs must list its values, since they are whole numbers, got 2\.0\.\.9\.0",
        ),
        (
            {"axes": [{"field": "data.train_limit", "low": 20, "high": 90}], "sampler": "random", "cells": 3},
            r"axis data\.train_limit must list its values, since they are whole numbers",
        ),
    ],
)
def test_a_sweep_that_cannot_be_used_says_why(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_sweep({"axes": [{"field": "objective.beta", "values": [0, 1]}], **change})


def test_values_that_exclude_each_other_are_told_before_the_sweep_begins() -> None:
    axes = [{"field": "objective.beta", "values": [0, 1]}, {"field": "objective.student_ce_weight", "values": [0, 1]}]
    with pytest.raises(ConfigError, match=r"objective\.beta and objective\.student_ce_weight must not both be 0"):
        parse_sweep({"axes": axes})


def test_a_grid_has_at_most_so_many_cells() -> None:
    axes = [{"field": name, "values": list(range(1, 102))} for name in ("objective.beta", "objective.temperature")]
    with pytest.raises(ConfigError, match=f"axes must make at most {MOST_CELLS:,} cells, got 10,201"):
        parse_sweep({"axes": axes})


@given(
    betas=values_of(st.floats(0, 1000)),
    seeds=st.integers(1, 50),
    sampler=st.sampled_from(["grid", "random", "tpe", "nsga2"]),
)
def test_a_sweep_comes_back_from_its_json(betas: list[float], seeds: int, sampler: str) -> None:
    cells = {} if sampler == "grid" else {"cells": 5}
    config = parse_sweep(
        {"axes": [{"field": "objective.beta", "values": betas}], "seeds": seeds, "sampler": sampler, **cells}
    )
    assert parse_sweep(json.loads(config.to_json())) == config


def config_of(**objective: Any) -> RunConfig:
    base = RunConfig()
    return base.model_copy(update={"objective": base.objective.model_copy(update=objective)})


@given(beta=st.floats(0.01, 10), temperatures=st.lists(st.floats(0.1, 10), min_size=2, max_size=2, unique=True))
def test_temperature_counts_only_where_the_teacher_is_heard(beta: float, temperatures: list[float]) -> None:
    heard = [sameness(config_of(beta=beta, temperature=temperature)) for temperature in temperatures]
    unheard = [sameness(config_of(beta=0.0, temperature=temperature)) for temperature in temperatures]
    assert len(set(heard)) == 2
    assert len(set(unheard)) == 1


def test_runs_of_one_outcome_are_counted_once() -> None:
    configs = [config_of(beta=beta, temperature=temperature) for beta in (0.0, 1.0) for temperature in (2.0, 4.0)]
    assert distinct(configs) == [configs[0], *configs[2:]]
