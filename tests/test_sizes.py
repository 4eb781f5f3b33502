"""The named sizes: what they cost is what a built model has."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from distill_core.config import ModelConfig, Size, StudentConfig, TeacherConfig
from distill_core.models import classifier
from distill_core.models.sizes import (
    STUDENT_WIDTHS,
    TEACHER_WIDTHS,
    describe,
    parameter_count,
    recurrent_parameters,
    widths,
)

SIZES: tuple[Size, ...] = get_args(Size)
roles = pytest.mark.parametrize("role", [TeacherConfig, StudentConfig])


@roles
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("vocabulary", "classes"), [(57, 2), (1003, 5)])
def test_parameter_count_is_that_of_the_built_model(
    *, role: type[ModelConfig], size: Size, layers: int, bidirectional: bool, vocabulary: int, classes: int
) -> None:
    config = role(size=size, layers=layers, bidirectional=bidirectional)
    with torch.device("meta"):  # shapes without memory
        model = classifier.build(config, vocabulary, classes)
    assert parameter_count(config, vocabulary, classes) == sum(weights.numel() for weights in model.parameters())
    recurrent = sum(weights.numel() for weights in model.directions.parameters())
    assert recurrent_parameters(config) == recurrent


@roles
@pytest.mark.parametrize("pooling", ["max", "last"])
def test_pooling_and_dropout_cost_no_parameters(role: type[ModelConfig], pooling: str) -> None:
    config = role.model_validate({"pooling": pooling, "dropout": 0.1})
    assert parameter_count(config, 100, 2) == parameter_count(role(), 100, 2)


@roles
def test_a_larger_name_is_a_larger_model(role: type[ModelConfig]) -> None:
    counts = [parameter_count(role(size=size), 5000, 2) for size in SIZES]
    assert counts == sorted(set(counts))


@pytest.mark.parametrize("size", SIZES)
def test_a_teacher_is_larger_than_a_student_of_the_same_name(size: Size) -> None:
    teacher, student = TeacherConfig(size=size), StudentConfig(size=size)
    assert widths(teacher) == TEACHER_WIDTHS[size]
    assert widths(student) == STUDENT_WIDTHS[size]
    assert parameter_count(teacher, 5000, 2) > 2 * parameter_count(student, 5000, 2)


def test_describe_says_what_was_built() -> None:
    assert describe(StudentConfig(size="M")) == "BiLSTM 12 → 24, max pooling"
    config = TeacherConfig(size="XS", bidirectional=False, layers=2, pooling="last")
    assert describe(config) == "LSTM 32 → 32 × 2 layers, last pooling"
