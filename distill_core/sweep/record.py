"""The folders of sweeps, and the only code that writes them. Needs no PyTorch.

    DISTILL_HOME/
        sweeps/<sweep_id>/  sweep.json status.json control.json cells.jsonl driver.log
        sweeps.db           Optuna's database, where the sweep names no other

A cell is written again whenever it changes, a line each time; the last line of a number counts, and a torn one at the
end is skipped. A sweep is at work while its driver holds the claim on it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from distill_core import files
from distill_core.errors import RunError
from distill_core.store import Store
from distill_core.sweep.cells import Cell, latest
from distill_core.sweep.space import SweepConfig, parse_sweep

SweepState = Literal["queued", "running", "paused", "interrupted", "finished", "failed", "cancelled"]
SweepWish = Literal["run", "pause", "cancel"]
OPEN: frozenset[SweepState] = frozenset({"queued", "running"})
_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")
START_SECONDS = 30.0
"""Seconds that a driver may take until it holds a sweep that waits for it."""


@dataclass(frozen=True)
class SweepStatus:
    """Where a sweep stands: times in seconds since the epoch; `worked` and `estimated` are seconds of work.

    `asked` is when it was last put to work, `started` when the stretch of work began that is under way. `estimated` is
    what the whole was expected to take when it was begun. `owner` is a hash of who may stop it.
    """

    sweep_id: str
    status: SweepState
    created: float
    asked: float
    estimated: float | None = None
    worked: float = 0.0
    started: float | None = None
    ended: float | None = None
    pid: int | None = None
    error: str | None = None
    owner: str | None = None

    @property
    def over(self) -> bool:
        """Whether nothing works on the sweep or is going to, unless somebody resumes it."""
        return self.status not in OPEN


class Sweeps:
    """The sweeps of one home folder."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._read: dict[str, tuple[int, list[Cell]]] = {}

    def create(self, config: SweepConfig, owner: str | None = None, estimated: float | None = None) -> str:
        """Makes the folder of a new sweep, which waits for its driver, and returns its id."""
        now = time.time()
        sweep_id = time.strftime("%Y%m%d-%H%M%S-", time.gmtime(now)) + secrets.token_hex(3)
        with files.new_folder(self.folder(sweep_id)) as folder:
            (folder / "sweep.json").write_text(config.to_json(), encoding="utf-8")
            status = SweepStatus(sweep_id, "queued", now, now, estimated, owner=owner)
            (folder / "status.json").write_text(files.dump(asdict(status)), encoding="utf-8")
        return sweep_id

    def ids(self) -> list[str]:
        """All sweeps, oldest first."""
        folder = self.store.home / "sweeps"
        names = (path.parent.name for path in folder.glob("[0-9]*/status.json"))
        return sorted(name for name in names if _ID.fullmatch(name))

    def find(self, name: str) -> str:
        """The sweep that has this id, or alone ends with it. Raises RunError."""
        known = self.ids()
        fits = [found for found in known if found == name] or [found for found in known if found.endswith(name)]
        if len(fits) != 1 or len(name) < 3:
            remedy = f"it fits {len(fits)}; give more of it" if fits else "list them with: sweeps"
            raise RunError(f"sweep must be one that exists, got {name!r}; {remedy}")
        return fits[0]

    def delete(self, sweep_id: str) -> None:
        """Forgets a sweep; its runs stay."""
        aside = self.folder(sweep_id).with_name(f".new-{secrets.token_hex(4)}")
        self.folder(sweep_id).rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def folder(self, sweep_id: str) -> Path:
        """Where a sweep keeps its files."""
        return self.store.home / "sweeps" / sweep_id

    def config(self, sweep_id: str) -> SweepConfig:
        """What the sweep is to try. Raises RunError, ConfigError."""
        return parse_sweep(files.load_json(self.folder(sweep_id) / "sweep.json"))

    def extend(self, sweep_id: str, config: SweepConfig, estimated: float | None) -> None:
        """Gives a sweep that is over more cells. Raises RunError while it is at work."""
        status = self.status(sweep_id)
        if not status.over:
            raise RunError(f"sweep must be at rest to be extended, got {sweep_id!r} which is {status.status}; pause it")
        files.write_text(self.folder(sweep_id) / "sweep.json", config.to_json())
        self.update(sweep_id, estimated=estimated)

    # Where it stands

    def status(self, sweep_id: str) -> SweepStatus:
        """Where a sweep stands: one that is to be worked on while no driver holds it has been interrupted."""
        status = self._written(sweep_id)
        if _needs_driver(status) and not self.is_claimed(sweep_id):
            status = self._written(sweep_id)  # it may have ended between the two looks
            if _needs_driver(status):
                return replace(status, status="interrupted")
        return status

    def _written(self, sweep_id: str) -> SweepStatus:
        try:
            return SweepStatus(**files.load_json(self.folder(sweep_id) / "status.json"))
        except TypeError as error:
            raise RunError(f"status.json of sweep {sweep_id!r} has other fields ({error}); it cannot be read") from None

    def update(self, sweep_id: str, **changes: Any) -> SweepStatus:
        """Changes some fields of a sweep's status."""
        with FileLock(self.folder(sweep_id) / ".status", timeout=5):
            status = replace(self._written(sweep_id), **changes)
            files.write_json(self.folder(sweep_id) / "status.json", asdict(status))
        return status

    @contextmanager
    def claim(self, sweep_id: str) -> Iterator[None]:
        """Holds a sweep for the process that drives it, until it ends in whatever way. Raises RunError."""
        claim = FileLock(self.folder(sweep_id) / ".claim", timeout=1)
        try:
            claim.acquire()
        except Timeout:
            raise RunError(f"sweep must be at rest, got {sweep_id!r} which another process drives; watch it") from None
        try:  # apart from the above: whoever holds the sweep may wait in vain for another lock
            yield
        finally:
            claim.release()

    def is_claimed(self, sweep_id: str) -> bool:
        """Whether a living process drives a sweep."""
        if not (self.folder(sweep_id) / ".claim").is_file():
            return False
        try:
            with FileLock(self.folder(sweep_id) / ".claim", timeout=0):
                return False
        except (Timeout, PermissionError):  # a folder that may be read alone is somebody else's
            return True

    def ask(self, sweep_id: str, wish: SweepWish) -> None:
        """Tells the driver what somebody wants; it looks several times a second."""
        files.write_json(self.folder(sweep_id) / "control.json", {"wish": wish})

    def wish(self, sweep_id: str) -> SweepWish:
        """What somebody wants of the sweep."""
        try:
            wish: Mapping[str, Any] = files.load_json(self.folder(sweep_id) / "control.json")
        except RunError:
            return "run"
        return wish["wish"] if wish.get("wish") in ("pause", "cancel") else "run"

    # Its cells

    def append(self, sweep_id: str, cell: Cell) -> None:
        """Writes a cell as it stands now."""
        line = json.dumps(cell.as_json(), ensure_ascii=False)
        with (self.folder(sweep_id) / "cells.jsonl").open("ab") as file:
            if file.tell() and not _ends_whole(Path(file.name)):
                file.write(b"\n")  # a dying driver has left a torn line
            file.write(line.encode() + b"\n")

    def cells(self, sweep_id: str) -> list[Cell]:
        """The cells that have begun, each as it stands now, by number; read again only once there is more."""
        file = self.folder(sweep_id) / "cells.jsonl"
        size = file.stat().st_size if file.is_file() else 0
        seen, cells = self._read.get(sweep_id, (0, []))
        if size != seen:
            try:
                with file.open("rb") as opened:
                    opened.seek(seen if size > seen else 0)
                    text = opened.read()
            except FileNotFoundError:  # somebody has just deleted the sweep
                return []
            except OSError as error:
                raise RunError(f"cells of sweep {sweep_id!r} cannot be read ({error}); check the disk") from None
            whole = text[: text.rfind(b"\n") + 1]
            new = [cell for line in whole.splitlines() if (cell := _cell(line)) is not None]
            cells = latest([*(cells if size > seen else []), *new])
            self._read[sweep_id] = (seen if size > seen else 0) + len(whole), cells
        return list(cells)


def _needs_driver(status: SweepStatus) -> bool:
    waits = status.status == "queued" and time.time() - status.asked > START_SECONDS
    return status.status == "running" or waits


def _cell(line: bytes) -> Cell | None:
    try:
        return Cell.from_json(json.loads(line))
    except (ValueError, TypeError, AttributeError):
        return None


def _ends_whole(file: Path) -> bool:
    with file.open("rb") as opened:
        opened.seek(-1, os.SEEK_END)
        return opened.read(1) == b"\n"
