"""The lab under load: forty sessions at once, and what watchers cost the training. `soak` is the long form."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from distill_core.openmp import cores
from tests.load.sessions import (
    Lab,
    Typist,
    Watcher,
    busy_lab,
    cpu_seconds,
    percentile,
    present,
    resident_mb,
    settled,
    steps_per_second,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="memory and processor time are read from /proc"),
]
UPDATE_LIMIT = 1.5
"""Seconds that 95 of 100 page updates may take with forty sessions on two cores."""
GROWTH_LIMIT = 0.15
"""Part by which the server's memory may grow in the 20 s after all have come; `soak` looks for small leaks."""
ROUNDS = 2
PHASE = 5.0
"""Seconds of each phase of the speed comparison."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with busy_lab(tmp_path_factory.mktemp("lab")) as started:
        yield started


@dataclass(frozen=True)
class Crowd:
    """What forty sessions have seen."""

    errors: list[str]
    updates: list[float]
    silent: int
    memory: tuple[float, float]
    answers: list[int]


async def crowd(lab: Lab, watchers: int, typists: int, seconds: float) -> Crowd:
    watching = [Watcher.of(lab.address, lab.live) for _ in range(watchers)]
    typing = [Typist.of(lab.address, lab.finished, lab.labels()) for _ in range(typists)]
    people: list[Watcher | Typist] = [*watching, *typing]
    sessions = [person.session for person in people]
    async with present(people):
        await settled(people)
        began, used, own = resident_mb(lab.server), cpu_seconds(lab.server), time.process_time()
        before = [len(session.updates) for session in sessions]
        await asyncio.sleep(seconds)
        updates = [update for session, had in zip(sessions, before, strict=True) for update in session.updates[had:]]
        silent = sum(len(session.updates) == had for session, had in zip(sessions, before, strict=True))
        ended = resident_mb(lab.server)
        print(
            f"{watchers} watchers, {typists} typists, {seconds:.0f} s: {len(updates)} updates, "
            f"p50 {percentile(updates, 0.5):.2f} s, p95 {percentile(updates, 0.95):.2f} s, "
            f"{1000 * (cpu_seconds(lab.server) - used) / max(len(updates), 1):.0f} ms of the server's processor each, "
            f"the clients used {(time.process_time() - own) / seconds:.2f} of a core, {began:.0f} to {ended:.0f} MB"
        )
    errors = [error for session in sessions for error in session.errors]
    return Crowd(errors, updates, silent, (began, ended), [typist.answers for typist in typing])


def test_forty_sessions_get_their_updates_in_time_and_without_errors(lab: Lab) -> None:
    seen = asyncio.run(crowd(lab, watchers=30, typists=10, seconds=20))
    assert seen.errors == []
    assert seen.silent == 0
    assert min(seen.answers) >= 4
    assert percentile(seen.updates, 0.95) <= UPDATE_LIMIT
    assert seen.memory[1] <= seen.memory[0] * (1 + GROWTH_LIMIT)
    assert not lab.store.status(lab.live).over, "the watched run must last as long as the test"


async def named_again(lab: Lab) -> bool:
    """Whether a late poll brings a browser's interval back that the session, taken over meanwhile, did not send."""
    watcher = Watcher.of(lab.address, lab.live)
    async with present([watcher]):
        await settled([watcher])
        session = watcher.session
        (fragment,) = session._polls
        session._stop_polling(fragment)
        await session.ask(fragment, polls=True)
        return fragment in session._polls


def test_a_page_that_lost_its_interval_polls_again(lab: Lab) -> None:
    assert asyncio.run(named_again(lab))


@dataclass(frozen=True)
class Pace:
    """Steps a second of the long run, and the part of all cores that the server used meanwhile."""

    steps: float
    server: float


async def pace(lab: Lab, watchers: int) -> Pace:
    """That of some seconds while so many watch the run."""
    people = [Watcher.of(lab.address, lab.live) for _ in range(watchers)]
    async with present(people, apart=0.1):
        await settled(people)  # the first drawing of a page is no polling
        _, offset = lab.store.read_events(lab.live)
        began, used = time.monotonic(), cpu_seconds(lab.server)
        await asyncio.sleep(PHASE)
        server = (cpu_seconds(lab.server) - used) / (time.monotonic() - began) / cores()
        found, _ = lab.store.read_events(lab.live, offset)
    assert [error for person in people for error in person.session.errors] == []
    return Pace(steps_per_second(found), server)


async def compared(lab: Lab, watchers: Sequence[int]) -> dict[int, Pace]:
    """For each number of watchers the pace, its steps as a part of those without any, just before and just after."""
    found: dict[int, list[Pace]] = {count: [] for count in watchers}
    alone = await pace(lab, 0)
    for _ in range(ROUNDS):
        for count in watchers:
            watched, again = await pace(lab, count), await pace(lab, 0)
            found[count].append(Pace(watched.steps / statistics.fmean((alone.steps, again.steps)), watched.server))
            alone = again
    print({count: [(round(each.steps, 3), round(each.server, 3)) for each in paces] for count, paces in found.items()})
    return {
        count: Pace(statistics.median(each.steps for each in paces), statistics.median(each.server for each in paces))
        for count, paces in found.items()
    }


def test_watchers_leave_the_training_its_speed(lab: Lab) -> None:
    """What a watcher costs is the server's work; steps differ by a tenth from one phase to the next without any.

    So one watcher is judged by the server's part of the cores alone, and twenty, who wait for the same files, by both.
    """
    kept = asyncio.run(compared(lab, (1, 20)))
    assert kept[1].server <= 0.05
    assert kept[20].server <= 0.20
    assert kept[20].steps >= 0.80
