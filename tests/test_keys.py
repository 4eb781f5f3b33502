"""Keys of cached things: they change with all that decides the thing, and with nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from distill_core import keys
from distill_core.config import RunConfig, load
from distill_core.data.sources import SOURCES

DATA = [
    "data.min_frequency=3",
    "data.max_vocabulary=5000",
    "data.max_tokens=64",
    "data.train_limit=100",
    "data.unlabelled_limit=0",
]
TEACHER = [
    "teacher.size=L",
    "teacher.bidirectional=false",
    "teacher.layers=2",
    "teacher.pooling=last",
    "teacher.dropout=0.2",
    "teacher.pretrain=false",
    "teacher.pretrain_epochs=2",
    "teacher.pretrain_learning_rate=0.01",
    "teacher.epochs=5",
    "teacher.learning_rate=0.01",
    "teacher.batch_size=32",
]
STUDENT = [
    "student.size=XL",
    "student.dropout=0.1",
    "objective.beta=9",
    "objective.temperature=5",
    "training.epochs=2",
    "training.learning_rate=0.1",
    "training.batch_size=16",
    "training.baseline=false",
]


def changed(setting: str) -> RunConfig:
    return load(settings=[setting])


def teacher_key(config: RunConfig) -> str:
    return keys.teacher_key(config, "float32")


def test_keys_of_equal_configurations_are_equal() -> None:
    assert keys.data_key(RunConfig()) == keys.data_key(load())
    assert teacher_key(RunConfig()) == teacher_key(load())
    assert keys.data_key(RunConfig()) != teacher_key(RunConfig())


@pytest.mark.parametrize("setting", DATA)
def test_a_data_setting_changes_both_keys(setting: str) -> None:
    assert keys.data_key(changed(setting)) != keys.data_key(RunConfig())
    assert teacher_key(changed(setting)) != teacher_key(RunConfig())


@pytest.mark.parametrize("setting", [*TEACHER, "training.seed=1"])
def test_a_teacher_setting_changes_the_teachers_key_alone(setting: str) -> None:
    assert keys.data_key(changed(setting)) == keys.data_key(RunConfig())
    assert teacher_key(changed(setting)) != teacher_key(RunConfig())


@pytest.mark.parametrize("setting", STUDENT)
def test_a_students_setting_keeps_the_teacher(setting: str) -> None:
    assert keys.data_key(changed(setting)) == keys.data_key(RunConfig())
    assert teacher_key(changed(setting)) == teacher_key(RunConfig())


def test_every_setting_of_data_and_teacher_was_tried_above() -> None:
    config = RunConfig()
    tried = {setting.partition("=")[0].partition(".")[2] for setting in DATA}
    assert set(type(config.data).model_fields) - tried == {"name"}
    tried = {setting.partition("=")[0].partition(".")[2] for setting in TEACHER}
    assert set(type(config.teacher).model_fields) - tried == set()


def test_precision_that_computed_a_teacher_is_part_of_its_key() -> None:
    assert keys.teacher_key(RunConfig(), "bfloat16") != keys.teacher_key(RunConfig(), "float32")


def test_another_version_of_the_data_changes_both_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys.data_key(RunConfig()), teacher_key(RunConfig())
    source = SOURCES["rotten_tomatoes"]
    monkeypatch.setattr("distill_core.data.sources.version", lambda package: f"{package} 9.9")
    assert source.fingerprint() != dataclasses.replace(source, package="other").fingerprint()
    after = keys.data_key(RunConfig()), teacher_key(RunConfig())
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_another_pytorch_changes_the_teachers_key_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys.data_key(RunConfig()), teacher_key(RunConfig())
    monkeypatch.setattr(keys, "version", lambda package: "9.9")
    assert keys.data_key(RunConfig()) == before[0]
    assert teacher_key(RunConfig()) != before[1]


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up source tree in place of ours."""
    for file in ("data/sources.py", "models/classifier.py", "training/loop.py"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text(f"# {file}", encoding="utf-8")
    monkeypatch.setattr(keys, "__file__", str(tmp_path / "keys.py"))
    return tmp_path


@pytest.mark.parametrize(
    ("file", "data_changes"),
    [
        ("data/sources.py", True),
        ("models/classifier.py", False),
        ("training/loop.py", False),
        ("training/new.py", False),
    ],
)
def test_what_old_code_computed_is_not_taken_for_new(code: Path, file: str, data_changes: bool) -> None:
    before = keys.data_key(RunConfig()), teacher_key(RunConfig())
    (code / file).write_text("# changed", encoding="utf-8")
    assert (keys.data_key(RunConfig()) != before[0]) is data_changes
    assert teacher_key(RunConfig()) != before[1]


def test_code_version_ignores_other_packages_and_other_files(code: Path) -> None:
    before = keys.code_version("models")
    (code / "training/loop.py").write_text("# changed", encoding="utf-8")
    (code / "models/notes.txt").write_text("not code", encoding="utf-8")
    assert keys.code_version("models") == before
    assert keys.code_version("models", "training") != before
