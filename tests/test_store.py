"""The home folder: whole files or none, one process a run, and readers that nothing torn confuses."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from distill_core import store as store_module
from distill_core.config import RunConfig
from distill_core.errors import RunError
from distill_core.events import Event, RunCancelled, RunFailed, RunFinished, StageStarted, Step, Warned, encode
from distill_core.presets import PRESETS, load
from distill_core.status import FINAL, Status, short
from distill_core.store import Store, home_folder

ROOT = Path(store_module.__file__).parents[1]
HOLDER = """
import sys, time
from pathlib import Path
from distill_core.store import Store
with Store(Path(sys.argv[1])).claim(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.readline()
"""
EVENTS: list[Event] = [
    StageStarted("finetune", 3),
    Step("finetune", 1, 8, 0.7, None, 0.7, 1e-3),
    Warned("Größe ≠ 0\nund eine zweite Zeile"),
    RunFailed("out of memory"),
]


@pytest.fixture
def run_id(store: Store) -> str:
    return store.create_run(RunConfig())


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def log_of(store: Store, run_id: str) -> Path:
    return store.run_folder(run_id) / "events.jsonl"


@contextmanager
def held_elsewhere(store: Store, run_id: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the claim on a run until its input ends."""
    command = [sys.executable, "-c", HOLDER, str(store.home), run_id]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder
        if holder.poll() is None:
            holder.communicate("done\n")


# The home folder


def test_home_is_taken_from_the_environment_or_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISTILL_HOME", raising=False)
    assert Store().home == home_folder() == tmp_path / ".distill"
    monkeypatch.setenv("DISTILL_HOME", "elsewhere")
    assert Store().home == home_folder() == tmp_path / "elsewhere"
    assert Store(Path("given")).home == tmp_path / "given"


def test_looking_at_an_empty_home_creates_nothing(store: Store) -> None:
    assert store.run_ids() == []
    assert store.cached("teachers", "0123") is None
    assert not store.home.exists()


# Runs


def test_a_new_run_has_its_configuration_and_waits(store: Store) -> None:
    config = PRESETS["tiny"].config
    before = time.time()
    run_id = store.create_run(config)
    status = store.status(run_id)
    assert store.config(run_id) == config
    assert (status.run_id, status.status, status.over) == (run_id, "queued", False)
    assert before <= status.created <= time.time()
    assert (status.started, status.ended, status.pid, status.error) == (None, None, None, None)
    assert files(store.run_folder(run_id)) == {"config.json", "status.json"}


def test_a_run_for_the_caller_itself_is_running_at_once(store: Store) -> None:
    run_id = store.create_run(RunConfig(), state="running")
    with store.claim(run_id):
        status = store.status(run_id)
    assert (status.status, status.started) == ("running", status.created)


@pytest.mark.parametrize("state", ["running", "paused"])
def test_a_run_at_work_that_no_process_holds_has_been_interrupted(store: Store, run_id: str, state: str) -> None:
    store.update_status(run_id, status=state)
    assert store.status(run_id).status == "interrupted"
    with store.claim(run_id):
        assert store.status(run_id).status == state
    assert store.status(run_id).status == "interrupted"


def test_run_ids_are_distinct_readable_and_in_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for now in (1_700_000_000, 1_700_000_001, 1_800_000_000):
        monkeypatch.setattr(store_module.time, "time", lambda now=now: now)
        made.append(store.create_run(RunConfig()))
    assert store.run_ids() == made
    assert all(re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", run_id) for run_id in made)
    assert made[0].startswith("20231114-221320-")
    assert short(made[0]) == made[0][-6:]


def test_folders_without_a_status_are_no_runs(store: Store, run_id: str) -> None:
    (store.home / "runs" / ".new-abc").mkdir()
    (store.home / "runs" / "notes.txt").write_text("mine", encoding="utf-8")
    assert store.run_ids() == [run_id]


def make_runs(store: Store, *run_ids: str) -> None:
    for run_id in run_ids:
        store.run_folder(run_id).mkdir(parents=True)
        status = dataclasses.asdict(Status(run_id, "queued", 1.0))
        store.write_text(run_id, "status.json", json.dumps(status))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("20250101-000000-aaa111", "20250101-000000-aaa111"),
        ("aaa111", "20250101-000000-aaa111"),
        ("a111", "20250101-000000-aaa111"),
        ("111", "20250101-000000-aaa111"),
        ("b222", "20250102-000000-bbb222"),
        ("222", None),
        ("22", None),
        ("11", None),
        ("", None),
        ("20250101", None),
        ("bbb", None),
        ("../runs", None),
    ],
)
def test_find_run_takes_an_id_or_the_end_of_one(store: Store, name: str, found: str | None) -> None:
    make_runs(store, "20250101-000000-aaa111", "20250102-000000-bbb222", "20250103-000000-ccc222")
    if found is not None:
        assert store.find_run(name) == found
        return
    with pytest.raises(RunError) as caught:
        store.find_run(name)
    remedy = "it fits 2 runs; give more of it" if name == "222" else "list them with: runs"
    assert str(caught.value) == f"run must be one that exists, got {name!r}; {remedy}"


