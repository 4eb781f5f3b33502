"""Answers softened by a temperature, and their distances."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from distill_core.analysis.predict import Predictor
from distill_core.analysis.softened import Distance, Softened, ask
from distill_core.data.batches import EncodedDataset
from distill_core.store import Store
from tests.test_predict import finished_run

numbers = st.floats(-20, 20, width=32)
logits_of_three = st.lists(numbers, min_size=3, max_size=3)


class Fixed:
    """Stands for a predictor that says what it is told."""

    label_names = ("a", "b", "c")

    def __init__(self, **logits: list[float]) -> None:
        self._logits = {role: torch.tensor([values]) for role, values in logits.items()}

    def logits(self, texts: list[str]) -> dict[str, Tensor]:
        return self._logits


def asked(temperature: float, **logits: list[float]) -> tuple[dict[str, Softened], Distance | None]:
    """Softened answers by role, and how far the student is from the teacher."""
    found = ask([Fixed(**logits)], "text")
    distances = dict(zip(logits, found.distances(temperature), strict=True))
    return dict(zip(logits, found.softened(temperature), strict=True)), distances["student"]


@given(logits_of_three, st.floats(0.5, 10))
def test_a_softer_answer_is_the_same_answer_with_more_entropy(logits: list[float], temperature: float) -> None:
    plain, soft = (asked(one, student=logits)[0]["student"] for one in (temperature, 2 * temperature))
    assert sum(soft.probabilities.values()) == pytest.approx(1)
    assert soft.entropy >= plain.entropy - 1e-6
    assert soft.margin <= plain.margin + 1e-6
    assert plain.probabilities[soft.label] == pytest.approx(plain.confidence)
    assert 0 <= soft.entropy <= math.log(3) + 1e-6


@given(logits_of_three, logits_of_three, st.floats(0.5, 10))
def test_distances_follow_from_the_probabilities(one: list[float], other: list[float], temperature: float) -> None:
    said, distance = asked(temperature, teacher=other, student=one)
    assert distance is not None
    p, q = said["student"].probabilities, said["teacher"].probabilities
    forward = sum(p[label] * math.log(p[label] / q[label]) for label in p if p[label] > 0)
    backward = sum(q[label] * math.log(q[label] / p[label]) for label in q if q[label] > 0)
    assert distance.student_teacher == pytest.approx(forward, rel=1e-4, abs=1e-6)
    assert distance.teacher_student == pytest.approx(backward, rel=1e-4, abs=1e-6)
    assert min(distance.student_teacher, distance.teacher_student) >= 0


def test_equal_answers_are_alike_and_without_a_teacher_there_is_no_distance() -> None:
    _, distance = asked(2.0, teacher=[1.0, 2.0, 3.0], student=[1.0, 2.0, 3.0])
    assert distance == Distance(0.0, 0.0, True)
    assert asked(1.0, student=[1.0, 2.0, 3.0])[1] is None


def test_temperature_one_gives_the_answers_of_predict(store: Store, encoded: EncodedDataset) -> None:
    predictor = Predictor.load(store, finished_run(store, encoded))
    text = "a bright but weak film"
    (expected,) = predictor.predict([text])
    found = ask([predictor], text)
    for role, said in zip(("teacher", "student", "baseline"), found.softened(1.0), strict=True):
        assert said.probabilities == pytest.approx(expected[role], abs=1e-6)
    none, distance, other = found.distances(1.0)
    assert none is None
    assert distance is not None
    assert other is not None
    assert (distance.student_teacher, distance.agree) == (pytest.approx(expected["kl"], abs=1e-5), expected["agree"])


def test_students_of_further_runs_are_measured_against_the_first_teacher() -> None:
    first, further = Fixed(teacher=[1.0, 2.0, 3.0], student=[3.0, 2.0, 1.0]), Fixed(student=[1.0, 2.0, 3.0])
    found = ask([first, further], "text")
    _, own, other = found.distances(2.0)
    assert own is not None
    assert own.student_teacher > 0.1
    assert not own.agree
    assert other == Distance(0.0, 0.0, True)
