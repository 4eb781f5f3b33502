"""Where two models agree on many texts: what must hold for any logits, and a small set worked out by hand."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from distill_core.analysis import agreement
from distill_core.analysis.agreement import SetAnswers
from distill_core.analysis.metrics import fidelity
from distill_core.errors import RunError

NAMES = ("a", "b", "c", "d")


@st.composite
def sets(draw: st.DrawFn) -> SetAnswers:
    """Up to 60 texts under three models, of 2 to 4 classes; some have no label."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    count, classes = draw(st.integers(1, 60)), draw(st.integers(2, 4))
    scale = draw(st.sampled_from([0.1, 1.0, 4.0]))
    logits = {
        role: scale * torch.randn(count, classes, generator=generator) for role in ("teacher", "student", "baseline")
    }
    labels = torch.randint(draw(st.sampled_from([-1, 0])), classes, (count,), generator=generator).tolist()
    lengths = torch.randint(1, draw(st.sampled_from([3, 40])), (count,), generator=generator)
    return answers_of(logits, tuple(labels), lengths)


def answers_of(
    logits: dict[str, Tensor], labels: tuple[int, ...] | None = None, lengths_N: Tensor | None = None
) -> SetAnswers:
    count, classes = logits["student"].shape
    lengths = torch.ones(count, dtype=torch.long) if lengths_N is None else lengths_N
    texts = tuple(f"text {number}" for number in range(count))
    return SetAnswers(texts, labels, logits, lengths, torch.zeros(count), NAMES[:classes])


def made() -> SetAnswers:
    """Four texts: agreed and right; student right; teacher right, barely; agreed and wrong."""
    student = torch.tensor([[3.0, 0.0], [0.0, 2.0], [0.1, 0.0], [0.0, 1.0]])
    teacher = torch.tensor([[3.0, 0.0], [4.0, 0.0], [0.0, 0.1], [0.0, 3.0]])
    return answers_of({"teacher": teacher, "student": student}, (0, 1, 1, 0))


# The matrix and the summary


@given(sets())
def test_a_cell_lists_as_many_texts_as_the_matrix_counts(answers: SetAnswers) -> None:
    matrix, seen = agreement.agreement_matrix(answers), list[int]()
    for row, line in enumerate(matrix):
        for column, count in enumerate(line):
            rows = agreement.cell(answers, row, column)
            assert len(rows) == count
            seen += rows
    assert sorted(seen) == list(range(len(answers)))
    diagonal = sum(matrix[place][place] for place in range(len(matrix)))
    assert diagonal / len(answers) == pytest.approx(agreement.summary(answers).agreement)


@given(sets())
def test_the_summary_is_that_of_a_runs_result(answers: SetAnswers) -> None:
    found = agreement.summary(answers)
    known = fidelity(answers.logits["student"], answers.logits["teacher"])
    assert found.agreement == pytest.approx(known["agreement"])
    assert found.kl == pytest.approx(known["kl"], abs=1e-5)
    assert found.kl_reverse == pytest.approx(known["kl_reverse"], abs=1e-5)
    assert found.labelled == sum(label >= 0 for label in answers.labels or ())
    assert set(found.accuracy) == ({"teacher", "baseline", "student"} if found.labelled else set())


@given(sets())
def test_kl_is_0_for_equal_logits_and_never_below(answers: SetAnswers) -> None:
    assert (answers.kl_N >= 0).all()
    same = answers_of({"student": answers.logits["student"], "teacher": answers.logits["student"].clone()})
    assert (same.kl_N == 0).all()
    assert agreement.summary(same).agreement == 1


def test_the_matrix_has_the_teacher_in_its_rows() -> None:
    assert agreement.agreement_matrix(made()) == [[1, 1], [1, 1]]
    assert agreement.cell(made(), 0, 1) == [1]
    assert agreement.cell(made(), 1, 0) == [2]
    assert agreement.summary(made()).accuracy == {"teacher": 0.5, "student": 0.5}


# Lists


@given(sets())
def test_lists_are_in_order_and_hold_what_they_say(answers: SetAnswers) -> None:
    worst, kl_N = agreement.worst_kl(answers), answers.kl_N
    assert sorted(worst) == list(range(len(answers)))
    assert all(kl_N[one] >= kl_N[other] for one, other in itertools.pairwise(worst))
    student, teacher = answers.answers["student"], answers.answers["teacher"]
    sure = agreement.confident_disagreements(answers)
    assert sorted(sure) == (student != teacher).nonzero()[:, 0].tolist()
    least = [min(float(answers.probabilities[role][row].max()) for role in ("teacher", "student")) for row in sure]
    assert least == sorted(least, reverse=True)
    labels = answers.labels_N
    for row in agreement.student_right(answers):
        assert student[row] == labels[row] != teacher[row]
    for row in agreement.teacher_right(answers):
        assert teacher[row] == labels[row] != student[row]
    both = {*agreement.student_right(answers), *agreement.teacher_right(answers)}
    assert both <= set(sure)
    assert all(labels[row] >= 0 for row in both)


