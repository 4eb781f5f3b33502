"""One batch of a student's training, taken apart so that its update can be followed by hand."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_core.config import ObjectiveConfig
from distill_core.data.batches import NO_LABEL, Batch
from distill_core.training.loop import Explain
from distill_core.training.losses import divergence, ramped
from distill_core.training.terms import Terms


def explained(objective: ObjectiveConfig | None) -> Explain:
    """Says what a batch did to a student under an objective; None for one that learns from the labels alone.

    What it says holds for each text its token ids, label, logits and softened probabilities of both models, the
    cross-entropy and distance of that text, and the student's logits after the update; for the batch the means of the
    loss terms before and after.
    """

    def explain(batch: Batch, before: Terms, after: Terms, done: float) -> dict[str, Any]:
        temperature = objective.temperature if objective is not None else 1.0
        assert before.student_BC is not None
        assert after.student_BC is not None
        return {
            "temperature": temperature,
            "beta": 0.0 if objective is None else ramped(objective.beta, objective.beta_ramp, done),
            "before": _means(before),
            "after": _means(after),
            "texts": [
                {
                    "tokens": batch.tokens_BT[row, : int(batch.lengths_B[row])].tolist(),
                    "label": None if int(batch.labels_B[row]) == NO_LABEL else int(batch.labels_B[row]),
                    "student": _answer(before.student_BC[row], temperature),
                    "teacher": None if before.teacher_BC is None else _answer(before.teacher_BC[row], temperature),
                    "student_after": _answer(after.student_BC[row], temperature),
                    "ce": _cross_entropy(before.student_BC[row], int(batch.labels_B[row])),
                    "distance": _distance(before, row, objective),
                }
                for row in range(len(batch))
            ],
        }

    return explain


def _means(terms: Terms) -> dict[str, float | None]:
    named = {"ce": terms.ce, "distance": terms.kl, "teacher_ce": terms.teacher_ce, "total": terms.loss}
    return {name: None if value is None else float(value.detach()) for name, value in named.items()}


def _answer(logits_C: Tensor, temperature: float) -> dict[str, list[float]]:
    own = logits_C.detach().float().cpu()
    return {"logits": own.tolist(), "soft": torch.softmax(own / temperature, dim=0).tolist()}


def _cross_entropy(logits_C: Tensor, label: int) -> float | None:
    if label == NO_LABEL:
        return None
    return float(F.cross_entropy(logits_C.detach().float().cpu()[None], torch.tensor([label])))


def _distance(terms: Terms, row: int, objective: ObjectiveConfig | None) -> float | None:
    if objective is None or terms.student_BC is None or terms.teacher_BC is None:
        return None
    student_1C, teacher_1C = terms.student_BC[row : row + 1].detach(), terms.teacher_BC[row : row + 1].detach()
    return float(divergence(student_1C, teacher_1C, objective.divergence, objective.temperature))
