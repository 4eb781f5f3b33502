"""A home folder in which any file may be torn, empty, garbage or a folder: the lab starts, and says what is wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from distill_core.executor import executor_of
from distill_core.store import Store
from pages import _identity
from tests.runs import config_of, made_rows, write_csv
from tests.test_pages import go

ROOT = Path(__file__).parents[1]
FILES = (
    "runs/*/config.json",
    "runs/*/status.json",
    "runs/*/events.jsonl",
    "runs/*/result.json",
    "runs/*/vocabulary.json",
    "runs/*/student.safetensors",
    "runs/*/notes.json",
    "runs/*/control.json",
    "tokens/*/profile.json",
    "tokens/*/tokens.safetensors",
    "limits.json",
    "drafts/*.json",
)


def torn(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def overwritten(file: Path) -> None:
    file.write_bytes(os.urandom(200))


def replaced_by_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with a finished run, notes, limits, and settings of a browser."""
    from distill_core.status import Notes
    from distill_core.worker import work

    folder = tmp_path_factory.mktemp("whole")
    store = Store(folder / "home")
    run_id = store.create_run(config_of(write_csv(folder / "reviews.csv", made_rows(60))), owner="o" * 32)
    work(run_id, store)
    store.write_notes(run_id, Notes("a name", ("one",), "a note"))
    store.ask(run_id, "run")
    store.write_draft("o" * 32, {"settings": {"objective.beta": 3.0}, "run": None})
    (store.home / "limits.json").write_text('{"workers": 1}')
    return store.home


@pytest.mark.slow
@pytest.mark.parametrize("damage", [torn, overwritten, replaced_by_a_folder])
@pytest.mark.parametrize("pattern", FILES)
def test_the_lab_starts_and_shows_the_rest(
    whole: Path, tmp_path: Path, pattern: str, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    shutil.copytree(whole, home)
    for file in home.glob(pattern):
        damage(file)
    monkeypatch.setenv("DISTILL_HOME", str(home))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(_identity, "is_local", lambda: True)
    monkeypatch.setattr(_identity, "owner", lambda: "o" * 32)
    monkeypatch.setattr("pages._session.owner", lambda: "o" * 32)
    st.cache_resource.clear()
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    try:
        assert not app.exception, app.exception
        for page in ("runs", "compare", "train"):
            go(app, page)
            assert not app.exception, (page, app.exception)
    finally:
        executor_of(Store(home)).close()
