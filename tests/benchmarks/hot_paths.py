"""Times what a run and a reader spend their time on, beside the floor: `python -m tests.benchmarks.hot_paths --help`.

JSON on standard output, progress and a Markdown table on standard error. A floor (`floors`) is the least time that the
machine's own rates allow; where there is none, the work is no arithmetic.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from distill_core import device
from distill_core.analysis.predict import Predictor, Reader, VocabularyReading
from distill_core.config import MINILM, DataConfig, ModelConfig, RunConfig, Size, StudentConfig, TeacherConfig
from distill_core.data import batches
from distill_core.data.batches import EncodedDataset, EncodedTexts
from distill_core.data.packages import read_rotten_tomatoes
from distill_core.data.sources import Dataset
from distill_core.data.vocabulary import tokenize
from distill_core.events import Step
from distill_core.models import classifier
from distill_core.models.sizes import WORKS, parameter_count, widths, work_of
from distill_core.store import Store
from distill_core.training.context import Context
from distill_core.training.reading import logits_of
from tests.benchmarks import floors
from tests.benchmarks.floors import Work
from tests.benchmarks.protocol import now
from tests.benchmarks.scaling import CLASSES, alone, epoch_of, made_texts, tell

BATCH = 64
SHORT_TEXTS, LONG_TEXTS, LONG = 32 * BATCH, 8 * BATCH, 185
"""Texts of an epoch, and tokens of a long text: as many as the mean of IMDB's when they are cut after 256."""
READ_TEXTS, TOLD_TEXTS, TOKENISED, EVENTS = 400, 1000, 2000, 2000
PRODUCT = (1024, 384, 1536)
"""A product of all-MiniLM-L6-v2, whose rates are reported."""


@dataclass(frozen=True)
class HotPath:
    """What is timed: an action that does a number of things.

    Without `named` the figure is in milliseconds a thing, else in such things a second. `work` is that of one thing.
    """

    action: Callable[[], object]
    things: int = 1
    named: str | None = None
    work: Work | None = None
    dtype: torch.dtype = torch.float32


# Materials


@cache
def _texts() -> Dataset:
    return read_rotten_tomatoes()


@cache
def _data() -> EncodedDataset:
    return batches.encode(_texts(), DataConfig())


def _first(texts: EncodedTexts, count: int) -> EncodedTexts:
    end = int(texts.offsets[count])
    return EncodedTexts(texts.ids_N[:count], texts.labels_N[:count], texts.flat[:end], texts.offsets[: count + 1])


def _context() -> Context:
    return Context(device.choose(), emit=lambda event: None)


def _dtype(compute: device.Compute, settings: ModelConfig) -> torch.dtype:
    """The numbers that a model's products are made of."""
    found: torch.dtype = getattr(torch, compute.precision_of(work_of(settings)))
    return found


def _built(settings: ModelConfig, place: torch.device) -> torch.nn.Module:
    return classifier.build(settings, len(_data().vocabulary), CLASSES).to(place).eval()


def _reading_work(settings: ModelConfig, lengths: Sequence[int]) -> Work:
    """That of reading texts in full batches."""
    tokens = sum(lengths) / len(lengths)
    at_once = min(len(lengths), round(batches.READING_TOKENS / tokens))
    return _times(floors.recurrent_pass(at_once, tokens, **_shape(settings)), len(lengths) / at_once)


def _times(work: Work, count: float) -> Work:
    products = tuple((m, k, n, number * count) for m, k, n, number in work.products)
    return Work(products, work.curves * count, work.bytes * count)


def _shape(settings: ModelConfig) -> dict[str, int]:
    size = widths(settings)
    return {"embedding": size.embedding, "hidden": size.hidden, "directions": 2 if settings.bidirectional else 1}


# Paths


