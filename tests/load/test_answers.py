"""How fast models answer: one typed text, and a hundred thousand of them."""

from __future__ import annotations

import itertools
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from distill_core import device
from distill_core.analysis.predict import Predictor
from distill_core.analysis.softened import ask
from distill_core.config import DataConfig
from distill_core.data import sources
from distill_core.presets import load
from distill_core.store import Store
from tests.load.sessions import percentile
from tests.runs import run

pytestmark = pytest.mark.slow
MANY = 100_000
RATE = 5_000
"""Texts of the default data set that a student should answer in a second on two cores."""
GROWTH_MB = 200
"""Megabytes that this may add, whose texts alone would be 30, and their answers 100 and more."""


@pytest.fixture(scope="module")
def texts() -> tuple[str, ...]:
    return sources.load(DataConfig(), Path("unused")).test.texts


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str]:
    """Models of the sizes of `quick`, which have learned little."""
    store = Store(tmp_path_factory.mktemp("answers"))
    sizes = ("teacher.size=M", "teacher.pretrain=false", "teacher.epochs=1", "student.size=M", "training.epochs=1")
    return store, run(store, load("tiny", settings=["data.train_limit=2000", *sizes])).run_id


def test_a_typed_text_is_answered_at_once(trained: tuple[Store, str], texts: tuple[str, ...]) -> None:
    predictor, seconds = Predictor.load(*trained), list[float]()
    device.use_one_core()
    try:
        for text in texts[:300]:
            began = time.perf_counter()
            found = ask([predictor], text)
            softened, distances = found.softened(2.0), found.distances(2.0)
            seconds.append(time.perf_counter() - began)
            assert len(softened) == len(distances) == 3
    finally:
        device.use_all_cores()
    median, most = percentile(seconds, 0.5), percentile(seconds, 0.95)
    print(f"one text: p50 {1000 * median:.1f} ms, p95 {1000 * most:.1f} ms")
    assert median <= 0.030
    assert most <= 0.120


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in kilobytes on Linux alone")
def test_a_hundred_thousand_texts_stream_through_the_student(
    trained: tuple[Store, str], texts: tuple[str, ...]
) -> None:
    predictor = Predictor.load(*trained, roles=["student"])

    def many() -> Iterator[str]:
        for number, text in enumerate(itertools.islice(itertools.cycle(texts), MANY)):
            yield f"{number} {text}"

    list(itertools.islice(predictor.stream(many()), 5000))  # threads and memory that stay
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    for number, answer in enumerate(predictor.stream(many())):
        assert answer["text"].startswith(f"{number} ")
        assert answer["student"] is not None
    rate = MANY / (time.perf_counter() - began)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{rate:,.0f} texts a second, {grown:.0f} MB more")
    assert number == MANY - 1
    assert rate >= RATE
    assert grown <= GROWTH_MB
