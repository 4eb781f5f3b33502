"""Many texts to ask models about: a run's test split again, a pasted list, or a file."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from distill_core.data import sources, tables, textfiles
from distill_core.data.batches import NO_LABEL
from distill_core.data.labelled import LABEL_COLUMNS, TEXT_COLUMNS, find_column, label_of
from distill_core.data.texts import Check, Progress
from distill_core.errors import DataError, RunError
from distill_core.store import Store

MAX_TEXTS = 100_000
MAX_CHARACTERS = 200_000
"""Characters of a text, unless somebody says otherwise; the rest is cut off."""
SUFFIXES = (*tables.SUFFIXES, ".txt")
_LINE_ENDS = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class TextSet:
    """Texts in their order, and what was done to get them.

    Args:
        labels: for each text the number of its class in the run, -1 where it has none; None where no text has one.
        skipped: lines or rows that were left out because they are empty.
        cut: texts that were longer than allowed and lost their end.
        notes: remarks in plain sentences.
    """

    texts: tuple[str, ...]
    labels: tuple[int, ...] | None
    skipped: int = 0
    cut: int = 0
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)


def read_test_split(
    store: Store,
    run_id: str,
    check: Check = lambda: None,
    progress: Progress = lambda words, part: None,
) -> TextSet:
    """The test texts of a finished run, read again; of more than `MAX_TEXTS` that many, drawn once and for all.

    Raises:
        RunError: the run has not finished.
        DataError: the data are gone, or are not what they were when the run was made.
    """
    result = store.result(run_id)
    if result is None:
        raise RunError(f"run must be finished, got {run_id!r} which is not; choose another or wait")
    try:
        dataset = sources.load(store.config(run_id).data, store.data_folder, check, progress)
    except DataError as error:
        raise DataError(f"the test texts of the run cannot be read again: {error}") from error
    texts, labels = dataset.test.texts, dataset.test.labels
    _require_same(result, dataset.label_names, len(texts))
    rows = sorted(random.Random(0).sample(range(len(texts)), MAX_TEXTS)) if len(texts) > MAX_TEXTS else None
    if rows is None:
        return TextSet(texts, labels)
    note = f"{MAX_TEXTS:,} of the {len(texts):,} test texts, drawn at random."
    return TextSet(tuple(texts[row] for row in rows), tuple(labels[row] for row in rows), notes=(note,))


def _require_same(result: Mapping[str, object], labels: Sequence[str], texts: int) -> None:
    sizes = result.get("sizes")
    expected = sizes.get("test") if isinstance(sizes, dict) else None
    known = result.get("labels")
    if texts != expected or list(labels) != known:
        was, now = f"{expected} test texts of {known}", f"{texts} of {list(labels)}"
        message = f"the data must be what they were when the run was made, {was}, got {now}"
        raise DataError(f"{message}; they have changed: paste the texts or give a file")


def from_lines(
    text: str, label_names: Sequence[str], most_characters: int = MAX_CHARACTERS, check: Check = lambda: None
) -> TextSet:
    """A text a line. A line that ends with a tab and the name of a class, as copied from a table, has that label.

    Raises:
        DataError: there is no text, or more than `MAX_TEXTS`.
    """
    known = set(label_names)

    def parted(line: str) -> tuple[str, str | None]:
        before, tab, last = line.rpartition("\t")
        return (before, last.strip()) if tab and last.strip() in known else (line, None)

    taking = _Taking("the list", _Classes(label_names), most_characters, check)
    lines = _LINE_ENDS.split(text)
    return taking.set_of(parted(line) for line in (lines if lines[-1] else lines[:-1]))  # the last line may be ended


def from_file(
    path: Path,
    name: str,
    label_names: Sequence[str],
    most_characters: int = MAX_CHARACTERS,
    *,
    named: Mapping[str, str] | None = None,
    check: Check = lambda: None,
    progress: Progress = lambda words, part: None,
) -> TextSet:
    """The texts of a csv, tsv or jsonl file, or the lines of a txt file.

    The texts are in the column text, sentence, review or content, else in the only one there is. The labels, if any,
    are in the column label, class, sentiment or category; texts whose label is no class of the run have none.

    Args:
        name: what people call the file.
        named: the class that stands for a value, as `data.label_names` of the run says.

    Raises:
        DataError: the file cannot be read, holds no text or more than `MAX_TEXTS`, or its texts are in no column.
    """
    taking = _Taking("the file", _Classes(label_names, named or {}), most_characters, check)
    read = _from_text if path.suffix.lower() == ".txt" else _from_table
    with _telling(path, name):
        return read(path, taking, progress)


def stream(path: Path, text_column: str | None = None, progress: Progress = lambda words, part: None) -> Iterator[str]:
    """The texts of a file, one after the other, empty ones too; none of them is kept.

    Args:
        text_column: the column of the texts; by default the one that `from_file` finds.

    Raises:
        DataError: as `from_file` does, at the row that is wrong.
    """
    with _telling(path, path.name):
        if path.suffix.lower() == ".txt":
            encoding, _ = textfiles.encoding_of(path, lambda: None)
            with path.open(encoding=encoding) as file:
                yield from (clean(line).strip() for line in textfiles.lines_of(file, path, lambda: None, progress))
            return
        names = tables.column_names(path)
        column = find_column("text_column", text_column, (), names) if text_column else _columns(names)[0]
        rows = tables.stream(path, lambda name: name == column, progress)
        yield from (clean(_said(record, column)).strip() for record in rows)


@contextmanager
def _telling(path: Path, name: str) -> Iterator[None]:
    """Errors that call a file what people call it."""
    try:
        yield
    except DataError as error:
        said = str(error).replace("data.path", "the file").replace("data.text_column", "the column of the texts")
        raise DataError(said.replace(str(path), name).replace(path.name, name)) from error
    except OSError as error:
        raise DataError(
            f"the file must be one that can be read, got {name!r} ({error.strerror}); give it again"
        ) from error


def _from_text(path: Path, taking: _Taking, progress: Progress) -> TextSet:
    encoding, notes = textfiles.encoding_of(path, taking.check)
    with path.open(encoding=encoding) as file:
        lines = textfiles.lines_of(file, path, taking.check, progress)
        return taking.set_of(((line, None) for line in lines), notes)


def _from_table(path: Path, taking: _Taking, progress: Progress) -> TextSet:
    text, label = _columns(tables.column_names(path))
    table = tables.read(path, MAX_TEXTS, lambda column: column in (text, label), taking.check, progress)
    if table.total > MAX_TEXTS:
        raise _too_many("the file", table.total)
    where = f"The texts are in column {text!r}, " + (f"the labels in column {label!r}." if label else "without labels.")
    rows = ((_said(record, text), label_of(_said(record, label)) if label else None) for record in table.records)
    return taking.set_of(rows, (*table.notes, where))


def _columns(names: Sequence[str]) -> tuple[str, str | None]:
    """The column of the texts, and that of the labels where there is one."""
    text = names[0] if len(names) == 1 else find_column("text_column", None, TEXT_COLUMNS, names)
    usual = [name for name in names if name != text and name.strip().lower() in LABEL_COLUMNS]
    return text, min(usual, key=lambda name: LABEL_COLUMNS.index(name.strip().lower()), default=None)


def _said(record: tables.Record, column: str) -> str:
    """A cell as text, empty where there is none."""
    value = record.cells.get(column)
    if isinstance(value, (dict, list)):
        kind = "an object" if isinstance(value, dict) else "a list"
        raise DataError(f"{record}: column {column!r} must hold text, got {kind}; write it as one text")
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


class _Classes:
    """The numbers of classes by their names, and the labels that are none of them."""

    def __init__(self, label_names: Sequence[str], named: Mapping[str, str] | None = None) -> None:
        """Takes the names of the classes, and the class that stands for a value."""
        self._names, self._strangers = tuple(label_names), Counter[str]()
        self._numbers = {label_of(name): number for number, name in enumerate(self._names)}
        for value, name in (named or {}).items():
            if label_of(name) in self._numbers:
                self._numbers.setdefault(label_of(value), self._numbers[label_of(name)])

    def number(self, label: str | None) -> int:
        """The number of a label's class, -1 where it has none."""
        if label is None:
            return NO_LABEL
        number = self._numbers.get(label, NO_LABEL)
        if number == NO_LABEL:
            self._strangers[label[:40]] += 1
        return number

    def remarks(self) -> Iterator[str]:
        """What was made of labels that no class has."""
        if self._strangers:
            count = self._strangers.total()
            values = ", ".join(repr(label) for label, _ in self._strangers.most_common(3))
            known = ", ".join(repr(name) for name in self._names[:10]) + (", …" if len(self._names) > 10 else "")
            found = "1 label is" if count == 1 else f"{count:,} labels are"
            yield f"{found} no class of the run, such as {values}; its classes are {known}."
            yield "Texts with such labels count as unlabelled."


