"""A process that has its imports behind it and forks a worker for each order, so that many can be killed quickly.

Reads one JSON order a line, `{"home", "run_id", "interval", "clock"}`; answers with the worker's process id, then with
its exit status once it has ended (negative for a signal). `clock` is added to what the worker takes for the time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]


class Nursery:
    """Starts workers one after the other."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._orders: IO[str] = process.stdin
        self._answers: IO[str] = process.stdout

    def start(self, home: Path, run_id: str, *, interval: float = 60.0, clock: float = 0.0) -> int:
        """Has a worker begin on a run; returns its process id.

        Args:
            interval: seconds between two checkpoints within an epoch.
        """
        order = {"home": str(home), "run_id": run_id, "interval": interval, "clock": clock}
        print(json.dumps(order), file=self._orders, flush=True)
        return int(self._answers.readline())

    def wait(self) -> int:
        """The exit status of the worker that was started last."""
        return int(self._answers.readline())

    def finish(self, home: Path, run_id: str, **options: Any) -> int:
        """Has a worker take a run to its end."""
        self.start(home, run_id, **options)
        return self.wait()


@contextmanager
def nursery() -> Iterator[Nursery]:
    """A nursery for a while."""
    command = [sys.executable, "-m", "tests.faults.nursery"]
    environment = {**os.environ, "GOMP_SPINCOUNT": "1000"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Nursery(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout=60)


def _serve() -> None:
    import torch

    from distill_core import pipeline
    from distill_core.analysis import metrics

    # What takes seconds to import at a first step and a first measurement is there before the forks; with one thread,
    # since a process that has others must not fork.
    torch.set_num_threads(1)
    pipeline.warm_up()
    metrics.quality(torch.randn(8, 2), torch.arange(8) % 2)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _work(order)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _work(order: dict[str, Any]) -> None:
    from distill_core import checkpoints
    from distill_core.store import Store
    from distill_core.worker import work

    checkpoints.INTERVAL = order["interval"]
    if order["clock"]:
        now = time.time
        time.time = lambda: now() + order["clock"]
    store, status = Store(Path(order["home"])), 1
    try:
        store.divert_output(order["run_id"])
        status = 0 if work(order["run_id"], store) is not None else 3
    finally:
        os._exit(status)


if __name__ == "__main__":
    _serve()
