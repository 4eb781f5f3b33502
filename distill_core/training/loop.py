"""The one training loop: an optimizer, a loss, an epoch hook; it keeps the weights of the best epoch.

It can be paused, taken step by step, stopped with what it has reached, and goes on exactly from its last checkpoint.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from distill_core.control import Stopped
from distill_core.data.batches import Batch, widened
from distill_core.errors import Interrupted
from distill_core.events import Emit, Epoch, Warned
from distill_core.training.checkpoint import Training, randomness, set_randomness
from distill_core.training.context import Context
from distill_core.training.graphs import Gradients, Graphs, common_width, gains_by_graphs
from distill_core.training.reading import Score
from distill_core.training.team import Team, added, gains_by_threads, team_of
from distill_core.training.terms import Meter, Terms

GRADIENT_NORM = 5.0
"""Gradients longer than this are shortened to it: recurrent networks now and then produce huge ones."""
AVERAGE_DECAY = 0.999
"""Part of the running average of weights that stays at each step, once it has had some steps to gather."""


Explain = Callable[[Batch, Terms, Terms, float], Mapping[str, Any]]
"""Says what a batch did, from its losses before and after the update and the part of training that was over, 0 to 1."""


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
    explain: Explain | None = None,
    divisible: bool = False,
    steady: bool = False,
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
        explain: says what a batch did, for people who take the training batch by batch.
        divisible: `loss` weighs its parts by the shares of a batch, so that threads may take a part of it each.
        steady: `loss` depends on the batch's tensors alone, so that a GPU may repeat a step from a recording.

    Returns:
        The best epoch's score.

    Raises:
        Cancelled, Interrupted: from `context.control`.
    """
    torch.manual_seed(seed)
    total = epochs * steps_per_epoch
    training = Training(
        model,
        optimizer,
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step / total, warmup)),
        torch.Generator().manual_seed(seed),
        copy.deepcopy(model) if average else None,
    )
    saved = context.checkpoints.load(stage)
    if saved is not None:
        training.restore(*saved)
    at = training.at
    with team_of(context.compute.device) if divisible and gains_by_threads(model) else nullcontext() as team:
        lesson = _Lesson(stage, training, loss, explain, total, first_step, context, team, steady)
        try:
            while not at.done:
                lesson.teach_epoch(batches)
                _keep_best(training, score, stage, context)
                lesson.end_epoch(epochs)
        except Interrupted:
            lesson.save()
            raise
    if at.step < total:
        context.control.stopped = Stopped(stage, first_step + at.step, first_step + total)
    assert training.best is not None
    model.load_state_dict(training.best_weights)
    model.eval()
    return Score(**training.best)


def _keep_best(training: Training, score: Callable[[], Score], stage: str, context: Context) -> None:
    """Measures the model as it stands and keeps its weights if no epoch was better."""
    training.model.eval()
    with _weights_of(training.averaged, training.model):
        reached = score()
        context.emit(Epoch(stage, training.at.epoch, "val", reached.accuracy, reached.ce, reached.teacher_accuracy))
        if training.best is None or reached.value > training.best["value"]:
            training.best, training.best_weights = asdict(reached), copy.deepcopy(training.model.state_dict())


