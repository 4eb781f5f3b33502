"""The main path: a configuration becomes a teacher, a baseline, a student, and a result. Read this first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from distill_core import device, evaluation, keys, teachers
from distill_core.analysis import metrics
from distill_core.config import ModelConfig, RunConfig
from distill_core.data.batches import SampleLogits
from distill_core.evaluation import Candidate
from distill_core.events import Emit, Epoch, Event, RunStarted, Step, Warned, stages_of
from distill_core.job import Job, Trainable
from distill_core.models import classifier, embedding
from distill_core.models.sizes import describe, student_model
from distill_core.store import ENCODER, TEACHER_WEIGHTS, Store
from distill_core.teachers import Teacher
from distill_core.teaching import Teaching, prepare_teaching, read_data
from distill_core.training import student
from distill_core.training.loop import Context, logits_of
from distill_core.training.teacher import parameter_groups

Result = dict[str, Any]
FEW_STEPS = 300
"""Steps below which a student has hardly begun to learn."""


def run(run_id: str, store: Store, emit: Emit, check: Callable[[], None]) -> Result:
    """Takes a run from its configuration to its result, which is written and returned.

    Args:
        emit: receives the events of the run, all but the last.
        check: called before each batch; raises Cancelled once the run should stop.

    Raises:
        DistillError: the data or the teacher cannot be used.
        Cancelled: from `check`.
    """
    config = store.config(run_id)
    device.use_all_cores()
    context = Context(device.choose(config.training.precision), emit, check)
    emit(RunStarted(run_id, _stages(config, store), context.compute.device.type, context.compute.precision))

    job = Job(run_id, store, config, read_data(config, store, context), context)
    teaching = prepare_teaching(job)
    students = train_students(job, teaching)
    save_models(job, teaching, students)
    result = test(job, teaching, students)
    store.write_result(run_id, result)
    return result


def _stages(config: RunConfig, store: Store) -> tuple[str, ...]:
    """The stages of this run; reading the data is one of them where nobody has read it before."""
    stages = stages_of(config)
    unread = store.cached("tokens", keys.data_key(config, store.data_folder)) is None
    return ("read", *stages) if unread and "read" not in stages else stages


def warm_up() -> None:
    """Takes one training step of a tiny model, so that what PyTorch loads at its first step is there."""
    model = classifier.build(ModelConfig(size="XS"), 10, 2)
    logits_BC = model(torch.ones(2, 3, dtype=torch.long), torch.tensor([3, 2]))
    optimizer = torch.optim.Adam(model.parameters())
    logits_BC.sum().backward()
    optimizer.step()


# Student and baseline


@dataclass(frozen=True)
class Students:
    """The student, the same student without a teacher, and the seconds that each stage took.

    `teacher` and `teacher_logits` are set where the teacher went on learning beside its student. `repeats` holds,
    for each further seed, the test-ready student and baseline.
    """

    student: nn.Module
    baseline: nn.Module | None
    seconds: dict[str, float]
    teacher: Teacher | None = None
    teacher_logits: SampleLogits | None = None
    repeats: tuple[tuple[nn.Module, nn.Module | None], ...] = ()


def train_students(job: Job, teaching: Teaching) -> Students:
    """Trains baseline and student from one start, with one order of batches; then again for each further seed."""
    training, seconds, baseline = job.config.training, dict[str, float](), None
    _warn_of_few_steps(job, student.step_count(teaching.texts, training))
    if training.baseline:
        with job.context.stage("baseline", student.step_count(job.data.train, training)) as outcome:
            baseline, outcome.accuracy = _train_baseline(job, teaching, training.seed, job.context)
        seconds["baseline"] = outcome.seconds
    teacher = teacher_logits = None
    with job.context.stage("distil", student.step_count(teaching.texts, training)) as outcome:
        if job.config.objective.mode == "joint":
            pupil, teacher, teacher_logits, outcome.accuracy = _distil_jointly(job, teaching)
        else:
            pupil, outcome.accuracy = _distil(job, teaching, training.seed, job.context)
    seconds["distil"] = outcome.seconds
    repeats = _repeat(job, teaching, seconds) if training.seeds > 1 else ()
    return Students(pupil, baseline, seconds, teacher, teacher_logits, repeats)


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
    data = job.data
    score = student.train_baseline(model, data.train, data.val, job.config.training, seed=seed, context=context)
    return model, score.accuracy


def _distil(job: Job, teaching: Teaching, seed: int, context: Context) -> tuple[nn.Module, float | None]:
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
    logits = SampleLogits.of([(part, logits_of(teacher.model, part, job.context)) for part in (train, val, test)])
    return model, teacher, logits, score.accuracy


def _repeat(job: Job, teaching: Teaching, seconds: dict[str, float]) -> tuple[tuple[nn.Module, nn.Module | None], ...]:
    """Student and baseline for each further seed, all in one stage."""
    training = job.config.training
    each = student.step_count(teaching.texts, training)
    alone = student.step_count(job.data.train, training) if training.baseline else 0
    pairs, done = [], 0
    with job.context.stage("repeat", (training.seeds - 1) * (each + alone)) as outcome:
        for seed in range(training.seed + 1, training.seed + training.seeds):
            baseline = None
            if training.baseline:
                baseline, _ = _train_baseline(job, teaching, seed, _repeating(job.context, "baseline", seed, done))
                done += alone
            pupil, _ = _distil(job, teaching, seed, _repeating(job.context, "student", seed, done))
            done += each
            pairs.append((pupil, baseline))
    seconds["repeat"] = outcome.seconds
    return tuple(pairs)


def _repeating(context: Context, role: str, seed: int, done: int) -> Context:
    """A context that reports a training as a part of the stage `repeat`, of which `done` steps are over."""

    def emit(event: Event) -> None:
        if isinstance(event, Step):
            event = replace(event, stage="repeat", step=done + event.step)
        elif isinstance(event, Epoch):
            event = replace(event, stage="repeat", role=role, seed=seed)
        context.emit(event)

    return replace(context, emit=emit)


def save_models(job: Job, teaching: Teaching, students: Students) -> None:
    """Puts all that predicting needs into the run's folder."""
    store, run_id = job.store, job.run_id
    store.write_text(run_id, "vocabulary.json", job.data.vocabulary.to_json())
    if teaching.folder is not None:
        for file in sorted(teaching.folder.glob(f"{ENCODER}/*")):
            store.link_file(run_id, f"{ENCODER}/{file.name}", file)
    if students.teacher is not None:
        store.write_tensors(run_id, TEACHER_WEIGHTS, students.teacher.model.state_dict())
    elif teaching.folder is not None:
        store.link_file(run_id, TEACHER_WEIGHTS, teaching.folder / TEACHER_WEIGHTS)
    for role, model in (("student", students.student), ("baseline", students.baseline)):
        if model is not None:
            store.write_tensors(run_id, f"{role}.safetensors", model.state_dict())


