"""The named sizes and what they cost. Needs no PyTorch, so that pages can show parameters at once."""

from __future__ import annotations

from dataclasses import dataclass

from distill_core.config import ModelConfig, Size, TeacherConfig


@dataclass(frozen=True)
class Widths:
    """Embedding width and LSTM states a direction."""

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


def widths(config: ModelConfig) -> Widths:
    """What a named size means: teachers are wider than students of the same name."""
    return (TEACHER_WIDTHS if isinstance(config, TeacherConfig) else STUDENT_WIDTHS)[config.size]


def recurrent_parameters(config: ModelConfig) -> int:
    """Weights of all LSTMs."""
    size, directions = widths(config), 2 if config.bidirectional else 1
    inputs = [size.embedding, *[size.hidden] * (config.layers - 1)]
    return directions * sum(4 * size.hidden * (width + size.hidden + 2) for width in inputs)


def parameter_count(config: ModelConfig, vocabulary: int, classes: int) -> int:
    """Weights of the whole model, counted without building it."""
    size, directions = widths(config), 2 if config.bidirectional else 1
    output = (directions * size.hidden + 1) * classes
    return vocabulary * size.embedding + recurrent_parameters(config) + output


def describe(config: ModelConfig) -> str:
    """The architecture in a few words."""
    size = widths(config)
    kind = "BiLSTM" if config.bidirectional else "LSTM"
    stacked = f" × {config.layers} layers" if config.layers > 1 else ""
    return f"{kind} {size.embedding} → {size.hidden}{stacked}, {config.pooling} pooling"
