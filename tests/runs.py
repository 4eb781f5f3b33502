"""Whole runs on made-up files, small enough for a second each."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill_core.config import RunConfig
from distill_core.control import Control
from distill_core.events import Event, History, StageFinished, StageStarted
from distill_core.presets import load
from distill_core.store import Store

WORDS = {
    "bad": ("dull", "weak", "tired", "clumsy"),
    "good": ("bright", "warm", "clever", "moving"),
    "odd": ("weird", "unheard", "strange", "queer"),
}
NOUNS = ("film", "plot", "cast", "scene", "ending", "music", "story", "camera")
SMALL = (
    "data.min_frequency=1",
    "teacher.size=XS",
    "teacher.pretrain=false",
    "teacher.epochs=4",
    "teacher.learning_rate=0.02",
    "teacher.batch_size=8",
    "student.size=XS",
    "training.epochs=4",
    "training.learning_rate=0.02",
    "training.batch_size=8",
    "training.precision=float32",
)
"""Settings for a run of a second."""


def made_rows(count: int, labels: Sequence[str] = ("bad", "good"), seed: int = 5) -> list[dict[str, str]]:
    """Texts of 3 to 20 words, no two the same, whose adjectives give the label away."""
    chance = random.Random(seed)
    rows: dict[str, str] = {}
    while len(rows) < count:
        label = labels[len(rows) % len(labels)]
        clauses = [f"a {chance.choice(WORDS[label])} {chance.choice(NOUNS)}" for _ in range(chance.randint(1, 5))]
        rows.setdefault(" and ".join(clauses), label)
    return [{"text": text, "label": label} for text, label in rows.items()]


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A csv file whose columns are the keys of the first row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def config_of(path: Path, *settings: str) -> RunConfig:
    """A small run on a file."""
    return load(settings=["data.name=csv", f"data.path={path}", *SMALL, *settings])


@dataclass(frozen=True)
class Finished:
    """A run and what it has left behind."""

    run_id: str
    config: RunConfig
    result: dict[str, Any]
    events: list[Event]

    @property
    def history(self) -> History:
        """What a reader makes of its events."""
        history = History()
        history.feed((float(number), event) for number, event in enumerate(self.events))
        return history


def run(store: Store, config: RunConfig, check: Callable[[], None] = lambda: None) -> Finished:
    """Takes a run to its end in this process, without the bookkeeping of a worker."""
    from distill_core import pipeline

    run_id, events = store.create_run(config, state="running"), list[Event]()
    result = pipeline.run(run_id, store, events.append, Control(heed=check))
    store.update_status(run_id, status="finished")
    return Finished(run_id, config, result, events)


def timeless(entry: dict[str, Any] | None) -> dict[str, Any] | None:
    """A model's entry without its latency, which no two runs share."""
    return None if entry is None else {name: value for name, value in entry.items() if name != "latency_ms"}


def stages_begun(events: Sequence[Event]) -> list[str]:
    """Stages that did something, in order."""
    return [event.stage for event in events if isinstance(event, StageStarted) and not event.cached]


def stages_found(events: Sequence[Event]) -> list[str]:
    """Stages whose outcome lay in the home folder."""
    return [event.stage for event in events if isinstance(event, StageStarted) and event.cached]


def current_stage(events: Sequence[Event]) -> str | None:
    """The stage that is under way."""
    for event in reversed(events):
        if isinstance(event, StageFinished):
            return None
        if isinstance(event, StageStarted):
            return event.stage
    return None
