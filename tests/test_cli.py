"""The command line, run as people run it: in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from distill_core.config import PRESETS
from distill_core.events import STAGES, StageStarted, Step
from distill_core.store import Store

SMALL = ("--set", "data.train_limit=200", "--set", "data.unlabelled_limit=5", "--set", "teacher.size=XS")
FASTER = ("--set", "training.epochs=1", "--set", "teacher.epochs=1", "--set", "student.size=XS")


def core(home: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "distill_core", *arguments, "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)


def last_json(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli") / "home"


@pytest.fixture(scope="module")
def first(home: Path) -> dict[str, Any]:
    result: dict[str, Any] = last_json(core(home, "run", "--preset", "tiny", "--json"))
    return result


def test_run_reports_what_the_contract_promises(first: dict[str, Any]) -> None:
    assert {"run_id", "device", "precision", "dataset", "seed", "sizes", "retention", "gain"} <= first.keys()
    assert first["status"] == "finished"
    assert first["sizes"] == {"train": 400, "val": 1288, "test": 1245, "classes": 2}
    of_all = {"architecture", "parameters", "bytes", "latency_ms", "val_accuracy", "test_accuracy", "macro_f1", "ece"}
    assert of_all | {"nll"} <= first["teacher"].keys()
    for role in ("student", "baseline"):
        assert of_all | {"nll", "agreement", "kl"} <= first[role].keys()
    assert set(first["seconds"]) == set(STAGES)
    assert first["retention"] == first["student"]["test_accuracy"] / first["teacher"]["test_accuracy"]
    assert first["gain"] == first["student"]["test_accuracy"] - first["baseline"]["test_accuracy"]


def test_run_leaves_the_folders_of_the_contract(home: Path, first: dict[str, Any]) -> None:
    folder = home / "runs" / first["run_id"]
    names = {file.name for file in folder.iterdir()}
    weights = {f"{role}.safetensors" for role in ("teacher", "student", "baseline")}
    assert weights | {"config.json", "status.json", "events.jsonl", "result.json", "vocabulary.json"} <= names
    assert json.loads((folder / "result.json").read_text()) == first
    assert all(
        first[role]["bytes"] == (folder / f"{role}.safetensors").stat().st_size for role in ("teacher", "student")
    )


def test_events_name_every_stage_and_come_at_most_ten_a_second(home: Path, first: dict[str, Any]) -> None:
    events, _ = Store(home).read_events(first["run_id"])
    assert [event.stage for _, event in events if isinstance(event, StageStarted)] == list(STAGES)
    times = [when for when, event in events if isinstance(event, Step)]
    assert times
    assert all(sum(start <= when < start + 1 for when in times) <= 11 for start in times)


def test_second_run_takes_teacher_from_the_cache_and_repeats_the_numbers(home: Path, first: dict[str, Any]) -> None:
    second = last_json(core(home, "run", "--preset", "tiny", "--json"))
    assert set(second["seconds"]) == {"baseline", "distil", "test"}
    for role in ("teacher", "student", "baseline"):
        timeless = [{k: v for k, v in run[role].items() if k != "latency_ms"} for run in (first, second)]
        assert timeless[0] == timeless[1]


def test_same_seed_in_another_home_gives_the_same_result(tmp_path: Path, first: dict[str, Any]) -> None:
    again = last_json(core(tmp_path, "run", "--preset", "tiny", "--json"))
    for role in ("teacher", "student", "baseline"):
        timeless = [{k: v for k, v in run[role].items() if k != "latency_ms"} for run in (first, again)]
        assert timeless[0] == timeless[1]


def test_another_seed_gives_another_student(home: Path, first: dict[str, Any]) -> None:
    other = last_json(core(home, "run", "--preset", "tiny", "--set", "training.seed=7", "--json"))
    assert other["student"]["nll"] != first["student"]["nll"]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_runs(home: Path, preset: str) -> None:
    result = last_json(core(home, "run", "--preset", preset, *SMALL, *FASTER, "--json"))
    assert result["status"] == "finished"


def test_stages_can_be_left_out(home: Path) -> None:
    switched = ("--set", "teacher.pretrain=false", "--set", "training.baseline=false")
    result = last_json(core(home, "run", "--preset", "tiny", *switched, "--json"))
    assert result["baseline"] is None
    assert result["gain"] is None
    assert not {"pretrain", "baseline"} & result["seconds"].keys()


def test_config_file_is_overlaid_and_settings_win(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"objective": {"beta": 3, "temperature": 5}, "training": {"epochs": 1}}))
    done = core(home, "run", "--preset", "tiny", "--config", str(file), "--set", "objective.beta=4", "--json")
    config = Store(home).config(last_json(done)["run_id"])
    assert (config.objective.beta, config.objective.temperature, config.training.epochs) == (4, 5, 1)


def test_predict_answers_each_text_in_a_line(home: Path, first: dict[str, Any]) -> None:
    texts = ["a wonderful film", "很好看的电影", "<script>alert(1)</script>", "zzzxq", "film " * 20_000, "🎬🍿"]
    done = core(home, "predict", first["run_id"], *texts)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["text"] for answer in answers] == texts
    for answer in answers:
        assert answer.keys() == {"text", "teacher", "student", "kl", "agree"}
        assert answer["teacher"].keys() == {"fresh", "rotten"}
        assert abs(sum(answer["student"].values()) - 1) < 1e-5
        assert answer["kl"] >= -1e-6


def test_predict_finds_a_run_by_the_end_of_its_id(home: Path, first: dict[str, Any]) -> None:
    done = core(home, "predict", first["run_id"][-6:], "good")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "--set", "objective.temperature=-1"), ("objective.temperature", "-1", "try 1 to 8")),
        (("run", "--set", "objective.betta=2"), ("objective.betta", "2", "objective.beta")),
        (("run", "--set", "training.epochs=many"), ("training.epochs", "many", "try")),
        (("run", "--set", "teacher.size=XXL"), ("teacher.size", "XXL", "'XS'")),
        (("run", "--set", "beta"), ("--set", "beta", "objective.beta=2")),
        (("run", "--preset", "quik"), ("preset", "quik", "quick")),
        (("run", "--config", "missing.json"), ("config", "missing.json", "check the path")),
        (("predict", "nobody", "text"), ("run", "nobody", "runs")),
    ],
)
def test_a_mistake_is_answered_in_one_line_with_status_2(
    tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    done = core(tmp_path, *arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    for word in words:
        assert word in done.stderr
    assert not (tmp_path / "runs").exists()


def test_empty_text_is_a_mistake(home: Path, first: dict[str, Any]) -> None:
    done = core(home, "predict", first["run_id"], "  ")
    assert done.returncode == 2
    assert "text must not be empty" in done.stderr


def test_predict_says_when_a_run_has_no_models_yet(home: Path) -> None:
    waiting = Store(home).create_run(PRESETS["tiny"].config)
    done = core(home, "predict", waiting, "good")
    assert done.returncode == 2
    assert "queued" in done.stderr


def test_failed_run_ends_with_status_1_and_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "tokens").parent.mkdir(exist_ok=True)
    (tmp_path / "tokens").write_text("a file where a folder belongs")
    done = core(tmp_path, "run", "--preset", "tiny")
    assert done.returncode == 1
    store = Store(tmp_path)
    status = store.status(store.run_ids()[0])
    assert status.status == "failed"
    assert status.error is not None
    assert status.error in done.stderr


def test_interrupt_ends_a_run_as_cancelled(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "distill_core", "run", "--set", "teacher.epochs=100", "--home", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        store = Store(tmp_path)
        deadline = time.monotonic() + 60
        while not (store.run_ids() and store.read_events(store.run_ids()[0])[0]) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        asked = time.monotonic()
        assert process.wait(timeout=30) == 1
        assert time.monotonic() - asked < 5
    assert store.status(store.run_ids()[0]).status == "cancelled"


def test_listings_answer_in_json(home: Path, first: dict[str, Any]) -> None:
    runs = last_json(core(home, "runs", "--json"))
    mine = next(run for run in runs if run["run_id"] == first["run_id"])
    assert mine["status"] == "finished"
    assert mine["test_accuracy"] == first["student"]["test_accuracy"]
    assert {preset["name"] for preset in last_json(core(home, "presets", "--json"))} == set(PRESETS)
    assert last_json(core(home, "datasets", "--json"))[0]["found"] is True
    doctor = last_json(core(home, "doctor", "--json"))
    assert doctor["versions"]["torch"].startswith("2.13.0")
    assert doctor["device"]
    assert doctor["precision"] in ("float32", "bfloat16")


def test_home_comes_from_the_environment(tmp_path: Path) -> None:
    environment = {**os.environ, "DISTILL_HOME": str(tmp_path / "elsewhere")}
    command = [sys.executable, "-m", "distill_core", "doctor", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout)["home"] == str(tmp_path / "elsewhere")
