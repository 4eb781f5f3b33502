"""Archives of a run: what comes back is what went out, and what a stranger has forged is refused and leaves nothing."""

from __future__ import annotations

import io
import json
import pickle
import stat
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save

from distill_core import archive, files
from distill_core.analysis.predict import Predictor
from distill_core.config import RunConfig
from distill_core.errors import DistillError, RunError
from distill_core.events import RunCancelled, RunFailed, RunFinished
from distill_core.status import Notes
from distill_core.store import Store
from distill_core.worker import work
from tests.encoders import save_tiny
from tests.runs import config_of, made_rows, write_csv

TEXTS = ["a bright film", "a dull plot and a weak cast", "unheard words"]
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("files") / "reviews.csv", made_rows(40))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, reviews: Path) -> tuple[Store, str]:
    """A home folder with a finished run that has a name and an owner."""
    store = Store(tmp_path_factory.mktemp("lab"))
    run_id = store.create_run(config_of(reviews), state="running", owner="somebody")
    assert work(run_id, store) is not None
    store.write_notes(run_id, Notes("first try", ("small",), "as in the article"))
    store.write_text(run_id, "worker.log", "nothing for others")
    store.write_text(run_id, "control.json", "{}")
    store.write_text(run_id, "batch.json", "{}")
    (store.run_folder(run_id) / "checkpoint").mkdir(exist_ok=True)
    (store.run_folder(run_id) / "checkpoint" / "state.json").write_text("{}")
    return store, run_id


