"""Figures from histories and results: what they draw, under which names, in which colours."""

from __future__ import annotations

import statistics
from typing import Any

import plotly.graph_objects as go
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from distill_core.config import FROZEN_PASSES, Divergence, RunConfig
from distill_core.events import Epoch, Event, History, StageFinished, StageStarted, Step
from distill_core.presets import load
from distill_core.training.losses import ramped
from pages import _figures
from pages._figures import (
    BASELINE,
    CE,
    KL,
    STUDENT,
    TEACHER,
    accuracy_figure,
    confusion_figure,
    counts_figure,
    lengths_figure,
    loss_figure,
    loss_title,
    probability_figure,
    seeds_figure,
    unknown_figure,
)

INK = "#123456"


def history_of(*events: Event) -> History:
    history = History()
    history.feed((float(number), event) for number, event in enumerate(events))
    return history


def steps(stage: str, count: int, *, joint: bool = False, kl: bool = True, loss: float = 2) -> list[Event]:
    return [
        StageStarted(stage, 50),
        *(
            Step(stage, n, 8 * n, 1 / n, 0.1 / n if kl else None, loss / n, 1e-3, 3 / n if joint else None)
            for n in range(1, count + 1)
        ),
    ]


def lines(figure: go.Figure) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def epochs(stage: str, *accuracies: float | None, teacher: list[float] | None = None) -> list[Event]:
    return [
        StageStarted(stage, 10),
        *(
            Epoch(stage, number, "val", accuracy, 0.5, None if teacher is None else teacher[number - 1])
            for number, accuracy in enumerate(accuracies, start=1)
        ),
    ]


# Losses


def test_a_students_losses_are_ce_the_weighted_distance_and_their_total() -> None:
    config = load(settings=["objective.beta=3", "objective.temperature=2"])
    figure = loss_figure(history_of(*steps("distil", 4, loss=2.2)), config, "distil", INK)
    found = lines(figure)
    assert list(found) == ["CE", "β·T²·KL", "total"]
    assert list(found["CE"].x) == [1, 2, 3, 4]
    assert list(found["CE"].y) == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert list(found["β·T²·KL"].y) == pytest.approx([12 * 0.1 / n for n in range(1, 5)])
    assert list(found["total"].y) == pytest.approx([2.2 / n for n in range(1, 5)])
    assert [trace.line.color for trace in figure.data] == [CE, KL, INK]
    assert list(figure.layout.xaxis.range) == [0, 50]


@pytest.mark.parametrize(
    ("divergence", "word"),
    [
        ("kl_teacher_student", "KL"),
        ("kl_student_teacher", "KL"),
        ("jensen_shannon", "JS"),
        ("logit_mse", "MSE"),
    ],
)
@pytest.mark.parametrize(("temperature", "squared"), [(1, ""), (2, "·T²")])
def test_a_distance_is_called_by_its_name(divergence: Divergence, word: str, temperature: int, squared: str) -> None:
    config = load(settings=[f"objective.divergence={divergence}", f"objective.temperature={temperature}"])
    assert f"β{squared}·{word}" in lines(loss_figure(history_of(*steps("distil", 2)), config, "distil", INK))
    assert f"β·{word}" in loss_title("distil", config)
    assert f"β·{word}" in loss_title("assistant", config)


def test_joint_training_shows_the_ce_of_both() -> None:
    config = load("article")
    found = lines(loss_figure(history_of(*steps("distil", 3, joint=True)), config, "distil", INK))
    assert list(found) == ["CE of the teacher", "CE of the student", "β·KL", "total"]
    assert list(found["CE of the teacher"].y) == pytest.approx([3, 3 / 2, 1])
    assert list(found["CE of the student"].y) == pytest.approx([1, 1 / 2, 1 / 3])
    assert (found["CE of the teacher"].line.color, found["CE of the student"].line.color) == (TEACHER, CE)
    assert loss_title("distil", config).startswith("Both learning")


Losses = tuple[float, float, float]
"""CE of the student, divergence and CE of the teacher, of one step."""
WEIGHTS = st.sampled_from([0.0, 0.5, 1.0, 2.0])
LOSSES = st.tuples(*[st.floats(0, 5)] * 3)


