"""Many runs on one machine: their teachers first, with all cores, then a process a core that takes run after run.

A small student's training step is too small for two cores to share, but two students are no trouble to each other. A
process loads PyTorch once, and all runs of one teacher start at their student.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

from distill_core.errors import DistillError
from distill_core.store import Store


def run_all(
    store: Store, run_ids: Sequence[str], *, workers: int | None = None, tell: Callable[[str], None] = lambda run: None
) -> None:
    """Takes queued or interrupted runs to their end; how each ended is in its folder.

    Args:
        workers: processes, by default one a core; each computes on its part of the cores.
        tell: hears the id of each run that has ended, as it ends.

    Raises:
        DistillError: the data or a teacher cannot be used; no run has begun then.
        BrokenProcessPool: a process was killed; its run can be resumed, and so can those that waited.
    """
    from distill_core import device

    prepare(store, run_ids)
    count = min(workers or device.cores(), len(run_ids))
    with ProcessPoolExecutor(count, get_context("spawn"), _take_part, (count,)) as processes:
        waiting = {processes.submit(_work, store.home, run_id): run_id for run_id in run_ids}
        for ended in as_completed(waiting):
            ended.result()
            tell(waiting[ended])


def prepare(store: Store, run_ids: Sequence[str]) -> None:
    """Reads the data and trains the teachers of runs, each once, in this process."""
    from distill_core import device
    from distill_core.job import Job
    from distill_core.teaching import prepare_data, prepare_teaching
    from distill_core.training.loop import Context

    device.use_all_cores()
    for run_id in run_ids:
        config = store.config(run_id)
        compute = device.choose(config.training.precision, encoder=config.teacher.kind == "pretrained")
        context = Context(compute, emit=lambda event: None)
        prepare_teaching(Job(run_id, store, config, prepare_data(config, store), context))


def _take_part(workers: int) -> None:
    """Sets a process up before it loads PyTorch."""
    from distill_core import openmp

    openmp.sleep_soon()
    from distill_core import device, pipeline

    device.take_part(int(os.getpid()), workers)
    pipeline.warm_up()


def _work(home: Path, run_id: str) -> None:
    from distill_core.worker import work

    with suppress(DistillError):  # its folder says why
        work(run_id, Store(home))
