"""Commands that steer runs of other processes, and that keep a home folder in order."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from distill_core.__main__ import main
from distill_core.config import RunConfig
from distill_core.events import Step
from distill_core.status import short
from distill_core.store import Store
from tests.runs import config_of, made_rows, run, write_csv

ROOT = Path(__file__).parents[1]


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return config_of(
        write_csv(tmp_path / "reviews.csv", made_rows(120)), "training.epochs=150", "training.baseline=false"
    )


@contextmanager
def running(store: Store, config: RunConfig, tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A run of the command line, in a process of its own, whose student has begun to learn."""
    (tmp_path / "config.json").write_text(config.to_json())
    command = [sys.executable, "-m", "distill_core", "run", "--home", str(store.home), "--json"]
    with subprocess.Popen(
        [*command, "--config", str(tmp_path / "config.json")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait(lambda: bool(store.run_ids()))
            (run_id,) = store.run_ids()
            wait(lambda: steps_of(store, run_id) > 0)
            yield run_id, process
        finally:
            process.kill()


def wait(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def steps_of(store: Store, run_id: str) -> int:
    """The last step of the student that was told."""
    events, _ = store.read_events(run_id)
    return max((event.step for _, event in events if isinstance(event, Step) and event.stage == "distil"), default=0)


def command(store: Store, *words: str) -> int:
    return main([*words, "--home", str(store.home)])


def test_a_run_of_another_process_is_paused_stepped_and_kept(store: Store, config: RunConfig, tmp_path: Path) -> None:
    with running(store, config, tmp_path) as (run_id, process):
        assert command(store, "pause", short(run_id)) == 0
        wait(lambda: store.status(run_id).status == "paused")
        for _ in range(3):
            before = steps_of(store, run_id)
            assert command(store, "step", run_id) == 0
            wait(lambda before=before: steps_of(store, run_id) > before)  # type: ignore[misc]
        stood = steps_of(store, run_id)
        wait(lambda: (store.batch(run_id) or {}).get("step") == stood)
        assert command(store, "step", run_id, "--epoch") == 0
        wait(lambda: steps_of(store, run_id) > stood)
        assert command(store, "resume", run_id) == 0
        wait(lambda: store.status(run_id).status == "running")
        assert command(store, "stop", run_id) == 0
        said, _ = process.communicate(timeout=60)
    result = json.loads(said.splitlines()[-1])
    assert stood < result["stopped"]["step"] < result["stopped"]["steps"]
    assert process.returncode == 0


def test_ctrl_c_interrupts_a_run_and_says_how_to_go_on(
    store: Store, config: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(store, config, tmp_path) as (run_id, process):
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert told.splitlines()[-1] == f"run {run_id} was interrupted; go on with: resume {run_id}"
    assert store.status(run_id).status == "interrupted"
    before = steps_of(store, run_id)
    assert command(store, "resume", run_id, "--json") == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["status"], result["stopped"]) == ("finished", None)
    assert steps_of(store, run_id) > before


def test_a_run_is_discarded(store: Store, config: RunConfig, tmp_path: Path) -> None:
    with running(store, config, tmp_path) as (run_id, process):
        assert command(store, "stop", run_id, "--discard") == 0
        process.communicate(timeout=60)
    assert store.status(run_id).status == "cancelled"
    assert not (store.run_folder(run_id) / "checkpoint").exists()


@pytest.fixture
def finished(store: Store, tmp_path: Path) -> str:
    return run(store, config_of(write_csv(tmp_path / "reviews.csv", made_rows(60)))).run_id


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("pause",), "must be at work to pause, got '{run}' which is finished"),
        (("step",), "must be at work to take one batch"),
        (("resume",), "must be at work to go on"),
        (("stop",), "must be at work to stop and keep its student"),
    ],
)
def test_steering_a_run_that_is_over_is_a_mistake(
    store: Store, finished: str, words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(store, *words, finished) == 2
    assert says.format(run=finished) in capsys.readouterr().err


def test_a_run_is_deleted_and_brought_back(store: Store, finished: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(store, "delete", short(finished)) == 0
    assert f"restore {finished}" in capsys.readouterr().err
    assert store.run_ids() == []
    assert command(store, "restore", finished) == 0
    assert store.run_ids() == [finished]
    assert command(store, "restore", finished) == 2
    assert "must lie in the trash" in capsys.readouterr().err


def test_a_run_moves_to_another_lab(
    store: Store, finished: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, other = tmp_path / "run.zip", Store(tmp_path / "other")
    assert command(store, "export", finished, str(file)) == 0
    assert command(other, "import", str(file), "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"run_id": finished}
    assert other.result(finished) == store.result(finished)
    assert command(other, "import", str(tmp_path / "none.zip")) == 2
    assert "check the path" in capsys.readouterr().err


def test_storage_is_measured_and_cleaned(store: Store, finished: str, capsys: pytest.CaptureFixture[str]) -> None:
    def answer(*words: str) -> dict[str, Any]:
        assert command(store, "storage", *words, "--json") == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    command(store, "delete", finished)
    before = answer()
    assert before["bytes"]["trash"] > 0
    assert answer("--clean", "trash")["freed"] > 0
    assert answer()["bytes"]["trash"] == 0
    assert command(store, "storage") == 0
    assert "used" in capsys.readouterr().out
    assert command(store, "storage", "--clean", "everything") == 2


def test_limits_are_shown_and_mistakes_in_them_named(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.home.mkdir(parents=True)
    (store.home / "limits.json").write_text('{"workers": 3}')
    assert command(store, "limits", "--json") == 0
    assert json.loads(capsys.readouterr().out)["workers"] == 3
    (store.home / "limits.json").write_text('{"workers": "many"}')
    assert command(store, "limits") == 2
    assert "workers in limits.json is wrong" in capsys.readouterr().err
