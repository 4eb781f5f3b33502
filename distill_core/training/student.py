"""The student's stages: the same model from the same start, once without the teacher and once with it."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F

from distill_core.config import ObjectiveConfig, TrainingConfig
from distill_core.data.batches import Batch, EncodedDataset, SampleLogits, batch_count, shuffled_batches
from distill_core.models.classifier import TextClassifier
from distill_core.training.loop import Context, Terms, fit, validation_score
from distill_core.training.losses import distillation_loss, divergence


def train_baseline(model: TextClassifier, data: EncodedDataset, training: TrainingConfig, *, context: Context) -> float:
    """Trains the student on the labels alone; returns the seconds it took."""

    def loss(batch: Batch) -> Terms:
        with context.compute.autocast():
            logits_BC = model(batch.tokens_BT, batch.lengths_B)
        ce = F.cross_entropy(logits_BC.float(), batch.labels_B)
        return Terms(ce, ce)

    return _train("baseline", model, data, training, loss=loss, context=context)


def distil(
    model: TextClassifier,
    data: EncodedDataset,
    teacher_logits: SampleLogits,
    objective: ObjectiveConfig,
    training: TrainingConfig,
    *,
    context: Context,
) -> float:
    """Trains the student on labels and on the frozen teacher's cached logits; returns the seconds it took."""

    def loss(batch: Batch) -> Terms:
        teacher_BC = teacher_logits.of_ids(batch.ids_B.cpu()).to(context.compute.device)
        with context.compute.autocast():
            logits_BC = model(batch.tokens_BT, batch.lengths_B)
        student_BC = logits_BC.float()
        ce = F.cross_entropy(student_BC, batch.labels_B)
        kl = divergence(student_BC, teacher_BC, objective.divergence, objective.temperature)
        total = distillation_loss(
            ce,
            kl,
            student_ce_weight=objective.student_ce_weight,
            beta=objective.beta,
            temperature=objective.temperature,
        )
        return Terms(total, ce, kl)

    return _train("distil", model, data, training, loss=loss, context=context)


def _train(
    stage: str,
    model: TextClassifier,
    data: EncodedDataset,
    training: TrainingConfig,
    *,
    loss: Callable[[Batch], Terms],
    context: Context,
) -> float:
    steps = batch_count(data.train, training.batch_size)
    with context.stage(stage, training.epochs * steps) as outcome:
        best = fit(
            stage,
            model,
            batches=lambda generator: shuffled_batches(data.train, training.batch_size, generator),
            steps_per_epoch=steps,
            loss=loss,
            score=lambda: validation_score(model, data.val, context),
            epochs=training.epochs,
            learning_rate=training.learning_rate,
            seed=training.seed,
            context=context,
        )
        outcome.accuracy = best.accuracy
    return outcome.seconds
