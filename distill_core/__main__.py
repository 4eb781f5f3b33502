"""The command line: `python -m distill_core --help`."""

from __future__ import annotations

import argparse
import atexit
import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_core import answering, estimate, housekeeping, openmp, steering
from distill_core.analysis.verdict import verdict
from distill_core.config import RunConfig
from distill_core.errors import DistillError
from distill_core.events import Epoch, Event, RunInterrupted, RunStarted, StageFinished, StageStarted, Step, Warned
from distill_core.housekeeping import answer
from distill_core.presets import PRESETS, load
from distill_core.store import Store, home_folder
from distill_core.sweep import sweeping
from distill_core.worker import work

if TYPE_CHECKING:
    from distill_core.data.profile import Profile

PACKAGES = (
    "torch",
    "torchtext",
    "transformers",
    "scipy",
    "streamlit",
    "plotly",
    "pandas",
    "pydantic",
    "safetensors",
    "optuna",
    "ray",
    "datasets",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, 1 for a failed run, 2 for a user's mistake."""
    options = _options(arguments)
    openmp.sleep_soon()
    try:
        status: int = options.command(options)
    except DistillError as error:
        print(" ".join(str(error).split("\n")), file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for; texts may stand behind options, which argparse alone would refuse."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    texts: Any = getattr(options, "text", None)
    if rest and (not isinstance(texts, list) or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.text = [*texts, *rest]
    return options


def _run(options: argparse.Namespace) -> int:
    store = Store(options.home)
    if options.run_id is None:
        settings = [*options.set, *([] if options.seeds is None else [f"training.seeds={options.seeds}"])]
        config = load(options.preset, options.config, settings)
        run_id = store.create_run(config, state="running")
    else:
        run_id, options.device = _assigned_run(options.run_id, store)
        if not run_id:
            return 0
    return _work(run_id, store, options)


def _work(run_id: str, store: Store, options: argparse.Namespace) -> int:
    """Takes a run to its end in this process."""
    print(f"run {run_id} in {store.run_folder(run_id)}", file=sys.stderr)
    try:
        device: int | None = getattr(options, "device", None)
        result = work(run_id, store, _Narrator(lambda: _left_out(run_id, store)), device=device)
    except DistillError:
        raise
    except Exception as error:
        if hasattr(options, "device"):
            raise  # into the log of the run
        print(f"run {run_id} failed: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    if result is None:
        remedy = f"; go on with: resume {run_id}" if store.status(run_id).status == "interrupted" else ""
        print(f"run {run_id} was {store.status(run_id).status}{remedy}", file=sys.stderr)
        return 1
    print(json.dumps(result) if options.json else "\n".join([*_summary(result), *_left_out(run_id, store)]))
    return 0


def _assigned_run(name: str, store: Store) -> tuple[str, int | None]:
    """The run that an executor wants done, and its device: for `-` from the line that it sends once it needs us."""
    if name != "-":
        return store.find_run(name), None
    from distill_core import device, pipeline

    pipeline.warm_up()
    order = sys.stdin.readline()
    if not order:
        return "", None
    given = json.loads(order)
    store.divert_output(given["run_id"])
    device.take_part(given["device"], given["workers"])
    os.nice(5)  # the pages stay quick while we compute
    return str(given["run_id"]), given["device"]


def _resume(options: argparse.Namespace) -> int:
    """A paused run goes on where it works; an interrupted one goes on here."""
    store = Store(options.home)
    run_id = store.find_run(options.run_id)
    if store.status(run_id).status == "interrupted":
        store.ask(run_id, "run")
        return _work(run_id, store, options)
    steering.ask(store, run_id, "run")
    return 0


def _left_out(run_id: str, store: Store) -> list[str]:
    """A line on the rows that a run's data set has lost, none where that cannot be told any more."""
    from distill_core.data.description import left_out

    try:
        profile = estimate.known_profile(store.config(run_id), store)
    except (DistillError, OSError):
        return []
    return [] if profile is None else left_out(profile)


class _Narrator:
    """Tells a person on stderr how a run goes on: stages, epochs, and a line every few seconds between.

    Args:
        left_out: says what the data set has lost, once it has been read.
    """

    def __init__(self, left_out: Callable[[], Sequence[str]]) -> None:
        self._left_out: Callable[[], Sequence[str]] | None = left_out
        self._steps: dict[str, int] = {}
        self._spoke = time.monotonic()

    def __call__(self, event: Event) -> None:
        if self._left_out is not None and isinstance(event, StageStarted) and event.stage != "read":
            for said in self._left_out():
                print(said, file=sys.stderr, flush=True)
            self._left_out = None
        line = ""
        match event:
            case RunStarted():
                line = f"on {event.device} in {event.precision}"
            case StageStarted(cached=True):
                line = f"{event.stage}: found in the home folder"
            case StageStarted():
                self._steps[event.stage] = event.steps
                line = f"{event.stage}: {event.steps} steps"
            case Step() if time.monotonic() - self._spoke > 2:
                loss = "" if event.loss is None else f", loss {event.loss:.3f}"
                line = f"{event.stage}: step {event.step} of {self._steps.get(event.stage, '?')}{loss}"
            case Epoch():
                accuracy = "" if event.accuracy is None else f", accuracy {event.accuracy:.1%}"
                line = f"{event.stage}: epoch {event.epoch}, {event.split} cross-entropy {event.ce:.3f}{accuracy}"
            case StageFinished() if event.seconds:
                line = f"{event.stage}: done in {event.seconds:.1f} s"
            case Warned():
                line = f"warning: {event.message}"
            case RunInterrupted():
                line = event.reason
        if line:
            self._spoke = time.monotonic()
            print(line, file=sys.stderr, flush=True)


def _summary(result: dict[str, Any]) -> list[str]:
    width = 13 if result["seeds"] else 9
    lines = [f"{'':10}{'accuracy':>{width}}{'parameters':>12}{'ms a text':>11}   architecture"]
    for role in ("teacher", "baseline", "student"):
        model = result[role]
        if model is not None:
            parameters = "" if model["parameters"] is None else f"{model['parameters']:,}"
            latency = "" if model["latency_ms"] is None else f"{model['latency_ms']:.2f}"
            accuracy = _percent(*_accuracy(result, role))
            lines.append(f"{role:10}{accuracy:>{width}}{parameters:>12}{latency:>11}   {model['architecture']}")
    return [*lines, *verdict(result)]


def _accuracy(result: Mapping[str, Any], role: str) -> tuple[float, float | None]:
    """Mean test accuracy over the seeds and its standard deviation, which one seed has not."""
    spread = (result["seeds"] or {}).get(role)
    return (spread["mean"], spread["std"]) if spread else (result[role]["test_accuracy"], None)


def _percent(share: float, deviation: float | None) -> str:
    return f"{share:.1%}" + ("" if deviation is None else f" ±{100 * deviation:.1f}")


def _runs(options: argparse.Namespace) -> int:
    store = Store(options.home)
    rows = [_run_row(run_id, store) for run_id in store.run_ids()]
    return answer(options, rows, [_run_line(row) for row in rows] or ["No runs yet; start one with: run"])


def _run_row(run_id: str, store: Store) -> dict[str, Any]:
    unknown = ("created", "error", "test_accuracy", "test_accuracy_std", "seeds", "retention", "gain")
    row: dict[str, Any] = {"run_id": run_id, "status": "unreadable", **dict.fromkeys(unknown)}
    try:
        status, result = store.status(run_id), store.result(run_id)
        row |= {"status": status.status, "created": status.created, "error": status.error}
        if result is not None:
            mean, deviation = _accuracy(result, "student")
            row |= {"test_accuracy": mean, "test_accuracy_std": deviation}
            row |= {"seeds": result["seeds"]["count"] if result["seeds"] else 1}
            row |= {name: result[name] for name in ("retention", "gain")}
    except (DistillError, OSError, LookupError, TypeError) as error:
        row |= {"status": "unreadable", "error": str(error)}
    return row


def _run_line(row: Mapping[str, Any]) -> str:
    told = row["error"] if row["status"] == "unreadable" else ""
    if row["test_accuracy"] is not None:
        told = f"student {_percent(row['test_accuracy'], row['test_accuracy_std'])}"
        told += f" over {row['seeds']} seeds" if row["seeds"] > 1 else ""
    return f"{row['run_id']}  {row['status']:10}  {told}"


def _data(options: argparse.Namespace) -> int:
    from distill_core.data.description import describe_profile
    from distill_core.data.sources import describe

    store, config = Store(options.home), load(options.preset, options.config, options.set)
    try:
        profile = estimate.known_profile(config, store) or _read_profile(config, store)
    except KeyboardInterrupt:
        print("reading was cancelled", file=sys.stderr)
        return 1
    source = describe(config.data)
    lines = [f"{source.title} ({config.data.name})", source.description, *describe_profile(profile)]
    return answer(options, asdict(profile), lines)


def _read_profile(config: RunConfig, store: Store) -> Profile:
    """The same of a data set that has yet to be read, with its progress on stderr."""
    from distill_core import teaching

    teaching.prepare_data(config, store, progress=answering.speaker())
    profile = estimate.known_profile(config, store)
    assert profile is not None
    return profile


def _presets(options: argparse.Namespace) -> int:
    rows = [
        {"name": name, "description": preset.description, "config": preset.config.model_dump(mode="json")}
        for name, preset in PRESETS.items()
    ]
    return answer(options, rows, [f"{name:16} {preset.description}" for name, preset in PRESETS.items()])


def _datasets(options: argparse.Namespace) -> int:
    rows = _found_datasets(Store(options.home))
    lines = [f"{row['name']:18}{'found' if row['found'] else 'missing':9}{row['description']}" for row in rows]
    return answer(options, rows, lines)


def _found_datasets(store: Store) -> list[dict[str, Any]]:
    from distill_core.data.sources import HUB, SOURCES, found

    return [
        {
            "name": name,
            "title": source.title,
            "description": source.description,
            "found": found(name, store.data_folder),
        }
        for name, source in {**SOURCES, "hf:NAME": HUB}.items()
    ]


def _doctor(options: argparse.Namespace) -> int:
    from distill_core import device
    from distill_core.computing import narrow_here

    compute = device.choose(faster=partial(narrow_here, Store(options.home)))
    found = {
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in PACKAGES},
        "device": device.name(compute.device),
        "precision": compute.precision,
        "bfloat16": sorted(compute.narrow) if compute.precision == "bfloat16" else [],
        "cores": device.use_all_cores(),
        "home": str(Store(options.home).home),
        "data": {row["name"]: row["found"] for row in _found_datasets(Store(options.home))},
    }
    lines = [f"{name:10} {_flat(value)}" for name, value in found.items()]
    return answer(options, found, lines)


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(value) or "nothing" if isinstance(value, list) else str(value)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m distill_core", description="Teach a small text classifier with a large one."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, action: Callable[[argparse.Namespace], int], summary: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary)
        added.set_defaults(command=action)
        added.add_argument("--home", type=Path, default=None, help=f"home folder (default {home_folder()})")
        return added

    def configured(name: str, action: Callable[[argparse.Namespace], int], summary: str) -> argparse.ArgumentParser:
        added = command(name, action, summary)
        added.add_argument("--preset", default="quick", metavar="NAME", help="start from a preset (default quick)")
        added.add_argument("--config", type=Path, metavar="FILE", help="overlay settings from a JSON file")
        added.add_argument(
            "--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", help="overlay one setting; repeatable"
        )
        return added

    run = configured("run", _run, "Train teacher, baseline and student, and say what each is worth.")
    run.add_argument(
        "--seeds", metavar="N", help="repeat baseline and student with N seeds and one teacher: is the gain chance?"
    )
    run.add_argument("--run-id", help=argparse.SUPPRESS)
    data = configured("data", _data, "Read the data set, and say what it looks like and what was left out.")
    data.add_argument("--json", action="store_true", help="print it as one JSON object on the last line")
    answering.add_commands(command)
    sweeping.add_commands(command)
    listings = {
        "runs": (_runs, "List all runs."),
        "presets": (_presets, "List the presets and their settings."),
        "datasets": (_datasets, "List the data sets."),
        "doctor": (_doctor, "Show versions, device, precision and data found."),
    }
    resume = command("resume", _resume, "Let a paused run go on, or take up an interrupted one in this process.")
    resume.add_argument("run_id", metavar="RUN_ID", help="a run id, or the end of one")
    resume.add_argument("--json", action="store_true", help="print the result as one JSON object on the last line")
    housekeeping.add_commands(command)
    for name, (action, summary) in listings.items():
        command(name, action, summary).add_argument("--json", action="store_true", help="print JSON")
    run.add_argument("--json", action="store_true", help="print the result as one JSON object on the last line")
    return parser


if __name__ == "__main__":
    atexit.register(gc.freeze)  # else the interpreter looks through all of PyTorch as it ends, for 0.7 s
    sys.exit(main())
