"""Narrow numbers: models that compute in bfloat16 say and learn what they do in float32, but for its coarseness."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from distill_core.config import ObjectiveConfig, StudentConfig, TeacherConfig, TrainingConfig
from distill_core.data.batches import EncodedDataset, SampleLogits
from distill_core.device import Compute
from distill_core.models import classifier, pretrained
from distill_core.models.sizes import Work
from distill_core.training.context import Context
from distill_core.training.reading import logits_of
from distill_core.training.student import distil
from tests.encoders import save_tiny

CPU = torch.device("cpu")
FINE = 2**-8
"""Half of what lies between bfloat16's numbers, of a number's size."""


def narrowly(context: Context, *works: Work) -> Context:
    return replace(context, compute=Compute(CPU, "bfloat16", frozenset(works)))


def wide_student(encoded: EncodedDataset) -> nn.Module:
    torch.manual_seed(0)
    return classifier.build(StudentConfig(size="XL", dropout=0), len(encoded.vocabulary), 2)


def answers(encoded: EncodedDataset, scale: float = 2.0) -> SampleLogits:
    """A teacher's, that is sure of every label."""
    labels = encoded.train.labels_N.float()
    return SampleLogits(encoded.train.ids_N, scale * torch.stack([1 - 2 * labels, 2 * labels - 1], dim=1))


def learned(encoded: EncodedDataset, context: Context) -> tuple[nn.Module, Tensor]:
    """A student that was taught, and its logits of the validation texts in float32."""
    student = wide_student(encoded)
    distil(
        student,
        encoded.train,
        encoded.val,
        answers(encoded),
        objective=ObjectiveConfig(),
        training=TrainingConfig(epochs=6, batch_size=8),
        seed=0,
        context=context,
    )
    return student, logits_of(student, encoded.val, narrowly(context))


def test_an_lstm_reads_alike_in_bfloat16(encoded: EncodedDataset, context: Context) -> None:
    student = wide_student(encoded)
    for weight in student.parameters():
        weight.data.mul_(3)  # logits of a trained model's size
    exact = logits_of(student, encoded.train, context)
    coarse = logits_of(student, encoded.train, narrowly(context, "lstm"))
    assert coarse.dtype == torch.float32
    assert not torch.equal(coarse, exact)
    torch.testing.assert_close(coarse, exact, rtol=8 * FINE, atol=8 * FINE)


def test_an_encoder_reads_alike_in_bfloat16(tmp_path: Path, encoded: EncodedDataset, context: Context) -> None:
    save_tiny(tmp_path, "bert")
    torch.manual_seed(0)
    model = pretrained.build(str(tmp_path), 2, TeacherConfig().encoder_max_tokens)[0]
    texts = encoded.train  # ids of words serve as ids of word pieces
    exact = logits_of(model, texts, context)
    coarse = logits_of(model, texts, narrowly(context, "encoder"))
    assert not torch.equal(coarse, exact)
    torch.testing.assert_close(coarse, exact, rtol=8 * FINE, atol=8 * FINE)


@pytest.mark.parametrize("others", [["encoder"], ["other"], ["encoder", "other"], []])
def test_a_model_of_another_kind_reads_exactly_as_in_float32(
    encoded: EncodedDataset, context: Context, others: list[Work]
) -> None:
    student = wide_student(encoded)
    exact = logits_of(student, encoded.val, context)
    assert torch.equal(logits_of(student, encoded.val, narrowly(context, *others)), exact)


def test_a_student_learns_alike_in_bfloat16(encoded: EncodedDataset, context: Context) -> None:
    exactly, exact = learned(encoded, context)
    coarsely, coarse = learned(encoded, narrowly(context, "lstm"))
    assert {weight.dtype for weight in coarsely.parameters()} == {torch.float32}
    assert not torch.equal(coarse, exact)
    right = [int((logits.argmax(dim=1) == encoded.val.labels_N).sum()) for logits in (exact, coarse)]
    assert min(right) >= len(encoded.val) - 1
    apart = torch.linalg.vector_norm(coarse - exact) / torch.linalg.vector_norm(exact)
    assert apart <= 0.1
    for one, other in zip(exactly.parameters(), coarsely.parameters(), strict=True):
        assert torch.linalg.vector_norm(one - other) <= 0.1 * torch.linalg.vector_norm(one)