def test_find_run_prefers_the_whole_id_to_an_end(store: Store) -> None:
    make_runs(store, "aaa111", "20250101-000000-aaa111")
    assert store.find_run("aaa111") == "aaa111"


def test_update_status_changes_the_named_fields_alone(store: Store, run_id: str) -> None:
    before = store.status(run_id)
    with store.claim(run_id):
        returned = store.update_status(run_id, status="running", pid=7)
        assert returned == store.status(run_id) == dataclasses.replace(before, status="running", pid=7)


ENDS: list[tuple[RunFinished | RunFailed | RunCancelled, str, str | None]] = [
    (RunFinished(), "finished", None),
    (RunFailed("no\nmemory"), "failed", "no\nmemory"),
    (RunCancelled(), "cancelled", None),
]
every_end = pytest.mark.parametrize(("event", "state", "error"), ENDS, ids=["finished", "failed", "cancelled"])


@every_end
def test_end_run_records_state_time_error_and_event(
    store: Store, run_id: str, event: RunFinished, state: str, error: str | None
) -> None:
    before = time.time()
    returned = store.end_run(run_id, event)
    assert returned == store.status(run_id)
    assert (returned.status, returned.error, returned.over) == (state, error, True)
    assert returned.ended is not None
    assert before <= returned.ended <= time.time()
    assert [found for _, found in store.read_events(run_id)[0]] == [event]


@every_end
def test_end_run_does_not_overwrite_an_earlier_end(
    store: Store, run_id: str, event: RunFinished, state: str, error: str | None
) -> None:
    first = store.end_run(run_id, event)
    for later, _, _ in ENDS:
        assert store.end_run(run_id, later) == first
    assert store.update_status(run_id, status="running") == first
    assert store.status(run_id) == first
    assert [found for _, found in store.read_events(run_id)[0]] == [event]


def test_the_final_states_of_a_run_are_those_of_its_ends() -> None:
    assert {state for _, state, _ in ENDS} == set(FINAL)


# Unreadable files


@pytest.mark.parametrize("file", ["config.json", "status.json", "result.json"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not JSON"),
        (b'{"torn": ', "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[1, 2]", "holds no object"),
        (b"null", "holds no object"),
    ],
)
def test_an_unreadable_file_is_a_run_error_that_names_it(
    store: Store, run_id: str, file: str, content: bytes, says: str
) -> None:
    (store.run_folder(run_id) / file).write_bytes(content)
    read: dict[str, Callable[[str], object]] = {
        "config.json": store.config,
        "status.json": store.status,
        "result.json": store.result,
    }
    with pytest.raises(RunError) as caught:
        read[file](run_id)
    assert str(caught.value).startswith(f"{file} of {run_id!r} {says}")
    assert str(caught.value).endswith("; the run cannot be read")


@pytest.mark.parametrize("content", ["{}", '{"run_id": "a", "status": "queued", "created": 1, "later_version": 2}'])
def test_a_status_with_other_fields_is_a_run_error(store: Store, run_id: str, content: str) -> None:
    store.write_text(run_id, "status.json", content)
    with pytest.raises(RunError, match=r"status\.json"):
        store.status(run_id)


@pytest.mark.parametrize("read", ["config", "status", "end_run"])
def test_an_unknown_run_is_refused_with_its_id_and_a_remedy(store: Store, read: str) -> None:
    calls: dict[str, Callable[[], object]] = {
        "config": lambda: store.config("nowhere"),
        "status": lambda: store.status("nowhere"),
        "end_run": lambda: store.end_run("nowhere", RunFinished()),
    }
    with pytest.raises(RunError, match=r"run 'nowhere' has no (config|status)\.json; list the runs with: runs"):
        calls[read]()


def test_a_run_without_a_result_has_none_yet(store: Store, run_id: str) -> None:
    assert store.result(run_id) is None
    store.write_result(run_id, {"gain": 0.5, "label": "größer"})
    assert store.result(run_id) == {"gain": 0.5, "label": "größer"}


