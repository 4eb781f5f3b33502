"""What is minimised. Shapes: `B` texts, `C` classes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_core.config import Divergence
from distill_core.data.batches import NO_LABEL


def divergence(student_logits_BC: Tensor, teacher_logits_BC: Tensor, kind: Divergence, temperature: float) -> Tensor:
    """D(f_s, f_t; T): how far the softened answers of student and teacher are apart.

    With p = softmax(student / T) and q = softmax(teacher / T), averaged over the batch:

    - `kl_student_teacher`: Σ p log(p / q) in nats, the article's direction.
    - `kl_teacher_student`: Σ q log(q / p) in nats (Hinton et al. 2015, https://arxiv.org/abs/1503.02531, section 2).
    - `jensen_shannon`: ½ KL(p ‖ m) + ½ KL(q ‖ m) with m = (p + q) / 2, in nats, at most log 2 (Lin 1991).
    - `logit_mse`: the mean over classes of (student / T − teacher / T)² (Ba & Caruana 2014,
      https://arxiv.org/abs/1312.6184, equation 2 but for a constant; Tang et al. 2019,
      https://arxiv.org/abs/1903.12136, equation 2). Multiplied by T² it no longer depends on T.

    Each is 0 where the logits are equal and never negative.

    Args:
        student_logits_BC, teacher_logits_BC: logits of the same shape `[B, C]`.
        temperature: T > 0.

    Returns:
        A scalar, not yet multiplied by T².

    Raises:
        ValueError: T is not positive or the shapes differ.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be > 0, got {temperature}; try 1 to 8")
    if student_logits_BC.shape != teacher_logits_BC.shape:
        raise ValueError(
            f"logits must have one shape, got {tuple(student_logits_BC.shape)} for the student and "
            f"{tuple(teacher_logits_BC.shape)} for the teacher; look up the teacher's by sample id"
        )
    if kind == "logit_mse":
        return F.mse_loss(student_logits_BC / temperature, teacher_logits_BC / temperature)
    student = F.log_softmax(student_logits_BC / temperature, dim=-1)
    teacher = F.log_softmax(teacher_logits_BC / temperature, dim=-1)
    if kind == "jensen_shannon":
        middle = torch.logaddexp(student, teacher) - math.log(2)
        return (_kl(student, middle) + _kl(teacher, middle)) / 2
    return _kl(student, teacher) if kind == "kl_student_teacher" else _kl(teacher, student)


def _kl(first: Tensor, second: Tensor) -> Tensor:
    """KL(first ‖ second) of log-probabilities; F.kl_div takes them in the opposite order."""
    return F.kl_div(second, first, reduction="batchmean", log_target=True)


def kl_by_text(first_BC: Tensor, second_BC: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(first ‖ second) of the softened answers to each text, `[B]` in nats; 0 where the logits are equal."""
    first = F.log_softmax(first_BC / temperature, dim=-1)
    second = F.log_softmax(second_BC / temperature, dim=-1)
    return F.kl_div(second, first, reduction="none", log_target=True).sum(dim=-1).clamp(min=0)


def cross_entropy(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """CE(y, f) in nats, averaged over the texts that have a label; 0 where none has one."""
    labelled = (labels_B != NO_LABEL).sum().clamp(min=1)
    return F.cross_entropy(logits_BC, labels_B, ignore_index=NO_LABEL, reduction="sum") / labelled


def distillation_loss(
    student_ce: Tensor,
    divergence: Tensor,
    *,
    student_ce_weight: float,
    beta: float,
    temperature: float,
    teacher_ce: Tensor | None = None,
    teacher_ce_weight: float = 0.0,
) -> Tensor:
    """a_s · CE(y, f_s) + a_t · CE(y, f_t) + β · T² · D.

    T² keeps the scale of D's gradient whatever the temperature (Hinton et al. 2015). The teacher's term is there in
    joint training alone.
    """
    loss = student_ce_weight * student_ce + beta * temperature**2 * divergence
    return loss if teacher_ce is None else loss + teacher_ce_weight * teacher_ce


def ramped(beta: float, ramp: float, done: float) -> float:
    """β at a point of the training: rises in a straight line from 0 over the first `ramp` of it.

    Args:
        ramp: part of the training, 0 to 1; 0 means that β counts in full at once.
        done: part of the training that is over, 0 to 1.
    """
    return beta if done >= ramp else beta * done / ramp
