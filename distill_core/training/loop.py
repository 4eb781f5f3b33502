"""The one training loop: an optimizer, a loss, an epoch hook; it keeps the weights of the best epoch."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from distill_core.data.batches import Batch, EncodedTexts, sorted_batches
from distill_core.device import Compute
from distill_core.events import Emit, Epoch, Pace, StageFinished, StageStarted, Step

EVALUATION_BATCH = 256
GRADIENT_NORM = 5.0
"""Gradients longer than this are shortened to it: recurrent networks now and then produce huge ones."""
AVERAGE_DECAY = 0.999
"""Part of the running average of weights that stays at each step, once it has had some steps to gather."""


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
    """Losses of one batch as scalars: what is minimised, and the parts worth watching.

    `labelled` counts the texts whose mean `ce` is, where a batch may hold others that have no label.
    """

    loss: Tensor
    ce: Tensor
    kl: Tensor | None = None
    teacher_ce: Tensor | None = None
    labelled: Tensor | None = None


@dataclass(frozen=True)
class Score:
    """How good a model is after an epoch; higher `value` is better."""

    value: float
    ce: float
    accuracy: float | None = None
    teacher_accuracy: float | None = None


def fit(
    stage: str,
    model: nn.Module,
    *,
    batches: Callable[[torch.Generator], Iterator[Batch]],
    steps_per_epoch: int,
    loss: Callable[[Batch, float], Terms],
    score: Callable[[], Score],
    epochs: int,
    optimizer: torch.optim.Optimizer,
    seed: int,
    context: Context,
    warmup: float = 0.0,
    average: bool = False,
    first_step: int = 0,
) -> Score:
    """Trains `model` in place and leaves it, in evaluation mode, with the weights of its best epoch.

    Args:
        stage: the name under which events are reported.
        batches: one pass over the data, in an order drawn from the generator it is given.
        loss: the losses of a batch that is on the right device; also hears the part of training that is over, 0 to 1.
        score: measures the model on validation after each epoch.
        optimizer: its learning rates fall linearly to 0 over all steps.
        seed: decides the order of batches and the dropout, whatever came before.
        warmup: part of all steps in which the learning rates rise from 0 first.
        average: measure and keep an exponential running average of the weights in place of the last ones.
        first_step: steps of the stage that were done before.

    Returns:
        The best epoch's score.

    Raises:
        Cancelled: from `context.check`.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    total = epochs * steps_per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step / total, warmup))
    averaged = AveragedModel(model, multi_avg_fn=_average) if average else None
    meter, step, spoke = _Meter(), 0, False
    best: Score | None = None
    best_weights: dict[str, Tensor] = {}
    for epoch in range(1, epochs + 1):
        model.train()
        for batch in batches(generator):
            context.check()
            terms = loss(batch.to(context.compute.device), step / total)
            optimizer.zero_grad()
            terms.loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
            optimizer.step()
            if averaged is not None:
                averaged.update_parameters(model)
            step += 1
            meter.add(terms, len(batch))
            # A training shorter than the pace still says something at its end.
            if context.pace.due() or (step == total and not spoke):
                context.emit(meter.read(stage, first_step + step, float(schedule.get_last_lr()[0])))
                spoke = True
            schedule.step()
        model.eval()
        with _weights_of(averaged, model):
            reached = score()
            context.emit(Epoch(stage, epoch, "val", reached.accuracy, reached.ce, reached.teacher_accuracy))
            if best is None or reached.value > best.value:
                best, best_weights = reached, copy.deepcopy(model.state_dict())
    assert best is not None
    model.load_state_dict(best_weights)
    return best


@torch.no_grad()
def _average(averaged: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor | int) -> None:
    """Moves the average towards the current weights; quickly at first, so that the start is soon forgotten."""
    decay = min(AVERAGE_DECAY, (1 + int(steps)) / (10 + int(steps)))
    torch._foreach_lerp_(list(averaged), list(current), 1 - decay)


def _rate(done: float, warmup: float) -> float:
    """What the learning rate is multiplied by: up from 0 in the warm-up, then down to 0."""
    return done / warmup if done < warmup else (1 - done) / (1 - warmup)


@contextmanager
def _weights_of(averaged: AveragedModel | None, model: nn.Module) -> Iterator[None]:
    """Lends the averaged weights to the model."""
    if averaged is None:
        yield
        return
    own = copy.deepcopy(model.state_dict())
    model.load_state_dict(averaged.module.state_dict())
    try:
        yield
    finally:
        model.load_state_dict(own)


class _Meter:
    """Adds up losses on the device and reads them only when an event goes out; each text counts the same."""

    def __init__(self) -> None:
        self._terms: list[Terms] = []
        self._sizes: list[int] = []
        self._examples = 0

    def add(self, terms: Terms, examples: int) -> None:
        kl, teacher_ce = (None if part is None else part.detach() for part in (terms.kl, terms.teacher_ce))
        self._terms.append(Terms(terms.loss.detach(), terms.ce.detach(), kl, teacher_ce, terms.labelled))
        self._sizes.append(examples)
        self._examples += examples

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
            self._examples,
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


def logits_of(
    model: nn.Module, texts: EncodedTexts, context: Context, *, tick: Callable[[int], None] = lambda texts: None
) -> Tensor:
    """Logits `[N, C]` of all texts, in their order, without dropout; float32 on the CPU.

    Args:
        tick: called after each batch with its number of texts.
    """
    model.eval()
    return outputs_of(model, texts, context, tick=tick)


def outputs_of(
    function: Callable[[Tensor, Tensor], Tensor],
    texts: EncodedTexts,
    context: Context,
    *,
    tick: Callable[[int], None] = lambda texts: None,
) -> Tensor:
    """What a function of token ids and lengths makes of all texts, a row each, in their order; float32 on the CPU."""
    order, parts = [], []
    for rows, batch in sorted_batches(texts, EVALUATION_BATCH):
        context.check()
        moved = batch.to(context.compute.device)
        with torch.inference_mode(), context.compute.autocast():
            parts.append(function(moved.tokens_BT, moved.lengths_B).float().cpu())
        order.append(rows)
        tick(len(rows))
    gathered = torch.cat(parts)
    rows_N = torch.empty_like(gathered)
    rows_N[torch.cat(order)] = gathered
    return rows_N


def validation_score(model: nn.Module, texts: EncodedTexts, context: Context) -> Score:
    """Accuracy and cross-entropy (nats) of a classifier on labelled texts."""
    return score_of(logits_of(model, texts, context), texts.labels_N)


def score_of(logits_NC: Tensor, labels_N: Tensor) -> Score:
    """Accuracy and cross-entropy (nats) of logits."""
    accuracy = float((logits_NC.argmax(dim=1) == labels_N).float().mean())
    return Score(accuracy, float(F.cross_entropy(logits_NC, labels_N)), accuracy)
