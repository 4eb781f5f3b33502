"""Data sets of the Hugging Face Hub, read with the library `datasets`, which is optional."""

from __future__ import annotations

import importlib.util
import pkgutil
import random
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_core.config import DataConfig
from distill_core.data.answers import PREFIX
from distill_core.data.labelled import LABEL_COLUMNS, SIDES, TEXT_COLUMNS, find_column, from_table
from distill_core.data.tables import Record, Table
from distill_core.data.texts import Check, Dataset, Progress
from distill_core.errors import DataError

if TYPE_CHECKING:
    import datasets

SPLIT_COLUMN = "split"
"""Where the name of its split is put into each row."""
UNLABELLED = "unsupervised"
"""Name of a split without labels, whatever stands in its label column."""


def name_of(config: DataConfig) -> str:
    """The name on the Hub, as in `hf:NAME`."""
    return config.name.removeprefix("hf:")


def missing() -> DataError:
    """The error where the library is not installed."""
    return DataError("data.name hf:NAME needs the library 'datasets', which is not installed; run pip install datasets")


def read(config: DataConfig, folder: Path, check: Check, progress: Progress) -> Dataset:
    """Downloads a data set, unless it is there already, and reads it; none of its code is run.

    The splits train, validation and test are kept, unless a column says otherwise, missing ones are cut from train, and
    `unsupervised` holds unlabelled texts, as does the label -1. Sample ids number the rows through all splits.

    Raises:
        DataError: the library, the network, the data set or a column is missing, with what to do.
    """
    progress(f"Fetching {name_of(config)} from the Hugging Face Hub", 0.0)
    everything = _fetch(config, folder)
    parts = {split: part for split, part in everything.items() if split.lower() in {*SIDES, UNLABELLED}}
    if not parts:
        raise DataError(
            f"data.name {config.name!r} must have a split train, got {', '.join(everything)}; choose another"
        )
    first = next(iter(parts.values()))
    text = find_column("text_column", config.text_column, TEXT_COLUMNS, first.column_names)
    label = find_column("label_column", config.label_column, LABEL_COLUMNS, first.column_names)
    order = _class_names(first, label)
    split = find_column("split_column", config.split_column, (), first.column_names) if config.split_column else None
    columns = [
        text,
        label,
        *([split] if split else []),
        *(name for name in first.column_names if name.lower().startswith(PREFIX)),
    ]
    records = _records(parts, columns, label, order, max_rows=config.max_rows, check=check, progress=progress)
    total = sum(part.num_rows for part in parts.values())
    settings = config.model_copy(
        update={
            "text_column": text,
            "label_column": label,
            "split_column": split or SPLIT_COLUMN,
            "label_names": _shown(order, config.label_names),
        }
    )
    table = Table((*columns, SPLIT_COLUMN), list(records), total, _left_out(everything, parts))
    return from_table(table, settings, order=order, published_test=split is None, check=check)


def _fetch(config: DataConfig, folder: Path) -> datasets.DatasetDict:
    """All splits of a data set of the Hub, never of a folder of this machine."""
    if importlib.util.find_spec("datasets") is None:
        raise missing()
    import datasets
    import datasets.packaged_modules

    name = name_of(config)
    formats = {module.name for module in pkgutil.iter_modules(datasets.packaged_modules.__path__)}
    # The library takes both of these for files of this machine, before it asks the Hub.
    if name in formats or Path(name).exists():
        raise DataError(f"data.name must be a data set of the Hub, got {config.name!r}; for a file of yours use csv")
    try:
        found = datasets.load_dataset(name, cache_dir=str(folder / "huggingface"))
    except (OSError, ValueError, RuntimeError, ImportError, datasets.exceptions.DatasetsError) as error:
        said = " ".join(str(error).split())[:300]
        remedy = "check its name and the network, or save it as a csv file and set data.path"
        raise DataError(
            f"data.name {config.name!r} cannot be loaded ({type(error).__name__}: {said}); {remedy}"
        ) from error
    if not isinstance(found, datasets.DatasetDict) or not found:
        raise DataError(f"data.name {config.name!r} must hold splits such as train and test, got none; choose another")
    return found


def _records(
    parts: Mapping[str, datasets.Dataset],
    columns: Iterable[str],
    label: str,
    names: list[str],
    *,
    max_rows: int,
    check: Check,
    progress: Progress,
) -> Iterator[Record]:
    """The rows of all splits, numbered from 1, at most `max_rows` of them, drawn once and for all."""
    total, start = sum(part.num_rows for part in parts.values()), 0
    drawn = sorted(random.Random(0).sample(range(total), max_rows)) if total > max_rows else range(total)
    for split, part in parts.items():
        rows = [number - start for number in drawn if start <= number < start + part.num_rows]
        own = part.select(rows).select_columns([name for name in columns if name in part.column_names])
        for place, cells in zip(rows, _cells(own, check), strict=True):
            if place % 1000 == 0:
                progress("Reading texts", (start + place) / total)
            cells[label] = _label(cells.get(label), names) if split != UNLABELLED else None
            yield Record(start + place + 1, None, {SPLIT_COLUMN: split} | cells)
        start += part.num_rows


def _cells(part: datasets.Dataset, check: Check) -> Iterator[dict[str, Any]]:
    for batch in part.iter(batch_size=1000):
        check()
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(batch, values, strict=True))


def _class_names(part: datasets.Dataset, label: str) -> list[str]:
    """The classes by number where the data set names them, else nothing."""
    return list(getattr(part.features[label], "names", None) or [])


def _label(value: object, names: list[str]) -> object:
    """A class by its name; -1 is what the Hub writes where labels are kept secret."""
    if value in (-1, "-1"):
        return None
    return names[value] if names and isinstance(value, int) else value


def _shown(names: list[str], given: Mapping[str, str]) -> dict[str, str]:
    """Shown names, which may be given for a class's number or for its name."""
    by_number = {name: given[str(number)] for number, name in enumerate(names) if str(number) in given}
    return {name: shown for name, shown in given.items() if not (names and name.isdigit())} | by_number


def _left_out(everything: Iterable[str], used: Mapping[str, object]) -> tuple[str, ...]:
    strangers = [split for split in everything if split not in used]
    return (f"Not used: the splits {', '.join(strangers)}.",) if strangers else ()
