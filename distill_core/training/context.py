"""What every stage of a run is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from distill_core.control import Control
from distill_core.device import Compute
from distill_core.events import Emit, Pace, StageFinished, StageStarted
from distill_core.training.checkpoint import Checkpoints, NoCheckpoints


@dataclass(frozen=True)
class Context:
    """What every stage needs: where to compute, whom to tell, and whether to go on."""

    compute: Compute
    emit: Emit
    control: Control = field(default_factory=Control)
    pace: Pace = field(default_factory=Pace)
    checkpoints: Checkpoints = field(default_factory=NoCheckpoints)

    def check(self) -> None:
        """Waits while the run is paused; raises what ends it."""
        self.control.check()

    @contextmanager
    def stage(self, name: str, steps: int) -> Iterator[StageOutcome]:
        """Reports the start, end and duration of a stage, pauses not counted."""
        self.emit(StageStarted(name, steps))
        start = self.control.clock()
        outcome, before = StageOutcome(), self.checkpoints.begin(name, start)
        yield outcome
        outcome.seconds = before + self.control.clock() - start
        self.checkpoints.finish(outcome.seconds)
        self.emit(StageFinished(name, outcome.seconds, outcome.accuracy))


@dataclass
class StageOutcome:
    """What a stage reports at its end."""

    seconds: float = 0.0
    accuracy: float | None = None
