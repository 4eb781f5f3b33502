"""What several test files share: a home folder, a small made-up data set, and a context that records events."""

from __future__ import annotations

import os

# Read when PyTorch is loaded, so before anything imports it: on a busy machine spinning threads cost minutes.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from distill_core.events import Event, Pace
from distill_core.store import Store

if TYPE_CHECKING:
    from distill_core.data.batches import EncodedDataset
    from distill_core.data.sources import Split
    from distill_core.training.context import Context

settings.register_profile("lab", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("lab")

NOUNS = ("film", "plot", "cast", "scene", "ending", "music", "story", "camera")
ADJECTIVES = {0: ("dull", "weak", "tired", "clumsy"), 1: ("bright", "warm", "clever", "moving")}


MAIN = sys.modules["__main__"]


@pytest.fixture(autouse=True, scope="module")
def own_main() -> None:
    """The main module of pytest: Streamlit's AppTest leaves an app in its place, which a new process would run."""
    sys.modules["__main__"] = MAIN


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty home folder."""
    return Store(tmp_path / "home")


@pytest.fixture(scope="session")
def encoded() -> EncodedDataset:
    """48 + 16 + 16 made-up reviews of 3 to 20 words whose adjectives give the label away, and 8 texts without one."""
    from distill_core.config import DataConfig
    from distill_core.data.batches import encode
    from distill_core.data.sources import Dataset

    chance = random.Random(5)
    splits = [_made_split(chance, first, count) for first, count in ((100, 48), (300, 16), (200, 16))]
    unlabelled = tuple(_made_text(chance, row % 2) for row in range(8))
    return encode(Dataset(("bad", "good"), *splits, unlabelled), DataConfig(min_frequency=1))


def _made_split(chance: random.Random, first: int, count: int) -> Split:
    from distill_core.data.sources import Split

    labels = tuple(row % 2 for row in range(count))
    return Split(tuple(range(first, first + count)), tuple(_made_text(chance, label) for label in labels), labels)


def _made_text(chance: random.Random, label: int) -> str:
    def pick(words: Sequence[str]) -> str:
        return chance.choice(words)

    clauses = (f"a {pick(ADJECTIVES[label])} {pick(NOUNS)}" for _ in range(chance.randint(1, 5)))
    return " and ".join(clauses)


@pytest.fixture
def reported() -> list[Event]:
    """The events that `context` has been told, in order."""
    return []


@pytest.fixture
def context(reported: list[Event]) -> Iterator[Context]:
    """Float32 on one CPU thread; every step is reported, whatever the clock says."""
    import torch

    from distill_core.device import Compute
    from distill_core.training.context import Context

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Context(Compute(torch.device("cpu"), "float32"), reported.append, pace=Pace(0.0))
    torch.set_num_threads(threads)
