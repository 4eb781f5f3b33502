"""What takes how much of the home folder, what a cleaning frees, and what it must leave alone."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_core import cleaning, keys, storage
from distill_core.cleaning import KINDS, clean, cleanable
from distill_core.config import RunConfig
from distill_core.errors import ConfigError, LimitError
from distill_core.events import RunFinished
from distill_core.limits import Limits
from distill_core.presets import load
from distill_core.storage import PARTS, amount, check_room, usage
from distill_core.store import Store
from tests.runs import config_of, made_rows, write_csv

OLD = time.time() - 2 * cleaning.YOUNG_SECONDS


def put(path: Path, size: int = 1000, *, young: bool = False) -> Path:
    """A file of some bytes, by default older than an hour, as are the folders around it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    if not young:
        age(path)
    return path


def age(*paths: Path, when: float = OLD) -> None:
    """Makes files look old, with their folders."""
    for path in paths:
        for each in (path, path.parent):
            os.utime(each, (when, when), follow_symlinks=False)


def ended_run(store: Store, config: RunConfig | None = None) -> str:
    """A run that has finished."""
    run_id = store.create_run(config or RunConfig(), state="running")
    store.end_run(run_id, RunFinished())
    return run_id


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """A run on a file of one's own, whose teacher reads further texts and words."""
    return config_of(write_csv(tmp_path / "reviews.csv", made_rows(40)), "training.precision=auto")


@pytest.fixture(autouse=True)
def unmeasured() -> Iterator[None]:
    """No measurement of an earlier test counts."""
    storage._measured.clear()
    yield
    storage._measured.clear()


# Measuring

PLACES = (
    "runs/a/student.safetensors",
    "runs/b/teacher.safetensors",
    "runs/b/checkpoint/model.safetensors",
    "teachers/k1/teacher.safetensors",
    "teachers/k2/encoder/config.json",
    "tokens/k1/tokens.safetensors",
    "transfer/k1/transfer.safetensors",
    "words/k1/words.safetensors",
    "uploads/0123456789abcdef.csv",
    "data/imdb/aclImdb/train/pos/1.txt",
    "trash/c/teacher.safetensors",
    "drafts/me.json",
    "limits.json",
    "teachers/.new-abc/teacher.safetensors",
    "runs/a/.result.json.0123abcd",
)


@st.composite
def trees(draw: st.DrawFn) -> list[tuple[str, int, str | None, bool]]:
    """Files of a home folder: place, size, the place whose file this is another name of, and whether it is young."""
    places = draw(st.lists(st.sampled_from(PLACES), unique=True))
    files, own = list[tuple[str, int, str | None, bool]](), list[str]()
    for place in places:
        other = draw(st.sampled_from([None, *own]))
        files.append((place, draw(st.integers(0, 5000)), other, draw(st.booleans())))
        if other is None:
            own.append(place)
    return files


def planted(files: list[tuple[str, int, str | None, bool]], folder: str) -> Store:
    store = Store(Path(folder))
    for place, size, other, young in files:
        if other is None:
            put(store.home / place, size)
        else:
            (store.home / place).parent.mkdir(parents=True, exist_ok=True)
            (store.home / place).hardlink_to(store.home / other)
        if not young:
            age(store.home / place)
    return store


