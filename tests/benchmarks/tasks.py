"""What the contenders are given: raw texts, the settings of a distillation, and a teacher that is trained already."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path

from torch import nn

from distill_core import device, teachers
from distill_core.config import DataConfig, ObjectiveConfig, RunConfig, StudentConfig, TeacherConfig, TrainingConfig
from distill_core.data import sources
from distill_core.data.sources import Dataset, Split
from distill_core.job import Job
from distill_core.store import Store
from distill_core.teaching import prepare_data, prepare_teaching
from distill_core.training.context import Context

BATCH_SIZE = 64
SNIPPETS = "rotten_tomatoes"
MEDIAN_WORDS = 174
SIGMA = 0.7
"""Standard deviation of the logarithm of a length. With the median it makes a mean of 222 words and a standard
deviation of 176; reviews of IMDB have about 230 and 170, and a log-normal cannot have all three exactly."""
LEAST_WORDS = 10
TRAINING_TEXTS = 6000


@dataclass(frozen=True)
class Task:
    """A distillation from raw texts; `config` says how many epochs, how large the batches, which student and loss.

    `word_pieces` are the token ids that the teacher reads texts as; None where it reads those of the student.
    """

    name: str
    dataset: Dataset
    config: RunConfig
    teacher: nn.Module
    word_pieces: Callable[[Sequence[str]], list[list[int]]] | None


def minilm_to_bilstm(home: Path, limit: int | None = None, epochs: int = 8) -> Task:
    """Short reviews; all-MiniLM-L6-v2 under a head of its own teaches a BiLSTM 64 → 64.

    Args:
        home: where the teacher is kept once it is trained.
        limit: use at most so many texts of each side.
    """
    config = RunConfig(
        data=DataConfig(name=SNIPPETS, train_limit=limit),
        teacher=TeacherConfig(kind="pretrained", frozen=True),
        student=StudentConfig(size="XL"),
        objective=ObjectiveConfig(divergence="kl_teacher_student"),
        training=TrainingConfig(epochs=epochs, batch_size=BATCH_SIZE),
    )
    return _task("minilm_to_bilstm", config, Store(home), limit)


def bilstm_to_lstm(home: Path, limit: int | None = None, epochs: int = 4) -> Task:
    """Reviews as long as those of IMDB; a BiLSTM 128 → 128 teaches an LSTM 64 → 64.

    Args:
        home: where the texts, and the teacher once it is trained, are kept.
        limit: training texts, in place of 6,000.
    """
    store, count = Store(home), limit or TRAINING_TEXTS
    config = RunConfig(
        data=DataConfig(name="csv", path=str(_write_long_reviews(store, count)), split_column="split", max_tokens=256),
        teacher=TeacherConfig(size="M", pretrain=False, epochs=1),
        student=StudentConfig(size="XL", bidirectional=False),
        objective=ObjectiveConfig(divergence="kl_teacher_student"),
        training=TrainingConfig(epochs=epochs, batch_size=BATCH_SIZE, learning_rate=1e-3),
    )
    return _task("bilstm_to_lstm", config, store, limit)


TASKS: dict[str, Callable[..., Task]] = {"minilm": minilm_to_bilstm, "lstm": bilstm_to_lstm}


def _task(name: str, config: RunConfig, store: Store, limit: int | None) -> Task:
    context = Context(device.choose(config.training.precision), emit=lambda event: None)
    job = Job(name, store, config, prepare_data(config, store), context)
    folder = prepare_teaching(job).folder
    assert folder is not None
    teacher = teachers.saved(job, folder)
    texts = job.texts
    dataset = replace(texts, val=_first(texts.val, limit), test=_first(texts.test, limit), unlabelled=())
    pieces = teacher.encode_all if config.teacher.kind == "pretrained" else None
    return Task(name, dataset, config, teacher.model.eval(), pieces)


def _first(split: Split, limit: int | None) -> Split:
    return Split(split.ids[:limit], split.texts[:limit], split.labels[:limit])


# Long reviews


def _write_long_reviews(store: Store, count: int) -> Path:
    """A csv file of `count` training texts, a tenth as many for validation, and a sixth for the test."""
    snippets = sources.load(DataConfig(name=SNIPPETS), store.data_folder)
    sides = (("train", snippets.train, count), ("val", snippets.val, count // 10), ("test", snippets.test, count // 6))
    file = store.home / "benchmarks" / f"long_reviews_{count}.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("text", "label", "split"))
        for side, split, size in sides:
            rows = long_reviews(split, size)
            writer.writerows((text, snippets.label_names[label], side) for text, label in rows)
    return file


def long_reviews(snippets: Split, count: int, seed: int = 0) -> list[tuple[str, int]]:
    """So many texts with IMDB's lengths, and their labels in turn, each made of snippets with that label.

    A length is drawn from a log-normal distribution, and the last snippet is cut there.
    """
    chance = random.Random(seed)
    by_label: dict[int, list[str]] = {label: [] for label in sorted(set(snippets.labels))}
    for text, label in zip(snippets.texts, snippets.labels, strict=True):
        by_label[label].append(text)
    return [(_joined(by_label[label], chance), label) for label in islice(cycle(by_label), count)]


def _joined(snippets: Sequence[str], chance: random.Random) -> str:
    length = max(LEAST_WORDS, round(MEDIAN_WORDS * math.exp(chance.gauss(0, SIGMA))))
    words: list[str] = []
    while len(words) < length:
        words += chance.choice(snippets).split()
    return " ".join(words[:length])
