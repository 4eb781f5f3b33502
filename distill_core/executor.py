"""Starts queued runs, one at a time, each in a process of its own, and notices when one dies.

The folders on disk are the truth: the queue is the runs whose status says `queued`, oldest first, and a run is alive
while its worker holds the claim on it. Whichever process holds the home folder's lock starts runs; others only add to
the queue, so two servers on one folder do not start a run twice.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from filelock import FileLock, Timeout

from distill_core.config import RunConfig
from distill_core.errors import RunError
from distill_core.events import RunCancelled, RunFailed
from distill_core.store import Status, Store

TICK = 0.25
"""Seconds between two looks at the queue."""
GRACE = 2.5
"""Seconds that a worker has to stop by itself before it is killed."""
CLAIM_DELAY = 10.0
"""Seconds within which a process that said it runs a run must have claimed it."""


class Executor:
    """Submits, starts, watches and cancels the runs of one home folder."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._child: tuple[str, subprocess.Popen[bytes]] | None = None
        self._spare: subprocess.Popen[bytes] | None = None
        self._over: set[str] = set()
        self._thread = threading.Thread(target=self._serve, name="distill-executor", daemon=True)
        self._thread.start()

    def submit(self, config: RunConfig) -> str:
        """Queues a run and returns its id at once."""
        run_id = self.store.create_run(config)
        self._wake.set()
        return run_id

    def position(self, run_id: str) -> int | None:
        """1 for the next in the queue, 2 for the one after it; None for a run that does not wait."""
        waiting = [status.run_id for status in self._open_runs() if status.status == "queued"]
        return waiting.index(run_id) + 1 if run_id in waiting else None

    def cancel(self, run_id: str) -> None:
        """Asks a run to stop; it has stopped within 3 s. A run that is over stays as it is."""
        status = self.store.status(run_id)
        if status.status == "queued" and not self.store.is_claimed(run_id):
            self.store.end_run(run_id, RunCancelled())
        elif not status.over:
            threading.Thread(target=self._stop, args=(run_id,), name=f"stop-{run_id}").start()

    def close(self) -> None:
        """Stops starting runs and gives the folder's lock back. A run that is under way goes on by itself."""
        self._closing.set()
        self._wake.set()
        self._thread.join()
        if self._spare is not None:
            self._spare.kill()
            self._spare.communicate()
        if self._child is not None:
            _left_running.append(self._child[1])

    def _stop(self, run_id: str) -> None:
        _signal(self.store.status(run_id), signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while self.store.is_claimed(run_id) and time.monotonic() < deadline:
            time.sleep(0.05)
        if self.store.is_claimed(run_id):
            _signal(self.store.status(run_id), signal.SIGKILL)
        self.store.end_run(run_id, RunCancelled())

    def _serve(self) -> None:
        self.store.home.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.store.home / "executor.lock")
        while not self._closing.is_set():
            try:
                with lock.acquire(timeout=TICK):
                    self._dispatch_until_closed()
            except Timeout:
                continue

    def _dispatch_until_closed(self) -> None:
        while not self._closing.is_set():
            self._wake.clear()
            self._bury_dead()
            if self._child is None:
                self._start_next()
            if self._spare is None:
                self._spare = self._spawn()
            self._wake.wait(TICK)

    def _open_runs(self) -> list[Status]:
        """Runs that are not over, oldest first."""
        found = []
        for run_id in self.store.run_ids():
            if run_id in self._over:
                continue
            try:
                status = self.store.status(run_id)
            except RunError:  # a folder that cannot be read must not keep others from running
                continue
            if status.over:
                self._over.add(run_id)
            else:
                found.append(status)
        return sorted(found, key=lambda status: (status.created, status.run_id))

    def _start_next(self) -> None:
        waiting = self._open_runs()
        if any(status.status == "running" for status in waiting) or not waiting:
            return
        run_id, child, self._spare = waiting[0].run_id, self._spare or self._spawn(), None
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError), child.stdin as pipe:  # a dead one is noticed in the next round
            pipe.write(run_id.encode() + b"\n")
        self._child = run_id, child

    def _spawn(self) -> subprocess.Popen[bytes]:
        """A worker that has its imports behind it by the time a run is there for it, so that runs start at once."""
        return subprocess.Popen(
            [sys.executable, "-m", "distill_core", "run", "--run-id", "-", "--home", str(self.store.home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parents[1],
            start_new_session=True,  # the run outlives a server that is stopped with Ctrl-C
        )

    def _bury_dead(self) -> None:
        """Records runs whose process has ended without saying so."""
        if self._child is not None and self._child[1].poll() is not None:
            (run_id, child), self._child = self._child, None
            self._fail(run_id, f"the worker ended with status {child.returncode}")
        for status in self._open_runs():
            claimed_by_now = status.started is not None and time.time() > status.started + CLAIM_DELAY
            if status.status == "running" and claimed_by_now and not self.store.is_claimed(status.run_id):
                self._fail(status.run_id, "the worker is gone")

    def _fail(self, run_id: str, reason: str) -> None:
        tail = self.store.log_tail(run_id)
        self.store.end_run(run_id, RunFailed(f"{reason}\n{tail}" if tail else reason))


def _signal(status: Status, number: signal.Signals) -> None:
    if status.pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(status.pid, number)


_left_running: list[subprocess.Popen[bytes]] = []
"""Workers whose executor has closed; a process object that is dropped warns that its process still runs."""
_executors: dict[Path, Executor] = {}
_executors_lock = threading.Lock()


def executor_of(store: Store) -> Executor:
    """The one executor of this process for a home folder, started when first asked for."""
    with _executors_lock:
        if store.home not in _executors:
            _executors[store.home] = Executor(store)
        return _executors[store.home]
