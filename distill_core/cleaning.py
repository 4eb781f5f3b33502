"""Gets room back in the home folder: deletes what no run needs that has yet to end.

Whatever goes is moved out of reach first, so that readers see it whole or not at all. Symbolic links are deleted as
links: nothing beyond them is touched. Runs themselves are never touched.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, Literal, get_args

from distill_core import keys, openmp, storage
from distill_core.config import RunConfig
from distill_core.errors import ConfigError, DistillError, RunError
from distill_core.limits import Limits
from distill_core.status import short
from distill_core.storage import ASIDE, CACHES, DRAFT_SECONDS, Part, amount, entries_of, files_in, is_folder
from distill_core.store import CHECKPOINTS, Store

Kind = Literal["trash", "caches", "uploads", "data", "checkpoints", "leftovers"]
KINDS: tuple[Kind, ...] = get_args(Kind)
YOUNG_SECONDS = 3600.0
"""What is younger stays: somebody may be about to use it."""


@dataclass(frozen=True)
class Words:
    """What a kind is and what is lost by cleaning it, in a sentence each."""

    title: str
    what: str
    lost: str
    parts: tuple[Part, ...]
    asks: bool
    """Whether it costs time or cannot be made again, so that a page asks twice."""


WORDS: Mapping[Kind, Words] = {
    "trash": Words(
        "Deleted runs",
        "Runs that somebody has deleted; until they are cleaned they can be brought back.",
        "They cannot be brought back then.",
        ("trash",),
        True,
    ),
    "caches": Words(
        "Teachers and texts kept for further runs",
        "Trained teachers, their answers, baselines, and data sets as token ids; weights that a run holds too count as "
        "its own.",
        "A teacher or baseline that is deleted is trained again when a run needs it.",
        CACHES,
        True,
    ),
    "uploads": Words(
        "Uploaded files",
        "Files that people have given to the lab; those that a run or a browser refers to stay.",
        "Who needs one again has to upload it again.",
        ("uploads",),
        True,
    ),
    "data": Words(
        "Downloaded data sets",
        "IMDB, sets of the Hugging Face Hub, GloVe.",
        "They are downloaded again when a run needs them; files that you put there by hand go too.",
        ("data",),
        True,
    ),
    "checkpoints": Words(
        "Checkpoints",
        "What runs that have yet to end need to go on; those of runs that have ended can go.",
        "Nothing is lost.",
        ("checkpoints",),
        False,
    ),
    "leftovers": Words(
        "Leftovers",
        "Half-written files of processes that were killed, and settings that no browser has shown for "
        f"{DRAFT_SECONDS / 86_400:.0f} days.",
        "Nothing that works is lost.",
        ("leftovers",),
        False,
    ),
}


@dataclass(frozen=True)
class Cleaning:
    """Bytes that a cleaning freed, and sentences on what stayed though it was to go."""

    freed: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Plan:
    """What is to go, and why something is not.

    `needed` is asked before each thing goes, and once more when it is out of reach: a run may have started.
    """

    doomed: tuple[Path, ...]
    problems: tuple[str, ...] = ()
    needed: Callable[[Path], bool] = lambda path: False


def cleanable(store: Store) -> dict[str, int]:
    """Bytes that cleaning each kind by itself would free now."""
    return {kind: _would_free(plan(store).doomed) for kind, plan in _PLANS.items()}


def clean(store: Store, kinds: Iterable[str]) -> Cleaning:
    """Deletes what nothing needs of some kinds; see WORDS. What cannot be deleted is passed over and reported.

    Raises:
        ConfigError: there is no such kind.
    """
    freed, problems = 0, list[str]()
    for kind in dict.fromkeys(kinds):
        if kind not in _PLANS:
            raise ConfigError(f"what is cleaned must be one of {', '.join(KINDS)}, got {kind!r}; name one of them")
        plan = _PLANS[kind](store)
        problems.extend(plan.problems)
        freed += _delete_all(plan, problems)
    storage.forget(store)
    return Cleaning(freed, tuple(problems))


def purge_trash(store: Store, days: float) -> Cleaning:
    """Deletes for good the runs that were deleted so many days ago or earlier."""
    before, problems = time.time() - days * 86_400, list[str]()
    old = tuple(path for path in _children(store.home / "trash") if _modified(path) <= before)
    freed = _delete_all(_Plan(old), problems)
    storage.forget(store)
    return Cleaning(freed, tuple(problems))


def _children(folder: Path) -> tuple[Path, ...]:
    """What may be deleted in a folder, in order; nothing where it is a link to elsewhere."""
    return () if folder.is_symlink() else _listed(folder)


def _listed(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(Path(entry.path) for entry in entries_of(str(folder), [])))


class _Unfinished:
    """Runs that wait, work, or may be resumed, and what they need. Each run is read once, however often one asks."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: set[str] = set()
        self.configs: dict[str, RunConfig] = {}
        self.keys: set[str] = set()
        self.unknown: list[str] = []
        """Why it cannot be told what some run needs."""

    def look(self) -> _Unfinished:
        """Takes in runs that are new."""
        for run_id in self._store.run_ids():
            if run_id not in self._seen:
                self._seen.add(run_id)
                if self._unfinished(run_id):
                    self._take_in(run_id)
        return self

    def _unfinished(self, run_id: str) -> bool:
        try:
            return not self._store.status(run_id).final
        except RunError:  # nobody can start it, but a process may still hold it
            return self._store.is_claimed(run_id)
        except OSError:
            return True

    def _take_in(self, run_id: str) -> None:
        try:
            config = self.configs[run_id] = self._store.config(run_id)
            self.keys |= _keys_of(config, self._store.data_folder)
        except (DistillError, OSError, PackageNotFoundError) as error:
            self.unknown.append(f"run {short(run_id)} has yet to end and nobody can tell what it needs ({error})")


