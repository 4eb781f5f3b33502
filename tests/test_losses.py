"""The divergence and the distillation loss, against their formulas and their limits."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from distill_core.config import Divergence
from distill_core.training.losses import distillation_loss, divergence

KINDS: tuple[Divergence, ...] = get_args(Divergence)
every_kind = pytest.mark.parametrize("kind", KINDS)
temperatures = st.floats(0.5, 20)
weights = st.floats(0, 100)


@st.composite
def logit_pairs(draw: st.DrawFn, largest: float = 15.0) -> tuple[Tensor, Tensor]:
    """Student's and teacher's logits of one shape, float64."""
    texts, classes = draw(st.integers(1, 5)), draw(st.integers(2, 6))
    row = st.lists(st.floats(-largest, largest), min_size=classes, max_size=classes)
    matrix = st.lists(row, min_size=texts, max_size=texts)
    return tuple(torch.tensor(draw(matrix), dtype=torch.float64) for _ in range(2))


def softened(logits: list[float], temperature: float) -> list[float]:
    largest = max(logits)
    exponentials = [math.exp((logit - largest) / temperature) for logit in logits]
    return [value / sum(exponentials) for value in exponentials]


def reference(student: Tensor, teacher: Tensor, kind: Divergence, temperature: float) -> float:
    """Σ p log(p / q) over classes, mean over texts, written out in Python's own floats."""
    first, second = (student, teacher) if kind == "kl_student_teacher" else (teacher, student)
    total = 0.0
    for first_logits, second_logits in zip(first.tolist(), second.tolist(), strict=True):
        p, q = softened(first_logits, temperature), softened(second_logits, temperature)
        total += sum(p_c * math.log(p_c / q_c) for p_c, q_c in zip(p, q, strict=True))
    return total / len(student)


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


@every_kind
@given(pair=logit_pairs(), temperature=temperatures, constants=st.tuples(st.floats(-50, 50), st.floats(-50, 50)))
def test_divergence_ignores_a_constant_added_to_all_logits(
    kind: Divergence, pair: tuple[Tensor, Tensor], temperature: float, constants: tuple[float, float]
) -> None:
    shifted = divergence(pair[0] + constants[0], pair[1] + constants[1], kind, temperature)
    assert float(shifted) == pytest.approx(float(divergence(*pair, kind, temperature)), rel=1e-6, abs=1e-9)


@every_kind
@given(pair=logit_pairs(), temperature=temperatures)
def test_divergence_is_the_sum_over_classes_and_the_mean_over_texts(
    kind: Divergence, pair: tuple[Tensor, Tensor], temperature: float
) -> None:
    expected = reference(*pair, kind, temperature)
    assert float(divergence(*pair, kind, temperature)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(pair=logit_pairs(), temperature=temperatures)
def test_divergence_agrees_with_pytorch(pair: tuple[Tensor, Tensor], temperature: float) -> None:
    student, teacher = (F.log_softmax(logits / temperature, dim=1) for logits in pair)
    # F.kl_div takes the logarithm of q first and then p itself.
    expected = {
        "kl_student_teacher": F.kl_div(teacher, student.exp(), reduction="batchmean"),
        "kl_teacher_student": F.kl_div(student, teacher.exp(), reduction="batchmean"),
    }
    found = {kind: divergence(*pair, kind, temperature) for kind in KINDS}
    assert found.keys() == expected.keys()
    for kind in KINDS:
        torch.testing.assert_close(found[kind], expected[kind], rtol=1e-9, atol=1e-12)


@given(pair=logit_pairs(), temperature=temperatures)
def test_each_direction_is_the_other_with_the_models_exchanged(pair: tuple[Tensor, Tensor], temperature: float) -> None:
    student, teacher = pair
    one = divergence(student, teacher, "kl_student_teacher", temperature)
    assert torch.equal(one, divergence(teacher, student, "kl_teacher_student", temperature))


def test_the_two_directions_are_different_functions() -> None:
    student, teacher = torch.tensor([[4.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    values = [float(divergence(student, teacher, kind, 1.0)) for kind in KINDS]
    assert abs(values[0] - values[1]) > 0.1


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
    assert float(loss.detach()) == pytest.approx(1000)
    assert student.grad is not None
    assert bool(student.grad.isfinite().all())


@every_kind
@given(pair=logit_pairs(largest=0.1))
def test_scaled_gradient_tends_to_the_difference_of_centred_logits(
    kind: Divergence, pair: tuple[Tensor, Tensor]
) -> None:
    """Hinton et al. 2015, equation 4: for high temperatures distillation matches centred logits."""
    student, teacher = (logits - logits.mean(dim=1, keepdim=True) for logits in pair)
    limit = (student - teacher) / student.numel()
    found = scaled_gradient(*pair, kind, 200.0)
    torch.testing.assert_close(found, limit, rtol=0.01, atol=1e-5)


@every_kind
@given(pair=logit_pairs(largest=1.0))
def test_squared_temperature_keeps_the_scale_of_the_gradient(kind: Divergence, pair: tuple[Tensor, Tensor]) -> None:
    student, teacher = (logits - logits.mean(dim=1, keepdim=True) for logits in pair)
    assume(float((student - teacher).norm()) > 0.1)
    at_10, at_20 = (float(scaled_gradient(*pair, kind, t).norm()) for t in (10.0, 20.0))
    assert at_10 / at_20 == pytest.approx(1, abs=0.12)


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
