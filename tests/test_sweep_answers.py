"""Comparisons of cells text by text, and sentences that say what the cells support and no more."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill_core.analysis.metrics import gain_margin, right_texts
from distill_core.errors import ConfigError
from distill_core.sweep.answers import listed, named
from distill_core.sweep.cells import Cell, Measured
from distill_core.sweep.contrast import (
    NORMAL,
    Contrast,
    against_teacher,
    by_texts,
    contrast,
    holm,
    levels,
    pooled,
    right,
    right_alone,
)
from distill_core.sweep.questions import QUESTIONS, answer_of, ask
from distill_core.sweep.space import SweepConfig, cell_config, grid, parse_sweep
from tests.made_cells import Bits, all_finished, drawn, finished, measured_of, sweep_of

CLAIMS = re.compile(
    r"clearly|matters:|capacity gap|teaches best|falls behind|points (fewer|more) of the test texts right"
)
"""Words that say that two models differ."""
BETAS = {"objective__beta": (0, 1, 2), "objective__temperature": (2, 4)}


def given_bits(seed: int, share: float = 0.75, texts: int = 400) -> Bits:
    return drawn(np.random.default_rng(seed), share, texts=texts)


def made_better(bits_SN: Bits, first: int) -> Bits:
    """The same answers, but for the first texts, which are all right."""
    return bits_SN | (np.arange(bits_SN.shape[1]) < first)


# Comparisons


@st.composite
def answered(draw: st.DrawFn) -> tuple[list[dict[str, torch.Tensor]], torch.Tensor]:
    """For each seed two models' logits on the same texts, and the labels."""
    seeds, texts, classes = draw(st.integers(1, 4)), draw(st.integers(50, 90)), draw(st.integers(2, 4))
    chance = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    labels_N = torch.randint(classes, (texts,), generator=chance)
    roles = ("student", "baseline")
    return [{role: torch.randn(texts, classes, generator=chance) for role in roles} for _ in range(seeds)], labels_N


@given(made=answered())
def test_two_cells_are_compared_by_the_formula_of_the_gain(
    made: tuple[list[dict[str, torch.Tensor]], torch.Tensor],
) -> None:
    logits, labels_N = made
    bits = {role: tuple(right_texts(seed[role], labels_N) for seed in logits) for role in ("student", "baseline")}
    found = measured_of(np.zeros((1, len(labels_N)), dtype=bool), right=bits["student"], right_alone=bits["baseline"])
    apart = contrast(right(found), right_alone(found))
    assert apart is not None
    shares = {
        role: np.mean([float((seed[role].argmax(1) == labels_N).double().mean()) for seed in logits]) for role in bits
    }
    assert apart.difference == pytest.approx(shares["student"] - shares["baseline"], abs=1e-12)
    assert apart.margin == pytest.approx(gain_margin(logits, labels_N), abs=1e-12)


@given(texts=st.integers(50, 70), seeds=st.integers(1, 3), seed=st.integers(0, 99))
def test_answers_come_back_from_their_digits(texts: int, seeds: int, seed: int) -> None:
    bits_SN = drawn(np.random.default_rng(seed), 0.5, seeds, texts)
    found = right(measured_of(bits_SN))
    assert found is not None
    assert np.array_equal(found, bits_SN)


def test_digits_may_end_within_a_byte() -> None:
    bits_SN = given_bits(0, texts=52)
    digits = tuple(seed[:13] for seed in measured_of(bits_SN).right)
    found = right(measured_of(bits_SN, right=digits))
    assert found is not None
    assert np.array_equal(found, bits_SN)


@pytest.mark.parametrize("changes", [{"right": ()}, {"right": ("ff", "ff")}])
def test_answers_that_are_not_known_are_compared_with_nothing(changes: dict[str, Any]) -> None:
    assert right(measured_of(given_bits(0), **changes)) is None
    assert contrast(None, right(measured_of(given_bits(0)))) is None
    assert pooled([None, right(measured_of(given_bits(0)))]) is None
    assert pooled([]) is None


def test_few_texts_say_nothing() -> None:
    assert right(measured_of(given_bits(0, texts=49))) is None