def _keys_of(config: RunConfig, folder: Path) -> set[str]:
    """Keys of all caches that a run may need, whichever precision it computes in."""
    found, precision = {keys.data_key(config, folder)}, config.training.precision
    for chosen in ("float32", "bfloat16") if precision == "auto" else (precision,):
        found |= {of(config, chosen, folder) for of in (keys.teacher_key, keys.transfer_key, keys.words_key)}
        for seed in range(config.training.seed, config.training.seed + config.training.seeds):
            found |= {keys.baseline_key(config, chosen, folder, seed, count) for count in (1, openmp.cores())}
    return found


def _caches(store: Store) -> _Plan:
    runs = _Unfinished(store).look()
    found = [path for kind in CACHES for path in _children(store.home / kind) if not ASIDE.fullmatch(path.name)]

    def needed(path: Path) -> bool:
        return path.name in runs.look().keys or bool(runs.unknown)

    free = [path for path in found if path.name not in runs.keys and not runs.unknown]
    return _Plan(tuple(filter(_is_old, free)), _stay("Teachers and texts", runs.unknown), needed)


def _downloads(store: Store) -> _Plan:
    """All of `data/`, unless a run that has yet to end reads from there."""
    runs = _Unfinished(store)

    def reasons() -> list[str]:
        runs.look()
        readers = [run_id for run_id, config in runs.configs.items() if _reads_downloads(config)]
        return [*(f"run {short(run_id)} has yet to end and reads them" for run_id in readers), *runs.unknown]

    why = reasons()
    found = () if why else _children(store.home / "data")
    return _Plan(tuple(filter(_is_old, found)), _stay("Downloaded data sets", why), lambda path: bool(reasons()))


def _reads_downloads(config: RunConfig) -> bool:
    return config.data.name == "imdb" or config.data.name.startswith("hf:") or config.student.word_vectors == "glove"


def _stay(what: str, reasons: list[str]) -> tuple[str, ...]:
    return (f"{what} stay: {reasons[0]}; let it end, or delete it.",) if reasons else ()


