"""What all browser sessions see of a sweep, read once for all of them. No Streamlit here."""

from __future__ import annotations

import calendar
import itertools
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

from distill_core import files
from distill_core.errors import DistillError
from distill_core.status import short
from distill_core.store import Store
from distill_core.sweep.cells import ENDED, Cell
from distill_core.sweep.questions import QUESTIONS
from distill_core.sweep.record import Sweeps, SweepStatus, SweepWish
from distill_core.sweep.space import SweepConfig
from pages import _sweep_axes

KEPT = 32
"""Sweeps that are remembered."""
Made = TypeVar("Made")


@dataclass(frozen=True)
class View:
    """A sweep at one moment. `version` is another number whenever its settings or cells are others."""

    status: SweepStatus
    config: SweepConfig
    cells: Sequence[Cell]
    wish: SweepWish
    version: int

    @property
    def sweep_id(self) -> str:
        """Its id."""
        return self.status.sweep_id

    @property
    def ended(self) -> int:
        """How many cells nothing more is going to happen to, unless somebody resumes the sweep."""
        return sum(cell.state in ENDED for cell in self.cells)


@dataclass
class _Reading:
    """What was read of a sweep, and what was made of that."""

    stamp: int
    config: SweepConfig
    cells: list[Cell]
    version: int
    made: dict[Hashable, Any] = field(default_factory=dict)


_versions = itertools.count(1)
_sweeps: dict[Path, Sweeps] = {}
_readings: OrderedDict[tuple[Path, str], _Reading] = OrderedDict()
_lock = threading.Lock()


def sweeps(store: Store) -> Sweeps:
    """The sweeps of a home folder, whose cells are read on from where they were left."""
    return _sweeps.setdefault(store.home, Sweeps(store))


def view(store: Store, sweep_id: str) -> View:
    """The sweep as it stands. Raises RunError, ConfigError: it cannot be read."""
    own = sweeps(store)
    with _lock:
        status = own.status(sweep_id)
        reading = _read(own, store.home, sweep_id)
    return View(status, reading.config, reading.cells, own.wish(sweep_id), reading.version)


def _read(own: Sweeps, home: Path, sweep_id: str) -> _Reading:
    key, stamp = (home, sweep_id), _stamp(own.folder(sweep_id))
    known = _readings.get(key)
    config = known.config if known is not None and known.stamp == stamp else own.config(sweep_id)
    cells = own.cells(sweep_id)
    if known is None or known.config is not config or known.cells != cells:
        _readings[key] = known = _Reading(stamp, config, cells, next(_versions))
    _readings.move_to_end(key)
    while len(_readings) > KEPT:
        _readings.popitem(last=False)
    return known


def _stamp(folder: Path) -> int:
    try:
        return (folder / "sweep.json").stat().st_mtime_ns
    except OSError:
        return 0


def made(store: Store, seen: View, key: Hashable, make: Callable[[], Made]) -> Made:
    """Something that is made of a sweep's cells, once for all sessions until the cells have changed."""
    reading = _readings.get((store.home, seen.sweep_id))
    if reading is None or reading.version != seen.version:
        return make()
    if key not in reading.made:
        reading.made[key] = make()
    return cast(Made, reading.made[key])


# Names


def names(store: Store) -> dict[str, str]:
    """What to call each sweep, by id, latest first; by the end of its id too where two have one name."""
    own = sweeps(store)
    plain = {sweep_id: _name(own.folder(sweep_id), _stamp(own.folder(sweep_id))) for sweep_id in reversed(own.ids())}
    times = Counter(plain.values())
    return {found: name if times[name] == 1 else f"{name} · {short(found)}" for found, name in plain.items()}


@lru_cache(maxsize=4096)
def _name(folder: Path, stamp: int) -> str:
    """The question or the axes, and when; without checking each cell as reading the settings does."""
    began = calendar.timegm(time.strptime(folder.name[:15], "%Y%m%d-%H%M%S"))
    when = time.strftime("%d %b %H:%M", time.localtime(began))
    try:
        told = files.load_json(folder / "sweep.json")
        asked = QUESTIONS.get(told.get("question") or "")
        what = asked.title if asked is not None else _sweep_axes.title([axis["field"] for axis in told["axes"]])
    except (DistillError, LookupError, TypeError, AttributeError):
        what = "A sweep that cannot be read"
    return f"{what} · {when}"
