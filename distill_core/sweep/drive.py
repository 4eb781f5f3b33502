"""Drives a sweep: takes cells from its plan, has workers train them, and writes down how each ends.

A sweep that was paused or killed goes on from its folder: cells that have ended stay, those under way go on from
their checkpoints, the others begin. One sweep of a home folder works at a time.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from distill_core import files
from distill_core.errors import DistillError, Interrupted, LimitError, RunError
from distill_core.events import Epoch, RunCancelled
from distill_core.status import State
from distill_core.sweep.cells import ENDED, Cell, CellState, Measured
from distill_core.sweep.outlook import outlook
from distill_core.sweep.plan import Plan, ended
from distill_core.sweep.readying import Teachers
from distill_core.sweep.record import Sweeps, SweepState, SweepWish
from distill_core.sweep.space import SweepConfig
from distill_core.sweep.workers import Ended, LocalWorkers, Workers

LOOK = 0.25
"""Seconds between two looks at what people want of the sweep."""
TRIES = 3
"""How often a cell may be begun whose process is lost or which is stopped from outside."""


class _Asked(Exception):
    """Somebody wants the sweep to pause or to be cancelled."""

    def __init__(self, wish: SweepWish) -> None:
        super().__init__(wish)
        self.wish = wish


def drive(
    sweep_id: str,
    sweeps: Sweeps,
    listen: Callable[[Cell], None] = lambda cell: None,
    heed: Callable[[], None] = lambda: None,
) -> SweepState:
    """Works on a sweep until it has all its cells, or somebody stops it; returns how it stands then.

    Args:
        listen: hears each cell that begins or ends.
        heed: called often; raises Interrupted to stop, so that the sweep can be resumed.

    Raises:
        RunError: another process drives it.
        DistillError, Exception: what has ended it, which its status says too.
    """
    with sweeps.claim(sweep_id):
        check = partial(_check, sweep_id, sweeps, heed)
        worked = sweeps.status(sweep_id).worked + _lost_seconds(sweep_id, sweeps)
        sweeps.update(sweep_id, status="queued", started=None, ended=None, pid=os.getpid(), error=None, worked=worked)
        state: SweepState = "failed"
        error = None
        try:
            with _turn(sweeps, check):
                sweeps.update(sweep_id, status="running", started=time.time())
                with _workers(sweeps.config(sweep_id), sweeps) as workers:
                    _Stretch(sweep_id, sweeps, listen, check, workers).work()
            error = common_error(sweeps.cells(sweep_id))
            state = "finished" if error is None else "failed"
        except _Asked as asked:
            state = "cancelled" if asked.wish == "cancel" else "paused"
            if state == "cancelled":
                give_up(sweep_id, sweeps)
        except (Interrupted, LimitError) as stop:
            state, error = "interrupted", str(stop) or None
        except BaseException as problem:
            error = str(problem) if isinstance(problem, DistillError) else f"{type(problem).__name__}: {problem}"
            raise
        finally:
            _leave(sweep_id, sweeps, state, error)
        return state


def give_up(sweep_id: str, sweeps: Sweeps) -> None:
    """Ends the cells of a cancelled sweep that have begun and not ended, and their runs."""
    for cell in sweeps.cells(sweep_id):
        if cell.state not in ENDED:
            sweeps.append(sweep_id, ended(cell, "cancelled"))
            with suppress(RunError):
                sweeps.store.end_run(str(cell.run_id), RunCancelled())


def _lost_seconds(sweep_id: str, sweeps: Sweeps) -> float:
    """Seconds of a stretch whose driver was killed: as far as its last cell tells."""
    started = sweeps.status(sweep_id).started
    if started is None:
        return 0.0
    return max([0.0, *(cell.ended - started for cell in sweeps.cells(sweep_id) if cell.ended is not None)])


def common_error(cells: Sequence[Cell]) -> str | None:
    """Why a sweep has come to nothing; None if any of its cells has finished."""
    errors = [cell.error for cell in cells if cell.error is not None]
    return None if any(cell.state == "finished" for cell in cells) or not errors else errors[0]


def _state_of(run: State) -> CellState:
    """How a cell has ended whose run has come to no result."""
    return "cancelled" if run == "cancelled" else "failed"


def outcome(cell: Cell, result: Mapping[str, Any]) -> Cell:
    """A cell whose run has a result; one that was stopped and kept says nothing beside the others."""
    if result.get("stopped"):
        return ended(cell, "cancelled", error="Its training was stopped before its end.")
    return ended(cell, "finished", measured=Measured.of(result))


def _leave(sweep_id: str, sweeps: Sweeps, state: SweepState, error: str | None) -> None:
    status, now = sweeps.status(sweep_id), time.time()
    worked = status.worked + (now - status.started if status.started is not None else 0.0)
    sweeps.update(sweep_id, status=state, worked=worked, started=None, ended=now, pid=None, error=error)


@contextmanager
def _turn(sweeps: Sweeps, check: Callable[[], None]) -> Iterator[None]:
    """Waits until no other sweep of the home folder works."""
    with files.alone(sweeps.store.home / "sweeps" / ".turn", check):
        yield


def _check(sweep_id: str, sweeps: Sweeps, heed: Callable[[], None]) -> None:
    heed()
    wish = sweeps.wish(sweep_id)
    if wish != "run":
        raise _Asked(wish)


@contextmanager
def _workers(config: SweepConfig, sweeps: Sweeps) -> Iterator[Workers]:
    """What trains the cells; it gets ready while the plan is made. What ends the work ends the runs."""
    workers: Workers
    if config.executor == "local":
        workers = LocalWorkers(sweeps.store)
    else:
        from distill_core.sweep.cluster import RayWorkers

        workers = RayWorkers(sweeps.store, config.address)
    try:
        yield workers
    except BaseException:
        workers.stop()
        raise
    finally:
        workers.close()


class _Stretch:
    """One stretch of work on a sweep, from its start or resumption to its end or the next pause."""

    def __init__(
        self,
        sweep_id: str,
        sweeps: Sweeps,
        listen: Callable[[Cell], None],
        check: Callable[[], None],
        workers: Workers,
    ) -> None:
        self._store, self._check, self._workers = sweeps.store, check, workers
        self._plan = Plan(sweep_id, sweeps, listen)
        self._teachers = Teachers(sweeps.store, check)
        self._working: dict[str, Cell] = {}
        self._begun = Counter[str]()
        self._hopeless = set[str]()
        self._read = Counter[str]()
        """How far the events of each run have been read, in bytes."""
        status = sweeps.status(sweep_id)
        if status.estimated is None:
            expected = outlook(self._plan.config, self._store, list(self._plan.cells.values()))
            sweeps.update(sweep_id, estimated=status.worked + expected.seconds)

    def work(self) -> None:
        """Trains the cells that are missing."""
        first = self._plan.ahead()
        if first is None:
            return
        self._teachers.have(self._plan.config_of(first))  # with all cores, before the workers take them
        try:
            self._train()
        finally:
            self._teachers.close()

    def _train(self) -> None:
        while True:
            self._check()
            while len(self._working) < self._workers.slots and (cell := self._plan.take(self._can_begin)) is not None:
                self._begin(cell)
            if self._plan.ahead() is None:
                if not self._working:
                    return
                self._workers.help()
            for one in self._workers.ended(LOOK) if self._working else self._idle():
                self._take_back(one)
            if self._plan.config.pruner != "none":
                self._prune()

    def _can_begin(self, cell: Cell) -> bool:
        """Whether a cell's teacher is there; one that is not is trained beside the others."""
        config = self._plan.config_of(cell)
        if self._teachers.has(config):
            return True
        self._teachers.begin(config)
        return False

    def _idle(self) -> list[Ended]:
        time.sleep(LOOK)
        return []

    def _begin(self, cell: Cell) -> None:
        assert cell.run_id is not None
        self._working[cell.run_id] = cell
        self._begun[cell.run_id] += 1
        try:
            self._workers.submit(cell.run_id)
        except DistillError as error:  # its file is gone, or another process has taken the run
            del self._working[cell.run_id]
            self._plan.write(ended(cell, "failed", error=str(error)))

    def _take_back(self, one: Ended) -> None:
        """Writes down how a cell has ended, or begins it again."""
        cell = self._working.pop(one.run_id)
        try:
            status, result = self._store.status(one.run_id), self._store.result(one.run_id)
        except RunError as error:  # somebody has deleted it, or the disk has spoilt it
            self._plan.write(ended(cell, "failed", error=str(error)))
            return
        if status.status == "finished" and result is not None:
            self._plan.write(outcome(cell, result))
        elif status.final:
            hopeless = one.run_id in self._hopeless and status.status == "cancelled"
            self._plan.write(ended(cell, "pruned" if hopeless else _state_of(status.status), error=status.error))
        elif self._begun[one.run_id] < TRIES:
            self._begin(cell)
        else:
            why = one.lost or status.error or "its process has ended without saying why"
            self._plan.write(ended(cell, "failed", error=f"Begun {TRIES} times; at last: {why}"))

    def _prune(self) -> None:
        """Ends cells whose accuracy after an epoch leaves no hope."""
        for run_id, cell in self._working.items():
            found, self._read[run_id] = self._store.read_events(run_id, self._read[run_id])
            epochs = [event for _, event in found if isinstance(event, Epoch) and event.stage == "distil"]
            for epoch in epochs:
                if epoch.accuracy is None or run_id in self._hopeless or epoch.split != "val":
                    continue
                if self._plan.is_hopeless(cell, epoch.epoch, epoch.accuracy):
                    self._hopeless.add(run_id)
                    self._workers.cancel(run_id)
