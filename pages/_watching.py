"""What all browser sessions see of a run, read once for all of them: forty people may watch the same one."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from distill_core import estimate, queueing
from distill_core.config import RunConfig
from distill_core.control import Wish
from distill_core.errors import DistillError
from distill_core.events import History
from distill_core.executor import executor_of
from distill_core.queueing import Outlook
from distill_core.status import Status
from distill_core.store import Store
from pages import _figures

FRESH = 0.2
"""Seconds for which what was read is taken to be so still."""
ESTIMATED = 5.0
"""Seconds after which the times to expect are worked out again."""
KEPT = 64
"""Runs that are remembered."""
INK = "var(--st-text-color)"
"""The colour of text in whatever theme a browser shows."""
WATCHING = 10.0
"""Seconds after its last look for which a session counts as one that watches."""


@dataclass(frozen=True)
class View:
    """A run at one moment. `expected` has the seconds of each stage, `outlook` what a waiting run can expect."""

    status: Status
    config: RunConfig
    history: History
    wish: Wish
    expected: Mapping[str, float]
    outlook: Outlook | None
    batch: Mapping[str, Any] | None


@dataclass
class _Reading:
    """How far a run has been read, and what was made of it."""

    config: RunConfig
    lock: threading.Lock = field(default_factory=threading.Lock)
    history: History = field(default_factory=History)
    offset: int = 0
    view: View | None = None
    viewed: float = 0.0
    expected: Mapping[str, float] = field(default_factory=dict)
    estimated: float = -ESTIMATED
    specs: dict[str | None, tuple[int, dict[str, Any]]] = field(default_factory=dict)


_readings: OrderedDict[tuple[str, str], _Reading] = OrderedDict()
_readings_lock = threading.Lock()
_looks: dict[str, float] = {}


def view(store: Store, run_id: str) -> View:
    """The run as it stands, at most a moment old. Raises RunError, ConfigError."""
    reading = _reading_of(store, run_id)
    with reading.lock:
        now = time.monotonic()
        if reading.view is None or now - reading.viewed > FRESH:
            reading.view, reading.viewed = _look(store, run_id, reading), now
        seen = reading.view
    # Others are looked at only once this one's lock is free: they may look at this one.
    return replace(seen, outlook=_outlook(store, run_id)) if seen.status.status == "queued" else seen


def is_live(store: Store, run_id: str) -> bool:
    """Whether the run can be read, and waits or works."""
    try:
        return not view(store, run_id).status.over
    except DistillError:
        return False


def chart(store: Store, run_id: str, stage: str | None) -> dict[str, Any]:
    """The loss chart of a stage, or for None that of the accuracies, as Plotly's JSON; made once for all sessions."""
    reading = _reading_of(store, run_id)
    history = view(store, run_id).history
    with reading.lock:
        made, spec = reading.specs.get(stage, (-1, {}))
        if made != history.read:
            spec = (
                _figures.accuracy_chart(history, reading.config)
                if stage is None
                else _figures.loss_chart(history, reading.config, stage, INK)
            )
            reading.specs[stage] = history.read, spec
        return spec


def watchers(session: str) -> int:
    """How many sessions watch a run at present; this one does."""
    now = time.monotonic()
    _looks[session] = now
    for other, looked in list(_looks.items()):
        if now - looked > WATCHING:
            _looks.pop(other, None)
    return len(_looks)


def _reading_of(store: Store, run_id: str) -> _Reading:
    with _readings_lock:
        key = str(store.home), run_id
        if key not in _readings:
            _readings[key] = _Reading(store.config(run_id))
        _readings.move_to_end(key)
        while len(_readings) > KEPT:
            _readings.popitem(last=False)
        return _readings[key]


def _look(store: Store, run_id: str, reading: _Reading) -> View:
    status = store.status(run_id)
    events, reading.offset = store.read_events(run_id, reading.offset)
    reading.history.feed(events)
    waits = status.status == "queued"
    # What a run under way was expected to take stays so: otherwise its own teacher, once kept, would count as none.
    if (waits and time.monotonic() - reading.estimated > ESTIMATED) or not (reading.expected or status.over):
        reading.expected, reading.estimated = _expected(reading.config, store), time.monotonic()
    before = reading.view
    history = before.history if before is not None and not events else reading.history.copy()
    return View(
        status,
        reading.config,
        history,
        store.wish(run_id),
        reading.expected,
        None,
        _batch(store, run_id) if status.status == "paused" else None,
    )


def _batch(store: Store, run_id: str) -> Mapping[str, Any] | None:
    """The batch that the latest wish has granted; none that is older."""
    batch = store.batch(run_id)
    return batch if batch is not None and batch.get("wish") == store.wish(run_id).number else None


def _expected(config: RunConfig, store: Store) -> Mapping[str, float]:
    return estimate.seconds_by_stage(config, estimate.past_profile(config, store), store)


def _outlook(store: Store, run_id: str) -> Outlook | None:
    def left(other: str) -> float:
        if other == run_id:
            return 0.0
        try:
            seen = view(store, other)
        except DistillError:  # how long one takes that cannot be read is unknown
            return 0.0
        return estimate.remaining(seen.history, seen.expected)[1]

    executor = executor_of(store)
    return queueing.outlook(run_id, executor.store.open_runs(), executor.workers, left)


def forget(store: Store, run_id: str) -> None:
    """Has the run looked at anew: something has just been asked of it."""
    reading = _readings.get((str(store.home), run_id))
    if reading is not None:
        with reading.lock:
            reading.viewed = -FRESH
