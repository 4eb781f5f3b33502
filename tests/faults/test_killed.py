"""A worker killed at any moment loses nothing beyond its last checkpoint; its run ends as if nothing had been."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from distill_core.config import RunConfig
from distill_core.events import History, RunStarted
from distill_core.store import Store
from tests.faults.nursery import Nursery, nursery
from tests.runs import config_of, made_rows, write_csv

KINDS = {
    "all stages": (
        "teacher.pretrain=true",
        "teacher.pretrain_epochs=2",
        "teacher.size=S",
        "training.augment=1",
        "training.assistant=XS",
        "training.seeds=2",
        "student.word_vectors=teacher",
        "student.dropout=0.2",
        "objective.beta_ramp=0.3",
    ),
    "joint, averaged weights": ("objective.mode=joint", "training.average_weights=true", "student.kind=gru"),
}
KILLS = {"all stages": 8, "joint, averaged weights": 24}


@dataclass(frozen=True)
class Sample:
    """A configuration, and what a run of it that nobody disturbed has left behind."""

    config: RunConfig
    expected: dict[str, Any]
    seconds: float
    kills: int


@pytest.fixture(scope="module")
def hatchery() -> Iterator[Nursery]:
    with nursery() as started:
        yield started


@pytest.fixture(scope="module", params=list(KINDS))
def sample(request: pytest.FixtureRequest, hatchery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    folder = tmp_path_factory.mktemp("undisturbed")
    file = write_csv(folder / "reviews.csv", made_rows(96))
    config = config_of(file, "training.epochs=3", "teacher.epochs=3", *KINDS[request.param])
    store = Store(folder / "home")
    run_id = store.create_run(config)
    began = time.monotonic()
    assert hatchery.finish(store.home, run_id) == 0, store.log_tail(run_id, 30)
    return Sample(config, left_behind(store, run_id), time.monotonic() - began, KILLS[request.param])


def left_behind(store: Store, run_id: str) -> dict[str, Any]:
    """A run's result without times, its weights, and the accuracies of its epochs."""
    result = json.loads(json.dumps(store.result(run_id)))
    for entry in (result["teacher"], result["baseline"], result["student"]):
        entry.pop("latency_ms")
    weights = {file.name: file.read_bytes() for file in store.run_folder(run_id).glob("*.safetensors")}
    history = history_of(store, run_id)
    epochs = {stage: progress.epochs for stage, progress in history.progress.items()}
    return {
        "result": {name: value for name, value in result.items() if name not in ("run_id", "seconds")},
        "stages": list(result["seconds"]),
        "weights": weights,
        "epochs": epochs,
    }


def history_of(store: Store, run_id: str) -> History:
    history = History()
    history.feed(store.read_events(run_id)[0])
    return history


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_bit_for_bit_as_one_that_was_not(
    sample: Sample, hatchery: Nursery, tmp_path: Path
) -> None:
    chance, kills, number = random.Random(11), 0, 0
    while kills < sample.kills:
        store = Store(tmp_path / f"home-{number}")
        number += 1
        run_id = store.create_run(sample.config)
        kills += finish_in_spite_of_kills(store, run_id, hatchery, chance, sample.seconds)
        assert store.status(run_id).status == "finished"
        assert left_behind(store, run_id) == sample.expected
        assert not (store.run_folder(run_id) / "checkpoint").exists()


def finish_in_spite_of_kills(
    store: Store, run_id: str, hatchery: Nursery, chance: random.Random, seconds: float
) -> int:
    """Kills a run's workers until one gets to the end; returns how many did not."""
    kills = 0
    while True:
        clock = chance.choice([0.0, 0.0, -86_400.0, 3600.0])  # a clock may be set between two lives
        pid = hatchery.start(store.home, run_id, interval=chance.choice([60.0, 0.2, 0.0]), clock=clock)
        # Longer now and then than a run takes, so that each comes to its end some day.
        time.sleep(chance.uniform(0.0, chance.choice([0.2, 0.5, 1.6])) * seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        if hatchery.wait() == 0:
            return kills
        kills += 1
        if store.status(run_id).final:  # killed between the end of the run and that of its process
            store.drop_checkpoints(run_id)  # as an executor does that buries it
            return kills
        starts = sum(isinstance(event, RunStarted) for _, event in store.read_events(run_id)[0])
        if starts:
            assert store.status(run_id).status == "interrupted"
        assert starts <= kills
