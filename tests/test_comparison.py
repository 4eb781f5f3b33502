"""Several runs beside one another: what differs, by how much, and how each is drawn."""

from __future__ import annotations

import html
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_core import comparison
from distill_core.comparison import Figure
from distill_core.config import RunConfig, parse
from distill_core.events import Epoch, History, StageStarted, Step
from distill_core.status import Notes
from pages import _comparison
from pages._run_rows import Row

RUN_IDS = st.lists(st.from_regex(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}", fullmatch=True), min_size=2, max_size=8, unique=True)


def result_of(student: float, **changes: Any) -> dict[str, Any]:
    entry = {"test_accuracy": student, "agreement": 0.9, "kl": 0.1, "parameters": 1000, "latency_ms": 1.0}
    made: dict[str, Any] = {
        "teacher": {"test_accuracy": 0.9, "parameters": 10_000, "latency_ms": 4.0},
        "student": entry,
        "baseline": {**entry, "test_accuracy": 0.7},
        "retention": student / 0.9,
        "gain": student - 0.7,
        "gain_margin": 0.02,
    }
    return made | changes


# Settings


def test_only_settings_that_differ_are_listed_with_a_value_a_run() -> None:
    configs = [
        parse({"objective": {"beta": beta}, "student": {"size": size}}) for beta, size in ((2, "S"), (2, "M"), (1, "S"))
    ]
    assert comparison.differing_settings(configs) == {"student.size": ["S", "M", "S"], "objective.beta": [2, 2, 1]}
    assert comparison.differing_settings([RunConfig(), RunConfig()]) == {}


def test_no_two_settings_have_one_title() -> None:
    titles = comparison.setting_titles()
    assert len(set(titles.values())) == len(titles)
    assert titles["objective.beta"] == "β (how much the teacher counts)"
    assert titles["student.size"] == "Size (student)"
    assert titles.keys() == comparison.flat(RunConfig()).keys()


def test_settings_are_told_in_words() -> None:
    kept = "uploads/0123.csv"
    configs = [
        parse({"data": {"name": "csv", "path": kept, "label_names": {"0": "bad"}}, "training": {"baseline": False}}),
        RunConfig(),
    ]
    table = _comparison.settings_table(["one", "two"], configs, {kept: "reviews.csv"})
    assert list(table.columns) == ["one", "two"]
    assert list(table.loc["File or folder"]) == ["reviews.csv", "–"]
    assert list(table.loc["Names of the labels"]) == ["0 = bad", "–"]
    assert list(table.loc["Train the baseline"]) == ["no", "yes"]


# Results


def test_the_mean_counts_where_there_are_several_seeds() -> None:
    seeds = {"count": 3, "student": {"mean": 0.25, "std": 0.125}, "baseline": None}
    result = result_of(0.8, seeds=seeds)
    assert comparison.accuracy(result, "student") == 0.25
    assert comparison.spread(result, "student") == 0.125
    assert comparison.accuracy(result, "teacher") == 0.9
    assert comparison.spread(result, "baseline") is None
    assert comparison.accuracy({**result, "baseline": None}, "baseline") is None


def test_differences_are_those_to_the_reference() -> None:
    figure = Figure("x", "share", "higher", (0.5, 0.75, None))
    assert figure.differences(0) == (None, 0.25, None)
    assert figure.differences(1) == (-0.25, None, None)
    assert figure.differences(2) == (None, None, None)


@pytest.mark.parametrize(
    ("better", "values", "best"),
    [
        ("higher", (1.0, 2.0, None), {1}),
        ("lower", (1.0, 2.0, None), {0}),
        ("higher", (2.0, 2.0, 1.0), {0, 1}),
        ("higher", (2.0, 2.0), set()),
        ("higher", (2.0, None), set()),
        (None, (1.0, 2.0), set()),
    ],
)
def test_the_best_is_marked_where_there_is_one(better: Any, values: tuple[float | None, ...], best: set[int]) -> None:
    assert Figure("x", "share", better, values).best() == best


def test_the_table_of_results_has_differences_in_points_and_marks_the_best() -> None:
    figures = comparison.figures([result_of(0.8), result_of(0.85), None])
    table = _comparison.results_table(["one", "two", "three"], figures, 0)
    assert list(table.loc["Student"]) == ["80.0 %", "85.0 % (+5.0) ★", "–"]
    assert list(table.loc["Teacher"]) == ["90.0 %", "90.0 % (+0.0)", "–"]
    assert list(table.loc["Gain by the teacher"]) == ["+10.0 ± 2.0", "+15.0 ± 2.0 (+5.0) ★", "–"]
    assert list(table.loc["Parameters"]) == ["1,000", "1,000 (+0)", "–"]
    assert "Macro F1" not in table.index, "a figure that no run has takes no row"
    other = _comparison.results_table(["one", "two", "three"], figures, 1)
    assert list(other.loc["Student"]) == ["80.0 % (-5.0)", "85.0 % ★", "–"]


def test_runs_without_results_have_no_figures() -> None:
    assert comparison.figures([None, None]) == []


def test_a_run_without_baseline_has_no_gain() -> None:
    made = result_of(0.8, baseline=None, gain=None, gain_margin=None)
    table = _comparison.results_table(["one", "two"], comparison.figures([made, result_of(0.8)]), 0)
    assert list(table.loc["Gain by the teacher"]) == ["–", "+10.0 ± 2.0"]
    assert list(table.loc["Student alone"]) == ["–", "70.0 %"]


# Looks


@given(RUN_IDS)
def test_each_run_of_a_selection_has_a_look_of_its_own(run_ids: list[str]) -> None:
    found = _comparison.looks(run_ids)
    assert list(found) == run_ids
    assert len(set(found.values())) == len(run_ids)
    if len(run_ids) <= len(_comparison.COLOURS):
        assert len({look.colour for look in found.values()}) == len(run_ids)
    assert found == _comparison.looks(run_ids)


@given(RUN_IDS, st.data())
def test_a_run_keeps_its_look_when_others_come_and_go(run_ids: list[str], data: st.DataObject) -> None:
    first = data.draw(st.lists(st.sampled_from(run_ids), min_size=1, unique=True))
    before = _comparison.looks(first)
    after = _comparison.looks(run_ids, before)
    assert {run_id: after[run_id] for run_id in first} == before
    again = _comparison.looks(first, after)
    assert again == before


def test_a_look_comes_from_the_id_alone() -> None:
    one, two = "20260101-000000-000001", "20260101-000000-000002"
    alone = _comparison.looks([one])[one]
    assert _comparison.looks([one, two])[one] == alone
    assert len({_comparison.looks([f"run-{number}"])[f"run-{number}"] for number in range(200)}) > 30


def test_runs_of_one_name_are_told_apart_by_their_ids() -> None:
    rows = [Row(f"20260101-000000-00000{n}", notes=Notes(name)) for n, name in enumerate(("a", "a", "b", ""))]
    assert _comparison.names(rows) == ["a (000000)", "a (000001)", "b", "000003"]


# Curves


def history_of(accuracies: list[float], steps: int = 4) -> History:
    history = History()
    events = [
        StageStarted("distil", steps),
        *(Step("distil", step, 8, 0.5, 0.25, 1.0 + step, 0.01) for step in range(1, steps + 1)),
        *(Epoch("distil", number, "val", value, 0.5) for number, value in enumerate(accuracies, 1)),
    ]
    history.feed((float(number), event) for number, event in enumerate(events))
    return history


def test_curves_lie_over_one_another_in_the_looks_of_their_runs() -> None:
    called, looks = ["one", "two <b>"], list(_comparison.looks(["a", "b"]).values())
    histories = [history_of([0.5, 0.6]), history_of([0.7])]
    figure = _comparison.accuracy_figure(called, looks, histories)
    assert [trace.name for trace in figure.data] == ["one", html.escape("two <b>")]
    assert [(trace.line.color, trace.line.dash) for trace in figure.data] == [
        (look.colour, look.dash) for look in looks
    ]
    assert [list(trace.y) for trace in figure.data] == [[0.5, 0.6], [0.7]]
    low, high = figure.layout.yaxis.range
    assert low <= 0.5
    assert high >= 0.7


@pytest.mark.parametrize(("what", "first"), [("Total", 2.0), ("CE", 0.5), ("KL", 0.25)])
def test_losses_are_drawn_by_epoch_whatever_the_size_of_a_step(what: str, first: float) -> None:
    looks = list(_comparison.looks(["a", "b"]).values())
    configs = [parse({"training": {"epochs": 2}}), parse({"training": {"epochs": 6}})]
    histories = [history_of([0.5], steps=4), history_of([0.5], steps=3)]
    figure = _comparison.loss_figure(what, ["one", "two"], looks, histories, configs)
    assert [list(trace.x) for trace in figure.data] == [[0.5, 1.0, 1.5, 2.0], [2.0, 4.0, 6.0]]
    assert all(trace.y[0] == first for trace in figure.data)


def test_a_run_without_curves_is_left_out_and_long_ones_are_thinned() -> None:
    looks = list(_comparison.looks(["a", "b"]).values())
    long = history_of([0.5], steps=3000)
    figure = _comparison.loss_figure("Total", ["one", "two"], looks, [History(), long], [RunConfig(), RunConfig()])
    (line,) = figure.data
    assert line.name == "two"
    assert len(line.x) <= _comparison.MAX_POINTS
    assert len(_comparison.accuracy_figure(["one"], looks[:1], [History()]).data) == 0


def test_losses_with_unlike_distances_are_not_said_to_be_comparable() -> None:
    base = RunConfig()
    assert not _comparison.unlike_distances([base, parse({"objective": {"beta": 1}})])
    assert _comparison.unlike_distances([base, parse({"objective": {"temperature": 4}})])


def test_the_key_shows_names_as_they_are_and_the_look_of_each() -> None:
    looks = [_comparison.Look("#0072B2", "6px,3px"), _comparison.Look("#D55E00", "solid")]
    key = _comparison.key(["<script>", "two"], looks)
    assert "<script>" not in key
    assert "&lt;script&gt;" in key
    assert "#0072B2 0px 6px, transparent 6px 9px" in key
    assert "background: #D55E00;" in key
