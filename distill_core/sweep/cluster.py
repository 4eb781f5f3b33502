"""A sweep's runs on a Ray cluster, a CPU each. Ray is an optional package, so it is imported when workers are made.

A task carries a run's configuration. A node that sees the home folder works in it, checkpoints and all. Where one does
not, the caches that the run needs travel as Ray objects, each once; its events come home as they happen, its other
files when it has ended, and until then the driver holds it, so that everybody sees that it is at work.

On a cluster with GPUs each run has a part of one, and nodes without a GPU stay idle. Ray itself never begins a run
again: one that is lost with its node is reported, and who has submitted it decides.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_core import keys
from distill_core.config import RunConfig
from distill_core.control import What, Wish
from distill_core.data import tables
from distill_core.events import RunCancelled, RunInterrupted
from distill_core.models.sizes import student_model, work_of
from distill_core.store import Kept, Store
from distill_core.sweep import joining, node
from distill_core.sweep.board import Board
from distill_core.sweep.node import RUN, TABLE, HomeNotSeen, Made, Order, Parcel
from distill_core.sweep.workers import GRACE, Ended

if TYPE_CHECKING:
    from distill_core.device import Compute

TICK = 0.25
"""Seconds between two looks at what people ask of runs."""
ENDINGS: frozenset[What] = frozenset({"discard", "interrupt"})
"""Wishes that end a run."""


@dataclass
class _Flight:
    """A run that Ray has been given; `hold` is the driver's claim on it where it works away from home."""

    run_id: str
    number: int
    wish: Callable[[], Wish]
    away: bool
    hold: ExitStack = field(default_factory=ExitStack)
    deadline: float | None = None
    """When its process is killed, on the monotonic clock, since it was asked to end."""

    @property
    def is_to_end(self) -> bool:
        """Whether somebody has asked it to end."""
        return self.wish().what in ENDINGS


class RayWorkers:
    """A task for each run, on the CPUs of a cluster.

    Args:
        address: the cluster's, as in `10.0.0.1:6379`; None starts one on this machine, which ends with these workers.
        shared: whether all nodes see the home folder; None has them find out.

    Raises:
        ConfigError: Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(self, store: Store, address: str | None = None, *, shared: bool | None = None) -> None:
        self._store, self._ray = store, joining.package()
        self._connected = not self._ray.is_initialized()
        if self._connected:
            joining.join(self._ray, address)
        self._away, self._may_go_away = shared is False, shared is None
        self._flights: dict[Any, _Flight] = {}
        self._board: Board | None = None
        self._parcels: dict[str, Any] = {}
        self._runs_a_gpu = joining.runs_a_gpu(self._ray.cluster_resources())
        share = math.floor(10_000 / self._runs_a_gpu) / 10_000 if self._runs_a_gpu else 0
        self._task = self._ray.remote(num_cpus=1, num_gpus=share, max_retries=0)(_attend)

    @property
    def slots(self) -> int:
        """CPUs of the nodes that are there now; on a cluster with GPUs as many of them as these can serve."""
        found = self._ray.cluster_resources()
        cpus, gpus = int(found.get("CPU", 0)), int(found.get("GPU", 0))
        return max(min(cpus, gpus * self._runs_a_gpu) if self._runs_a_gpu else cpus, 1)

    def help(self) -> None:
        """Nothing: a run's checkpoints lie on its own node."""

    def submit(self, run_id: str) -> None:
        """Begins a run, or goes on with one that was interrupted.

        Raises:
            DistillError: what the run needs cannot be read, or another process works on it.
        """
        store, config = self._store, self._store.config(run_id)
        store.ask(run_id, "run")  # it may have been stopped before; and a node that reads this sees the home folder
        order, parcels, collector = self._order(run_id, config), None, None
        flight = _Flight(run_id, order.wish, store.wishes(run_id), self._away)
        if self._away:
            self._board = self._board or Board(self._ray)
            parcels, collector = self._parcels_of(order, config), self._board.collector
            flight.hold.enter_context(store.claim(run_id))
            store.update_status(run_id, status="running", started=time.time(), pid=None, ended=None, error=None)
        self._flights[self._task.remote(order, parcels, collector)] = flight

    def ended(self, seconds: float) -> list[Ended]:
        """Runs that have ended since; waits up to so many seconds for the first."""
        until = time.monotonic() + seconds
        while self._flights:
            self._heed_wishes()
            self._hear_news()
            left = max(until - time.monotonic(), 0.0)
            tasks = list(self._flights)
            if self._ray.wait(tasks, num_returns=1, timeout=min(left, TICK), fetch_local=False)[0]:
                ready, _ = self._ray.wait(tasks, num_returns=len(tasks), timeout=0, fetch_local=False)
                if found := [ended for task in ready if (ended := self._land(task)) is not None]:
                    return found
            elif left == 0:
                break
        return []

    def cancel(self, run_id: str) -> None:
        """Ends a run of which nothing more is wanted; its process is killed if it does not listen."""
        self._store.ask(run_id, "discard")

    def stop(self) -> None:
        """Asks all runs to make way, and kills the processes of those that do not listen."""
        for flight in self._flights.values():
            self._store.ask(flight.run_id, "interrupt")
        until = time.monotonic() + GRACE + 2
        while self._flights and time.monotonic() < until:
            self.ended(TICK)
        for task in list(self._flights):  # its node is out of reach, or it would have been killed by now
            with self._flights[task].hold:
                self._record_end(self._flights.pop(task))

    def close(self) -> None:
        """Ends what is at work, and leaves the cluster or, where it was started for these workers, ends it."""
        self.stop()
        if self._connected:
            self._ray.shutdown()

    # Before a run

    def _order(self, run_id: str, config: RunConfig) -> Order:
        from distill_core.computing import compute_for

        store = self._store
        caches = _caches(config, compute_for(config, store), store) if self._away else ()
        outcome, wish = node.outcome_key(config, store), store.wish(run_id).number
        return Order(run_id, store.home, config.to_json(), wish, outcome, caches)

    def _parcels_of(self, order: Order, config: RunConfig) -> dict[str, Any]:
        """References to all that a run needs away from home, by name; what runs share is put there once."""
        home, folder = self._store.home, self._store.run_folder(order.run_id)
        names = [f"{kind}/{key}" for kind, key in order.caches]
        found = {name: self._put_once(name, partial(node.packed, home / name)) for name in names}
        if config.data.name == "csv":
            file = tables.path_of(config.data)
            found[TABLE] = self._put_once(f"{file} {tables.digest_of(file)}", lambda: {file.name: file.read_bytes()})
        return {**found, RUN: self._ray.put(node.packed(folder))}

    def _put_once(self, name: str, pack: Callable[[], Parcel]) -> Any:
        if name not in self._parcels:
            self._parcels[name] = self._ray.put(pack())
        return self._parcels[name]

    # While runs are at work

    def _heed_wishes(self) -> None:
        """Ends runs that somebody wants to end; at home they hear of it themselves, unless they have yet to begin."""
        now = time.monotonic()
        for task, flight in self._flights.items():
            if flight.deadline is None and flight.is_to_end:
                flight.deadline = now + GRACE
                if flight.away:
                    self._ray.cancel(task, force=False)
            elif flight.deadline is not None and now > flight.deadline:
                flight.deadline = math.inf
                self._ray.cancel(task, force=True)

    def _hear_news(self) -> None:
        """Writes down what runs away from home have told."""
        at_work = {(flight.run_id, flight.number) for flight in self._flights.values()}
        for (run_id, number), lines in self._board.news().items() if self._board is not None else ():
            if (run_id, number) in at_work:
                self._store.append_events(run_id, lines)

    # After a run

    def _land(self, task: Any) -> Ended | None:
        """How a task ended; None if its run begins again, since its node does not see the home folder."""
        flight = self._flights.pop(task)
        with flight.hold:
            try:
                made = self._ray.get(task)
            except self._ray.exceptions.RayError as error:
                if not flight.is_to_end:
                    return self._lost(flight.run_id, error)
                made = None
            if made is not None and flight.wish().what != "discard":
                _bring_home(self._store, flight.run_id, made)
            self._record_end(flight)
        return Ended(flight.run_id)

    def _lost(self, run_id: str, error: Exception) -> Ended | None:
        cause = getattr(error, "cause", None)  # what our own code has raised there
        if isinstance(cause, HomeNotSeen) and self._may_go_away:
            self._away = True
            self.submit(run_id)
            return None
        return Ended(run_id, str(cause) if cause is not None else str(error).partition("\n")[0].partition(". ")[0])

    def _record_end(self, flight: _Flight) -> None:
        """Records how a run ended that was asked to, where its process has not."""
        if flight.is_to_end:
            discarded = flight.wish().what == "discard"
            end = RunCancelled() if discarded else RunInterrupted("Its sweep was stopped.")
            self._store.end_run(flight.run_id, end)


