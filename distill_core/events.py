"""What a run reports while it works, one JSON object a line in `events.jsonl`, and what readers make of it.

Every line has `event` (the kind), `time` (seconds since the epoch) and the fields of the kind's class below.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterable
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
"""The stages of a run in order; a configuration decides which of them it goes through."""


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
    """The worker has begun. `stages` are those that this run goes through."""

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
class RunFinished:
    """The result is on disk."""


@dataclass(frozen=True)
class RunFailed:
    """The run ended by an error."""

    error: str


@dataclass(frozen=True)
class RunCancelled:
    """Somebody asked the run to stop."""


Event = RunStarted | StageStarted | Step | Epoch | StageFinished | Warned | RunFinished | RunFailed | RunCancelled
Emit = Callable[[Event], None]

_NAMES: dict[type[Event], str] = {
    RunStarted: "run_started",
    StageStarted: "stage_started",
    Step: "step",
    Epoch: "epoch",
    StageFinished: "stage_finished",
    Warned: "warning",
    RunFinished: "run_finished",
    RunFailed: "run_failed",
    RunCancelled: "run_cancelled",
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
    """How far a stage is, and the numbers it has reported."""

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


@dataclass
class History:
    """All that a run has reported so far, by stage. Feed it events in order."""

    stages: tuple[str, ...] = ()
    device: str = ""
    precision: str = ""
    progress: dict[str, StageProgress] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def feed(self, events: Iterable[tuple[float, Event]]) -> None:
        """Takes in further events, each with its time."""
        for when, event in events:
            self._take(when, event)

    def _take(self, when: float, event: Event) -> None:
        match event:
            case RunStarted():
                self.stages, self.device, self.precision = event.stages, event.device, event.precision
            case StageStarted():
                self.progress[event.stage] = StageProgress(event.steps, when, event.cached)
            case Step() if event.stage in self.progress:
                stage = self.progress[event.stage]
                stage.done, stage.updated = event.step, when
                if event.loss is not None:
                    stage.curve.append(event)
            case Epoch() if event.stage in self.progress:
                self.progress[event.stage].epochs.append(event)
            case StageFinished() if event.stage in self.progress:
                stage = self.progress[event.stage]
                stage.seconds, stage.accuracy = event.seconds, event.accuracy
            case Warned():
                self.warnings.append(event.message)

    @property
    def current(self) -> str | None:
        """The stage that is under way."""
        return next((name for name, stage in self.progress.items() if not stage.finished), None)
