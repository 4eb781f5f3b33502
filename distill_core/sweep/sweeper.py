"""What people ask of sweeps, from any process: each works in a driver process of its own, which outlives a server."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from distill_core import limits, storage
from distill_core.errors import LimitError, RunError
from distill_core.store import Store
from distill_core.sweep import study
from distill_core.sweep.cells import ENDED
from distill_core.sweep.drive import give_up
from distill_core.sweep.outlook import outlook
from distill_core.sweep.record import Sweeps
from distill_core.sweep.space import SweepConfig, parse_sweep

_drivers: list[subprocess.Popen[bytes]] = []
"""Drivers that this process has started; a process object that is dropped warns that its process still runs."""


def submit(store: Store, config: SweepConfig, owner: str | None = None) -> str:
    """Begins a sweep and returns its id at once.

    Raises:
        LimitError: there is no room for its runs, or too many of the owner's sweeps wait already.
    """
    _check_limits(store, owner)
    sweep_id = Sweeps(store).create(config, owner, outlook(config, store).seconds)
    _start(store, sweep_id)
    return sweep_id


def pause(store: Store, sweep_id: str) -> None:
    """Has a sweep stop, with its cells at work, so that it can be resumed; within seconds. Raises RunError."""
    sweeps = Sweeps(store)
    status = sweeps.status(sweep_id)
    if status.over:
        raise RunError(f"sweep must be at work to pause, got {sweep_id!r} which is {status.status}; resume it first")
    sweeps.ask(sweep_id, "pause")


def cancel(store: Store, sweep_id: str) -> None:
    """Ends a sweep; the cells that have ended stay."""
    sweeps = Sweeps(store)
    if sweeps.status(sweep_id).over:
        give_up(sweep_id, sweeps)
        sweeps.update(sweep_id, status="cancelled")
    else:
        sweeps.ask(sweep_id, "cancel")


def delete(store: Store, sweep_id: str, *, with_runs: bool = False) -> None:
    """Forgets a sweep that is at rest.

    Args:
        with_runs: whether its runs go to the trash; else they stay.

    Raises:
        RunError: it is at work.
    """
    sweeps = Sweeps(store)
    status = sweeps.status(sweep_id)
    if not status.over:
        raise RunError(
            f"sweep must be at rest to be deleted, got {sweep_id!r} which is {status.status}; cancel it first"
        )
    for run_id in {str(cell.run_id) for cell in sweeps.cells(sweep_id) if cell.run_id is not None} if with_runs else ():
        with suppress(RunError, OSError):  # somebody has deleted it
            store.delete_run(run_id)
    study.forget(sweep_id, sweeps.config(sweep_id), store.home)
    sweeps.delete(sweep_id)


def resume(store: Store, sweep_id: str) -> None:
    """Has a sweep that is at rest work on the cells that it lacks.

    Raises:
        RunError: it is at work.
        LimitError: there is no room for its runs, or too many of the owner's sweeps wait already.
    """
    sweeps = Sweeps(store)
    status = sweeps.status(sweep_id)
    _check_limits(store, status.owner)
    if not status.over:
        raise RunError(f"sweep must be at rest to be resumed, got {sweep_id!r} which is {status.status}; watch it")
    sweeps.ask(sweep_id, "run")
    sweeps.update(sweep_id, status="queued", asked=time.time(), error=None)
    _start(store, sweep_id)


def extend(store: Store, sweep_id: str, config: SweepConfig) -> None:
    """Gives a sweep that is at rest more cells, and works on them. Raises RunError, ConfigError, LimitError."""
    extended(store, sweep_id, config)
    resume(store, sweep_id)


def extended(store: Store, sweep_id: str, config: SweepConfig) -> None:
    """Gives a sweep that is at rest more cells, which wait until it is resumed.

    Raises:
        RunError: it is at work, or the new settings would leave out cells that it has, or change them.
    """
    config, sweeps = parse_sweep(dict(config)), Sweeps(store)
    before, cells, status = sweeps.config(sweep_id), sweeps.cells(sweep_id), sweeps.status(sweep_id)
    if [axis.field for axis in config.axes] != [axis.field for axis in before.axes]:
        raise RunError(
            f"axes must stay {', '.join(axis.field for axis in before.axes)} when a sweep is extended, got "
            f"{', '.join(axis.field for axis in config.axes)}; start another sweep"
        )
    for name in ("base", "seeds", "sampler"):
        if getattr(config, name) != getattr(before, name):
            raise RunError(f"{name} must stay as it was when a sweep is extended; start another sweep")
    for axis in config.axes:
        missing = {repr(cell.values[axis.field]) for cell in cells} - {repr(value) for value in axis.values}
        if axis.values and missing:
            raise RunError(f"axis {axis.field} must keep {', '.join(sorted(missing))}, which cells have; add to it")
    sweeps.extend(
        sweep_id,
        config,
        status.worked + outlook(config, store, [cell for cell in cells if cell.state in ENDED]).seconds,
    )


def _check_limits(store: Store, owner: str | None) -> None:
    allowed, sweeps = limits.load(store.home), Sweeps(store)
    storage.check_room(store, allowed)
    waiting = [status for status in map(sweeps.status, sweeps.ids()) if not status.over and status.owner == owner]
    if owner is not None and allowed.queued_per_owner is not None and len(waiting) >= allowed.queued_per_owner:
        raise LimitError(
            f"queued_per_owner must not exceed {allowed.queued_per_owner}, got {len(waiting) + 1} sweeps of yours that "
            "wait or work; wait for one to end, or cancel one"
        )


def _start(store: Store, sweep_id: str) -> None:
    """Starts the driver of a sweep, whose output goes to its log."""
    _drivers[:] = [driver for driver in _drivers if driver.poll() is None]
    with (Sweeps(store).folder(sweep_id) / "driver.log").open("ab") as log:
        _drivers.append(
            subprocess.Popen(
                [sys.executable, "-m", "distill_core", "sweep", "--drive", sweep_id, "--home", str(store.home)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[2],
                start_new_session=True,  # the sweep outlives a server that is stopped with Ctrl-C
            )
        )
