"""What processes of a sweep do: get ready, train a teacher, a baseline or a seed for others, take a run to its end."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing import parent_process
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import TYPE_CHECKING

from distill_core.config import RunConfig
from distill_core.errors import DistillError, Interrupted
from distill_core.store import Store

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

    from distill_core.job import Job

ORPHAN_SECONDS = 5.0
"""Seconds that a run has to end by itself when its driver is gone."""
RUN_LOOK = 0.2
"""Seconds between two looks whether the run that is helped still works."""
BEGUN = 0.1
"""Seconds between two looks whether a run has begun."""


def prepare(store: Store, configs: Sequence[RunConfig], check: Callable[[], None] = lambda: None) -> None:
    """Reads the data and trains the teachers of runs, each once, in this process and on all cores.

    Args:
        check: called often; what it raises ends the work.

    Raises:
        DistillError: the data or a teacher cannot be used.
    """
    from distill_core import device
    from distill_core.teaching import prepare_teacher

    device.use_all_cores()
    device.keep_memory()
    for config in configs:
        prepare_teacher(job_without_run(config, store, check))


def job_without_run(config: RunConfig, store: Store, check: Callable[[], None]) -> Job:
    """What work needs that is no run: nobody hears its events, and nothing is kept but what it publishes."""
    from distill_core.computing import compute_for
    from distill_core.control import Control
    from distill_core.job import Job
    from distill_core.teaching import prepare_data
    from distill_core.training.context import Context

    compute = compute_for(config, store)
    context = Context(compute, emit=lambda event: None, control=Control(heed=check))
    return Job("", store, config, prepare_data(config, store, check), context)


# In a process of the pool


def take_part(workers: int, stopping: Event) -> None:
    """Sets a process up."""
    gc.freeze()  # what it was forked with stays, and is not copied to be looked through
    atexit.register(gc.freeze)  # one that is not forked ends 0.7 s sooner
    os.nice(5)  # the pages, and a run that somebody watches, stay quick
    threading.Thread(target=_end_with_driver, name="driver-watch", daemon=True).start()
    _stops.append(stopping)
    from distill_core import device, pipeline

    device.take_part(os.getpid(), workers)
    device.use_all_cores()
    pipeline.warm_up()


_stops: list[Event] = []
"""In a process of the pool the one event that ends all work."""


def _heed() -> None:
    """Ends work besides runs once all work is to stop. Raises Interrupted."""
    if any(stop.is_set() for stop in _stops):
        raise Interrupted("The sweep was stopped.")


def _end_with_driver() -> None:
    """Interrupts this process once its driver has died: its pool would keep it for ever."""
    driver = parent_process()
    if driver is not None:
        wait_for([driver.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_SECONDS)
        os._exit(1)


def train_baseline(home: Path, config: RunConfig, seed: int) -> None:
    """Trains and keeps the baseline that several runs need."""
    from distill_core import baselines, device

    device.use_all_cores()
    device.keep_memory()
    with suppress(Interrupted):
        baselines.have(job_without_run(config, Store(home), _heed), seed)


def train_ahead(home: Path, run_id: str) -> None:
    """Trains the last seeds of a run that another process works on."""
    from safetensors import SafetensorError

    from distill_core import device, events, students
    from distill_core.control import Control
    from distill_core.teaching import prepare_teaching

    device.use_all_cores()
    device.keep_memory()
    store, looked = Store(home), -RUN_LOOK

    def heed() -> None:
        nonlocal looked
        _heed()
        if time.monotonic() - looked >= RUN_LOOK:
            looked = time.monotonic()
            if store.status(run_id).over:
                raise Interrupted("The run has ended.")

    ends = (Interrupted, DistillError, OSError, SafetensorError)
    with suppress(*ends), store.event_log(run_id) as log:  # the run says what is wrong, or has ended

        def tell(event: events.Event) -> None:
            if isinstance(event, events.Epoch):
                log(event)

        job = job_without_run(store.config(run_id), store, heed)
        while (checkpoints := store.checkpoints_beside(run_id, job.context.compute.name)) is None:
            heed()  # the run has only just begun
            time.sleep(BEGUN)
        control = Control(store.wishes(run_id), heed=heed)  # it pauses with the run, and stops where that is to
        control.keeps = True
        context = replace(job.context, emit=tell, checkpoints=checkpoints, control=control)
        students.train_ahead(replace(job, context=context), prepare_teaching(job))


def work(home: Path, run_id: str) -> None:
    """Takes a run to its end."""
    from distill_core import worker

    _heed()
    with suppress(DistillError):  # its folder says why
        worker.work(run_id, Store(home))
