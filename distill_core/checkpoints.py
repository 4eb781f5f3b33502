"""A run's checkpoints in its folder: `checkpoint/<name>.safetensors`, and the seconds of each stage beside them."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_core import files
from distill_core.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

INTERVAL = 60.0
"""Seconds after which a training is saved wherever it is; it is saved at the end of each epoch besides."""
STAGES = "stages.json"


@dataclass
class _Ledger:
    """Seconds by stage, and the stage that is under way with the reading of its clock."""

    file: Path
    code: str
    seconds: dict[str, float]
    current: str | None = None
    saved: float = field(default_factory=time.monotonic)
    begun: float = 0.0

    def write(self) -> None:
        files.write_json(self.file, {"code": self.code, "seconds": self.seconds})


@dataclass(frozen=True)
class RunCheckpoints:
    """The checkpoints of one run, or of one part of it, whose names begin with `prefix`."""

    folder: Path
    ledger: _Ledger
    clock: Callable[[], float]
    prefix: str = ""
    lost: bool = False
    """Whether there were checkpoints of other code or another machine, which are of no use."""

    @classmethod
    def of(cls, folder: Path, code: str, clock: Callable[[], float] = time.perf_counter) -> RunCheckpoints:
        """Those in a folder, which is made where there is none.

        Args:
            code: hash of the code that trains; what other code has written is of no use and goes.
            clock: seconds, pauses not counted.
        """
        found, seconds = _ledger_in(folder / STAGES)
        lost = found not in (code, None)
        if found != code:
            shutil.rmtree(folder, ignore_errors=True)
            seconds = {}
        folder.mkdir(exist_ok=True)
        ledger = _Ledger(folder / STAGES, code, seconds)
        ledger.write()
        return cls(folder, ledger, clock, lost=lost)

    @classmethod
    def beside(cls, folder: Path, code: str) -> RunCheckpoints | None:
        """Those of a run that another process works on, which alone keeps its time.

        None where it has none yet, or they are of other code or another machine.
        """
        found, seconds = _ledger_in(folder / STAGES)
        return cls(folder, _Ledger(folder / STAGES, code, seconds), time.perf_counter) if found == code else None

    def load(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and facts of a checkpoint; None where there is none, or it cannot be read."""
        from safetensors import SafetensorError, safe_open

        file = self._file(name)
        if not file.is_file():
            return None
        try:
            with safe_open(file, framework="pt") as opened:
                facts = json.loads(opened.metadata()["facts"])
                return {key: opened.get_tensor(key) for key in opened.keys()}, facts  # noqa: SIM118
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, name: str, tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Replaces a checkpoint, and notes the time that the stage has taken by now."""
        files.write_tensors(self._file(name), tensors, {"facts": json.dumps(facts)})
        ledger = self.ledger
        if ledger.current is not None:
            now = self.clock()
            ledger.seconds[ledger.current] = ledger.seconds.get(ledger.current, 0.0) + now - ledger.begun
            ledger.begun = now
            ledger.write()
        ledger.saved = time.monotonic()

    def due(self) -> bool:
        """Whether the last checkpoint is a minute old."""
        return time.monotonic() - self.ledger.saved >= INTERVAL

    def within(self, name: str) -> RunCheckpoints:
        """The checkpoints of a part of the run."""
        return RunCheckpoints(self.folder, self.ledger, self.clock, f"{self.prefix}{name}-")

    @contextmanager
    def alone(self, wait: Callable[[], None] | None) -> Iterator[bool]:
        """Has this part of the run to itself, as `Checkpoints.alone` says; nobody has a part of one that has ended."""
        if wait is None and not self.folder.is_dir():
            yield False
            return
        with files.alone(self.folder / f"{self.prefix}lock", wait) as mine:
            yield mine

    def begin(self, stage: str, clock: float) -> float:
        """A stage begins at a reading of the clock; returns the seconds that it had taken before."""
        self.ledger.current, self.ledger.begun = stage, clock
        return self.ledger.seconds.get(stage, 0.0)

    def finish(self, seconds: float) -> None:
        """The stage is over after so many seconds in all."""
        ledger = self.ledger
        if ledger.current is not None:
            ledger.seconds[ledger.current] = seconds
            ledger.current = None
            ledger.write()

    @property
    def seconds_by_stage(self) -> dict[str, float]:
        """Seconds that the run has spent in each stage so far, in this process and before."""
        return dict(self.ledger.seconds)

    def _file(self, name: str) -> Path:
        return self.folder / f"{self.prefix}{name}.safetensors"


def seconds_by_stage(folder: Path) -> dict[str, float]:
    """Seconds that a run with these checkpoints has spent in each stage."""
    return _ledger_in(folder / STAGES)[1]


def _ledger_in(file: Path) -> tuple[str | None, dict[str, float]]:
    """The code that has written the checkpoints, and the seconds of each stage."""
    try:
        values = files.load_json(file)
        return str(values["code"]), {str(stage): float(seconds) for stage, seconds in values["seconds"].items()}
    except (RunError, AttributeError, KeyError, TypeError, ValueError):
        return None, {}
