"""A server that is killed, and a home folder in which anything may be broken: the lab starts and shows the rest."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from distill_core.events import RunStarted
from distill_core.store import Store
from tests.faults.test_killed import history_of
from tests.runs import config_of, made_rows, write_csv

ROOT = Path(__file__).parents[2]
SERVER = """
import sys, time
from pathlib import Path
from distill_core.executor import Executor
from distill_core.store import Store
executor = Executor(Store(Path(sys.argv[1])))
print("serving", flush=True)
time.sleep(600)
"""


def served(home: Path) -> subprocess.Popen[str]:
    """A process that starts the runs of a home folder, as a lab's server does."""
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(home)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert server.stdout.readline() == "serving\n"
    return server


def kill(server: subprocess.Popen[str]) -> None:
    server.send_signal(signal.SIGKILL)
    server.communicate()


def wait(condition: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


@pytest.mark.slow
def test_servers_killed_at_random_moments_lose_no_run_and_start_none_twice(tmp_path: Path) -> None:
    file, chance = write_csv(tmp_path / "reviews.csv", made_rows(60)), random.Random(4)
    store = Store(tmp_path / "home")
    runs = [store.create_run(config_of(file, f"training.seed={seed}")) for seed in range(4)]
    for _ in range(6):
        server = served(store.home)
        time.sleep(chance.uniform(0.0, 4.0))
        kill(server)
    server = served(store.home)
    wait(lambda: all(store.status(run_id).over for run_id in runs))
    kill(server)
    for run_id in runs:
        assert store.status(run_id).status == "finished", store.status(run_id)
        starts = [event for _, event in store.read_events(run_id)[0] if isinstance(event, RunStarted)]
        assert len(starts) == 1


@pytest.mark.slow
def test_a_reboot_in_the_middle_of_a_run_leaves_one_that_resumes(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "reviews.csv", made_rows(60))
    store = Store(tmp_path / "home")
    run_id = store.create_run(config_of(file, "training.epochs=60"))
    server = served(store.home)
    wait(lambda: "distil" in history_of(store, run_id).progress)
    kill(server)
    pid = store.status(run_id).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait(lambda: not store.is_claimed(run_id))
    assert store.status(run_id).status == "interrupted"
    store.requeue(run_id)
    server = served(store.home)
    wait(lambda: store.status(run_id).over)
    kill(server)
    assert store.status(run_id).status == "finished"
    history = history_of(store, run_id)
    assert [epoch.epoch for epoch in history.progress["distil"].epochs] == list(range(1, 61))


@pytest.mark.parametrize("clock", [-86_400.0, -5.0, 86_400.0])
def test_events_whose_clock_jumps_are_read_in_the_order_of_their_lines(tmp_path: Path, clock: float) -> None:
    from distill_core.events import StageFinished, StageStarted, Step, encode

    store = Store(tmp_path / "home")
    run_id = store.create_run(config_of(tmp_path / "reviews.csv"))
    events = [StageStarted("distil", 4), *(Step("distil", n, n, 1.0, 0.5, 2.0, 0.1) for n in (1, 2, 3, 4))]
    with (store.run_folder(run_id) / "events.jsonl").open("w") as file:
        for number, event in enumerate([*events, StageFinished("distil", 2.0, 0.7)]):
            line = json.loads(encode(event))
            line["time"] += clock * (number >= 3)
            file.write(json.dumps(line) + "\n")
    progress = history_of(store, run_id).progress["distil"]
    assert [step.step for step in progress.curve] == [1, 2, 3, 4]
    assert (progress.seconds, progress.fraction) == (2.0, 1.0)
