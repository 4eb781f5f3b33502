"""What a run reports while it works, one JSON object a line in `events.jsonl`, and what readers make of it.

Every line has `event` (the kind), `time` (seconds since the epoch) and the fields of the kind's class below.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from distill_core.config import RunConfig

STAGES = (
    "read",
    "pretrain",
    "finetune",
    "cache",
    "transfer",
    "words",
    "assistant",
    "baseline",
    "distil",
    "repeat",
    "test",
)
"""The stages of a run in order; a configuration decides which of them it goes through.

The baseline follows `distil` where another run trains it meanwhile.
"""


def stages_of(config: RunConfig) -> tuple[str, ...]:
    """The stages that a run of this configuration goes through, in order."""
    own = config.teacher.kind != "file"
    present = {
        "read": config.data.is_large,
        "pretrain": config.teacher.kind == "lstm" and config.teacher.pretrain,
        "finetune": own,
        "cache": own,
        "transfer": config.transfers and own,
        "words": config.student.word_vectors == "teacher",
        "assistant": config.training.assistant != "none",
        "baseline": config.training.baseline,
        "repeat": config.training.seeds > 1,
    }
    return tuple(stage for stage in STAGES if present.get(stage, True))


@dataclass(frozen=True)
class RunStarted:
    """A worker has begun, or goes on where another was. `stages` are those that this run goes through."""

    run_id: str
    stages: tuple[str, ...]
    device: str
    precision: str


@dataclass(frozen=True)
class StageStarted:
    """A stage of `steps` steps begins; `cached` if its outcome was found on disk and it takes no time."""

    stage: str
    steps: int
    cached: bool = False


@dataclass(frozen=True)
class Step:
    """Means over the steps since the last such event; a loss is None where it does not occur.

    Losses are in nats, but for `kl` where the distance is `logit_mse`. `teacher_ce` occurs in joint training alone.
    """

    stage: str
    step: int
    examples: int
    ce: float | None
    kl: float | None
    loss: float | None
    lr: float | None
    teacher_ce: float | None = None


@dataclass(frozen=True)
class Epoch:
    """An epoch is over; measured on `split`, which is never the test split.

    In joint training `teacher_accuracy` is that of the teacher as it stands. `role` and `seed` are set in the stage
    `repeat`, where baselines and students of further seeds are trained.
    """

    stage: str
    epoch: int
    split: str
    accuracy: float | None
    ce: float
    teacher_accuracy: float | None = None
    role: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class StageFinished:
    """A stage is over after `seconds`. `accuracy` on validation where the stage leaves a classifier behind."""

    stage: str
    seconds: float
    accuracy: float | None = None


@dataclass(frozen=True)
class Warned:
    """Something that a reader of the result should know."""

    message: str


@dataclass(frozen=True)
class Paused:
    """The run stands still because somebody wants that."""


@dataclass(frozen=True)
class Resumed:
    """The run goes on after a pause."""


@dataclass(frozen=True)
class RunFinished:
    """The result is on disk."""


@dataclass(frozen=True)
class RunFailed:
    """The run ended by an error."""

    error: str


@dataclass(frozen=True)
class RunCancelled:
    """Somebody asked the run to stop."""


@dataclass(frozen=True)
class RunInterrupted:
    """The run ended before its time and can be resumed from its last checkpoint."""

    reason: str


Event = (
    RunStarted
    | StageStarted
    | Step
    | Epoch
    | StageFinished
    | Warned
    | Paused
    | Resumed
    | RunFinished
    | RunFailed
    | RunCancelled
    | RunInterrupted
)
Emit = Callable[[Event], None]

_NAMES: dict[type[Event], str] = {
    RunStarted: "run_started",
    StageStarted: "stage_started",
    Step: "step",
    Epoch: "epoch",
    StageFinished: "stage_finished",
    Warned: "warning",
    Paused: "paused",
    Resumed: "resumed",
    RunFinished: "run_finished",
    RunFailed: "run_failed",
    RunCancelled: "run_cancelled",
    RunInterrupted: "run_interrupted",
}
_KINDS = {name: kind for kind, name in _NAMES.items()}


def encode(event: Event) -> str:
    """One line of `events.jsonl`, without its end."""
    return json.dumps({"event": _NAMES[type(event)], "time": round(time.time(), 3), **dataclasses.asdict(event)})


def decode(line: str) -> tuple[float, Event] | None:
    """The time and event of a line; None where the line is torn or of a kind that this version does not know."""
    try:
        values = json.loads(line)
        kind: Callable[..., Event] = _KINDS[values.pop("event")]
        when = float(values.pop("time"))
        return when, kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


class Pace:
    """Keeps step events to at most ten a second."""

    def __init__(self, seconds: float = 0.1) -> None:
        self._seconds = seconds
        self._next = 0.0

    def due(self) -> bool:
        """True when the next event may go out, and then not again for a while."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True