def test_texts_without_labels_are_right_nowhere() -> None:
    without = answers_of(dict(made().logits))
    assert without.labelled == 0
    assert agreement.student_right(without) == agreement.teacher_right(without) == []
    assert agreement.summary(without).accuracy == {}
    assert agreement.accuracy_by(without, "student", without.lengths_N) == []
    assert sum(one.count for one in agreement.reliability(without, "student")) == 0
    assert agreement.calibration_error(agreement.reliability(without, "student")) == 0


def test_lists_of_the_small_set() -> None:
    assert agreement.student_right(made()) == [1]
    assert agreement.teacher_right(made()) == [2]
    assert agreement.confident_disagreements(made()) == [1, 2]
    assert agreement.worst_kl(made())[0] == 1
    assert agreement.among(made(), [3, 0, 1]) == [1, 3, 0]
    columns = agreement.listing(made(), [1, 3])
    assert columns["text"] == ["text 1", "text 3"]
    assert (columns["label"], columns["teacher"], columns["student"]) == (["b", "a"], ["a", "b"], ["b", "b"])
    assert columns["student_p"] == pytest.approx([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-1))])
    assert agreement.listing(made(), [])["text"] == []


@given(sets(), st.integers(0, 5))
def test_disagreements_are_those_furthest_apart_ready_for_json(answers: SetAnswers, top: int) -> None:
    rows = agreement.disagreements(answers, top)
    assert json.loads(json.dumps(rows)) == rows
    assert len(rows) == min(top, len(agreement.confident_disagreements(answers)))
    assert [row["kl"] for row in rows] == sorted((row["kl"] for row in rows), reverse=True)
    for row in rows:
        tops = [max(row[role], key=row[role].__getitem__) for role in ("teacher", "student")]
        assert tops[0] != tops[1]
        assert row["agree"] is False
        assert sum(row["teacher"].values()) == pytest.approx(1, abs=1e-5)


# Without a teacher


def test_the_student_is_compared_with_the_baseline_where_the_teacher_is_silent() -> None:
    logits = dict(made().logits)
    answers = answers_of({"student": logits["student"], "baseline": logits["teacher"]}, (0, 1, 1, 0))
    assert answers.reference == "baseline"
    assert agreement.agreement_matrix(answers) == agreement.agreement_matrix(made())
    assert set(agreement.listing(answers, [0])) == {
        "text",
        "label",
        "baseline",
        "baseline_p",
        "student",
        "student_p",
        "kl",
    }
    with pytest.raises(RunError, match="teacher must be a model"):
        agreement.disagreements(answers, 3)


def test_a_student_alone_cannot_be_compared() -> None:
    with pytest.raises(RunError, match="a model to be compared with, got none"):
        agreement.agreement_matrix(answers_of({"student": made().logits["student"]}))


# Charts


@given(sets())
def test_bins_hold_each_labelled_text_once_and_give_the_calibration_error(answers: SetAnswers) -> None:
    known = answers.labels_N >= 0
    for role in answers.roles:
        bins = agreement.reliability(answers, role)
        assert len(bins) == 15
        assert sum(one.count for one in bins) == answers.labelled
        assert all(one.low <= one.confidence <= one.high + 1e-6 for one in bins if one.confidence is not None)
        if answers.labelled:
            expected = multiclass_calibration_error(
                answers.probabilities[role][known], answers.labels_N[known], len(answers.label_names), n_bins=15
            )
            assert agreement.calibration_error(bins) == pytest.approx(float(expected), abs=1e-5)


@given(sets(), st.integers(1, 8))
def test_groups_are_apart_and_hold_each_labelled_text_once(answers: SetAnswers, most: int) -> None:
    groups = agreement.accuracy_by(answers, "student", answers.lengths_N, most)
    assert len(groups) <= most
    assert sum(group.count for group in groups) == answers.labelled
    assert all(group.low <= group.high for group in groups)
    assert all(one.high < other.low for one, other in itertools.pairwise(groups))
    assert all(0 <= group.interval[0] <= group.accuracy <= group.interval[1] <= 1 for group in groups)
    if groups:
        total = sum(group.accuracy * group.count for group in groups) / answers.labelled
        assert total == pytest.approx(agreement.summary(answers).accuracy["student"], abs=1e-5)


def test_groups_are_of_about_one_size() -> None:
    labels, lengths = (0,) * 600, torch.arange(600)
    answers = answers_of({role: torch.randn(600, 2) for role in ("teacher", "student")}, labels, lengths)
    groups = agreement.accuracy_by(answers, "student", lengths)
    assert len(groups) == 6
    assert all(abs(group.count - 100) <= 1 for group in groups)


@given(sets(), st.integers(1, 80))
def test_points_are_evenly_taken(answers: SetAnswers, most: int) -> None:
    points = agreement.points(answers, 1, most)
    assert len(points.rows) == len(set(points.rows)) == min(most, len(answers))
    assert points.total == len(answers)
    gaps = [other - one for one, other in zip(points.rows, points.rows[1:], strict=False)]
    assert max(gaps, default=0) - min(gaps, default=0) <= 1
    for row, student, agree in zip(points.rows, points.student, points.agree, strict=True):
        assert student == pytest.approx(float(answers.probabilities["student"][row, 1]))
        assert agree == (answers.answers["student"][row] == answers.answers["teacher"][row])