def _uploads(store: Store) -> _Plan:
    """Uploads that neither a run, nor one in the trash, nor the settings of a browser refer to."""
    home, texts, unread = store.home, list[str](), list[str]()
    settings = [run / "config.json" for name in ("runs", "trash") for run in _listed(home / name)]
    for file in (*settings, *_listed(home / "drafts")):
        try:
            texts.append(file.read_text(encoding="utf-8", errors="replace"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            unread.append(f"{file.relative_to(home)} cannot be read ({error.strerror})")
    if unread:
        return _Plan((), (f"Uploaded files stay: {unread[0]}; mend or delete it.",))
    found = [path for path in _children(home / "uploads") if not ASIDE.fullmatch(path.name) and _is_old(path)]
    return _Plan(tuple(path for path in found if not any(path.stem in text for text in texts)))


def _leftovers(store: Store) -> Iterator[Path]:
    """What was being written when a process was killed, and settings of browsers that did not come back."""
    pending = [str(store.home)]
    while pending:
        for entry in entries_of(pending.pop(), []):
            path = Path(entry.path)
            if ASIDE.fullmatch(entry.name):
                if _is_old(path):
                    yield path
            elif is_folder(entry) and path not in (store.home / "data", store.home / "trash"):
                pending.append(entry.path)
    yield from (draft for draft in _children(store.home / "drafts") if _is_old(draft, DRAFT_SECONDS))


def _old_checkpoints(store: Store) -> Iterator[Path]:
    """Checkpoints of runs that have ended, which lie there where deleting them failed at the end."""
    for run in _children(store.home / "runs"):
        folder = run / CHECKPOINTS
        with suppress(RunError):
            if not run.is_symlink() and folder.is_dir() and store.status(run.name).final:
                yield folder


_PLANS: Mapping[str, Callable[[Store], _Plan]] = {
    "trash": lambda store: _Plan(_children(store.home / "trash")),
    "caches": _caches,
    "uploads": _uploads,
    "data": _downloads,
    "checkpoints": lambda store: _Plan(tuple(_old_checkpoints(store))),
    "leftovers": lambda store: _Plan(tuple(_leftovers(store))),
}


def _is_old(path: Path, seconds: float = YOUNG_SECONDS) -> bool:
    """Whether neither a thing nor a file in it has been written of late."""
    before = time.time() - seconds
    return _modified(path) < before and all(facts.st_mtime < before for _, facts in _within(path))


def _modified(path: Path) -> float:
    """When a thing was written, by its own time; of a thing that is gone, now."""
    try:
        return path.lstat().st_mtime
    except OSError:
        return time.time()


def _within(path: Path) -> Iterator[tuple[str, os.stat_result]]:
    """The files of a folder, or a file itself; of a link the link."""
    with suppress(OSError):
        facts = path.lstat()
        if stat.S_ISDIR(facts.st_mode):
            yield from files_in(str(path), [])
        else:
            yield str(path), facts


def _would_free(paths: Iterable[Path]) -> int:
    """Bytes of those files all of whose names lie among some paths."""
    left: dict[tuple[int, int], int] = {}
    freed = 0
    for path in paths:
        for _, facts in _within(path):
            identity = facts.st_dev, facts.st_ino
            left[identity] = left.get(identity, facts.st_nlink) - 1
            freed += facts.st_size if left[identity] == 0 else 0
    return freed


def _delete_all(plan: _Plan, problems: list[str]) -> int:
    """Deletes what a plan names; returns the bytes freed and adds to `problems` what could not be deleted."""
    freed, failed = 0, list[str]()
    for path in plan.doomed:
        if not plan.needed(path):
            try:
                freed += _delete(path, plan.needed, failed)
            except FileNotFoundError:
                continue
            except OSError as error:
                failed.append(f"{path.name}: {error.strerror}")
    if failed:
        problems.append(f"{len(failed)} could not be deleted, the first {failed[0]}; see to its rights and try again.")
    return freed


def _delete(path: Path, needed: Callable[[Path], bool], failed: list[str]) -> int:
    if path.is_symlink() or not path.is_dir():
        return _unlink(path, failed)
    aside = path.with_name(f".new-{secrets.token_hex(4)}")
    path.rename(aside)
    if needed(path):  # a run has started since we asked
        with suppress(OSError):  # or has made the thing anew
            aside.rename(path)
            return 0
    return _empty(aside, failed)


def _empty(folder: Path, failed: list[str]) -> int:
    """Deletes a folder with all in it but what cannot be deleted; returns the bytes freed."""
    freed = 0
    for entry in entries_of(str(folder), failed):
        path = Path(entry.path)
        freed += _empty(path, failed) if is_folder(entry) else _unlink(path, failed)
    with suppress(OSError):  # what stayed in it has been noted
        folder.rmdir()
    return freed


def _unlink(path: Path, failed: list[str]) -> int:
    try:
        facts = path.lstat()
        path.unlink()
    except FileNotFoundError:
        return 0
    except OSError as error:
        failed.append(f"{path.name}: {error.strerror}")
        return 0
    return facts.st_size if facts.st_nlink == 1 else 0


# For the command line


def facts(store: Store, limits: Limits) -> dict[str, Any]:
    """All figures in a form that JSON can hold: bytes by part, in all, allowed and free, and what cleaning frees."""
    found = storage.usage(store)
    space = storage.room(store, limits, found)
    return {
        "home": str(store.home),
        "bytes": dict(found.sizes),
        "total": found.total,
        "limit": space.limit,
        "free": space.free,
        "unreadable": found.unreadable,
        "cleanable": cleanable(store),
    }


def lines(figures: Mapping[str, Any]) -> list[str]:
    """The same for people to read."""
    most = "" if figures["limit"] is None else f" of {amount(figures['limit'])}"
    free = "" if figures["free"] is None else f", {amount(figures['free'])} free on the disk"
    missed = [f"{figures['unreadable']} files or folders could not be read"] if figures["unreadable"] else []
    return [
        f"{amount(figures['total'])}{most} used{free}",
        *(f"  {part:12} {amount(size):>8}" for part, size in figures["bytes"].items()),
        *missed,
        "what storage --clean KIND would free:",
        *(f"  {kind:12} {amount(figures['cleanable'][kind]):>8}   {WORDS[kind].lost}" for kind in KINDS),
    ]
