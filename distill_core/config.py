"""Everything that decides a run, as frozen, validated values. Pages build their controls from these fields."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from distill_core.errors import ConfigError

Size = Literal["XS", "S", "M", "L", "XL"]
Divergence = Literal["kl_student_teacher", "kl_teacher_student"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _hint(text: str) -> dict[str, Any]:
    """The remedy that an error message offers for a field."""
    return {"hint": text}


class DataConfig(_Section):
    """Which texts, and how they become token ids."""

    name: Literal["rotten_tomatoes"] = Field(
        "rotten_tomatoes",
        title="Data set",
        description="The labelled texts that both models learn from.",
    )
    min_frequency: int = Field(
        2,
        ge=1,
        le=1000,
        title="Least word count",
        description="A word joins the vocabulary when it occurs at least this often in the training texts. "
        "Higher means fewer words, smaller models and more unknown words.",
        json_schema_extra=_hint("try 2"),
    )
    max_vocabulary: int = Field(
        10_000,
        ge=10,
        le=1_000_000,
        title="Largest vocabulary",
        description="At most this many words are kept, the most frequent first. "
        "Higher means fewer unknown words and larger models.",
        json_schema_extra=_hint("try 10000"),
    )
    max_tokens: int = Field(
        256,
        ge=4,
        le=4096,
        title="Longest text",
        description="Texts are cut after this many tokens. Higher reads more of long texts and takes longer.",
        json_schema_extra=_hint("try 256"),
    )
    train_limit: int | None = Field(
        None,
        ge=10,
        title="Training texts used",
        description="Learn from at most this many labelled training texts, drawn once and for all. Empty means all.",
        json_schema_extra=_hint("try 1000, or leave it out to use all"),
    )
    unlabelled_limit: int | None = Field(
        None,
        ge=0,
        title="Unlabelled texts used",
        description="Pre-train on at most this many unlabelled texts beside the training texts. Empty means all.",
        json_schema_extra=_hint("try 1000, or leave it out to use all"),
    )


class ModelConfig(_Section):
    """The article's classifier: embedding, LSTM, pooling, linear layer."""

    size: Size = Field(
        "M",
        title="Size",
        description="How wide the model is. Larger models can learn more and answer more slowly.",
    )
    bidirectional: bool = Field(
        True,
        title="Read in both directions",
        description="Read each text forwards and backwards. Doubles the recurrent part and usually helps.",
    )
    layers: int = Field(
        1,
        ge=1,
        le=2,
        title="LSTM layers",
        description="LSTMs stacked on one another. Two are slower and rarely better on short texts.",
        json_schema_extra=_hint("try 1"),
    )
    pooling: Literal["max", "last"] = Field(
        "max",
        title="Pooling",
        description="How the states of all words become one vector: the largest value each state reaches (max), "
        "or the state after the last word (last).",
    )
    dropout: float = Field(
        0.5,
        ge=0.0,
        lt=1.0,
        title="Dropout",
        description="Share of values hidden at random while learning. Higher fights overfitting and slows learning.",
        json_schema_extra=_hint("try 0.3"),
    )


class TeacherConfig(ModelConfig):
    """The large model, and how it is pre-trained and fine-tuned."""

    pretrain: bool = Field(
        True,
        title="Pre-train the teacher",
        description="First let the teacher learn to predict the next word on texts without labels (Dai & Le 2015).",
    )
    pretrain_epochs: int = Field(
        1,
        ge=1,
        le=200,
        title="Pre-training epochs",
        description="Passes over the unlabelled and training texts. More teaches more language and takes longer.",
        json_schema_extra=_hint("try 1 to 5"),
    )
    pretrain_learning_rate: float = Field(
        2e-3,
        gt=0,
        le=1,
        title="Pre-training learning rate",
        description="Size of Adam's steps while pre-training. Higher learns faster until it becomes unstable.",
        json_schema_extra=_hint("try 0.002"),
    )
    epochs: int = Field(
        4,
        ge=1,
        le=200,
        title="Teacher epochs",
        description="Passes over the labelled texts. The epoch that is best on validation is kept.",
        json_schema_extra=_hint("try 3 to 8"),
    )
    learning_rate: float = Field(
        2e-3,
        gt=0,
        le=1,
        title="Teacher learning rate",
        description="Size of Adam's steps while fine-tuning. Higher learns faster until it becomes unstable.",
        json_schema_extra=_hint("try 0.002"),
    )
    batch_size: int = Field(
        64,
        ge=1,
        le=4096,
        title="Teacher batch size",
        description="Texts per step. Higher is faster on large hardware and takes fewer, smoother steps.",
        json_schema_extra=_hint("try 32 to 128"),
    )


class StudentConfig(ModelConfig):
    """The small model. Its baseline is the same model, trained without the teacher."""


