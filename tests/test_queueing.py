"""How long a waiting run has to wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_core.queueing import Outlook, outlook
from distill_core.status import State, Status

LEFT = {"a": 30.0, "b": 10.0, "c": 5.0, "d": 2.0}


def runs(*states: State) -> list[Status]:
    return [Status(name, state, 0.0) for name, state in zip("abcd", states, strict=False)]


@pytest.mark.parametrize(
    ("states", "workers", "asked", "expected"),
    [
        (("queued",), 1, "a", Outlook(0, 0, 0.0)),
        (("running", "queued"), 1, "b", Outlook(0, 1, 30.0)),
        (("running", "queued", "queued"), 1, "c", Outlook(1, 1, 40.0)),
        (("running", "running", "queued", "queued"), 2, "d", Outlook(1, 2, 15.0)),
        (("running", "queued", "queued"), 2, "c", Outlook(1, 1, 10.0)),
        (("paused", "queued"), 1, "b", Outlook(0, 1, None)),
        (("paused", "running", "queued"), 2, "c", Outlook(0, 2, 10.0)),
        (("running", "queued"), 1, "a", None),
    ],
)
def test_a_waiting_run_knows_its_place_and_time(
    states: tuple[State, ...], workers: int, asked: str, expected: Outlook | None
) -> None:
    assert outlook(asked, runs(*states), workers, LEFT.__getitem__) == expected


@given(seconds=st.lists(st.floats(0, 1e4), min_size=2, max_size=12), workers=st.integers(1, 4))
def test_who_came_later_never_starts_sooner(seconds: list[float], workers: int) -> None:
    queue = [Status(str(place), "queued", 0.0) for place in range(len(seconds))]
    found = [outlook(str(place), queue, workers, lambda name: seconds[int(name)]) for place in range(len(queue))]
    starts = [look.seconds for look in found if look is not None and look.seconds is not None]
    assert len(starts) == len(seconds)
    assert starts == sorted(starts)
    assert starts[:workers] == [0.0] * min(workers, len(starts))
