"""The divergence and the distillation loss, against their formulas and their limits."""

from __future__ import annotations

import itertools
import math
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from distill_core.config import Divergence
from distill_core.data.batches import NO_LABEL
from distill_core.training.losses import cross_entropy, distillation_loss, divergence, kl_by_text, ramped

KINDS: tuple[Divergence, ...] = get_args(Divergence)
SOFT = tuple(kind for kind in KINDS if kind != "logit_mse")
KL = tuple(kind for kind in KINDS if kind.startswith("kl_"))
every_kind = pytest.mark.parametrize("kind", KINDS)
every_soft_kind = pytest.mark.parametrize("kind", SOFT)
every_kl = pytest.mark.parametrize("kind", KL)
temperatures = st.floats(0.5, 20)
weights = st.floats(0, 100)


@st.composite
def logit_pairs(draw: st.DrawFn, largest: float = 15.0) -> tuple[Tensor, Tensor]:
    """Student's and teacher's logits of one shape, float64."""
    texts, classes = draw(st.integers(1, 5)), draw(st.integers(2, 6))
    row = st.lists(st.floats(-largest, largest), min_size=classes, max_size=classes)
    matrix = st.lists(row, min_size=texts, max_size=texts)
    return tuple(torch.tensor(draw(matrix), dtype=torch.float64) for _ in range(2))


def softened(logits: Tensor, temperature: float) -> np.ndarray:
    exponentials = np.exp((logits.numpy() - logits.numpy().max(axis=1, keepdims=True)) / temperature)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def reference(student: Tensor, teacher: Tensor, kind: Divergence, temperature: float) -> float:
    """The distance written out in NumPy: a sum (or mean) over classes, the mean over texts."""
    p, q = softened(student, temperature), softened(teacher, temperature)
    if kind == "kl_student_teacher":
        rows = np.sum(p * np.log(p / q), axis=1)
    elif kind == "kl_teacher_student":
        rows = np.sum(q * np.log(q / p), axis=1)
    elif kind == "jensen_shannon":
        m = (p + q) / 2
        rows = 0.5 * np.sum(p * np.log(p / m), axis=1) + 0.5 * np.sum(q * np.log(q / m), axis=1)
    else:
        rows = np.mean((student.numpy() / temperature - teacher.numpy() / temperature) ** 2, axis=1)
    return float(np.mean(rows))


def scaled_gradient(student: Tensor, teacher: Tensor, kind: Divergence, temperature: float) -> Tensor:
    """The gradient of T² · D by the student's logits."""
    leaf = student.clone().requires_grad_()
    loss = temperature**2 * divergence(leaf, teacher, kind, temperature)
    return torch.autograd.grad(loss, leaf)[0]


@every_kind
@given(pair=logit_pairs(), temperature=temperatures)
def test_divergence_is_zero_at_equal_logits(kind: Divergence, pair: tuple[Tensor, Tensor], temperature: float) -> None:
    logits = pair[0]
    assert float(divergence(logits, logits.clone(), kind, temperature)) == pytest.approx(0, abs=1e-12)
    assert scaled_gradient(logits, logits, kind, temperature).abs().max() < 1e-9


@every_kind
@given(pair=logit_pairs(), temperature=temperatures)
def test_divergence_is_never_negative(kind: Divergence, pair: tuple[Tensor, Tensor], temperature: float) -> None:
    assert float(divergence(*pair, kind, temperature)) >= -1e-12


@every_kind
@given(pair=logit_pairs(largest=5.0), temperature=temperatures)
def test_divergence_is_positive_where_the_answers_differ(
    kind: Divergence, pair: tuple[Tensor, Tensor], temperature: float
) -> None:
    gaps = pair[0].softmax(dim=1) - pair[1].softmax(dim=1)
    assume(float(gaps.abs().max()) > 0.01)
    assert float(divergence(*pair, kind, temperature)) > 1e-9


@every_soft_kind
@given(pair=logit_pairs(), temperature=temperatures, constants=st.tuples(st.floats(-50, 50), st.floats(-50, 50)))
def test_divergence_ignores_a_constant_added_to_all_logits(
    kind: Divergence, pair: tuple[Tensor, Tensor], temperature: float, constants: tuple[float, float]
) -> None:
    shifted = divergence(pair[0] + constants[0], pair[1] + constants[1], kind, temperature)
    assert float(shifted) == pytest.approx(float(divergence(*pair, kind, temperature)), rel=1e-6, abs=1e-9)


