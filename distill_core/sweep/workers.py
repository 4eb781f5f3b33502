"""Processes that take a sweep's runs to their end, and those of this machine: one a core.

A small student's training step is too small for two cores to share, but two students are no trouble to each other.
PyTorch is loaded once, for all processes where they can be forked; all runs of one teacher start at their student, and
runs of one baseline train it once.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import forkserver, get_context, resource_tracker
from pathlib import Path
from typing import Any, Protocol

from distill_core import estimate, keys, openmp, steering
from distill_core.config import RunConfig
from distill_core.store import Store
from distill_core.sweep import chores

GRACE = 10.0
"""Seconds that runs have to end by themselves when all work is stopped."""
PRELOADED = ["torch._dynamo", "distill_core.pipeline", "distill_core.worker"]
"""What a run needs, and what PyTorch's first optimizer loads. It computes nothing and looks for no GPU: a process that
has done so cannot be forked."""
RUNS_A_GPU = 8
"""Small students that share a GPU, each by a process of its own."""


@dataclass(frozen=True)
class Ended:
    """A run that nobody works on any more.

    Its folder says how it ended; unless its process was `lost`, which says how: then it can be submitted again.
    """

    run_id: str
    lost: str | None = None


class Workers(Protocol):
    """Processes that take runs of a home folder to their end, each on its part of a machine."""

    @property
    def slots(self) -> int:
        """Runs that can work at the same time."""

    def submit(self, run_id: str) -> None:
        """Begins a run, or goes on with one that was interrupted."""

    def help(self) -> None:
        """No other run is there to begin: what is free may take a part of those at work."""

    def ended(self, seconds: float) -> list[Ended]:
        """Runs that have ended since; waits up to so many seconds for the first."""

    def cancel(self, run_id: str) -> None:
        """Ends a run of which nothing more is wanted."""

    def stop(self) -> None:
        """Ends all runs so that they can be resumed; returns once they have ended."""

    def close(self) -> None:
        """Lets the processes go."""


class LocalWorkers:
    """A process for each core of this machine."""

    def __init__(self, store: Store, slots: int | None = None) -> None:
        self._store = store
        gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))
        self._slots = slots or (min(openmp.cores(), RUNS_A_GPU * gpus) if gpus else openmp.cores())
        self._runs: dict[Future[None], str] = {}
        self._baselines: dict[Future[None], tuple[str, int]] = {}
        self._known = set[tuple[str, int]]()
        self._helping: dict[Future[None], str] = {}
        self._further: dict[str, int] = {}
        """Processes that can still help each run."""
        self._pool = self._new_pool()

    @property
    def slots(self) -> int:
        """One a core; fewer where GPUs compute."""
        return self._slots

    def submit(self, run_id: str) -> None:
        """Begins a run; the baselines that it needs are trained first, each by whichever process is free."""
        if self._store.wish(run_id).what != "run":  # it was stopped before
            self._store.ask(run_id, "run")
        config = self._store.config(run_id)
        self._submit_baselines(config)
        # An assistant is trained by its run.
        self._further[run_id] = config.training.seeds - 1 if config.training.assistant == "none" else 0
        self._runs[self._given(chores.work, self._store.home, run_id)] = run_id

    def _submit_baselines(self, config: RunConfig) -> None:
        if not config.training.baseline:
            return
        name = keys.baseline_key(config, "", self._store.data_folder, 0, 0)
        for seed in range(config.training.seed, config.training.seed + config.training.seeds):
            if (name, seed) not in self._known:
                self._known.add((name, seed))
                self._baselines[self._given(chores.train_baseline, self._store.home, config, seed)] = name, seed

    def help(self) -> None:
        """Free processes train further seeds of the runs at work, which nobody else is at."""
        for run_id in self._runs.values():
            while self._is_free and self._further[run_id] > 0:
                self._further[run_id] -= 1
                self._helping[self._given(chores.train_ahead, self._store.home, run_id)] = run_id

    @property
    def _is_free(self) -> bool:
        return len(self._runs) + len(self._baselines) + len(self._helping) < self._slots

    def _given(self, work: Callable[..., None], *given: Any) -> Future[None]:
        """Work for the next process that is free."""
        try:
            return self._pool.submit(work, *given)
        except (BrokenProcessPool, EOFError, ConnectionError) as error:  # one was killed just now; `ended` says so
            lost = Future[None]()
            lost.set_exception(BrokenProcessPool(str(error)))
            return lost

    def ended(self, seconds: float) -> list[Ended]:
        """Runs that have ended since; where a process was killed, all that were at work are lost."""
        done, _ = wait(self._given_out, timeout=seconds, return_when=FIRST_COMPLETED)
        if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
            return self._all_lost()
        for future in done & self._helping.keys():
            del self._helping[future]
            if (bug := future.exception()) is not None:  # it is told, and the run trains its seeds itself
                traceback.print_exception(bug)
        for future in done & self._baselines.keys():
            key = self._baselines.pop(future)
            if future.exception() is not None:  # the run that needs it says why
                self._known.discard(key)
        return [Ended(self._runs.pop(future)) for future in done & self._runs.keys()]

    @property
    def _given_out(self) -> list[Future[None]]:
        return [*self._runs, *self._baselines, *self._helping]

    def _forget(self) -> None:
        """Nobody works on anything any more."""
        for work in (self._runs, self._baselines, self._helping):
            work.clear()

    def cancel(self, run_id: str) -> None:
        """Ends a run within 3 s; a process that does not listen is killed, which the others at work survive."""
        threading.Thread(target=steering.discard, args=(self._store, run_id), name=f"stop-{run_id}").start()

    def stop(self) -> None:
        """Asks all runs to make way, and kills those that do not listen."""
        for future in self._given_out:
            future.cancel()
        self._stopping.set()
        for run_id in self._runs.values():
            self._store.ask(run_id, "interrupt")
        wait(self._given_out, timeout=GRACE)
        for run_id in self._runs.values():
            steering.kill(self._store, run_id)
        self._forget()

    def close(self) -> None:
        """Lets the processes go, once what they work on has ended."""
        self._stopping.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _new_pool(self) -> ProcessPoolExecutor:
        openmp.sleep_soon()  # heeded by the processes
        forks = not estimate.may_have_gpu()  # CUDA does not stand it, nor does what PyTorch builds on elsewhere
        context = get_context("forkserver" if forks else "spawn")
        if forks:
            _load_while_planning()
        self._stopping = context.Event()
        pool = ProcessPoolExecutor(self._slots, context, chores.take_part, (self._slots, self._stopping))
        if not forks:
            pool.submit(os.getpid)  # the first process loads PyTorch meanwhile
        return pool

    def _all_lost(self) -> list[Ended]:
        lost = [Ended(run_id, "a process of this machine was killed") for run_id in self._runs.values()]
        self._known -= set(self._baselines.values())
        self._forget()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = self._new_pool()
        return lost


def _load_while_planning() -> None:
    """Begins the process that others are forked from. Who interrupts this one from a terminal does not interrupt it."""
    forkserver.set_forkserver_preload(PRELOADED)
    resource_tracker.ensure_running()  # its start lets interrupts through again
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
