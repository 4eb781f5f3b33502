"""Student and baseline: one start, one order of batches, with the teacher and without; then for further seeds."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from torch import nn

from distill_core import baselines, evaluation, files, teachers
from distill_core.control import Stopped
from distill_core.data import shares
from distill_core.data.batches import SampleLogits
from distill_core.events import Epoch, Event, StageFinished, StageStarted, Step, Warned
from distill_core.job import Job, Trainable
from distill_core.models import embedding
from distill_core.models.sizes import student_model
from distill_core.teachers import Teacher
from distill_core.teaching import Teaching
from distill_core.training import student
from distill_core.training.context import Context
from distill_core.training.reading import logits_of
from distill_core.training.teacher import parameter_groups

FEW_STEPS = 300
"""Steps below which a student has hardly begun to learn."""


@dataclass(frozen=True)
class Students:
    """The student, the same student without a teacher, and the seconds that each stage took.

    `teacher` and `teacher_logits` are set where the teacher went on learning beside its student. `repeats` holds,
    for each further seed, the test-ready student and baseline, and `repeat_scores` the student's validation accuracy.
    """

    student: nn.Module
    baseline: nn.Module | None
    seconds: dict[str, float]
    teacher: Teacher | None = None
    teacher_logits: SampleLogits | None = None
    repeats: tuple[tuple[nn.Module, nn.Module | None], ...] = ()
    repeat_scores: tuple[float | None, ...] = ()


def train_students(job: Job, teaching: Teaching) -> Students:
    """Trains baseline and student from one start, with one order of batches; then again for each further seed.

    A baseline that another run trains just now comes after the student, when it is there.
    """
    training, seconds, baseline = job.config.training, dict[str, float](), None
    _warn_of_few_steps(job, student.step_count(teaching.texts, training))
    teaching = _with_share_of_labels(job, teaching)
    elsewhere = training.baseline and baselines.is_being_trained(job, training.seed)
    if training.baseline and not elsewhere:
        baseline = _baseline_stage(job, teaching, seconds)
    teacher = teacher_logits = None
    job.context.control.keeps = True
    with job.context.stage("distil", student.step_count(teaching.texts, training)) as outcome:
        if job.config.objective.mode == "joint":
            model, teacher, teacher_logits, outcome.accuracy = _distil_jointly(job, teaching)
        else:
            model, outcome.accuracy = distil_one(job, teaching, training.seed, job.context)
    seconds["distil"] = outcome.seconds
    if elsewhere:
        baseline = _late_baseline(job, teaching, seconds)
    stopped = job.context.control.stopped is not None
    repeats = _repeat(job, teaching, seconds) if training.seeds > 1 and not stopped else []
    scores = tuple(score for *_, score in repeats)
    pairs = tuple((again, alone) for again, alone, _ in repeats)
    return Students(model, baseline, seconds, teacher, teacher_logits, pairs, scores)


def _with_share_of_labels(job: Job, teaching: Teaching) -> Teaching:
    """Hides the labels that the student may not see."""
    share = job.config.training.label_share
    if share == 1:
        return teaching
    return replace(teaching, texts=shares.with_labels(teaching.texts, shares.kept_ids(job.data.train, share)))


def _baseline_stage(job: Job, teaching: Teaching, seconds: dict[str, float]) -> nn.Module:
    """The baseline of the first seed: trained in a stage of its own, or found in the home folder."""
    seed, context = job.config.training.seed, job.context
    if baselines.is_kept(job, seed):
        context.emit(StageStarted("baseline", 0, cached=True))
        model, accuracy = _train_baseline(job, teaching, seed, context)
        context.emit(StageFinished("baseline", 0.0, accuracy))
        return model
    with context.stage("baseline", student.step_count(job.data.train, job.config.training)) as outcome:
        model, outcome.accuracy = _train_baseline(job, teaching, seed, context)
    seconds["baseline"] = outcome.seconds
    return model


def _late_baseline(job: Job, teaching: Teaching, seconds: dict[str, float]) -> nn.Module | None:
    """The baseline once another run has trained it, or given up; None where somebody stops this run before that."""
    control, seed = job.context.control, job.config.training.seed
    while baselines.is_being_trained(job, seed) and not control.stopping:
        job.context.check()
        time.sleep(files.LOOK)
    before = control.stopped
    if control.stopping and not baselines.is_kept(job, seed):
        control.stopped = before or Stopped("baseline", 0, student.step_count(job.data.train, job.config.training))
        return None
    baseline = _baseline_stage(job, teaching, seconds)
    return baseline if control.stopped == before else None


def _warn_of_few_steps(job: Job, steps: int) -> None:
    """A small data set and few epochs leave a student hardly trained, whatever its teacher says."""
    if steps < FEW_STEPS:
        epochs = job.config.training.epochs
        job.context.emit(
            Warned(
                f"The student learns in only {steps} steps ({epochs} epochs of {len(job.data.train):,} texts), which "
                f"may be too few; try training.epochs={-(-epochs * FEW_STEPS // steps)} or a smaller batch size."
            )
        )


def _new_student(job: Job, teaching: Teaching, seed: int, *, taught: bool) -> Trainable:
    """A student at its start. Word vectors that come from the teacher are for those whom it teaches."""
    model = job.build(student_model(job.config), seed)
    if teaching.words is not None and (taught or job.config.student.word_vectors != "teacher"):
        embedding.start_from(model.embedding, teaching.words, teaching.words.abs().sum(dim=1) > 0)
    return model


def _train_baseline(job: Job, teaching: Teaching, seed: int, context: Context) -> tuple[nn.Module, float | None]:
    model = _new_student(job, teaching, seed, taught=False)
    return model, baselines.obtain(job, model, seed, context)


def distil_one(job: Job, teaching: Teaching, seed: int, context: Context) -> tuple[nn.Module, float | None]:
    """The student of one seed, taught by a finished teacher, and its accuracy in the best epoch."""
    model = _new_student(job, teaching, seed, taught=True)
    score = student.distil(
        model,
        teaching.texts,
        job.data.val,
        teaching.logits,
        objective=job.config.objective,
        training=job.config.training,
        seed=seed,
        context=context,
    )
    return model, score.accuracy


def _distil_jointly(job: Job, teaching: Teaching) -> tuple[nn.Module, Teacher, SampleLogits, float | None]:
    assert teaching.folder is not None
    seed = job.config.training.seed
    model = _new_student(job, teaching, seed, taught=True)
    teacher = teachers.saved(job, teaching.folder)
    train, val, test = teachers.readings(teacher, job, evaluation.SPLITS)
    score = student.distil_jointly(
        model,
        teacher.model,
        job.data.train,
        job.data.val,
        objective=job.config.objective,
        training=job.config.training,
        teacher_train=train,
        teacher_val=val,
        teacher_groups=parameter_groups(teacher.model, job.config.teacher, decay=0.0),
        seed=seed,
        context=job.context,
    )
    logits = SampleLogits.of(
        [
            (part, logits_of(teacher.model, part, job.context, name=f"joint-{index}"))
            for index, part in enumerate((train, val, test))
        ]
    )
    return model, teacher, logits, score.accuracy


def _repeat(
    job: Job, teaching: Teaching, seconds: dict[str, float]
) -> list[tuple[nn.Module, nn.Module | None, float | None]]:
    """Student, baseline and the student's validation accuracy for each further seed, all in one stage."""
    training = job.config.training
    each = student.step_count(teaching.texts, training)
    alone = student.step_count(job.data.train, training) if training.baseline else 0
    pairs, done = list[tuple[nn.Module, nn.Module | None, float | None]](), 0
    with job.context.stage("repeat", (training.seeds - 1) * (each + alone)) as outcome:
        for seed in range(training.seed + 1, training.seed + training.seeds):
            baseline = None
            if training.baseline:
                baseline, _ = _train_baseline(job, teaching, seed, _repeating(job.context, "baseline", seed, done))
                done += alone
            context = _repeating(job.context, "student", seed, done)
            with context.checkpoints.alone(context.check):
                model, score = distil_one(job, teaching, seed, context)
            done += each
            if job.context.control.stopped is not None:
                break
            pairs.append((model, baseline, score))
    seconds["repeat"] = outcome.seconds
    return pairs


def train_ahead(job: Job, teaching: Teaching) -> None:
    """Trains further seeds of a run in another process than the run's own, which finds them in its checkpoints.

    The last seed comes first, as the run begins with the first; one that any process is at is left to it.
    """
    teaching, training = _with_share_of_labels(job, teaching), job.config.training
    for seed in reversed(range(training.seed + 1, training.seed + training.seeds)):
        context = _repeating(job.context, "student", seed, 0)
        context.check()
        with context.checkpoints.alone(None) as mine:
            if mine:
                distil_one(job, teaching, seed, context)


def _repeating(context: Context, role: str, seed: int, done: int) -> Context:
    """A context that reports a training as a part of the stage `repeat`, of which `done` steps are over."""

    def emit(event: Event) -> None:
        if isinstance(event, Step):
            event = replace(event, stage="repeat", step=done + event.step)
        elif isinstance(event, Epoch):
            event = replace(event, stage="repeat", role=role, seed=seed)
        context.emit(event)

    return replace(context, emit=emit, checkpoints=context.checkpoints.within(f"seed-{seed}"))
