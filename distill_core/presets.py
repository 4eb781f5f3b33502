"""Named configurations, and the way from a preset, a file and single settings to one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill_core.config import (
    DataConfig,
    ObjectiveConfig,
    RunConfig,
    StudentConfig,
    TeacherConfig,
    TrainingConfig,
    parse,
)
from distill_core.errors import ConfigError


@dataclass(frozen=True)
class Preset:
    """A named configuration with the sentence that says what it is for."""

    description: str
    config: RunConfig


PRESETS: Mapping[str, Preset] = {
    "quick": Preset("A teacher, a student a tenth its size and a baseline in about a minute.", RunConfig()),
    "article": Preset(
        "As the article writes it: one-directional LSTMs, and one Adam that trains teacher and student at once on "
        "CE of both + KL(student‖teacher), no temperature.",
        RunConfig(
            teacher=TeacherConfig(bidirectional=False, pooling="last", epochs=2),
            student=StudentConfig(bidirectional=False, pooling="last"),
            objective=ObjectiveConfig(mode="joint", beta=1, temperature=1, divergence="kl_student_teacher"),
        ),
    ),
    "hinton": Preset(
        "Hinton et al. 2015: a finished teacher, KL(teacher‖student) at temperature 4, and the labels.",
        RunConfig(objective=ObjectiveConfig(beta=2, temperature=4, divergence="kl_teacher_student")),
    ),
    "tang": Preset(
        "Tang et al. 2019: the student copies its teacher's raw scores (logit MSE), no labels, on altered copies too.",
        RunConfig(
            objective=ObjectiveConfig(student_ce_weight=0, beta=1, temperature=1, divergence="logit_mse"),
            training=TrainingConfig(augment=4, epochs=3),
        ),
    ),
    "pretrained": Preset(
        "A pre-trained transformer teaches an LSTM of 0.7 M parameters, on altered copies and unlabelled texts too.",
        RunConfig(
            teacher=TeacherConfig(kind="pretrained", epochs=3, batch_size=32),
            student=StudentConfig(size="XL", word_vectors="teacher", dropout=0.15),
            objective=ObjectiveConfig(student_ce_weight=0.5, beta=1, temperature=1, divergence="logit_mse"),
            training=TrainingConfig(epochs=6, learning_rate=3e-3, average_weights=True, transfer=True, augment=4),
        ),
    ),
    "news": Preset(
        "Five topics of BBC news: a frozen pre-trained transformer teaches a bag of embeddings.",
        RunConfig(
            data=DataConfig(name="bbc_news"),
            teacher=TeacherConfig(kind="pretrained", frozen=True, encoder_max_tokens=128),
            student=StudentConfig(kind="bag", size="L", word_vectors="teacher", dropout=0.2),
            training=TrainingConfig(epochs=15, learning_rate=0.01),
        ),
    ),
    "imdb": Preset(
        "Long film reviews: an LSTM learns word vectors from 28,000, labels from 8,000, and teaches a small one.",
        RunConfig(
            data=DataConfig(
                name="imdb",
                max_tokens=160,
                max_vocabulary=20_000,
                min_frequency=5,
                train_limit=8_000,
                unlabelled_limit=20_000,
            ),
            teacher=TeacherConfig(pretrain_task="lsa", epochs=3),
            student=StudentConfig(size="L", dropout=0.3),
        ),
    ),
    "imdb_pretrained": Preset(
        "All labelled film reviews: a pre-trained transformer, fine-tuned within the hour, teaches a bag of words.",
        RunConfig(
            data=DataConfig(name="imdb", max_tokens=400, max_vocabulary=20_000, min_frequency=5, unlabelled_limit=0),
            teacher=TeacherConfig(kind="pretrained", epochs=1, batch_size=32, encoder_max_tokens=128),
            student=StudentConfig(kind="bag", size="L", word_vectors="teacher", dropout=0.3),
            objective=ObjectiveConfig(student_ce_weight=0.5, beta=1, temperature=1, divergence="logit_mse"),
            training=TrainingConfig(epochs=5, learning_rate=5e-3, average_weights=True),
        ),
    ),
    "tiny": Preset(
        "A few hundred texts and the smallest models: shows every stage within seconds, and learns little.",
        RunConfig(
            data=DataConfig(train_limit=400, unlabelled_limit=20),
            teacher=TeacherConfig(size="XS", epochs=2),
            student=StudentConfig(size="XS"),
            training=TrainingConfig(epochs=2),
        ),
    ),
}


def load(preset: str = "quick", file: Path | None = None, settings: Iterable[str] = ()) -> RunConfig:
    """A preset, overlaid with a JSON file, overlaid with `section.field=value` settings.

    Raises:
        ConfigError: the preset, the file or a setting cannot be used.
    """
    if preset not in PRESETS:
        raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}; try quick")
    return overlaid(PRESETS[preset].config, file, settings)


def overlaid(config: RunConfig, file: Path | None = None, settings: Iterable[str] = ()) -> RunConfig:
    """A configuration, overlaid with a JSON file, overlaid with `section.field=value` settings. Raises ConfigError."""
    values = config.model_dump(mode="json")
    if file is not None:
        _overlay(values, _read_json(file))
    for setting in settings:
        _overlay(values, _parse_setting(setting))
    return parse(values)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config file {str(file)!r} cannot be read: {error.strerror}; check the path") from None
    except ValueError as error:
        raise ConfigError(f"config file {str(file)!r} is not JSON: {error}; mend it there") from None
    if not isinstance(values, dict):
        raise ConfigError(f"config file {str(file)!r} must hold an object, got {type(values).__name__}; see presets")
    return values


def _parse_setting(setting: str) -> dict[str, Any]:
    path, equals, text = setting.partition("=")
    section, dot, field = path.partition(".")
    if not (equals and dot and section and field):
        raise ConfigError(f"--set must read section.field=value, got {setting!r}; try objective.beta=2")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    return {section: {field: value}}


def _overlay(base: dict[str, Any], top: Mapping[str, Any]) -> None:
    for key, value in top.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _overlay(base[key], value)
        else:
            base[key] = value