def exported(store: Store, run_id: str) -> bytes:
    file = io.BytesIO()
    archive.export_run(store, run_id, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def good(lab: tuple[Store, str]) -> Files:
    """The files of a good archive by name."""
    with zipfile.ZipFile(io.BytesIO(exported(*lab))) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def zipped(contents: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in contents.items():
            packed.writestr(name, content)
    return file.getvalue()


def changed(good: Files, name: str, /, **values: Any) -> bytes:
    """The good archive with other values in one of its JSON files."""
    return zipped({**good, name: json.dumps({**json.loads(good[name]), **values}).encode()})


def refusal(store: Store, content: bytes) -> str:
    """Why an archive is refused; nothing may be left of it."""
    with pytest.raises(DistillError) as caught:
        archive.import_run(store, io.BytesIO(content), "me")
    assert [path for path in store.home.rglob("*") if path.is_file()] == []
    assert list(store.home.glob(".import-*")) == []
    assert store.run_ids() == []
    assert len(str(caught.value)) < 700
    return str(caught.value)


# There and back


def test_a_run_comes_back_with_all_that_it_says(lab: tuple[Store, str], store: Store) -> None:
    home, run_id = lab
    assert archive.import_run(store, io.BytesIO(exported(home, run_id)), "me") == run_id
    assert store.config(run_id) == home.config(run_id)
    assert store.result(run_id) == home.result(run_id)
    assert store.notes(run_id) == Notes("first try", ("small",), "as in the article")
    assert store.read_events(run_id) == home.read_events(run_id)
    assert store.status(run_id) == replace(home.status(run_id), owner="me", pid=None)
    assert Predictor.load(store, run_id).predict(TEXTS) == Predictor.load(home, run_id).predict(TEXTS)
    assert list(store.home.glob(".import-*")) == []


def test_an_archive_holds_what_others_need_and_nothing_else(good: Files) -> None:
    assert sorted(good) == [
        "baseline.safetensors",
        "config.json",
        "events.jsonl",
        "notes.json",
        "result.json",
        "status.json",
        "student.safetensors",
        "teacher.safetensors",
        "vocabulary.json",
    ]
    status = json.loads(good["status.json"])
    assert (status["owner"], status["pid"]) == (None, None)
    assert not any(b"somebody" in content for content in good.values())


def test_a_pretrained_teacher_travels_with_its_encoder(tmp_path: Path, reviews: Path, store: Store) -> None:
    home = Store(tmp_path / "other")
    encoder = save_tiny(tmp_path / "bert", "bert")
    run_id = home.create_run(config_of(reviews, "teacher.kind=pretrained", f"teacher.model={encoder}"), state="running")
    assert work(run_id, home) is not None
    content = exported(home, run_id)
    archive.import_run(store, io.BytesIO(content), None)
    assert Predictor.load(store, run_id).predict(TEXTS) == Predictor.load(home, run_id).predict(TEXTS)
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        contents = {name: packed.read(name) for name in packed.namelist()}
    empty = Store(tmp_path / "empty")
    for values, words in (
        ({"auto_map": {"AutoConfig": "evil.Config"}}, "auto_map in encoder/config.json must not be set"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers in encoder/config.json must be at most"),
        ({"hidden_size": 2**20}, "must have the shape"),
    ):
        assert words in refusal(empty, changed(contents, "encoder/config.json", **values))


def test_an_id_that_is_taken_gives_way_to_a_fresh_one_of_the_same_time(lab: tuple[Store, str], store: Store) -> None:
    content = exported(*lab)
    first, second = (archive.import_run(store, io.BytesIO(content), "me") for _ in range(2))
    store.delete_run(first)
    third = archive.import_run(store, io.BytesIO(content), "me")
    assert len({first, second, third}) == 3, "a run in the trash must be able to come back"
    assert {run_id.rpartition("-")[0] for run_id in (first, second, third)} == {lab[1].rpartition("-")[0]}
    result = store.result(second)
    assert result is not None
    assert (result["run_id"], store.status(second).run_id) == (second, second)
    store.restore_run(first)
    assert set(store.run_ids()) == {first, second, third}


@pytest.mark.parametrize("end", [RunFailed("the disk is full"), RunCancelled()])
def test_a_run_without_a_result_can_travel_too(store: Store, tmp_path: Path, end: RunFailed | RunCancelled) -> None:
    run_id = store.create_run(RunConfig())
    store.end_run(run_id, end)
    with (store.run_folder(run_id) / "events.jsonl").open("a") as log:
        log.write('{"event": "run_fin')  # torn by a dying process
    other = Store(tmp_path / "other")
    archive.import_run(other, io.BytesIO(exported(store, run_id)), None)
    assert other.status(run_id) == store.status(run_id)
    assert other.read_events(run_id)[0] == store.read_events(run_id)[0]


def test_a_run_that_waits_cannot_be_exported(store: Store) -> None:
    run_id = store.create_run(RunConfig())
    with pytest.raises(RunError, match=r"must have ended to be exported, got .* which is queued"):
        exported(store, run_id)


def test_what_could_not_be_taken_in_is_not_exported(store: Store) -> None:
    run_id = store.create_run(RunConfig(), state="running")
    store.end_run(run_id, RunFinished())
    file = io.BytesIO()
    with pytest.raises(RunError, match=r"result\.json must be there"):
        archive.export_run(store, run_id, file)
    assert file.getvalue() == b""


# Names


@pytest.mark.parametrize(
    "name",
    [
        "../config.json",
        "../../evil.json",
        "/etc/passwd",
        "/config.json",
        "encoder/../../x.json",
        "encoder/..",
        "encoder/../config.json",
        "encoder/sub/config.json",
        "encoder/.hidden.json",
        "..\\config.json",
        "encoder\\config.json",
        "C:config.json",
        "runs/config.json",
        "Config.JSON",
        "config.json\n",
        "config.json ",
        "worker.log",
        "control.json",
        "checkpoint/state.safetensors",
        ".claim",
        ".status",
        "model.pkl",
        "student.pt",
        "student.bin",
        "encoder/pytorch_model.bin",
        "encoder/modeling.py",
        "encoder/",
        "cønfig.json",
        "config.json/",
        "x" * 300 + ".json",
    ],
)
def test_a_name_that_no_file_of_a_run_has_is_refused(good: Files, store: Store, name: str) -> None:
    assert "must hold the files of a run and no others" in refusal(store, zipped({**good, name: b"{}"}))


@given(name=st.text(min_size=1, max_size=40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
def test_no_name_leads_out_of_the_folder(store: Store, name: str) -> None:
    """Whatever a name looks like: it is refused, or a plain name in the run's folder or its encoder."""
    if archive._most_bytes(name) is not None:
        assert Path("/a/b", name).resolve().is_relative_to("/a/b")
        assert name.count("/") <= 1
    elif "\0" not in name and not any("\ud800" <= letter <= "\udfff" for letter in name):
        assert "no others" in refusal(store, zipped({name: b"{}"}))


def test_a_name_that_hides_its_end_is_refused(good: Files, store: Store) -> None:
    content = zipped({**good, "resultXjson.exe": b"{}"}).replace(b"resultXjson.exe", b"result.json\0exe")
    assert "no others" in refusal(store, content)


def test_a_file_that_comes_twice_is_refused(good: Files, store: Store) -> None:
    file = io.BytesIO(zipped(good))
    with zipfile.ZipFile(file, "a") as packed, pytest.warns(UserWarning, match="Duplicate"):
        packed.writestr("config.json", b"{}")
    assert "'config.json' twice" in refusal(store, file.getvalue())


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR])
def test_links_and_devices_are_refused(good: Files, store: Store, kind: int) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name, content in good.items():
            entry = zipfile.ZipInfo(name)
            if name == "notes.json":
                entry.external_attr, content = (kind | 0o777) << 16, b"/etc/passwd"  # noqa: PLW2901
            packed.writestr(entry, content)
    assert "plain files, got 'notes.json'" in refusal(store, file.getvalue())


# The zip file itself


@pytest.mark.parametrize("content", [b"", b"PK", b"garbage" * 1000, b"PK\5\6" + b"\0" * 18, pickle.dumps({"a": 1})])
def test_what_is_no_archive_is_refused(store: Store, content: bytes) -> None:
    assert refusal(store, content)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.9999])
def test_a_truncated_archive_is_refused(good: Files, store: Store, kept: float) -> None:
    whole = zipped(good)
    assert "whole" in refusal(store, whole[: int(len(whole) * kept)])


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_flipped_bit_is_refused_or_does_no_harm(good: Files, store: Store, place: float, bit: int) -> None:
    small = {name: content for name, content in good.items() if name in ("config.json", "notes.json")}
    status = {**json.loads(good["status.json"]), "status": "failed"}
    content = bytearray(zipped({**small, "status.json": json.dumps(status).encode()}))
    content[int(place * len(content))] ^= 1 << bit
    try:
        run_id = archive.import_run(store, io.BytesIO(bytes(content)), None)
    except DistillError:
        return
    assert store.config(run_id).to_json().encode() == good["config.json"]
    store.delete_run(run_id)


def test_a_bomb_is_measured_while_it_is_read(good: Files, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "notes.json must have at most 1 MB" in refusal(store, zipped({**good, "notes.json": b" " * 3_000_000}))
    monkeypatch.setattr(archive, "TOTAL", 20_000)
    assert "got more" in refusal(store, zipped(good))


def lie(content: bytes, name: str, size: int) -> bytes:
    """The archive with another unpacked size for a file, in both places that hold it."""
    forged = bytearray(content)
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        entry = packed.getinfo(name)
    struct.pack_into("<L", forged, entry.header_offset + 22, size)
    place = content.rindex(name.encode()) - 46
    struct.pack_into("<L", forged, place + 24, size)
    return bytes(forged)


@pytest.mark.parametrize("size", [0, 10, 3_000_000_000])
def test_sizes_that_lie_are_refused(good: Files, store: Store, size: int) -> None:
    content = zipped({**good, "notes.json": b" " * 3_000_000})
    assert refusal(store, lie(content, "notes.json", size))


def test_too_many_files_are_refused_before_they_are_listed(good: Files, store: Store) -> None:
    many = {f"encoder/{number}.json": b"{}" for number in range(archive.MAX_FILES)}
    assert "at most 64 files" in refusal(store, zipped({**good, **many}))
    content = bytearray(zipped({**good, **many}))
    struct.pack_into("<H", content, len(content) - 12, 3)  # says that it has 3
    assert "at most 64 files" in refusal(store, bytes(content))


def test_an_encrypted_or_oddly_packed_file_is_refused(good: Files, store: Store) -> None:
    content = bytearray(zipped(good))
    place = bytes(content).rindex(b"config.json") - 46
    content[place + 8] |= 1
    content[6] |= 1
    assert refusal(store, bytes(content))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_BZIP2) as packed:
        for name, text in good.items():
            packed.writestr(name, text)
    assert "deflated or stored" in refusal(store, file.getvalue())


# Contents


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("config.json", {"objective": {"beta": -1}}, "objective.beta must be"),
        ("config.json", {"evil": 1}, "evil is not a setting"),
        ("config.json", {"data": {"name": "csv", "path": "\ud800"}}, "halves"),
        ("status.json", {"status": "running"}, "a run that is over, got 'running'"),
        ("status.json", {"status": "queued"}, "a run that is over, got 'queued'"),
        ("status.json", {"status": "owned"}, "status in status.json is wrong"),
        ("status.json", {"run_id": "../../evil"}, "run_id in status.json must look like"),
        ("status.json", {"run_id": 5}, "run_id in status.json"),
        ("status.json", {"created": 1e300}, "created in status.json"),
        ("status.json", {"ended": float("nan")}, "ended in status.json"),
        ("status.json", {"error": ["x"]}, "error in status.json"),
        ("notes.json", {"tags": 5}, "tags in notes.json"),
        ("notes.json", {"name": {}}, "name in notes.json"),
        ("result.json", {"labels": None}, "labels in result.json"),
        ("result.json", {"labels": ["bad", 1]}, "labels.1 in result.json"),
        ("result.json", {"student": None}, "student in result.json"),
        ("result.json", {"teacher": {"test_accuracy": "high"}}, "teacher"),
        ("result.json", {"retention": "much"}, "retention in result.json"),
        ("result.json", {"gain_margin": None}, "verdict"),
        ("result.json", {"seeds": {"count": 3}}, "seeds.student in result.json"),
        ("result.json", {"seconds": {"test": "x"}}, "seconds.test in result.json"),
        ("result.json", {"labels": ["bad", "good", "third"]}, "confusion"),
        ("vocabulary.json", {"tokens": [1, 2, 3]}, "tokens.0 in vocabulary.json"),
        ("vocabulary.json", {"tokens": ["<pad>", "<unk>", "film"]}, "embedding.weight in student.safetensors"),
    ],
)
def test_a_wrong_value_is_named(good: Files, store: Store, name: str, values: dict[str, Any], words: str) -> None:
    assert words in refusal(store, changed(good, name, **values))


