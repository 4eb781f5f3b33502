"""Commands for runs that exist and for the home folder: steer, delete, move between labs, clean."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from distill_core import files, limits, steering
from distill_core.errors import DataError
from distill_core.limits import Limits
from distill_core.store import Store


class AddCommand(Protocol):
    """Adds a command with its action and a summary, and returns its parser."""

    def __call__(self, name: str, action: Callable[[argparse.Namespace], int], summary: str) -> argparse.ArgumentParser:
        """Adds it."""


def add_commands(command: AddCommand) -> None:
    """Adds all commands of this module."""
    of_runs: dict[str, tuple[Callable[[argparse.Namespace], int], str]] = {
        "pause": (partial(_ask, "pause"), "Let a run stand still at its next batch."),
        "step": (_step, "Let a paused run take one batch, or the rest of its epoch."),
        "stop": (_stop, "Stop a run and keep its student as it is."),
        "delete": (_delete, "Move a run to the trash."),
        "restore": (_restore, "Bring a run back from the trash."),
        "export": (_export, "Write a run and its models into one archive."),
    }
    added = {name: command(name, action, summary) for name, (action, summary) in of_runs.items()}
    for parser in added.values():
        parser.add_argument("run_id", metavar="RUN_ID", help="a run id, or the end of one")
    added["step"].add_argument("--epoch", action="store_true", help="to the end of the epoch, in place of one batch")
    added["stop"].add_argument("--discard", action="store_true", help="keep no student")
    added["export"].add_argument("file", type=Path, metavar="FILE", help="the archive, as in run.zip")
    added["import"] = command("import", _import, "Take in a run from an archive.")
    added["import"].add_argument("file", type=Path, metavar="FILE", help="an archive that `export` has written")
    added["storage"] = command("storage", _storage, "Say what takes how much space, and clean.")
    added["storage"].add_argument(
        "--clean",
        nargs="+",
        metavar="KIND",
        help="delete all of some kinds that nothing needs",
    )
    added["limits"] = command("limits", _limits, "Show the limits of this lab, which limits.json may change.")
    for name in ("import", "storage", "limits"):
        added[name].add_argument("--json", action="store_true", help="print JSON")


def answer(options: argparse.Namespace, value: Any, lines: Sequence[str]) -> int:
    """Prints a value as JSON where that is asked for, else lines for people."""
    print(json.dumps(value) if options.json else "\n".join(lines))
    return 0


def _ask(request: steering.Request, options: argparse.Namespace) -> int:
    store = Store(options.home)
    steering.ask(store, store.find_run(options.run_id), request)
    return 0


def _stop(options: argparse.Namespace) -> int:
    store = Store(options.home)
    run_id = store.find_run(options.run_id)
    if options.discard:
        steering.discard(store, run_id)
        return 0
    return _ask("keep", options)


def _step(options: argparse.Namespace) -> int:
    return _ask("epoch" if options.epoch else "batch", options)


def _delete(options: argparse.Namespace) -> int:
    store = Store(options.home)
    run_id = store.find_run(options.run_id)
    store.delete_run(run_id)
    print(f"{run_id} lies in the trash; bring it back with: restore {run_id}", file=sys.stderr)
    return 0


def _restore(options: argparse.Namespace) -> int:
    Store(options.home).restore_run(options.run_id)
    return 0


def _export(options: argparse.Namespace) -> int:
    from distill_core import archive

    store = Store(options.home)
    with files.aside(options.file.absolute()) as path, path.open("w+b") as stream:
        archive.export_run(store, store.find_run(options.run_id), stream)
    return 0


def _import(options: argparse.Namespace) -> int:
    from distill_core import archive

    try:
        with options.file.open("rb") as stream:
            run_id = archive.import_run(Store(options.home), stream, owner=None)
    except OSError as error:
        raise DataError(f"archive {str(options.file)!r} cannot be read: {error.strerror}; check the path") from None
    return answer(options, {"run_id": run_id}, [run_id])


def _storage(options: argparse.Namespace) -> int:
    from distill_core import cleaning, storage

    store = Store(options.home)
    if options.clean:
        done = cleaning.clean(store, options.clean)
        freed = {"freed": done.freed, "problems": list(done.problems)}
        return answer(options, freed, [f"Freed {storage.amount(done.freed)}", *done.problems])
    figures = cleaning.facts(store, limits.load(store.home))
    return answer(options, figures, cleaning.lines(figures))


def _limits(options: argparse.Namespace) -> int:
    allowed = limits.load(Store(options.home).home)
    lines = [
        f"{name:18} {getattr(allowed, name)!s:10} {field.description}" for name, field in Limits.model_fields.items()
    ]
    return answer(options, allowed.model_dump(), lines)
