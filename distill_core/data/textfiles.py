"""How a text file is encoded, and its lines, within bounds: a file is never taken into memory as a whole."""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from distill_core.data.texts import Check, Progress
from distill_core.errors import DataError

CHUNK = 1 << 20
"""Bytes that are decoded in one go."""
MAX_LINE = 10_000_000
"""Characters of a line."""
FOREIGN = 0.15
"""Most bytes beyond ASCII in a text that is taken for Western European; other scripts have more."""


def expanded(path: str) -> Path:
    """A path whose leading ~ stands for the home folder, where there is such a user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def encoding_of(path: Path, check: Check, most: int | None = None) -> tuple[str, tuple[str, ...]]:
    """The encoding of a file, all of which is decoded once for that, and a remark where it is not UTF-8.

    Args:
        most: bytes to look at, from the beginning on; None means all.

    Raises:
        DataError: the file is no text, or its encoding cannot be told.
    """
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        _require_decodes(path, "utf-16", check, most)
        return "utf-16", ("The file is encoded in UTF-16.",)
    try:
        _require_decodes(path, "utf-8-sig", check, most)
    except DataError:
        if not _looks_western(path, check, most):
            raise
        return "cp1252", ("The file is not in UTF-8; it was read as Windows-1252, so look whether accents are right.",)
    return "utf-8-sig", ()


def _chunks(path: Path, check: Check, most: int | None) -> Iterator[bytes]:
    left = path.stat().st_size if most is None else most
    with path.open("rb") as file:
        while chunk := file.read(min(left, CHUNK)):
            check()
            yield chunk
            left -= len(chunk)


def _require_decodes(path: Path, encoding: str, check: Check, most: int | None) -> None:
    decoder, position, line = codecs.getincrementaldecoder(encoding)(), 0, 1
    for chunk in itertools.chain(_chunks(path, check, most), [b""]):
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(chunk, final=not chunk and most is None)
        except UnicodeDecodeError as error:
            byte, place = error.object[error.start], position - pending + error.start
            message = (
                f"data.path must be a text file in UTF-8, got byte 0x{byte:02x} at position {place} of {path.name!r}"
            )
            raise DataError(f"{message}; save the file as UTF-8") from None
        if "\0" in text:
            line += text[: text.index("\0")].count("\n")
            message = f"data.path must be a text file, got a NUL character in line {line} of {path.name!r}"
            raise DataError(f"{message}; save the file as UTF-8 text")
        position += len(chunk)
        line += text.count("\n")


def _looks_western(path: Path, check: Check, most: int | None) -> bool:
    """Whether a file that is not UTF-8 reads like Windows-1252: no control characters, few letters with accents."""
    controls = bytes(set(range(32)) - set(b"\t\n\r\f")) + b"\x81\x8d\x8f\x90\x9d"
    foreign = size = 0
    for chunk in _chunks(path, check, most):
        if len(chunk.translate(None, controls)) < len(chunk):
            return False
        foreign += len(chunk.translate(None, bytes(range(128))))
        size += len(chunk)
    return foreign <= FOREIGN * size


def lines_of(file: TextIO, path: Path, check: Check, progress: Progress) -> Iterator[str]:
    """The lines of a file with their ends.

    Raises:
        DataError: a line is longer than `MAX_LINE`, before more of it is read.
    """
    size = max(path.stat().st_size, 1)
    for number in itertools.count(1):
        check()
        if number % 1000 == 1:
            progress(f"Reading {path.name}", min(file.buffer.tell() / size, 1.0))
        line = file.readline(MAX_LINE + 1)
        if len(line) > MAX_LINE:
            message = f"line {number} of {path.name!r} must have at most {MAX_LINE:,} characters, got more"
            raise DataError(f"{message}; put each text into a row of its own")
        if not line:
            return
        yield line
