"""Notices that something has become slower: `python -m tests.benchmarks.check --help`, a part of `make test`.

Seconds differ between machines, so only ratios are compared, of two ways to do the same that are timed in turn in one
process: the textbook's and ours, mostly on one thread. `ratios.json` says what they were and how far they may fall.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from distill_core import device
from distill_core.config import StudentConfig, TeacherConfig, TrainingConfig
from distill_core.data.batches import EncodedTexts
from distill_core.device import Compute
from distill_core.models import classifier
from distill_core.models.dropout import Dropout
from distill_core.training.context import Context
from distill_core.training.reading import logits_of
from tests.benchmarks import floors
from tests.benchmarks.floors import on_threads
from tests.benchmarks.peers import GRADIENT_NORM, soft_loss
from tests.benchmarks.protocol import now
from tests.benchmarks.scaling import CLASSES, SHORT, SPREAD, epoch_of, made_texts, process, tell, varied_lengths
from tests.benchmarks.textbook import TextbookBatches, TextbookBiLSTM, collate, examples_of

FILE = Path(__file__).with_name("ratios.json")
TOLERANCE = 0.35
"""Part of a ratio that may be lost, where its own entry says nothing else."""
PAIRS, SHORT_PAIRS = 15, 5
TRIES = 3
"""Measurements before a ratio counts as worse: another program may have had the machine during one of them."""
VOCABULARY = 10_000
LONG, LONG_SPREAD = 160, 80
GAIN = 1.6
"""What two threads gain at a large product, where each has a core to itself."""
ON_CPU = Compute(torch.device("cpu"), "float32")

Action = Callable[[], object]
Pair = tuple[Action, Action]


@dataclass(frozen=True)
class Ratio:
    """Seconds of one action to those of another.

    `unfit` says why it tells nothing on this machine, or nothing where it does.
    """

    prepare: Callable[[], Pair]
    higher_is_better: bool = True
    unfit: Callable[[], str] = lambda: ""


# Ratios


def student_step(texts: int, tokens: int, spread: int) -> Pair:
    """An epoch of a textbook student and one of `student.distil`, of the default size."""
    settings, encoded = StudentConfig(), made_texts(varied_lengths(texts, tokens, spread), VOCABULARY)
    return _plain_epoch(settings, encoded), epoch_of(settings, encoded, VOCABULARY, ON_CPU)


def _plain_epoch(settings: StudentConfig, texts: EncodedTexts) -> Action:
    start = classifier.build(settings, VOCABULARY, CLASSES)
    model = TextbookBiLSTM.with_weights(start.state_dict(), settings.dropout)
    training = TrainingConfig()
    batches = TextbookBatches(examples_of(_rows(texts), None, texts.labels_N.tolist()), training.batch_size, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), training.learning_rate)
    teacher_BC = torch.randn(training.batch_size, CLASSES)

    def train() -> None:
        model.train()
        for batch in batches:
            student_BC = model(batch["student_tokens"], batch["student_lengths"])
            ce = F.cross_entropy(student_BC, batch["labels"])
            loss = ce + soft_loss(student_BC, teacher_BC[: len(student_BC)], 2.0)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
            optimizer.step()

    return train


def _rows(texts: EncodedTexts) -> list[list[int]]:
    return [row.tolist() for row in torch.split(texts.flat, texts.lengths_N.tolist())]


def teacher_pass() -> Pair:
    """A textbook LSTM reads texts as they come, padded; ours by `logits_of`."""
    settings, count, at_once = TeacherConfig(size="S"), 256, 64
    texts = made_texts(varied_lengths(count, LONG, LONG_SPREAD), VOCABULARY)
    model = classifier.build(settings, VOCABULARY, CLASSES)
    plain = TextbookBiLSTM.with_weights(model.state_dict(), settings.dropout).eval()
    examples = examples_of(_rows(texts), None, texts.labels_N.tolist())
    context = Context(ON_CPU, emit=lambda event: None)

    def read() -> None:
        with torch.no_grad():
            for first in range(0, count, at_once):
                batch = collate(examples[first : first + at_once])
                plain(batch["student_tokens"], batch["student_lengths"])

    return read, lambda: logits_of(model, texts, context)


def dropout() -> Pair:
    """PyTorch's dropout and ours, of the word vectors of a batch."""
    values, plain, own = torch.randn(64, LONG, 64), nn.Dropout(0.3), Dropout(0.3)
    return lambda: plain(values), lambda: own(values)


def two_threads() -> Pair:
    """Ours on one thread and on two."""
    settings, texts = StudentConfig(size="XL"), made_texts(varied_lengths(256, LONG, LONG_SPREAD), VOCABULARY)
    epoch = epoch_of(settings, texts, VOCABULARY, ON_CPU)

    def on(threads: int) -> None:
        with on_threads(threads):
            epoch()

    return lambda: on(1), lambda: on(2)


def _lone_core() -> str:
    """Why two threads cannot do twice as much here."""
    if device.cores() < 2:
        return "it needs two cores"
    gain = floors.gain(2)
    return f"two threads gain {gain:.2f} × at a large product, at least {GAIN} is needed" if gain < GAIN else ""


def twice_the_texts() -> Pair:
    """An epoch over texts and one over half of them."""
    settings, count = StudentConfig(), 1024
    both = [made_texts(varied_lengths(texts, SHORT, SPREAD), VOCABULARY) for texts in (2 * count, count)]
    whole, half = (epoch_of(settings, texts, VOCABULARY, ON_CPU) for texts in both)
    return whole, half