def made_history(config: RunConfig, windows: list[list[Losses]]) -> tuple[History, list[float]]:
    """A student's history, whose events hold means over several steps, and the mean part of the divergence in each."""
    objective, joint = config.objective, config.objective.mode == "joint"
    total = sum(len(window) for window in windows)
    events, parts, done = list[Event]([StageStarted("distil", total)]), [], 0
    for window in windows:
        betas = [ramped(objective.beta, objective.beta_ramp, (done + place) / total) for place in range(len(window))]
        far = [beta * objective.temperature**2 * kl for beta, (_, kl, _) in zip(betas, window, strict=True)]
        ce, kl, teacher_ce = (statistics.fmean(values) for values in zip(*window, strict=True))
        parts.append(statistics.fmean(far))
        loss = objective.student_ce_weight * ce + parts[-1] + (objective.teacher_ce_weight * teacher_ce if joint else 0)
        done += len(window)
        events.append(Step("distil", done, 8 * done, ce, kl, loss, 1e-3, teacher_ce if joint else None))
    return history_of(*events), parts


@given(
    windows=st.lists(st.lists(LOSSES, min_size=1, max_size=4), min_size=1, max_size=8),
    student=WEIGHTS,
    teacher=WEIGHTS,
    beta=WEIGHTS,
    ramp=st.sampled_from([0.0, 0.3, 1.0]),
    temperature=st.sampled_from([0.5, 1.0, 4.0]),
    mode=st.sampled_from(["offline", "joint"]),
)
def test_the_parts_of_a_loss_add_up_to_it(
    windows: list[list[Losses]],
    student: float,
    teacher: float,
    beta: float,
    ramp: float,
    temperature: float,
    mode: str,
) -> None:
    assume(student or beta)
    values = {"student_ce_weight": student, "teacher_ce_weight": teacher, "beta": beta, "beta_ramp": ramp}
    values |= {"temperature": temperature, "mode": mode}
    config = load(settings=[f"objective.{name}={value}" for name, value in values.items()])
    history, far = made_history(config, windows)
    found = lines(loss_figure(history, config, "distil", INK))
    total = found.pop("total").y
    parts = [line.y for line in found.values()]
    assert len(parts) == (student > 0) + (beta > 0) + (teacher > 0 and mode == "joint"), "one for each weight above 0"
    assert [sum(at) for at in zip(*parts, strict=True)] == pytest.approx(total, abs=1e-6)
    if beta:
        (name,) = (name for name in found if name.endswith("KL"))
        assert list(found[name].y) == pytest.approx(far, abs=1e-6)


def test_where_some_texts_have_no_label_the_distance_is_that_of_the_event() -> None:
    settings = ["training.transfer=true", "objective.beta=2", "objective.temperature=3", "objective.beta_ramp=0.5"]
    events = [StageStarted("distil", 4), *(Step("distil", n, 8 * n, None, 0.1 * n, 1.0, 1e-3, None) for n in (1, 2, 4))]
    found = lines(loss_figure(history_of(*events), load(settings=settings), "distil", INK))
    assert list(found["β·T²·KL"].y) == pytest.approx([18 * 0.1 / 2, 18 * 0.2, 18 * 0.4])
    assert list(found["CE"].y) == [None, None, None]


@pytest.mark.parametrize(
    ("settings", "names", "title"),
    [
        (["student_ce_weight=0.5"], ["0.5·CE", "β·T²·KL", "total"], "Student: CE, β·KL and total"),
        (["student_ce_weight=0"], ["β·T²·KL", "total"], "Student: β·KL and total"),
        (["beta=0"], ["CE", "total"], "Student: CE and total"),
    ],
)
def test_a_part_says_its_weight_and_one_that_does_not_count_is_left_out(
    settings: list[str], names: list[str], title: str
) -> None:
    config = load(settings=[f"objective.{setting}" for setting in settings])
    assert list(lines(loss_figure(history_of(*steps("distil", 2)), config, "distil", INK))) == names
    assert loss_title("distil", config) == title


