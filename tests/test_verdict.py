"""Sentences that say what the numbers support, and no more."""

from __future__ import annotations

from typing import Any

import pytest

from distill_core.analysis.verdict import verdict


def result(
    *,
    teacher: float = 0.80,
    student: float = 0.78,
    gain: float | None = 0.0,
    margin: float | None = 0.02,
    smaller: float = 10.0,
    faster: float = 2.0,
) -> dict[str, Any]:
    """A result of a student of 1,000 parameters that needs 1 ms a text."""
    return {
        "teacher": {"test_accuracy": teacher, "parameters": round(1000 * smaller), "latency_ms": faster},
        "student": {"test_accuracy": student, "parameters": 1000, "latency_ms": 1.0},
        "retention": student / teacher if teacher else None,
        "gain": gain,
        "gain_margin": margin,
    }


def against_teacher(**values: Any) -> str:
    return verdict(result(**values))[0]


def against_baseline(gain: float | None, margin: float | None = 0.02) -> str:
    sentences = verdict(result(gain=gain, margin=margin))
    assert len(sentences) == 2
    return sentences[1]


def test_a_usual_student_keeps_a_share_of_its_teachers_accuracy() -> None:
    assert against_teacher() == (
        "The student keeps 97.5 % of its teacher's accuracy (78.0 % against 80.0 %), at 1/10 of the size, "
        "and answers 2.0 times as fast."
    )


@pytest.mark.parametrize(
    ("student", "margin", "doubted"),
    [(0.78, 0.03, True), (0.78, 0.01, False), (0.82, 0.03, True), (0.82, 0.01, False), (0.8, 0.03, False)],
)
def test_a_difference_to_the_teacher_within_its_margin_may_be_chance(
    student: float, margin: float, doubted: bool
) -> None:
    said = verdict({**result(student=student), "teacher_margin": margin})[0]
    assert ("80.0 %, which may be chance), at 1/10" in said) == doubted


@pytest.mark.parametrize(
    ("student", "begins"),
    [
        (0.82, "The student is more accurate than its teacher (82.0 % against 80.0 %)"),
        (0.80, "The student is as accurate as its teacher (80.0 % against 80.0 %)"),
        (0.801, "The student is as accurate as its teacher (80.1 % against 80.0 %)"),
        (0.799, "The student is as accurate as its teacher (79.9 % against 80.0 %)"),
        (0.40, "The student keeps 50.0 % of its teacher's accuracy (40.0 % against 80.0 %)"),
        (0.0, "The student keeps 0.0 % of its teacher's accuracy (0.0 % against 80.0 %)"),
    ],
)
def test_accuracy_against_the_teacher_is_put_in_words(student: float, begins: str) -> None:
    assert against_teacher(student=student).startswith(begins + ", ")


def test_a_teacher_that_is_never_right_is_said_to_be_so() -> None:
    assert against_teacher(teacher=0.0).startswith(
        "The teacher is never right on the test texts (78.0 % against 0.0 %)"
    )


@pytest.mark.parametrize(
    ("smaller", "says"),
    [
        (23.4, "at 1/23 of the size"),
        (9.5, "at 1/10 of the size"),
        (9.4, "at 1/9.4 of the size"),
        (1.5, "at 1/1.5 of the size"),
        (1.2, "at a similar size"),
        (0.8, "at a similar size"),
        (0.5, "while 2.0 times as large"),
    ],
)
def test_size_is_put_in_words(smaller: float, says: str) -> None:
    assert f", {says}, and answers" in against_teacher(smaller=smaller)


@pytest.mark.parametrize(
    ("faster", "says"),
    [
        (3.14, "3.1 times as fast"),
        (1.06, "1.1 times as fast"),
        (1.04, "as fast"),
        (0.96, "as fast"),
        (0.5, "2.0 times slower"),
    ],
)
def test_speed_is_put_in_words_also_for_a_slower_student(faster: float, says: str) -> None:
    assert against_teacher(faster=faster).endswith(f"and answers {says}.")


def test_a_gain_beyond_the_margin_is_called_help() -> None:
    assert against_baseline(0.031) == "The teacher helped: 3.1 points better than the same student alone (±2.0)."


def test_a_loss_beyond_the_margin_is_called_harm() -> None:
    assert against_baseline(-0.031) == "The teacher harmed: 3.1 points worse than the same student alone (±2.0)."


@pytest.mark.parametrize(
    ("gain", "says"), [(0.012, "+1.2"), (-0.012, "-1.2"), (0.02, "+2.0"), (-0.02, "-2.0"), (0.0, "+0.0")]
)
def test_a_difference_within_the_margin_is_called_none(gain: float, says: str) -> None:
    assert against_baseline(gain) == (
        f"The teacher made no difference that this test can show: {says} points against the same student alone (±2.0)."
    )


def test_equal_answers_without_any_spread_are_no_difference() -> None:
    assert "no difference" in against_baseline(0.0, margin=0.0)


def test_no_verdict_speaks_of_minus_zero_points() -> None:
    assert "-0.0" not in against_baseline(-0.0004)


