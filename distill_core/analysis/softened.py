"""One model's answer to one text, softened by a temperature, and how far two such answers are apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from distill_core.analysis.predict import Predictor
from distill_core.training.losses import kl_by_text


@dataclass(frozen=True)
class Softened:
    """softmax(logits / T) and what can be said of it.

    `entropy` is in nats: 0 when the model is sure of one class, log C when it finds all alike. `margin` is the
    probability of its answer above that of the next class, 0 to 1.
    """

    probabilities: Mapping[str, float]
    entropy: float
    margin: float

    @property
    def label(self) -> str:
        """The answer: the class that is most likely."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def confidence(self) -> float:
        """The probability of the answer."""
        return self.probabilities[self.label]


@dataclass(frozen=True)
class Distance:
    """KL divergences of two softened answers in nats, and whether both choose one class."""

    student_teacher: float
    teacher_student: float
    agree: bool


def answers(predictor: Predictor, text: str, temperature: float = 1.0) -> tuple[dict[str, Softened], Distance | None]:
    """What each model of a run says about a text, by role, and how far the student is from its teacher.

    Args:
        temperature: T > 0; a higher one makes the answers softer and changes none of them.

    Returns:
        The distance is None where there is no teacher to ask.
    """
    logits = {role: logits_1C[0] for role, logits_1C in predictor.logits([text]).items()}
    spoken = {role: _softened(logits_C, predictor.label_names, temperature) for role, logits_C in logits.items()}
    if "teacher" not in logits or "student" not in logits:
        return spoken, None
    return spoken, _distance(logits["student"], logits["teacher"], temperature)


def _softened(logits_C: Tensor, labels: tuple[str, ...], temperature: float) -> Softened:
    log_C = (logits_C.double() / temperature).log_softmax(dim=0)
    soft_C = log_C.exp()
    first, second = soft_C.topk(2).values.tolist()
    return Softened(
        dict(zip(labels, soft_C.tolist(), strict=True)), max(-float((soft_C * log_C).sum()), 0.0), first - second
    )


def _distance(student_C: Tensor, teacher_C: Tensor, temperature: float) -> Distance:
    student_1C, teacher_1C = student_C.double()[None], teacher_C.double()[None]
    return Distance(
        float(kl_by_text(student_1C, teacher_1C, temperature)),
        float(kl_by_text(teacher_1C, student_1C, temperature)),
        bool(student_C.argmax() == teacher_C.argmax()),
    )
