"""What a student minimises. Shapes: `B` texts, `C` classes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from distill_core.config import Divergence


def divergence(student_logits_BC: Tensor, teacher_logits_BC: Tensor, kind: Divergence, temperature: float) -> Tensor:
    """D(f_s, f_t; T): how far the softened answers of student and teacher are apart, in nats.

    With p = softmax(student / T) and q = softmax(teacher / T), averaged over the batch and summed over classes:
    `kl_student_teacher` is Σ p log(p / q), the article's direction; `kl_teacher_student` is Σ q log(q / p)
    (Hinton et al. 2015, https://arxiv.org/abs/1503.02531, section 2). Either is 0 exactly where p = q.

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
    student = F.log_softmax(student_logits_BC / temperature, dim=-1)
    teacher = F.log_softmax(teacher_logits_BC / temperature, dim=-1)
    # F.kl_div(input, target) computes KL(target ‖ input).
    first, second = (student, teacher) if kind == "kl_student_teacher" else (teacher, student)
    return F.kl_div(second, first, reduction="batchmean", log_target=True)


def distillation_loss(
    cross_entropy: Tensor, divergence: Tensor, *, student_ce_weight: float, beta: float, temperature: float
) -> Tensor:
    """a_s · CE + β · T² · D. T² keeps the scale of D's gradient whatever the temperature (Hinton et al. 2015)."""
    return student_ce_weight * cross_entropy + beta * temperature**2 * divergence
