"""What a finished run is worth: the test split is opened here, once, for all models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from distill_core.analysis import metrics, predict
from distill_core.config import ModelConfig, TeacherConfig
from distill_core.data.batches import EncodedTexts, SampleLogits
from distill_core.events import Step
from distill_core.job import Job
from distill_core.models import sizes
from distill_core.training.reading import logits_of

SPLITS = ("train", "val", "test")
Answers = dict[str, Tensor]
"""Logits of a model by split."""


@dataclass(frozen=True)
class Candidate:
    """A model of the run: what shapes it, and its way to read; a teacher that is a file has no model.

    `logits` are its answers to all splits where they are known already.
    """

    role: str
    settings: ModelConfig
    model: nn.Module | None
    encode: Callable[[str], list[int]]
    logits: SampleLogits | None = None


def _describe(settings: ModelConfig) -> str:
    """The architecture in a few words."""
    if not isinstance(settings, TeacherConfig) or settings.kind == "lstm":
        return sizes.describe(settings)
    return f"{settings.model}{', frozen' if settings.frozen else ''}" if settings.kind == "pretrained" else "file"


def evaluate(job: Job, candidates: Sequence[Candidate]) -> tuple[dict[str, dict[str, Any]], dict[str, Tensor]]:
    """Each model's entry of the result, and its logits for the test texts, by role; the teacher comes first."""
    entries: dict[str, dict[str, Any]] = {}
    answers: dict[str, Answers] = {}
    for done, candidate in enumerate(candidates):
        job.context.check()
        job.context.emit(Step("test", done, 0, None, None, None, None))
        answers[candidate.role] = own = _answers(candidate, job)
        entries[candidate.role] = {
            **_facts(candidate, job),
            "val_accuracy": metrics.accuracy(own["val"], job.data.val.labels_N),
            **metrics.quality(own["test"], job.data.test.labels_N),
            "train": {"accuracy": metrics.accuracy(own["train"], job.data.train.labels_N)},
        }
        if candidate.role != "teacher":
            entries[candidate.role] |= metrics.fidelity(own["test"], answers["teacher"]["test"])
            entries[candidate.role]["train"] |= metrics.fidelity(own["train"], answers["teacher"]["train"])
    return entries, {role: own["test"] for role, own in answers.items()}


def _answers(candidate: Candidate, job: Job) -> Answers:
    splits: dict[str, EncodedTexts] = {name: getattr(job.data, name) for name in SPLITS}
    if candidate.logits is not None:
        return {name: candidate.logits.of_ids(texts.ids_N) for name, texts in splits.items()}
    assert candidate.model is not None
    return {name: logits_of(candidate.model, texts, job.context) for name, texts in splits.items()}


def _facts(candidate: Candidate, job: Job) -> dict[str, Any]:
    model, architecture = candidate.model, _describe(candidate.settings)
    if model is None:
        return {"architecture": architecture, "parameters": None, "bytes": None, "latency_ms": None}
    return {
        "architecture": architecture,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "bytes": (job.store.run_folder(job.run_id) / f"{candidate.role}.safetensors").stat().st_size,
        "latency_ms": _latency_ms(model, candidate, job),
    }


_latencies: dict[tuple[str, ...], float] = {}


def _latency_ms(model: nn.Module, candidate: Candidate, job: Job) -> float:
    """Measured on the CPU wherever the run computes, since that is where the pages and most users predict.

    Weights say nothing about it: models of one shape that read the same texts are measured once in a process.
    """
    data = job.config.data.model_dump_json()
    shape = (candidate.settings.model_dump_json(), data, str(len(job.data.vocabulary)), *job.data.samples)
    if shape not in _latencies:
        model.eval()
        _latencies[shape] = predict.latency_ms(model.cpu(), candidate.encode, job.data.samples)
        model.to(job.context.compute.device)
    return _latencies[shape]
