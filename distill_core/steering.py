"""What people may ask of a run under way, checked before it is asked: pause, go on, step, stop and keep."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from typing import Literal

from distill_core.errors import RunError
from distill_core.events import RunCancelled, StageStarted
from distill_core.status import AT_WORK
from distill_core.store import Store

Request = Literal["pause", "run", "batch", "epoch", "keep"]
WORDS: Mapping[Request, str] = {
    "pause": "pause",
    "run": "go on",
    "batch": "take one batch",
    "epoch": "take one epoch",
    "keep": "stop and keep its student",
}


GRACE = 2.5
"""Seconds that a worker has to stop by itself before it is killed."""


def ask(store: Store, run_id: str, request: Request) -> None:
    """Asks a run at work for something; it does so before its next batch.

    Raises:
        RunError: nothing works on the run, it is not paused where that is needed, or it has no student yet.
    """
    status = store.status(run_id).status
    if status not in AT_WORK:
        raise RunError(f"run must be at work to {WORDS[request]}, got {run_id!r} which is {status}; {_remedy(status)}")
    if request == "keep" and not has_student(store, run_id):
        raise RunError(
            f"run must have a student to keep, got {run_id!r} whose student has yet to begin; wait, or discard the run"
        )
    store.ask(run_id, request)


def has_student(store: Store, run_id: str) -> bool:
    """Whether the student of a run has begun to learn."""
    events, _ = store.read_events(run_id)
    return any(isinstance(event, StageStarted) and event.stage == "distil" for _, event in events)


def discard(store: Store, run_id: str) -> None:
    """Ends a run of which nothing is kept, within 3 s. One that is final stays as it ended."""
    status = store.status(run_id)
    if not status.over:
        store.ask(run_id, "discard")
        deadline = time.monotonic() + GRACE
        while store.is_claimed(run_id) and time.monotonic() < deadline:
            time.sleep(0.05)
        if store.is_claimed(run_id):
            kill(store, run_id)
    store.end_run(run_id, RunCancelled())


def kill(store: Store, run_id: str) -> None:
    """Ends a worker that does not listen. Its claim shows that it lives, so its process id is no other's."""
    pid = store.status(run_id).pid
    if pid is not None and store.is_claimed(run_id):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _remedy(status: str) -> str:
    return {"queued": "wait until it starts", "interrupted": "resume it first"}.get(status, "start a new one")
