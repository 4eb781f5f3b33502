"""Presets are what they say, and a preset, a file and single settings overlay one another in this order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill_core.config import DataConfig, ObjectiveConfig, RunConfig
from distill_core.errors import ConfigError
from distill_core.presets import PRESETS, load


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_parses_to_itself_and_says_what_it_is_for(name: str) -> None:
    assert load(name) == PRESETS[name].config
    assert PRESETS[name].description.endswith(".")


def test_the_default_preset_is_the_default_configuration() -> None:
    assert load() == RunConfig() == PRESETS["quick"].config


def test_the_article_preset_is_the_articles_objective() -> None:
    config = load("article")
    assert config.objective == ObjectiveConfig(
        mode="joint",
        student_ce_weight=1,
        teacher_ce_weight=1,
        beta=1,
        beta_ramp=0,
        temperature=1,
        divergence="kl_student_teacher",
    )
    assert [model.bidirectional for model in (config.teacher, config.student)] == [False, False]


def test_the_hinton_preset_is_offline_and_softened() -> None:
    objective = load("hinton").objective
    assert (objective.mode, objective.divergence) == ("offline", "kl_teacher_student")
    assert objective.temperature > 1
    assert objective.student_ce_weight > 0


def test_the_tang_preset_copies_raw_scores_without_labels_on_altered_copies() -> None:
    config = load("tang")
    assert (config.objective.student_ce_weight, config.objective.divergence) == (0, "logit_mse")
    assert config.transfers
    assert config.training.augment > 0


def test_presets_differ() -> None:
    assert len({preset.config.digest() for preset in PRESETS.values()}) == len(PRESETS)


def test_an_unknown_preset_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"preset must be one of quick, .*, got 'fast'; try quick"):
        load("fast")


def test_load_overlays_the_file_on_the_preset_and_the_settings_on_the_file(tmp_path: Path) -> None:
    file = tmp_path / "own.json"
    file.write_text(json.dumps({"training": {"epochs": 9, "seed": 4}, "objective": {"beta": 3}}), encoding="utf-8")
    config = load("tiny", file, ["training.seed=5", "student.size=S", "training.seed=6", "data.unlabelled_limit=null"])
    assert (config.training.epochs, config.training.seed) == (9, 6)
    assert (config.objective.beta, config.student.size) == (3, "S")
    assert config.data == DataConfig(train_limit=400, unlabelled_limit=None)
    assert config.teacher == PRESETS["tiny"].config.teacher


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("teacher.pretrain=false", False),
        ("teacher.pretrain=true", True),
        ("teacher.learning_rate=1e-4", 1e-4),
        ("teacher.pooling=last", "last"),
        ('teacher.pooling="last"', "last"),
    ],
)
def test_a_setting_is_json_or_plain_text(setting: str, value: object) -> None:
    field = setting.partition("=")[0].removeprefix("teacher.")
    assert getattr(load(settings=[setting]).teacher, field) == value


def test_load_leaves_the_presets_as_they_are() -> None:
    before = PRESETS["tiny"].config.to_json()
    load("tiny", settings=["training.epochs=7"])
    assert PRESETS["tiny"].config.to_json() == before


def test_a_file_written_by_to_json_can_be_loaded_on_any_preset(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(PRESETS["article"].config.to_json(), encoding="utf-8")
    assert load("tiny", file) == PRESETS["article"].config


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe{}", "is not JSON"),
        (b"[1]", "must hold an object, got list"),
        (b"3", "must hold an object, got int"),
        (b'{"training": {"epochs": 0}}', "training.epochs must be greater than or equal to 1, got 0"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "own.json"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(file=file)
    assert says in str(caught.value)
    assert "; " in str(caught.value)


def test_a_missing_file_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.json' cannot be read: No such file or directory; check the path"):
        load(file=tmp_path / "absent.json")