@pytest.mark.parametrize(
    ("weights", "names", "title"),
    [
        ((2, 0.5), ["0.5·CE of the teacher", "2·CE of the student"], "CE of each, β·KL"),
        ((1, 0), ["CE of the student"], "CE of the student, β·KL"),
        ((0, 1), ["CE of the teacher"], "CE of the teacher, β·KL"),
        ((0, 0), [], "β·KL"),
    ],
)
def test_both_models_that_learn_have_their_own_weight(
    weights: tuple[float, float], names: list[str], title: str
) -> None:
    student, teacher = weights
    settings = [f"objective.student_ce_weight={student}", f"objective.teacher_ce_weight={teacher}"]
    config = load("article", settings=settings)
    found = lines(loss_figure(history_of(*steps("distil", 2, joint=True)), config, "distil", INK))
    assert list(found) == [*names, "β·KL", "total"]
    assert loss_title("distil", config) == f"Both learning: {title} and total"


@pytest.mark.parametrize("stage", _figures.LOSS_STAGES)
@pytest.mark.parametrize(("divergence", "beta"), [("logit_mse", 2), ("logit_mse", 0), ("jensen_shannon", 2)])
def test_the_axis_says_nats_only_where_all_losses_are_nats(stage: str, divergence: str, beta: int) -> None:
    config = load(settings=[f"objective.divergence={divergence}", f"objective.beta={beta}"])
    title = loss_figure(history_of(*steps(stage, 2)), config, stage, INK).layout.yaxis.title.text
    squared = stage in ("distil", "assistant") and divergence == "logit_mse" and beta > 0
    assert title == ("loss" if squared else "nats")


@pytest.mark.parametrize(
    ("stage", "colour", "dash"),
    [("pretrain", TEACHER, "solid"), ("finetune", TEACHER, "solid"), ("baseline", BASELINE, "dash")],
)
def test_a_model_that_learns_alone_has_one_loss_in_its_colour(stage: str, colour: str, dash: str) -> None:
    (trace,) = loss_figure(history_of(*steps(stage, 3, kl=False)), RunConfig(), stage, INK).data
    assert (trace.name, trace.line.color, trace.line.dash) == ("CE", colour, dash)


@pytest.mark.parametrize("stage", _figures.LOSS_STAGES)
def test_every_stage_with_a_loss_has_a_title_and_a_chart(stage: str) -> None:
    assert loss_title(stage, RunConfig())
    assert loss_figure(history_of(*steps(stage, 2)), RunConfig(), stage, INK).data


@pytest.mark.parametrize("begun", [True, False])
def test_before_the_first_number_the_chart_says_so(begun: bool) -> None:
    history = history_of(StageStarted("distil", 10)) if begun else History()
    figure = loss_figure(history, RunConfig(), "distil", INK)
    assert not figure.data
    assert "first numbers" in figure.layout.annotations[0].text


def test_a_long_curve_is_thinned_and_a_single_number_is_a_dot() -> None:
    long = loss_figure(history_of(*steps("finetune", 4321, kl=False)), RunConfig(), "finetune", INK).data[0]
    assert _figures.MAX_POINTS / 2 < len(long.x) == len(long.y) <= _figures.MAX_POINTS
    assert list(long.y) == pytest.approx([1 / step for step in long.x])
    dot = loss_figure(history_of(*steps("finetune", 1, kl=False)), RunConfig(), "finetune", INK).data[0]
    assert dot.mode == "markers"


# Accuracies


def test_before_the_first_epoch_there_is_no_accuracy() -> None:
    figure = accuracy_figure(History(), RunConfig())
    assert not figure.data
    assert "after the first epoch" in figure.layout.annotations[0].text


def test_a_teacher_is_a_line_while_it_learns_and_a_level_afterwards() -> None:
    learning = [*epochs("finetune", 0.6, 0.7)]
    (line,) = accuracy_figure(history_of(*learning), RunConfig()).data
    assert (line.name, list(line.y), line.line.color) == ("teacher", [0.6, 0.7], TEACHER)
    finished = [*learning, StageFinished("finetune", 1.0, 0.7), *epochs("baseline", 0.5)]
    found = lines(accuracy_figure(history_of(*finished), RunConfig()))
    assert list(found["teacher"].y) == [0.7, 0.7]
    assert list(found["student alone"].y) == [0.5]
    assert found["student alone"].line.dash == "dash"