@given(files=trees())
def test_each_file_counts_once_however_many_names_it_has(files: list[tuple[str, int, str | None, bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = usage(planted(files, folder))
    assert found.total == sum(size for _, size, other, _ in files if other is None)
    assert set(found.sizes) == set(PARTS)
    assert found.unreadable == 0


@given(files=trees(), kind=st.sampled_from(KINDS))
def test_a_cleaning_frees_what_was_promised_and_what_is_gone_from_the_disk(
    files: list[tuple[str, int, str | None, bool]], kind: cleaning.Kind
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = planted(files, folder)
        before, promised = usage(store).total, cleanable(store)
        done = clean(store, [kind])
        assert done.problems == ()
        assert done.freed == promised[kind] == before - usage(store).total
        assert clean(store, [kind]).freed == cleanable(store)[kind] == 0


@given(files=trees(), kinds=st.sets(st.sampled_from(KINDS)))
def test_no_cleaning_touches_a_run_or_what_it_was_not_asked_for(
    files: list[tuple[str, int, str | None, bool]], kinds: set[cleaning.Kind]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = planted(files, folder)
        clean(store, kinds)
        left = {place for place, *_ in files if (store.home / place).exists()}
    gone = {place for place, *_ in files} - left
    cleaned = {part for kind in kinds for part in cleaning.WORDS[kind].parts}
    asides = {place for place in PLACES if "/." in place}
    assert all(place.split("/")[0] in cleaned or (place in asides and "leftovers" in kinds) for place in gone)
    assert not {place for place in gone if place.startswith("runs/")} - asides


def test_a_files_part_is_told_by_where_it_lies(store: Store) -> None:
    sizes = {place: 2**number for number, place in enumerate(PLACES)}
    for place, size in sizes.items():
        put(store.home / place, size)
    ancient = time.time() - storage.DRAFT_SECONDS - 60
    age(put(store.home / "drafts" / "gone.json", 7), when=ancient)
    found = usage(store).sizes
    assert found["runs"] == sizes[PLACES[0]] + sizes[PLACES[1]]
    assert found["checkpoints"] == sizes[PLACES[2]]
    assert found["teachers"] == sizes[PLACES[3]] + sizes[PLACES[4]]
    assert [found[part] for part in ("tokens", "transfer", "words", "uploads", "data", "trash")] == [
        sizes[place] for place in PLACES[5:11]
    ]
    assert found["other"] == sizes["drafts/me.json"] + sizes["limits.json"]
    assert found["leftovers"] == sizes[PLACES[13]] + sizes[PLACES[14]] + 7


def test_a_teacher_that_a_run_holds_too_counts_with_the_run_and_is_not_promised(store: Store) -> None:
    teacher = put(store.home / "teachers" / "k" / "teacher.safetensors", 5000)
    put(store.home / "teachers" / "k" / "logits.safetensors", 30)
    run_id = ended_run(store)
    store.link_file(run_id, "teacher.safetensors", teacher)
    before = usage(store)
    assert before.sizes["teachers"] == 30
    assert cleanable(store)["caches"] == 30
    assert clean(store, ["caches"]).freed == 30
    assert (store.run_folder(run_id) / "teacher.safetensors").stat().st_size == 5000
    store.delete_run(run_id)
    assert clean(store, ["trash"]).freed >= 5000


def test_a_home_folder_that_is_not_there_takes_nothing(store: Store) -> None:
    assert usage(store).total == 0
    assert set(cleanable(store).values()) == {0}
    assert clean(store, KINDS) == cleaning.Cleaning(0)


def test_what_vanishes_while_it_is_counted_is_left_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store.home / "tokens" / "k" / "stays", 100)
    put(store.home / "tokens" / "k" / "goes", 1000)
    put(store.home / "words" / "k" / "goes too", 1000)
    listed = storage.entries_of

    def vanishing(folder: str, missed: list[str]) -> list[os.DirEntry[str]]:
        found = listed(folder, missed)
        (store.home / "tokens" / "k" / "goes").unlink(missing_ok=True)
        shutil.rmtree(store.home / "words", ignore_errors=True)
        return found

    monkeypatch.setattr(storage, "entries_of", vanishing)
    found = usage(store)
    assert (found.total, found.unreadable) == (100, 0)


def test_a_folder_that_cannot_be_read_is_told_and_the_rest_is_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store.home / "tokens" / "shut" / "file", 1000)
    put(store.home / "tokens" / "open" / "file", 100)
    scan = os.scandir

    def refuse(path: str) -> Any:
        if path.endswith("shut"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = usage(store)
    assert (found.total, found.unreadable) == (100, 1)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 MB"),
        (3, "1 kB"),
        (12_300, "12 kB"),
        (400_000, "0.4 MB"),
        (9_940_000, "9.9 MB"),
        (312_400_000, "312 MB"),
        (999_600_000, "1.0 GB"),
        (20.4e9, "20 GB"),
    ],
)
def test_sizes_are_said_as_people_say_them(size: float, words: str) -> None:
    assert amount(size) == words


# Links to elsewhere


def test_what_lies_beyond_a_link_is_neither_counted_nor_deleted(store: Store, tmp_path: Path) -> None:
    outside = put(tmp_path / "outside" / "precious.txt", 100_000)
    run_id = ended_run(store)
    store.delete_run(run_id)
    (store.home / "trash" / run_id / "link").symlink_to(outside.parent)
    (store.home / "trash" / "all of it").symlink_to(outside.parent)
    (store.home / "uploads").mkdir()
    (store.home / "uploads" / "0123456789abcdef.csv").symlink_to(outside)
    (store.home / "teachers").symlink_to(outside.parent)
    (store.home / "data").symlink_to(outside.parent)
    (store.home / "runs" / "elsewhere").symlink_to(outside.parent)
    (store.home / ".new-link").symlink_to(outside.parent)
    for link in (store.home / "uploads" / "0123456789abcdef.csv", store.home / ".new-link"):
        age(link)
    assert usage(store).total < 20_000
    clean(store, KINDS)
    assert outside.stat().st_size == 100_000
    assert (store.home / "data").is_symlink()
    assert not any((store.home / "trash").iterdir())
    assert not any((store.home / "uploads").iterdir())


def test_checkpoints_of_runs_on_another_disk_are_left_alone(store: Store, tmp_path: Path) -> None:
    run_id = ended_run(store)
    kept = put(store.run_folder(run_id) / "checkpoint" / "model")
    (store.home / "runs").rename(tmp_path / "disk")
    (store.home / "runs").symlink_to(tmp_path / "disk")
    upload = put(store.home / "uploads" / "0123456789abcdef.csv")
    store.create_run(RunConfig.model_validate({"data": {"name": "csv", "path": str(upload)}}))
    clean(store, KINDS)
    assert kept.is_file()
    assert upload.is_file()


# What open runs need


def cached(store: Store, config: RunConfig) -> list[Path]:
    """A file under each key that the run may ask for, in each of the precisions."""
    folder, found = store.data_folder, [store.home / "tokens" / keys.data_key(config, store.data_folder)]
    for precision in ("float32", "bfloat16"):
        found.append(store.home / "teachers" / keys.teacher_key(config, precision, folder))
        found.append(store.home / "transfer" / keys.transfer_key(config, precision, folder))
        found.append(store.home / "words" / keys.words_key(config, precision, folder))
    for path in found:
        put(path / "file.safetensors")
    return found


def queue(store: Store, config: RunConfig) -> str:
    return store.create_run(config)


def interrupt(store: Store, config: RunConfig) -> str:
    return store.create_run(config, state="running")  # which no process holds


@pytest.mark.parametrize("start", [queue, interrupt])
def test_caches_stay_while_a_run_waits_or_may_be_resumed(
    store: Store, config: RunConfig, start: Callable[[Store, RunConfig], str]
) -> None:
    needed, spare = cached(store, config), put(store.home / "teachers" / "spare" / "teacher.safetensors", 700)
    run_id = start(store, config)
    assert cleanable(store)["caches"] == 700
    assert clean(store, ["caches"]).freed == 700
    assert not spare.parent.exists()
    assert all((path / "file.safetensors").is_file() for path in needed)
    store.end_run(run_id, RunFinished())
    assert clean(store, ["caches"]).freed == 1000 * len(needed)


@pytest.mark.parametrize("state", ["running", "paused"])
def test_caches_stay_while_a_worker_holds_the_run(store: Store, config: RunConfig, state: str) -> None:
    needed = cached(store, config)
    run_id = store.create_run(config, state="running")
    with store.claim(run_id):
        store.update_status(run_id, status=state)
        assert store.status(run_id).status == state
        assert clean(store, ["caches"]).freed == 0
    assert all(path.is_dir() for path in needed)


def test_caches_of_the_other_precision_go_where_a_run_names_its_own(store: Store, config: RunConfig) -> None:
    found = cached(store, config)
    fixed = config.model_copy(update={"training": config.training.model_copy(update={"precision": "bfloat16"})})
    store.create_run(fixed)
    clean(store, ["caches"])
    left = {path.name for path in found if path.is_dir()}
    assert keys.teacher_key(fixed, "bfloat16", store.data_folder) in left
    assert keys.teacher_key(fixed, "float32", store.data_folder) not in left


def test_what_was_published_within_the_hour_stays(store: Store) -> None:
    fresh = put(store.home / "tokens" / "fresh" / "tokens.safetensors", young=True)
    completed = put(store.home / "teachers" / "k" / "teacher.safetensors")
    logits = put(completed.parent / "logits.safetensors", young=True)
    os.utime(completed.parent, (OLD, OLD))
    assert clean(store, ["caches"]).freed == 0
    assert fresh.is_file()
    age(fresh, logits)
    assert clean(store, ["caches"]).freed == 3000


def test_caches_stay_when_nobody_can_tell_what_a_run_needs(store: Store, config: RunConfig) -> None:
    spare = put(store.home / "teachers" / "spare" / "teacher.safetensors")
    store.create_run(config)
    Path(str(config.data.path)).unlink()
    assert cleanable(store)["caches"] == 0
    done = clean(store, ["caches"])
    assert done.freed == 0
    assert "data.path must be a file that exists" in done.problems[0]
    assert done.problems[0].endswith("let it end, or delete it.")
    assert spare.is_file()


def test_a_broken_run_that_no_process_holds_keeps_nothing(store: Store) -> None:
    put(store.home / "teachers" / "spare" / "teacher.safetensors")
    put(store.home / "runs" / "broken" / "status.json", 10)
    assert clean(store, ["caches"]) == cleaning.Cleaning(1000)


def test_a_run_that_starts_while_its_cache_is_taken_away_gets_it_back(
    store: Store, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed, started = cached(store, config), list[str]()

    def start(length: int) -> str:
        started.append(store.create_run(config) if not started else "")
        return f"{len(started):08d}"

    # The name aside is chosen between the last look at the runs and the renaming.
    monkeypatch.setattr(cleaning, "secrets", SimpleNamespace(token_hex=start))
    assert clean(store, ["caches"]).freed == 0
    assert started[0] in store.run_ids()
    assert all((path / "file.safetensors").is_file() for path in needed)
    assert not list(store.home.rglob(".new-*"))


def test_a_folder_is_out_of_reach_before_its_first_file_goes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = put(store.home / "teachers" / "k" / "teacher.safetensors").parent
    seen, unlink = list[bool](), cleaning._unlink

    def watch(path: Path, failed: list[str]) -> int:
        seen.append(folder.exists())
        return unlink(path, failed)

    monkeypatch.setattr(cleaning, "_unlink", watch)
    clean(store, ["caches"])
    assert seen == [False]


# The other kinds


def test_uploads_stay_while_a_run_a_deleted_run_or_a_browser_refers_to_them(store: Store, config: RunConfig) -> None:
    names = ("open", "ended", "deleted", "drafted", "nobody", "young")
    uploads = {name: put(store.home / "uploads" / f"{number:016x}.csv") for number, name in enumerate(names)}

    def on(name: str) -> RunConfig:
        return config.model_copy(update={"data": config.data.model_copy(update={"path": str(uploads[name])})})

    store.create_run(on("open"))
    ended_run(store, on("ended"))
    store.delete_run(ended_run(store, on("deleted")))
    put(store.home / "drafts" / "me.json").write_text(json.dumps({"data.path": str(uploads["drafted"])}))
    os.utime(uploads["young"])
    assert clean(store, ["uploads"]).freed == 1000
    assert {name for name, file in uploads.items() if not file.exists()} == {"nobody"}
    clean(store, ["trash", "uploads"])
    assert {name for name, file in uploads.items() if not file.exists()} == {"nobody", "deleted"}


def test_uploads_stay_when_a_runs_settings_cannot_be_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = put(store.home / "uploads" / "0123456789abcdef.csv")
    ended_run(store)

    def refuse(self: Path, **options: Any) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    done = clean(store, ["uploads"])
    assert done.freed == 0
    assert "Permission denied" in done.problems[0]
    assert upload.is_file()


def test_downloads_go_only_when_named_and_when_no_open_run_reads_them(store: Store) -> None:
    file = put(store.home / "data" / "imdb" / "aclImdb_v1.tar.gz")
    clean(store, [kind for kind in KINDS if kind != "data"])
    assert file.is_file()
    run_id = store.create_run(load(settings=["student.word_vectors=glove"]))
    done = clean(store, ["data"])
    assert done.freed == 0
    assert "reads them" in done.problems[0]
    store.end_run(run_id, RunFinished())
    assert clean(store, ["data"]) == cleaning.Cleaning(1000)
    assert not file.exists()


def test_a_download_under_way_stays(store: Store) -> None:
    file = put(store.home / "data" / "imdb" / "aclImdb_v1.tar.gz", young=True)
    os.utime(file.parent, (OLD, OLD))
    assert clean(store, ["data"]).freed == 0
    assert file.is_file()


def test_leftovers_are_old_half_written_files_and_settings_of_browsers_that_stayed_away(store: Store) -> None:
    run_id = ended_run(store)
    half = [
        put(store.home / "teachers" / ".new-x1y2" / "teacher.safetensors"),
        put(store.home / ".import-abc" / "run" / "config.json"),
        put(store.run_folder(run_id) / ".result.json.0123abcd"),
        put(store.run_folder(run_id) / "encoder" / ".config.json.89abcdef"),
        put(store.home / "drafts" / "gone.json"),
    ]
    age(half[1].parent)
    age(half[4], when=time.time() - storage.DRAFT_SECONDS - 60)
    kept = [
        put(store.home / "teachers" / ".new-young" / "teacher.safetensors", young=True),
        put(store.run_folder(run_id) / ".claim"),
        put(store.home / "drafts" / "me.json"),
        put(store.home / "data" / ".new-x" / "part"),
    ]
    os.utime(kept[0].parent, (OLD, OLD))
    assert cleanable(store)["leftovers"] == 5000
    assert clean(store, ["leftovers"]).freed == 5000
    assert not any(path.exists() for path in half)
    assert all(path.exists() for path in kept)


def test_checkpoints_go_with_runs_that_have_ended_only(store: Store) -> None:
    ended, interrupted = ended_run(store), store.create_run(RunConfig(), state="running")
    for run_id in (ended, interrupted):
        put(store.run_folder(run_id) / "checkpoint" / "model.safetensors", young=True)
    assert clean(store, ["checkpoints"]).freed == 1000
    assert not (store.run_folder(ended) / "checkpoint").exists()
    assert (store.run_folder(interrupted) / "checkpoint" / "model.safetensors").is_file()


def test_purging_the_trash_takes_old_deletions_only(store: Store) -> None:
    old, recent = ended_run(store), ended_run(store)
    for run_id in (old, recent):
        store.delete_run(run_id)
    long_ago = time.time() - 31 * 86_400
    os.utime(store.home / "trash" / old, (long_ago, long_ago))
    assert cleaning.purge_trash(store, days=30).freed > 0
    assert [path.name for path in (store.home / "trash").iterdir()] == [recent]
    store.restore_run(recent)
    assert cleaning.purge_trash(store, days=0).freed == 0


def test_a_file_that_cannot_be_deleted_is_reported_and_the_rest_goes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        put(store.home / "trash" / name / "stuck", 500)
        put(store.home / "trash" / name / "goes", 100)
    unlink = Path.unlink

    def refuse(self: Path, missing_ok: bool = False) -> None:
        if self.name == "stuck":
            raise PermissionError(13, "Permission denied", str(self))
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    done = clean(store, ["trash"])
    assert done.freed == 200
    assert done.problems == (
        "2 could not be deleted, the first stuck: Permission denied; see to its rights and try again.",
    )
    monkeypatch.undo()
    assert clean(store, ["trash"]) == cleaning.Cleaning(1000)
    assert not any((store.home / "trash").iterdir())


def test_a_kind_that_there_is_not_is_named_with_those_that_there_are(store: Store) -> None:
    with pytest.raises(ConfigError, match=r"trash, caches, .*got 'runs'"):
        clean(store, ["runs"])


# Room


def disk(free: int) -> Callable[[Path], Any]:
    return lambda path: SimpleNamespace(total=10**12, used=0, free=free)


def test_a_nearly_full_disk_lets_no_run_start(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", disk(199_000_000))
    with pytest.raises(LimitError, match=r"free disk space must be at least 200 MB, got 199 MB; .*storage --clean"):
        check_room(store, Limits(home_gigabytes=None))
    monkeypatch.setattr(shutil, "disk_usage", disk(201_000_000))
    check_room(store, Limits())


def test_a_home_folder_over_its_limit_lets_no_run_start_until_it_is_cleaned(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", disk(10**12))
    put(store.home / "trash" / "a" / "model", 3000)
    limits = Limits(home_gigabytes=2e-6)
    with pytest.raises(LimitError, match=r"home_gigabytes=2e-06, got 3e-06; .*stands in limits\.json"):
        check_room(store, limits)
    check_room(store, Limits(home_gigabytes=None))
    check_room(store, Limits(home_gigabytes=3e-6))
    clean(store, ["trash"])
    check_room(store, limits)


def test_asking_for_room_again_and_again_measures_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", disk(10**12))
    asked = list[Store]()
    monkeypatch.setattr(storage, "usage", lambda store: asked.append(store) or storage.Usage(dict.fromkeys(PARTS, 1)))
    for _ in range(5):
        check_room(store, Limits())
    assert asked == [store]
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + storage.MEASURE_SECONDS + 1)
    check_room(store, Limits())
    assert len(asked) == 2


def test_a_disk_that_does_not_say_what_it_has_free_stops_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> Any:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(shutil, "disk_usage", refuse)
    check_room(store, Limits())
    assert storage.room(store, Limits(home_gigabytes=2)) == storage.Room(0, 2 * 10**9, None)


def test_an_endless_limit_is_a_limit_all_the_same(store: Store) -> None:
    check_room(store, Limits.model_construct(home_gigabytes=float("inf")))


# The command line's figures


def test_figures_for_the_command_line_are_json_and_lines(store: Store) -> None:
    put(store.home / "trash" / "a" / "model", 5_000_000)
    figures = json.loads(json.dumps(cleaning.facts(store, Limits(home_gigabytes=2))))
    assert figures["bytes"]["trash"] == figures["total"] == figures["cleanable"]["trash"] == 5_000_000
    assert figures["limit"] == 2_000_000_000
    said = cleaning.lines(figures)
    assert said[0].startswith("5.0 MB of 2.0 GB used, ")
    assert any(line.split()[:3] == ["trash", "5.0", "MB"] for line in said)
    assert {line.split()[0] for line in said if line.endswith(".")} == set(KINDS)
