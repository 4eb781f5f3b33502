"""One run in this process: claims it, listens for requests to stop, records how it ended."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from distill_core.errors import Cancelled, DistillError
from distill_core.events import Emit, Event, RunCancelled, RunFailed, RunFinished
from distill_core.store import Store


def work(run_id: str, store: Store, listen: Emit = lambda event: None) -> dict[str, Any] | None:
    """Runs the pipeline on a run's folder; returns the result, or None if the run was cancelled.

    Args:
        listen: hears each event after it has been written.

    Raises:
        RunError: the run is over or another process works on it.
        DistillError, Exception: what ended the run, which is recorded as failed.
    """
    with _stop_requests() as check, store.claim(run_id), store.event_log(run_id) as log:
        store.update_status(run_id, status="running", started=time.time(), pid=os.getpid())

        def emit(event: Event) -> None:
            log(event)
            listen(event)

        try:
            from distill_core import pipeline  # takes seconds to import, so only now that the run is ours

            result = pipeline.run(run_id, store, emit, check)
        except Cancelled:
            store.end_run(run_id, RunCancelled())
            return None
        except DistillError as error:
            store.end_run(run_id, RunFailed(str(error)))
            raise
        except BaseException as error:
            store.end_run(run_id, RunFailed(f"{type(error).__name__}: {error}"))
            raise
        store.end_run(run_id, RunFinished())
        return result


@contextmanager
def _stop_requests() -> Iterator[Callable[[], None]]:
    """A check that raises Cancelled once SIGTERM or SIGINT has arrived; only the main thread can hear them."""
    asked = threading.Event()

    def ask(signum: int, frame: FrameType | None) -> None:
        asked.set()

    def check() -> None:
        if asked.is_set():
            raise Cancelled

    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
