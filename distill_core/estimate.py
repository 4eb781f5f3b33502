"""How long a run will take, learned from past runs on this machine. Needs no PyTorch.

A stage's work is counted in multiply-adds: weights used for a token × tokens × epochs, plus a fixed amount a step.
Past runs say how many of those this machine does in a second at that stage.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from distill_core import keys, machine, openmp, processor
from distill_core.config import MINILM, ModelConfig, RunConfig, TeacherConfig
from distill_core.data.profile import Profile
from distill_core.errors import DataError, DistillError
from distill_core.events import History, stages_of
from distill_core.models.sizes import (
    Work,
    assistant_model,
    encoder_size,
    reading_parameters,
    student_model,
    widths,
    work_of,
)
from distill_core.store import TEACHER_LOGITS, Store

STEP_COST = 2e8
"""Multiply-adds that take as long as what every training step costs besides them."""
DEFAULT_RATE = 4e10
"""Multiply-adds a second, until a run has shown this machine's own rate."""
PAST_RUNS = 20


WORD_PIECES = 1.3
"""Word pieces of an encoder to one word of ours."""
READ_RATE = 4000.0
"""Texts read and tokenised in a second."""
GPUS = ("nvidia[0-9]*", "nvmap", "kfd", "dxg")
"""Files of GPUs in /dev: NVIDIA's, Jetson's, AMD's, and either under WSL."""
TEACHER_STAGES = ("pretrain", "finetune", "cache", "transfer", "words")


def seconds_by_stage(
    config: RunConfig,
    profile: Profile | None,
    store: Store,
    rates: Mapping[str, float] | None = None,
    cached: set[str] | None = None,
) -> dict[str, float]:
    """Expected seconds of each stage; stages whose outcome lies in the home folder take none.

    Args:
        profile: None while the data set has not been read.
        rates: multiply-adds a second by kind of work, by default those of past runs.
        cached: the stages that take none, where that is known.
    """
    rates = learned_rates(store, profile) if rates is None else rates
    cached = cached_stages(config, store) if cached is None else cached
    return {
        stage: 0.0 if stage in cached else work / rates.get(_kind(config, stage), DEFAULT_RATE)
        for stage, work in work_by_stage(config, profile).items()
    }


def teacher_is_cached(config: RunConfig, store: Store) -> bool:
    """Whether the teacher of this configuration has been trained before."""
    return "finetune" in cached_stages(config, store)


def cached_stages(config: RunConfig, store: Store) -> set[str]:
    """The stages whose outcome lies in the home folder."""
    folder, cached = store.data_folder, set[str]()
    try:
        if _is_read(config, store):
            cached.add("read")
    except DistillError:  # the file of a past run may be gone
        return cached
    for precision in precisions(config, work_of(config.teacher), store):
        cached |= _cached_of_teacher(config, store, precision)
    seed = config.training.seed
    for precision in precisions(config, work_of(student_model(config)), store):
        baselines = (keys.baseline_key(config, precision, folder, seed, threads) for threads in (1, openmp.cores()))
        if any(store.cached("baselines", key) for key in baselines):
            cached.add("baseline")
    return cached


def _is_read(config: RunConfig, store: Store) -> bool:
    return store.cached("tokens", keys.data_key(config, store.data_folder)) is not None


def _cached_of_teacher(config: RunConfig, store: Store, precision: str) -> set[str]:
    """Those of a teacher of one precision."""
    folder, cached = store.data_folder, set[str]()
    if store.cached("teachers", keys.teacher_key(config, precision, folder)):
        cached |= {"pretrain", "finetune", "cache"}
    if store.cached("transfer", keys.transfer_key(config, precision, folder)):
        cached.add("transfer")
    if store.cached("words", keys.words_key(config, precision, folder)):
        cached.add("words")
    return cached


def teaching_is_kept(config: RunConfig, store: Store) -> bool:
    """Whether a student of this configuration can begin at once: all that it learns from lies in the home folder.

    Where only PyTorch could tell the precision, all has to be there in each that it may be.
    """
    kinds = precisions(config, work_of(config.teacher), store)
    return _is_read(config, store) and all(_has_taught(config, store, precision) for precision in kinds)


def _has_taught(config: RunConfig, store: Store, precision: str) -> bool:
    if not set(stages_of(config)).intersection(TEACHER_STAGES) <= _cached_of_teacher(config, store, precision):
        return False
    teacher = store.cached("teachers", keys.teacher_key(config, precision, store.data_folder))
    return config.teacher.kind == "file" or (teacher is not None and (teacher / TEACHER_LOGITS).is_file())


