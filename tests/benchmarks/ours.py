"""The lab as a contender, through its public functions."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import nn

from distill_core import device
from distill_core.data import batches
from distill_core.data.batches import EncodedDataset, EncodedTexts
from distill_core.data.sources import Split
from distill_core.events import Epoch, Event
from distill_core.models import classifier
from distill_core.training.context import Context
from distill_core.training.reading import validation_score
from distill_core.training.student import distil
from distill_core.training.teacher import cache_logits
from tests.benchmarks.protocol import Contender, Outcome, now, steady
from tests.benchmarks.tasks import Task

NAME = "distill_core"
NOTHING = Split((), (), ())


def contender(task: Task) -> Contender:
    """Trains as a run does: the teacher answers once, and after each epoch the student is measured on validation."""
    return Contender(NAME, partial(_run, task))


def _run(task: Task, seed: int) -> Outcome:
    ends: list[float] = []

    def hear(event: Event) -> None:
        if isinstance(event, Epoch):
            ends.append(now())

    context = Context(device.choose(task.config.training.precision), hear)
    start = now()
    data = batches.encode(replace(task.dataset, test=NOTHING), task.config.data)
    student = _distilled(task, data, seed, context)
    seconds = now() - start
    return Outcome(seconds, steady(ends, len(data.train)), _test_accuracy(student, task, data, context))


def _distilled(task: Task, data: EncodedDataset, seed: int, context: Context) -> nn.Module:
    answers, _ = cache_logits(task.teacher, [_as_the_teacher_reads(task, data.train)], context)
    torch.manual_seed(seed)
    student = classifier.build(task.config.student, len(data.vocabulary), len(data.label_names))
    student.to(context.compute.device)
    distil(
        student,
        data.train,
        data.val,
        answers,
        objective=task.config.objective,
        training=task.config.training,
        seed=seed,
        context=context,
    )
    return student


def _as_the_teacher_reads(task: Task, train: EncodedTexts) -> EncodedTexts:
    if task.word_pieces is None:
        return train
    split = task.dataset.train
    return EncodedTexts.of(split.ids, task.word_pieces(split.texts), split.labels)


def _test_accuracy(student: nn.Module, task: Task, data: EncodedDataset, context: Context) -> float:
    split = task.dataset.test
    token_ids = [data.vocabulary.encode(text, task.config.data.max_tokens) for text in split.texts]
    accuracy = validation_score(student, EncodedTexts.of(split.ids, token_ids, split.labels), context).accuracy
    assert accuracy is not None
    return accuracy
