"""One run in this process: claims it, listens for requests to stop, records how it ended."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from distill_core import files, limits
from distill_core.control import Control
from distill_core.errors import Cancelled, DistillError, Interrupted, LimitError
from distill_core.events import (
    Emit,
    Event,
    Paused,
    Resumed,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunInterrupted,
)
from distill_core.store import RunEnd, Store


def work(
    run_id: str, store: Store, listen: Emit = lambda event: None, *, device: int | None = None
) -> dict[str, Any] | None:
    """Runs the pipeline on a run's folder; returns the result, or None if the run was cancelled or interrupted.

    A run that was interrupted before goes on from its last checkpoint.

    Args:
        listen: hears each event after it has been written.
        device: which of the machine's devices it works on, for others to take another.

    Raises:
        RunError: the run is over or another process works on it.
        DistillError, Exception: what ended the run, which is recorded as failed.
    """
    with stop_requests() as heed, store.claim(run_id):
        try:
            result = _run(run_id, store, listen, heed, device)
            store.end_run(run_id, RunFinished())
        except BaseException as error:
            end = _end_by(error)
            with suppress(OSError):  # on a full disk the status of a run that nothing works on is told all the same
                store.end_run(run_id, end)
            if isinstance(end, RunFailed):
                raise
            listen(end)
            return None
        return result


def _run(run_id: str, store: Store, listen: Emit, heed: Callable[[], None], device: int | None) -> dict[str, Any]:
    now = time.time()
    store.update_status(run_id, status="running", started=now, pid=os.getpid(), device=device, ended=None, error=None)
    with store.event_log(run_id) as log:

        def emit(event: Event) -> None:
            log(event)
            listen(event)

        from distill_core import pipeline  # takes seconds to import, so only now that the run is ours

        return pipeline.run(run_id, store, emit, _control(run_id, store, heed, emit))


PASSING = (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)
"""Errors of the system that may be gone when the run is resumed."""


def _end_by(error: BaseException) -> RunEnd:
    """What ends a run that an error has stopped: for good, or until somebody resumes it."""
    if isinstance(error, Cancelled):
        return RunCancelled()
    reason = _passing_reason(error)
    if reason is not None:
        return RunInterrupted(reason)
    return RunFailed(str(error) if isinstance(error, DistillError) else f"{type(error).__name__}: {error}")


def _passing_reason(error: BaseException) -> str | None:
    """Why a run was stopped that may go on once somebody has mended that; None for what no waiting mends."""
    if isinstance(error, Interrupted | LimitError):
        return str(error)
    if files.says_full(error):
        return "The disk is full. Make room, on the page Storage or elsewhere; then resume the run."
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"The memory is full: {error}. Resume the run once other work has ended."
    return f"{error}. Resume the run once that is mended." if getattr(error, "errno", None) in PASSING else None


def _control(run_id: str, store: Store, heed: Callable[[], None], emit: Emit) -> Control:
    """What people ask of this run, and how long it may work."""

    def pause(paused: bool) -> None:
        store.update_status(run_id, status="paused" if paused else "running")
        emit(Paused() if paused else Resumed())

    minutes = limits.usable(store.home).training_minutes
    return Control(
        store.wishes(run_id),
        heed=heed,
        on_pause=pause,
        time_limit=None if minutes is None else 60 * minutes,
        spent=store.seconds_spent(run_id),
    )


@contextmanager
def stop_requests() -> Iterator[Callable[[], None]]:
    """A check that raises Interrupted once SIGTERM or SIGINT has arrived; only the main thread can hear them."""
    asked = threading.Event()

    def ask(signum: int, frame: FrameType | None) -> None:
        asked.set()

    def check() -> None:
        if asked.is_set():
            raise Interrupted("Its process was asked to end.")

    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