def _teacher_minilm() -> HotPath:
    from distill_core.models import pretrained  # transformers take seconds to import

    context, settings = _context(), TeacherConfig(kind="pretrained")
    model, pieces = pretrained.build(MINILM, CLASSES, settings.encoder_max_tokens)
    model.to(context.compute.device)
    rows = pieces.encode_all(_texts().train.texts[:READ_TEXTS])
    return HotPath(
        partial(logits_of, model, EncodedTexts.without_labels(rows), context),
        work=floors.encoder_pass([len(row) for row in rows]),
        dtype=_dtype(context.compute, settings),
    )


def _teacher_lstm() -> HotPath:
    settings, context, texts = TeacherConfig(), _context(), _first(_data().train, READ_TEXTS)
    model = _built(settings, context.compute.device)
    return HotPath(
        partial(logits_of, model, texts, context),
        work=_reading_work(settings, texts.lengths_N.tolist()),
        dtype=_dtype(context.compute, settings),
    )


def _student_step(size: Size, *, long: bool) -> HotPath:
    """A step as training takes it: an epoch of `student.distil`, whose texts are put together and validated as well."""
    words, settings = len(_data().vocabulary), StudentConfig(size=size)
    texts = made_texts([LONG] * LONG_TEXTS, words) if long else _first(_data().train, SHORT_TEXTS)
    tokens = float(texts.lengths_N.float().mean())
    step, compute = floors.recurrent_step(BATCH, tokens, **_shape(settings)), device.choose()
    return HotPath(
        epoch_of(settings, texts, words, compute),
        batches.batch_count(texts, BATCH),
        dtype=_dtype(compute, settings),
        work=step + floors.adam_update(parameter_count(settings, words, CLASSES)),
    )


def _words() -> HotPath:
    texts = _texts().train.texts[:TOKENISED]
    return HotPath(lambda: [tokenize(text) for text in texts], len(texts), "texts")


def _pieces() -> HotPath:
    from distill_core.models import pretrained

    _, pieces = pretrained.build(MINILM, CLASSES, TeacherConfig().encoder_max_tokens)
    texts = _texts().train.texts[:TOKENISED]
    return HotPath(partial(pieces.encode_all, texts), len(texts), "texts")


def _prediction(count: int) -> HotPath:
    """Answers of an LSTM teacher and its student, as the command `predict` and the page Compare get them."""
    roles: dict[str, ModelConfig] = {"teacher": TeacherConfig(), "student": StudentConfig()}
    data, place, limit = _data(), device.place(), DataConfig().max_tokens
    reading = VocabularyReading(data.vocabulary, limit)
    readers = {role: Reader(_built(settings, place), reading, place) for role, settings in roles.items()}
    predictor = Predictor(data.label_names, data.vocabulary, limit, readers)
    texts = _texts().train.texts[:count]
    lengths = [len(row) for row in reading.encode_all(texts)]
    work = sum((_reading_work(settings, lengths) for settings in roles.values()), Work())
    return HotPath(partial(predictor.predict, texts), work=work)


def _events() -> HotPath:
    event = Step("distil", step=120, examples=7680, ce=0.51234, kl=0.12345, loss=0.98765, lr=0.0043)

    def write() -> None:
        with tempfile.TemporaryDirectory() as home:
            store = Store(Path(home))
            with store.event_log(store.create_run(RunConfig())) as emit:
                for _ in range(EVENTS):
                    emit(event)

    return HotPath(write, EVENTS, "events")


PATHS: dict[str, Callable[[], HotPath]] = {
    f"teacher pass, MiniLM, {READ_TEXTS} texts": _teacher_minilm,
    f"teacher pass, LSTM M, {READ_TEXTS} texts": _teacher_lstm,
    "student step M, short texts": partial(_student_step, "M", long=False),
    "student step L, short texts": partial(_student_step, "L", long=False),
    "student step XL, short texts": partial(_student_step, "XL", long=False),
    "student step M, long texts": partial(_student_step, "M", long=True),
    "student step L, long texts": partial(_student_step, "L", long=True),
    "student step XL, long texts": partial(_student_step, "XL", long=True),
    "tokenising, words": _words,
    "tokenising, word pieces": _pieces,
    "prediction, 1 text": partial(_prediction, 1),
    f"prediction, {TOLD_TEXTS:,} texts": partial(_prediction, TOLD_TEXTS),
    "writing events": _events,
}
"""What can be timed, by name."""