@pytest.mark.parametrize("entry", [{"test_accuracy": 2}, {"parameters": 10**30}, {"parameters": 0}, {"ece": "x"}])
def test_a_wrong_figure_of_a_model_is_refused(good: Files, store: Store, entry: dict[str, Any]) -> None:
    student = {**json.loads(good["result.json"])["student"], **entry}
    assert "result.json" in refusal(store, changed(good, "result.json", student=student))


@pytest.mark.parametrize("name", ["config.json", "status.json", "result.json", "notes.json", "vocabulary.json"])
@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b"{", b"\xff\xfe", pickle.dumps([1]), b'{"a":' * 100_000, b'{"a":' * 900 + b"1" + b"}" * 900],
    ids=["empty", "list", "null", "torn", "binary", "pickle", "deep", "less deep"],
)
def test_json_that_is_none_or_of_another_kind_is_refused(good: Files, store: Store, name: str, content: bytes) -> None:
    assert refusal(store, zipped({**good, name: content}))


@pytest.mark.parametrize(
    "name", ["config.json", "status.json", "result.json", "vocabulary.json", "student.safetensors"]
)
def test_a_file_that_is_missing_is_named(good: Files, store: Store, name: str) -> None:
    contents = {other: content for other, content in good.items() if other != name}
    assert name in refusal(store, zipped(contents))