def test_a_teacher_of_more_epochs_than_it_was_given_stays_on_the_chart() -> None:
    config = load(settings=["teacher.kind=pretrained", "teacher.frozen=true", "teacher.epochs=2", "training.epochs=3"])
    learning = epochs("finetune", *[0.5 + 0.01 * number for number in range(25)])
    for seen, last in ((2, 2 * FROZEN_PASSES), (25, 25)):
        figure = accuracy_figure(history_of(*learning[: 1 + seen]), config)
        assert list(figure.layout.xaxis.range) == [0.5, last + 0.5]
    moving = load(settings=["teacher.kind=pretrained", "teacher.epochs=2"])
    assert list(accuracy_figure(history_of(*learning[:2]), moving).layout.xaxis.range) == [0.5, 2.5]
    student = accuracy_figure(history_of(*learning, *epochs("distil", 0.5)), config)
    assert list(student.layout.xaxis.range) == [0.5, 3.5], "the epochs of the student, beside its teacher's level"


def test_a_teacher_that_learns_beside_its_student_moves() -> None:
    events = [StageStarted("cache", 1), StageFinished("cache", 0.0, 0.8)]
    events += epochs("distil", 0.5, 0.6, teacher=[0.75, 0.7])
    found = lines(accuracy_figure(history_of(*events), load("article")))
    assert list(found) == ["teacher", "student"]
    assert list(found["teacher"].y) == [0.75, 0.7]
    assert list(found["student"].y) == [0.5, 0.6]


def test_a_run_without_a_teachers_accuracy_shows_the_students_alone() -> None:
    events = [*epochs("baseline", 0.5), *epochs("distil", 0.6)]
    found = lines(accuracy_figure(history_of(*events), RunConfig()))
    assert list(found) == ["student alone", "student"]
    assert (found["student"].line.color, found["student alone"].line.color) == (STUDENT, BASELINE)
    assert found["student"].error_y.array is None


def test_several_seeds_are_a_mean_with_error_bars() -> None:
    events = [*epochs("baseline", 0.5, 0.6), *epochs("distil", 0.6, 0.8), StageStarted("repeat", 10)]
    repeated = {("baseline", 1): (0.4, 0.6), ("student", 1): (0.8, 0.7), ("baseline", 2): (0.6, 0.6)}
    for (role, seed), values in repeated.items():
        events += [
            Epoch("repeat", number, "val", value, 0.5, role=role, seed=seed)
            for number, value in enumerate(values, start=1)
        ]
    found = lines(accuracy_figure(history_of(*events), RunConfig()))
    assert list(found["student"].y) == pytest.approx([0.7, 0.75])
    assert list(found["student"].error_y.array) == pytest.approx(
        [statistics.stdev([0.6, 0.8]), statistics.stdev([0.8, 0.7])]
    )
    assert list(found["student alone"].y) == pytest.approx([0.5, 0.6])
    assert list(found["student alone"].error_y.array) == pytest.approx([0.1, 0.0])


def test_accuracies_have_a_scale_that_does_not_magnify_noise() -> None:
    figure = accuracy_figure(history_of(*epochs("distil", 0.801, 0.802)), RunConfig())
    low, high = figure.layout.yaxis.range
    assert high - low == pytest.approx(0.1)
    assert low < 0.801
    assert high > 0.802
    perfect = accuracy_figure(history_of(*epochs("distil", 1.0, 1.0)), RunConfig()).layout.yaxis.range
    assert perfect[0] < 1.0 <= perfect[1] < 1.02


# Results


def by_seed(values: list[float]) -> dict[str, Any]:
    return {"values": values, "mean": statistics.fmean(values), "std": statistics.stdev(values)}


@pytest.mark.parametrize("baseline", [True, False])
def test_seeds_are_dots_with_their_mean_and_deviation_beside_the_teachers_line(baseline: bool) -> None:
    students, alone = [0.7, 0.8, 0.75], [0.6, 0.7, 0.65]
    seeds = {"count": 3, "student": by_seed(students), "baseline": by_seed(alone) if baseline else None}
    figure = seeds_figure({"seeds": seeds, "teacher": {"test_accuracy": 0.82}})
    found = lines(figure)
    assert list(found["student, each seed"].y) == students
    assert list(found["student, mean"].y) == pytest.approx([0.75])
    assert list(found["student, mean"].error_y.array) == pytest.approx([0.05])
    assert ("student alone, mean" in found) is baseline
    assert found["student, mean"].marker.color == STUDENT
    assert [shape.y0 for shape in figure.layout.shapes] == [0.82]


