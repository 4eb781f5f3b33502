"""Commands that ask the models of a finished run: what they say, why, and where they disagree."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_core.errors import ConfigError
from distill_core.housekeeping import AddCommand, answer
from distill_core.store import Store

if TYPE_CHECKING:
    from distill_core.analysis.agreement import SetAnswers
    from distill_core.analysis.predict import Predictor

PROGRESS_SECONDS = 2.0
ROLES = ("teacher", "student", "baseline")


def add_commands(command: AddCommand) -> None:
    """Adds all commands of this module."""
    predict = command("predict", _predict, "Ask the models of a finished run; one JSON line a text.")
    explain = command("explain", _explain, "Say what each word of a text adds to each model's answer.")
    found = command("disagreements", _disagreements, "List test texts on which student and teacher disagree most.")
    for parser in (predict, explain, found):
        parser.add_argument("run_id", metavar="RUN_ID", help="a run id, or the end of one")
    predict.add_argument("text", nargs="*", metavar="TEXT")
    predict.add_argument(
        "--file", type=Path, metavar="FILE", help="ask about the texts of a csv, tsv, jsonl or txt file"
    )
    predict.add_argument(
        "--text-column", metavar="NAME", help="the file's column of texts (default: text, sentence, …)"
    )
    predict.add_argument("--models", metavar="ROLE,ROLE", help="ask only some of teacher, student, baseline")
    explain.add_argument("text", metavar="TEXT")
    explain.add_argument(
        "--label", metavar="LABEL", help="the class for which words count (default: the teacher's answer)"
    )
    found.add_argument("--top", type=int, default=10, metavar="N", help="how many texts (default 10)")
    for parser in (explain, found):
        parser.add_argument("--json", action="store_true", help="print JSON")


def _load(options: argparse.Namespace, roles: list[str] | None = None) -> tuple[Predictor, Store, str]:
    from distill_core.analysis.predict import Predictor
    from distill_core.device import use_all_cores

    use_all_cores()
    store = Store(options.home)
    run_id = store.find_run(options.run_id)
    return Predictor.load(store, run_id, roles), store, run_id


# What they say


def _predict(options: argparse.Namespace) -> int:
    if bool(options.text) == (options.file is not None):
        got = "both" if options.text else "neither"
        raise ConfigError(f"predict needs either TEXT or --file, got {got}; give one of them")
    predictor, _, _ = _load(options, options.models.split(",") if options.models else None)
    if not options.models:  # the baseline is not part of an answer unless it is asked for
        kept = {role: reader for role, reader in predictor.readers.items() if role != "baseline"}
        predictor = replace(predictor, readers=kept)
    if options.file is None:
        for spoken in predictor.predict(options.text):
            print(json.dumps(spoken))
        return 0
    from distill_core.analysis.textset import stream

    told = _Told()
    for spoken in predictor.stream(told.counted(stream(options.file, options.text_column, told.progress))):
        print(json.dumps(spoken))
        told.empty += "error" in spoken
    told.end()
    return 0


class _Told:
    """How far the reading of a file is, on stderr."""

    def __init__(self) -> None:
        self.empty = self._count = 0
        self._began = self._spoke = time.monotonic()
        self._part = 0.0

    def progress(self, words: str, part: float) -> None:
        """Hears what part of the file has been read."""
        self._part = part

    def counted(self, texts: Iterable[str]) -> Iterator[str]:
        """The same texts."""
        for text in texts:
            self._count += 1
            if time.monotonic() - self._spoke > PROGRESS_SECONDS:
                self._spoke = time.monotonic()
                print(f"{self._count:,} texts read, {self._part:.0%} of the file", file=sys.stderr, flush=True)
            yield text

    def end(self) -> None:
        """Says what was done."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        empty = f", {self.empty:,} of them empty" if self.empty else ""
        rate = f"{self._count / seconds:,.0f} a second"
        print(f"{self._count:,} texts{empty} in {seconds:.1f} s, {rate}", file=sys.stderr)


# Why


def _explain(options: argparse.Namespace) -> int:
    from distill_core.analysis.explain import explain

    predictor, _, _ = _load(options)
    facts = explain(predictor, options.text, options.label).facts()
    roles = list(facts["models"])
    lines = [f"what each word adds to the log-odds of {facts['label']!r}, in nats", _row("", roles)]
    lines += [_row(row["word"], [_nats(row[role]) for role in roles], row["disputed"]) for row in facts["words"]]
    lines.append(_row("(error)", [f"{facts['models'][role]['error']:.1%}" for role in roles]))
    return answer(options, facts, lines)


def _row(word: str, cells: list[str], disputed: bool = False) -> str:
    return f"{_printable(word)[:24]:24}" + "".join(f"{cell:>10}" for cell in cells) + ("  disputed" if disputed else "")


def _nats(value: float | None) -> str:
    return "not read" if value is None else f"{value:+.3f}"


# Where they disagree


def _disagreements(options: argparse.Namespace) -> int:
    from distill_core.analysis.agreement import disagreements

    if options.top < 1:
        raise ConfigError(f"--top must be 1 or more, got {options.top}")
    answers = _test_answers(options)
    rows = disagreements(answers, options.top)
    lines = [_disagreement(row) for row in rows] or ["Student and teacher agree on all test texts."]
    return answer(options, rows, lines)


def _test_answers(options: argparse.Namespace) -> SetAnswers:
    from distill_core import device
    from distill_core.analysis.asking import ask
    from distill_core.analysis.textset import read_test_split

    predictor, store, run_id = _load(options)
    if "teacher" not in predictor.readers:
        raise ConfigError(f"run {run_id} has no teacher that can be asked, since it is a file; choose another run")
    progress = speaker()
    return ask(predictor, read_test_split(store, run_id, progress=progress), progress=progress, workers=device.cores())


def speaker() -> Callable[[str, float], None]:
    """Says every few seconds what is being done."""
    spoke = -math.inf

    def progress(words: str, part: float) -> None:
        nonlocal spoke
        if time.monotonic() - spoke > PROGRESS_SECONDS:
            spoke = time.monotonic()
            print(f"{words}: {part:.0%}", file=sys.stderr, flush=True)

    return progress


def _disagreement(row: Mapping[str, Any]) -> str:
    said = [f"{role} {max(row[role], key=row[role].__getitem__)} {max(row[role].values()):.0%}" for role in ROLES[:2]]
    truth = "" if row["label"] is None else f" · true {row['label']}"
    return f"KL {row['kl']:.3f} · {' · '.join(said)}{truth}\n    {_printable(row['text'])}"


def _printable(text: str) -> str:
    """A text in one line that a terminal takes for text alone."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