# Whole files or none


def test_written_files_hold_what_was_given(store: Store, run_id: str, tmp_path: Path) -> None:
    store.write_text(run_id, "vocabulary.json", "größe")
    store.write_tensors(run_id, "student.safetensors", {"w": torch.tensor([1.0, 2.0])})
    source = tmp_path / "model.safetensors"
    source.write_bytes(b"weights")
    store.link_file(run_id, "teacher.safetensors", source)
    folder = store.run_folder(run_id)
    assert (folder / "vocabulary.json").read_text(encoding="utf-8") == "größe"
    assert load_file(folder / "student.safetensors")["w"].tolist() == [1.0, 2.0]
    assert (folder / "teacher.safetensors").read_bytes() == b"weights"
    expected = {"config.json", "status.json", "vocabulary.json", "student.safetensors", "teacher.safetensors"}
    assert files(folder) == expected


def test_a_linked_file_is_copied_where_the_disk_cannot_link(
    store: Store, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(source: Path, path: Path) -> None:
        raise OSError("links are not supported here")

    monkeypatch.setattr(store_module.os, "link", no_links)
    source = tmp_path / "model.safetensors"
    source.write_bytes(b"weights")
    store.link_file(run_id, "teacher.safetensors", source)
    source.write_bytes(b"other")
    assert (store.run_folder(run_id) / "teacher.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize("links", [True, False])
def test_a_file_can_be_added_in_a_folder_of_the_runs_folder(
    store: Store, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def no_links(source: Path, path: Path) -> None:
        raise OSError("links are not supported here")

    if not links:
        monkeypatch.setattr(store_module.os, "link", no_links)
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text(f"the encoder's {name}", encoding="utf-8")
        store.link_file(run_id, f"encoder/{name}", tmp_path / name)
    folder = store.run_folder(run_id)
    expected = {"config.json", "status.json", "encoder/config.json", "encoder/tokenizer.json"}
    assert files(folder) == expected
    assert (folder / "encoder/config.json").read_text(encoding="utf-8") == "the encoder's config.json"
    assert store.config(run_id) == RunConfig()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    store: Store, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(path: Path, text: str, **options: str) -> int:
        path.write_bytes(text.encode()[:3])
        raise OSError("no space left on device")

    store.write_result(run_id, {"old": 1})
    before = files(store.home)
    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="no space"):
        store.write_result(run_id, {"new": 2})
    assert store.result(run_id) == {"old": 1}
    assert files(store.home) == before


def test_tensors_that_cannot_be_saved_leave_nothing_behind(store: Store, run_id: str) -> None:
    before = files(store.home)
    shared = torch.zeros(4)
    with pytest.raises(RuntimeError, match="share memory"):
        store.write_tensors(run_id, "student.safetensors", {"one": shared, "other": shared})
    assert files(store.home) == before


def test_a_run_that_cannot_be_created_leaves_nothing_behind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(values: object) -> str:
        raise OSError("no space left on device")

    monkeypatch.setattr(store_module.files, "dump", fail)
    with pytest.raises(OSError, match="no space"):
        store.create_run(RunConfig())
    assert store.run_ids() == []
    assert list((store.home / "runs").iterdir()) == []


def test_a_reader_never_sees_half_a_status(store: Store, run_id: str) -> None:
    code = (
        "import sys; from pathlib import Path; from distill_core.store import Store\n"
        "store = Store(Path(sys.argv[1]))\n"
        "for number in range(300): store.update_status(sys.argv[2], error='x' * 20_000)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(store.home), run_id], cwd=ROOT) as writer:
        seen = set()
        while writer.poll() is None:
            seen.add(len(store.status(run_id).error or ""))
    assert writer.returncode == 0
    assert seen <= {0, 20_000}
    assert 20_000 in seen | {len(store.status(run_id).error or "")}


# Caches


def fill(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weights")


def test_a_published_folder_is_found_under_its_key_alone(store: Store) -> None:
    folder = store.publish("teachers", "k1", fill)
    assert store.cached("teachers", "k1") == folder == store.home / "teachers" / "k1"
    assert store.cached("teachers", "k2") is None
    assert store.cached("tokens", "k1") is None
    assert files(store.home) == {"teachers/k1/model.safetensors"}
    assert folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [ValueError("bug"), OSError("no space left on device"), KeyboardInterrupt()])
def test_a_fill_that_fails_leaves_nothing_behind(store: Store, error: BaseException) -> None:
    def failing(folder: Path) -> None:
        fill(folder)
        raise error

    with pytest.raises(type(error)):
        store.publish("teachers", "k1", failing)
    assert store.cached("teachers", "k1") is None
    assert list((store.home / "teachers").iterdir()) == []


def test_a_cache_is_not_there_until_it_is_filled(store: Store) -> None:
    def watching(folder: Path) -> None:
        fill(folder)
        seen.append(store.cached("teachers", "k1"))

    seen: list[Path | None] = []
    store.publish("teachers", "k1", watching)
    assert seen == [None]


def test_the_first_of_two_that_publish_the_same_key_wins(store: Store) -> None:
    def slower(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"second")
        store.publish("teachers", "k1", fill)

    folder = store.publish("teachers", "k1", slower)
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert [path.name for path in (store.home / "teachers").iterdir()] == ["k1"]


# Uploads


def test_a_file_that_is_given_twice_is_kept_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = store.keep_upload("reviews.csv", b"text,label\n")
    monkeypatch.setattr(Path, "write_bytes", None)
    assert store.keep_upload("the same again.csv", b"text,label\n") == first
    assert files(store.home) == {f"uploads/{first.name}"}
    assert first.read_bytes() == b"text,label\n"


def test_other_content_under_the_same_name_is_another_file(store: Store) -> None:
    first, second = (store.keep_upload("reviews.csv", content) for content in (b"a", b"b"))
    assert first != second
    assert [first.read_bytes(), second.read_bytes()] == [b"a", b"b"]


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("reviews.csv", ".csv"),
        ("REVIEWS.JSONL", ".jsonl"),
        ("a/b.CSV", ".csv"),
        ("../../x.csv", ".csv"),
        ("/etc/passwd.tsv", ".tsv"),
        ("x.tar.gz", ".gz"),
        ("x.c sv;$(reboot)", ".csvreboot"),
        ("x.cs\0v", ".csv"),
        ("评论.csv", ".csv"),
        ("x", ""),
        (".csv", ""),
        ("..", ""),
        ("x.csv/..", ""),
    ],
)
def test_of_the_name_of_an_upload_only_a_clean_ending_is_used(store: Store, name: str, ending: str) -> None:
    file = store.keep_upload(name, b"text,label\n")
    assert file.resolve().parent == (store.home / "uploads").resolve()
    assert re.fullmatch(r"[0-9a-f]{16}" + re.escape(ending), file.name)
    assert files(store.home) == {f"uploads/{file.name}"}


def test_an_upload_that_cannot_be_kept_leaves_nothing_behind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(path: Path, content: bytes) -> int:
        path.touch()
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="no space"):
        store.keep_upload("reviews.csv", b"text,label\n")
    assert files(store.home) == set()


