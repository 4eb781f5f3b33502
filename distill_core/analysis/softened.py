"""Models' answers to one text, softened by a temperature, and how far each is from the teacher's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from distill_core.training.losses import kl_by_text


class Asked(Protocol):
    """Models that answer texts, such as a `Predictor`."""

    @property
    def label_names(self) -> tuple[str, ...]: ...

    def logits(self, texts: Sequence[str]) -> dict[str, Tensor]: ...


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


@dataclass(frozen=True)
class Answers:
    """Logits `[C]` of several models for one text; `teacher` is the place of the teacher, if it was asked."""

    label_names: tuple[str, ...]
    logits: tuple[Tensor, ...]
    teacher: int | None

    def softened(self, temperature: float) -> list[Softened]:
        """Each answer at T > 0; a higher one makes answers softer and changes none of them."""
        return [_softened(logits_C, self.label_names, temperature) for logits_C in self.logits]

    def distances(self, temperature: float) -> list[Distance | None]:
        """How far each answer is from the teacher's at T > 0; None for the teacher, and where there is none."""
        if self.teacher is None:
            return [None for _ in self.logits]
        teacher_C = self.logits[self.teacher]
        return [
            None if place == self.teacher else _distance(logits_C, teacher_C, temperature)
            for place, logits_C in enumerate(self.logits)
        ]


def ask(predictors: Sequence[Asked], text: str) -> Answers:
    """What all models of some runs say about a text, in their order; the runs have the same classes and teacher.

    Args:
        predictors: the first may hold the teacher.
    """
    found = [predictor.logits([text]) for predictor in predictors]
    logits = tuple(logits_1C[0].double() for answers in found for logits_1C in answers.values())
    return Answers(predictors[0].label_names, logits, 0 if "teacher" in found[0] else None)


def _softened(logits_C: Tensor, labels: tuple[str, ...], temperature: float) -> Softened:
    log_C = (logits_C / temperature).log_softmax(dim=0)
    soft_C = log_C.exp()
    first, second = soft_C.topk(2).values.tolist()
    entropy = max(-float((soft_C * log_C).sum()), 0.0)
    return Softened(dict(zip(labels, soft_C.tolist(), strict=True)), entropy, first - second)


def _distance(student_C: Tensor, teacher_C: Tensor, temperature: float) -> Distance:
    student_1C, teacher_1C = student_C[None], teacher_C[None]
    return Distance(
        float(kl_by_text(student_1C, teacher_1C, temperature)),
        float(kl_by_text(teacher_1C, student_1C, temperature)),
        bool(student_C.argmax() == teacher_C.argmax()),
    )