def test_confusion_shades_a_row_by_its_share_and_writes_its_counts() -> None:
    figure = confusion_figure([[30, 10], [0, 0]], ["bad", "good"], "student")
    (heat,) = figure.data
    assert [list(row) for row in heat.z] == [[0.75, 0.25], [0, 0]]
    assert [list(row) for row in heat.text] == [["30", "10"], ["0", "0"]]
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        assert (list(axis.tickvals), list(axis.ticktext)) == ([0, 1], ["bad", "good"])
    assert list(heat.customdata[0]) == ["true bad, answered bad", "true bad, answered good"]
    assert heat.colorscale[1][1] == STUDENT
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("answered", "true")


@pytest.mark.parametrize(("classes", "written"), [(12, True), (13, False), (50, False)])
def test_counts_are_written_into_a_confusion_of_few_classes(classes: int, written: bool) -> None:
    rows = [[1] * classes for _ in range(classes)]
    (heat,) = confusion_figure(rows, [str(number) for number in range(classes)], "teacher").data
    assert (heat.texttemplate is not None) is written


def test_labels_that_are_numbers_stay_labels() -> None:
    figure = confusion_figure([[1, 0], [0, 1]], ["0", "1"], "baseline")
    assert list(figure.layout.xaxis.ticktext) == list(figure.layout.yaxis.ticktext) == ["0", "1"]
    assert probability_figure({"0": 0.25, "1": 0.75}, "student").layout.yaxis.type == "category"
    counts = {split: [1, 2] for split in ("train", "val", "test")}
    assert counts_figure(counts, ["0", "1"]).layout.xaxis.type == "category"


# Data


def test_class_counts_are_a_bar_a_class_and_side() -> None:
    figure = counts_figure({"train": [8, 4], "val": [1, 1], "test": [2, 0]}, ["bad", "good"])
    assert {name: list(bar.y) for name, bar in lines(figure).items()} == {
        "train": [8, 4],
        "val": [1, 1],
        "test": [2, 0],
    }
    assert all(list(bar.x) == ["bad", "good"] for bar in figure.data)


def test_lengths_are_bars_over_their_bins() -> None:
    (bars,) = lengths_figure({3: 10, 8: 0, 13: 4}).data
    assert list(bars.x) == [5.5, 10.5, 15.5]
    assert bars.width == 5
    assert list(bars.y) == [10, 0, 4]
    assert list(bars.customdata) == ["3 to 7", "8 to 12", "13 to 17"]


def test_texts_of_a_single_length_are_one_bar() -> None:
    (bars,) = lengths_figure({7: 20}).data
    assert (list(bars.x), bars.width, list(bars.customdata)) == ([7.5], 1, ["7 to 7"])


def test_unknown_words_end_at_the_chosen_vocabulary() -> None:
    figure = unknown_figure({250: 0.4, 1000: 0.2}, 3000, 0.1)
    (line,) = figure.data
    assert list(line.x) == [250, 1000, 3000]
    assert list(line.y) == [0.4, 0.2, 0.1]
    assert (figure.layout.annotations[0].x, figure.layout.annotations[0].text) == (3000, "chosen")


def test_probabilities_are_bars_in_the_order_of_the_labels() -> None:
    figure = probability_figure({"good": 0.25, "bad": 0.75}, "teacher")
    (bars,) = figure.data
    assert list(bars.y) == ["good", "bad"]
    assert list(bars.text) == ["25.0 %", "75.0 %"]
    assert bars.marker.color == TEACHER
    assert figure.layout.yaxis.autorange == "reversed"


def test_classes_that_begin_alike_stay_apart_in_the_confusion_matrix() -> None:
    labels = ["strongly positive review", "strongly positive remark", "neutral"]
    figure = _figures.confusion_figure([[3, 1, 0], [0, 4, 1], [2, 0, 5]], labels, "student")
    assert len(set(figure.layout.xaxis.tickvals)) == 3
    assert figure.data[0].x is None
    assert [list(row) for row in figure.data[0].text] == [
        ["3", "1", "0"],
        ["0", "4", "1"],
        ["2", "0", "5"],
    ]
    assert "strongly positive remark" in figure.data[0].customdata[1][0]