# Result


def test(job: Job, teaching: Teaching, students: Students) -> Result:
    """Opens the test split, once, and says what each model is worth."""
    labels_N = job.data.test.labels_N
    candidates = _candidates(job, teaching, students)
    with job.context.stage("test", len(candidates)) as outcome:
        entries, test_logits = evaluation.evaluate(job, candidates)
        repeated = [
            {
                "student": logits_of(pupil, job.data.test, job.context),
                **({"baseline": logits_of(alone, job.data.test, job.context)} if alone is not None else {}),
            }
            for pupil, alone in students.repeats
        ]
    comparison = metrics.comparison(entries, [test_logits, *repeated], labels_N)
    seconds = {**teaching.seconds, **students.seconds, "test": outcome.seconds}
    return {**_facts(job), **comparison, "seconds": seconds}


def _candidates(job: Job, teaching: Teaching, students: Students) -> list[Candidate]:
    teacher = students.teacher
    if teacher is None and teaching.folder is not None:
        teacher = teachers.saved(job, teaching.folder)
    found = [
        Candidate(
            "teacher",
            evaluation.describe_teacher(job),
            None if teacher is None else teacher.model,
            teacher.encode if teacher is not None else job.encode,
            students.teacher_logits or teaching.teacher_logits,
        )
    ]
    architecture = describe(student_model(job.config))
    for role, model in (("baseline", students.baseline), ("student", students.student)):
        if model is not None:
            found.append(Candidate(role, architecture, model, job.encode))
    return found


def _facts(job: Job) -> dict[str, Any]:
    data, config = job.data, job.config
    return {
        "run_id": job.run_id,
        "status": "finished",
        "device": job.context.compute.device.type,
        "precision": job.context.compute.precision,
        "dataset": config.data.name,
        "seed": config.training.seed,
        "labels": list(data.label_names),
        "sizes": {
            "train": len(data.train),
            "val": len(data.val),
            "test": len(data.test),
            "classes": len(data.label_names),
        },
    }
