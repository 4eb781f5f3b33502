"""The main path: a configuration becomes a teacher, a baseline, a student, and a result. Read this first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from distill_core import baselines, device, evaluation, keys, teachers
from distill_core.analysis import metrics
from distill_core.checkpoints import RunCheckpoints
from distill_core.computing import compute_for
from distill_core.config import ModelConfig, RunConfig
from distill_core.control import Control
from distill_core.evaluation import Candidate
from distill_core.events import Emit, RunStarted, Warned, stages_of
from distill_core.job import Job
from distill_core.models import classifier
from distill_core.models.sizes import student_model
from distill_core.store import ENCODER, TEACHER_WEIGHTS, Store
from distill_core.students import Students, train_students
from distill_core.teaching import Teaching, prepare_teaching, read_data
from distill_core.training.context import Context
from distill_core.training.reading import logits_of

Result = dict[str, Any]


def run(run_id: str, store: Store, emit: Emit, control: Control) -> Result:
    """Takes a run from its configuration to its result, which is written and returned.

    A run that was interrupted goes on from its checkpoints.

    Args:
        emit: receives the events of the run, all but the last.
        control: asked before each batch whether to go on.

    Raises:
        DistillError: the data or the teacher cannot be used.
        Cancelled, Interrupted: from `control`.
    """
    config = store.config(run_id)
    device.use_all_cores()
    device.keep_memory()
    compute = compute_for(config, store)
    checkpoints = store.checkpoints(run_id, compute.name, control.clock)
    context = Context(compute, emit, control, checkpoints=checkpoints)
    emit(RunStarted(run_id, _stages(config, store), compute.device.type, compute.precision))
    if checkpoints.lost:
        emit(Warned("The run began anew: since it was interrupted, the lab or the machine has changed."))

    job = Job(run_id, store, config, read_data(config, store, context), context)
    control.show = lambda batch: store.write_batch(run_id, _readable(batch, job))
    teaching = prepare_teaching(job)
    students = train_students(job, teaching)
    save_models(job, teaching, students)
    result = test(job, teaching, students, checkpoints)
    store.write_result(run_id, result)
    return result


def _stages(config: RunConfig, store: Store) -> tuple[str, ...]:
    """The stages of this run; reading the data is one of them where nobody has read it before."""
    stages = stages_of(config)
    unread = store.cached("tokens", keys.data_key(config, store.data_folder)) is None
    return ("read", *stages) if unread and "read" not in stages else stages


def _readable(batch: Mapping[str, Any], job: Job) -> dict[str, Any]:
    """A batch that somebody looks at, with words in place of token ids."""
    words = job.data.vocabulary.tokens
    texts = [{**text, "tokens": [words[token] for token in text["tokens"]]} for text in batch["texts"]]
    return {**batch, "texts": texts, "labels": list(job.data.label_names)}


def warm_up() -> None:
    """Takes one training step of a tiny model and judges it, so that all that a run loads is there before it begins."""
    model = classifier.build(ModelConfig(size="XS"), 10, 2)
    logits_BC = model(torch.ones(2, 3, dtype=torch.long), torch.tensor([3, 2]))
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    logits_BC.sum().backward()
    optimizer.step()
    metrics.quality(logits_BC.detach(), torch.tensor([0, 1]))


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


def test(job: Job, teaching: Teaching, students: Students, checkpoints: RunCheckpoints) -> Result:
    """Opens the test split, once, and says what each model is worth."""
    labels_N = job.data.test.labels_N
    candidates = _candidates(job, teaching, students)
    with job.context.stage("test", len(candidates)) as outcome:
        entries, test_logits = evaluation.evaluate(job, candidates)
        repeated = [
            {
                "student": logits_of(model, job.data.test, job.context),
                **({"baseline": logits_of(alone, job.data.test, job.context)} if alone is not None else {}),
            }
            for model, alone in students.repeats
        ]
    comparison = metrics.comparison(entries, [test_logits, *repeated], labels_N)
    if comparison["seeds"] is not None:
        comparison["seeds"]["val_accuracies"] = [entries["student"]["val_accuracy"], *students.repeat_scores]
    own = {**teaching.seconds, **students.seconds, "test": outcome.seconds}
    # A stage that this run had finished before it was interrupted has its time in the checkpoints.
    spent = {**own, **checkpoints.seconds_by_stage}
    seconds = {stage: spent[stage] for stage in job.stages if stage in spent}
    return {**_facts(job), **comparison, "seconds": seconds, "stopped": _stopped(students, job)}


def _stopped(students: Students, job: Job) -> dict[str, Any] | None:
    """Where somebody has stopped the training: in the student itself, or later."""
    stopped = job.context.control.stopped
    if stopped is None:
        return None
    return {**asdict(stopped), "in_student": "repeat" not in students.seconds and stopped.stage != "baseline"}


def _candidates(job: Job, teaching: Teaching, students: Students) -> list[Candidate]:
    teacher = students.teacher
    if teacher is None and teaching.folder is not None:
        teacher = teachers.saved(job, teaching.folder)
    found = [
        Candidate(
            "teacher",
            job.config.teacher,
            None if teacher is None else teacher.model,
            teacher.encode if teacher is not None else job.encode,
            students.teacher_logits or teaching.teacher_logits,
        )
    ]
    settings = student_model(job.config)
    for role, model in (("baseline", students.baseline), ("student", students.student)):
        if model is not None:
            known = baselines.answers(job, model) if role == "baseline" else None
            found.append(Candidate(role, settings, model, job.encode, known))
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
