"""One run as one file: a zip archive that a lab hands out, and the checks by which another one takes it in.

An archive comes from strangers. So its files have known names, and are read as JSON, text or safetensors, never as
pickles; what they unpack to is bounded, and measured while it is read rather than believed; and the run joins the
others only once all of it has been checked and its models have answered a text. A refused archive leaves nothing.
"""

from __future__ import annotations

import re
import secrets
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import BinaryIO

from distill_core import events, files, foreign
from distill_core.errors import DistillError, RunError
from distill_core.status import Status
from distill_core.store import Store

MB = 10**6
SIZES: dict[str, int] = {
    r"(config|status|notes)\.json": MB,
    r"result\.json": 32 * MB,
    r"events\.jsonl": 128 * MB,
    r"vocabulary\.json": 64 * MB,
    r"[a-z][a-z0-9_]{0,40}\.safetensors": 2000 * MB,
    r"encoder/[A-Za-z0-9][A-Za-z0-9_.-]{0,80}\.(json|txt)": 64 * MB,
}
"""The files that a run may have, and the most bytes that each may unpack to."""
TOTAL = 3000 * MB
"""The most bytes that an archive may unpack to."""
MAX_FILES = 64
DIRECTORY = 64_000
"""The most bytes of the list of files at the end of an archive."""
CHUNK = MB
AGAIN = "export the run again"

_RUN_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")
_END = struct.Struct("<4s4H2LH")
_UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError)
"""What `zipfile` raises on archives that are torn, forged or encrypted."""


def export_run(store: Store, run_id: str, file: BinaryIO) -> None:
    """Writes a run that is over as an archive, once that archive is known to be taken in again.

    Left out are the worker's log, checkpoints, what people asked of the run, and who started it.

    Raises:
        RunError: the run is not over, or something in its folder is wrong.
    """
    status = store.status(run_id)
    if not status.over:
        raise RunError(f"run must have ended to be exported, got {run_id!r} which is {status.status}; wait or stop it")
    with tempfile.TemporaryFile(dir=store.home) as made:
        _pack(store.run_folder(run_id), status, made)
        with _taken_in(made, store.home, f"run {run_id!r} cannot be exported"):
            made.seek(0)
            shutil.copyfileobj(made, file)


def import_run(store: Store, file: BinaryIO, owner: str | None) -> str:
    """Takes a run in from an archive and returns its id: its own one, or a fresh one where that is taken.

    Args:
        owner: a hash of who may delete it; None for the command line.

    Raises:
        RunError: the archive is not one of a run, or something in it is wrong; nothing is kept of it.
    """
    store.home.mkdir(parents=True, exist_ok=True)
    with _taken_in(file, store.home, "this archive cannot be taken in") as (folder, status):
        while True:
            run_id = _free_id(store, status.run_id)
            _sign(folder, replace(status, run_id=run_id, owner=owner, pid=None))
            if store.adopt_run(folder, run_id):
                return run_id


def _free_id(store: Store, run_id: str) -> str:
    """The id, or one of the same second; a run in the trash must be able to come back."""
    while store.run_folder(run_id).exists() or (store.home / "trash" / run_id).exists():
        run_id = f"{run_id.rpartition('-')[0]}-{secrets.token_hex(3)}"
    return run_id


def _sign(folder: Path, status: Status) -> None:
    """Gives a folder the id that it will have."""
    files.write_json(folder / "status.json", asdict(status))
    result = folder / "result.json"
    if result.is_file():
        files.write_json(result, {**files.load_json(result), "run_id": status.run_id})


# Packing


def _pack(folder: Path, status: Status, file: BinaryIO) -> None:
    found = {path.relative_to(folder).as_posix(): path for path in [*folder.glob("*"), *folder.glob("encoder/*")]}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for name in sorted(found):
            if _most_bytes(name) is None:
                continue
            if name == "status.json":
                archive.writestr(name, files.dump(asdict(replace(status, owner=None, pid=None))))
            elif name == "events.jsonl":
                archive.writestr(name, _whole_lines(found[name]))
            else:
                packed = zipfile.ZIP_STORED if name.endswith(".safetensors") else zipfile.ZIP_DEFLATED
                archive.write(found[name], name, packed)


