"""What a sweep's charts show of its cells, and what the live chart makes of such charts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from distill_core.errors import ConfigError
from distill_core.sweep.cells import Cell, Measured
from distill_core.sweep.questions import QUESTIONS
from distill_core.sweep.space import Axis, SweepConfig, grid
from pages import _live_chart, _sweep_axes, _sweep_curves, _sweep_figures, _sweep_means, _sweep_trade_offs
from pages._live_chart import MAX_MARKERS, live_chart
from pages._sweep_axes import Scale
from tests.made_cells import finished, sweep_of

BETA, TEMPERATURE, SIZE = "objective.beta", "objective.temperature", "student.size"


def measured(*accuracies: float, **changes: Any) -> Measured:
    """What a cell of these accuracies has measured, whose baseline has 0.7 with each seed."""
    facts: dict[str, Any] = {
        "dataset": "rotten_tomatoes",
        "test_texts": 100,
        "val_accuracy": accuracies[0],
        "accuracies": accuracies,
        "baselines": tuple(0.7 for _ in accuracies),
        "right": (),
        "right_alone": (),
        "gain": 0.05,
        "gain_margin": 0.02,
        "retention": 0.98,
        "agreement": 0.9,
        "kl": 0.1,
        "parameters": 30_000,
        "bytes": 120_000,
        "latency_ms": 0.2,
        "teacher_accuracy": 0.8,
        "teacher_parameters": 1_500_000,
        "teacher_latency_ms": 1.5,
        "seconds": 6.0,
    }
    return Measured(**{**facts, **changes})


def filled(config: SweepConfig, make: Callable[[dict[str, Any]], Measured]) -> list[Cell]:
    return [finished(number, values, make(values)) for number, values in enumerate(grid(config))]


def named(chart: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {trace.get("name", trace["type"]): trace for trace in chart["data"]}


# Means


def test_the_spread_of_averaged_cells_is_that_of_the_seeds_means() -> None:
    """Cells that differ much, and seeds that do not: the bar tells of the seeds alone."""
    cells = [finished(0, {}, measured(0.6, 0.62)), finished(1, {}, measured(0.8, 0.82, val_accuracy=0.9))]
    found = _sweep_means.mean([(cell, cell.measured) for cell in cells if cell.measured is not None])
    assert found is not None
    assert found.value == pytest.approx(0.71)
    assert found.deviation == pytest.approx(math.sqrt(2) * 0.01)
    assert (found.cells, found.best) == (2, 1)


def test_one_seed_has_no_spread_and_no_baseline_no_mean() -> None:
    cell = finished(0, {}, measured(0.6, baselines=()))
    assert cell.measured is not None
    one = _sweep_means.mean([(cell, cell.measured)])
    assert one is not None
    assert one.deviation is None
    assert _sweep_means.mean([(cell, cell.measured)], _sweep_means.baselines) is None
    assert _sweep_means.mean([]) is None


# Heat map


def test_a_heat_map_has_each_cell_at_its_place() -> None:
    config = sweep_of(objective__beta=(0, 1, 2), objective__temperature=(1, 4))
    cells = filled(config, lambda values: measured(0.7 + values[BETA] / 100 + values[TEMPERATURE] / 1000))
    heat = named(_sweep_figures.heat_map(config, cells, BETA, TEMPERATURE))["heatmap"]
    assert heat["z"] == [pytest.approx([0.701, 0.711, 0.721]), pytest.approx([0.704, 0.714, 0.724])]
    assert heat["text"][1] == ["70.4", "71.4", "72.4"]
    assert heat["customdata"] == [[0, 2, 4], [1, 3, 5]]
    assert "β 2, temperature 4" in heat["hovertext"][1][2]
    assert (heat["zmin"], heat["zmax"]) == (pytest.approx(0.701), pytest.approx(0.724))


def test_small_differences_do_not_take_all_shades() -> None:
    config = sweep_of(objective__beta=(1, 2), objective__temperature=(1, 4))
    heat = named(_sweep_figures.heat_map(config, filled(config, lambda _: measured(0.75)), BETA, TEMPERATURE))[
        "heatmap"
    ]
    assert heat["zmax"] - heat["zmin"] == pytest.approx(_sweep_figures.LEAST_SPAN)
    assert (heat["zmax"] + heat["zmin"]) / 2 == pytest.approx(0.75)


def test_squares_without_a_value_are_outlined_and_marked_by_their_state() -> None:
    config = sweep_of(objective__beta=(0, 1), objective__temperature=(1, 4))
    values = grid(config)
    cells = [finished(0, values[0], measured(0.7)), Cell(1, values[1], "running"), Cell(2, values[2], "failed")]
    chart = _sweep_figures.heat_map(config, cells, BETA, TEMPERATURE)
    traces = named(chart)
    assert traces["heatmap"]["z"] == [[0.7, None], [None, None]]
    assert traces["heatmap"]["text"] == [["70.0", ""], ["", ""]]
    assert (traces["running"]["x"], traces["running"]["y"], traces["running"]["customdata"]) == ([0], [1], [1])
    assert (traces["failed"]["x"], traces["failed"]["y"], traces["failed"]["customdata"]) == ([1], [0], [2])
    outline, frame = chart["layout"]["shapes"]
    assert outline["path"].count("M") == 3
    assert frame["path"].startswith("M-0.485,-0.485")


def test_a_heat_map_averages_what_it_does_not_show() -> None:
    config = sweep_of(objective__beta=(1, 2), objective__temperature=(1,), student__size=("S", "M"))
    cells = filled(config, lambda values: measured(0.7 if values[SIZE] == "S" else 0.8))
    heat = named(_sweep_figures.heat_map(config, cells, BETA, TEMPERATURE))["heatmap"]
    assert heat["z"] == [pytest.approx([0.75, 0.75])]
    assert heat["customdata"] == [[1, 3]]
    assert "average of 2 cells" in heat["hovertext"][0][0]


def test_cells_of_a_range_are_points_where_they_lie() -> None:
    axes = (Axis(field=BETA, low=0.1, high=10, log=True), Axis(field=TEMPERATURE, values=(1, 4)))
    config = SweepConfig(axes=axes, sampler="random", cells=3)
    done = finished(0, {BETA: 0.3, TEMPERATURE: 4}, measured(0.75))
    chart = _sweep_figures.heat_map(config, [done, Cell(1, {BETA: 7.0, TEMPERATURE: 1}, "running")], BETA, TEMPERATURE)
    traces = named(chart)
    assert (traces["finished"]["x"], traces["finished"]["y"]) == ([0.3], [1])
    assert traces["finished"]["marker"]["color"] == [0.75]
    assert (traces["running"]["x"], traces["running"]["customdata"]) == ([7.0], [1])
    assert chart["layout"]["xaxis"]["type"] == "log"


# Lines


def test_lines_have_error_bars_over_seeds_and_one_line_for_each_role() -> None:
    config = sweep_of(objective__beta=(0, 1), objective__temperature=(1, 4))
    cells = filled(config, lambda values: measured(0.74, 0.76) if values[TEMPERATURE] == 4 else measured(0.71, 0.73))
    traces = named(_sweep_curves.lines(config, cells, BETA, TEMPERATURE))
    assert list(traces) == ["teacher", "alone", "temperature 1", "temperature 4"]
    assert traces["temperature 4"]["y"] == pytest.approx([0.75, 0.75])
    assert traces["temperature 4"]["error_y"]["array"] == pytest.approx([math.sqrt(2) / 100] * 2)
    assert traces["temperature 4"]["customdata"] == [1, 3]
    assert traces["teacher"]["y"] == [0.8, 0.8]
    assert (traces["alone"]["y"], traces["alone"]["line"]["dash"]) == (pytest.approx([0.7, 0.7]), "dash")


def test_a_reference_that_depends_on_the_lines_is_drawn_for_each() -> None:
    config = sweep_of(objective__beta=(0, 1), student__size=("S", "M"))
    alone = {"S": (0.65,), "M": (0.7,)}
    cells = filled(config, lambda values: measured(0.75, baselines=alone[values[SIZE]]))
    traces = named(_sweep_curves.lines(config, cells, BETA, SIZE))
    assert traces["alone, student size S"]["y"] == [0.65, 0.65]
    assert traces["alone, student size M"]["y"] == [0.7, 0.7]
    assert "teacher" in traces


def test_a_single_axis_has_a_single_line() -> None:
    config = sweep_of(training__label_share=(0.01, 0.1, 1.0))
    chart = _sweep_curves.lines(config, filled(config, lambda _: measured(0.75)), "training.label_share")
    assert list(named(chart)) == ["teacher", "alone", "student"]
    assert chart["layout"]["xaxis"]["ticktext"] == ["1 %", "10 %", "100 %"]
    low, high = chart["layout"]["yaxis"]["range"]
    assert low < 0.7
    assert high > 0.8


# Trade-offs


def test_the_front_has_the_cells_that_none_beats() -> None:
    sizes = {10: 0.6, 20: 0.7, 30: 0.65, 40: 0.7, 50: 0.8}
    cells = [
        finished(number, {}, measured(accuracy, parameters=size))
        for number, (size, accuracy) in enumerate(sizes.items())
    ]
    chart = _sweep_trade_offs.trade_off(cells, "parameters", "rotten_tomatoes")
    traces = named(chart)
    assert (traces["best trades"]["x"], traces["best trades"]["y"]) == ([10, 20, 50], [0.6, 0.7, 0.8])
    assert traces["best trades"]["line"]["shape"] == "hv"
    assert traces["student"]["customdata"] == [0, 1, 2, 3, 4]
    assert (traces["teacher"]["x"], traces["teacher"]["y"]) == ([1_500_000], [0.8])
    assert traces["alone"]["x"] == [10, 20, 30, 40, 50]
    assert "published" not in traces
    assert chart["layout"]["xaxis"]["type"] == "log"


def test_a_trade_off_holds_no_accuracies_of_other_texts_against_each_other() -> None:
    cells = [finished(0, {}, measured(0.6)), finished(1, {}, measured(0.9, dataset="imdb"))]
    assert _sweep_trade_offs.data_sets(cells) == ["rotten_tomatoes", "imdb"]
    traces = named(_sweep_trade_offs.trade_off(cells, "parameters", "imdb"))
    assert traces["student"]["customdata"] == [1]
    assert traces["published"]["y"] == [0.9282, 0.8522]
    assert "Sanh et al. 2019<br>arxiv.org/abs/1910.01108" in traces["published"]["hovertext"][0]
    assert "published" not in named(_sweep_trade_offs.trade_off(cells, "latency", "imdb"))


def test_a_teacher_that_is_a_file_has_no_place_in_a_trade_off() -> None:
    cells = [finished(0, {}, measured(0.6, teacher_parameters=None, teacher_latency_ms=None))]
    assert "teacher" not in named(_sweep_trade_offs.trade_off(cells, "latency", "rotten_tomatoes"))


# Parallel coordinates, importance


def test_parallel_coordinates_have_an_axis_for_each_setting_and_outcome() -> None:
    config = sweep_of(objective__beta=(0, 2), student__kind=("lstm", "bag"))
    (trace,) = _sweep_curves.parallel(config, filled(config, lambda _: measured(0.75, parameters=1000)))["data"]
    axes = {axis["label"]: axis for axis in trace["dimensions"]}
    assert axes["β"]["values"] == [0, 0, 1, 1]
    assert axes["student kind"]["ticktext"] == ["LSTM", "bag"]
    assert axes["accuracy"]["values"] == trace["line"]["color"] == [0.75] * 4
    assert axes["parameters"]["values"] == pytest.approx([3.0] * 4)
    assert axes["parameters"]["ticktext"] == ["1 k"]


def test_importance_is_drawn_from_the_largest_down() -> None:
    (bars,) = _sweep_curves.importance({BETA: 0.25, TEMPERATURE: 0.75})["data"]
    assert (bars["x"], bars["y"], bars["text"]) == (["temperature", "β"], [0.75, 0.25], ["75 %", "25 %"])


# Values in words


@pytest.mark.parametrize("name", sorted(_sweep_axes.SETTINGS))
def test_suggested_values_come_back_from_their_words(name: str) -> None:
    known = _sweep_axes.setting(name)
    assert [_sweep_axes.read(name, known.said(value)) for value in known.values] == list(known.values)


@pytest.mark.parametrize("question", sorted(QUESTIONS))
def test_the_axes_of_each_question_come_back_from_their_words(question: str) -> None:
    for axis in QUESTIONS[question].config.axes:
        assert _sweep_axes.axis(axis.field, _sweep_axes.words(axis)) == axis


def test_typed_values_are_read_as_people_write_them() -> None:
    assert _sweep_axes.read("training.label_share", "20%") == 0.2
    assert _sweep_axes.read(BETA, " 3 ") == 3
    assert _sweep_axes.axis(BETA, ["5", "0.5", "5.0"]).values == (0.5, 5)
    assert _sweep_axes.read("teacher.pretrain", "no") is False
    for wrong in ("much", "", "1..2", "1,2"):
        with pytest.raises(ConfigError, match=r"objective\.beta must be a number, got"):
            _sweep_axes.read(BETA, wrong)


def test_listed_numbers_may_stand_for_all_between_them() -> None:
    ranged = _sweep_axes.axis("training.learning_rate", ["0.001", "0.02"], ranged=True)
    assert (ranged.low, ranged.high, ranged.log) == (0.001, 0.02, True)
    assert _sweep_axes.axis(TEMPERATURE, ["1", "8"], ranged=True).log is False
    assert _sweep_axes.axis(SIZE, ["S", "M"], ranged=True).values == ("S", "M")


def test_a_place_is_the_number_of_a_listed_value_and_the_value_of_a_range() -> None:
    config = sweep_of(objective__beta=(0, 0.5, 5))
    assert [Scale.of(config, BETA).place(value) for value in (0.0, 0.5, 5)] == [0, 1, 2]


# The live chart


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What Streamlit's component is called with; it answers that point 7 was clicked."""
    calls: list[dict[str, Any]] = []

    def mount(**given: Any) -> dict[str, Any]:
        calls.append(given)
        return {"clicked": 7}

    monkeypatch.setattr(_live_chart, "_mount", mount)
    return calls


