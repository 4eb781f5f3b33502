"""The named sizes: what they cost is what a built model has."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from distill_core.config import MINILM, ModelConfig, RunConfig, Size, StudentConfig, TeacherConfig, parse
from distill_core.models import classifier, pretrained
from distill_core.models.sizes import (
    STUDENT_WIDTHS,
    TEACHER_WIDTHS,
    assistant_model,
    describe,
    encoder_size,
    kind_of,
    parameter_count,
    reading_parameters,
    student_model,
    teacher_parameters,
    widths,
    work_of,
    works_of,
)
from distill_core.presets import load
from distill_core.training import reading
from tests.encoders import save_tiny

SIZES: tuple[Size, ...] = get_args(Size)
KINDS = ("lstm", "gru", "textcnn", "bag")
roles = pytest.mark.parametrize("role", [TeacherConfig, StudentConfig])
every_kind = pytest.mark.parametrize("kind", KINDS)


def weights_of(module: torch.nn.Module) -> int:
    return sum(weights.numel() for weights in module.parameters())


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
    assert parameter_count(config, vocabulary, classes) == weights_of(model)
    assert reading_parameters(config) == weights_of(model.directions)


@every_kind
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (1, True), (2, False), (2, True)])
@pytest.mark.parametrize(("vocabulary", "classes"), [(57, 2), (1003, 5)])
def test_parameter_count_of_every_kind_of_student_is_that_of_the_built_model(
    *, kind: str, size: Size, layers: int, bidirectional: bool, vocabulary: int, classes: int
) -> None:
    config = StudentConfig(kind=kind, size=size, layers=layers, bidirectional=bidirectional)
    with torch.device("meta"):
        model = classifier.build(config, vocabulary, classes)
    vectors = sum(weights_of(table) for table in model.modules() if isinstance(table, torch.nn.Embedding))
    assert parameter_count(config, vocabulary, classes) == weights_of(model)
    assert reading_parameters(config) == weights_of(model) - vectors - weights_of(model.output)


@every_kind
@pytest.mark.parametrize("pooling", ["max", "last"])
def test_pooling_and_dropout_cost_no_parameters(kind: str, pooling: str) -> None:
    config = StudentConfig.model_validate({"kind": kind, "pooling": pooling, "dropout": 0.1})
    assert parameter_count(config, 100, 2) == parameter_count(StudentConfig(kind=kind), 100, 2)


@roles
@pytest.mark.parametrize("pooling", ["max", "last"])
def test_pooling_and_dropout_cost_a_role_no_parameters(role: type[ModelConfig], pooling: str) -> None:
    config = role.model_validate({"pooling": pooling, "dropout": 0.1})
    assert parameter_count(config, 100, 2) == parameter_count(role(), 100, 2)


@roles
def test_a_larger_name_is_a_larger_model(role: type[ModelConfig]) -> None:
    counts = [parameter_count(role(size=size), 5000, 2) for size in SIZES]
    assert counts == sorted(set(counts))


@every_kind
def test_a_larger_name_is_a_larger_student_of_every_kind(kind: str) -> None:
    counts = [parameter_count(StudentConfig(kind=kind, size=size), 5000, 2) for size in SIZES]
    assert counts == sorted(set(counts))


@pytest.mark.parametrize("size", SIZES)
def test_a_teacher_is_larger_than_a_student_of_the_same_name(size: Size) -> None:
    teacher, student = TeacherConfig(size=size), StudentConfig(size=size)
    assert widths(teacher) == TEACHER_WIDTHS[size]
    assert widths(student) == STUDENT_WIDTHS[size]
    assert parameter_count(teacher, 5000, 2) > 2 * parameter_count(student, 5000, 2)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (StudentConfig(size="M"), "BiLSTM 12 → 24, max pooling"),
        (
            TeacherConfig(size="XS", bidirectional=False, layers=2, pooling="last"),
            "LSTM 32 → 32 × 2 layers, last pooling",
        ),
        (StudentConfig(size="S", kind="gru", bidirectional=False), "GRU 8 → 16, max pooling"),
        (StudentConfig(size="L", kind="gru", layers=2), "BiGRU 24 → 48 × 2 layers, max pooling"),
        (StudentConfig(size="XL", kind="textcnn", layers=2), "TextCNN 64 → 3 × 64"),
        (StudentConfig(size="XS", kind="bag"), "bag of embeddings 4"),
    ],
)
def test_describe_says_what_was_built(config: ModelConfig, words: str) -> None:
    assert describe(config) == words


def test_what_is_trained_from_scratch_reads_as_its_kind_says() -> None:
    assert [kind_of(StudentConfig(kind=kind)) for kind in KINDS] == list(KINDS)
    assert kind_of(TeacherConfig(kind="pretrained")) == kind_of(ModelConfig()) == "lstm"


# Who learns


def test_the_student_has_its_own_shape() -> None:
    config = parse({"student": {"kind": "gru", "size": "XS"}})
    assert student_model(config) is config.student


def test_a_student_like_its_teacher_has_exactly_its_shape() -> None:
    config = parse({"teacher": {"size": "S", "layers": 2}, "student": {"like_teacher": True, "size": "XS"}})
    assert student_model(config) is config.teacher
    with torch.device("meta"):
        student, teacher = (classifier.build(model, 100, 2) for model in (student_model(config), config.teacher))
    shapes = [{name: weights.shape for name, weights in model.state_dict().items()} for model in (student, teacher)]
    assert shapes[0] == shapes[1]


def test_there_is_no_assistant_unless_one_is_asked_for() -> None:
    assert assistant_model(RunConfig()) is None


@pytest.mark.parametrize("size", SIZES[:-1])
def test_an_assistant_is_an_lstm_of_a_teachers_size_shaped_like_an_lstm_teacher(size: Size) -> None:
    teacher = {"size": "XL", "bidirectional": False, "layers": 2, "pooling": "last", "dropout": 0.1}
    found = assistant_model(parse({"teacher": teacher, "training": {"assistant": size}}))
    assert found is not None
    assert (found.kind, found.size, widths(found)) == ("lstm", size, TEACHER_WIDTHS[size])
    shape = (found.bidirectional, found.layers, found.pooling, found.dropout)
    assert shape == (False, 2, "last", 0.1)


@pytest.mark.parametrize("teacher", [{"kind": "pretrained"}, {"kind": "file"}])
def test_an_assistant_of_another_teacher_is_an_lstm_with_the_students_dropout(teacher: dict[str, str]) -> None:
    values = {
        "data": {"name": "csv", "path": "reviews.csv"},
        "teacher": teacher,
        "student": {"kind": "bag", "dropout": 0.25},
        "training": {"assistant": "S"},
    }
    found = assistant_model(parse(values))
    assert found == TeacherConfig(size="S", dropout=0.25)


# What computes in them


@roles
@pytest.mark.parametrize("size", SIZES)
def test_an_lstm_says_the_same_of_itself_as_its_settings(role: type[ModelConfig], size: Size) -> None:
    config = role(size=size)
    wide = widths(config).hidden >= 64
    assert work_of(config) == classifier.build(config, 9, 2).work == ("lstm" if wide else "other")


@pytest.mark.parametrize("kind", ["gru", "textcnn", "bag"])
def test_no_other_student_gains_from_narrow_numbers(kind: Any) -> None:
    config = StudentConfig(kind=kind, size="XL")
    assert work_of(config) == reading.work_of(classifier.build(config, 9, 2)) == "other"


def test_an_encoder_says_the_same_of_itself_as_its_settings(tmp_path: Path) -> None:
    save_tiny(tmp_path, "bert")
    model = pretrained.build(str(tmp_path), 3, 64)[0]
    assert work_of(TeacherConfig(kind="pretrained", model=str(tmp_path))) == reading.work_of(model) == "encoder"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], {"lstm", "other"}),
        (["teacher.size=XS"], {"other"}),
        (["student.size=XL"], {"lstm"}),
        (["teacher.kind=pretrained"], {"encoder", "other"}),
        (["teacher.kind=pretrained", "student.size=XL"], {"encoder", "lstm"}),
        (["teacher.kind=pretrained", "training.assistant=S"], {"encoder", "lstm", "other"}),
        (["teacher.size=XL", "student.like_teacher=true"], {"lstm"}),
        (["data.name=csv", "data.path=own.csv", "teacher.kind=file"], {"other"}),
    ],
)
def test_what_computes_in_a_run_is_all_its_models(settings: list[str], expected: set[str]) -> None:
    assert works_of(load(settings=settings)) == expected


# Encoders


def test_the_size_of_minilm_is_that_of_the_model_itself() -> None:
    size = encoder_size(MINILM)
    assert size is not None
    assert size.width == 384
    assert size.vectors + size.layers == 22_713_216
    encoder = pretrained.build(MINILM, 2, 64)[0].encoder
    assert weights_of(encoder) == 22_713_216
    assert weights_of(encoder.embeddings) == size.vectors


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_the_size_of_an_encoder_in_a_folder_is_that_of_the_model_itself(tmp_path: Path, family: str) -> None:
    size = encoder_size(str(save_tiny(tmp_path, family)))
    assert size is not None
    model = pretrained.build(str(tmp_path), 3, 64)[0]
    assert size.vectors == weights_of(model.encoder.embeddings)
    assert size.vectors + size.layers == weights_of(model.encoder)
    config = TeacherConfig(kind="pretrained", model=str(tmp_path))
    assert teacher_parameters(config, vocabulary=99, classes=3) == weights_of(model)


@pytest.mark.parametrize("content", [None, "", "{", "[]", "null", "{}", '{"hidden_size": "wide"}'])
def test_the_size_of_an_encoder_that_cannot_be_read_is_unknown(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content, encoding="utf-8")
    assert encoder_size(str(tmp_path)) is None
    assert teacher_parameters(TeacherConfig(kind="pretrained", model=str(tmp_path)), 100, 2) is None


def test_the_size_of_an_encoder_of_the_hub_is_unknown() -> None:
    assert encoder_size("no/such-encoder") is None


def test_teacher_parameters_follow_the_kind_of_teacher() -> None:
    lstm = TeacherConfig(size="S")
    assert teacher_parameters(lstm, 500, 2) == parameter_count(lstm, 500, 2)
    assert teacher_parameters(TeacherConfig(kind="pretrained"), 500, 2) == 22_713_216 + 2 * 385
    assert teacher_parameters(TeacherConfig(kind="file"), 500, 2) is None