@dataclass
class StageProgress:
    """How far a stage is, and the numbers it has reported. Times leave out pauses and interruptions."""

    steps: int
    started: float
    cached: bool = False
    done: int = 0
    updated: float = 0.0
    seconds: float | None = None
    accuracy: float | None = None
    curve: list[Step] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether the stage is over."""
        return self.seconds is not None

    @property
    def fraction(self) -> float:
        """Part of the stage that is done, 0 to 1."""
        return 1.0 if self.finished else self.done / max(self.steps, 1)

    def take_step(self, event: Step, when: float) -> None:
        """Adds what a step reports, in place of what was reported of it and of later ones before an interruption."""
        self.done, self.updated = event.step, when
        while self.curve and self.curve[-1].step >= event.step:
            self.curve.pop()
        if event.loss is not None:
            self.curve.append(event)

    def take_epoch(self, event: Epoch) -> None:
        """Adds an epoch, in place of the same one before an interruption."""
        names = [(epoch.epoch, epoch.role, epoch.seed) for epoch in self.epochs]
        same = (event.epoch, event.role, event.seed)
        place = names.index(same) if same in names else len(names)
        self.epochs[place : place + 1] = [event]

    def move(self, seconds: float) -> None:
        """Leaves out a time in which nothing was done."""
        self.started += seconds
        self.updated += seconds


@dataclass
class History:
    """All that a run has reported so far, by stage. Feed it events in order."""

    stages: tuple[str, ...] = ()
    device: str = ""
    precision: str = ""
    progress: dict[str, StageProgress] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    paused: bool = False
    read: int = 0
    """Number of events taken in."""
    _early: list[Epoch] = field(default_factory=list)
    """Epochs of a stage that the run has not come to: another process trains a further seed ahead of it."""
    _paused_at: float = 0.0
    _latest: float = -math.inf
    _shift: float = 0.0

    def feed(self, events: Iterable[tuple[float, Event]]) -> None:
        """Takes in further events, each with its time."""
        for written, event in events:
            when = written + self._shift
            if when < self._latest and not isinstance(event, RunInterrupted):
                self._shift += self._latest - when  # the clock was set back
                when = self._latest
            self._take(when, event)
            if not isinstance(event, RunInterrupted):  # it may be noticed long after the work has ended
                self._latest = when
            self.read += 1

    def copy(self) -> History:
        """The same as it stands now, which further events do not change."""
        progress = {
            name: dataclasses.replace(stage, curve=list(stage.curve), epochs=list(stage.epochs))
            for name, stage in self.progress.items()
        }
        return dataclasses.replace(self, progress=progress, warnings=list(self.warnings), _early=list(self._early))

    def _take(self, when: float, event: Event) -> None:
        match event:
            case RunStarted():
                self.stages, self.device, self.precision = event.stages, event.device, event.precision
                self._leave_out(when - self._latest)
            case StageStarted() if event.stage in self.progress:
                self._begin_again(event)
            case StageStarted():
                self._begin(event, when)
            case Step() if event.stage in self.progress:
                self.progress[event.stage].take_step(event, when)
            case Epoch() if event.stage in self.progress:
                self.progress[event.stage].take_epoch(event)
            case Epoch():
                self._early.append(event)
            case StageFinished() if event.stage in self.progress:
                stage = self.progress[event.stage]
                if not stage.finished:
                    stage.seconds, stage.accuracy = event.seconds, event.accuracy
            case Warned() if event.message not in self.warnings:
                self.warnings.append(event.message)
            case Paused():
                self.paused, self._paused_at = True, when
            case Resumed():
                self._leave_out(when - self._paused_at)
            case RunFinished() | RunFailed() | RunCancelled() | RunInterrupted():
                self.paused = False

    def _begin(self, event: StageStarted, when: float) -> None:
        progress = self.progress[event.stage] = StageProgress(event.steps, when, event.cached)
        for epoch in self._early:
            if epoch.stage == event.stage:
                progress.take_epoch(epoch)
        self._early = [epoch for epoch in self._early if epoch.stage != event.stage]

    def _begin_again(self, event: StageStarted) -> None:
        """A stage that an earlier process had begun goes on, or is known to be done."""
        stage = self.progress[event.stage]
        if not event.cached:
            stage.steps = event.steps

    def _leave_out(self, seconds: float) -> None:
        """Moves the stage that is under way past a time in which nothing was done."""
        self.paused = False
        current = self.current
        if current is not None and seconds > 0:
            self.progress[current].move(seconds)

    def in_order(self, stages: Sequence[str]) -> list[str]:
        """Stages as this run comes to them: those that have begun, then the others."""
        return sorted(stages, key=[*self.progress, *stages].index)

    @property
    def worked(self) -> float:
        """Seconds of work, pauses and interruptions left out."""
        return sum(
            max(stage.updated - stage.started, 0.0) if stage.seconds is None else stage.seconds
            for stage in self.progress.values()
        )

    @property
    def current(self) -> str | None:
        """The stage that is under way: of those that have not ended, the one that began last."""
        return next((name for name, stage in reversed(self.progress.items()) if not stage.finished), None)
