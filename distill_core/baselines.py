"""Baselines that are kept: neither teacher nor β counts for them, so all runs that differ in those share one a seed."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from distill_core import files, keys
from distill_core.data import shares
from distill_core.data.batches import EncodedTexts, SampleLogits
from distill_core.errors import DataError
from distill_core.events import Epoch, Event
from distill_core.job import Job, Trainable
from distill_core.models.sizes import student_model, work_of
from distill_core.store import BASELINE_WEIGHTS
from distill_core.training import student
from distill_core.training.context import Context
from distill_core.training.reading import logits_of

EPOCHS = "epochs.json"
ANSWERS = "answers.safetensors"


def texts_of(job: Job) -> EncodedTexts:
    """What a baseline learns from: the labels that its student may see."""
    share = job.config.training.label_share
    train = job.data.train
    return train if share == 1 else shares.repeated(train, shares.kept_ids(train, share))


def is_kept(job: Job, seed: int) -> bool:
    """Whether the baseline of a seed has been trained before."""
    key = _key(job, seed)
    return key is not None and job.store.cached("baselines", key) is not None


def is_being_trained(job: Job, seed: int) -> bool:
    """Whether another process is at the baseline of a seed, and will keep it."""
    key = _key(job, seed)
    lock = None if key is None else _lock(job, key)
    if lock is None or not lock.exists():
        return False
    with files.alone(lock, None) as mine:
        return not mine


def obtain(job: Job, start: Trainable, seed: int, context: Context) -> float | None:
    """Gives a model at its start the weights of a trained baseline; returns its accuracy in the best epoch.

    It comes from the home folder, or is trained and kept there. The epochs of one that was kept are told again.
    """
    key = _key(job, seed)
    if key is None:
        return _train(job, start, seed, context)
    lock = _lock(job, key)
    lock.parent.mkdir(parents=True, exist_ok=True)
    with files.alone(lock, context.check):
        folder = job.store.usable("baselines", key)
        if folder is None:
            epochs = list[Epoch]()
            accuracy = _train(job, start, seed, _noting(context, epochs))
            whole = bool(epochs) and epochs[0].epoch == 1  # one that went on from a checkpoint has told some before
            if whole and context.control.stopped is None:
                _keep(job, key, start, epochs, accuracy)
            return accuracy
    start.load_state_dict(load_file(folder / BASELINE_WEIGHTS))
    told = json.loads((folder / EPOCHS).read_text(encoding="utf-8"))
    for epoch in told["epochs"]:
        context.emit(Epoch(**epoch))
    accuracy = told["accuracy"]
    return None if accuracy is None else float(accuracy)


def answers(job: Job, model: nn.Module) -> SampleLogits | None:
    """What the baseline of the first seed says to all labelled texts: kept beside it, or asked now and kept.

    None for a baseline that is not kept.
    """
    key = _key(job, job.config.training.seed)
    folder = None if key is None else job.store.usable("baselines", key)
    if key is None or folder is None:
        return None
    with suppress(OSError, SafetensorError):  # nobody has asked it yet
        return SampleLogits.from_tensors(load_file(folder / ANSWERS))
    splits = (job.data.train, job.data.val, job.data.test)
    given = SampleLogits.of([(texts, logits_of(model, texts, job.context)) for texts in splits])
    try:
        job.store.complete("baselines", key, ANSWERS, given.tensors())
    except SafetensorError as error:  # caches were cleaned meanwhile
        if files.says_full(error):
            raise
    return given


def have(job: Job, seed: int) -> None:
    """Trains and keeps the baseline of a seed, unless it is kept or cannot be, or another process is at it."""
    if _key(job, seed) is not None and not is_kept(job, seed) and not is_being_trained(job, seed):
        obtain(job, job.build(student_model(job.config), seed), seed, job.context)


def _key(job: Job, seed: int) -> str | None:
    """Its place in the home folder; None where more than the settings decides it."""
    if job.config.student.word_vectors == "glove":
        return None
    precision = job.context.compute.precision_of(work_of(student_model(job.config)))
    with suppress(DataError):  # its file has gone since the run has read it
        return keys.baseline_key(job.config, precision, job.store.data_folder, seed, torch.get_num_threads())
    return None


def _lock(job: Job, key: str) -> Path:
    """Held by the process that trains a baseline."""
    return job.store.home / "baselines" / f".{key}.lock"


def _train(job: Job, start: Trainable, seed: int, context: Context) -> float | None:
    training = job.config.training
    return student.train_baseline(start, texts_of(job), job.data.val, training, seed=seed, context=context).accuracy


def _noting(context: Context, epochs: list[Epoch]) -> Context:
    """A context that also writes the epochs down, as they are before a repeat gives them its own name."""

    def emit(event: Event) -> None:
        if isinstance(event, Epoch):
            epochs.append(event)
        context.emit(event)

    return replace(context, emit=emit)


def _keep(job: Job, key: str, model: Trainable, epochs: list[Epoch], accuracy: float | None) -> None:
    def fill(folder: Path) -> None:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / BASELINE_WEIGHTS)
        told = {"accuracy": accuracy, "epochs": [asdict(epoch) for epoch in epochs]}
        (folder / EPOCHS).write_text(json.dumps(told), encoding="utf-8")

    job.store.publish("baselines", key, fill)
