"""Forty sessions for forty minutes, and whether the lab's memory grows: `python -m tests.load.soak --minutes 40`.

Prints a line a minute. The exit status is 1 if a session met an error, if updates came too late, or if the server's
memory grew from the tenth minute to the last by more than `GROWTH_MB`.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.load.sessions import (
    Lab,
    Session,
    Typist,
    Watcher,
    busy_lab,
    percentile,
    present,
    resident_mb,
    settled,
    start_long_run,
    steps_per_second,
)

GROWTH_MB = 32.0
"""A run of 30 more minutes has 18,000 more step events of about 0.4 KB, 7 MB if held once, and a heap breathes by a few
per cent. Forty sessions that each held the events would add 280 MB, a leak of 1 KB an update 36 MB."""
YOUNG = 0.25
"""Part of the soak before memory is compared: the tenth of forty minutes."""
UPDATE_LIMIT = 1.5
LONG = ("student.size=XL",)
"""A wide student, so that its 500 epochs last."""


@dataclass(frozen=True)
class Minute:
    """What was seen in one minute."""

    updates: int
    p50: float
    p95: float
    errors: int
    memory: float
    speed: float

    def __str__(self) -> str:
        return (
            f"{self.updates:5} updates  p50 {self.p50:5.2f} s  p95 {self.p95:5.2f} s  {self.errors} errors  "
            f"{self.memory:6.1f} MB  {self.speed:5.1f} steps/s"
        )


class Crowd:
    """People who come, and come again for the next run when the one they watch is over."""

    def __init__(self, lab: Lab, watchers: int, typists: int) -> None:
        self.lab, self.run_id = lab, lab.live
        self.watchers = watchers
        self.typing = [Typist.of(lab.address, lab.finished, lab.labels()) for _ in range(typists)]
        self.watching: list[Watcher] = []
        self.errors: list[str] = []

    @property
    def sessions(self) -> list[Session]:
        """All that are open now."""
        people: list[Watcher | Typist] = [*self.watching, *self.typing]
        return [person.session for person in people]

    async def watch(self, places: AsyncExitStack) -> None:
        """Opens the run's page in a session for each watcher."""
        self.watching = [Watcher.of(self.lab.address, self.run_id) for _ in range(self.watchers)]
        await places.enter_async_context(present(self.watching))
        await settled(self.watching)

    async def follow(self, places: AsyncExitStack) -> None:
        """Starts a new run and lets the watchers go there if the old one is over."""
        if not self.lab.store.status(self.run_id).over:
            return
        await places.aclose()
        self.collect()
        self.run_id = await asyncio.to_thread(start_long_run, self.lab.store, *LONG)
        print(f"next run: {self.run_id}")
        await self.watch(places)

    def collect(self) -> list[float]:
        """The updates since this was last called."""
        updates = [update for session in self.sessions for update in session.updates]
        for session in self.sessions:
            self.errors += session.errors
            session.updates.clear()
            session.errors.clear()
        return updates


async def soak(
    lab: Lab, minutes: float, watchers: int, typists: int, every: float = 60.0
) -> tuple[list[Minute], Crowd]:
    """Keeps a lab busy.

    Args:
        every: seconds that a line of the report stands for.
    """
    crowd, seen = Crowd(lab, watchers, typists), list[Minute]()
    async with AsyncExitStack() as watching, present(crowd.typing):
        await crowd.watch(watching)
        crowd.collect()
        began = time.monotonic()
        while time.monotonic() - began < 60 * minutes:
            _, offset = lab.store.read_events(crowd.run_id)
            watched = crowd.run_id
            await asyncio.sleep(every)
            found, _ = lab.store.read_events(watched, offset)
            updates = crowd.collect()
            p50, p95 = percentile(updates, 0.5), percentile(updates, 0.95)
            memory = resident_mb(lab.server)
            seen.append(Minute(len(updates), p50, p95, len(crowd.errors), memory, steps_per_second(found)))
            print(f"{(time.monotonic() - began) / 60:5.1f} min  {seen[-1]}", flush=True)
            await crowd.follow(watching)
    crowd.collect()
    return seen, crowd


def growth(memory: Sequence[float]) -> float:
    """By how many MB a straight line through the measurements rises from the first to the last."""
    if len(memory) < 2:
        return 0.0
    return statistics.linear_regression(range(len(memory)), memory).slope * (len(memory) - 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=40.0, help="how long (default: 40)")
    parser.add_argument("--watchers", type=int, default=30, help="sessions that watch one run (default: 30)")
    parser.add_argument("--typists", type=int, default=10, help="sessions that type in Compare (default: 10)")
    options = parser.parse_args()
    every = min(60.0, 3.0 * options.minutes)  # a short soak has twenty lines too
    with tempfile.TemporaryDirectory() as home, busy_lab(Path(home), *LONG) as lab:
        seen, crowd = asyncio.run(soak(lab, options.minutes, options.watchers, options.typists, every))
    return verdict(seen, crowd.errors)


def verdict(seen: Sequence[Minute], errors: Sequence[str]) -> int:
    """Prints what the soak has shown; 1 if that is not good enough."""
    memory = [minute.memory for minute in seen[int(YOUNG * len(seen)) :]]
    grown, late = growth(memory), sum(minute.p95 > UPDATE_LIMIT for minute in seen)
    print(f"memory {memory[0]:.0f} to {memory[-1]:.0f} MB, on a straight line {grown:+.1f} MB (limit {GROWTH_MB:.0f})")
    print(f"{len(errors)} errors; p95 above {UPDATE_LIMIT} s in {late} of {len(seen)} lines")
    for error in sorted(set(errors)):
        print(f"  {errors.count(error)} × {error}")
    return int(bool(errors) or grown > GROWTH_MB or late > 0.05 * len(seen))


if __name__ == "__main__":
    sys.exit(main())