@pytest.mark.parametrize(
    "line",
    [
        "garbage",
        "{}",
        '{"event": "made_up", "time": 1}',
        '{"event": "stage_finished", "time": 1, "stage": "test", "seconds": "long"}',
        '{"event": "stage_started", "time": 1, "stage": "test", "steps": "many"}',
        '{"event": "stage_started", "time": 1e999, "stage": "test", "steps": 1}',
        '{"event": "stage_started", "time": 1, "stage": "test", "steps": 1' + "0" * 60 + "}",
        '{"event": "warning", "time": 1, "message": "\\ud800"}',
        '{"event": "run_started", "time": 1, "run_id": "x", "stages": ["evil"], "device": "cpu", "precision": "x"}',
    ],
)
def test_an_event_that_no_page_could_show_is_refused(good: Files, store: Store, line: str) -> None:
    assert "events.jsonl" in refusal(store, zipped({**good, "events.jsonl": good["events.jsonl"] + line.encode()}))


def test_weights_must_be_safetensors_of_the_shapes_that_the_settings_ask_for(
    good: Files, store: Store, tmp_path: Path
) -> None:
    name = "student.safetensors"
    (tmp_path / name).write_bytes(good[name])
    tensors = load_file(tmp_path / name)
    forged: dict[str, tuple[bytes, str]] = {
        "pickle": (pickle.dumps(tensors), "must be safetensors"),
        "torn": (good[name][:-10], "must be safetensors"),
        "long header": (struct.pack("<Q", 2**60) + good[name][8:], "must be safetensors"),
        "other": (save({key: value[..., :1].copy() for key, value in tensors.items()}), "must have the shape"),
        "more": (save({**tensors, "extra": tensors["output.bias"]}), "extra in student.safetensors"),
        "fewer": (save({"output.bias": tensors["output.bias"]}), "got None"),
    }
    for content, words in forged.values():
        assert words in refusal(store, zipped({**good, name: content}))
    assert "must be safetensors" in refusal(store, zipped({**good, "other.safetensors": b"x"}))


