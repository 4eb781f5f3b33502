"""A file of one's own (csv, tsv or jsonl) as rows of cells, read in a stream and within bounds."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from distill_core.config import DataConfig
from distill_core.data.textfiles import encoding_of, lines_of
from distill_core.data.texts import Check, Progress
from distill_core.errors import DataError

if TYPE_CHECKING:
    from _csv import Reader as _Reader

SUFFIXES = (".csv", ".tsv", ".jsonl")
MAX_BYTES = 500_000_000
MAX_CELL = 1_000_000
"""Characters of a cell."""
DELIMITERS = ",;\t|"


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
    path = Path(config.path).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        remedy = "save the file as CSV, with a column of texts and a column of labels"
        raise DataError(f"data.path must end in {', '.join(SUFFIXES)}, got {str(path)!r}; {remedy}")
    if not path.is_file():
        raise DataError(f"data.path must be a file that exists, got {str(path)!r}; check the path")
    if path.stat().st_size > MAX_BYTES:
        size = f"{path.stat().st_size / 1e6:,.0f} MB"
        raise DataError(f"data.path must be a file of at most {MAX_BYTES / 1e6:,.0f} MB, got {size}; keep fewer rows")
    return path


def digest_of(path: Path) -> str:
    """SHA-256 of a file, kept in memory until the file changes."""
    facts = path.stat()
    return _digest(path, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=64)
def _digest(path: Path, modified: int, size: int) -> str:
    with path.open("rb") as file:
        return f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"


def read(
    path: Path, max_rows: int, check: Check = lambda: None, progress: Progress = lambda words, part: None
) -> Table:
    """Reads a file; of more than `max_rows` rows that many are drawn once and for all.

    Raises:
        DataError: naming the file, the line, what is wrong with it, and what to do.
    """
    encoding, notes = encoding_of(path, check)
    with path.open(encoding=encoding, newline="") as file:
        lines = lines_of(file, path, check, progress)
        records = _json_records(lines, path) if path.suffix.lower() == ".jsonl" else _csv_records(lines, path)
        kept, total = _drawn(records, max_rows)
    if not kept:
        raise DataError(f"data.path must be a file with rows, got none in {path.name!r}; add texts and labels")
    columns = tuple(dict.fromkeys(column for record in kept for column in record.cells))
    return Table(columns, kept, total, notes)


def _drawn(records: Iterable[Record], most: int) -> tuple[list[Record], int]:
    """At most so many of the records, each with the same chance, in their old order, and how many there were."""
    chance, kept, total = random.Random(0), list[Record](), 0
    for total, record in enumerate(records, start=1):
        if len(kept) < most:
            kept.append(record)
        elif (place := chance.randrange(total)) < most:
            kept[place] = record
    return sorted(kept, key=lambda record: record.number), total


def _csv_records(lines: Iterator[str], path: Path) -> Iterator[Record]:
    first = next((line for line in lines if line.strip()), "")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(first)
    csv.field_size_limit(MAX_CELL)
    reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter, strict=True)
    rows = _csv_rows(reader, path)
    _, header = next(rows, (0, []))
    columns = _columns(header, path)
    for number, (line, cells) in enumerate(rows, start=1):
        record = Record(number, line, dict(zip(columns, cells, strict=False)))
        if len(cells) != len(columns):
            message = f"{record} of {path.name!r} must have {len(columns)} cells like the first line, got {len(cells)}"
            raise DataError(f"{message}; put texts that hold {delimiter!r} between quotation marks")
        yield record


def _delimiter(header: str) -> str:
    """The delimiter that cuts the first line into most cells."""
    return max(DELIMITERS, key=lambda delimiter: len(next(csv.reader([header], delimiter=delimiter), [])))


def _csv_rows(reader: _Reader, path: Path) -> Iterator[tuple[int, list[str]]]:
    """The line in which each row ends, and its cells; empty lines are passed over."""
    begin = 1
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
            begin = reader.line_num + 1
    except csv.Error as error:
        message = f"the row that begins in line {begin} of {path.name!r} cannot be read ({error})"
        remedy = f"close every quotation mark, double those inside a text, keep texts under {MAX_CELL:,} characters"
        raise DataError(f"{message}; {remedy}") from None


def _columns(header: Sequence[str], path: Path) -> list[str]:
    columns = [name.strip() for name in header]
    if not any(columns):
        message = f"data.path must be a file with column names in its first line, got none in {path.name!r}"
        raise DataError(f"{message}; begin it with text,label")
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise DataError(f"columns of {path.name!r} must have different names, got {twice[0]!r} twice; rename one")
    return columns


def _json_records(lines: Iterator[str], path: Path) -> Iterator[Record]:
    number = 0
    for line, text in enumerate(lines, start=1):
        if text.strip():
            number += 1
            yield Record(number, line, _json_object(text, f"line {line} of {path.name!r}"))


def _json_object(text: str, place: str) -> dict[str, object]:
    example = 'put one object on each line, as in {"text": "A fine film.", "label": "good"}'
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} must be JSON, got {text.strip()[:40]!r} ({error}); {example}") from None
    if not isinstance(value, dict):
        raise DataError(f"{place} must be a JSON object, got {text.strip()[:40]!r}; {example}")
    return value
