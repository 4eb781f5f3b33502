"""The teachers of a sweep are trained by its driver, which needs no PyTorch where they are there already."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from distill_core.config import RunConfig
from distill_core.store import TEACHER_LOGITS, Store
from distill_core.sweep import readying
from distill_core.sweep.chores import prepare
from distill_core.sweep.readying import Teachers
from tests.runs import config_of, made_rows, write_csv

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
    code = """
import json, os, sys
import numpy, scipy.special
threads = len(os.listdir("/proc/self/task"))
import distill_core.sweep.warm
from distill_core import pipeline
begun, loaded = len(os.listdir("/proc/self/task")) - threads, set(sys.modules)
pipeline.warm_up()
print(json.dumps([begun, sorted(set(sys.modules) - loaded)]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert json.loads(done.stdout) == [0, []]
