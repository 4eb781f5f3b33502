"""Models that read without learning: what they make of texts, and how good that is.

Shapes: `B` texts of a batch, `T` tokens, `N` texts, `C` classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill_core.data.batches import READING_TOKENS, EncodedTexts, sorted_rows
from distill_core.models.sizes import Work
from distill_core.training.context import Context
from distill_core.training.team import team_of


@dataclass(frozen=True)
class Score:
    """How good a model is after an epoch; higher `value` is better."""

    value: float
    ce: float
    accuracy: float | None = None
    teacher_accuracy: float | None = None


def logits_of(
    model: nn.Module,
    texts: EncodedTexts,
    context: Context,
    *,
    tick: Callable[[int], None] = lambda texts: None,
    name: str | None = None,
) -> Tensor:
    """Logits `[N, C]` of all texts, in their order, without dropout; float32 on the CPU.

    Args:
        tick: called after each batch with its number of texts.
        name: keeps a checkpoint under this name, for a reading that takes long.
    """
    model.eval()
    return outputs_of(model, texts, context, work_of(model), tick=tick, name=name)


def outputs_of(
    function: Callable[[Tensor, Tensor], Tensor],
    texts: EncodedTexts,
    context: Context,
    work: Work,
    *,
    tick: Callable[[int], None] = lambda texts: None,
    name: str | None = None,
) -> Tensor:
    """What a function of token ids and lengths makes of all texts, a row each, in their order; float32 on the CPU.

    Args:
        work: what computes in it.
        name: keeps a checkpoint under this name, for a reading that takes long.
    """
    parts = list[Tensor]()
    saved = context.checkpoints.load(name) if name else None
    if saved is not None:
        parts.append(saved[0]["rows"])
    known = saved[1]["batches"] if saved is not None else 0
    texts = texts.to(context.compute.device)
    order = reading_rows(texts, work)

    def read(rows: Tensor) -> Tensor:
        batch = texts.gather(rows)
        with torch.inference_mode(), context.compute.autocast(work):
            return function(batch.tokens_BT, batch.lengths_B).float()

    for rows in order[:known]:
        tick(len(rows))
    with team_of(context.compute.device) as team:
        while known < len(order):
            group = order[known : known + (1 if team is None else team.size)]
            context.check()
            parts.extend([read(group[0])] if team is None else team.each(read, group))
            known += len(group)
            if name and (context.checkpoints.due() or known == len(order)):
                context.checkpoints.save(name, {"rows": _joined(parts)}, {"batches": known})
            for rows in group:
                tick(len(rows))
    gathered = _joined(parts)
    rows_N = torch.empty_like(gathered)
    rows_N[torch.cat(order)] = gathered
    return rows_N


def reading_rows(texts: EncodedTexts, work: Work) -> list[Tensor]:
    """The rows of each batch in which all texts are read: those of an encoder are smaller, as its states are wider."""
    return sorted_rows(texts, READING_TOKENS // (2 if work == "encoder" else 1))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.cpu() for part in parts])


def work_of(model: nn.Module) -> Work:
    """What computes in a model."""
    work: Work = getattr(model, "work", "other")
    return work


def validation_score(model: nn.Module, texts: EncodedTexts, context: Context) -> Score:
    """Accuracy and cross-entropy (nats) of a classifier on labelled texts."""
    return score_of(logits_of(model, texts, context), texts.labels_N)


def score_of(logits_NC: Tensor, labels_N: Tensor) -> Score:
    """Accuracy and cross-entropy (nats) of logits."""
    accuracy = float((logits_NC.argmax(dim=1) == labels_N).float().mean())
    return Score(accuracy, float(F.cross_entropy(logits_NC, labels_N)), accuracy)
