"""The main path: a configuration becomes a teacher, a baseline, a student, and a result. Read this first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from distill_core import config as configuration
from distill_core import device
from distill_core.analysis import metrics, predict
from distill_core.config import ModelConfig, RunConfig
from distill_core.data import batches, sources
from distill_core.data.batches import EncodedDataset, EncodedTexts, SampleLogits
from distill_core.data.vocabulary import Vocabulary
from distill_core.events import Emit, RunStarted, StageFinished, StageStarted, stages_of
from distill_core.models import classifier
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

    data = prepare_data(config, store, check)
    teaching = obtain_teacher(config, data, store, context)
    students = train_students(config, data, teaching, context)
    save_models(run_id, store, config, data, teaching, students)
    result = test(run_id, store, config, data, teaching, students, context)
    store.write_result(run_id, result)
    return result


# Data


def prepare_data(config: RunConfig, store: Store, check: Callable[[], None] = lambda: None) -> EncodedDataset:
    """The data set as token ids: from the home folder, or read, tokenised and kept there."""
    key = data_key(config)
    folder = store.cached("tokens", key)
    if folder is None:
        encoded = batches.encode(sources.load(config.data), config.data, check)
        folder = store.publish("tokens", key, lambda path: _write_tokens(path, encoded))
    vocabulary = Vocabulary.from_json((folder / "vocabulary.json").read_text(encoding="utf-8"))
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    return EncodedDataset.from_tensors(labels, vocabulary, load_file(folder / "tokens.safetensors"))


def data_key(config: RunConfig) -> str:
    """Hash of all that decides the token ids."""
    source = sources.SOURCES[config.data.name].fingerprint()
    return configuration.digest([config.data.model_dump(mode="json"), source, _code_version("data")])


def _write_tokens(folder: Path, encoded: EncodedDataset) -> None:
    (folder / "vocabulary.json").write_text(encoded.vocabulary.to_json(), encoding="utf-8")
    (folder / "labels.json").write_text(json.dumps(encoded.label_names), encoding="utf-8")
    save_file(encoded.tensors(), folder / "tokens.safetensors")


# Teacher


@dataclass(frozen=True)
class Teaching:
    """A trained teacher: its weights on disk, its logits by sample id, and the seconds each stage took now."""

    weights: Path
    logits: SampleLogits
    seconds: dict[str, float]


def obtain_teacher(config: RunConfig, data: EncodedDataset, store: Store, context: Context) -> Teaching:
    """The teacher of this configuration: from the home folder, or trained and kept there."""
    key = teacher_key(config, context)
    folder = store.cached("teachers", key)
    if folder is not None:
        _report_cached(config, context.emit)
        seconds: dict[str, float] = {}
    else:
        model = _build(config.teacher, data, config.training.seed, context)
        seconds = {}
        if config.teacher.pretrain:
            seconds["pretrain"] = teacher.pretrain(
                model, data, config.teacher, seed=config.training.seed, context=context
            )
        seconds["finetune"] = teacher.finetune(model, data, config.teacher, seed=config.training.seed, context=context)
        logits, seconds["cache"] = teacher.cache_logits(model, data, context)
        folder = store.publish("teachers", key, lambda path: _write_teacher(path, config, model, logits))
    saved = load_file(folder / "logits.safetensors")
    return Teaching(folder / "model.safetensors", SampleLogits(saved["ids_N"], saved["logits_NC"]), seconds)


def teacher_key(config: RunConfig, context: Context) -> str:
    """Hash of all that decides a teacher: data, seed, its configuration, precision, and the code that trains it."""
    return configuration.digest(
        [
            data_key(config),
            config.training.seed,
            config.teacher.model_dump(mode="json"),
            context.compute.precision,
            torch.__version__,
            _code_version("models", "training"),
        ]
    )


def _report_cached(config: RunConfig, emit: Emit) -> None:
    stages = stages_of(config)
    for stage in stages[: stages.index("cache") + 1]:
        emit(StageStarted(stage, 0, cached=True))
        emit(StageFinished(stage, 0.0))


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


def train_students(config: RunConfig, data: EncodedDataset, teaching: Teaching, context: Context) -> Students:
    """Trains baseline and student from one start, with one order of batches."""
    seconds, baseline = {}, None
    if config.training.baseline:
        baseline = _build(config.student, data, config.training.seed, context)
        seconds["baseline"] = student.train_baseline(baseline, data, config.training, context=context)
    pupil = _build(config.student, data, config.training.seed, context)
    seconds["distil"] = student.distil(
        pupil, data, teaching.logits, config.objective, config.training, context=context
    )
    return Students(pupil, baseline, seconds)


def _build(settings: ModelConfig, data: EncodedDataset, seed: int, context: Context) -> TextClassifier:
    torch.manual_seed(seed)
    model = classifier.build(settings, len(data.vocabulary), len(data.label_names))
    return model.to(context.compute.device)


def save_models(
    run_id: str, store: Store, config: RunConfig, data: EncodedDataset, teaching: Teaching, students: Students
) -> None:
    """Puts all that predicting needs into the run's folder."""
    text = data.vocabulary.to_json()
    store.write_file(run_id, "vocabulary.json", lambda path: _write_text(path, text))
    store.link_file(run_id, "teacher.safetensors", teaching.weights)
    for role, model in (("student", students.student), ("baseline", students.baseline)):
        if model is not None:
            weights = model.state_dict()
            store.write_file(run_id, f"{role}.safetensors", lambda path, weights=weights: save_file(weights, path))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


