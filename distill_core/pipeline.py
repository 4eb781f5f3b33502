"""The main path: a configuration becomes a teacher, a baseline, a student, and a result. Read this first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from distill_core import device, keys
from distill_core.analysis import metrics, predict
from distill_core.config import ModelConfig, RunConfig
from distill_core.data import batches, sources
from distill_core.data.batches import EncodedDataset, EncodedTexts, SampleLogits
from distill_core.data.profile import Profile
from distill_core.data.vocabulary import Vocabulary
from distill_core.events import Emit, RunStarted, StageFinished, StageStarted, stages_of
from distill_core.models import classifier, sizes
from distill_core.models.classifier import TextClassifier
from distill_core.store import Store
from distill_core.training import student, teacher
from distill_core.training.loop import Context, logits_of

Result = dict[str, Any]


def run(run_id: str, store: Store, emit: Emit, check: Callable[[], None]) -> Result:
    """Takes a run from its configuration to its result, which is written and returned.

    Args:
        emit: receives the events of the run, all but the last.
        check: called before each batch; raises Cancelled once the run should stop.

    Raises:
        DistillError: the data cannot be used.
        Cancelled: from `check`.
    """
    config = store.config(run_id)
    device.use_all_cores()
    context = Context(device.choose(config.training.precision), emit, check)
    emit(RunStarted(run_id, stages_of(config), context.compute.device.type, context.compute.precision))

    job = Job(run_id, store, config, prepare_data(config, store, check), context)
    teaching = obtain_teacher(job)
    students = train_students(job, teaching)
    save_models(job, teaching, students)
    result = test(job, teaching, students)
    store.write_result(run_id, result)
    return result


def warm_up() -> None:
    """Takes one training step of a tiny model, so that what PyTorch loads at its first step is there."""
    model = classifier.build(ModelConfig(size="XS"), 10, 2)
    logits_BC = model(torch.ones(2, 3, dtype=torch.long), torch.tensor([3, 2]))
    optimizer = torch.optim.Adam(model.parameters())
    logits_BC.sum().backward()
    optimizer.step()


@dataclass(frozen=True)
class Job:
    """What all stages of one run share."""

    run_id: str
    store: Store
    config: RunConfig
    data: EncodedDataset
    context: Context

    def build(self, settings: ModelConfig) -> TextClassifier:
        """A new model on the run's device; the same settings give the same start every time."""
        torch.manual_seed(self.config.training.seed)
        model = classifier.build(settings, len(self.data.vocabulary), len(self.data.label_names))
        return model.to(self.context.compute.device)


# Data


def prepare_data(config: RunConfig, store: Store, check: Callable[[], None] = lambda: None) -> EncodedDataset:
    """The data set as token ids: from the home folder, or read, tokenised and kept there."""
    key = keys.data_key(config)
    folder = store.cached("tokens", key)
    if folder is None:
        encoded = batches.encode(sources.load(config.data), config.data, check)
        folder = store.publish("tokens", key, lambda path: _write_tokens(path, encoded))
    vocabulary = Vocabulary.from_json((folder / "vocabulary.json").read_text(encoding="utf-8"))
    return EncodedDataset.from_tensors(
        Profile.read(folder).labels, vocabulary, load_file(folder / "tokens.safetensors")
    )


def _write_tokens(folder: Path, encoded: EncodedDataset) -> None:
    (folder / "vocabulary.json").write_text(encoded.vocabulary.to_json(), encoding="utf-8")
    encoded.profile().write(folder)
    save_file(encoded.tensors(), folder / "tokens.safetensors")


# Teacher


@dataclass(frozen=True)
class Teaching:
    """A trained teacher: its weights on disk, its logits by sample id, and the seconds each stage took now."""

    weights: Path
    logits: SampleLogits
    seconds: dict[str, float]


def obtain_teacher(job: Job) -> Teaching:
    """The teacher of this configuration: from the home folder, or trained and kept there."""
    key = keys.teacher_key(job.config, job.context.compute.precision)
    folder, seconds = job.store.cached("teachers", key), dict[str, float]()
    if folder is None:
        model, logits, seconds = train_teacher(job)
        folder = job.store.publish("teachers", key, lambda path: _write_teacher(path, job.config, model, logits))
    saved = load_file(folder / "logits.safetensors")
    logits = SampleLogits(saved["ids_N"], saved["logits_NC"])
    if not seconds:
        _report_cached(job, logits)
    return Teaching(folder / "model.safetensors", logits, seconds)


def train_teacher(job: Job) -> tuple[TextClassifier, SampleLogits, dict[str, float]]:
    """Pre-trains and fine-tunes a teacher and lets it answer every text; also the seconds of each stage."""
    settings, seed, seconds = job.config.teacher, job.config.training.seed, {}
    model = job.build(settings)
    if settings.pretrain:
        seconds["pretrain"] = teacher.pretrain(model, job.data, settings, seed=seed, context=job.context)
    seconds["finetune"] = teacher.finetune(model, job.data, settings, seed=seed, context=job.context)
    logits, seconds["cache"] = teacher.cache_logits(model, job.data, job.context)
    return model, logits, seconds


def _report_cached(job: Job, logits: SampleLogits) -> None:
    accuracy = metrics.accuracy(logits.of_ids(job.data.val.ids_N), job.data.val.labels_N)
    stages = stages_of(job.config)
    for stage in stages[: stages.index("cache") + 1]:
        job.context.emit(StageStarted(stage, 0, cached=True))
        job.context.emit(StageFinished(stage, 0.0, None if stage == "pretrain" else accuracy))


