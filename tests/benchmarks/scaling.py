"""How time and memory grow with the work: `python -m tests.benchmarks.scaling --help`.

One thing at a time is made larger: the training texts, their length, the vocabulary, the student, the batch. Each point
has a fresh process, whose peak of memory can then be read, and takes one epoch of `student.distil` over made-up texts.
JSON on standard output, progress and a Markdown table on standard error. The exponent is the slope of a straight line
through the logarithms: 1 says that twice the size takes twice the time, 0 that it takes no more. On a GPU, steps are
taken from CUDA graphs and without them, and memory is the GPU's.

Made-up texts, a student's epoch and a fresh process are what the other measurements need as well.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from distill_core import openmp
from distill_core.config import SIZES, ModelConfig, ObjectiveConfig, Size, StudentConfig, TrainingConfig
from distill_core.models.sizes import reading_parameters

if TYPE_CHECKING:
    import torch

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
    epoch_of(StudentConfig(size="XS"), made_texts([LEAST_TOKENS] * 4, 10), 10, device.choose())()


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


def epoch_of(
    settings: ModelConfig, texts: EncodedTexts, vocabulary: int, compute: Compute, batch: int = 64
) -> Callable[[], object]:
    """One epoch of `student.distil`, the same student going on each time, as often as it is called."""
    import torch

    from distill_core.data.batches import SampleLogits
    from distill_core.models import classifier
    from distill_core.training.context import Context
    from distill_core.training.student import distil

    torch.manual_seed(0)
    model = classifier.build(settings, vocabulary, CLASSES).to(compute.device)
    answers = SampleLogits(texts.ids_N, torch.randn(len(texts), CLASSES))
    held_out = made_texts(varied_lengths(VALIDATION_TEXTS, SHORT, SPREAD, seed=1), vocabulary, seed=1)
    training, context = TrainingConfig(epochs=1, batch_size=batch), Context(compute, emit=lambda event: None)
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
    batch: int = 64
    graphs: bool = True


@dataclass(frozen=True)
class Measured:
    """What the quickest of some epochs took in seconds, the process in megabytes beyond those of its start.

    `busy` is the part of the time in which the GPU computes, or each of the cores.
    """

    seconds: float
    memory_mb: float
    busy: float


@dataclass(frozen=True)
class Axis:
    """What is made larger: a point for each number that says how large it is."""

    name: str
    points: Mapping[int, Point]


def axes(quick: bool, gpu: bool) -> list[Axis]:
    """What is measured; `quick` has three small points an axis."""

    def some(*sizes: int) -> Sequence[int]:
        return sizes[:3] if quick else sizes

    base = Point(texts=1280) if quick else Point()
    students: list[Size] = ["XS", "M", "XL"] if quick else list(SIZES)
    even, many = replace(base, spread=0), replace(base, texts=8 * base.texts)
    batch = {"texts of a batch": many, **({"texts of a batch, no graphs": replace(many, graphs=False)} if gpu else {})}
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
        *(
            Axis(name, {n: replace(point, batch=n) for n in some(16, 64, 256, 1024, 4096)})
            for name, point in batch.items()
        ),
    ]


def measured(point: Point) -> Measured:
    """One training, in this process."""
    import torch

    from distill_core import device
    from distill_core.training import loop

    if not point.graphs:
        loop.gains_by_graphs = lambda model, place: False
    lengths = varied_lengths(point.texts, point.tokens, point.spread)
    texts, compute = made_texts(lengths, point.vocabulary), device.choose()
    before = peak_mb(compute.device)
    epoch = epoch_of(StudentConfig(size=point.size), texts, point.vocabulary, compute, point.batch)
    seconds, computing = min(_timed(epoch) for _ in range(REPEATS))
    part = computing / torch.get_num_threads()
    if compute.device.type == "cuda":
        part = _seconds_of_kernels(epoch) / seconds
    return Measured(seconds, peak_mb(compute.device) - before, part)


def _timed(action: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and how many cores computed in them on average."""
    from tests.benchmarks.protocol import now

    computing, start = time.process_time(), now()
    action()
    seconds = now() - start
    return seconds, (time.process_time() - computing) / seconds


def _seconds_of_kernels(action: Callable[[], object]) -> float:
    """What a GPU's kernels take, one after the other, in a run that is watched."""
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as watched:
        action()
        torch.cuda.synchronize()
    # Its own sums take a minute over the half million kernels of an epoch.
    kernels = [
        event.duration_ns()
        for event in watched.profiler.kineto_results.events()
        if event.device_type() == torch.profiler.DeviceType.CUDA and not event.is_user_annotation()
    ]
    return sum(kernels) / 1e9


def peak_mb(place: torch.device | None = None) -> float:
    """The most memory that this process has had, on a GPU if that is the place."""
    if place is not None and place.type == "cuda":
        import torch

        return torch.cuda.max_memory_reserved(place) / 2**20
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def exponent(sizes: Iterable[float], values: Iterable[float]) -> float:
    """The power of the size with which values grow: the slope of a line through their logarithms."""
    return statistics.linear_regression([math.log(size) for size in sizes], [math.log(value) for value in values]).slope


# Report

COLUMNS = ("", "size", "epoch, s", "texts/s", "memory, MB", "busy")


def table(report: Mapping[str, Mapping[str, Any]]) -> str:
    """The report as Markdown: a row a point, the exponent of time below each axis."""
    rows = [COLUMNS, ["---"] * len(COLUMNS)]
    for name, axis in report.items():
        rows.extend(_cells(name, point) for point in axis["points"])
        rows.append((f"time grows as size^{axis['exponent']:.2f}", *[""] * (len(COLUMNS) - 1)))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _cells(name: str, point: Mapping[str, Any]) -> Sequence[str]:
    rate = point["texts"] / point["seconds"]
    figures = f"{point['seconds']:.3f}", f"{rate:,.0f}", f"{point['memory_mb']:.0f}", f"{point['busy']:.0%}"
    return name, f"{point['at']:,}", *figures


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures all axes."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scaling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three small points an axis, within a minute")
    parser.add_argument("--only", default="", metavar="NAME", help="axes whose name contains this")
    options = parser.parse_args(arguments)
    report = {axis.name: _grown(axis) for axis in axes(options.quick, alone(_has_gpu)) if options.only in axis.name}
    print(json.dumps(report, indent=2))
    tell(f"\n{table(report)}\n")


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


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