# Result


def test(
    run_id: str,
    store: Store,
    config: RunConfig,
    data: EncodedDataset,
    teaching: Teaching,
    students: Students,
    context: Context,
) -> Result:
    """Opens the test split, once, and says what each model is worth."""
    mentor = _build(config.teacher, data, config.training.seed, context)
    mentor.load_state_dict(load_file(teaching.weights))
    candidates = {
        "teacher": (mentor, config.teacher),
        "baseline": (students.baseline, config.student),
        "student": (students.student, config.student),
    }
    # The texts themselves are needed once more, to time a prediction from its text on.
    texts = sources.load(config.data).test.texts
    entries: dict[str, dict[str, Any]] = {}
    with context.stage("test", len(candidates)) as outcome:
        for role, (model, settings) in candidates.items():
            if model is None:
                continue
            context.check()
            entry = _describe(model, settings, store.run_folder(run_id) / f"{role}.safetensors")
            entry["latency_ms"] = predict.latency_ms(
                model.cpu(), lambda text: data.vocabulary.encode(text, config.data.max_tokens), texts
            )
            entry |= _measure(role, model.to(context.compute.device), data, teaching.logits, context)
            entries[role] = entry
    accuracy = {role: entry["test_accuracy"] for role, entry in entries.items()}
    return {
        "run_id": run_id,
        "status": "finished",
        "device": context.compute.device.type,
        "precision": context.compute.precision,
        "dataset": config.data.name,
        "seed": config.training.seed,
        "labels": list(data.label_names),
        "sizes": {
            "train": len(data.train),
            "val": len(data.val),
            "test": len(data.test),
            "classes": len(data.label_names),
        },
        "teacher": entries["teacher"],
        "baseline": entries.get("baseline"),
        "student": entries["student"],
        "retention": accuracy["student"] / accuracy["teacher"] if accuracy["teacher"] else None,
        "gain": accuracy["student"] - accuracy["baseline"] if "baseline" in accuracy else None,
        "seconds": {**teaching.seconds, **students.seconds, "test": outcome.seconds},
    }


def _describe(model: TextClassifier, settings: ModelConfig, weights: Path) -> dict[str, Any]:
    return {
        "architecture": classifier.describe(settings),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "bytes": weights.stat().st_size,
    }


def _measure(
    role: str, model: TextClassifier, data: EncodedDataset, teacher_logits: SampleLogits, context: Context
) -> dict[str, float]:
    """Validation accuracy, quality on the test split and, for students, fidelity to the teacher there."""

    def logits(texts: EncodedTexts) -> Tensor:
        return teacher_logits.of_ids(texts.ids_N) if role == "teacher" else logits_of(model, texts, context)

    val_NC, test_NC = logits(data.val), logits(data.test)
    figures = {
        "val_accuracy": metrics.accuracy(val_NC, data.val.labels_N),
        **metrics.quality(test_NC, data.test.labels_N),
    }
    if role != "teacher":
        figures |= metrics.fidelity(test_NC, teacher_logits.of_ids(data.test.ids_N))
    return figures


def _code_version(*packages: str) -> str:
    """Hash of the source text of some of our packages, so that what old code computed is not taken for new."""
    folder = Path(__file__).parent
    files = sorted(file for package in packages for file in (folder / package).glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