@dataclass(frozen=True)
class _Taking:
    """How rows of text and label are taken into a set."""

    what: str
    classes: _Classes
    most_characters: int
    check: Check

    def set_of(self, rows: Iterable[tuple[str, str | None]], notes: Sequence[str] = ()) -> TextSet:
        """What can be asked of the rows."""
        texts, labels, cut, skipped = list[str](), list[int](), 0, 0
        for number, (raw, label) in enumerate(rows):
            if number % 1000 == 0:
                self.check()
            text = clean(raw).strip()
            if not text:
                skipped += 1
                continue
            if len(texts) == MAX_TEXTS:
                raise _too_many(self.what, None)
            cut += len(text) > self.most_characters
            texts.append(text[: self.most_characters])
            labels.append(self.classes.number(label))
        if not texts:
            message = f"{self.what} must hold a text, got {skipped:,} empty {'line' if skipped == 1 else 'lines'}"
            raise DataError(f"{message}; put one text on each line")
        own = tuple(labels) if any(label != NO_LABEL for label in labels) else None
        return TextSet(tuple(texts), own, skipped, cut, (*notes, *self.classes.remarks()))


def clean(text: str) -> str:
    """The text without what cannot be written as UTF-8: halves of characters and NUL."""
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _too_many(what: str, count: int | None) -> DataError:
    got = f"{count:,}" if count else "more"
    return DataError(f"{what} must hold at most {MAX_TEXTS:,} texts, got {got}; cut it into parts")
