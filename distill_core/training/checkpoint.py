"""All that changes while a model is trained, as tensors and plain facts, so that training can go on exactly.

Weights, the optimizer's moments, the running average, the best epoch so far, the position in the data and every random
state: a training that goes on from here takes the same steps as one that was never interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Tensors = dict[str, Tensor]


class Checkpoints(Protocol):
    """Where a run keeps its checkpoints, each under a name of its own."""

    def load(self, name: str) -> tuple[Tensors, dict[str, Any]] | None:
        """Tensors and facts of a checkpoint; None if there is none that can be read."""

    def save(self, name: str, tensors: Tensors, facts: Mapping[str, Any]) -> None:
        """Replaces a checkpoint."""

    def due(self) -> bool:
        """Whether it is time for one, whatever the training has reached."""

    def within(self, name: str) -> Checkpoints:
        """The same for a part of the run, whose names do not meet those of other parts."""

    def alone(self, wait: Callable[[], None] | None) -> AbstractContextManager[bool]:
        """Has this part of the run to itself; true unless another process trains it.

        Args:
            wait: called until the other one is done; None not to wait for that.
        """

    def begin(self, stage: str, clock: float) -> float:
        """A stage begins at a reading of the clock (seconds); returns the seconds that it had taken before."""

    def finish(self, seconds: float) -> None:
        """The stage is over after so many seconds in all."""


class NoCheckpoints:
    """Keeps nothing."""

    def load(self, name: str) -> tuple[Tensors, dict[str, Any]] | None:
        """There is never one."""
        return None

    def save(self, name: str, tensors: Tensors, facts: Mapping[str, Any]) -> None:
        """Does nothing."""

    def due(self) -> bool:
        """Never."""
        return False

    def within(self, name: str) -> Checkpoints:
        """Itself."""
        return self

    @contextmanager
    def alone(self, wait: Callable[[], None] | None) -> Iterator[bool]:
        """There is never another process."""
        yield True

    def begin(self, stage: str, clock: float) -> float:
        """Nothing was done before."""
        return 0.0

    def finish(self, seconds: float) -> None:
        """Does nothing."""


@dataclass
class Position:
    """Where a training is: `epoch` counts from 1, `batch` the batches of it that are done, `step` all steps."""

    epoch: int = 1
    batch: int = 0
    step: int = 0
    examples: int = 0
    done: bool = False


@dataclass
class Training:
    """A training under way. `order` draws the order of batches; `order_state` is what it was as the epoch began."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    order: torch.Generator
    averaged: nn.Module | None = None
    at: Position = field(default_factory=Position)
    best: dict[str, Any] | None = None
    best_weights: Tensors = field(default_factory=dict)
    order_state: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.uint8))

    def tensors(self) -> Tensors:
        """Every tensor that changes, by name."""
        found = {f"best.{name}": value for name, value in self.best_weights.items()}
        if self.at.done:
            return _contiguous(found)
        found |= {f"model.{name}": value for name, value in self.model.state_dict().items()}
        if self.averaged is not None:
            found |= {f"average.{name}": value for name, value in self.averaged.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
        found["random.order"] = self.order_state
        found["random.cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            found["random.cuda"] = torch.cuda.get_rng_state()
        return _contiguous(found)

    def facts(self) -> dict[str, Any]:
        """All that is no tensor."""
        return {"at": vars(self.at), "best": self.best, "schedule": _plain(self.schedule.state_dict())}

    def restore(self, tensors: Tensors, facts: Mapping[str, Any]) -> None:
        """Goes back to what `tensors` and `facts` say."""
        self.at, self.best = Position(**facts["at"]), facts["best"]
        self.best_weights = _part(tensors, "best.")
        if self.at.done:
            return
        self.model.load_state_dict(_part(tensors, "model."))
        if self.averaged is not None:
            self.averaged.load_state_dict(_part(tensors, "average."))
        self.schedule.load_state_dict(facts["schedule"])
        self._restore_optimizer(_part(tensors, "optimizer."))
        self.order.set_state(tensors["random.order"])
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random.cuda"])

    def _restore_optimizer(self, moments: Tensors) -> None:
        state = self.optimizer.state_dict()
        state["state"] = {}
        for name, value in moments.items():
            index, _, moment = name.partition(".")
            state["state"].setdefault(int(index), {})[moment] = value
        for group, rate in zip(state["param_groups"], self.schedule.get_last_lr(), strict=True):
            group["lr"] = rate
        self.optimizer.load_state_dict(state)


def randomness() -> list[Tensor]:
    """The random states that dropout draws from."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if torch.cuda.is_available() else [])]


def set_randomness(states: list[Tensor]) -> None:
    """Goes back to random states."""
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state)


def _part(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _contiguous(tensors: Tensors) -> Tensors:
    return {name: value.detach().contiguous() for name, value in tensors.items()}


def _plain(schedule: Mapping[str, Any]) -> dict[str, Any]:
    """What of a schedule changes, in a form that JSON gives back exactly."""
    kept: dict[str, Any] = json.loads(
        json.dumps({name: value for name, value in schedule.items() if name != "lr_lambdas"})
    )
    return {**kept, "lr_lambdas": [None] * len(schedule["lr_lambdas"])}
