"""Sweeps on the command line: `sweep`, `sweeps`, `sweep-result`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distill_core import presets, worker
from distill_core.errors import ConfigError
from distill_core.housekeeping import answer
from distill_core.store import Store
from distill_core.sweep import questions, sweeper
from distill_core.sweep.cells import ENDED, Cell, tidy
from distill_core.sweep.outlook import outlook
from distill_core.sweep.record import Sweeps
from distill_core.sweep.space import SweepConfig, label, parse_axis, parse_sweep

Command = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add_commands(command: Command) -> None:
    """Adds the commands to a parser."""
    sweep = command("sweep", _sweep, "Train many students that differ in a few settings, and say what that shows.")
    chosen = sweep.add_mutually_exclusive_group()
    chosen.add_argument("--preset", metavar="NAME", help=f"a ready question: {', '.join(questions.QUESTIONS)}")
    chosen.add_argument("--resume", metavar="SWEEP_ID", help="go on with a sweep that was paused or interrupted")
    chosen.add_argument("--extend", metavar="SWEEP_ID", help="give a sweep the axes or the number of cells named here")
    chosen.add_argument("--drive", help=argparse.SUPPRESS)
    sweep.add_argument(
        "--axes",
        action="append",
        default=[],
        metavar="FIELD=V,V,… | FIELD=LOW..HIGH[:log]",
        help="what differs between cells; repeatable",
    )
    sweep.add_argument("--seeds", type=int, metavar="N", help="trainings in each cell, for error bars (default 3)")
    sweep.add_argument("--sampler", metavar="grid|random|tpe|nsga2", help="how cells are chosen (default grid)")
    sweep.add_argument("--cells", type=int, metavar="N", help="how many cells, where it is no grid")
    sweep.add_argument("--pruner", metavar="none|median|hyperband", help="whether hopeless cells are stopped early")
    sweep.add_argument("--executor", metavar="local|ray", help="this machine's cores (default), or a Ray cluster")
    sweep.add_argument("--address", help="the Ray cluster's address; left out, one starts on this machine")
    sweep.add_argument("--storage", metavar="URL", help="Optuna's database (default sweeps.db in the home folder)")
    sweep.add_argument("--base", default="quick", metavar="PRESET", help="the run preset that the axes change")
    sweep.add_argument("--config", type=Path, metavar="FILE", help="overlay settings of all cells from a JSON file")
    sweep.add_argument(
        "--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", help="one setting of all cells"
    )
    sweep.add_argument("--json", action="store_true", help="print the result as one JSON object on the last line")
    listed = command("sweeps", _sweeps, "List all sweeps.")
    listed.add_argument("--json", action="store_true", help="print them as one JSON array on the last line")
    result = command("sweep-result", _result, "Show a sweep's cells as a tidy table, and what they say.")
    result.add_argument("sweep_id", metavar="SWEEP_ID", help="a sweep's id, or the end of one")
    result.add_argument("--json", action="store_true", help="print it as one JSON object on the last line")
    result.add_argument("--csv", type=Path, metavar="FILE", help="write the table as CSV")
    result.add_argument("--parquet", type=Path, metavar="FILE", help="write the table as Parquet")
    delete = command("sweep-delete", _delete, "Forget a sweep that is at rest.")
    delete.add_argument("sweep_id", metavar="SWEEP_ID", help="a sweep's id, or the end of one")
    delete.add_argument("--runs", action="store_true", help="put its runs into the trash, too; else they stay")


def _delete(options: argparse.Namespace) -> int:
    store = Store(options.home)
    sweep_id = Sweeps(store).find(options.sweep_id)
    sweeper.delete(store, sweep_id, with_runs=options.runs)
    print(f"sweep {sweep_id} is deleted{' and its runs are in the trash' if options.runs else '; its runs stay'}")
    return 0


def _sweep(options: argparse.Namespace) -> int:
    store = Store(options.home)
    sweeps = Sweeps(store)
    if options.drive:
        return _drive(options.drive, sweeps, options)
    if options.resume:
        sweep_id = sweeps.find(options.resume)
        sweeps.ask(sweep_id, "run")
        return _drive(sweep_id, sweeps, options)
    if options.extend:
        sweep_id = sweeps.find(options.extend)
        sweeper.extended(store, sweep_id, _extension(sweeps.config(sweep_id), options))
        sweeps.ask(sweep_id, "run")
        return _drive(sweep_id, sweeps, options)
    config = _config(options)
    ahead = outlook(config, store)
    print(
        f"{ahead.cells} cells × {config.seeds} seeds, {ahead.trainings} trainings, about {ahead.seconds:.0f} s",
        file=sys.stderr,
    )
    return _drive(sweeps.create(config, estimated=ahead.seconds), sweeps, options)


def _config(options: argparse.Namespace) -> SweepConfig:
    """The sweep that the command line describes. Raises ConfigError."""
    if options.preset:
        asked = questions.ask(options.preset).config
        values = {**dict(asked), "base": presets.overlaid(asked.base, options.config, options.set)}
    elif options.axes:
        values = {"base": presets.load(options.base, options.config, options.set)}
    else:
        raise ConfigError(
            f"sweep needs --axes or --preset, got neither; try --preset {next(iter(questions.QUESTIONS))}, or --axes "
            "objective.beta=0,1,2"
        )
    if options.axes:
        values["axes"] = [parse_axis(text) for text in options.axes]
    return parse_sweep({**values, **_given(options)})


def _extension(before: SweepConfig, options: argparse.Namespace) -> SweepConfig:
    """The same sweep with further values on the axes that are named, or more cells."""
    named = {axis.field: axis for axis in map(parse_axis, options.axes)}
    unknown = named.keys() - {axis.field for axis in before.axes}
    if unknown:
        raise ConfigError(f"--axes must name an axis of the sweep to extend it, got {sorted(unknown)[0]}")
    axes = [
        axis
        if axis.field not in named
        else axis.model_copy(update={"values": tuple(dict.fromkeys([*axis.values, *named[axis.field].values]))})
        for axis in before.axes
    ]
    return parse_sweep({**dict(before), "axes": axes, **_given(options)})


def _given(options: argparse.Namespace) -> dict[str, Any]:
    names = ("seeds", "sampler", "cells", "pruner", "executor", "address", "storage")
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _drive(sweep_id: str, sweeps: Sweeps, options: argparse.Namespace) -> int:
    """Works on a sweep in this process, to its end or until it is interrupted."""
    from distill_core.sweep.drive import drive

    print(f"sweep {sweep_id} in {sweeps.folder(sweep_id)}", file=sys.stderr)
    with worker.stop_requests() as heed:
        state = drive(sweep_id, sweeps, _Narrator(sweeps.config(sweep_id)), heed)
    cells = sweeps.cells(sweep_id)
    if state != "finished":
        remedy = f"; go on with: sweep --resume {sweep_id}" if state != "cancelled" else ""
        print(f"sweep {sweep_id} was {state}{remedy}", file=sys.stderr)
    if options.json:
        print(json.dumps(_whole(sweep_id, sweeps)))
    else:
        print("\n".join([*_table(cells), *questions.answer_of(sweeps.config(sweep_id), cells)]))
    return 0 if state == "finished" else 1


class _Narrator:
    """Tells a person on stderr how a sweep goes on, a line for each cell that has ended."""

    def __init__(self, config: SweepConfig) -> None:
        self._planned, self._ended, self._begun = config.planned, set[int](), time.monotonic()

    def __call__(self, cell: Cell) -> None:
        if cell.state not in ENDED:
            return
        self._ended.add(cell.number)
        found = cell.measured
        told = cell.error or cell.state if found is None else f"student {found.accuracy:.1%}"
        seconds = time.monotonic() - self._begun
        print(
            f"{len(self._ended)} of {self._planned}, {seconds:.0f} s: {label(cell.values)}: {told}",
            file=sys.stderr,
            flush=True,
        )


def _sweeps(options: argparse.Namespace) -> int:
    sweeps = Sweeps(Store(options.home))
    rows = [_listed(sweep_id, sweeps) for sweep_id in sweeps.ids()]
    lines = [
        f"{row['sweep_id']}  {row['status']:11} {row['done']} of {row['planned']} cells  {row['axes']}" for row in rows
    ]
    return answer(options, rows, lines or ["No sweeps yet; start one with: sweep --preset how-much-beta"])


def _listed(sweep_id: str, sweeps: Sweeps) -> dict[str, Any]:
    config = sweeps.config(sweep_id)
    return {
        **asdict(sweeps.status(sweep_id)),
        "question": config.question,
        "axes": "; ".join(f"{axis.field}={axis.as_text()}" for axis in config.axes),
        "seeds": config.seeds,
        "planned": config.planned,
        "done": sum(cell.state == "finished" for cell in sweeps.cells(sweep_id)),
    }


def _result(options: argparse.Namespace) -> int:
    sweeps = Sweeps(Store(options.home))
    sweep_id = sweeps.find(options.sweep_id)
    whole = _whole(sweep_id, sweeps)
    if options.csv or options.parquet:
        _export(whole["cells"], options.csv, options.parquet)
    error = sweeps.status(sweep_id).error
    lines = [*_table(sweeps.cells(sweep_id)), *whole["answer"], *([] if error is None else [f"It failed: {error}"])]
    return answer(options, whole, lines)


def _whole(sweep_id: str, sweeps: Sweeps) -> dict[str, Any]:
    """A sweep with its tidy table and what it says."""
    config, cells = sweeps.config(sweep_id), sweeps.cells(sweep_id)
    return {**_listed(sweep_id, sweeps), "cells": tidy(cells), "answer": questions.answer_of(config, cells)}


def _export(rows: Sequence[dict[str, Any]], csv: Path | None, parquet: Path | None) -> None:
    import pandas as pd

    frame = pd.DataFrame(rows)
    for file, write in ((csv, lambda path: frame.to_csv(path, index=False)), (parquet, frame.to_parquet)):
        if file is not None:
            try:
                write(file)
            except OSError as error:
                raise ConfigError(f"file {str(file)!r} cannot be written: {error.strerror}; check the path") from None


def _table(cells: Sequence[Cell]) -> list[str]:
    """A line for each cell, best on validation first."""
    lines = []
    for cell in sorted(cells, key=lambda cell: -(cell.measured.val_accuracy if cell.measured else 0.0)):
        found = cell.measured
        told = cell.error or cell.state
        if found is not None:
            spread = "" if found.deviation is None else f" ±{100 * found.deviation:.1f}"
            gain = "" if found.gain is None else f", gain {100 * found.gain:+.1f} ±{100 * (found.gain_margin or 0):.1f}"
            told = f"test {found.accuracy:.1%}{spread}{gain}, {found.parameters:,} parameters"
        lines.append(f"{cell.number:5}  {label(cell.values)}: {told}")
    return lines
