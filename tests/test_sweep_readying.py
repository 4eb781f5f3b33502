"""The teachers of a sweep are trained by its driver, which needs no PyTorch where they are there already."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import Mock

import pytest

from distill_core import estimate
from distill_core.config import RunConfig
from distill_core.store import TEACHER_LOGITS, Store
from distill_core.sweep import readying
from distill_core.sweep.chores import prepare
from distill_core.sweep.readying import Teachers
from distill_core.sweep.record import Sweeps
from distill_core.sweep.workers import PRELOADED, LocalWorkers
from tests.runs import config_of, made_rows, write_csv
from tests.test_sweep_workers import until_ended

ROOT = Path(__file__).parents[1]


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return config_of(write_csv(tmp_path / "reviews.csv", made_rows(64)), "teacher.epochs=1")


def test_a_teacher_that_is_there_is_not_read_again(
    store: Store, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = list[RunConfig]()

    def noted(store: Store, configs: list[RunConfig], check: object) -> None:
        trained.extend(configs)
        prepare(store, configs)

    monkeypatch.setattr(readying, "prepare", noted)
    for _ in range(2):
        Teachers(store, lambda: None).have(config)
    assert trained == [config]
    (logits,) = (store.home / "teachers").glob(f"*/{TEACHER_LOGITS}")
    logits.unlink()
    teachers = Teachers(store, lambda: None)
    teachers.have(config)
    assert trained == [config, config]
    assert logits.is_file()
    assert teachers.has(config)


def test_an_assistant_is_left_to_the_runs(store: Store, config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    training = config.training.model_copy(update={"assistant": "S"})
    assisted = config.model_copy(update={"training": training})
    monkeypatch.setattr("distill_core.training.student.distil", None)
    teachers = Teachers(store, lambda: None)
    teachers.have(assisted)
    assert teachers.has(assisted)
    assert teachers.has(config)
    assert list((store.home / "teachers").glob(f"*/{TEACHER_LOGITS}"))


@pytest.mark.slow
def test_a_driver_whose_teacher_is_there_never_loads_pytorch(store: Store, config: RunConfig) -> None:
    prepare(store, [config])
    code = f"""
import sys
from pathlib import Path
from distill_core.config import RunConfig
from distill_core.store import Store
from distill_core.sweep.drive import drive
from distill_core.sweep.record import Sweeps
from distill_core.sweep.space import parse_axis, parse_sweep
sweeps = Sweeps(Store(Path({str(store.home)!r})))
base, axes = RunConfig.model_validate_json({config.to_json()!r}), [parse_axis("objective.beta=1,2")]
if __name__ == "__main__":
    print(drive(sweeps.create(parse_sweep({{"base": base, "axes": axes, "seeds": 1}})), sweeps), "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["finished", "False"], done.stderr


def test_what_processes_are_forked_from_has_loaded_all_and_computed_nothing() -> None:
    """A process whose threads have begun to compute cannot be forked."""
    code = (
        f"preloaded = {PRELOADED}"
        + """
import importlib, json, os, sys
import numpy, scipy.special
threads = len(os.listdir("/proc/self/task"))
import torch

def forbidden(*given, **options):
    raise AssertionError("a process that has looked for a GPU cannot be forked")

asked = {name: getattr(torch.cuda, name) for name in ("is_available", "device_count", "init", "_lazy_init")}
for name in asked:
    setattr(torch.cuda, name, forbidden)
for name in preloaded:
    importlib.import_module(name)
for name, function in asked.items():
    setattr(torch.cuda, name, function)
from distill_core import pipeline
begun, loaded = len(os.listdir("/proc/self/task")) - threads, set(sys.modules)
pipeline.warm_up()
print(json.dumps([begun, sorted(set(sys.modules) - loaded)]))
"""
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    begun, loaded_later = json.loads(done.stdout)
    assert begun == 0
    assert [name for name in loaded_later if not name.startswith("torch.profiler")] == []


@pytest.mark.slow
@pytest.mark.parametrize("gpu", [False, True])
def test_processes_are_forked_unless_a_gpu_may_be_there(
    store: Store, monkeypatch: pytest.MonkeyPatch, gpu: bool
) -> None:
    monkeypatch.setattr(estimate, "GPUS", ("null",) if gpu else ())
    workers = LocalWorkers(store, slots=1)
    try:
        parent = workers._pool.submit(os.getppid).result(timeout=60)
    finally:
        workers.close()
    assert (parent == os.getpid()) is gpu


@pytest.mark.slow
def test_what_is_forked_has_pytorch_and_our_pipeline_from_the_first(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "GPUS", ())
    LocalWorkers(store, slots=1).close()
    with ProcessPoolExecutor(1, get_context("forkserver")) as plain:  # one that loads nothing by itself
        loaded = plain.submit(eval, "set(__import__('sys').modules)").result(timeout=60)
    assert loaded >= set(PRELOADED)


@pytest.mark.slow
def test_a_process_that_dies_before_it_can_be_forked_loses_the_run_and_no_more(
    store: Store, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(store, [config])
    run_id = store.create_run(config)
    workers = LocalWorkers(store, slots=1)
    try:
        with monkeypatch.context() as broken:
            broken.setattr(workers._pool, "submit", Mock(side_effect=EOFError("unexpected EOF")))
            workers.submit(run_id)
        assert [one.lost for one in workers.ended(5)] == ["a process of this machine was killed"]
        workers.submit(run_id)
        assert [one.lost for one in until_ended(workers)] == [None]
    finally:
        workers.close()
    assert store.status(run_id).status == "finished"


@pytest.mark.slow
def test_an_interrupt_from_the_terminal_pauses_a_sweep_that_has_only_just_begun(
    store: Store, config: RunConfig
) -> None:
    """It goes to all processes of the terminal, also to the one that loads PyTorch for the others."""
    prepare(store, [config])
    (store.home / "base.json").write_text(config.to_json(), encoding="utf-8")
    command = [sys.executable, "-m", "distill_core", "sweep", "--home", str(store.home), "--seeds", "1"]
    process = subprocess.Popen(
        [*command, "--config", str(store.home / "base.json"), "--axes", "objective.beta=1,2,3"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while not (sweeps := Sweeps(store)).ids() or sweeps.status(sweeps.ids()[0]).status != "running":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert sweeps.status(sweeps.ids()[0]).status == "interrupted", said
    assert "Traceback" not in said
