"""A file of one's own (csv, tsv or jsonl) as rows of cells, read in a stream and within bounds."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from distill_core.config import DataConfig
from distill_core.data.textfiles import encoding_of, expanded, lines_of
from distill_core.data.texts import Check, Progress
from distill_core.errors import DataError

if TYPE_CHECKING:
    from _csv import Reader as _Reader

SUFFIXES = (".csv", ".tsv", ".jsonl")
MAX_BYTES = 500_000_000
MAX_CELL = 1_000_000
"""Characters of a cell."""
MAX_COLUMNS = 1000
BEGINNING = 1 << 16
"""Bytes of a file that tell its encoding where its column names alone are asked for."""
SAMPLE = 100
"""Rows of a jsonl file whose names are taken for those of all rows."""
DELIMITERS = ",;\t|"
Used = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Record:
    """One row: its number, from 1, the line of the file in which it ends, and its cells by column."""

    number: int
    line: int | None
    cells: Mapping[str, object]

    def __str__(self) -> str:
        return f"row {self.number}" + (f" (line {self.line})" if self.line else "")


@dataclass(frozen=True)
class Table:
    """Rows of a file, at most as many as were asked for, out of `total`, and remarks on how it was read."""

    columns: tuple[str, ...]
    records: Sequence[Record]
    total: int
    notes: tuple[str, ...] = ()


def path_of(config: DataConfig) -> Path:
    """The file that `data.path` names.

    Raises:
        DataError: it is not there, not of a kind that can be read, or too large.
    """
    if not config.path:
        raise DataError("data.path must be the path of a csv, tsv or jsonl file, got nothing; give a path")
    path = expanded(config.path)
    _require_readable(path)
    return path


def _require_readable(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        remedy = "save the file as CSV, with a column of texts and a column of labels"
        raise DataError(f"data.path must end in {', '.join(SUFFIXES)}, got {str(path)[-200:]!r}; {remedy}")
    with _reading(path):
        if not path.is_file():
            raise DataError(f"data.path must be a file that exists, got {str(path)!r}; check the path")
        if (size := path.stat().st_size) > MAX_BYTES:
            limit = f"{MAX_BYTES / 1e6:,.0f} MB"
            raise DataError(f"data.path must be a file of at most {limit}, got {size / 1e6:,.0f} MB; keep fewer rows")


def digest_of(path: Path) -> str:
    """SHA-256 of a file, kept in memory until the file changes.

    Raises:
        DataError: it cannot be read.
    """
    with _reading(path):
        facts = path.stat()
        return _digest(path, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=64)
def _digest(path: Path, modified: int, size: int) -> str:
    with path.open("rb") as file:
        return f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"data.path must be a file that can be read, got {str(path)[-200:]!r} ({reason})"
        raise DataError(f"{message}; check its name and its permissions") from error


def read(
    path: Path,
    max_rows: int,
    used: Used = lambda column: True,
    check: Check = lambda: None,
    progress: Progress = lambda words, part: None,
) -> Table:
    """Reads a file; of more than `max_rows` rows that many are drawn once and for all.

    Args:
        used: says of a column whether its cells are wanted; others are not kept in memory.

    Raises:
        DataError: naming the file, the line, what is wrong with it, and what to do.
    """
    columns: dict[str, None] = {}
    with _reading(path):
        encoding, notes = encoding_of(path, check)
        kept, total = _drawn(_records(path, encoding, used, columns, check=check, progress=progress), max_rows)
    if not kept:
        raise _no_rows(path)
    return Table(tuple(columns), kept, total, notes)


def stream(path: Path, used: Used, progress: Progress = lambda words, part: None) -> Iterator[Record]:
    """The rows of a file, one after the other, none of which is kept.

    Args:
        used: says of a column whether its cells are wanted.

    Raises:
        DataError: as `read` does, at the row that is wrong.
    """
    _require_readable(path)
    with _reading(path):
        encoding, _ = encoding_of(path, lambda: None)
        yield from _records(path, encoding, used, {}, check=lambda: None, progress=progress)


def _records(
    path: Path, encoding: str, used: Used, columns: dict[str, None], *, check: Check, progress: Progress
) -> Iterator[Record]:
    """The rows of a file, whose columns' names are put into `columns`."""
    parse = _json_records if path.suffix.lower() == ".jsonl" else _csv_records
    with path.open(encoding=encoding, newline="") as file:
        yield from parse(lines_of(file, path, check, progress), path, used, columns)


def column_names(path: Path) -> list[str]:
    """The columns that have a name, read from the beginning of a file alone: to choose from.

    Those of a jsonl file are the names in its first rows.

    Raises:
        DataError: it is not there, not of a kind that can be read, too large, or its beginning cannot be read.
    """
    path = expanded(str(path))
    _require_readable(path)
    with _reading(path):
        encoding, _ = encoding_of(path, lambda: None, BEGINNING)
        with path.open(encoding=encoding, newline="") as file:
            lines = lines_of(file, path, lambda: None, lambda words, part: None)
            names = _json_names(lines, path) if path.suffix.lower() == ".jsonl" else _csv_header(lines, path)[0]
    return [name for name in names if name]