# Figures


def measured(name: str, repeats: int) -> dict[str, Any]:
    """The median of a path's figure, its floor in milliseconds, and how many times as long it takes."""
    path = PATHS[name]()
    path.action()
    seconds = statistics.median(_seconds(path.action) for _ in range(repeats)) / path.things
    on_cpu = device.place().type == "cpu"
    floor = path.work.floor_seconds(_rates(path.dtype)) if path.work is not None and on_cpu else None
    return {
        "value": seconds * 1000 if path.named is None else 1 / seconds,
        "unit": "ms" if path.named is None else f"{path.named}/s",
        "floor_ms": None if floor is None else floor * 1000,
        "ratio": None if floor is None else seconds / floor,
    }


def _seconds(action: Callable[[], object]) -> float:
    start = now()
    action()
    return now() - start


@cache
def _rates(dtype: torch.dtype) -> floors.Rates:
    return floors.rates(dtype)


def machine() -> dict[str, Any]:
    """What the figures depend on: rates of the processor, in billions a second."""
    compute, threads = device.choose(), torch.get_num_threads()
    own, billion = _rates(torch.float32), 1e9
    products = {
        str(dtype).removeprefix("torch."): {
            f"{count} thread{'s' if count > 1 else ''}": floors.product_rate(*PRODUCT, dtype, count) / billion
            for count in sorted({1, threads})
        }
        for dtype in (torch.float32, torch.bfloat16)
    }
    return {
        "device": device.name(compute.device),
        "precision": {work: compute.precision_of(work) for work in WORKS},
        "threads": threads,
        "large products, times those of one thread": floors.gain(threads),
        "flops of products": products,
        "tanh and sigmoid": own.curves / billion,
        "bytes of memory": own.bandwidth / billion,
    }


def table(report: Mapping[str, Any]) -> str:
    """The report as Markdown: a row a path, and the precisions above."""
    rates = report["machine"]["flops of products"]
    shape = " × ".join(map(str, PRODUCT))
    said = [
        f"{dtype}: " + ", ".join(f"{value:.0f} GFLOP/s on {threads}" for threads, value in by_threads.items())
        for dtype, by_threads in rates.items()
    ]
    rows = [("", "median", "floor, ms", "times the floor"), ["---"] * 4]
    rows.extend(_cells(name, figure) for name, figure in report["paths"].items())
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([f"Products {shape} — {'; '.join(said)}", "", *lines])


def _cells(name: str, figure: Mapping[str, Any]) -> Sequence[str]:
    value, unit = figure["value"], figure["unit"]
    if figure["ratio"] is None:
        return name, f"{_short(value)} {unit}", "", ""
    return name, f"{_short(value)} {unit}", _short(figure["floor_ms"]), f"{figure['ratio']:.1f}"


def _short(value: float) -> str:
    """Three digits or more."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Times the paths that were asked for, in a process that is set up as a run's."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.hot_paths", description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", help="paths whose name contains this; repeatable")
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="of each path, whose median counts")
    options = parser.parse_args(arguments)
    names = [name for name in PATHS if not options.only or any(part in name for part in options.only)]
    if not names:
        parser.error(f"--only must be part of a name, got {', '.join(options.only)}; names: {'; '.join(PATHS)}")
    if options.repeats < 1:
        parser.error(f"--repeats must be >= 1, got {options.repeats}")
    report = alone(report_of, names, options.repeats)
    print(json.dumps(report, indent=2))
    tell(f"\n{table(report)}\n")


def report_of(names: Sequence[str], repeats: int) -> dict[str, Any]:
    """All that is reported, measured in this process."""
    report: dict[str, Any] = {"machine": machine(), "paths": {}}
    for name in names:
        figure = report["paths"][name] = measured(name, repeats)
        tell(": ".join(_cells(name, figure)[:2]))
    return report


if __name__ == "__main__":
    main()
