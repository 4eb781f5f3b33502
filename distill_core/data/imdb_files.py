"""The files of the Large Movie Review Dataset: the archive, an unpacked folder, and the download."""

from __future__ import annotations

import gzip
import http.client
import re
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from distill_core.data.texts import Check, Progress
from distill_core.errors import DataError

ARCHIVE = "aclImdb_v1.tar.gz"
FOLDER = "aclImdb"
EXPECTED: Mapping[str, int] = {
    "train/neg": 12_500,
    "train/pos": 12_500,
    "test/neg": 12_500,
    "test/pos": 12_500,
    "train/unsup": 50_000,
}
"""Files in each folder of reviews."""
MAX_DOWNLOAD = 500_000_000
MAX_UNPACKED = 1_000_000_000
MAX_REVIEW = 1_000_000
"""Bytes of one review."""
TIMEOUT = 30.0
"""Seconds without an answer after which a download is given up."""

Reviews = dict[str, dict[int, str]]
"""Texts by folder and by the number that their file name begins with."""


def read_archive(place: Path, remedy: str, check: Check, progress: Progress) -> Reviews:
    """Reads all reviews of the archive, of which nothing is written to disk.

    Args:
        remedy: what to do where it cannot be used.

    Raises:
        DataError: it is broken or cut short, holds what such an archive must not hold, or unpacks to more than 1 GB.
    """
    reviews: Reviews = {part: {} for part in EXPECTED}
    with _broken(place, remedy), place.open("rb") as file, gzip.GzipFile(fileobj=file) as unpacked:
        watched = _Watched(unpacked, file, place, remedy=remedy, check=check, progress=progress)
        with tarfile.open(fileobj=cast(IO[bytes], watched), mode="r|") as archive:
            for member in archive:
                cast(Any, archive).members = []  # else it keeps the headers of all files
                _require_harmless(member, place, remedy)
                part, number = _part_of(PurePosixPath(member.name))
                content = archive.extractfile(member) if part in reviews else None
                if content is not None:
                    reviews[part][number] = content.read().decode("utf-8")
        # The checksum of the whole stands behind its last byte.
        while watched.read(1 << 20):
            pass
    return reviews


def read_folder(place: Path, remedy: str, check: Check, progress: Progress) -> Reviews:
    """Reads all reviews of an unpacked archive.

    Args:
        remedy: what to do where it cannot be used.

    Raises:
        DataError: a file cannot be read.
    """
    reviews: Reviews = {part: {} for part in EXPECTED}
    for done, part in enumerate(EXPECTED):
        progress(f"Reading {FOLDER}/{part}", done / len(EXPECTED))
        with _broken(place / part, remedy):
            for file in (place / part).glob("*.txt"):
                check()
                _, number = _part_of(PurePosixPath(FOLDER, part, file.name))
                if number >= 0 and file.is_file() and file.stat().st_size <= MAX_REVIEW:
                    reviews[part][number] = file.read_text(encoding="utf-8")
    return reviews


def download(place: Path, check: Check, progress: Progress) -> None:
    """Fetches the archive to `place`, which is there once it is complete.

    Raises:
        DataError: no network, or the download ended early.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix="download-") as aside:
        part = Path(aside) / place.name
        try:
            with part.open("wb") as target, urllib.request.urlopen(_address(), timeout=TIMEOUT) as source:
                length = int(source.headers.get("Content-Length") or 0)
                size = _copy(source, target, length, check, progress)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            message = f"{ARCHIVE} cannot be downloaded from {_address()} ({error})"
            raise DataError(f"{message}; put the file at {str(place)!r} by hand, or set data.path to it") from error
        if length and size != length:
            message = f"the download of {_address()} must have {length:,} bytes, got {size:,}"
            raise DataError(f"{message}; run again, or put the file at {str(place)!r} by hand")
        part.replace(place)


def remedy(place: Path, *, own: bool) -> str:
    """What to do about an archive or a folder that is broken.

    Args:
        own: it lies in the lab's data folder; what a person has named is never to be deleted.
    """
    if own:
        return f"delete {str(place)!r} and run again to download it, or get it from {_address()}"
    return f"leave data.path empty to download it, or give the folder that holds {ARCHIVE}"


def _address() -> str:
    from distill_core.data.torchtext_parts import imdb_address

    return imdb_address()


def _copy(source: IO[bytes], target: IO[bytes], length: int, check: Check, progress: Progress) -> int:
    """Copies to the end and returns the number of bytes."""
    size = 0
    while chunk := source.read(1 << 17):
        check()
        size += target.write(chunk)
        if size > MAX_DOWNLOAD:
            raise ValueError(f"more than {MAX_DOWNLOAD:,} bytes")
        progress(f"Downloading {ARCHIVE}", min(size / length, 1.0) if length else 0.0)
    return size


@contextmanager
def _broken(place: Path, remedy: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, tarfile.TarError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{str(place)!r} is broken or incomplete ({error}); {remedy}") from error


class _Watched:
    """What an archive unpacks to, as a stream that can be cancelled and ends before it grows without bounds."""

    def __init__(
        self,
        unpacked: gzip.GzipFile,
        packed: IO[bytes],
        place: Path,
        *,
        remedy: str,
        check: Check,
        progress: Progress,
    ) -> None:
        self._unpacked, self._packed, self._place, self._remedy = unpacked, packed, place, remedy
        self._check, self._progress = check, progress
        self._size, self._count = max(place.stat().st_size, 1), 0

    def read(self, size: int) -> bytes:
        """The next bytes, none at the end."""
        self._check()
        content = self._unpacked.read(size)
        self._count += len(content)
        if self._count > MAX_UNPACKED:
            message = f"{str(self._place)!r} must unpack to at most {MAX_UNPACKED:,} bytes, got more"
            raise DataError(f"{message}; {self._remedy}")
        self._progress(f"Reading {self._place.name}", self._packed.tell() / self._size)
        return content


def _require_harmless(member: tarfile.TarInfo, place: Path, remedy: str) -> None:
    """Only plain files and folders below the folder of the archive; nothing of them is written, but others might."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
        message = f"{str(place)!r} must hold plain files and folders, got {member.name[:80]!r}"
        raise DataError(f"{message}; {remedy}")
    if _part_of(path)[0] and member.size > MAX_REVIEW:
        message = f"{str(place)!r}: a review must have at most {MAX_REVIEW:,} bytes, got {member.name[:80]!r}"
        raise DataError(f"{message}; {remedy}")


def _part_of(path: PurePosixPath) -> tuple[str, int]:
    """Folder and number of a review, as of aclImdb/train/pos/17_9.txt; an empty folder for other files."""
    found = re.fullmatch(rf"{FOLDER}/((?:train|test)/(?:pos|neg|unsup))/([0-9]{{1,9}})_[0-9]+\.txt", str(path))
    return (found[1], int(found[2])) if found else ("", -1)