def _caches(config: RunConfig, compute: Compute, store: Store) -> tuple[tuple[Kept, str], ...]:
    """What the home folder holds of the things that a run would else have to compute, by kind and key."""
    folder, training = store.data_folder, config.training
    teacher, student = (compute.precision_of(work_of(model)) for model in (config.teacher, student_model(config)))
    wanted: list[tuple[Kept, str]] = [
        ("machines", keys.machine_key()),
        ("tokens", keys.data_key(config, folder)),
        ("teachers", keys.teacher_key(config, teacher, folder)),
        ("transfer", keys.transfer_key(config, teacher, folder)),
        ("words", keys.words_key(config, teacher, folder)),
    ]
    seeds = range(training.seed, training.seed + training.seeds)
    wanted += [("baselines", keys.baseline_key(config, student, folder, seed, threads=1)) for seed in seeds]
    return tuple((kind, key) for kind, key in wanted if store.cached(kind, key) is not None)


def _bring_home(store: Store, run_id: str, made: Made) -> None:
    """Gives a run what a node has made of it; its status comes last, so until then it has not ended."""
    store.drop_checkpoints(run_id)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=store.home) as scratch:
        arrived = {name: content for name, content in made.items() if isinstance(content, bytes)}
        node.unpack(arrived, Path(scratch))
        for name, content in made.items():
            if name != "status.json":
                source = Path(scratch) / name if isinstance(content, bytes) else store.home / content
                store.link_file(run_id, name, source)
    status = json.loads(arrived["status.json"])
    store.update_status(run_id, **{name: status[name] for name in ("status", "started", "ended", "error")})


# On a node


def _attend(order: Order, parcels: Mapping[str, Any] | None, collector: Any) -> Made | None:
    """The task: a run in the home folder, or away from it where there are parcels; then returns what has come of it."""
    if parcels is None:
        node.work_at_home(order)
        return None
    ray = joining.package()

    def tell(lines: bytes) -> None:
        collector.tell.remote(order.run_id, order.wish, lines)

    return node.work_away(order, lambda name: ray.get(parcels[name]), tell)
