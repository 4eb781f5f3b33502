"""How long a waiting run has to wait: a first-come queue before one or more workers. Needs no PyTorch."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from distill_core.status import Status


@dataclass(frozen=True)
class Outlook:
    """What a waiting run can expect.

    `ahead` counts the runs before it that wait, `working` those at work. `seconds` until it starts are None where a
    paused run has to make way first, since nobody knows when it does.
    """

    ahead: int
    working: int
    seconds: float | None


def outlook(run_id: str, open_runs: Sequence[Status], workers: int, left: Callable[[str], float]) -> Outlook | None:
    """What a waiting run can expect; None for one that does not wait.

    Args:
        open_runs: runs that wait or are at work, in the order of the queue.
        workers: how many runs work at the same time.
        left: seconds of work that a run, waiting or not, has before it.
    """
    waiting = [status.run_id for status in open_runs if status.status == "queued"]
    if run_id not in waiting:
        return None
    ahead = waiting[: waiting.index(run_id)]
    running = [status.run_id for status in open_runs if status.status == "running"]
    paused = sum(status.status == "paused" for status in open_runs)
    free = workers - len(running) - paused
    until = [0.0] * max(free, 0) + [left(working) for working in running]
    heapq.heapify(until)
    for before in ahead:
        if until:
            heapq.heapreplace(until, until[0] + left(before))
    return Outlook(len(ahead), len(running) + paused, until[0] if until else None)