@given(seed=st.integers(0, 99), order=st.permutations(range(3)))
def test_the_same_models_in_another_order_do_not_differ(seed: int, order: Sequence[int]) -> None:
    several = [drawn(np.random.default_rng(seed + number), 0.7).astype(np.float32) for number in range(3)]
    apart = contrast(pooled(several), pooled([several[place] for place in order]))
    assert apart is not None
    assert not apart.clear
    assert apart.p_value == 1


@given(difference=st.floats(-0.5, 0.5), margin=st.floats(0.001, 0.5))
def test_a_difference_is_clear_where_its_chance_is_less_than_one_in_twenty(difference: float, margin: float) -> None:
    apart = Contrast(difference, margin)
    if abs(abs(difference) - margin) > 1e-6:
        assert apart.clear == (apart.p_value < 0.05)


def test_a_difference_without_spread_is_no_chance() -> None:
    assert Contrast(0.1, 0.0).p_value == 0
    assert Contrast(0.0, 0.0).p_value == 1
    assert Contrast(0.1, 0.1).p_value == pytest.approx(0.05)


def test_holm_asks_more_of_the_smallest() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]  # the example of Holm's method in textbooks
    assert holm([]) == []
    assert holm([0.04]) == [True]


@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_bonferroni_and_no_correction(p_values: list[float]) -> None:
    for p_value, clear in zip(p_values, holm(p_values), strict=True):
        assert clear or p_value > 0.05 / len(p_values)
        assert not clear or p_value <= 0.05


@given(seed=st.integers(0, 99), share=st.floats(0.5, 1))
def test_the_margin_against_the_teacher_is_that_of_two_classes(seed: int, share: float) -> None:
    chance = np.random.default_rng(seed)
    student_SN, teacher_N = drawn(chance, 0.7, seeds=1), drawn(chance, share, seeds=1)[0]
    agreement = float((student_SN[0] == teacher_N).mean())
    found = measured_of(student_SN, agreement=agreement, teacher_accuracy=float(teacher_N.mean()))
    apart, expected = against_teacher(found), contrast(student_SN.astype(float), teacher_N[None].astype(float))
    assert expected is not None
    assert (apart.difference, apart.margin) == pytest.approx((expected.difference, expected.margin))


def test_seeds_add_to_the_margin_against_the_teacher() -> None:
    bits_SN = given_bits(3)
    found = measured_of(bits_SN, agreement=1.0, teacher_accuracy=float(bits_SN.mean()))
    assert against_teacher(found).margin == pytest.approx(NORMAL * float(bits_SN.mean(1).std(ddof=1)) / math.sqrt(3))


def test_cells_are_grouped_by_the_texts_that_tested_them() -> None:
    found, other = measured_of(given_bits(0)), measured_of(given_bits(0), dataset="imdb")
    cells = [
        finished(0, {"data.split_seed": 0, "data.max_tokens": 10}, found),
        finished(1, {"data.split_seed": 0, "data.max_tokens": 20}, found),
        finished(2, {"data.split_seed": 1, "data.max_tokens": 10}, found),
        finished(3, {"data.split_seed": 0, "data.max_tokens": 10}, other),
    ]
    groups = by_texts([(cell, cell.measured) for cell in cells if cell.measured is not None])
    assert [[cell.number for cell, _ in group] for group in groups] == [[0, 1], [2], [3]]


def test_values_are_compared_only_in_whole_rows() -> None:
    config = sweep_of(**BETAS)
    found = [measured_of(given_bits(number)) for number in range(6)]
    pairs = list(zip(all_finished(config, found), found, strict=True))
    assert levels(pairs, "objective.beta") == {0: found[0:2], 1: found[2:4], 2: found[4:6]}
    assert levels(pairs[:5], "objective.beta") == {0: found[0:1], 1: found[2:3], 2: found[4:5]}
    assert levels(pairs[:1] + pairs[3:4], "objective.beta") == {}
    assert levels(pairs, "student.size") == {}


# Sentences