def test_without_a_baseline_nothing_is_claimed_about_the_teachers_help() -> None:
    sentence = against_baseline(None, margin=None)
    assert sentence == "No baseline was trained, so nobody can say whether the teacher helped."


def test_few_test_texts_allow_no_claim_about_the_teachers_help() -> None:
    for gain in (0.5, -0.5, 0.0):
        sentence = verdict({**result(gain=gain), "sizes": {"test": 49}})[1]
        assert sentence.startswith("With 49 test texts nobody can say whether the teacher helped: ")
        assert f"{100 * gain:+.1f} points" in sentence
        assert "nobody can say" not in verdict({**result(gain=gain), "sizes": {"test": 50}})[1]


def answering(student: float, confusion: list[list[int]]) -> list[str]:
    made = result(student=student)
    made["student"]["confusion"] = confusion
    return verdict({**made, "labels": ["fresh", "rotten"]})


def test_a_student_that_is_no_better_than_one_answer_for_all_texts_is_not_praised() -> None:
    sentences = answering(0.575, [[575, 0], [425, 0]])
    assert sentences[0] == ("The student has learned nothing of use: always answering “fresh” is right for 57.5 % too.")
    assert len(sentences) == 3
    assert "rotten" in answering(0.42, [[300, 100], [480, 120]])[0]
    assert len(answering(0.61, [[300, 100], [290, 310]])) == 2


# Several seeds


def with_seeds(p_value: float | None, *, gain: float | None = 0.031, mean: float = 0.77) -> dict[str, Any]:
    """A result whose accuracies are means over five seeds; `student` itself holds those of the first."""
    made = result(student=0.78, gain=gain, margin=None if gain is None else 0.02)
    made["retention"] = mean / 0.8
    made["seeds"] = {"count": 5, "student": {"mean": mean}, "baseline": None if gain is None else {}}
    if gain is not None:
        made["seeds"] |= {"p_value": p_value}
    return made


def test_several_seeds_are_judged_by_their_mean_and_counted() -> None:
    assert verdict(with_seeds(0.0321)) == [
        "The student keeps 96.2 % of its teacher's accuracy (77.0 % against 80.0 % on the average of 5 seeds), "
        "at 1/10 of the size, and answers 2.0 times as fast.",
        "The teacher helped: 3.1 points better than the same student alone "
        "(±2.0; paired t-test over 5 seeds: p = 0.032).",
    ]


@pytest.mark.parametrize(
    ("p_value", "says"), [(0.5, "p = 0.500"), (0.001, "p = 0.001"), (0.0009, "p < 0.001"), (0.0, "p < 0.001")]
)
@pytest.mark.parametrize("gain", [0.031, -0.031, 0.001])
def test_every_verdict_on_several_seeds_has_the_p_value(p_value: float, says: str, gain: float) -> None:
    assert verdict(with_seeds(p_value, gain=gain))[1].endswith(f"(±2.0; paired t-test over 5 seeds: {says}).")


@pytest.mark.parametrize("gain", [0.031, -0.031])
def test_a_gain_that_the_paired_test_takes_for_chance_is_called_none(gain: float) -> None:
    assert "no difference that this test can show" in verdict(with_seeds(0.05, gain=gain))[1]
    assert "no difference" not in verdict(with_seeds(0.049, gain=gain))[1]


def test_seeds_that_cannot_be_tested_have_no_p_value() -> None:
    assert verdict(with_seeds(None))[1].endswith("student alone (±2.0).")


def test_several_seeds_without_a_baseline_claim_nothing_about_help() -> None:
    sentences = verdict(with_seeds(None, gain=None))
    assert "on the average of 5 seeds" in sentences[0]
    assert sentences[1:] == ["No baseline was trained, so nobody can say whether the teacher helped."]


def test_one_seed_is_neither_counted_nor_tested() -> None:
    words = " ".join(verdict({**result(gain=0.031), "seeds": None}))
    assert "seed" not in words
    assert "t-test" not in words


# A teacher that is a file


def of_file(**values: Any) -> dict[str, Any]:
    made = result(**values)
    made["teacher"] |= {"parameters": None, "latency_ms": None}
    return made


@pytest.mark.parametrize(
    ("student", "begins"),
    [
        (0.78, "The student keeps 97.5 % of its teacher's accuracy (78.0 % against 80.0 %)"),
        (0.80, "The student is as accurate as its teacher (80.0 % against 80.0 %)"),
        (0.82, "The student is more accurate than its teacher (82.0 % against 80.0 %)"),
    ],
)
def test_a_file_is_compared_by_accuracy_and_neither_by_size_nor_by_speed(student: float, begins: str) -> None:
    assert verdict(of_file(student=student))[0] == f"{begins}, which is a file and cannot answer new texts."


def test_a_file_helps_or_harms_like_any_other_teacher() -> None:
    assert verdict(of_file(gain=0.031))[1].startswith("The teacher helped: 3.1 points better")


def test_a_file_taught_with_several_seeds_is_compared_by_the_mean() -> None:
    made = {**with_seeds(0.2), "teacher": of_file()["teacher"]}
    assert "(77.0 % against 80.0 % on the average of 5 seeds), which is a file" in verdict(made)[0]
