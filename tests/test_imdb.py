"""IMDB on a small archive of the published layout: found, downloaded, read, and refused where it is broken."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from distill_core.config import DataConfig
from distill_core.data import imdb, imdb_files, sources, torchtext_parts
from distill_core.data.imdb_files import ARCHIVE, EXPECTED
from distill_core.data.sources import Dataset, Split
from distill_core.errors import Cancelled, DataError

SMALL = {"train/neg": 20, "train/pos": 20, "test/neg": 20, "test/pos": 20, "train/unsup": 30}
Files = dict[str, str]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expects archives of 110 reviews, and forbids the network."""
    monkeypatch.setattr(imdb_files, "EXPECTED", SMALL)
    monkeypatch.setattr(torchtext_parts, "imdb_address", lambda: "http://127.0.0.1:9/aclImdb_v1.tar.gz")


def reviews() -> Files:
    """File names and texts of a small archive."""
    return {
        f"aclImdb/{part}/{number}_{0 if part.endswith('unsup') else 7}.txt": f"{part} review {number}.<br /><br />Café"
        for part, count in SMALL.items()
        for number in range(count)
    }


def packed(files: Mapping[str, str | bytes], change: Callable[[tarfile.TarInfo], None] = lambda member: None) -> bytes:
    """A tar.gz of files, with README and the folders that the published one has."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        folder = tarfile.TarInfo("aclImdb/train")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, text in {"aclImdb/README": "Large Movie Review Dataset", **files}.items():
            content = text.encode() if isinstance(text, str) else text
            member = tarfile.TarInfo(name)
            member.size = len(content)
            change(member)
            archive.addfile(member, io.BytesIO(content) if member.isfile() else None)
    return buffer.getvalue()


def put(place: Path, content: bytes | None = None) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(packed(reviews()) if content is None else content)
    return place


def unpack(folder: Path) -> Path:
    for name, text in reviews().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder / "aclImdb"


def load(folder: Path, path: Path | None = None, **more: object) -> Dataset:
    return sources.load(DataConfig(name="imdb", path=None if path is None else str(path), **more), folder)


def refusal(folder: Path, path: Path | None = None) -> str:
    with pytest.raises(DataError) as caught:
        load(folder, path)
    return str(caught.value)


def splits(dataset: Dataset) -> tuple[Split, Split, Split]:
    return dataset.train, dataset.val, dataset.test


# What is read


def test_the_published_counts_are_expected() -> None:
    assert sum(EXPECTED.values()) == 100_000
    assert set(EXPECTED) == set(SMALL)
    assert [EXPECTED[part] for part in SMALL] == [12_500] * 4 + [50_000]


def test_test_stays_whole_and_a_tenth_of_train_becomes_validation(tmp_path: Path) -> None:
    put(tmp_path / "imdb" / ARCHIVE)
    dataset = load(tmp_path)
    assert dataset.label_names == ("negative", "positive")
    assert [len(part) for part in splits(dataset)] == [36, 4, 40]
    assert [part.labels.count(1) for part in splits(dataset)] == [18, 2, 20]
    assert len(dataset.unlabelled) == 30
    assert dataset.report.rows == 110
    assert dataset.report.dropped == {}


def test_each_review_has_the_label_and_the_side_of_its_folder(tmp_path: Path) -> None:
    put(tmp_path / "imdb" / ARCHIVE)
    dataset = load(tmp_path)
    for folder, part in zip(("train", "train", "test"), splits(dataset), strict=True):
        for text, label in zip(part.texts, part.labels, strict=True):
            assert text.startswith(f"{folder}/{('neg', 'pos')[label]} review ")
            assert text.endswith(".<br /><br />Café")
    assert all(text.startswith("train/unsup review") for text in dataset.unlabelled)


def test_ids_do_not_depend_on_the_order_within_the_archive(tmp_path: Path) -> None:
    forwards, backwards = tmp_path / "one", tmp_path / "two"
    put(forwards / ARCHIVE)
    put(backwards / ARCHIVE, packed(dict(reversed(reviews().items()))))
    assert load(forwards) == load(backwards)
    ids = [number for part in splits(load(forwards)) for number in part.ids]
    assert sorted(ids) == list(range(80))


def test_reviews_that_are_tested_or_that_are_there_twice_leave_train(tmp_path: Path) -> None:
    files = reviews()
    files["aclImdb/train/neg/0_7.txt"] = files["aclImdb/test/neg/3_7.txt"].upper()
    files["aclImdb/train/neg/1_7.txt"] = files["aclImdb/train/neg/2_7.txt"]
    files["aclImdb/train/unsup/0_0.txt"] = files["aclImdb/train/pos/5_7.txt"]
    files["aclImdb/test/neg/8_7.txt"] = files["aclImdb/test/neg/9_7.txt"]
    put(tmp_path / ARCHIVE, packed(files))
    dataset = load(tmp_path)
    assert [len(part) for part in splits(dataset)] == [34, 4, 40]
    assert len(dataset.unlabelled) == 29
    assert dataset.report.dropped == {"duplicate text": 3}


def test_limits_and_seed_apply(tmp_path: Path) -> None:
    put(tmp_path / ARCHIVE)
    assert len(load(tmp_path, train_limit=10).train) == 10
    assert load(tmp_path, split_seed=1).val.ids != load(tmp_path).val.ids


# Where it is found


@pytest.mark.parametrize("place", [f"imdb/{ARCHIVE}", ARCHIVE])
def test_an_archive_in_the_data_folder_is_read_without_the_network(tmp_path: Path, place: str) -> None:
    file = put(tmp_path / place)
    assert sources.found("imdb", tmp_path)
    assert imdb.find(None, tmp_path) == file
    assert len(load(tmp_path).test) == 40
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file], "nothing is unpacked"


@pytest.mark.parametrize("place", ["imdb", "."])
def test_a_folder_that_torchtext_unpacked_is_read(tmp_path: Path, place: str) -> None:
    folder = unpack(tmp_path / place)
    assert sources.found("imdb", tmp_path)
    assert imdb.find(None, tmp_path) == folder
    put(tmp_path / "elsewhere" / ARCHIVE)
    assert load(tmp_path) == load(tmp_path / "elsewhere")


def test_the_path_may_be_the_archive_its_folder_or_the_unpacked_folder(tmp_path: Path) -> None:
    nowhere = tmp_path / "nothing here"
    file = put(tmp_path / "mine" / "renamed.tar.gz")
    expected = load(nowhere, file)
    file.rename(file.with_name(ARCHIVE))
    assert load(nowhere, file.parent) == expected
    folder = unpack(tmp_path / "open")
    assert load(nowhere, folder) == load(nowhere, folder.parent) == expected
    assert not nowhere.exists()


def test_an_empty_path_means_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    put(tmp_path / "data" / "imdb" / ARCHIVE)
    config = DataConfig(name="imdb", path="")
    assert sources.load(config, tmp_path / "data") == load(tmp_path / "data")
    assert sources.fingerprint(config, tmp_path / "data") == sources.fingerprint(
        DataConfig(name="imdb"), tmp_path / "data"
    )


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_path_without_reviews_is_refused_and_nothing_is_downloaded(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    message = refusal(tmp_path, tmp_path / name)
    assert f"data.path must hold {ARCHIVE} or its unpacked folder aclImdb, got '{tmp_path / name}'" in message
    with pytest.raises(DataError, match="must hold aclImdb_v1"):
        sources.fingerprint(DataConfig(name="imdb", path=str(tmp_path / name)), tmp_path)


def test_the_archive_goes_before_a_folder_that_may_be_incomplete(tmp_path: Path) -> None:
    (unpack(tmp_path / "imdb") / "train" / "pos" / "1_7.txt").unlink()
    put(tmp_path / "imdb" / ARCHIVE)
    assert len(load(tmp_path).test) == 40


# What is refused


def test_a_missing_review_is_counted(tmp_path: Path) -> None:
    files = reviews()
    del files["aclImdb/train/unsup/7_0.txt"]
    place = put(tmp_path / ARCHIVE, packed(files))
    message = refusal(tmp_path)
    assert f"'{place}' must hold 30 reviews in aclImdb/train/unsup, got 29; delete '{place}'" in message
    assert "http://127.0.0.1:9/aclImdb_v1.tar.gz" in message


def test_an_unpacking_that_broke_off_is_not_taken_for_a_finished_one(tmp_path: Path) -> None:
    folder = unpack(tmp_path / "imdb")
    for file in (folder / "test" / "pos").glob("*"):
        file.unlink()
    assert "must hold 20 reviews in aclImdb/test/pos, got 0; delete" in refusal(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_an_archive_that_is_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    content = packed(reviews())
    place = put(tmp_path / ARCHIVE, content[: int(share * len(content))])
    assert f"'{place}' is broken or incomplete" in refusal(tmp_path)


def test_an_archive_whose_checksum_is_wrong_is_refused(tmp_path: Path) -> None:
    content = bytearray(packed(reviews()))
    content[-8] ^= 1
    put(tmp_path / ARCHIVE, bytes(content))
    assert "is broken or incomplete (CRC check failed" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"<html>404</html>", gzip.compress(b"no tar" * 1000, mtime=0), b"\0" * 5000])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    place = put(tmp_path / ARCHIVE, content)
    assert f"'{place}' is broken or incomplete" in refusal(tmp_path)


def test_a_file_of_ones_own_is_never_to_be_deleted(tmp_path: Path) -> None:
    remedy = f"; leave data.path empty to download it, or give the folder that holds {ARCHIVE}"
    incomplete = {name: text for name, text in reviews().items() if not name.endswith("/7_7.txt")}
    linked = packed({**reviews(), "../up.txt": "out"})
    for content in (b"text,label\nfine,good\n", packed(reviews())[:-9], packed(incomplete), linked):
        message = refusal(tmp_path / "data", put(tmp_path / "mine" / ARCHIVE, content))
        assert message.endswith(remedy)
        assert "delete" not in message
        assert refusal(tmp_path / "data", tmp_path / "mine") == message
    folder = unpack(tmp_path / "open")
    (folder / "test" / "pos" / "1_7.txt").unlink()
    assert refusal(tmp_path / "data", folder).endswith(remedy)


def test_what_lies_in_the_data_folder_is_to_be_deleted(tmp_path: Path) -> None:
    place = put(tmp_path / "imdb" / ARCHIVE, b"broken")
    assert f"; delete '{place}' and run again to download it" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../up.txt", "aclImdb/../../up.txt"])
def test_paths_that_lead_out_of_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    put(tmp_path / ARCHIVE, packed({**reviews(), name: "out"}))
    assert f"must hold plain files and folders, got {name!r}" in refusal(tmp_path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    def change(member: tarfile.TarInfo) -> None:
        if member.name.endswith("/0_7.txt"):
            member.type, member.linkname, member.size = kind, "/etc/passwd", 0

    put(tmp_path / ARCHIVE, packed(reviews(), change))
    assert "must hold plain files and folders, got 'aclImdb/train/neg/0_7.txt'" in refusal(tmp_path)


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imdb_files, "MAX_UNPACKED", 1_000_000)
    put(tmp_path / ARCHIVE, packed({**reviews(), "aclImdb/imdb.vocab": "0" * 2_000_000}))
    assert "must unpack to at most 1,000,000 bytes, got more" in refusal(tmp_path)


def test_a_review_of_more_than_a_megabyte_is_refused(tmp_path: Path) -> None:
    put(tmp_path / ARCHIVE, packed({**reviews(), "aclImdb/train/pos/3_7.txt": "a" * 1_000_001}))
    assert "a review must have at most 1,000,000 bytes, got 'aclImdb/train/pos/3_7.txt'" in refusal(tmp_path)


def test_a_review_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    name = "aclImdb/train/pos/3_7.txt"
    put(tmp_path / ARCHIVE, packed({**reviews(), name: b"caf\xe9"}))
    assert "is broken or incomplete ('utf-8' codec can't decode" in refusal(tmp_path)
    (unpack(tmp_path / "open").parent / name).write_bytes(b"caf\xe9")
    assert "is broken or incomplete ('utf-8' codec can't decode" in refusal(tmp_path, tmp_path / "open")


# Fingerprint


def test_another_archive_has_another_fingerprint(tmp_path: Path) -> None:
    config, place = DataConfig(name="imdb"), tmp_path / ARCHIVE
    content = packed(reviews())
    prints = []
    for written in (content, content + b"\0", content[:-8] + b"other" + content[-3:]):
        put(place, written)
        prints.append(sources.fingerprint(config, tmp_path))
    assert len(set(prints)) == 3
    put(tmp_path / "moved" / ARCHIVE, content)
    assert sources.fingerprint(config, tmp_path / "moved") == prints[0], "where it lies does not matter"


def test_a_download_does_not_change_the_fingerprint(tmp_path: Path) -> None:
    config = DataConfig(name="imdb")
    before = sources.fingerprint(config, tmp_path)
    with put(tmp_path / "imdb" / ARCHIVE, b"").open("wb") as file:
        file.truncate(imdb.PUBLISHED_BYTES)
    assert sources.fingerprint(config, tmp_path) == before


def test_a_changed_folder_has_another_fingerprint(tmp_path: Path) -> None:
    config = DataConfig(name="imdb", path=str(tmp_path))
    folder = unpack(tmp_path)
    before = sources.fingerprint(config, tmp_path)
    assert sources.fingerprint(config, tmp_path) == before
    (folder / "test" / "neg" / "1_7.txt").unlink()
    os.utime(folder / "test" / "neg", (1, 1))
    assert sources.fingerprint(config, tmp_path) != before


# Download


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """Serves an archive from this machine; `content`, `length` and `status` can be changed."""
    content = packed(reviews() | {"aclImdb/README": os.urandom(600_000).hex()})
    answer: dict[str, object] = {"content": content, "length": len(content), "status": 200}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(str(answer["status"])))
            if answer["length"]:
                self.send_header("Content-Length", str(answer["length"]))
            self.end_headers()
            body = answer["content"]
            assert isinstance(body, bytes)
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as served:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        address = f"http://127.0.0.1:{served.server_port}/{ARCHIVE}"
        monkeypatch.setattr(torchtext_parts, "imdb_address", lambda: address)
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield answer
        served.shutdown()
        thread.join()


def test_it_is_downloaded_once(tmp_path: Path, server: dict[str, object]) -> None:
    told: list[tuple[str, float]] = []
    config = DataConfig(name="imdb")
    dataset = sources.load(config, tmp_path, progress=lambda words, part: told.append((words, part)))
    assert (tmp_path / "imdb" / ARCHIVE).read_bytes() == server["content"]
    assert list((tmp_path / "imdb").iterdir()) == [tmp_path / "imdb" / ARCHIVE]
    server["status"] = 500
    assert sources.load(config, tmp_path) == dataset
    for words in (f"Downloading {ARCHIVE}", f"Reading {ARCHIVE}"):
        parts = [part for said, part in told if said == words]
        assert parts == sorted(parts)
        assert len(set(parts)) > 3
        assert parts[-1] == 1.0
    assert told[-1] == ("Comparing reviews", 1.0)


def test_a_download_of_unknown_length_is_read(tmp_path: Path, server: dict[str, object]) -> None:
    server["length"] = None
    assert len(load(tmp_path).test) == 40


def test_a_cancelled_download_leaves_nothing_behind(tmp_path: Path, server: dict[str, object]) -> None:
    def check() -> None:
        assert not (tmp_path / "imdb" / ARCHIVE).exists()
        if any(file.stat().st_size for file in tmp_path.rglob(ARCHIVE)):
            raise Cancelled

    with pytest.raises(Cancelled):
        sources.load(DataConfig(name="imdb"), tmp_path, check)
    assert list((tmp_path / "imdb").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": 404}, "HTTP Error 404"),
        ({"length": 9_000_000}, "9,000,000 bytes, got"),
        ({"content": b""}, "bytes, got 0"),
    ],
)
def test_a_failed_download_says_what_to_do_and_leaves_nothing_behind(
    tmp_path: Path, server: dict[str, object], change: dict[str, object], message: str
) -> None:
    server.update(change)
    refused = refusal(tmp_path)
    assert message in refused
    assert f"put the file at '{tmp_path / 'imdb' / ARCHIVE}' by hand" in refused
    assert list((tmp_path / "imdb").iterdir()) == []


def test_a_download_without_end_is_given_up(
    tmp_path: Path, server: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imdb_files, "MAX_DOWNLOAD", 100_000)
    assert "(more than 100,000 bytes)" in refusal(tmp_path)


def test_without_a_network_the_address_and_the_place_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    message = refusal(tmp_path)
    assert f"{ARCHIVE} cannot be downloaded from http://127.0.0.1:9/{ARCHIVE}" in message
    assert f"put the file at '{tmp_path / 'imdb' / ARCHIVE}' by hand, or set data.path to it" in message
    assert not sources.found("imdb", tmp_path)


def test_reading_can_be_cancelled(tmp_path: Path) -> None:
    put(tmp_path / "packed" / ARCHIVE)
    unpack(tmp_path / "open")

    def check() -> None:
        raise Cancelled

    for folder in ("packed", "open"):
        with pytest.raises(Cancelled):
            sources.load(DataConfig(name="imdb"), tmp_path / folder, check)


@pytest.mark.slow
def test_the_real_archive_is_read_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    place = os.environ.get("IMDB_ARCHIVE")
    if not place:
        pytest.skip(f"IMDB_ARCHIVE is not set to the path of {ARCHIVE}")
    monkeypatch.setattr(imdb_files, "EXPECTED", EXPECTED)
    dataset = load(Path("unused"), Path(place))
    assert [len(part) for part in splits(dataset)] == [22_303, 2_478, 25_000]
    assert len(dataset.unlabelled) == 48_887