@given(pair=logit_pairs(), temperature=temperatures, constant=st.floats(-50, 50))
def test_logit_mse_ignores_only_a_constant_added_to_both_models_logits(
    pair: tuple[Tensor, Tensor], temperature: float, constant: float
) -> None:
    both = divergence(pair[0] + constant, pair[1] + constant, "logit_mse", temperature)
    assert float(both) == pytest.approx(float(divergence(*pair, "logit_mse", temperature)), rel=1e-6, abs=1e-9)
    alone = divergence(pair[0] + constant, pair[0], "logit_mse", temperature)
    assert float(alone) == pytest.approx((constant / temperature) ** 2, rel=1e-6, abs=1e-9)


@every_kind
@given(pair=logit_pairs(), temperature=temperatures)
def test_divergence_is_its_formula_in_numpy(kind: Divergence, pair: tuple[Tensor, Tensor], temperature: float) -> None:
    expected = reference(*pair, kind, temperature)
    assert float(divergence(*pair, kind, temperature)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(pair=logit_pairs(), temperature=temperatures)
def test_divergence_agrees_with_pytorch(pair: tuple[Tensor, Tensor], temperature: float) -> None:
    student, teacher = (F.log_softmax(logits / temperature, dim=1) for logits in pair)
    # F.kl_div takes the logarithm of q first and then p itself.
    middle = ((student.exp() + teacher.exp()) / 2).log()
    expected = {
        "kl_student_teacher": F.kl_div(teacher, student.exp(), reduction="batchmean"),
        "kl_teacher_student": F.kl_div(student, teacher.exp(), reduction="batchmean"),
        "jensen_shannon": sum(F.kl_div(middle, part.exp(), reduction="batchmean") for part in (student, teacher)) / 2,
        "logit_mse": F.mse_loss(pair[0], pair[1]) / temperature**2,
    }
    found = {kind: divergence(*pair, kind, temperature) for kind in KINDS}
    assert found.keys() == expected.keys()
    for kind in KINDS:
        torch.testing.assert_close(found[kind], expected[kind], rtol=1e-9, atol=1e-12)


@given(pair=logit_pairs(largest=100.0), temperature=temperatures)
def test_jensen_shannon_is_symmetric_and_at_most_log_2(pair: tuple[Tensor, Tensor], temperature: float) -> None:
    student, teacher = pair
    found = float(divergence(student, teacher, "jensen_shannon", temperature))
    assert found == pytest.approx(float(divergence(teacher, student, "jensen_shannon", temperature)), abs=1e-12)
    assert -1e-12 <= found <= math.log(2) + 1e-12


@given(pair=logit_pairs(), temperature=temperatures)
def test_jensen_shannon_is_at_most_half_the_mean_of_both_directions(
    pair: tuple[Tensor, Tensor], temperature: float
) -> None:
    """KL(p ‖ m) ≤ ½ KL(p ‖ q), since KL is convex (Lin 1991)."""
    values = {kind: float(divergence(*pair, kind, temperature)) for kind in SOFT}
    assert values["jensen_shannon"] <= sum(values[kind] for kind in KL) / 4 + 1e-12


@given(pair=logit_pairs(), temperatures=st.tuples(temperatures, temperatures))
def test_scaled_logit_mse_does_not_depend_on_temperature(
    pair: tuple[Tensor, Tensor], temperatures: tuple[float, float]
) -> None:
    one, other = (t**2 * divergence(*pair, "logit_mse", t) for t in temperatures)
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(one, (pair[0] - pair[1]).square().mean(), rtol=1e-9, atol=1e-12)


@given(pair=logit_pairs(), temperature=temperatures)
def test_each_direction_is_the_other_with_the_models_exchanged(pair: tuple[Tensor, Tensor], temperature: float) -> None:
    student, teacher = pair
    one = divergence(student, teacher, "kl_student_teacher", temperature)
    assert torch.equal(one, divergence(teacher, student, "kl_teacher_student", temperature))


def test_the_four_distances_are_different_functions() -> None:
    student, teacher = torch.tensor([[4.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    values = sorted(float(divergence(student, teacher, kind, 1.0)) for kind in KINDS)
    assert len(values) == 4
    assert min(higher - lower for lower, higher in itertools.pairwise(values)) > 0.1


@every_kind
@given(pair=logit_pairs(), temperature=temperatures)
def test_temperature_divides_both_models_logits(
    kind: Divergence, pair: tuple[Tensor, Tensor], temperature: float
) -> None:
    student, teacher = pair
    expected = divergence(student / temperature, teacher / temperature, kind, 1.0)
    torch.testing.assert_close(divergence(student, teacher, kind, temperature), expected)


@every_kind
@given(pair=logit_pairs(), copies=st.integers(2, 4))
def test_a_repeated_batch_has_the_same_divergence(kind: Divergence, pair: tuple[Tensor, Tensor], copies: int) -> None:
    repeated = [logits.repeat(copies, 1) for logits in pair]
    torch.testing.assert_close(divergence(*repeated, kind, 2.0), divergence(*pair, kind, 2.0))


def test_divergence_is_not_averaged_over_classes() -> None:
    student, teacher = torch.tensor([[2.0, -1.0, 0.5, 0.0]]), torch.tensor([[0.0, 1.0, -2.0, 3.0]])
    by_elements = F.kl_div(student.log_softmax(1), teacher.log_softmax(1), reduction="none", log_target=True)
    found = float(divergence(student, teacher, "kl_teacher_student", 1.0))
    assert found == pytest.approx(float(by_elements.sum()), rel=1e-5)
    assert found == pytest.approx(4 * float(by_elements.mean()), rel=1e-5)


@every_kind
def test_divergence_stays_finite_where_a_model_is_all_but_certain(kind: Divergence) -> None:
    student = torch.tensor([[500.0, -500.0]], requires_grad=True)
    loss = divergence(student, torch.tensor([[-500.0, 500.0]]), kind, 1.0)
    loss.backward()
    expected = {"jensen_shannon": math.log(2), "logit_mse": 1000.0**2}.get(kind, 1000.0)
    assert float(loss.detach()) == pytest.approx(expected)
    assert student.grad is not None
    assert bool(student.grad.isfinite().all())


@every_soft_kind
@given(pair=logit_pairs(largest=0.1))
def test_scaled_gradient_tends_to_the_difference_of_centred_logits(
    kind: Divergence, pair: tuple[Tensor, Tensor]
) -> None:
    """Hinton et al. 2015, equation 4: for high temperatures distillation matches centred logits.

    Jensen–Shannon is a quarter of KL where both answers are close.
    """
    student, teacher = (logits - logits.mean(dim=1, keepdim=True) for logits in pair)
    limit = (student - teacher) / student.numel() / (4 if kind == "jensen_shannon" else 1)
    found = scaled_gradient(*pair, kind, 200.0)
    torch.testing.assert_close(found, limit, rtol=0.01, atol=1e-5)


@given(pair=logit_pairs(), temperature=temperatures)
def test_scaled_gradient_of_logit_mse_is_twice_the_mean_difference(
    pair: tuple[Tensor, Tensor], temperature: float
) -> None:
    expected = 2 * (pair[0] - pair[1]) / pair[0].numel()
    torch.testing.assert_close(scaled_gradient(*pair, "logit_mse", temperature), expected, rtol=1e-9, atol=1e-12)


@every_kl
@given(pair=logit_pairs(largest=5.0))
def test_scaled_kl_tends_to_half_the_mean_squared_difference_of_centred_logits(
    kind: Divergence, pair: tuple[Tensor, Tensor]
) -> None:
    """T² · KL → 1 / (2C) · Σ_c (difference of centred logits)²: to second order KL is ½ Σ δ² / p, with p → 1 / C."""
    student, teacher = (logits - logits.mean(dim=1, keepdim=True) for logits in pair)
    limit = float((student - teacher).square().mean()) / 2
    found = 1000.0**2 * float(divergence(*pair, kind, 1000.0))
    assert found == pytest.approx(limit, rel=0.02, abs=1e-8)


@every_soft_kind
@given(pair=logit_pairs(largest=1.0))
def test_squared_temperature_keeps_the_scale_of_the_gradient(kind: Divergence, pair: tuple[Tensor, Tensor]) -> None:
    student, teacher = (logits - logits.mean(dim=1, keepdim=True) for logits in pair)
    assume(float((student - teacher).norm()) > 0.1)
    at = {t: float(scaled_gradient(*pair, kind, t).norm()) for t in (1.0, 2.0, 5.0, 10.0, 20.0)}
    assert at[10.0] / at[20.0] == pytest.approx(1, abs=0.12)
    assert max(at.values()) / min(at.values()) < 8, "without T² it would be near 400"


@every_kind
def test_a_step_against_the_gradient_brings_the_student_nearer(kind: Divergence) -> None:
    student, teacher = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[-1.0, 1.0, 0.5]])
    nearer = student - 0.1 * scaled_gradient(student, teacher, kind, 2.0)
    assert divergence(nearer, teacher, kind, 2.0) < divergence(student, teacher, kind, 2.0)


@every_kind
@pytest.mark.parametrize("detached", [True, False], ids=["detached", "without_gradient"])
def test_no_gradient_reaches_a_frozen_teacher(kind: Divergence, detached: bool) -> None:
    source = torch.tensor([[1.0, -1.0]], requires_grad=detached)
    teacher = source.detach() if detached else source
    student = torch.tensor([[0.0, 0.5]], requires_grad=True)
    divergence(student, teacher, kind, 2.0).backward()
    assert source.grad is None
    assert student.grad is not None
    assert float(student.grad.abs().sum()) > 0


@every_kind
@given(pair=logit_pairs(largest=5.0))
def test_gradients_reach_both_models_where_both_learn(kind: Divergence, pair: tuple[Tensor, Tensor]) -> None:
    assume(float((pair[0].softmax(dim=1) - pair[1].softmax(dim=1)).abs().max()) > 0.01)
    student, teacher = (logits.clone().requires_grad_() for logits in pair)
    divergence(student, teacher, kind, 2.0).backward()
    assert student.grad is not None
    assert teacher.grad is not None
    assert torch.equal(student.grad, torch.autograd.grad(divergence(student, pair[1], kind, 2.0), student)[0])
    assert torch.equal(teacher.grad, torch.autograd.grad(divergence(pair[0], teacher, kind, 2.0), teacher)[0])
    assert float(student.grad.abs().sum()) > 0
    assert float(teacher.grad.abs().sum()) > 0


@every_kind
@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_bad_temperature_is_refused_with_its_value_and_a_remedy(kind: Divergence, temperature: float) -> None:
    logits = torch.zeros(1, 2)
    with pytest.raises(ValueError, match=rf"temperature must be > 0, got {temperature}; try 1 to 8"):
        divergence(logits, logits, kind, temperature)


@every_kind
@pytest.mark.parametrize(("student", "teacher"), [((2, 3), (2, 2)), ((1, 2), (4, 2)), ((2,), (1, 2))])
def test_differing_shapes_are_refused_with_both_shapes_and_a_remedy(
    kind: Divergence, student: tuple[int, ...], teacher: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="one shape") as caught:
        divergence(torch.zeros(student), torch.zeros(teacher), kind, 1.0)
    for said in (f"{student} for the student", f"{teacher} for the teacher", "by sample id"):
        assert said in str(caught.value)


@given(ce=st.floats(0, 10), kl=st.floats(0, 10), a_s=weights, beta=weights, temperature=temperatures)
def test_distillation_loss_is_its_formula(ce: float, kl: float, a_s: float, beta: float, temperature: float) -> None:
    loss = distillation_loss(
        torch.tensor(ce, dtype=torch.float64),
        torch.tensor(kl, dtype=torch.float64),
        student_ce_weight=a_s,
        beta=beta,
        temperature=temperature,
    )
    assert float(loss) == pytest.approx(a_s * ce + beta * temperature * temperature * kl, rel=1e-9)


@pytest.mark.parametrize(("a_s", "beta", "expected"), [(0.0, 1.0, 9 * 0.5), (0.0, 2.0, 9.0), (1.0, 0.0, 0.25)])
def test_squared_temperature_stays_when_a_weight_is_zero(a_s: float, beta: float, expected: float) -> None:
    loss = distillation_loss(torch.tensor(0.25), torch.tensor(0.5), student_ce_weight=a_s, beta=beta, temperature=3.0)
    assert float(loss) == pytest.approx(expected)


@given(
    values=st.tuples(*[st.floats(0, 10)] * 3),
    weights=st.tuples(weights, weights, weights),
    temperature=temperatures,
)
def test_distillation_loss_of_a_teacher_that_learns_has_its_labels_term(
    values: tuple[float, float, float], weights: tuple[float, float, float], temperature: float
) -> None:
    ce, kl, teacher_ce = (torch.tensor(value, dtype=torch.float64) for value in values)
    a_s, beta, a_t = weights
    loss = distillation_loss(
        ce,
        kl,
        student_ce_weight=a_s,
        beta=beta,
        temperature=temperature,
        teacher_ce=teacher_ce,
        teacher_ce_weight=a_t,
    )
    expected = a_s * values[0] + a_t * values[2] + beta * temperature**2 * values[1]
    assert float(loss) == pytest.approx(expected, rel=1e-9)


def test_without_a_learning_teacher_its_weight_counts_for_nothing() -> None:
    loss = distillation_loss(
        torch.tensor(1.0), torch.tensor(0.5), student_ce_weight=1, beta=2, temperature=1, teacher_ce_weight=100
    )
    assert float(loss) == 2.0


# Labels


@st.composite
def partly_labelled(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Logits, float64, and labels of which some are missing."""
    texts, classes = draw(st.integers(1, 6)), draw(st.integers(2, 5))
    row = st.lists(st.floats(-15, 15), min_size=classes, max_size=classes)
    logits = draw(st.lists(row, min_size=texts, max_size=texts))
    labels = draw(st.lists(st.integers(-1, classes - 1), min_size=texts, max_size=texts))
    return torch.tensor(logits, dtype=torch.float64), torch.tensor(labels)


@given(made=partly_labelled())
def test_cross_entropy_is_the_mean_over_the_labelled_texts_alone(made: tuple[Tensor, Tensor]) -> None:
    logits, labels = made
    kept = [(row, int(label)) for row, label in zip(softened(logits, 1.0), labels, strict=True) if label != NO_LABEL]
    expected = float(np.mean([-np.log(row[label]) for row, label in kept])) if kept else 0.0
    assert float(cross_entropy(logits, labels)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(made=partly_labelled())
def test_texts_without_a_label_get_no_gradient_from_cross_entropy(made: tuple[Tensor, Tensor]) -> None:
    logits, labels = made
    leaf = logits.clone().requires_grad_()
    cross_entropy(leaf, labels).backward()
    assert leaf.grad is not None
    assert bool(leaf.grad.isfinite().all())
    assert bool((leaf.grad[labels == NO_LABEL] == 0).all())
    if bool((labels != NO_LABEL).all()):
        torch.testing.assert_close(leaf.grad, torch.autograd.grad(F.cross_entropy(leaf, labels), leaf)[0])


def test_cross_entropy_is_zero_where_no_text_has_a_label() -> None:
    logits = torch.randn(3, 2, requires_grad=True)
    loss = cross_entropy(logits, torch.full((3,), NO_LABEL))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert logits.grad is not None
    assert bool((logits.grad == 0).all())


# The ramp of β


@given(beta=weights, ramp=st.floats(0.01, 1), part=st.floats(0, 1))
def test_beta_rises_in_a_straight_line_from_zero(beta: float, ramp: float, part: float) -> None:
    assert ramped(beta, ramp, 0.0) == 0.0
    assert ramped(beta, ramp, part * ramp) == pytest.approx(beta * part, rel=1e-9, abs=1e-12)


@given(beta=weights, ramp=st.floats(0, 1), part=st.floats(0, 1))
def test_beta_counts_in_full_once_the_ramp_is_over(beta: float, ramp: float, part: float) -> None:
    assert ramped(beta, ramp, ramp) == beta
    assert ramped(beta, ramp, ramp + part * (1 - ramp)) == beta


@given(beta=weights)
def test_without_a_ramp_beta_counts_in_full_from_the_first_step(beta: float) -> None:
    assert ramped(beta, 0.0, 0.0) == beta


@every_kl
@given(pair=logit_pairs(), temperature=temperatures)
def test_kl_by_text_averages_to_the_divergence(
    kind: Divergence, pair: tuple[Tensor, Tensor], temperature: float
) -> None:
    student, teacher = pair
    first, second = (student, teacher) if kind == "kl_student_teacher" else (teacher, student)
    rows = kl_by_text(first, second, temperature)
    assert rows.shape == (len(student),)
    assert float(rows.min()) >= 0
    assert float(rows.mean()) == pytest.approx(float(divergence(student, teacher, kind, temperature)), abs=1e-9)