def _write_teacher(folder: Path, config: RunConfig, model: TextClassifier, logits: SampleLogits) -> None:
    (folder / "config.json").write_text(config.to_json(), encoding="utf-8")
    save_file(model.state_dict(), folder / "model.safetensors")
    save_file({"ids_N": logits.ids_N, "logits_NC": logits.logits_NC}, folder / "logits.safetensors")


# Student and baseline


@dataclass(frozen=True)
class Students:
    """The student, the same student without a teacher, and the seconds that each took."""

    student: TextClassifier
    baseline: TextClassifier | None
    seconds: dict[str, float]


def train_students(job: Job, teaching: Teaching) -> Students:
    """Trains baseline and student from one start, with one order of batches."""
    config, seconds, baseline = job.config, dict[str, float](), None
    if config.training.baseline:
        baseline = job.build(config.student)
        seconds["baseline"] = student.train_baseline(baseline, job.data, config.training, context=job.context)
    pupil = job.build(config.student)
    seconds["distil"] = student.distil(
        pupil, job.data, teaching.logits, config.objective, config.training, context=job.context
    )
    return Students(pupil, baseline, seconds)


def save_models(job: Job, teaching: Teaching, students: Students) -> None:
    """Puts all that predicting needs into the run's folder."""
    job.store.write_text(job.run_id, "vocabulary.json", job.data.vocabulary.to_json())
    job.store.link_file(job.run_id, "teacher.safetensors", teaching.weights)
    for role, model in (("student", students.student), ("baseline", students.baseline)):
        if model is not None:
            job.store.write_tensors(job.run_id, f"{role}.safetensors", model.state_dict())


# Result


def test(job: Job, teaching: Teaching, students: Students) -> Result:
    """Opens the test split, once, and says what each model is worth."""
    mentor = job.build(job.config.teacher)
    mentor.load_state_dict(load_file(teaching.weights))
    candidates = {"teacher": mentor, "baseline": students.baseline, "student": students.student}
    present = {role: model for role, model in candidates.items() if model is not None}
    # The texts themselves are needed once more, to time a prediction from its text on.
    texts = sources.load(job.config.data).test.texts
    entries: dict[str, dict[str, Any]] = {}
    test_logits: dict[str, Tensor] = {}
    with job.context.stage("test", len(present)) as outcome:
        for role, model in present.items():
            job.context.check()
            answers = _answers(role, model, job, teaching)
            test_logits[role] = answers(job.data.test)
            entries[role] = {
                **_describe(role, model, job),
                "latency_ms": _latency_ms(model, job, texts),
                "val_accuracy": metrics.accuracy(answers(job.data.val), job.data.val.labels_N),
                **metrics.quality(test_logits[role], job.data.test.labels_N),
            }
            if role != "teacher":
                entries[role] |= metrics.fidelity(test_logits[role], test_logits["teacher"])
    seconds = {**teaching.seconds, **students.seconds, "test": outcome.seconds}
    return {**_facts(job), **_comparison(entries, test_logits, job.data.test.labels_N), "seconds": seconds}


def _answers(role: str, model: TextClassifier, job: Job, teaching: Teaching) -> Callable[[EncodedTexts], Tensor]:
    """Logits of a model for a split; the teacher's were cached."""
    if role == "teacher":
        return lambda texts: teaching.logits.of_ids(texts.ids_N)
    return lambda texts: logits_of(model, texts, job.context)


def _describe(role: str, model: TextClassifier, job: Job) -> dict[str, Any]:
    settings = job.config.teacher if role == "teacher" else job.config.student
    return {
        "architecture": sizes.describe(settings),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "bytes": (job.store.run_folder(job.run_id) / f"{role}.safetensors").stat().st_size,
    }


def _latency_ms(model: TextClassifier, job: Job, texts: tuple[str, ...]) -> float:
    """Measured on the CPU wherever the run computes, since that is where the pages and most users predict."""

    def encode(text: str) -> list[int]:
        return job.data.vocabulary.encode(text, job.config.data.max_tokens)

    latency = predict.latency_ms(model.cpu(), encode, texts)
    model.to(job.context.compute.device)
    return latency


def _facts(job: Job) -> dict[str, Any]:
    data = job.data
    return {
        "run_id": job.run_id,
        "status": "finished",
        "device": job.context.compute.device.type,
        "precision": job.context.compute.precision,
        "dataset": job.config.data.name,
        "seed": job.config.training.seed,
        "labels": list(data.label_names),
        "sizes": {
            "train": len(data.train),
            "val": len(data.val),
            "test": len(data.test),
            "classes": len(data.label_names),
        },
    }


def _comparison(entries: dict[str, dict[str, Any]], test_logits: dict[str, Tensor], labels_N: Tensor) -> dict[str, Any]:
    """The models' entries, retention, and the gain over the baseline with half its 95 % interval."""
    accuracy = {role: entry["test_accuracy"] for role, entry in entries.items()}
    gain = margin = None
    if "baseline" in accuracy:
        gain = accuracy["student"] - accuracy["baseline"]
        margin = metrics.paired_margin(test_logits["student"], test_logits["baseline"], labels_N)
    return {
        "teacher": entries["teacher"],
        "baseline": entries.get("baseline"),
        "student": entries["student"],
        "retention": accuracy["student"] / accuracy["teacher"] if accuracy["teacher"] else None,
        "gain": gain,
        "gain_margin": margin,
    }
