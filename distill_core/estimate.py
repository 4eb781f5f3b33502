"""How long a run will take, learned from past runs on this machine. Needs no PyTorch.

A stage's work is counted in multiply-adds: recurrent weights × tokens × epochs, plus a fixed amount a step. Past runs
say how many of those this machine does in a second at that stage.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
from collections.abc import Iterator, Mapping

from distill_core import keys
from distill_core.config import ModelConfig, RunConfig
from distill_core.data.profile import Profile
from distill_core.errors import DistillError
from distill_core.events import History, stages_of
from distill_core.models.sizes import recurrent_parameters, widths
from distill_core.store import Store

STEP_COST = 2e8
"""Multiply-adds that take as long as what every training step costs besides them."""
DEFAULT_RATE = 4e10
"""Multiply-adds a second, until a run has shown this machine's own rate."""
PAST_RUNS = 20


def seconds_by_stage(config: RunConfig, profile: Profile, store: Store) -> dict[str, float]:
    """Expected seconds of each stage; stages whose outcome lies in the home folder take none."""
    rates = learned_rates(store, profile)
    cached = teacher_is_cached(config, store)
    return {
        stage: 0.0 if cached and stage in ("pretrain", "finetune", "cache") else work / rates.get(stage, DEFAULT_RATE)
        for stage, work in work_by_stage(config, profile).items()
    }


def teacher_is_cached(config: RunConfig, store: Store) -> bool:
    """Whether the teacher of this configuration has been trained before."""
    precisions = ("float32", "bfloat16") if config.training.precision == "auto" else (config.training.precision,)
    return any(store.cached("teachers", keys.teacher_key(config, precision)) for precision in precisions)


def learned_rates(store: Store, profile: Profile) -> Mapping[str, float]:
    """Multiply-adds a second at each stage: medians over the latest runs that finished here on data of this kind."""
    seen: dict[str, list[float]] = {}
    for config, seconds_by_stage in itertools.islice(_finished(store), PAST_RUNS):
        work = work_by_stage(config, profile)
        for stage, seconds in seconds_by_stage.items():
            if seconds > 0 and stage in work:
                seen.setdefault(stage, []).append(work[stage] / seconds)
    return {stage: statistics.median(rates) for stage, rates in seen.items()}


def _finished(store: Store) -> Iterator[tuple[RunConfig, dict[str, float]]]:
    """Configuration and seconds of each finished run that can be read, latest first."""
    for run_id in reversed(store.run_ids()):
        with contextlib.suppress(DistillError, KeyError):
            result = store.result(run_id)
            if result is not None:
                yield store.config(run_id), result["seconds"]


def work_by_stage(config: RunConfig, profile: Profile) -> dict[str, float]:
    """Multiply-adds of each stage that the configuration goes through."""
    texts = min(profile.texts["train"], config.data.train_limit or profile.texts["train"])
    plots = min(profile.texts["unlabelled"], _or_all(config.data.unlabelled_limit, profile.texts["unlabelled"]))
    train_tokens = texts * profile.mean_tokens["train"]
    plot_tokens = plots * profile.mean_tokens["unlabelled"]
    teacher, training = config.teacher, config.training
    student_epoch = _training_work(config.student, texts, train_tokens, training.batch_size)
    every_text = sum(profile.texts[split] for split in ("train", "val", "test"))
    work = {
        "pretrain": teacher.pretrain_epochs
        * (
            _training_work(teacher, texts + plots, train_tokens + plot_tokens, teacher.batch_size)
            + 3 * (train_tokens + plot_tokens) * widths(teacher).hidden * 1200
        ),
        "finetune": teacher.epochs * _training_work(teacher, texts, train_tokens, teacher.batch_size),
        "cache": recurrent_parameters(teacher) * every_text * profile.mean_tokens["train"] + 10 * STEP_COST,
        "baseline": training.epochs * student_epoch,
        "distil": training.epochs * student_epoch,
        "test": 250 * STEP_COST,
    }
    return {stage: work[stage] for stage in stages_of(config)}


def _training_work(model: ModelConfig, texts: int, tokens: float, batch_size: int) -> float:
    return 3 * recurrent_parameters(model) * tokens + STEP_COST * texts / batch_size


def _or_all(limit: int | None, count: int) -> int:
    return count if limit is None else limit


def remaining(history: History, expected: Mapping[str, float]) -> tuple[float, float]:
    """The part of a run's time that is over, 0 to 1, and the seconds that are left.

    A stage under way is judged by its own speed once enough of it is done; stages to come by what was expected,
    corrected by how this run's stages have compared with their expectation so far.
    """
    done = {stage: history.progress[stage].seconds or 0.0 for stage in expected if _is_done(history, stage)}
    planned = sum(expected[stage] for stage in done)
    pace = sum(done.values()) / planned if planned > 0 else 1.0
    spent, left = sum(done.values()), 0.0
    for stage, seconds in expected.items():
        if stage in done:
            continue
        progress = history.progress.get(stage)
        if progress is None:
            left += pace * seconds
        else:
            elapsed = max(progress.updated - progress.started, 0.0)
            by_speed = elapsed / progress.fraction if progress.fraction > 0 else pace * seconds
            trust = min(progress.fraction * 4, 1.0)
            spent += elapsed
            left += max(trust * by_speed + (1 - trust) * pace * seconds - elapsed, 0.0)
    return spent / max(spent + left, 1e-9), left


def _is_done(history: History, stage: str) -> bool:
    return stage in history.progress and history.progress[stage].finished
