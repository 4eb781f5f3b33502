"""The losses of a batch, and their means over many batches. Shapes: `B` texts, `C` classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distill_core.events import Step


@dataclass(frozen=True)
class Terms:
    """Losses of one batch as scalars: what is minimised, and the parts worth watching.

    `labelled` counts the texts whose mean `ce` is, where a batch may hold others that have no label. The logits,
    `[B, C]`, are there for those who look at a single batch.
    """

    loss: Tensor
    ce: Tensor
    kl: Tensor | None = None
    teacher_ce: Tensor | None = None
    labelled: Tensor | None = None
    student_BC: Tensor | None = None
    teacher_BC: Tensor | None = None

    @classmethod
    def of_parts(cls, parts: Sequence[Terms]) -> Terms:
        """The losses of a batch from those of its parts, each weighted by its share already."""
        return cls(
            _sum([part.loss for part in parts]),
            _sum([part.ce for part in parts]),
            _over(parts, "kl", _sum),
            _over(parts, "teacher_ce", _sum),
            _over(parts, "labelled", _sum),
            _over(parts, "student_BC", torch.cat),
            _over(parts, "teacher_BC", torch.cat),
        )

    def scalars(self) -> Terms:
        """The losses without their history and without logits."""
        return self._of_each(Tensor.detach)

    def copied(self) -> Terms:
        """The same in memory of their own."""
        return self._of_each(lambda value: value.detach().clone())

    def _of_each(self, change: Callable[[Tensor], Tensor]) -> Terms:
        kl, teacher_ce, labelled = (
            None if value is None else change(value) for value in (self.kl, self.teacher_ce, self.labelled)
        )
        return Terms(change(self.loss), change(self.ce), kl, teacher_ce, labelled)


def _over(parts: Sequence[Terms], name: str, join: Callable[[list[Tensor]], Tensor]) -> Tensor | None:
    found = [getattr(part, name) for part in parts]
    return None if found[0] is None else join(found)


def _sum(values: list[Tensor]) -> Tensor:
    return torch.stack(values).sum()


class Meter:
    """Adds up losses on the device and reads them only when an event goes out; each text counts the same."""

    def __init__(self, examples: int = 0) -> None:
        self._terms: list[Terms] = []
        self._sizes: list[int] = []
        self.examples = examples

    def add(self, terms: Terms, examples: int) -> None:
        self._terms.append(terms.scalars())
        self._sizes.append(examples)
        self.examples += examples

    @property
    def is_empty(self) -> bool:
        """Whether all that was added has been read."""
        return not self._terms

    def read(self, stage: str, step: int, lr: float) -> Step:
        terms, self._terms = self._terms, []
        sizes, self._sizes = torch.tensor(self._sizes, device=terms[0].loss.device), []
        labelled = (
            sizes
            if terms[0].labelled is None
            else torch.stack([term.labelled for term in terms if term.labelled is not None])
        )
        return Step(
            stage,
            step,
            self.examples,
            ce=_mean([term.ce for term in terms], labelled),
            kl=_mean([term.kl for term in terms], sizes),
            loss=_mean([term.loss for term in terms], sizes),
            lr=lr,
            teacher_ce=_mean([term.teacher_ce for term in terms], labelled),
        )


def _mean(values: Sequence[Tensor | None], texts: Tensor) -> float | None:
    """The mean over texts of means over batches; None where no batch has the value, or no text counts."""
    present, total = [value for value in values if value is not None], float(texts.sum())
    return float((torch.stack(present) * texts).sum()) / total if present and total else None
