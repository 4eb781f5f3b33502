"""How time and memory grow with the work: `python -m tests.benchmarks.scaling --help`.

One thing at a time is made larger: the training texts, their length, the vocabulary, the student. Each point has a
fresh process, whose peak of memory can then be read, and takes one epoch of `student.distil` over made-up texts. JSON
on standard output, progress and a Markdown table on standard error. The exponent is the slope of a straight line
through the logarithms: 1 says that twice the size takes twice the time, 0 that it takes no more.

Made-up texts, a student's epoch and a fresh process are what the other measurements need as well.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from distill_core import openmp
from distill_core.config import SIZES, ModelConfig, ObjectiveConfig, Size, StudentConfig, TrainingConfig
from distill_core.models.sizes import reading_parameters

if TYPE_CHECKING:
    from distill_core.data.batches import EncodedTexts
    from distill_core.device import Compute

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")

CLASSES = 2
SHORT, SPREAD = 22, 9
"""Mean and standard deviation of the tokens of a text in rotten_tomatoes."""
LEAST_TOKENS, MOST_TOKENS = 3, 256
REPEATS = 3
VALIDATION_TEXTS = 64


# What every measurement needs


def alone(function: Callable[Arguments, Answer], *arguments: Arguments.args, **named: Arguments.kwargs) -> Answer:
    """What a function returns in a fresh process that is set up as a run's is."""
    with process() as fresh:
        return fresh.submit(function, *arguments, **named).result()


def process() -> ProcessPoolExecutor:
    """One fresh process that is set up as a run's is; OpenMP reads its settings from the environment it inherits."""
    openmp.sleep_soon()
    return ProcessPoolExecutor(1, get_context("spawn"), _set_up)


def _set_up() -> None:
    """As the worker of a run is; what PyTorch loads at its first step is there then."""
    from distill_core import device

    device.keep_memory()
    device.use_all_cores()
    epoch_of(StudentConfig(size="XS"), made_texts([LEAST_TOKENS] * 4, 10), 10, device.choose(encoder=False))()


def made_texts(lengths: Sequence[int], vocabulary: int, seed: int = 0) -> EncodedTexts:
    """Texts of so many tokens each, any word as likely as any other, with the classes' labels in turn."""
    import torch

    from distill_core.data.batches import EncodedTexts

    offsets = torch.tensor([0, *lengths]).cumsum(0)
    chance = torch.Generator().manual_seed(seed)
    # 0 pads, 1 is the unknown word.
    flat = torch.randint(2, vocabulary, (int(offsets[-1]),), generator=chance, dtype=torch.int32)
    ids_N = torch.arange(len(lengths))
    return EncodedTexts(ids_N, ids_N % CLASSES, flat, offsets)


def varied_lengths(texts: int, mean: float, spread: float, seed: int = 0) -> list[int]:
    """Tokens of so many texts, from a normal distribution that is cut where no text or no batch of ours goes on."""
    import torch

    chance = torch.Generator().manual_seed(seed)
    lengths_N = torch.randn(texts, generator=chance) * spread + mean
    lengths: list[int] = lengths_N.round().long().clamp(LEAST_TOKENS, MOST_TOKENS).tolist()
    return lengths


def epoch_of(settings: ModelConfig, texts: EncodedTexts, vocabulary: int, compute: Compute) -> Callable[[], object]:
    """One epoch of `student.distil`, the same student going on each time, as often as it is called."""
    import torch

    from distill_core.data.batches import SampleLogits
    from distill_core.models import classifier
    from distill_core.training.loop import Context
    from distill_core.training.student import distil

    torch.manual_seed(0)
    model = classifier.build(settings, vocabulary, CLASSES).to(compute.device)
    answers = SampleLogits(texts.ids_N, torch.randn(len(texts), CLASSES))
    held_out = made_texts(varied_lengths(VALIDATION_TEXTS, SHORT, SPREAD, seed=1), vocabulary, seed=1)
    training, context = TrainingConfig(epochs=1), Context(compute, emit=lambda event: None)
    return lambda: distil(
        model, texts, held_out, answers, objective=ObjectiveConfig(), training=training, seed=0, context=context
    )