def test_a_click_gives_what_stands_at_the_point_to_whoever_asks(mounted: list[dict[str, Any]]) -> None:
    chart = {"data": [], "layout": {}}
    assert live_chart(chart, key="chart", label="Cells") is None
    assert live_chart(chart, key="chart", label="Cells", clicks=True) == 7
    assert [json.loads(call["data"])["clicks"] for call in mounted] == [False, True]


def test_markers_heat_maps_and_parallel_coordinates_are_sent_whole(mounted: list[dict[str, Any]]) -> None:
    count = 1500
    numbers = list(range(count))
    chart = {
        "data": [
            {"type": "scatter", "mode": "markers", "x": numbers, "y": numbers, "customdata": numbers},
            {
                "type": "heatmap",
                "x": [0],
                "y": numbers,
                "z": [[n] for n in numbers],
                "customdata": [[n] for n in numbers],
            },
            {"type": "parcoords", "dimensions": [{"label": "β", "values": numbers}]},
        ],
        "layout": {},
    }
    live_chart(chart, key="chart", label="Cells", clicks=True)
    assert json.loads(mounted[-1]["data"])["spec"]["data"] == chart["data"]


def test_more_markers_than_can_be_drawn_are_evenly_taken(mounted: list[dict[str, Any]]) -> None:
    numbers = list(range(3 * MAX_MARKERS))
    trace = {"mode": "markers", "x": numbers, "y": numbers, "customdata": numbers}
    live_chart({"data": [trace], "layout": {}}, key="chart", label="Cells", clicks=True)
    drawn = json.loads(mounted[-1]["data"])["spec"]["data"][0]
    assert MAX_MARKERS // 2 <= len(drawn["x"]) <= MAX_MARKERS
    assert drawn["customdata"] == drawn["y"] == drawn["x"]
