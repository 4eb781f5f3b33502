"""What takes how much of the home folder, and whether there is room for more.

A run's weights and its teacher's may be one file under two names; such a file counts once. A symbolic link counts as a
link: nothing beyond it is looked at.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from distill_core.errors import LimitError
from distill_core.limits import FILE, Limits
from distill_core.store import CHECKPOINTS, CacheKind, Store

Part = Literal[
    "runs",
    "checkpoints",
    "teachers",
    "tokens",
    "transfer",
    "words",
    "baselines",
    "uploads",
    "data",
    "trash",
    "leftovers",
    "other",
]
PARTS: tuple[Part, ...] = get_args(Part)
"""What the home folder holds. A file with several names counts for the first part that has one."""
CACHES: tuple[CacheKind, ...] = get_args(CacheKind)
_PLACES = frozenset({*CACHES, "uploads"})
"""Parts that are folders of their own name, but for those with rules of their own."""
DRAFT_SECONDS = 90 * 86_400.0
"""Settings that a browser has not touched for so long are leftovers."""
DISK_BYTES = 200_000_000
"""What the disk must have free for a run to start."""
MEASURE_SECONDS = 10.0
"""A measurement counts for so long, or 20 times as long as it took, so that asking often costs little."""
ASIDE = re.compile(r"\.(new|import)-.+|\..+\.[0-9a-f]{8}", re.DOTALL)
"""Names of what is being written; see files.py and archive.py."""


def amount(size: float) -> str:
    """A number of bytes as people say it, as in 312 MB; a thousand bytes are a kB."""
    if size == 0:
        return "0 MB"
    if size >= 999.5e6:
        return f"{size / 1e9:.0f} GB" if size >= 9.95e9 else f"{size / 1e9:.1f} GB"
    if size >= 99.5e3:
        return f"{size / 1e6:.0f} MB" if size >= 9.95e6 else f"{size / 1e6:.1f} MB"
    return f"{max(size / 1e3, 1):.0f} kB"


@dataclass(frozen=True)
class Usage:
    """Bytes of the home folder by part, each file once, and how many files or folders could not be counted."""

    sizes: Mapping[Part, int]
    unreadable: int = 0

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(self.sizes.values())

    def of(self, parts: Iterable[Part]) -> int:
        """Bytes of some parts."""
        return sum(self.sizes[part] for part in parts)


def usage(store: Store) -> Usage:
    """Measures the home folder. What vanishes meanwhile is not counted."""
    sizes, missed = dict.fromkeys(PARTS, 0), list[str]()
    shared: dict[tuple[int, int], tuple[int, int]] = {}
    home, oldest = str(store.home), time.time() - DRAFT_SECONDS
    for path, facts in files_in(home, missed):
        names = path[len(home) + 1 :].split(os.sep)  # noqa: PTH206 (quick: there may be a hundred thousand)
        part = _part(names, facts.st_mtime < oldest)
        if facts.st_nlink > 1:
            identity, place = (facts.st_dev, facts.st_ino), PARTS.index(part)
            shared[identity] = min(shared.get(identity, (place, 0))[0], place), facts.st_size
        else:
            sizes[part] += facts.st_size
    for place, size in shared.values():
        sizes[PARTS[place]] += size
    return Usage(sizes, len(missed))


def _part(names: list[str], old: bool) -> Part:
    """The part that a file belongs to, from its path within the home folder."""
    top = names[0] if len(names) > 1 else "other"
    if top in ("data", "trash"):
        return "data" if top == "data" else "trash"
    if any(ASIDE.fullmatch(name) for name in names) or (top == "drafts" and old):
        return "leftovers"
    if top == "runs":
        return "checkpoints" if len(names) > 3 and names[2] == CHECKPOINTS else "runs"
    return next((part for part in PARTS if part == top and part in _PLACES), "other")


def files_in(root: str, missed: list[str]) -> Iterator[tuple[str, os.stat_result]]:
    """Everything under a folder but folders, or a file itself; notes in `missed` what cannot be read."""
    pending = [root]
    while pending:
        path = pending.pop()
        for entry in entries_of(path, missed):
            try:
                if is_folder(entry):
                    pending.append(entry.path)
                else:
                    yield entry.path, entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError:
                missed.append(entry.path)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether this is a folder and no link to one; one that cannot be asked is taken for a file."""
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def entries_of(folder: str, missed: list[str]) -> list[os.DirEntry[str]]:
    """What lies in a folder; nothing where it is gone, or cannot be read, which is noted in `missed`."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except OSError:
        missed.append(folder)
        return []


# Room


@dataclass(frozen=True)
class Room:
    """Bytes that the home folder takes, that it may take, and that its disk has free; None for unknown or no limit."""

    used: int
    limit: int | None
    free: int | None


_measured: dict[Path, tuple[float, int]] = {}
"""Home folders, until when their measurement counts on the monotonic clock, and what it was."""


def room(store: Store, limits: Limits, measured: Usage | None = None) -> Room:
    """How much room there is. The home folder is measured again only some seconds after the last time.

    Args:
        measured: a measurement just made.
    """
    limit = None if limits.home_gigabytes is None else int(min(limits.home_gigabytes * 1e9, 1e18))
    used = _used(store) if measured is None else measured.total
    return Room(used, limit, _free(store.home))


def check_room(store: Store, limits: Limits) -> None:
    """Raises LimitError where no further run may start: see `shortage`."""
    lacking = shortage(room(store, limits))
    if lacking is not None:
        remedy = f"free some on the page Storage, or with: storage --clean trash; home_gigabytes stands in {FILE}"
        raise LimitError(f"{lacking}; {remedy}")


def shortage(room: Room) -> str | None:
    """What is wrong where the home folder is over its limit, or its disk nearly full; None where all is well."""
    if room.free is not None and room.free < DISK_BYTES:
        return f"free disk space must be at least {amount(DISK_BYTES)}, got {amount(room.free)}"
    if room.limit is not None and room.used > room.limit:
        return f"the home folder must take at most home_gigabytes={room.limit / 1e9:g}, got {room.used / 1e9:.3g}"
    return None


def _used(store: Store) -> int:
    until, used = _measured.get(store.home, (0.0, 0))
    begun = time.monotonic()
    if begun >= until:
        used = usage(store).total
        ended = time.monotonic()
        _measured[store.home] = ended + max(MEASURE_SECONDS, 20 * (ended - begun)), used
    return used


def forget(store: Store) -> None:
    """Has the home folder measured anew the next time, since something was deleted."""
    _measured.pop(store.home, None)


def _free(home: Path) -> int | None:
    there = next(folder for folder in (home, *home.parents) if folder.is_dir())
    try:
        return shutil.disk_usage(there).free
    except OSError:
        return None