def precisions(config: RunConfig, work: Work, store: Store) -> tuple[str, ...]:
    """What the precision of one of a run's models may be, as far as that can be said without PyTorch."""
    if config.training.precision != "auto":
        return (config.training.precision,)
    if may_have_gpu():
        return ("float32", "bfloat16")
    if work == "other" or not processor.may_have_bfloat16():
        return ("float32",)
    known = machine.narrow(store)
    return ("float32", "bfloat16") if known is None else ("bfloat16" if work in known else "float32",)


def may_have_gpu() -> bool:
    """Whether PyTorch may find a GPU here; only on Linux can that be ruled out without it."""
    return sys.platform != "linux" or any(any(Path("/dev").glob(name)) for name in GPUS)


def learned_rates(store: Store, profile: Profile | None = None, *, packed: bool = False) -> Mapping[str, float]:
    """Multiply-adds a second by kind of work: medians over the latest runs that finished here.

    Args:
        profile: what is assumed of the data of a run whose own is unknown.
        packed: of cells of sweeps, each of which had one core; other runs count only where those say nothing.
    """
    ours, others = dict[str, list[float]](), dict[str, list[float]]()
    for config, seconds_by_stage, in_sweep in itertools.islice(_finished(store), PAST_RUNS):
        work = work_by_stage(config, past_profile(config, store) or profile)
        rates = ours if in_sweep == packed else others
        for stage, seconds in seconds_by_stage.items():
            # Other processes may have trained further seeds for a cell.
            if seconds > 0 and stage in work and not (in_sweep and stage == "repeat"):
                rates.setdefault(_kind(config, stage), []).append(work[stage] / seconds)
    return {kind: statistics.median(rates) for kind, rates in {**others, **ours}.items()}


def _kind(config: RunConfig, stage: str) -> str:
    """Work of one kind goes at one speed: a stage, and the sort of model that is at work in it."""
    if stage in TEACHER_STAGES:
        return f"{stage} {config.teacher.kind}"
    if stage == "distil" and config.objective.mode == "joint":
        return f"{stage} {config.student.kind} beside {config.teacher.kind}"
    return f"{stage} {config.student.kind}" if stage in ("baseline", "distil", "repeat") else stage


def known_profile(config: RunConfig, store: Store) -> Profile | None:
    """What the configured data set looks like; None where nobody has read it, or what was kept is spoilt.

    Raises:
        DataError: its file is gone.
    """
    folder = store.cached("tokens", keys.data_key(config, store.data_folder))
    try:
        return None if folder is None else Profile.read(folder)
    except DataError:
        return None


def past_profile(config: RunConfig, store: Store) -> Profile | None:
    """The same of a run that has read its data, whose file may be gone by now."""
    with contextlib.suppress(DistillError):
        return known_profile(config, store)
    return None


def _finished(store: Store) -> Iterator[tuple[RunConfig, dict[str, float], bool]]:
    """Configuration and seconds of each finished run that can be read, and whether it is a sweep's, latest first."""
    for run_id in reversed(store.run_ids()):
        with contextlib.suppress(DistillError, KeyError):
            result = store.result(run_id)
            # One that was stopped has not done the work that its settings say.
            if result is not None and not result.get("stopped") and isinstance(result["seconds"], dict):
                yield store.config(run_id), result["seconds"], _is_of_sweep(run_id, store)


def _is_of_sweep(run_id: str, store: Store) -> bool:
    with contextlib.suppress(DistillError):
        return store.status(run_id).sweep is not None
    return False


def assumed(name: str) -> Profile:
    """What is assumed of a data set that has not been read: one that comes with the lab is known, others are large.

    Args:
        name: as in `data.name`.
    """
    return _KNOWN.get(name, _LARGE)


def _profile_of(labels: tuple[str, ...], vocabulary: int, **splits: tuple[int, float]) -> Profile:
    texts = {name: count for name, (count, _) in splits.items()}
    return Profile(labels, vocabulary, texts, mean_tokens={name: mean for name, (_, mean) in splits.items()})


_LARGE = _profile_of(
    ("a", "b"), 10_000, train=(22_500, 230.0), val=(2_500, 230.0), test=(25_000, 230.0), unlabelled=(50_000, 230.0)
)
"""The IMDB reviews."""
_KNOWN = {
    "rotten_tomatoes": _profile_of(
        ("fresh", "rotten"),
        9_780,
        train=(10_219, 21.5),
        val=(1_288, 21.6),
        test=(1_245, 21.4),
        unlabelled=(1_083, 119.0),
    ),
    "bbc_news": _profile_of(
        ("business", "entertainment", "politics", "sports", "tech"),
        10_002,
        train=(1_645, 246.8),
        val=(206, 247.7),
        test=(206, 248.9),
        unlabelled=(0, 0.0),
    ),
}
"""Sizes and lengths with default settings."""


