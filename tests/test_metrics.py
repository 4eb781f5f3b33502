"""Quality, fidelity and the margin of a difference, against values worked out by hand or by NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from distill_core.analysis.metrics import accuracy, fidelity, paired_margin, quality


def logits_for(*probabilities: list[float]) -> Tensor:
    """Logits whose softmax is these rows."""
    return torch.tensor(probabilities).log()


@st.composite
def answered(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Two models' logits on the same texts, and the labels."""
    texts, classes = draw(st.integers(1, 40)), draw(st.integers(2, 4))
    chance = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    first, second = (4 * torch.randn(texts, classes, generator=chance) for _ in range(2))
    return first, second, torch.randint(classes, (texts,), generator=chance)


def reference_ece(logits_NC: Tensor, labels_N: Tensor) -> float:
    probabilities = logits_NC.double().softmax(dim=1).numpy()
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels_N.numpy()
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [
        (bins == number).mean() * abs(confidence[bins == number].mean() - correct[bins == number].mean())
        for number in set(bins)
    ]
    return float(sum(gaps))


def test_accuracy_counts_the_texts_whose_largest_logit_is_their_labels() -> None:
    logits_NC = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, -3.0], [-1.0, 0.0]])
    assert accuracy(logits_NC, torch.tensor([0, 1, 1, 1])) == 0.75


@given(made=answered())
def test_accuracy_does_not_depend_on_scale_or_order(made: tuple[Tensor, Tensor, Tensor]) -> None:
    logits_NC, _, labels_N = made
    expected = float(np.mean(logits_NC.numpy().argmax(axis=1) == labels_N.numpy()))
    assert accuracy(logits_NC, labels_N) == pytest.approx(expected)
    assert accuracy(3 * logits_NC.flip(0) + 1, labels_N.flip(0)) == pytest.approx(expected)


def test_macro_f1_is_the_plain_mean_over_classes() -> None:
    # Class 0: 3 right, 1 wrongly called 1: F1 = 6/7. Class 1: 1 right, 1 wrong: F1 = 2/3. Class 2: never right: 0.
    predicted, labels = [0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 1, 2]
    f1 = {0: 2 * 3 / (2 * 3 + 1 + 1), 1: 2 * 1 / (2 * 1 + 1 + 0), 2: 0.0}
    logits_NC = 5 * torch.nn.functional.one_hot(torch.tensor(predicted), 3).float()
    found = quality(logits_NC, torch.tensor(labels))
    assert found["macro_f1"] == pytest.approx(sum(f1.values()) / 3)
    assert found["test_accuracy"] == pytest.approx(4 / 6)


def test_ece_is_the_mean_gap_between_confidence_and_accuracy() -> None:
    # Two texts at 0.9 of which one is right, two at 0.65 which are both right: ½·|0.9 - ½| + ½·|0.65 - 1| = 0.375.
    logits_NC = logits_for([0.9, 0.1], [0.1, 0.9], [0.65, 0.35], [0.35, 0.65])
    assert quality(logits_NC, torch.tensor([0, 0, 0, 1]))["ece"] == pytest.approx(0.375, abs=1e-6)


def test_ece_is_zero_for_a_model_that_is_sure_and_right_and_one_for_sure_and_wrong() -> None:
    logits_NC = torch.tensor([[60.0, -60.0], [-60.0, 60.0]])
    assert quality(logits_NC, torch.tensor([0, 1]))["ece"] == pytest.approx(0, abs=1e-6)
    assert quality(logits_NC, torch.tensor([1, 0]))["ece"] == pytest.approx(1, abs=1e-6)


@given(made=answered())
def test_ece_agrees_with_numpy(made: tuple[Tensor, Tensor, Tensor]) -> None:
    logits_NC, _, labels_N = made
    assert quality(logits_NC, labels_N)["ece"] == pytest.approx(reference_ece(logits_NC, labels_N), abs=1e-5)


def test_nll_is_the_mean_surprise_at_the_labels_in_nats() -> None:
    logits_NC = logits_for([0.9, 0.1], [0.2, 0.8], [0.5, 0.5])
    expected = -(math.log(0.9) + math.log(0.2) + math.log(0.5)) / 3
    assert quality(logits_NC, torch.tensor([0, 0, 1]))["nll"] == pytest.approx(expected, rel=1e-5)


def test_quality_has_the_names_of_the_contract_and_plain_floats() -> None:
    found = quality(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    assert list(found) == ["test_accuracy", "macro_f1", "ece", "nll"]
    assert {type(value) for value in found.values()} == {float}


@given(made=answered())
def test_fidelity_is_perfect_at_identity(made: tuple[Tensor, Tensor, Tensor]) -> None:
    found = fidelity(made[0], made[0].clone())
    assert found["agreement"] == 1
    assert found["kl"] == pytest.approx(0, abs=1e-7)


def test_fidelity_is_agreement_and_kl_from_student_to_teacher() -> None:
    student, teacher = [[0.9, 0.1], [0.6, 0.4]], [[0.5, 0.5], [0.2, 0.8]]
    teacher[0] = [0.55, 0.45]
    expected = sum(
        p * math.log(p / q) for rows in zip(student, teacher, strict=True) for p, q in zip(*rows, strict=True)
    )
    found = fidelity(logits_for(*student), logits_for(*teacher))
    assert found["agreement"] == 0.5
    assert found["kl"] == pytest.approx(expected / 2, rel=1e-5)
    assert fidelity(logits_for(*teacher), logits_for(*student))["kl"] != pytest.approx(found["kl"], rel=0.01)


@given(made=answered())
def test_paired_margin_agrees_with_numpy(made: tuple[Tensor, Tensor, Tensor]) -> None:
    first, second, labels_N = made
    correct = [(logits.numpy().argmax(axis=1) == labels_N.numpy()).astype(float) for logits in (first, second)]
    differences = correct[0] - correct[1]
    expected = 1.96 * np.sqrt(np.mean((differences - differences.mean()) ** 2)) / np.sqrt(len(differences))
    assert paired_margin(first, second, labels_N) == pytest.approx(float(expected), abs=1e-12)
    assert paired_margin(second, first, labels_N) == pytest.approx(float(expected), abs=1e-12)


def test_paired_margin_is_zero_for_equal_answers_and_shrinks_with_more_texts() -> None:
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    first, second = torch.tensor([right, right, wrong, right]), torch.tensor([right, wrong, right, right])
    labels_N = torch.zeros(4, dtype=torch.long)
    once = paired_margin(first, second, labels_N)
    assert paired_margin(first, 2 * first, labels_N) == 0
    assert once == pytest.approx(1.96 * math.sqrt(0.5) / 2)
    assert paired_margin(first.repeat(4, 1), second.repeat(4, 1), labels_N.repeat(4)) == pytest.approx(once / 2)
