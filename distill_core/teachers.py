"""A teacher that is a model, whatever its kind: built, trained, asked, saved and read again.

An LSTM reads with the run's own vocabulary, a pre-trained encoder with its own word pieces. Logits are matched to the
student's texts by sample id, so the two never need the same tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from distill_core.config import TeacherConfig
from distill_core.data.batches import EncodedTexts
from distill_core.data.sources import Split
from distill_core.job import Job
from distill_core.models.classifier import TextClassifier
from distill_core.store import ENCODER, TEACHER_WEIGHTS
from distill_core.training import teacher as stages

if TYPE_CHECKING:
    from distill_core.models.pretrained import TransformerClassifier

CHUNK = 2000
"""Texts turned into word pieces between two looks at a request to stop."""


@dataclass(frozen=True)
class Teacher:
    """A teacher's model and its way to read: `encode_all` turns texts into token ids."""

    model: nn.Module
    encode_all: Callable[[Sequence[str]], list[list[int]]]
    save_shape: Callable[[Path], None] = lambda folder: None

    def encode(self, text: str) -> list[int]:
        """Token ids of one text."""
        return self.encode_all([text])[0]

    def save(self, folder: Path) -> None:
        """Writes weights and, for an encoder, what is needed to build it again without a network."""
        save_file(
            {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}, folder / TEACHER_WEIGHTS
        )
        self.save_shape(folder / ENCODER)


def new(job: Job) -> Teacher:
    """An untrained teacher: an LSTM with a random start, or a pre-trained encoder under a new head."""
    settings = job.config.teacher
    if settings.kind == "lstm":
        return _own(job, job.build(settings))
    from distill_core.models import pretrained  # transformers take seconds to import

    torch.manual_seed(job.config.training.seed)
    model, pieces = pretrained.build(settings.model, len(job.data.label_names), settings.encoder_max_tokens)
    return Teacher(
        model.to(job.context.compute.device),
        pieces.encode_all,
        lambda folder: pretrained.save_shape(model, pieces, folder),
    )


def saved(job: Job, folder: Path) -> Teacher:
    """A trained teacher from the folder that it was saved in."""
    settings = job.config.teacher
    if settings.kind == "lstm":
        teacher = _own(job, job.build(settings))
    else:
        teacher = saved_encoder(settings, folder, len(job.data.label_names))
    teacher.model.load_state_dict(load_file(folder / TEACHER_WEIGHTS))
    teacher.model.to(job.context.compute.device)
    return teacher


def saved_encoder(settings: TeacherConfig, folder: Path, classes: int) -> Teacher:
    """The shape of an encoder that was saved in a folder; its weights are still to be loaded."""
    from distill_core.models import pretrained

    model, pieces = pretrained.rebuild(folder / ENCODER, classes, settings.encoder_max_tokens)
    return Teacher(model, pieces.encode_all, lambda target: pretrained.save_shape(model, pieces, target))


def _own(job: Job, model: nn.Module) -> Teacher:
    return Teacher(model, lambda texts: [job.encode(text) for text in texts])


def train(teacher: Teacher, job: Job) -> dict[str, float]:
    """Pre-trains and fine-tunes a teacher as its configuration says; returns the seconds of each stage."""
    settings, seed, context = job.config.teacher, job.config.training.seed, job.context
    seconds = {}
    if settings.kind == "lstm" and settings.pretrain:
        assert isinstance(teacher.model, TextClassifier)
        seconds["pretrain"] = stages.pretrain(teacher.model, job.data, settings, seed=seed, context=context)
    train_texts, val_texts = readings(teacher, job, ("train", "val"))
    if settings.kind == "pretrained" and settings.frozen:
        encoder = _encoder(teacher)
        tuning = stages.finetune_head(encoder, train_texts, val_texts, settings, seed=seed, context=context)
    else:
        tuning = stages.finetune(teacher.model, train_texts, val_texts, settings, seed=seed, context=context)
    seconds["finetune"] = tuning
    return seconds


def _encoder(teacher: Teacher) -> TransformerClassifier:
    from distill_core.models.pretrained import TransformerClassifier

    assert isinstance(teacher.model, TransformerClassifier)
    return teacher.model


def readings(teacher: Teacher, job: Job, splits: Sequence[str]) -> list[EncodedTexts]:
    """The splits of the data set as the teacher reads them."""
    if job.config.teacher.kind == "lstm":
        return [getattr(job.data, split) for split in splits]
    return [_encoded(teacher, job, getattr(job.texts, split)) for split in splits]


def _encoded(teacher: Teacher, job: Job, split: Split) -> EncodedTexts:
    return EncodedTexts.of(split.ids, encoded_texts(teacher, job, split.texts), split.labels)


def encoded_texts(teacher: Teacher, job: Job, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of many texts; can be cancelled."""
    rows: list[list[int]] = []
    for start in range(0, len(texts), CHUNK):
        job.context.check()
        rows.extend(teacher.encode_all(texts[start : start + CHUNK]))
    return rows


def word_vectors(teacher: Teacher, job: Job) -> Tensor:
    """What the teacher makes of each word of the student's vocabulary, `[V, W]`.

    For an LSTM the vectors that it has learned; for an encoder its pooled states for a text of that one word.
    """
    if isinstance(teacher.model, TextClassifier):
        with job.context.stage("words", 1):
            return teacher.model.embedding.weight.detach().float().cpu()
    words = EncodedTexts.without_labels(encoded_texts(teacher, job, job.data.vocabulary.tokens))
    return stages.read_words(_encoder(teacher), words, job.context)