def test_a_model_that_is_no_larger_than_its_file_is_all_that_is_ever_built(
    good: Files, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vocabulary of a million words asks for a large model; its shapes are compared before it takes memory."""
    monkeypatch.setattr(Predictor, "load", lambda *arguments: pytest.fail("the model was built"))
    tokens = ["<pad>", "<unk>", *(f"w{number}" for number in range(200_000))]
    assert "must have the shape [200002," in refusal(store, changed(good, "vocabulary.json", tokens=tokens))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_whatever_stands_in_a_field_is_refused_in_words_or_can_be_read(
    good: Files, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill_core.foreign._check_models", lambda *arguments: None)
    name = data.draw(st.sampled_from(["config.json", "status.json", "result.json", "notes.json"]))
    field = data.draw(st.sampled_from(sorted(json.loads(good[name]))))
    store = Store(tmp_path_factory.mktemp("home"))
    try:
        run_id = archive.import_run(store, io.BytesIO(changed(good, name, **{field: data.draw(JSON)})), None)
    except DistillError:
        assert store.run_ids() == []
        return
    assert store.status(run_id).over
    assert store.config(run_id)
    assert store.notes(run_id)


def test_nothing_is_left_where_the_disk_is_full(good: Files, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "flush", full)
    with pytest.raises(OSError, match="No space"):
        archive.import_run(store, io.BytesIO(zipped(good)), None)
    assert list(store.home.iterdir()) == []
