"""What people ask of a run under way: to pause, to go on by single steps, to stop. Needs no PyTorch.

A wish lies in the run's folder as `control.json`, so any page of any server, and the command line, can ask; the
worker looks before each batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from distill_core.errors import Cancelled, Interrupted, LimitError

What = Literal["run", "pause", "batch", "epoch", "keep", "discard", "interrupt"]
"""Go on; pause; one batch more; to the end of the epoch; stop and keep the student; stop and keep nothing; make way."""
STEPWISE: frozenset[What] = frozenset({"pause", "batch", "epoch"})
"""Wishes under which a run stands still, but for granted steps."""
LOOK = 0.03
"""Seconds between two looks at the wish while a run is paused."""


@dataclass(frozen=True)
class Wish:
    """What somebody asks of a run; each wish has a number of its own, so that the same one can be asked twice."""

    number: int = 0
    what: What = "run"


@dataclass(frozen=True)
class Stopped:
    """Where a training was when it was stopped to be kept."""

    stage: str
    step: int
    steps: int


class Control:
    """Asks for the latest wish and does what it says; without one everything goes on.

    Args:
        wish: the latest wish.
        heed: called first; raises to end the run.
        on_pause: hears that the run pauses (True) or goes on (False); a granted step is part of a pause.
        show: receives what one batch did, in a form that JSON can hold, while batches are looked at one by one.
        time_limit: seconds of work after which a run has to end, pauses not counted; None for no limit.
        spent: seconds of work that the run had done before, in an earlier process.
    """

    def __init__(
        self,
        wish: Callable[[], Wish] = Wish,
        *,
        heed: Callable[[], None] = lambda: None,
        on_pause: Callable[[bool], None] = lambda paused: None,
        show: Callable[[Mapping[str, Any]], None] = lambda batch: None,
        time_limit: float | None = None,
        spent: float = 0.0,
    ) -> None:
        self._wish, self._heed, self._on_pause, self.show = wish, heed, on_pause, show
        self._time_limit, self._spent = time_limit, spent
        self._begun = time.perf_counter()
        self._paused_seconds = 0.0
        self._since: float | None = None
        """When the pause that is under way began."""
        self._stepped = 0
        self._inside = False
        """Whether a granted step is under way."""
        self._paused = False
        self.keeps = False
        """Whether there is a student that stopping could keep."""
        self.stopped: Stopped | None = None

    def clock(self) -> float:
        """Seconds that have passed, pauses not counted."""
        now = time.perf_counter()
        return now - self._paused_seconds - (0.0 if self._since is None else now - self._since)

    def check(self) -> None:
        """Returns at once, or once a pause is over. A wish for a step leads up to the next batch of a training.

        Raises:
            Cancelled: nothing of the run is wanted.
            Interrupted: it has to end here and may go on later.
            LimitError: it has worked for longer than it may, and there is no student to keep.
        """
        wish = self._heeded()
        if self._stands_still(wish):
            self._wait()

    def begin_batch(self, before_pause: Callable[[], None] = lambda: None) -> None:
        """The same before a batch of a training, of which one wish grants one.

        Args:
            before_pause: called if the run pauses here.
        """
        wish = self._heeded()
        if wish.what != "epoch":
            self._inside = False
        if self._stands_still(wish):
            before_pause()
            wish = self._wait()
        if wish.what in STEPWISE:
            self._stepped, self._inside = wish.number, True

    def end_epoch(self) -> None:
        """Ends a step of one epoch."""
        self._inside = False

    @property
    def step_number(self) -> int:
        """Number of the wish for the step that was taken last."""
        return self._stepped

    @property
    def shows(self) -> bool:
        """Whether somebody looks at this very batch."""
        return self._inside and self._wish().what == "batch"

    @property
    def stopping(self) -> bool:
        """Whether training has to end with what it has reached."""
        return self.keeps and (self._wish().what == "keep" or self._over_time())

    def _heeded(self) -> Wish:
        self._heed()
        wish = self._wish()
        if wish.what not in STEPWISE:
            self._set_paused(False)
        if wish.what == "discard":
            raise Cancelled
        if wish.what == "interrupt":
            raise Interrupted("It was paused while others waited.")
        if self._over_time() and not self.keeps:
            raise LimitError(
                f"training_minutes must not exceed {(self._time_limit or 0) / 60:g}, got a run that works for longer; "
                "raise the limit and resume it, or train on fewer texts or a smaller teacher"
            )
        return wish

    def _set_paused(self, paused: bool) -> None:
        if paused != self._paused:
            self._paused = paused
            self._on_pause(paused)

    def _stands_still(self, wish: Wish) -> bool:
        """Whether a wish says to pause and no step is under way or still to be taken."""
        taken = wish.what == "pause" or wish.number <= self._stepped
        return wish.what in STEPWISE and not self._inside and taken

    def _wait(self) -> Wish:
        since = self._since = time.perf_counter()
        self._set_paused(True)
        try:
            while True:
                wish = self._heeded()
                if not self._stands_still(wish):
                    return wish
                time.sleep(LOOK)
        finally:
            self._paused_seconds, self._since = self._paused_seconds + time.perf_counter() - since, None

    def _over_time(self) -> bool:
        if self._time_limit is None:
            return False
        return self._spent + self.clock() - self._begun > self._time_limit