def test_the_best_cell_is_chosen_on_validation_and_told_on_test() -> None:
    lucky, chosen = measured_of(given_bits(0, 0.9), val_accuracy=0.7), measured_of(given_bits(1, 0.7), val_accuracy=0.8)
    said = answer_of(
        sweep_of(student__size=("S", "M")), all_finished(sweep_of(student__size=("S", "M")), [lucky, chosen])
    )
    assert said[0].startswith(
        f"Student size = M does best on the validation texts and gets {100 * chosen.accuracy:.1f} %"
    )
    assert "; of 1 other cell, 1 is clearly better on the test texts." in said[0]


def test_cells_that_are_clearly_worse_are_counted_beside_those_that_are_not() -> None:
    bits_SN = given_bits(0)
    good = [measured_of(made_better(bits_SN, 40)) for _ in range(2)]
    poor = [measured_of(bits_SN) for _ in range(4)]
    config = sweep_of(**BETAS)
    assert answer_of(config, all_finished(config, [*poor, *good]))[0] == (
        "β = 2, temperature = 2 is one of the best on the validation texts and gets "
        f"{100 * good[0].accuracy:.1f} % of the test texts right, but no baseline was trained, so nobody can say "
        "whether the teacher helped; of 5 other cells, 4 are clearly worse and 1 cannot be told from it."
    )


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (2, "; the other cannot be told from it."),
        (3, "; none of 2 other cells can be told from it."),
    ],
)
def test_cells_of_the_same_answers_cannot_be_told_apart(count: int, words: str) -> None:
    config, found = sweep_of(objective__beta=tuple(range(count))), measured_of(given_bits(0))
    said = answer_of(config, all_finished(config, [found] * count))
    assert said[0].startswith("β = 0 does as well as all others on the validation texts and gets ")
    assert said[0].endswith(words)


def test_cells_of_one_run_count_as_one() -> None:
    config, found = sweep_of(objective__beta=(0,), objective__temperature=(1, 2)), measured_of(given_bits(0))
    cells = [Cell(number, values, "finished", "run", measured=found) for number, values in enumerate(grid(config))]
    assert answer_of(config, cells)[0].startswith("β = 0, temperature = 1 gets ")


@pytest.mark.parametrize(
    ("gain", "margin", "words"),
    [
        (0.012, 0.009, "1.2 ± 0.9 points more than the same student without a teacher."),
        (-0.012, 0.009, "1.2 ± 0.9 points fewer than the same student without a teacher."),
        (0.004, 0.009, "0.4 ± 0.9 points more than the same student without a teacher, which may be chance."),
        (0.0, 0.0, "as many as the same student without a teacher."),
        (None, None, "but no baseline was trained, so nobody can say whether the teacher helped."),
    ],
)
def test_the_gain_is_told_with_its_margin(gain: float | None, margin: float | None, words: str) -> None:
    found = measured_of(given_bits(0), gain=gain, gain_margin=margin)
    said = answer_of(sweep_of(objective__beta=(2,)), [finished(0, {"objective.beta": 2}, found)])
    assert said == [f"β = 2 gets {100 * found.accuracy:.1f} % of the test texts right, {words}"]


def test_nothing_is_said_before_a_cell_has_ended() -> None:
    config = sweep_of(**BETAS)
    assert answer_of(config, []) == []
    assert answer_of(config, [Cell(0, {}, "running")]) == []


@pytest.mark.parametrize(
    ("states", "words"),
    [
        (["finished", "finished"], "So far, 2 of 6 cells finished."),
        (["finished", "running", "failed"], "So far, 1 of 6 cells finished; 1 failed."),
        (["failed"] * 6, "0 of 6 cells finished; 6 failed."),
        (
            ["finished", "finished", "failed", "pruned", "cancelled", "cancelled"],
            "2 of 6 cells finished; 1 failed; 1 stopped early as hopeless; 2 cancelled.",
        ),
    ],
)
def test_an_answer_says_how_many_cells_it_rests_on(states: list[Any], words: str) -> None:
    config, found = sweep_of(**BETAS), measured_of(given_bits(0))
    cells = [
        Cell(number, values, state, measured=found if state == "finished" else None)
        for number, (values, state) in enumerate(zip(grid(config), states, strict=False))
    ]
    assert answer_of(config, cells)[0] == words