@dataclass
class _Lesson:
    """The batches of a training, one after the other."""

    stage: str
    training: Training
    loss: Callable[[Batch, float], Terms]
    explain: Explain | None
    total: int
    first_step: int
    context: Context
    team: Team | None
    steady: bool
    spoke: bool = False

    def __post_init__(self) -> None:
        self.meter = Meter(self.training.at.examples)
        self._weights = [weight for weight in self.training.model.parameters() if weight.requires_grad]
        graphed = self.steady and gains_by_graphs(self.training.model, self.context.compute.device)
        step = partial(_gradients, self.loss, self._weights, done=0.0)
        left = self.total - self.training.at.step
        self.graphs = Graphs(step, left, partial(_tell_of_no_graphs, self.context.emit)) if graphed else None

    def teach_epoch(self, batches: Callable[[torch.Generator], Iterator[Batch]]) -> None:
        """Takes the batches that are left of the epoch, or those until somebody stops the training."""
        at, training, control = self.training.at, self.training, self.context.control
        training.order_state = training.order.get_state()
        training.model.train()
        for batch in islice(batches(training.order), at.batch, None):
            control.begin_batch(before_pause=self._before_pause)
            if control.stopping:
                return
            self._take(self._placed(batch))
            if self.context.checkpoints.due():
                self.save()

    def _placed(self, batch: Batch) -> Batch:
        placed = batch.to(self.context.compute.device)
        return placed if self.graphs is None else widened(placed, common_width(placed.tokens_BT.shape[1]))

    def end_epoch(self, epochs: int) -> None:
        """Goes on to the next epoch of so many, unless the training is over or somebody wants it to be."""
        at, control = self.training.at, self.context.control
        at.epoch, at.batch, self.training.order_state = at.epoch + 1, 0, self.training.order.get_state()
        at.done = at.epoch > epochs or control.stopping
        self.save()
        control.end_epoch()

    def save(self) -> None:
        """Writes a checkpoint."""
        self.training.at.examples = self.meter.examples
        self.context.checkpoints.save(self.stage, self.training.tensors(), self.training.facts())

    def _before_pause(self) -> None:
        """Says where the training stands, and saves it."""
        if not self.meter.is_empty:
            self._tell(float(self.training.schedule.get_last_lr()[0]))
        self.save()

    def _tell(self, rate: float) -> None:
        self.context.emit(self.meter.read(self.stage, self.first_step + self.training.at.step, rate))
        self.spoke = True

    def _take(self, batch: Batch) -> None:
        training, at = self.training, self.training.at
        before = randomness() if self.explain is not None and self.context.control.shows else None
        done = at.step / self.total
        terms = self._walk(batch, done, whole=before is not None)
        nn.utils.clip_grad_norm_(training.model.parameters(), GRADIENT_NORM)
        training.optimizer.step()
        if training.averaged is not None:
            _average(training.averaged, training.model, at.step)
        at.step += 1
        at.batch += 1
        self.meter.add(terms, len(batch))
        rate = float(training.schedule.get_last_lr()[0])
        # A training shorter than the pace still says something at its end.
        if self.context.pace.due() or before is not None or (at.step == self.total and not self.spoke):
            self._tell(rate)
        if before is not None and self.explain is not None:
            with torch.no_grad(), _with(before):
                after = self._losses(batch, done)
            said = self.explain(batch, terms, after, done)
            control = self.context.control
            where = {"wish": control.step_number, "stage": self.stage, "step": self.first_step + at.step, "lr": rate}
            control.show({**where, **said})
        training.schedule.step()

    def _losses(self, batch: Batch, done: float) -> Terms:
        """The losses of a batch."""
        if self.team is None:
            return self.loss(batch, done)
        return Terms.of_parts(self.team.each_part(lambda part: self.loss(part, done), batch))

    def _walk(self, batch: Batch, done: float, *, whole: bool) -> Terms:
        """The same, and leaves their gradients at the weights; with the logits if they are wanted `whole`."""
        self.training.optimizer.zero_grad()
        if self.graphs is not None and not whole:
            terms, gradients = self.graphs.step(batch)
        elif self.team is not None:
            parts = self.team.each_part(partial(_gradients, self.loss, self._weights, done=done), batch)
            terms, gradients = Terms.of_parts([terms for terms, _ in parts]), added([found for _, found in parts])
        else:
            terms, gradients = _gradients(self.loss, self._weights, batch, done)
        for weight, gradient in zip(self._weights, gradients, strict=True):
            weight.grad = gradient
        return terms


def _gradients(
    loss: Callable[[Batch, float], Terms], weights: Sequence[Tensor], batch: Batch, done: float
) -> tuple[Terms, Gradients]:
    """The losses of a batch and their gradients for the weights."""
    terms = loss(batch, done)
    return terms, torch.autograd.grad(terms.loss, weights, allow_unused=True)


def _tell_of_no_graphs(emit: Emit, reason: str) -> None:
    emit(Warned(f"Steps are not taken from CUDA graphs ({reason}); the outcome is the same, but takes longer."))


@contextmanager
def _with(states: list[Tensor]) -> Iterator[None]:
    """Draws the same numbers again, then goes on as if nothing had been drawn."""
    own = randomness()
    set_randomness(states)
    try:
        yield
    finally:
        set_randomness(own)


@torch.no_grad()
def _average(averaged: nn.Module, model: nn.Module, steps: int) -> None:
    """Moves the average towards the weights; quickly at first, so that the start is soon forgotten.

    As PyTorch's `AveragedModel` does, which would have a GPU waited for.

    Args:
        steps: how many were averaged before.
    """
    moved = max(9 / (10 + steps), 1 - AVERAGE_DECAY) if steps else 1.0
    torch._foreach_lerp_(list(averaged.parameters()), list(model.parameters()), moved)


def _rate(done: float, warmup: float) -> float:
    """What the learning rate is multiplied by: up from 0 in the warm-up, then down to 0."""
    return done / warmup if done < warmup else (1 - done) / (1 - warmup)


@contextmanager
def _weights_of(averaged: nn.Module | None, model: nn.Module) -> Iterator[None]:
    """Lends the averaged weights to the model."""
    if averaged is None:
        yield
        return
    own = copy.deepcopy(model.state_dict())
    model.load_state_dict(averaged.state_dict())
    try:
        yield
    finally:
        model.load_state_dict(own)