def _json_names(lines: Iterator[str], path: Path) -> list[str]:
    columns: dict[str, None] = {}
    if not list(itertools.islice(_json_records(lines, path, lambda column: False, columns), SAMPLE)):
        raise _no_rows(path)
    return list(columns)


def _no_rows(path: Path) -> DataError:
    return DataError(f"data.path must be a file with rows, got none in {path.name!r}; add texts and labels")


def _drawn(records: Iterable[Record], most: int) -> tuple[list[Record], int]:
    """At most so many of the records, each with the same chance, in their old order, and how many there were."""
    chance, kept, total = random.Random(0), list[Record](), 0
    for total, record in enumerate(records, start=1):
        if len(kept) < most:
            kept.append(record)
        elif (place := chance.randrange(total)) < most:
            kept[place] = record
    return sorted(kept, key=lambda record: record.number), total


def _csv_records(lines: Iterator[str], path: Path, used: Used, columns: dict[str, None]) -> Iterator[Record]:
    """The rows below the first line, whose names are put into `columns`."""
    names, delimiter, rows = _csv_header(lines, path)
    columns.update(dict.fromkeys(names))
    wanted = [(place, name) for place, name in enumerate(names) if used(name)]
    for number, (line, cells) in enumerate(rows, start=1):
        if len(cells) != len(names):
            place = f"row {number} (line {line}) of {path.name!r}"
            message = f"{place} must have {len(names)} cells like the first line, got {len(cells)}"
            raise DataError(f"{message}; put texts that hold {delimiter!r} between quotation marks")
        yield Record(number, line, {name: cells[place] for place, name in wanted})


def _csv_header(lines: Iterator[str], path: Path) -> tuple[list[str], str, Iterator[tuple[int, list[str]]]]:
    """The names in the first line, the delimiter, and the rows below, each with the line in which it ends."""
    blank = 0
    for first in lines:
        if first.strip():
            break
        blank += 1
    else:
        first = ""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(first)
    csv.field_size_limit(MAX_CELL)
    rows = _csv_rows(csv.reader(itertools.chain([first], lines), delimiter=delimiter, strict=True), path, blank)
    return _columns(next(rows, (0, []))[1], path), delimiter, rows


def _delimiter(header: str) -> str:
    """The delimiter that cuts the first line into most cells."""
    return max(DELIMITERS, key=re.sub('"[^"]*"', "", header).count)


def _csv_rows(reader: _Reader, path: Path, blank: int) -> Iterator[tuple[int, list[str]]]:
    """The line in which each row ends, and its cells; empty lines are passed over.

    Args:
        blank: lines of the file that lie before what the reader reads.
    """
    begin = 1
    try:
        for cells in reader:
            if cells:
                yield reader.line_num + blank, cells
            begin = reader.line_num + 1
    except csv.Error as error:
        message = f"the row that begins in line {begin + blank} of {path.name!r} cannot be read ({error})"
        remedy = f"close every quotation mark, double those inside a text, keep texts under {MAX_CELL:,} characters"
        raise DataError(f"{message}; {remedy}") from None


def _columns(header: Sequence[str], path: Path) -> list[str]:
    columns = [name.strip() for name in header]
    if not any(columns):
        message = f"data.path must be a file with column names in its first line, got none in {path.name!r}"
        raise DataError(f"{message}; begin it with text,label")
    _require_few(columns, path)
    twice = [name for name, count in Counter(columns).items() if name and count > 1]
    if twice:
        raise DataError(f"columns of {path.name!r} must have different names, got {twice[0]!r} twice; rename one")
    return columns


def _json_records(lines: Iterator[str], path: Path, used: Used, columns: dict[str, None]) -> Iterator[Record]:
    """The objects, one a line, whose names are put into `columns`; of lists and objects only the kind stays."""
    number = 0
    for line, text in enumerate(lines, start=1):
        if text.strip():
            number += 1
            cells = _json_object(text, f"line {line} of {path.name!r}")
            columns.update(dict.fromkeys(cells))
            _require_few(columns, path)
            kept = {name: cell for name, cell in cells.items() if used(name)}
            yield Record(
                number,
                line,
                {name: type(cell)() if isinstance(cell, (dict, list)) else cell for name, cell in kept.items()},
            )


def _require_few(columns: Collection[str], path: Path) -> None:
    if len(columns) > MAX_COLUMNS:
        message = f"{path.name!r} must have at most {MAX_COLUMNS:,} columns, got {len(columns):,}"
        raise DataError(f"{message}; keep the texts and the labels")


def _json_object(text: str, place: str) -> dict[str, object]:
    example = 'put one object on each line, as in {"text": "A fine film.", "label": "good"}'
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} must be JSON, got {text.strip()[:40]!r} ({error}); {example}") from None
    if not isinstance(value, dict):
        raise DataError(f"{place} must be a JSON object, got {text.strip()[:40]!r}; {example}")
    return value