# Events


def test_events_come_back_in_order_with_their_times(store: Store, run_id: str) -> None:
    before = time.time()
    with store.event_log(run_id) as emit:
        for event in EVENTS:
            emit(event)
    read, offset = store.read_events(run_id)
    assert [event for _, event in read] == EVENTS
    assert all(before - 0.001 <= when <= time.time() + 0.001 for when, _ in read)
    assert offset == log_of(store, run_id).stat().st_size


def test_each_event_is_visible_at_once(store: Store, run_id: str) -> None:
    offset, seen = 0, []
    with store.event_log(run_id) as emit:
        for event in EVENTS:
            emit(event)
            read, offset = store.read_events(run_id, offset)
            seen.append([found for _, found in read])
    assert seen == [[event] for event in EVENTS]


def test_a_later_log_goes_on_after_an_earlier_one(store: Store, run_id: str) -> None:
    for event in EVENTS:
        with store.event_log(run_id) as emit:
            emit(event)
    assert [event for _, event in store.read_events(run_id)[0]] == EVENTS


def test_a_run_without_events_has_none(store: Store, run_id: str) -> None:
    assert store.read_events(run_id) == ([], 0)
    log_of(store, run_id).touch()
    assert store.read_events(run_id) == ([], 0)


@given(
    events=st.lists(st.builds(Warned, st.text(max_size=20)), max_size=6),
    cuts=st.lists(st.floats(0, 1), max_size=6),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_reading_while_a_log_grows_equals_reading_it_at_once(
    store: Store, events: list[Event], cuts: list[float]
) -> None:
    run_id = store.create_run(RunConfig())
    content = "".join(encode(event) + "\n" for event in events).encode()
    offset, pieces = 0, []
    for cut in [*sorted(cuts), 1.0]:
        log_of(store, run_id).write_bytes(content[: int(cut * len(content))])
        read, offset = store.read_events(run_id, offset)
        pieces += read
    assert (pieces, offset) == store.read_events(run_id)
    assert [event for _, event in pieces] == events
    assert offset == len(content)


def test_a_torn_last_line_waits_until_it_is_whole(store: Store, run_id: str) -> None:
    lines = [(encode(event) + "\n").encode() for event in EVENTS[:2]]
    log_of(store, run_id).write_bytes(lines[0] + lines[1][:20])
    read, offset = store.read_events(run_id)
    assert [event for _, event in read] == EVENTS[:1]
    assert store.read_events(run_id, offset) == ([], offset)
    log_of(store, run_id).write_bytes(lines[0] + lines[1])
    assert [event for _, event in store.read_events(run_id, offset)[0]] == EVENTS[1:2]


def test_lines_that_are_no_events_are_skipped(store: Store, run_id: str) -> None:
    content = b"\n\xff\xfe\n" + encode(EVENTS[0]).encode() + b'\n{"event": "from_a_later_version", "time": 1}\n'
    log_of(store, run_id).write_bytes(content)
    read, offset = store.read_events(run_id)
    assert [event for _, event in read] == EVENTS[:1]
    assert offset == len(content)


def test_an_event_after_a_torn_line_is_not_lost(store: Store, run_id: str) -> None:
    log_of(store, run_id).write_text(encode(EVENTS[0])[:20], encoding="utf-8")
    store.end_run(run_id, RunFailed("the worker is gone"))
    assert [event for _, event in store.read_events(run_id)[0]] == [RunFailed("the worker is gone")]


def test_log_tail_is_the_last_lines_of_the_workers_output(store: Store, run_id: str) -> None:
    assert store.log_tail(run_id) == ""
    file = store.run_folder(run_id) / "worker.log"
    file.write_bytes(b"".join(b"line %d\n" % number for number in range(9)) + b"\xff end\n\n")
    assert store.log_tail(run_id, lines=3) == "line 7\nline 8\n\ufffd end"


def test_diverted_output_goes_to_the_runs_log(store: Store, run_id: str) -> None:
    code = (
        "import os, sys; from pathlib import Path; from distill_core.store import Store\n"
        "Store(Path(sys.argv[1])).divert_output(sys.argv[2])\n"
        "print('to stdout', flush=True); print('to stderr', file=sys.stderr, flush=True); os.system('echo child')"
    )
    command = [sys.executable, "-c", code, str(store.home), run_id]
    done = subprocess.run(command, capture_output=True, check=True, cwd=ROOT)
    assert done.stdout + done.stderr == b""
    assert store.log_tail(run_id) == "to stdout\nto stderr\nchild"


# Claims


def test_a_claim_excludes_every_other_process_until_it_ends(store: Store, run_id: str) -> None:
    with held_elsewhere(store, run_id):
        assert store.is_claimed(run_id)
        with pytest.raises(RunError) as caught, store.claim(run_id):
            pass
        assert str(caught.value) == f"run must be waiting, got {run_id!r} which another process works on; watch it"
    assert not store.is_claimed(run_id)
    with store.claim(run_id):
        assert store.is_claimed(run_id)
    assert not store.is_claimed(run_id)


def test_a_claim_vanishes_with_a_killed_process(store: Store, run_id: str) -> None:
    with held_elsewhere(store, run_id) as holder:
        assert store.is_claimed(run_id)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert not store.is_claimed(run_id)
        with store.claim(run_id):
            assert store.is_claimed(run_id)


def test_a_claim_holds_for_one_run_alone(store: Store, run_id: str) -> None:
    other = store.create_run(RunConfig())
    with store.claim(run_id):
        assert not store.is_claimed(other)
        with store.claim(other):
            assert store.is_claimed(other)


def test_a_claim_ends_with_an_error_inside_it(store: Store, run_id: str) -> None:
    with pytest.raises(KeyError), store.claim(run_id):
        raise KeyError
    assert not store.is_claimed(run_id)


@every_end
def test_a_run_that_is_over_cannot_be_claimed(
    store: Store, run_id: str, event: RunFinished, state: str, error: str | None
) -> None:
    store.end_run(run_id, event)
    with pytest.raises(RunError, match=f"which is {state}; start a new one"), store.claim(run_id):
        pass
    assert not store.is_claimed(run_id)


def test_asking_about_an_unknown_run_leaves_nothing_behind(store: Store) -> None:
    assert not store.is_claimed("nowhere")
    assert not store.run_folder("nowhere").exists()


def test_a_configuration_comes_back_as_it_was_stored(store: Store) -> None:
    config = load("article", settings=["training.seed=9"])
    assert store.config(store.create_run(config)).digest() == config.digest()
