"""The student's stages: the same model from the same start, once without the teacher and once with it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from distill_core.config import ObjectiveConfig, TrainingConfig
from distill_core.data.batches import NO_LABEL, Batch, EncodedTexts, SampleLogits, batch_count, shuffled_batches
from distill_core.training.context import Context
from distill_core.training.loop import fit
from distill_core.training.losses import cross_entropy, distillation_loss, divergence, ramped
from distill_core.training.reading import Score, validation_score, work_of
from distill_core.training.slow_motion import explained
from distill_core.training.terms import Terms


def step_count(texts: EncodedTexts, training: TrainingConfig) -> int:
    """Steps of one training."""
    return training.epochs * batch_count(texts, training.batch_size)


def train_baseline(
    model: nn.Module, train: EncodedTexts, val: EncodedTexts, training: TrainingConfig, *, seed: int, context: Context
) -> Score:
    """Trains the student on the labels alone; returns the best epoch's score."""

    def loss(batch: Batch, done: float) -> Terms:
        student_BC = _answer(model, batch, context)
        ce = batch.labelled_share * cross_entropy(student_BC, batch.labels_B)
        return Terms(ce, ce, student_BC=student_BC)

    return _train("baseline", model, train, val, training, loss=loss, seed=seed, context=context, steady=True)


def distil(
    model: nn.Module,
    texts: EncodedTexts,
    val: EncodedTexts,
    teacher_logits: SampleLogits,
    *,
    objective: ObjectiveConfig,
    training: TrainingConfig,
    seed: int,
    context: Context,
    stage: str = "distil",
) -> Score:
    """Trains the student on labels and on the frozen teacher's cached logits; returns the best epoch's score.

    Args:
        texts: what it learns from; those without a label (-1) teach by the teacher's logits alone.
    """

    answers = SampleLogits.of([(texts, teacher_logits.of_ids(texts.ids_N))]).to(context.compute.device)

    def loss(batch: Batch, done: float) -> Terms:
        return _terms(_answer(model, batch, context), answers.of_known(batch.ids_B), batch, objective, done)

    return _train(
        stage,
        model,
        texts,
        val,
        training,
        loss=loss,
        seed=seed,
        context=context,
        objective=objective,
        steady=objective.beta_ramp == 0,
    )


def distil_jointly(
    model: nn.Module,
    teacher: nn.Module,
    train: EncodedTexts,
    val: EncodedTexts,
    *,
    objective: ObjectiveConfig,
    training: TrainingConfig,
    teacher_train: EncodedTexts,
    teacher_val: EncodedTexts,
    teacher_groups: list[dict[str, object]],
    seed: int,
    context: Context,
) -> Score:
    """Trains teacher and student at once, by one Adam over the parameters of both, as the article's code does.

    Gradients of the distance flow into both. The epoch that is best for the student is kept, of both.

    Args:
        teacher_train, teacher_val: the same samples as token ids of the teacher.
        teacher_groups: the teacher's parameters with their learning rate, as optimizer groups.
    """
    both = nn.ModuleList([model, teacher])
    rows_N, teacher_train = teacher_train.rows_of(train.ids_N), teacher_train.to(context.compute.device)

    def loss(batch: Batch, done: float) -> Terms:
        assert batch.rows_B is not None
        teacher_BC = _answer(teacher, teacher_train.gather(rows_N[batch.rows_B]), context)
        return _terms(_answer(model, batch, context), teacher_BC, batch, objective, done, learning_teacher=True)

    def score() -> Score:
        student = validation_score(model, val, context)
        return Score(
            student.value, student.ce, student.accuracy, validation_score(teacher, teacher_val, context).accuracy
        )

    groups = [{"params": list(model.parameters()), "lr": training.learning_rate}, *teacher_groups]
    return _train(
        "distil",
        both,
        train,
        val,
        training,
        loss=loss,
        seed=seed,
        context=context,
        score=score,
        optimizer=torch.optim.Adam(groups, fused=True),
        objective=objective,
        steady=False,
    )


def _answer(model: nn.Module, batch: Batch, context: Context) -> Tensor:
    with context.compute.autocast(work_of(model)):
        logits_BC: Tensor = model(batch.tokens_BT, batch.lengths_B)
    return logits_BC.float()


def _terms(
    student_BC: Tensor,
    teacher_BC: Tensor,
    batch: Batch,
    objective: ObjectiveConfig,
    done: float,
    *,
    learning_teacher: bool = False,
) -> Terms:
    ce = batch.labelled_share * cross_entropy(student_BC, batch.labels_B)
    teacher_ce = batch.labelled_share * cross_entropy(teacher_BC, batch.labels_B) if learning_teacher else None
    distance = batch.share * divergence(student_BC, teacher_BC, objective.divergence, objective.temperature)
    total = distillation_loss(
        ce,
        distance,
        student_ce_weight=objective.student_ce_weight,
        beta=ramped(objective.beta, objective.beta_ramp, done),
        temperature=objective.temperature,
        teacher_ce=teacher_ce,
        teacher_ce_weight=objective.teacher_ce_weight,
    )
    labelled = (batch.labels_B != NO_LABEL).sum()
    return Terms(total, ce, distance, teacher_ce, labelled, student_BC, teacher_BC)


def _train(
    stage: str,
    model: nn.Module,
    texts: EncodedTexts,
    val: EncodedTexts,
    training: TrainingConfig,
    *,
    loss: Callable[[Batch, float], Terms],
    seed: int,
    context: Context,
    score: Callable[[], Score] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    objective: ObjectiveConfig | None = None,
    steady: bool,
) -> Score:
    texts = texts.to(context.compute.device)
    return fit(
        stage,
        model,
        batches=lambda generator: shuffled_batches(texts, training.batch_size, generator),
        steps_per_epoch=batch_count(texts, training.batch_size),
        loss=loss,
        score=score or (lambda: validation_score(model, val, context)),
        epochs=training.epochs,
        optimizer=optimizer or torch.optim.Adam(model.parameters(), training.learning_rate, fused=True),
        seed=seed,
        context=context,
        average=training.average_weights,
        explain=explained(objective),
        divisible=True,
        steady=steady,
    )