def start_up() -> Pair:
    """The command line says what it can do, and Python does nothing."""
    root = Path(__file__).parents[2]

    def python(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], cwd=root, check=True, stdout=subprocess.DEVNULL)

    return lambda: python("-m", "distill_core", "--help"), lambda: python("-c", "pass")


RATIOS: dict[str, Ratio] = {
    "student step, long texts": Ratio(lambda: student_step(256, LONG, LONG_SPREAD)),
    "student step, short texts": Ratio(lambda: student_step(1024, SHORT, SPREAD)),
    "teacher pass": Ratio(teacher_pass),
    "dropout": Ratio(dropout),
    "two threads": Ratio(two_threads, unfit=_lone_core),
    "twice the texts": Ratio(twice_the_texts, higher_is_better=False),
    "start-up": Ratio(start_up, higher_is_better=False),
}


def measured(name: str, pairs: int) -> float | str:
    """The median of the ratios of so many pairs, on one thread, or why there is none."""
    reason = RATIOS[name].unfit()
    if reason:
        return reason
    with on_threads(1):
        return median_ratio(*RATIOS[name].prepare(), pairs)


def median_ratio(first: Action, second: Action, pairs: int) -> float:
    """Seconds of the first to those of the second, both timed in each pair, in turn the one and the other before."""
    first(), second()
    ratios = []
    for number in range(pairs):
        if number % 2:
            later = _seconds(second)
            ratios.append(_seconds(first) / later)
        else:
            ratios.append(_seconds(first) / _seconds(second))
    return statistics.median(ratios)


def _seconds(action: Action) -> float:
    start = now()
    action()
    return now() - start


# Decision


@dataclass(frozen=True)
class Stored:
    """A ratio as it was, and the part of it that may be lost."""

    ratio: float
    tolerance: float = TOLERANCE

    def limit(self, higher_is_better: bool) -> float:
        """The worst that is allowed."""
        return self.ratio * (1 - self.tolerance if higher_is_better else 1 + self.tolerance)

    def allows(self, ratio: float, higher_is_better: bool) -> bool:
        """Whether a ratio is not worse than that."""
        limit = self.limit(higher_is_better)
        return ratio >= limit if higher_is_better else ratio <= limit


def regressions(
    stored: Mapping[str, Stored],
    better_higher: Mapping[str, bool],
    measure: Callable[[str], float | str],
    say: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """A line for each ratio that is worse than what was stored allows, however often it is measured.

    Args:
        better_higher: whether a ratio is better when it is higher, for each that is to be checked.
        measure: a ratio by its name, or why it tells nothing here.
        say: hears a line on each measurement.
    """
    return [line for name, higher in better_higher.items() if (line := _regression(name, stored, higher, measure, say))]


def _regression(
    name: str,
    stored: Mapping[str, Stored],
    higher: bool,
    measure: Callable[[str], float | str],
    say: Callable[[str], None],
) -> str:
    if name not in stored:
        return f"{name}: {FILE.name} has no ratio to compare with; store one by --write"
    known, seen = stored[name], list[str]()
    allowed = f"{'at least' if higher else 'at most'} {known.limit(higher):.2f} allowed"
    for _ in range(TRIES):
        ratio = measure(name)
        if isinstance(ratio, str):
            say(f"{name}: skipped, {ratio}")
            return ""
        say(f"{name}: {ratio:.2f}, stored {known.ratio:.2f}, {allowed}")
        if known.allows(ratio, higher):
            return ""
        seen.append(f"{ratio:.2f}")
    return f"{name}: measured {', '.join(seen)}, stored {known.ratio:.2f}, {allowed}"


def read(file: Path = FILE) -> dict[str, Stored]:
    """What is stored; nothing where there is no file."""
    if not file.is_file():
        return {}
    return {name: Stored(**entry) for name, entry in json.loads(file.read_text(encoding="utf-8")).items()}


def renewed(
    stored: Mapping[str, Stored], measure: Callable[[str], float | str], say: Callable[[str], None]
) -> dict[str, Stored]:
    """What is to be stored from now on; a ratio that tells nothing here stays as it was."""
    fresh = dict[str, Stored]()
    for name in RATIOS:
        ratio, known = measure(name), stored.get(name)
        if isinstance(ratio, float):
            fresh[name] = Stored(round(ratio, 3), TOLERANCE if known is None else known.tolerance)
            say(f"{name}: {ratio:.2f}")
            continue
        if known is not None:
            fresh[name] = known
        say(f"{name}: left as it was, {ratio}")
    return fresh


def write(stored: Mapping[str, Stored], file: Path = FILE) -> None:
    """Stores ratios."""
    entries = {name: {"ratio": entry.ratio, "tolerance": entry.tolerance} for name, entry in stored.items()}
    file.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures all ratios in one process; returns the exit status, 1 where one is worse than allowed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.check", description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer pairs, within 40 seconds")
    parser.add_argument("--write", action="store_true", help="store the ratios as they are now, and compare nothing")
    options = parser.parse_args(arguments)
    pairs = SHORT_PAIRS if options.short else PAIRS
    with process() as one:

        def measure(name: str) -> float | str:
            return one.submit(measured, name, pairs).result()

        if options.write:
            write(renewed(read(), measure, tell))
            return 0
        worse = regressions(read(), {name: ratio.higher_is_better for name, ratio in RATIOS.items()}, measure, tell)
    for line in worse:
        tell(f"SLOWER {line}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
