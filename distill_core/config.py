"""Everything that decides a run, as frozen, validated values. Pages build their controls from these fields."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from distill_core.errors import ConfigError

Size = Literal["XS", "S", "M", "L", "XL"]
SIZES: tuple[Size, ...] = get_args(Size)
Divergence = Literal["kl_student_teacher", "kl_teacher_student", "jensen_shannon", "logit_mse"]
DATA_SETS = ("rotten_tomatoes", "bbc_news", "imdb", "csv")
"""Data sets by name; `hf:NAME` is one of the Hugging Face Hub."""
MINILM = "all-MiniLM-L6-v2"
"""The pre-trained encoder that comes inside a package and needs no download."""
FROZEN_PASSES = 10
"""Passes over stored features for each epoch of a frozen encoder's last layer."""


class Section(BaseModel):
    """Frozen values without unknown fields or infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _hint(text: str) -> dict[str, Any]:
    """The remedy that an error message offers for a field."""
    return {"hint": text}


class DataConfig(Section):
    """Which texts, and how they become token ids."""

    name: str = Field(
        "rotten_tomatoes",
        pattern=r"^(rotten_tomatoes|bbc_news|imdb|csv|hf:[\w.-]+(/[\w.-]+)?)$",
        title="Data set",
        description="The labelled texts that both models learn from. `csv` is a file of your own, `hf:NAME` a data "
        "set of the Hugging Face Hub.",
        json_schema_extra=_hint(f"use {', '.join(DATA_SETS)} or hf:NAME, as in hf:ag_news"),
    )
    path: str | None = Field(
        None,
        title="File or folder",
        description="Your file (csv, tsv or jsonl) for `csv`; for `imdb` the folder that holds aclImdb_v1.tar.gz.",
        json_schema_extra=_hint("give the path of a file that exists"),
    )
    text_column: str | None = Field(
        None,
        title="Text column",
        description="The column with the texts. Empty means the first of text, sentence, review, content.",
        json_schema_extra=_hint("leave it out to find it by its name"),
    )
    label_column: str | None = Field(
        None,
        title="Label column",
        description="The column with the right answers. Empty means the first of label, class, sentiment, category.",
        json_schema_extra=_hint("leave it out to find it by its name"),
    )
    split_column: str | None = Field(
        None,
        title="Split column",
        description="A column that says train, val (or dev) or test for each text. Empty means a random split, "
        "80/10/10, with every class in the same share on each side.",
        json_schema_extra=_hint("leave it out to split at random"),
    )
    label_names: dict[str, str] = Field(
        {},
        title="Names of the labels",
        description="What to call each value of the label column, as in 0 = negative. Others keep their value.",
        json_schema_extra=_hint('try {"0": "negative", "1": "positive"}'),
    )
    split_seed: int = Field(
        0,
        ge=0,
        le=2**31 - 1,
        title="Seed of the split",
        description="Decides which texts of a file are for training and which for testing.",
        json_schema_extra=_hint("try 0"),
    )
    max_rows: int = Field(
        200_000,
        ge=10,
        le=5_000_000,
        title="Most rows read",
        description="At most this many rows of a file are kept, drawn once and for all. Higher takes more memory.",
        json_schema_extra=_hint("try 200000"),
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

    @property
    def is_large(self) -> bool:
        """Whether reading it takes so long that it is a stage of the run."""
        return self.name == "imdb" or self.name.startswith("hf:")

    @property
    def comes_along(self) -> bool:
        """Whether it lies inside a package that the lab is installed with, and is so in order."""
        return self.name in ("rotten_tomatoes", "bbc_news")


class ModelConfig(Section):
    """A classifier that is trained from scratch: embedding, a way to read, pooling, linear layer."""

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

    kind: Literal["lstm", "pretrained", "file"] = Field(
        "lstm",
        title="Kind of teacher",
        description="An LSTM trained here from scratch; a transformer that others have pre-trained on billions of "
        "words; or no model but its answers, in columns teacher_LABEL of your file.",
    )
    model: str = Field(
        MINILM,
        min_length=1,
        title="Pre-trained encoder",
        description=f"{MINILM} comes with the lab. Any other encoder by its name on the Hugging Face Hub or by "
        "its folder; only safetensors are read and no code of theirs is run.",
        json_schema_extra=_hint(f"try {MINILM}"),
    )
    frozen: bool = Field(
        False,
        title="Keep the encoder frozen",
        description="Learn only the last layer of a pre-trained teacher. Takes a fraction of the time and costs "
        "some accuracy.",
    )
    encoder_learning_rate: float = Field(
        5e-5,
        gt=0,
        le=1,
        title="Encoder learning rate",
        description="Size of AdamW's steps for a pre-trained encoder. Higher learns faster, and forgets what the "
        "encoder knew.",
        json_schema_extra=_hint("try 0.00005"),
    )
    encoder_max_tokens: int = Field(
        256,
        ge=4,
        le=8192,
        title="Longest text for the encoder",
        description="Word pieces that a pre-trained teacher reads of a text. Of a longer one it reads the beginning "
        "and the end, half each (Sun et al. 2019). Time grows with it.",
        json_schema_extra=_hint("try 256"),
    )
    pretrain: bool = Field(
        True,
        title="Pre-train the teacher",
        description="First let an LSTM teacher learn word vectors from texts without labels.",
    )
    pretrain_task: Literal["language_model", "lsa"] = Field(
        "language_model",
        title="Pre-training task",
        description="Predict the next word, as a language model does (Dai & Le 2015); or latent semantic analysis "
        "(Deerwester et al. 1990), which gives like vectors to words of the same texts, takes seconds, and is better "
        "for long texts.",
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
        description="Passes over the labelled texts. The epoch that is best on validation is kept. Above a frozen "
        f"encoder the last layer makes {FROZEN_PASSES} passes for each, which cost next to nothing.",
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

    kind: Literal["lstm", "gru", "textcnn", "bag"] = Field(
        "lstm",
        title="Kind of student",
        description="LSTM and GRU (a simpler LSTM) read word by word; TextCNN looks at groups of 3 to 5 words "
        "(Kim 2014); bag weighs the words and forgets their order, and is the fastest.",
    )
    word_vectors: Literal["random", "teacher", "glove"] = Field(
        "random",
        title="First word vectors",
        description="What the student knows of words before it learns: nothing; what its teacher makes of each "
        "word, reduced to the student's width by principal components; or GloVe, where its file is there.",
    )
    like_teacher: bool = Field(
        False,
        title="Self-distillation",
        description="Give the student the very shape of its LSTM teacher. A student that is no smaller can still "
        "be better than its teacher (Furlanello et al. 2018).",
    )


class ObjectiveConfig(Section):
    """What is minimised: a_s · CE(y, f_s) + a_t · CE(y, f_t) + β · T² · D(f_s, f_t; T)."""

    mode: Literal["offline", "joint"] = Field(
        "offline",
        title="Teacher while the student learns",
        description="Offline, the teacher is finished and only answers. Joint, as in the article, one optimizer "
        "trains both at once, so the teacher also moves towards its student.",
    )
    student_ce_weight: float = Field(
        1.0,
        ge=0,
        le=1000,
        title="Weight of the labels (a_s)",
        description="How much the true labels count for the student. At 0 it hears the teacher alone.",
        json_schema_extra=_hint("try 1"),
    )
    teacher_ce_weight: float = Field(
        1.0,
        ge=0,
        le=1000,
        title="Weight of the teacher's labels (a_t)",
        description="In joint training, how much the true labels count for the teacher. At 0 nothing but its "
        "student guides it.",
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
    beta_ramp: float = Field(
        0.0,
        ge=0,
        le=1,
        title="Ramp of β",
        description="Part of the training in which β rises in a straight line from 0. At 0 it counts in full "
        "from the first step; higher lets the labels speak first.",
        json_schema_extra=_hint("try 0.3"),
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
        title="Distance to the teacher",
        description="KL(teacher‖student) makes the student cover all that its teacher finds possible (Hinton et al. "
        "2015); KL(student‖teacher), the article's choice, makes it keep to what its teacher finds likely; "
        "Jensen–Shannon lies between; logit MSE compares the raw scores (Ba & Caruana 2014, Tang et al. 2019).",
    )


class TrainingConfig(Section):
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
    label_share: float = Field(
        1.0,
        gt=0,
        le=1,
        title="Labels used",
        description="Part of the training texts whose label student and baseline may see, drawn once, with every class "
        "in its share. The teacher answers the others too. The baseline reads its few texts again and again, as many "
        "steps as the student takes. Validation keeps all of its labels.",
        json_schema_extra=_hint("try 0.1, or 1 to use all"),
    )
    average_weights: bool = Field(
        False,
        title="Average the weights",
        description="Keep a running average of the student's weights over its steps and use that in the end. "
        "Smooths out the last wobbles of training (Polyak & Juditsky 1992).",
    )
    transfer: bool = Field(
        False,
        title="Learn from unlabelled texts too",
        description="The teacher answers the texts that have no labels, and the student learns from these answers "
        "as well (a transfer set, Hinton et al. 2015).",
    )
    augment: int = Field(
        0,
        ge=0,
        le=100,
        title="Altered copies of each text",
        description="Copies with words masked, cut to a few words, or spliced with another text, which the teacher "
        "answers and the student learns (Tang et al. 2019). Higher gives the student more to learn from and "
        "takes longer.",
        json_schema_extra=_hint("try 4"),
    )
    assistant: Literal["none", "XS", "S", "M", "L", "XL"] = Field(
        "none",
        title="Teacher assistant",
        description="An LSTM of middle size that learns from the teacher first and then teaches the student "
        "(Mirzadeh et al. 2020). Helps where teacher and student are far apart.",
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
    seeds: int = Field(
        1,
        ge=1,
        le=50,
        title="Repeat with seeds",
        description="Train baseline and student this many times from different starts, with one teacher. Tells "
        "whether the gain is larger than chance; takes as many times longer.",
        json_schema_extra=_hint("try 3 to 5"),
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        title="Precision",
        description="Numbers used in the forward pass: of 32 bits, or of 16, which are coarser (bfloat16). Auto takes "
        "bfloat16 for the models that this machine computes faster with it.",
    )


class RunConfig(Section):
    """All that decides a run."""

    data: DataConfig = DataConfig()
    teacher: TeacherConfig = TeacherConfig()
    student: StudentConfig = StudentConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _fits_together(self) -> RunConfig:
        for wrong, message in _contradictions(self):
            if wrong:
                raise ConfigError(message)
        return self

    @property
    def transfers(self) -> bool:
        """Whether the student also learns from texts that have no label."""
        return self.training.transfer or self.training.augment > 0

    def to_json(self) -> str:
        """Indented JSON, the content of `config.json`."""
        return self.model_dump_json(indent=2)

    def digest(self) -> str:
        """A hash of 16 hex digits that depends on the values alone."""
        return digest(self.model_dump(mode="json"))


def _contradictions(config: RunConfig) -> Iterable[tuple[bool, str]]:
    """Settings that exclude each other, each with the message that says what to change."""
    data, teacher, student = config.data, config.teacher, config.student
    objective, training = config.objective, config.training
    from_file, joint = teacher.kind == "file", objective.mode == "joint"
    return (
        (data.name == "csv" and not data.path, "data.path must name your file when data.name is csv, got nothing; "
         "give a csv, tsv or jsonl file"),
        (from_file and data.name != "csv", f"teacher.kind must be lstm or pretrained for {data.name}, got 'file'; a "
         "teacher that is a file needs data.name=csv with columns teacher_LABEL"),
        (from_file and joint, "objective.mode must be offline when teacher.kind is file, got 'joint'; a file cannot "
         "learn"),
        (from_file and student.word_vectors == "teacher", "student.word_vectors must be random or glove when "
         "teacher.kind is file, got 'teacher'; a file knows no word vectors"),
        (from_file and training.augment > 0, f"training.augment must be 0 when teacher.kind is file, got "
         f"{training.augment}; a file cannot answer new texts"),
        (joint and teacher.frozen and teacher.kind == "pretrained", "teacher.frozen must be false when "
         "objective.mode is joint, got True; joint training moves the teacher"),
        (joint and config.transfers, "objective.mode must be offline with training.transfer or training.augment, got "
         "'joint'; there the teacher answers once, before the student learns"),
        (joint and training.assistant != "none", "training.assistant must be none when objective.mode is joint, got "
         f"{training.assistant!r}; in joint training teacher and student learn side by side"),
        (joint and training.label_share < 1, f"training.label_share must be 1 when objective.mode is joint, got "
         f"{training.label_share:g}; there the teacher learns from the same labels"),
        (not (objective.beta or objective.student_ce_weight), "objective.beta and objective.student_ce_weight must not "
         "both be 0, got 0 and 0; then the student hears neither teacher nor labels; try objective.beta=2"),
        (teacher.kind == "lstm" and training.assistant != "none"
         and SIZES.index(training.assistant) >= SIZES.index(teacher.size),
         f"training.assistant must be smaller than the teacher ({teacher.size}), got {training.assistant!r}; it stands "
         "between teacher and student: take none, or a larger teacher"),
        (joint and training.seeds > 1, f"training.seeds must be 1 when objective.mode is joint, got {training.seeds}; "
         "there each seed would have another teacher"),
        (student.like_teacher and (teacher.kind != "lstm" or student.kind != "lstm"), "student.like_teacher must be "
         f"false for a {teacher.kind} teacher and a {student.kind} student, got True; self-distillation is for two "
         "LSTMs"),
    )  # fmt: skip


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


def _explain(error: ErrorDetails) -> str:
    location = [str(part) for part in error["loc"]]
    name = ".".join(location)
    if error["type"] == "extra_forbidden":
        return _explain_unknown(name, error["input"])
    field = _field(location)
    hint = (field.json_schema_extra or {}).get("hint") if field and isinstance(field.json_schema_extra, dict) else None
    if error["type"] == "string_pattern_mismatch":
        return f"{name} must be a known name, got {error['input']!r}; {hint}"
    if error["type"] == "string_too_short":
        return f"{name} must not be empty, got {error['input']!r}; {hint}"
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
