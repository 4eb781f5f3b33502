"""Starts queued runs, each in a process of its own, as many at a time as the machine has devices, and notices deaths.

The folders on disk are the truth: the queue is the runs whose status says `queued`, first come first served, and a run
is alive while its worker holds the claim on it. Whichever process holds the home folder's lock starts runs; others
only add to the queue, so two servers on one folder do not start a run twice.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from distill_core import cleaning, limits, steering, storage
from distill_core.config import RunConfig
from distill_core.errors import DistillError, LimitError
from distill_core.events import RunCancelled, RunInterrupted
from distill_core.status import Status
from distill_core.store import Store

TRASH_DAYS = 30.0
"""Days for which a deleted run can be brought back."""
TRIES = 3
"""Workers that may die before a run has begun."""
TICK = 0.25
"""Seconds between two looks at the queue."""
SPARE_AFTER = 3.0
"""Seconds after which a worker is made that waits for a run; a page that is just opening has them to itself."""


@dataclass(frozen=True)
class _Child:
    """A worker that has been given a run."""

    run_id: str
    process: subprocess.Popen[bytes]
    device: int


class Executor:
    """Submits, starts, watches and stops the runs of one home folder."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._children: list[_Child] = []
        self._spare: subprocess.Popen[bytes] | None = None
        self._spare_at = time.monotonic() + SPARE_AFTER
        self._tries: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._serve, name="distill-executor", daemon=True)
        self._thread.start()

    def submit(self, config: RunConfig, owner: str | None = None) -> str:
        """Queues a run and returns its id at once.

        Args:
            owner: a hash of who may stop and delete it.

        Raises:
            LimitError: the owner has too many runs waiting already, or there is no room for another.
        """
        self._check_limits(owner)
        run_id = self.store.create_run(config, owner=owner)
        self._wake.set()
        return run_id

    def resume(self, run_id: str) -> None:
        """Queues an interrupted run again; it goes on from its last checkpoint. Raises RunError, LimitError."""
        self._check_limits(self.store.status(run_id).owner)
        self.store.requeue(run_id)
        self._wake.set()

    @property
    def workers(self) -> int:
        """How many runs work at the same time."""
        return limits.usable(self.store.home).workers or _devices()

    def cancel(self, run_id: str) -> None:
        """Asks a run to stop, of which nothing is kept; it has stopped within 3 s. One that is final stays so."""
        if self.store.is_claimed(run_id):
            threading.Thread(target=steering.discard, args=(self.store, run_id), name=f"stop-{run_id}").start()
        else:
            steering.discard(self.store, run_id)

    def close(self) -> None:
        """Stops starting runs and gives the folder's lock back. A run that is under way goes on by itself."""
        self._closing.set()
        self._wake.set()
        self._thread.join()
        if self._spare is not None:
            self._spare.kill()
            self._spare.communicate()
        _left_running.extend(child.process for child in self._children)

    def _check_limits(self, owner: str | None) -> None:
        allowed = limits.load(self.store.home)
        storage.check_room(self.store, allowed)
        mine = sum(status.owner == owner for status in self.store.open_runs())
        if owner is not None and allowed.queued_per_owner is not None and mine >= allowed.queued_per_owner:
            raise LimitError(
                f"queued_per_owner must not exceed {allowed.queued_per_owner}, got {mine + 1} runs of yours that wait "
                "or work; wait for one to end, or stop one"
            )

    def _serve(self) -> None:
        """Waits for the folder's lock, then starts runs; a disk that is full or away for a while is waited for."""
        while not self._closing.is_set():
            with contextlib.suppress(Timeout, OSError):
                self.store.home.mkdir(parents=True, exist_ok=True)
                with FileLock(self.store.home / "executor.lock", timeout=TICK):
                    self._dispatch_until_closed()
            self._closing.wait(TICK)

    def _dispatch_until_closed(self) -> None:
        with contextlib.suppress(OSError, DistillError):
            cleaning.purge_trash(self.store, TRASH_DAYS)
        while not self._closing.is_set():
            self._wake.clear()
            try:
                self._look()
            except Exception:  # a bug is told, and the runs of others go on
                traceback.print_exc()
            self._wake.wait(TICK)

    def _look(self) -> None:
        self._bury_dead()
        open_runs, workers = self.store.open_runs(), self.workers
        given = {child.run_id for child in self._children}
        working = [status for status in open_runs if status.run_id in given or status.status != "queued"]
        waiting = [status for status in open_runs if status.run_id not in given and status.status == "queued"]
        for status in waiting[: max(workers - len(working), 0)]:
            self._start(status.run_id, working, workers)
        if len(working) >= workers and waiting:
            self._make_room(working)
        if time.monotonic() >= self._spare_at:
            self._spare = self._living_spare() or self._spawn()

    def _start(self, run_id: str, working: Sequence[Status], workers: int) -> None:
        process, self._spare = self._living_spare() or self._spawn(), None
        taken = {child.device for child in self._children} | {status.device for status in working}
        device = next(number for number in range(len(taken) + 1) if number not in taken)
        order = {"run_id": run_id, "device": device, "workers": workers}
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:  # a dead one is noticed in the next round
            pipe.write(json.dumps(order).encode() + b"\n")
        self._children.append(_Child(run_id, process, device))

    def _living_spare(self) -> subprocess.Popen[bytes] | None:
        """The worker that waits for a run, unless it has died."""
        spare = self._spare
        if spare is None or spare.poll() is None:
            return spare
        spare.communicate()
        return None

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
        for child in [child for child in self._children if child.process.poll() is not None]:
            self._children.remove(child)
            self._record_death(child.run_id, child.process.returncode)
        ours = {child.run_id for child in self._children}
        for run_id in self.store.dead_runs():
            if run_id not in ours:  # the process of ours says more about its end, in the next round
                self._record_death(run_id, None)

    def _record_death(self, run_id: str, code: int | None) -> None:
        """Records how a run ended, where its folder lets us; what cannot be written does not keep others waiting."""
        with contextlib.suppress(OSError, DistillError):
            status = self.store.status(run_id)
            if status.final:  # its process may have been killed just before it tidied up
                self.store.drop_checkpoints(run_id)
            if status.final or self.store.is_claimed(run_id):
                return
            if self.store.wish(run_id).what == "discard":
                self.store.end_run(run_id, RunCancelled())
            elif status.status == "queued":
                self._try_again(run_id, code)
            elif status.status == "interrupted":
                how = "Its process is gone." if code is None else f"Its process ended with status {code}."
                self.store.end_run(run_id, RunInterrupted(self._with_log(run_id, how)))

    def _try_again(self, run_id: str, code: int | None) -> None:
        """Leaves a run in the queue whose worker died before it had begun, unless that has happened too often."""
        self._tries[run_id] += 1
        if self._tries[run_id] >= TRIES:
            del self._tries[run_id]
            how = f"Its process ended {TRIES} times before it had begun, with status {code} at last."
            self.store.end_run(run_id, RunInterrupted(self._with_log(run_id, how)))

    def _with_log(self, run_id: str, reason: str) -> str:
        tail = self.store.log_tail(run_id)
        return f"{reason}\n{tail}" if tail else reason

    def _make_room(self, working: Sequence[Status]) -> None:
        """Asks runs that stand still, and of which nobody has asked anything for long, to make way."""
        minutes = limits.usable(self.store.home).pause_minutes
        for status in working:
            if minutes is not None and status.status == "paused":
                asked = self.store.asked_at(status.run_id)
                if time.time() - asked > 60 * minutes:
                    self.store.ask(status.run_id, "interrupt")


def _devices() -> int:
    """Devices that can train at the same time: GPUs, or the processor as one."""
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return 1
    from distill_core import device

    return device.count()


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