def test_an_answer_on_one_seed_or_few_texts_warns() -> None:
    config = sweep_of(student__size=("S", "M"))
    one = [measured_of(drawn(np.random.default_rng(number), 0.7, seeds=1)) for number in range(2)]
    assert answer_of(config, all_finished(config, one))[-1].startswith("With one seed a cell, nobody knows")
    few = [measured_of(given_bits(number, texts=20)) for number in range(2)]
    said = answer_of(config, all_finished(config, few))
    assert said[-1] == "With 20 test texts nobody can tell cells apart; 50 would be the least."
    assert not any(CLAIMS.search(sentence) for sentence in said)


def test_data_sets_are_answered_one_by_one() -> None:
    config = sweep_of(data__name=("rotten_tomatoes", "bbc_news"), student__size=("S", "M"))
    found = [
        measured_of(given_bits(number), dataset=name)
        for number, name in enumerate(["rotten_tomatoes"] * 2 + ["bbc_news"] * 2)
    ]
    said = answer_of(config, all_finished(config, found))
    assert [sentence.split(",")[0] for sentence in said] == ["On Movie reviews", "On BBC news"]


@pytest.mark.parametrize(("knows", "warned"), [((0.6, 0.7), True), ((0.6, 0.9), False)])
def test_a_teacher_that_has_little_to_teach_is_called_so(knows: tuple[float, ...], warned: bool) -> None:
    config, bits_SN = sweep_of(teacher__size=("S", "M")), given_bits(0, 0.75)
    found = [measured_of(bits_SN, bits_SN, teacher_accuracy=share) for share in knows]
    said = [sentence for sentence in answer_of(config, all_finished(config, found)) if "little to teach" in sentence]
    words = f"right, and the same student without a teacher {100 * bits_SN.mean():.1f} %."
    told = [f"A teacher has little to teach here: it gets 70.0 % of the test texts {words}"]
    assert said == (told if warned else [])


@pytest.mark.parametrize(("commonest", "warned"), [(0.75, True), (0.7, False), (None, False)])
def test_students_that_have_learned_nothing_are_no_result(commonest: float | None, warned: bool) -> None:
    config, bits_SN = sweep_of(student__size=("S", "M")), given_bits(0, 0.75)
    found = [measured_of(bits_SN, accuracies=(0.75,) * 3, commonest=commonest)] * 2
    said = answer_of(config, all_finished(config, found))
    words = "No student has learned anything of use: one answer for all texts is right for 75.0 % too."
    assert (words in said) == warned


# The ready questions


def answered_by(name: str, make: Callable[[dict[str, Any]], Measured]) -> list[str]:
    """The answer to a ready question where each cell has measured what `make` makes of its values."""
    config = ask(name).config
    return answer_of(config, all_finished(config, [make(values) for values in grid(config)]))


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_ready_question_is_a_sweep_that_can_be_run(name: str) -> None:
    question = ask(name)
    assert parse_sweep(json.loads(question.config.to_json())) == question.config
    assert question.config.question == name
    assert {axis.field for axis in question.config.axes} >= set(question.needs)
    runs = [cell_config(question.config, values) for values in grid(question.config)]
    assert all(run.training.baseline and run.training.seeds == 3 and not run.teacher.pretrain for run in runs)


def test_a_question_that_nobody_has_prepared_is_told_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"question must be one of how-much-beta, .*, got 'why'"):
        ask("why")


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("seeds", [1, 3])
def test_no_answer_claims_a_difference_between_the_same_answers(name: str, seeds: int) -> None:
    bits_SN = drawn(np.random.default_rng(0), 0.78, seeds)
    said = answered_by(name, lambda values: measured_of(bits_SN, bits_SN, gain=0.0, gain_margin=0.0, parameters=31_000))
    assert said
    assert not any(CLAIMS.search(sentence) for sentence in said)


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_can_be_answered_at_every_moment(name: str) -> None:
    config = ask(name).config
    chance = np.random.default_rng(2)
    found = [measured_of(drawn(chance, 0.75), drawn(chance, 0.74)) for _ in grid(config)]
    cells = all_finished(config, found)
    for count in range(len(cells) + 1):
        some = [cells[place] for place in sorted(chance.permutation(len(cells))[:count])]
        said = answer_of(config, some)
        assert bool(said) == bool(some)
        assert all(sentence.endswith(".") and "None" not in sentence and "nan" not in sentence for sentence in said)


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_without_its_axis_is_answered_like_any_sweep(name: str) -> None:
    config = sweep_of(name, training__learning_rate=(0.1, 0.2))
    found = [measured_of(given_bits(number)) for number in range(2)]
    assert "does best on the validation texts" in answer_of(config, all_finished(config, found))[0]