def work_by_stage(config: RunConfig, profile: Profile | None) -> dict[str, float]:
    """Multiply-adds of each stage that the configuration goes through."""
    profile = profile or assumed(config.data.name)
    texts = min(profile.texts["train"], config.data.train_limit or profile.texts["train"])
    plots = min(profile.texts["unlabelled"], _or_all(config.data.unlabelled_limit, profile.texts["unlabelled"]))
    mean = profile.mean_tokens["train"]
    train_tokens, plot_tokens = texts * mean, plots * profile.mean_tokens["unlabelled"]
    heard = texts * _read_tokens(config.teacher, mean)
    every_text = sum(profile.texts[split] for split in ("train", "val", "test"))
    teacher, training = config.teacher, config.training
    further = _transfer_tokens(config, train_tokens, plot_tokens)
    baseline = training.epochs * _training_work(student_model(config), texts, train_tokens, training.batch_size)
    # Further texts are counted as if they were as long as the training texts.
    taught = (texts + further / max(mean, 1), train_tokens + further, training.batch_size)
    distil = training.epochs * _training_work(student_model(config), *taught)
    if config.objective.mode == "joint":
        distil += training.epochs * 3 * _reading(teacher) * heard
    assistant = assistant_model(config)
    finetune = teacher.epochs * _training_work(teacher, texts, heard, teacher.batch_size)
    if teacher.kind == "pretrained" and teacher.frozen:
        finetune = _reading(teacher) * heard + teacher.epochs * STEP_COST * texts / teacher.batch_size
    work = {
        "read": (every_text + plots) / READ_RATE * DEFAULT_RATE,
        "pretrain": _pretraining_work(teacher, texts + plots, train_tokens + plot_tokens),
        "finetune": finetune,
        "cache": _reading(teacher) * every_text * _read_tokens(teacher, mean) + 10 * STEP_COST,
        "transfer": _reading(teacher) * further * heard / max(train_tokens, 1) + 10 * STEP_COST,
        "words": _reading(teacher) * profile.vocabulary * 3 + 10 * STEP_COST,
        "assistant": 0.0 if assistant is None else training.epochs * _training_work(assistant, *taught),
        "baseline": baseline,
        "distil": distil,
        "repeat": (training.seeds - 1) * (distil + (baseline if training.baseline else 0.0)),
        "test": 250 * STEP_COST + 3 * reading_parameters(student_model(config)) * every_text * mean,
    }
    return {stage: work[stage] for stage in stages_of(config)}


def _pretraining_work(teacher: TeacherConfig, texts: float, tokens: float) -> float:
    if teacher.pretrain_task == "lsa":  # a sparse matrix of texts × words, multiplied 13 times
        return 10 * STEP_COST + 100 * tokens * widths(teacher).embedding
    softmax = 3 * tokens * widths(teacher).hidden * 1200
    return teacher.pretrain_epochs * (_training_work(teacher, texts, tokens, teacher.batch_size) + softmax)


def _transfer_tokens(config: RunConfig, train_tokens: float, plot_tokens: float) -> float:
    """Tokens of the texts without labels that the student learns from; altered copies are a little shorter."""
    own = plot_tokens if config.training.transfer else 0.0
    return own + 0.8 * config.training.augment * (train_tokens + own)


def _read_tokens(teacher: TeacherConfig, mean: float) -> float:
    """Words that a teacher reads of a text of ours of `mean` words."""
    return min(mean, teacher.encoder_max_tokens / WORD_PIECES) if teacher.kind == "pretrained" else mean


def _reading(teacher: TeacherConfig) -> float:
    """Weights used for one word of ours."""
    if teacher.kind != "pretrained":
        return reading_parameters(teacher)
    size = encoder_size(teacher.model) or encoder_size(MINILM)
    return WORD_PIECES * size.layers if size else 0.0


def _training_work(model: ModelConfig, texts: float, tokens: float, batch_size: int) -> float:
    weights = _reading(model) if isinstance(model, TeacherConfig) else reading_parameters(model)
    return 3 * weights * tokens + STEP_COST * texts / batch_size


def _or_all(limit: int | None, count: int) -> int:
    return count if limit is None else limit


def remaining(history: History, expected: Mapping[str, float]) -> tuple[float, float]:
    """The part of a run's time that is over, 0 to 1, and the seconds that are left.

    A stage under way is judged by its own speed once enough of it is done; stages to come by what was expected,
    corrected by how this run's stages have compared with their expectation so far.
    """
    done = {stage: history.progress[stage].seconds or 0.0 for stage in expected if _is_done(history, stage)}
    planned = sum(expected[stage] for stage in done)
    pace = sum(seconds for stage, seconds in done.items() if expected[stage] > 0) / planned if planned > 0 else 1.0
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
