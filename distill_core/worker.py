"""One run in this process: claims it, listens for requests to stop, records how it ended."""

from __future__ import annotations

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
from distill_core.errors import Cancelled, DistillError, Interrupted
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


def work(run_id: str, store: Store, listen: Emit = lambda event: None) -> dict[str, Any] | None:
    """Runs the pipeline on a run's folder; returns the result, or None if the run was cancelled or interrupted.

    A run that was interrupted before goes on from its last checkpoint.

    Args:
        listen: hears each event after it has been written.

    Raises:
        RunError: the run is over or another process works on it.
        DistillError, Exception: what ended the run, which is recorded as failed.
    """
    with _stop_requests() as heed, store.claim(run_id), store.event_log(run_id) as log:
        store.update_status(run_id, status="running", started=time.time(), pid=os.getpid(), ended=None, error=None)

        def emit(event: Event) -> None:
            log(event)
            listen(event)

        try:
            from distill_core import pipeline  # takes seconds to import, so only now that the run is ours

            result = pipeline.run(run_id, store, emit, _control(run_id, store, heed, emit))
        except BaseException as error:
            end = _end_by(error)
            with suppress(OSError):  # on a full disk the status of a run that nothing works on is told all the same
                store.end_run(run_id, end)
            if isinstance(end, RunFailed):
                raise
            listen(end)
            return None
        store.end_run(run_id, RunFinished())
        return result


def _end_by(error: BaseException) -> RunEnd:
    """What ends a run that an error has stopped."""
    match error:
        case Cancelled():
            return RunCancelled()
        case Interrupted():
            return RunInterrupted(str(error))
        case _ if files.says_full(error):
            return RunInterrupted("The disk is full. Make room, on the page Storage or elsewhere; then resume the run.")
        case DistillError():
            return RunFailed(str(error))
        case _:
            return RunFailed(f"{type(error).__name__}: {error}")


def _control(run_id: str, store: Store, heed: Callable[[], None], emit: Emit) -> Control:
    """What people ask of this run, and how long it may work."""

    def pause(paused: bool) -> None:
        store.update_status(run_id, status="paused" if paused else "running")
        emit(Paused() if paused else Resumed())

    minutes = limits.load(store.home).training_minutes
    return Control(
        store.wishes(run_id),
        heed=heed,
        on_pause=pause,
        time_limit=None if minutes is None else 60 * minutes,
        spent=sum(store.checkpoints(run_id).seconds_by_stage.values()),
    )


@contextmanager
def _stop_requests() -> Iterator[Callable[[], None]]:
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