def test_how_much_beta_names_the_values_that_are_as_good() -> None:
    poor, good = given_bits(0), made_better(given_bits(0), 80)
    said = answered_by(
        "how-much-beta", lambda values: measured_of(poor if values["objective.beta"] < 1 else good, poor)
    )
    assert said[0].startswith("β = 1, temperature = 1 is one of the best")
    assert said[1].startswith("On average over the other settings, β = 1 is best on the validation texts; 0 gets ")
    assert said[1].endswith("; 2 and 5 cannot be told from it.")


def test_temperature_matters_where_it_does() -> None:
    def make(values: dict[str, Any]) -> Measured:
        bits_SN = given_bits(0)
        if values["data.name"] == "bbc_news" and values["objective.temperature"] == 4:
            bits_SN = made_better(bits_SN, 100)
        return measured_of(bits_SN, dataset=values["data.name"])

    two, five = answered_by("does-temperature-matter", make)
    assert two.startswith("On Movie reviews (two classes) temperature makes no difference that this test can show (0.0")
    assert five.startswith("On BBC news (five classes) temperature matters: at temperature 4 students get ")
    assert "points more right than at" in five


@pytest.mark.parametrize(
    ("on_test", "doubt"),
    [
        (0.004, "; that it loses more than 1 point is not ruled out."),
        (0.2, ", which is more than validation promised."),
    ],
)
def test_the_smallest_student_that_keeps_up_on_validation_is_named(on_test: float, doubt: str) -> None:
    sizes = {"XS": 10_000, "S": 30_000, "M": 60_000, "L": 90_000, "XL": 700_000}
    bits_SN = given_bits(0, 0.78)

    def make(values: dict[str, Any]) -> Measured:
        is_bag = values["student.kind"] == "bag"
        lost = 0.05 if values["student.size"] == "XS" or is_bag else 0.004
        return measured_of(
            bits_SN,
            parameters=sizes[values["student.size"]] + is_bag,
            val_accuracy=0.8 - lost,
            teacher_val_accuracy=0.8,
            teacher_accuracy=float(bits_SN.mean()) + on_test,
        )

    said = answered_by("how-small", make)[0]
    assert said.startswith(
        "The smallest student that loses less than 1 point on the validation texts is one of 30 k parameters ("
        "student size = S"
    )
    assert re.search(rf"{100 * on_test:.1f} ± \d\.\d points fewer than its teacher of 1\.5 M parameters{doubt}", said)


def test_it_is_said_where_no_student_keeps_up() -> None:
    behind = {"val_accuracy": 0.7, "teacher_val_accuracy": 0.8, "teacher_accuracy": 0.8}
    said = answered_by("how-small", lambda values: measured_of(given_bits(0, 0.7), **behind))
    assert said[0].startswith(
        "No student comes within 1 point of its teacher on the validation texts; the best of them, "
    )


def test_cells_that_do_not_know_their_teachers_worth_on_validation_do_not_answer_how_small() -> None:
    said = answered_by("how-small", lambda values: measured_of(given_bits(0, 0.7), teacher_val_accuracy=None))
    assert not any("smallest" in sentence or "comes within" in sentence for sentence in said)


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        (
            {"S": 80},
            "A bigger teacher is not better, though itself more often right (a capacity gap): students of ",
        ),
        ({"XL": 80}, "The biggest teacher teaches best: students of teacher XL get "),
        ({}, "A bigger teacher makes no difference that this test can show: students of teacher XL get "),
    ],
)
def test_the_capacity_gap_is_told_where_it_shows(gains: dict[str, int], words: str) -> None:
    own = {"XS": 0.7, "S": 0.74, "M": 0.76, "L": 0.78, "XL": 0.8}

    def make(values: dict[str, Any]) -> Measured:
        size = values["teacher.size"]
        return measured_of(made_better(given_bits(0), gains.get(size, 0)), teacher_accuracy=own[size])

    assert answered_by("bigger-teacher", make)[0].startswith(words)