class ObjectiveConfig(_Section):
    """The student's loss: a_s · CE(y, f_s) + β · T² · D(f_s, f_t; T)."""

    student_ce_weight: float = Field(
        1.0,
        ge=0,
        le=1000,
        title="Weight of the labels (a_s)",
        description="How much the true labels count for the student. At 0 it hears the teacher alone.",
        json_schema_extra=_hint("try 1"),
    )
    beta: float = Field(
        2.0,
        ge=0,
        le=1000,
        title="β (how much the teacher counts)",
        description="Weight of the teacher's answers beside the labels. At 0 the student hears the labels alone; "
        "higher makes it copy its teacher, mistakes included.",
        json_schema_extra=_hint("try 0.5 to 5"),
    )
    temperature: float = Field(
        2.0,
        gt=0,
        le=100,
        title="Temperature (how soft the teacher speaks)",
        description="Above 1 the teacher's second choices become audible; below 1 it sounds surer than it is. "
        "The loss is multiplied by T² so that the gradient keeps its scale (Hinton et al. 2015).",
        json_schema_extra=_hint("try 1 to 8"),
    )
    divergence: Divergence = Field(
        "kl_teacher_student",
        title="KL direction",
        description="KL(teacher‖student) makes the student cover all that its teacher finds possible (Hinton et al. "
        "2015); KL(student‖teacher), the article's choice, makes it keep to what its teacher finds likely.",
    )


class TrainingConfig(_Section):
    """How the student and its baseline are trained, and what holds for the whole run."""

    epochs: int = Field(
        6,
        ge=1,
        le=500,
        title="Epochs",
        description="Passes of the student over the labelled texts. More is slower; the best epoch is kept.",
        json_schema_extra=_hint("try 3 to 20"),
    )
    learning_rate: float = Field(
        5e-3,
        gt=0,
        le=1,
        title="Student learning rate",
        description="Size of Adam's steps for the student. Higher learns faster until it becomes unstable.",
        json_schema_extra=_hint("try 0.005"),
    )
    batch_size: int = Field(
        64,
        ge=1,
        le=4096,
        title="Student batch size",
        description="Texts per step. Higher is faster on large hardware and takes fewer, smoother steps.",
        json_schema_extra=_hint("try 32 to 128"),
    )
    baseline: bool = Field(
        True,
        title="Train the baseline",
        description="Also train the same student from the same start without the teacher. "
        "Without it nobody can say whether the teacher helped.",
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**31 - 1,
        title="Seed",
        description="Where every random choice begins. The same seed on the same machine gives the same result.",
        json_schema_extra=_hint("try 0"),
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        title="Precision",
        description="Numbers used in the forward pass. Auto takes bfloat16 where the hardware has it, else float32.",
    )


class RunConfig(_Section):
    """All that decides a run."""

    data: DataConfig = DataConfig()
    teacher: TeacherConfig = TeacherConfig()
    student: StudentConfig = StudentConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    training: TrainingConfig = TrainingConfig()

    def to_json(self) -> str:
        """Indented JSON, the content of `config.json`."""
        return self.model_dump_json(indent=2)

    def digest(self) -> str:
        """A hash of 16 hex digits that depends on the values alone."""
        return digest(self.model_dump(mode="json"))


@dataclass(frozen=True)
class Preset:
    """A named configuration with the sentence that says what it is for."""

    description: str
    config: RunConfig


PRESETS: Mapping[str, Preset] = {
    "quick": Preset("A teacher, a student a tenth its size and a baseline in about a minute.", RunConfig()),
    "article": Preset(
        "The article's models and objective: one-directional LSTMs, CE + KL(student‖teacher), no temperature.",
        RunConfig(
            teacher=TeacherConfig(bidirectional=False, pooling="last"),
            student=StudentConfig(bidirectional=False, pooling="last"),
            objective=ObjectiveConfig(beta=1, temperature=1, divergence="kl_student_teacher"),
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


def digest(value: object) -> str:
    """A hash of 16 hex digits of any JSON value, whatever the order of its keys."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def parse(values: Mapping[str, Any]) -> RunConfig:
    """Validates nested values. Raises ConfigError that names the first bad field, its value and the remedy."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error.errors()[0])) from None


def load(preset: str = "quick", file: Path | None = None, settings: Iterable[str] = ()) -> RunConfig:
    """A preset, overlaid with a JSON file, overlaid with `section.field=value` settings.

    Raises:
        ConfigError: the preset, the file or a setting cannot be used.
    """
    if preset not in PRESETS:
        raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}; try quick")
    values = PRESETS[preset].config.model_dump(mode="json")
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


def _explain(error: ErrorDetails) -> str:
    location = [str(part) for part in error["loc"]]
    name = ".".join(location)
    if error["type"] == "extra_forbidden":
        return _explain_unknown(name, error["input"])
    field = _field(location)
    hint = (field.json_schema_extra or {}).get("hint") if field and isinstance(field.json_schema_extra, dict) else None
    requirement = error["msg"].removeprefix("Input should be ").removeprefix("a ").removeprefix("an ")
    message = f"{name} must be {requirement}, got {error['input']!r}"
    return f"{message}; {hint}" if hint else f"{message}; see its default in presets"


def _explain_unknown(name: str, value: object) -> str:
    known = [f"{section}.{field}" for section, fields in _sections().items() for field in fields]
    close = difflib.get_close_matches(name, [*known, *_sections()], n=1)
    remedy = f"did you mean {close[0]}?" if close else f"the sections are {', '.join(_sections())}"
    return f"{name} is not a setting, got {value!r}; {remedy}"


def _sections() -> dict[str, dict[str, FieldInfo]]:
    sections = {}
    for name, field in RunConfig.model_fields.items():
        assert field.annotation is not None
        sections[name] = field.annotation.model_fields
    return sections


def _field(location: list[str]) -> FieldInfo | None:
    section, *rest = location
    return _sections().get(section, {}).get(rest[0]) if rest else None
