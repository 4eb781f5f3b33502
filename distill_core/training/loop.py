"""The one training loop: Adam, a loss, an epoch hook; it keeps the weights of the best epoch."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill_core.data.batches import Batch, EncodedTexts, sorted_batches
from distill_core.device import Compute
from distill_core.events import Emit, Epoch, Pace, StageFinished, StageStarted, Step

EVALUATION_BATCH = 256
GRADIENT_NORM = 5.0
"""Gradients longer than this are shortened to it: recurrent networks now and then produce huge ones."""


@dataclass(frozen=True)
class Context:
    """What every stage needs: where to compute, whom to tell, and whether to go on."""

    compute: Compute
    emit: Emit
    check: Callable[[], None] = lambda: None
    """Raises `Cancelled` once somebody asked the run to stop; called before each batch."""
    pace: Pace = field(default_factory=Pace)

    @contextmanager
    def stage(self, name: str, steps: int) -> Iterator[StageOutcome]:
        """Reports the start, end and duration of a stage."""
        self.emit(StageStarted(name, steps))
        outcome, start = StageOutcome(), time.perf_counter()
        yield outcome
        outcome.seconds = time.perf_counter() - start
        self.emit(StageFinished(name, outcome.seconds, outcome.accuracy))


@dataclass
class StageOutcome:
    """What a stage reports at its end."""

    seconds: float = 0.0
    accuracy: float | None = None


@dataclass(frozen=True)
class Terms:
    """Losses of one batch as scalars: what is minimised, and the parts worth watching."""

    loss: Tensor
    ce: Tensor
    kl: Tensor | None = None


@dataclass(frozen=True)
class Score:
    """How good a model is after an epoch; higher `value` is better."""

    value: float
    ce: float
    accuracy: float | None = None


def fit(
    stage: str,
    model: nn.Module,
    *,
    batches: Callable[[torch.Generator], Iterator[Batch]],
    steps_per_epoch: int,
    loss: Callable[[Batch], Terms],
    score: Callable[[], Score],
    epochs: int,
    learning_rate: float,
    seed: int,
    context: Context,
) -> Score:
    """Trains `model` in place and leaves it, in evaluation mode, with the weights of its best epoch.

    Args:
        stage: the name under which events are reported.
        batches: one pass over the data, in an order drawn from the generator it is given.
        loss: the losses of a batch that is on the right device.
        score: measures the model on validation after each epoch.
        learning_rate: Adam's (Kingma & Ba 2015); it falls linearly to 0 over all steps.
        seed: decides the order of batches and the dropout, whatever came before.

    Returns:
        The best epoch's score.

    Raises:
        Cancelled: from `context.check`.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    total = epochs * steps_per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / total)
    meter, step = _Meter(), 0
    best: Score | None = None
    best_weights: dict[str, Tensor] = {}
    for epoch in range(1, epochs + 1):
        model.train()
        for batch in batches(generator):
            context.check()
            terms = loss(batch.to(context.compute.device))
            optimizer.zero_grad()
            terms.loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
            optimizer.step()
            step += 1
            meter.add(terms, len(batch))
            if context.pace.due():
                context.emit(meter.read(stage, step, float(schedule.get_last_lr()[0])))
            schedule.step()
        model.eval()
        reached = score()
        context.emit(Epoch(stage, epoch, "val", reached.accuracy, reached.ce))
        if best is None or reached.value > best.value:
            best, best_weights = reached, copy.deepcopy(model.state_dict())
    assert best is not None
    model.load_state_dict(best_weights)
    return best


class _Meter:
    """Adds up losses on the device and reads them only when an event goes out."""

    def __init__(self) -> None:
        self._terms: list[Terms] = []
        self._examples = 0

    def add(self, terms: Terms, examples: int) -> None:
        kl = None if terms.kl is None else terms.kl.detach()
        self._terms.append(Terms(terms.loss.detach(), terms.ce.detach(), kl))
        self._examples += examples

    def read(self, stage: str, step: int, lr: float) -> Step:
        loss = _mean([terms.loss for terms in self._terms])
        ce = _mean([terms.ce for terms in self._terms])
        kls = [terms.kl for terms in self._terms if terms.kl is not None]
        self._terms.clear()
        return Step(stage, step, self._examples, ce, _mean(kls) if kls else None, loss, lr)


def _mean(values: list[Tensor]) -> float:
    return float(torch.stack(values).mean())


def logits_of(
    model: nn.Module, texts: EncodedTexts, context: Context, *, tick: Callable[[int], None] = lambda texts: None
) -> Tensor:
    """Logits `[N, C]` of all texts, in their order, without dropout; float32 on the CPU.

    Args:
        tick: called after each batch with its number of texts.
    """
    model.eval()
    order, parts = [], []
    for rows, batch in sorted_batches(texts, EVALUATION_BATCH):
        context.check()
        moved = batch.to(context.compute.device)
        with torch.inference_mode(), context.compute.autocast():
            parts.append(model(moved.tokens_BT, moved.lengths_B).float().cpu())
        order.append(rows)
        tick(len(rows))
    gathered = torch.cat(parts)
    logits_NC = torch.empty_like(gathered)
    logits_NC[torch.cat(order)] = gathered
    return logits_NC


def validation_score(model: nn.Module, texts: EncodedTexts, context: Context) -> Score:
    """Accuracy and cross-entropy (nats) of a classifier on labelled texts."""
    logits_NC = logits_of(model, texts, context)
    accuracy = float((logits_NC.argmax(dim=1) == texts.labels_N).float().mean())
    return Score(accuracy, float(F.cross_entropy(logits_NC, texts.labels_N)), accuracy)
