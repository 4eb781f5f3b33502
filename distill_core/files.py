"""Files that appear whole or not at all: written aside, flushed to the disk, then renamed."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from distill_core.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

LOOK = 0.2
"""Seconds between two looks at a request to stop, while another process is waited for."""


@contextmanager
def aside(file: Path) -> Iterator[Path]:
    """A path beside `file` that takes its place once it is written; nothing is left of it where that fails."""
    path = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        yield path
        flush(path)
        path.replace(file)
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder that takes its place under its name once it is filled."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        yield path
        path.chmod(0o755)
        for written in [*(file for file in path.rglob("*") if file.is_file()), path]:
            flush(written)
        path.rename(folder)
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def alone(file: Path, wait: Callable[[], None] | None) -> Iterator[bool]:
    """Has what a lock file stands for to itself; false where another process has it and nobody wants to wait.

    The file goes in the end: who waits for it finds what was done.

    Args:
        wait: called first, and again and again until the other process is done; what it raises ends the waiting.
    """
    lock = FileLock(file)
    while not lock.is_locked:
        if wait is not None:
            wait()
        try:
            lock.acquire(timeout=LOOK if wait is not None else 0)
        except Timeout:
            if wait is None:
                yield False
                return
    try:
        yield True
    finally:
        file.unlink(missing_ok=True)
        lock.release()


def flush(path: Path) -> None:
    """Has the disk hold what was written, so that a rename never puts an empty file in place of a full one."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot
            raise
    finally:
        os.close(descriptor)


def write_text(file: Path, text: str) -> None:
    """Writes a text file."""
    with aside(file) as path:
        path.write_text(text, encoding="utf-8")


def write_json(file: Path, values: Mapping[str, Any]) -> None:
    """Writes a JSON object."""
    write_text(file, dump(values))


def write_tensors(file: Path, tensors: dict[str, Tensor], facts: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file; `facts` are texts that go with the tensors."""
    from safetensors.torch import save_file  # imports PyTorch, which pages must not wait for

    with aside(file) as path:
        save_file(tensors, path, None if facts is None else dict(facts))


def all_whole(folder: Path) -> bool:
    """Whether the JSON and safetensors files of a folder can be read; of tensors only the header and the size."""
    from safetensors import SafetensorError, safe_open

    try:
        for file in folder.iterdir():
            if file.suffix == ".json":
                json.loads(file.read_text(encoding="utf-8"))
            elif file.suffix == ".safetensors":
                with safe_open(file, framework="np"):
                    pass
    except (IsADirectoryError, ValueError, RecursionError, SafetensorError):
        return False
    except OSError:  # it may be readable again; whoever reads it will see
        return True
    return True


def says_full(error: BaseException) -> bool:
    """Whether an error says that the disk, or a person's share of it, is full; safetensors has errors of its own."""
    code = getattr(error, "errno", None)
    full = (errno.ENOSPC, errno.EDQUOT)
    return code in full or any(f"(os error {number})" in str(error) for number in full)


def dump(values: Mapping[str, Any]) -> str:
    """JSON for people to read."""
    return json.dumps(values, indent=2, ensure_ascii=False)


def load_json(file: Path) -> dict[str, Any]:
    """Reads a JSON object of a run. Raises RunError."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"run {file.parent.name!r} has no {file.name}; list the runs with: runs") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{file.name} of {file.parent.name!r} is not JSON ({error}); the run cannot be read") from None
    except OSError as error:
        raise RunError(f"{file.name} of {file.parent.name!r} cannot be opened ({error}); check the disk") from None
    if not isinstance(values, dict):
        raise RunError(f"{file.name} of {file.parent.name!r} holds no object; the run cannot be read")
    return values
