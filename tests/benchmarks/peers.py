"""What the lab is compared with: a plain loop, and TextBrewer's two distillers for one teacher.

All of them read the same raw texts, start from the same weights, take the same steps of Adam, and compute in float32.
TextBrewer is needed by `contenders` alone: pip install -r requirements-bench.txt.
"""

from __future__ import annotations

import io
import random
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from distill_core import device
from distill_core.config import RunConfig
from distill_core.data.vocabulary import Vocabulary, tokenize
from distill_core.models import classifier
from tests.benchmarks.protocol import Contender, Outcome, now, steady
from tests.benchmarks.tasks import Task
from tests.benchmarks.textbook import (
    Batch,
    TextbookBatches,
    TextbookBiLSTM,
    TextbookEncoder,
    collate,
    examples_of,
)

GRADIENT_NORM = 5.0
EVALUATION_BATCH = 256


def contenders(task: Task) -> list[Contender]:
    """The three of them over one task."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it compares strings by `is not`
        from textbrewer import BasicDistiller, GeneralDistiller
    teacher = _textbook_teacher(task)
    return [
        Contender("plain loop", partial(_run, task, teacher, plain_loop), slow=True),
        Contender(
            "TextBrewer GeneralDistiller",
            partial(_run, task, teacher, partial(text_brewer, GeneralDistiller, caching=False)),
            slow=True,
        ),
        Contender(
            "TextBrewer BasicDistiller, cached",
            partial(_run, task, teacher, partial(text_brewer, BasicDistiller, caching=True)),
        ),
    ]


def _textbook_teacher(task: Task) -> nn.Module:
    """A copy of the teacher in the plainest form, so that what the lab does to its own is no help to others."""
    model: Any = task.teacher
    if task.word_pieces is None:
        teacher: nn.Module = TextbookBiLSTM.with_weights(model.state_dict(), task.config.teacher.dropout)
    else:
        teacher = TextbookEncoder(model.encoder, model.output, model.pad_id)
    return teacher.to(_device()).eval()


def _device() -> torch.device:
    return device.place()


class FallingRate:
    """A learning rate that falls linearly to 0, and the time at which each epoch was over.

    A scheduler asks for it after every step, whoever owns the loop, so all peers can be timed here.
    """

    def __init__(self, steps_per_epoch: int, epochs: int) -> None:
        self._steps_per_epoch, self._total = steps_per_epoch, steps_per_epoch * epochs
        self.ends: list[float] = []

    def __call__(self, step: int) -> float:
        """What the rate is multiplied by after so many steps."""
        if step and step % self._steps_per_epoch == 0:
            self.ends.append(now())
        return 1 - step / self._total


@dataclass(frozen=True)
class Lesson:
    """What a way to train is given."""

    teacher: nn.Module
    student: nn.Module
    batches: TextbookBatches
    optimizer: torch.optim.Optimizer
    rate: FallingRate
    config: RunConfig


def _run(task: Task, teacher: nn.Module, train: Callable[[Lesson], None], seed: int) -> Outcome:
    start = now()
    split, data = task.dataset.train, task.config.data
    tokenized = [tokenize(text) for text in split.texts]
    vocabulary = Vocabulary.build(tokenized, min_frequency=data.min_frequency, max_size=data.max_vocabulary)
    token_ids = [vocabulary.numbers(tokens, data.max_tokens) for tokens in tokenized]
    pieces = None if task.word_pieces is None else task.word_pieces(split.texts)
    lesson = _lesson(task, teacher, vocabulary, token_ids, pieces, seed)
    train(lesson)
    seconds = now() - start
    accuracy = _test_accuracy(lesson.student, task, vocabulary)
    return Outcome(seconds, steady(lesson.rate.ends, len(split)), accuracy)


def _lesson(
    task: Task,
    teacher: nn.Module,
    vocabulary: Vocabulary,
    token_ids: Sequence[Sequence[int]],
    pieces: Sequence[Sequence[int]] | None,
    seed: int,
) -> Lesson:
    training = task.config.training
    examples = examples_of(token_ids, pieces, task.dataset.train.labels)
    batches = TextbookBatches(examples, training.batch_size, seed)
    torch.manual_seed(seed)
    start = classifier.build(task.config.student, len(vocabulary), len(task.dataset.label_names))
    student = TextbookBiLSTM.with_weights(start.state_dict(), task.config.student.dropout).to(_device())
    # For dropout, and for the order of cached batches.
    torch.manual_seed(seed)
    random.seed(seed)
    optimizer = torch.optim.Adam(student.parameters(), training.learning_rate)
    return Lesson(teacher, student, batches, optimizer, FallingRate(len(batches), training.epochs), task.config)


@torch.no_grad()
def _test_accuracy(student: nn.Module, task: Task, vocabulary: Vocabulary) -> float:
    split = task.dataset.test
    examples = examples_of(
        [vocabulary.encode(text, task.config.data.max_tokens) for text in split.texts], None, split.labels
    )
    student.eval()
    right = 0
    for first in range(0, len(examples), EVALUATION_BATCH):
        batch = moved(collate(examples[first : first + EVALUATION_BATCH]))
        logits_BC = student(batch["student_tokens"], batch["student_lengths"])
        right += int((logits_BC.argmax(dim=1) == batch["labels"]).sum())
    return right / len(examples)


def moved(batch: Batch) -> Batch:
    """A batch on the device that is used."""
    return {name: tensor.to(_device()) for name, tensor in batch.items()}


# Ways to train


def plain_loop(lesson: Lesson) -> None:
    """The teacher answers every batch again, in each epoch."""
    objective, student, teacher = lesson.config.objective, lesson.student, lesson.teacher
    schedule = LambdaLR(lesson.optimizer, lesson.rate)
    student.train()
    for _ in range(lesson.config.training.epochs):
        for batch in map(moved, lesson.batches):
            with torch.no_grad():
                teacher_BC = teacher(batch["teacher_tokens"], batch["teacher_lengths"])
            student_BC = student(batch["student_tokens"], batch["student_lengths"])
            ce = F.cross_entropy(student_BC, batch["labels"])
            loss = ce + objective.beta * soft_loss(student_BC, teacher_BC, objective.temperature)
            lesson.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(student.parameters(), GRADIENT_NORM)
            lesson.optimizer.step()
            schedule.step()


def soft_loss(student_BC: Tensor, teacher_BC: Tensor, temperature: float) -> Tensor:
    """T² · KL(teacher ‖ student) of the softened answers, the mean over texts (Hinton et al. 2015, section 2)."""
    student = F.log_softmax(student_BC / temperature, dim=-1)
    teacher = F.softmax(teacher_BC / temperature, dim=-1)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean")


def text_brewer(distiller: Callable[..., Any], lesson: Lesson, *, caching: bool) -> None:
    """TextBrewer's own loop with its output folder in a temporary one.

    Its loss on logits, a cross-entropy, has the gradient of the KL divergence, but no T², which goes into the weight.

    Args:
        distiller: the class of its distiller.
        caching: keep the batches of one pass and what the teacher says to them, and shuffle these from then on.
    """
    from textbrewer import DistillationConfig, TrainingConfig

    objective, epochs = lesson.config.objective, lesson.config.training.epochs
    # Its progress bars show themselves where standard error is a terminal.
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):
        distilling = distiller(
            TrainingConfig(output_dir=folder, device=_device(), ckpt_frequency=1, ckpt_epoch_frequency=epochs),
            DistillationConfig(
                temperature=objective.temperature,
                kd_loss_type="ce",
                kd_loss_weight=objective.beta * objective.temperature**2,
                hard_label_weight=objective.student_ce_weight,
                is_caching_logits=caching,
            ),
            _Reader("teacher", lesson.teacher),
            _Reader("student", lesson.student),
            _logits,
            _logits_and_loss,
        )
        with distilling:
            distilling.train(
                lesson.optimizer,
                lesson.batches,
                num_epochs=epochs,
                scheduler_class=LambdaLR,
                scheduler_args={"lr_lambda": lesson.rate},
                max_grad_norm=GRADIENT_NORM,
            )


class _Reader(nn.Module):
    """Picks what one of the two models reads out of a batch; TextBrewer hands all of it to both."""

    def __init__(self, role: str, model: nn.Module) -> None:
        super().__init__()
        self.role, self.model = role, model

    def forward(self, **batch: Tensor) -> Tensor:
        logits_BC: Tensor = self.model(batch[f"{self.role}_tokens"], batch[f"{self.role}_lengths"])
        return logits_BC


def _logits(batch: Batch, logits_BC: Tensor) -> dict[str, Tensor]:
    return {"logits": logits_BC}


def _logits_and_loss(batch: Batch, logits_BC: Tensor) -> dict[str, Tensor]:
    return {"logits": logits_BC, "losses": F.cross_entropy(logits_BC, batch["labels"])}