def labels_sweep(taught: dict[float, int], alone: dict[float, int]) -> list[str]:
    """The answer where so many texts more than a common rest are right, by the share of labels."""

    def make(values: dict[str, Any]) -> Measured:
        share = values["training.label_share"]
        return measured_of(made_better(given_bits(0), taught[share]), made_better(given_bits(0), alone[share]))

    return answered_by("how-few-labels", make)


SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)


def test_the_fewest_labels_are_told_beside_the_baseline_that_has_as_few() -> None:
    said = labels_sweep(
        dict(zip(SHARES, (0, 100, 100, 100, 100, 100), strict=True)),
        dict(zip(SHARES, (0, 0, 30, 60, 80, 100), strict=True)),
    )
    assert said[0].startswith("With 5 % of the labels a taught student gets ")
    assert (
        "0.0 ± 0.0 points more than the same student with all labels and no teacher; with 1 % of the labels, "
        in said[0]
    )
    assert re.match(
        r"Without a teacher, 5 % of the labels bring it to \d+\.\d %, \d+\.\d ± \d\.\d points fewer\.", said[1]
    )
    assert said[2] == "The teacher itself has learned from all labels."


def test_a_lucky_small_share_is_not_picked() -> None:
    said = labels_sweep(dict(zip(SHARES, (100, 0, 0, 0, 100, 100), strict=True)), dict.fromkeys(SHARES, 100))
    assert said[0].startswith("With 50 % of the labels a taught student gets ")


def test_it_is_said_where_no_part_of_the_labels_is_enough() -> None:
    said = labels_sweep(dict.fromkeys(SHARES, 0), dict.fromkeys(SHARES, 100))
    assert said[0].startswith("No part of the labels is enough with a teacher: with all labels its student gets ")


# How often chance is taken for a difference


def by_chance(config: SweepConfig, seed: int) -> list[Cell]:
    """Cells whose students have the same chance on each text, which is harder on some texts than on others."""
    chance = np.random.default_rng(seed)
    ease_N = chance.beta(3, 1, 400)
    found = []
    for values in grid(config):
        right_SN = chance.random((3, 400)) < ease_N
        dataset, won = values.get("data.name", "rotten_tomatoes"), chance.random()
        found.append(measured_of(right_SN, dataset=dataset, val_accuracy=won, teacher_accuracy=0.75))
    return all_finished(config, found)


@pytest.mark.parametrize("name", ["how-much-beta", "does-temperature-matter", "bigger-teacher"])
def test_chance_is_rarely_taken_for_a_difference(name: str) -> None:
    config = ask(name).config
    said = [answer_of(config, by_chance(config, seed)) for seed in range(100)]
    sentences = [sentence for answer in said for sentence in answer]
    wrong = sum(bool(CLAIMS.search(sentence)) for sentence in sentences)
    assert wrong <= 0.05 * len(sentences) + 3  # 3 is about a standard error more than one in twenty


def test_a_difference_of_five_points_is_found() -> None:
    config = sweep_of(**BETAS)
    found = 0
    for seed in range(50):
        chance = np.random.default_rng(seed)
        ease_N = chance.beta(3, 1, 400)
        right = [chance.random((3, 400)) < ease_N - (0.12 if number < 3 else 0) for number in range(6)]
        cells = all_finished(
            config, [measured_of(bits, val_accuracy=0.5 + (number == 5)) for number, bits in enumerate(right)]
        )
        found += "3 are clearly worse and 2 cannot be told from it" in answer_of(config, cells)[0]
    assert found >= 45


# Words


def test_settings_have_the_names_that_people_know() -> None:
    assert named({"objective.beta": 0.5, "training.label_share": 0.05, "student.size": "XS"}) == (
        "β = 0.5, labels used = 5 %, student size = XS"
    )
    assert named({"student.kind": "textcnn", "data.name": "bbc_news"}).endswith(
        "student kind = CNN, data set = BBC news"
    )


def test_words_are_listed_as_people_do() -> None:
    assert [listed(words) for words in ([], ["1"], ["1", "2"], ["1", "2", "5"])] == ["", "1", "1 and 2", "1, 2 and 5"]
