"""A line for each run, read again only once its files have changed; for all browsers of a server."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from distill_core import comparison
from distill_core.config import RunConfig
from distill_core.data.sources import describe
from distill_core.errors import DistillError
from distill_core.status import AT_WORK, Notes, Status, short
from distill_core.store import Store
from pages import _looks

FILES = ("config.json", "status.json", "result.json", "notes.json")
UNREADABLE = "Unreadable"
NO_NOTES = Notes()
Stamps = tuple[int, ...]
"""What changes when one of a run's files does."""


def _per_cent(share: float | None) -> float | None:
    return None if share is None else 100 * share


@dataclass(frozen=True)
class Row:
    """What is known of a run; without a configuration or a status where its folder cannot be read."""

    run_id: str
    status: Status | None = None
    config: RunConfig | None = None
    result: dict[str, Any] | None = None
    notes: Notes = NO_NOTES

    @property
    def name(self) -> str:
        """What people call the run: its name, else the end of its id."""
        return self.notes.name or short(self.run_id)

    @property
    def over(self) -> bool:
        """Whether nothing works on it or is going to."""
        return self.status is None or self.status.over

    @property
    def finished(self) -> bool:
        """Whether its models can answer."""
        return self.result is not None and self.status is not None and self.status.status == "finished"

    @property
    def state(self) -> str:
        """Its status in words."""
        if self.status is None:
            return UNREADABLE
        return _looks.STATUS_WORDS.get(self.status.status, self.status.status.capitalize())

    @property
    def started(self) -> datetime | None:
        """When somebody asked for it."""
        return None if self.status is None else datetime.fromtimestamp(self.status.created).replace(microsecond=0)

    def accuracy(self, role: str) -> float | None:
        """A model's accuracy on test in per cent."""
        return _per_cent(None if self.result is None else comparison.accuracy(self.result, role))

    def cells(self, names: dict[str, str]) -> dict[str, Any]:
        """The run as a line of the table.

        Args:
            names: what people call the files that they have given to the lab.
        """
        result, config = self.result, self.config
        return {
            "Run": self.name,
            "Status": self.state,
            "Started": self.started,
            "Data": self.data(names),
            "Models": None if config is None else _looks.models(config),
            "Teacher %": self.accuracy("teacher"),
            "Student %": self.accuracy("student"),
            "±": _per_cent(None if result is None else comparison.spread(result, "student")),
            "Alone %": self.accuracy("baseline"),
            "Kept %": _per_cent(None if result is None else result["retention"]),
            "Tags": list(self.notes.tags),
            "β": None if config is None else config.objective.beta,
            "T": None if config is None else config.objective.temperature,
            "Epochs": None if config is None else config.training.epochs,
            "Seeds": None if config is None else config.training.seeds,
        }

    def data(self, names: dict[str, str]) -> str | None:
        """What people call its data set."""
        if self.config is None:
            return None
        path = self.config.data.path
        if self.config.data.name == "csv" and path:
            return names.get(path, Path(path).name)
        return describe(self.config.data).title

    def fits(self, search: str, names: dict[str, str]) -> bool:
        """Whether it has all words of a search in its name, id, tags, note, data set, models or status."""
        cells = self.cells(names)
        state = "" if self.status is None else self.status.status
        said = [self.run_id, state, self.notes.note, *self.notes.tags, *(cells[name] for name in SEARCHED)]
        text = " ".join(str(part) for part in said if part).casefold()
        return all(word in text for word in search.casefold().split())


SEARCHED = ("Run", "Status", "Data", "Models")
COLUMNS = tuple(Row("").cells({}))


def rows(store: Store) -> list[Row]:
    """All runs, latest first."""
    return [row(store, run_id) for run_id in reversed(store.run_ids())]


def row(store: Store, run_id: str) -> Row:
    """One run; whatever is wrong with its folder, a row comes of it."""
    found = _read(store.home, run_id, _stamps(store, run_id))
    if found.status is not None and found.status.status in AT_WORK:
        try:  # whether its worker lives stands in no file
            found = replace(found, status=store.status(run_id))
        except DistillError:
            return Row(run_id, notes=found.notes)
    return found


def _stamps(store: Store, run_id: str) -> Stamps:
    folder, stamps = f"{store.run_folder(run_id)}{os.sep}", []
    for name in FILES:
        try:
            stat = os.stat(folder + name)  # noqa: PTH116 (four for each run at each poll, so microseconds count)
            stamps += [stat.st_mtime_ns, stat.st_size, stat.st_ino]
        except OSError:
            stamps += [0, 0, 0]
    return tuple(stamps)


@lru_cache(maxsize=10_000)
def _read(home: Path, run_id: str, stamps: Stamps) -> Row:
    store = Store(home)
    notes = store.notes(run_id)
    try:
        found = Row(run_id, store.status(run_id), store.config(run_id), store.result(run_id), notes)
        found.cells({})
    except (DistillError, OSError, LookupError, TypeError, ValueError, AttributeError):  # a result of another shape
        return Row(run_id, notes=notes)
    return found