# Points


@dataclass(frozen=True)
class Point:
    """One training: texts of `tokens` on average, all as long where `spread` is 0, and words of the vocabulary."""

    texts: int = 2560
    tokens: int = SHORT
    spread: int = SPREAD
    vocabulary: int = 10_000
    size: Size = "M"


@dataclass(frozen=True)
class Measured:
    """Seconds of the quickest of some epochs, and megabytes that the process needed beyond those of its start."""

    seconds: float
    memory_mb: float


@dataclass(frozen=True)
class Axis:
    """What is made larger: a point for each number that says how large it is."""

    name: str
    points: Mapping[int, Point]


def axes(quick: bool) -> list[Axis]:
    """What is measured; `quick` has three small points an axis."""

    def some(*sizes: int) -> Sequence[int]:
        return sizes[:3] if quick else sizes

    base = Point(texts=1280) if quick else Point()
    students: list[Size] = ["XS", "M", "XL"] if quick else list(SIZES)
    even = replace(base, spread=0)
    return [
        Axis("training texts", {n: replace(base, texts=n) for n in some(1000, 3000, 10_000, 30_000, 100_000)}),
        Axis("tokens of a text", {n: replace(even, tokens=n) for n in some(16, 32, 64, 128, 256)}),
        Axis(
            "words of the vocabulary",
            {n: replace(base, vocabulary=n) for n in some(1000, 3000, 10_000, 30_000, 100_000)},
        ),
        Axis(
            "weights that read",
            {reading_parameters(StudentConfig(size=size)): replace(base, size=size) for size in students},
        ),
    ]


def measured(point: Point) -> Measured:
    """One training, in this process."""
    from distill_core import device
    from tests.benchmarks.protocol import now

    lengths = varied_lengths(point.texts, point.tokens, point.spread)
    texts, compute = made_texts(lengths, point.vocabulary), device.choose(encoder=False)
    before, seconds = peak_mb(), []
    epoch = epoch_of(StudentConfig(size=point.size), texts, point.vocabulary, compute)
    for _ in range(REPEATS):
        start = now()
        epoch()
        seconds.append(now() - start)
    return Measured(min(seconds), peak_mb() - before)


def peak_mb() -> float:
    """The most memory that this process has had."""
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def exponent(sizes: Iterable[float], values: Iterable[float]) -> float:
    """The power of the size with which values grow: the slope of a line through their logarithms."""
    return statistics.linear_regression([math.log(size) for size in sizes], [math.log(value) for value in values]).slope


# Report

COLUMNS = ("", "size", "epoch, s", "µs a text", "memory, MB")


def table(report: Mapping[str, Mapping[str, Any]]) -> str:
    """The report as Markdown: a row a point, the exponent of time below each axis."""
    rows = [COLUMNS, ["---"] * len(COLUMNS)]
    for name, axis in report.items():
        rows.extend(_cells(name, point) for point in axis["points"])
        rows.append((f"time grows as size^{axis['exponent']:.2f}", "", "", "", ""))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _cells(name: str, point: Mapping[str, Any]) -> Sequence[str]:
    per_text = 1e6 * point["seconds"] / point["texts"]
    return name, f"{point['at']:,}", f"{point['seconds']:.3f}", f"{per_text:.1f}", f"{point['memory_mb']:.0f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures all axes."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scaling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three small points an axis, within a minute")
    options = parser.parse_args(arguments)
    report = {axis.name: _grown(axis) for axis in axes(options.quick)}
    print(json.dumps(report, indent=2))
    tell(f"\n{table(report)}\n")


def _grown(axis: Axis) -> dict[str, Any]:
    points = []
    for at, point in axis.points.items():
        found = alone(measured, point)
        points.append({"at": at, **asdict(point), **asdict(found)})
        tell(f"{axis.name} {at:,}: {found.seconds:.3f} s, {found.memory_mb:.0f} MB")
    return {"points": points, "exponent": exponent(axis.points, [point["seconds"] for point in points])}


def tell(line: str) -> None:
    """Says something to the person who waits."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