def _whole_lines(file: Path) -> str:
    """A run's events without those that a dying process left torn."""
    lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
    return "".join(f"{line}\n" for line in lines if events.decode(line) is not None)


def _most_bytes(name: str) -> int | None:
    """The most bytes that a file of this name may have; None for a name that no file of a run has."""
    return next((size for pattern, size in SIZES.items() if re.fullmatch(pattern, name)), None)


# Unpacking


@contextmanager
def _taken_in(file: BinaryIO, home: Path, refusal: str) -> Iterator[tuple[Path, Status]]:
    """The folder that an archive unpacks to, which has been checked, and its status; gone at the end if still there."""
    with tempfile.TemporaryDirectory(prefix=".new-", dir=home, ignore_cleanup_errors=True) as scratch:
        arriving = Store(Path(scratch))
        folder = arriving.run_folder("arriving")
        folder.mkdir(parents=True)
        try:
            _unpack(file, folder)
            status = foreign.check_run(arriving, "arriving")
            if not _RUN_ID.fullmatch(status.run_id):
                raise RunError(f"run_id in status.json must look like 20260131-235959-0a1b2c, got {status.run_id!r}")
        except RecursionError:
            raise RunError(f"{refusal}: its values must not be nested so deeply; {AGAIN}") from None
        except DistillError as error:
            raise RunError(f"{refusal}: {foreign.shortened(error)}") from None
        yield folder, status


def _unpack(file: BinaryIO, folder: Path) -> None:
    try:
        _check_end(file)
        with zipfile.ZipFile(file) as archive:
            _check_entries(archive.infolist())
            left = TOTAL
            for entry in archive.infolist():
                left -= _extract(archive, entry, folder / entry.filename, left)
    except _UNREADABLE as error:
        raise RunError(f"archive must be a whole zip file, got one that cannot be read ({error}); {AGAIN}") from None


def _check_end(file: BinaryIO) -> None:
    """Bounds the list of files before `zipfile` reads it: it takes the plain end record, which holds its size."""
    size = file.seek(0, 2)
    file.seek(max(size - _END.size, 0))
    record = file.read()
    if len(record) < _END.size or record[:4] != b"PK\5\6" or record[-2:] != b"\0\0":
        raise RunError(f"archive must be a zip file that is whole, got {size:,} bytes that end otherwise; {AGAIN}")
    _, _, _, _, count, directory, _, _ = _END.unpack(record)
    file.seek(max(size - _END.size - 20, 0))
    if directory > DIRECTORY or file.read(4) == b"PK\6\7":  # which points to a longer list
        raise _too_many(count)
    file.seek(0)


def _too_many(count: int) -> RunError:
    return RunError(f"archive must hold at most {MAX_FILES} files, got {count} or more; {AGAIN}")


def _check_entries(entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MAX_FILES:
        raise _too_many(len(entries))
    seen = set[str]()
    for entry in entries:
        name, mode = entry.filename, entry.external_attr >> 16
        if _most_bytes(name) is None or name != entry.orig_filename:
            raise RunError(
                f"archive must hold the files of a run and no others, got {entry.orig_filename[:80]!r}; {AGAIN}"
            )
        if name.lower() in seen:
            raise RunError(f"archive must hold each file once, got {name!r} twice; {AGAIN}")
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise RunError(f"archive must hold plain files, got {name!r} which is a link or a device; {AGAIN}")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise RunError(
                f"archive must be deflated or stored, got method {entry.compress_type} for {name!r}; {AGAIN}"
            )
        seen.add(name.lower())


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, left: int) -> int:
    """Writes a file and returns its size, which is measured: what the archive says of it may be a lie."""
    limit, size = min(_most_bytes(entry.filename) or 0, left), 0
    path.parent.mkdir(exist_ok=True)
    with files.aside(path) as beside, archive.open(entry) as source, beside.open("wb") as target:
        while chunk := source.read(CHUNK):
            size += len(chunk)
            if size > limit:
                raise RunError(f"{entry.filename} must have at most {limit / MB:,.0f} MB, got more; {AGAIN}")
            target.write(chunk)
    if size != entry.file_size:
        raise RunError(f"{entry.filename} must have {entry.file_size:,} bytes as listed, got {size:,}; {AGAIN}")
    return size
