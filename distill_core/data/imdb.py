"""The Large Movie Review Dataset: film reviews of IMDB, positive or negative (Maas et al. 2011).

Source: "Learning Word Vectors for Sentiment Analysis", ACL 2011. The archive is the one that torchtext's IMDB class
names, and its folders are that class's. The reviews are read straight from it: torchtext would unpack 100,000 small
files without looking at their paths, take an unpacking that broke off for a finished one, and read but the first line
of each file. Reading the archive takes a fifth of the time, and its checksum vouches for every text. A folder that
torchtext or somebody else has unpacked is read as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from distill_core.config import DataConfig
from distill_core.data import imdb_files
from distill_core.data.imdb_files import ARCHIVE, FOLDER, Reviews
from distill_core.data.splitting import Row, Side, assemble
from distill_core.data.textfiles import expanded
from distill_core.data.texts import Check, Dataset, Progress, Report
from distill_core.errors import DataError

PUBLISHED_BYTES = 84_125_825
"""Size of the archive as published."""
LABELS = {"neg": "negative", "pos": "positive"}


def find(path: str | None, folder: Path) -> Path | None:
    """The archive or the unpacked folder, or None where there is neither.

    Args:
        path: the archive, the unpacked folder, or a folder that holds one of them; empty means the data folder.
        folder: where downloads live.
    """
    own = expanded(path) if path else None
    if own is not None and own.is_file():
        return own
    places = [folder / "imdb", folder] if own is None else [own]
    archives = [place / ARCHIVE for place in places]
    folders = [inner for place in places for inner in (place / FOLDER, place)]
    unpacked = [place for place in folders if (place / "train" / "pos").is_dir()]
    return next((file for file in archives if file.is_file()), next(iter(unpacked), None))


def fingerprint(path: str | None, folder: Path) -> str:
    """Changes when the reviews may have changed: size and checksum of the archive, or when folders were changed.

    What is yet to be downloaded counts as the archive as published, and that needs no checksum beside its size.

    Raises:
        DataError: `path` holds no reviews.
    """
    place = _find(path, folder)
    if place is None:
        return f"{ARCHIVE} {PUBLISHED_BYTES} bytes"
    if place.is_dir():
        return (
            f"{FOLDER} {[(place / part).stat().st_mtime_ns for part in imdb_files.EXPECTED if (place / part).is_dir()]}"
        )
    size = place.stat().st_size
    with place.open("rb") as file:
        file.seek(max(size - 8, 0))
        checksum = "" if size == PUBLISHED_BYTES else f" {file.read().hex()}"
    return f"{ARCHIVE} {size} bytes{checksum}"


def read(config: DataConfig, folder: Path, check: Check, progress: Progress) -> Dataset:
    """Finds or downloads the archive and reads it. The test side stays as published; a tenth of train becomes val.

    Sample ids number the labelled reviews by folder and file.

    Raises:
        DataError: no reviews and no network, or an archive that is broken or incomplete.
    """
    place = _find(config.path, folder)
    if place is None:
        place = folder / "imdb" / ARCHIVE
        imdb_files.download(place, check, progress)
    read_reviews = imdb_files.read_folder if place.is_dir() else imdb_files.read_archive
    remedy = imdb_files.remedy(place, own=not config.path)
    reviews = read_reviews(place, remedy, check, progress)
    _require_all(reviews, place, remedy)
    rows = list(_rows(reviews))
    report = Report(len(rows), notes=("The test side is as published, with the reviews that it holds twice.",))
    progress("Comparing reviews", 1.0)
    names = list(LABELS.values())
    return assemble(rows, names, seed=config.split_seed, report=report, published_test=True, check=check)


def _find(path: str | None, folder: Path) -> Path | None:
    place = find(path, folder)
    if place is None and path:
        remedy = f"leave it out to look in {str(folder / 'imdb')!r} and download what is missing"
        raise DataError(f"data.path must hold {ARCHIVE} or its unpacked folder {FOLDER}, got {path!r}; {remedy}")
    return place


def _rows(reviews: Reviews) -> Iterator[Row]:
    number = 0
    for part in imdb_files.EXPECTED:
        kind = part.rpartition("/")[2]
        side: Side = "test" if part.startswith("test") else "train"
        for _, text in sorted(reviews[part].items()):
            yield Row(number, text, LABELS.get(kind), side)
            number += 1


def _require_all(reviews: Reviews, place: Path, remedy: str) -> None:
    for part, count in imdb_files.EXPECTED.items():
        if len(reviews[part]) != count:
            message = f"{str(place)!r} must hold {count:,} reviews in {FOLDER}/{part}, got {len(reviews[part]):,}"
            raise DataError(f"{message}; {remedy}")
