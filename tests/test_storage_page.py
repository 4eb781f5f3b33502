"""The page Storage in each state, without a browser."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from distill_core import cleaning
from distill_core.config import RunConfig
from distill_core.events import RunFinished
from distill_core.limits import Limits
from distill_core.store import Store
from pages import _identity
from tests.test_pages import ROOT, button, text_of

SIZES = {"trash": 5_000_000, "caches": 70_000_000, "uploads": 300_000, "data": 880_000_000, "leftovers": 40_000}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty home folder, seen by a browser on the same machine."""
    monkeypatch.setenv("DISTILL_HOME", str(tmp_path))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(_identity, "is_local", lambda: True)
    st.cache_resource.clear()
    return Store(tmp_path)


@pytest.fixture
def full(home: Store) -> Store:
    """A home folder with something of most kinds that can go, all of it more than an hour old."""
    places = {
        "trash": "trash/a/student.safetensors",
        "caches": "teachers/k/teacher.safetensors",
        "uploads": "uploads/0123456789abcdef.csv",
        "data": "data/imdb/aclImdb_v1.tar.gz",
        "leftovers": "words/.new-x/words.safetensors",
    }
    for kind, place in places.items():
        file = home.home / place
        file.parent.mkdir(parents=True)
        with file.open("wb") as stream:
            stream.truncate(SIZES[kind])
        for path in (file, file.parent):
            os.utime(path, (time.time() - 9999,) * 2)
    run_id = home.create_run(RunConfig(), state="running")
    home.end_run(run_id, RunFinished())
    return home


def open_storage() -> AppTest:
    """The page by itself, as the router would show it."""
    app = AppTest.from_file(str(ROOT / "pages" / "storage.py"), default_timeout=60)
    app.session_state["page"] = "storage"
    return checked(app.run())


def checked(app: AppTest) -> AppTest:
    assert not app.exception, app.exception
    return app


def click(app: AppTest, label: str) -> AppTest:
    return checked(button(app, label).click().run())


def labels(app: AppTest) -> list[str]:
    return [item.label for item in app.button]


def test_an_empty_home_folder_says_what_will_be_there_and_offers_a_first_run(home: Store) -> None:
    app = open_storage()
    assert "Nothing is kept yet." in text_of(app)
    assert labels(app) == ["Start the first run"]


def test_a_cleaning_that_leaves_nothing_says_what_it_freed(home: Store) -> None:
    file = home.home / "trash" / "a" / "model"
    file.parent.mkdir(parents=True)
    file.write_bytes(bytes(2_000_000))
    app = click(click(open_storage(), "Free 2.0 MB…"), "Delete 2.0 MB")
    assert "Freed 2.0 MB" in text_of(app)


def test_each_kind_shows_its_size_what_it_is_and_what_is_lost(full: Store) -> None:
    said = text_of(open_storage())
    for words in cleaning.WORDS.values():
        for part in (words.title, words.what, words.lost):
            assert part in said
    for size in ("5.0 MB", "70 MB", "0.3 MB", "880 MB", "40 kB"):
        assert f"<span>{size}</span>" in said
    assert re.search(r"<span>955 MB of 20 GB used · [\d.]+ [MG]B free on the disk</span>", said)


def test_what_costs_nothing_goes_at_once(full: Store) -> None:
    app = click(open_storage(), "Free 40 kB")
    assert "Freed 40 kB" in text_of(app)
    assert not (full.home / "words" / ".new-x").exists()
    assert "Free 40 kB" not in labels(app)


def test_what_costs_time_to_make_again_goes_after_a_second_click(full: Store) -> None:
    teacher = full.home / "teachers" / "k" / "teacher.safetensors"
    app = click(open_storage(), "Free 70 MB…")
    assert teacher.is_file()
    assert {"Delete 70 MB", "Keep"} <= set(labels(app))
    app = click(app, "Delete 70 MB")
    assert "Freed 70 MB" in text_of(app)
    assert not teacher.exists()
    assert "Keep" not in labels(app)


def test_a_second_thought_keeps_everything(full: Store) -> None:
    app = click(click(open_storage(), "Free 880 MB…"), "Keep")
    assert "Free 880 MB…" in labels(app)
    assert (full.home / "data" / "imdb" / "aclImdb_v1.tar.gz").is_file()


def test_all_kinds_that_cannot_be_had_back_at_once_ask(full: Store) -> None:
    asking = [label for label in labels(open_storage()) if label.endswith("…")]
    assert asking == ["Free 5.0 MB…", "Free 70 MB…", "Free 0.3 MB…", "Free 880 MB…"]


def test_another_machines_browser_sees_the_sizes_but_cleans_nothing(
    full: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_identity, "is_local", lambda: False)
    app = open_storage()
    assert labels(app) == []
    assert "70 MB could go" in text_of(app)
    assert "Cleaning is for the person at the lab's machine" in text_of(app)
    assert str(full.home) not in text_of(app)


def test_a_click_that_comes_from_elsewhere_after_all_cleans_nothing(
    full: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = click(open_storage(), "Free 5.0 MB…")
    monkeypatch.setattr(_identity, "is_local", lambda: False)
    click(app, "Delete 5.0 MB")
    assert (full.home / "trash" / "a").is_dir()


def test_what_could_not_be_deleted_is_said(full: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    app = click(open_storage(), "Free 5.0 MB…")

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        app = click(app, "Delete 5.0 MB")
    assert [warning.value for warning in app.warning] == [
        "1 could not be deleted, the first student.safetensors: Permission denied; see to its rights and try again."
    ]


def test_a_home_folder_over_its_limit_is_told_with_the_remedy(full: Store) -> None:
    (full.home / "limits.json").write_text(json.dumps({"home_gigabytes": 0.5}))
    app = open_storage()
    (error,) = app.error
    assert "No further run starts: the home folder must take at most home_gigabytes=0.5, got 0.955." in error.value
    assert "storage-bar over" in text_of(app)
    app = click(click(app, "Free 880 MB…"), "Delete 880 MB")
    assert not app.error


def test_the_limits_of_the_lab_are_listed_with_their_meaning(full: Store) -> None:
    (full.home / "limits.json").write_text(json.dumps({"upload_megabytes": 4321}))
    said = text_of(open_storage())
    for name, field in Limits.model_fields.items():
        assert f"<code>{name}</code>" in said
        assert str(field.description) in said
    assert "<td>4,321</td>" in said
    assert f"`limits.json` in `{full.home}`" in said


def test_limits_that_cannot_be_read_are_told_and_cleaning_still_works(full: Store) -> None:
    (full.home / "limits.json").write_text('{"homes": 1}')
    app = open_storage()
    assert "homes in limits.json" in app.error[0].value
    app = click(click(app, "Free 5.0 MB…"), "Delete 5.0 MB")
    assert "Freed 5.0 MB" in text_of(app)
