"""The page Runs without a browser: the table, what is chosen in it, names, comparison, deleting, archives."""

from __future__ import annotations

import io
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from distill_core import archive
from distill_core.config import RunConfig, parse
from distill_core.errors import RunError
from distill_core.events import Epoch, RunFailed, RunFinished, RunStarted, StageFinished, StageStarted, Step
from distill_core.executor import executor_of
from distill_core.status import Notes, short
from distill_core.store import Store
from pages import _identity, _run_actions, _run_rows

ROOT = Path(__file__).parents[1]
ENTRY = {
    "architecture": "LSTM",
    "parameters": 1000,
    "bytes": 4000,
    "latency_ms": 1.0,
    "val_accuracy": 0.8,
    "macro_f1": 0.8,
    "ece": 0.05,
    "nll": 0.5,
    "train": {"accuracy": 0.9},
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An empty home folder, whose executor is closed in the end."""
    monkeypatch.setenv("DISTILL_HOME", str(tmp_path))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(_identity, "is_local", lambda: True)  # AppTest tells no address
    st.cache_resource.clear()
    store = Store(tmp_path)
    yield store
    executor_of(store).close()


def made(store: Store, *, reached: float = 0.8, owner: str | None = None, **settings: Any) -> str:
    """A run that looks finished, without models."""
    run_id = store.create_run(parse(settings), state="running", owner=owner)
    result: dict[str, Any] = {
        "run_id": run_id,
        "labels": ["bad", "good"],
        "teacher": {**ENTRY, "test_accuracy": 0.9},
        "student": {**ENTRY, "test_accuracy": reached, "kl": 0.1, "agreement": 0.9},
        "baseline": {**ENTRY, "test_accuracy": 0.7, "kl": 0.2, "agreement": 0.8},
        "retention": reached / 0.9,
        "gain": reached - 0.7,
        "gain_margin": 0.02,
        "seeds": None,
        "seconds": {"distil": 2.0},
    }
    with store.event_log(run_id) as emit:
        emit(RunStarted(run_id, ("distil", "test"), "cpu", "float32"))
        emit(StageStarted("distil", 2))
        emit(Step("distil", 1, 8, 0.5, 0.2, 0.9, 0.01))
        emit(Epoch("distil", 1, "val", reached, 0.5))
        emit(StageFinished("distil", 2.0, reached))
    store.write_result(run_id, result)
    store.end_run(run_id, RunFinished())
    return run_id


def opened(**state: Any) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app.run()
    app.session_state["page"] = "runs"
    for name, value in state.items():
        app.session_state[name] = value
    app.switch_page("pages/runs.py").run()
    assert not app.exception, app.exception
    return app


def tick(app: AppTest, *places: int) -> AppTest:
    """Has these lines of the table ticked, and no others."""
    app.session_state["runs.table"] = {"selection": {"rows": list(places), "columns": [], "cells": []}}
    app.run()
    assert not app.exception, app.exception
    return app


def table_of(app: AppTest) -> Any:
    return app.dataframe[0].value


def text_of(app: AppTest) -> str:
    parts = [item.value for kind in (app.markdown, app.caption, app.error, app.info) for item in kind]
    return "\n".join([*parts, *(str(item.proto.body) for item in app.get("html"))])


def charts_of(app: AppTest) -> list[dict[str, Any]]:
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def keys_of(app: AppTest) -> set[str]:
    return {button.key for button in app.button}


# The table


def test_runs_are_listed_latest_first_with_what_they_are_and_reached(home: Store) -> None:
    first = made(home, reached=0.8)
    time.sleep(1.1)  # ids are told apart by their second
    failed = home.create_run(parse({"teacher": {"kind": "pretrained"}}), state="running")
    home.end_run(failed, RunFailed("the disk is full"))
    table = table_of(opened())
    assert table["Run"].tolist() == [short(failed), short(first)]
    assert table["Status"].tolist() == ["Failed", "Finished"]
    assert table["Models"].tolist() == ["all-MiniLM-L6-v2 → M", "M → M"]
    assert table["Data"].tolist() == ["Movie reviews"] * 2
    assert table["Student %"].tolist()[1] == 80
    assert table["Alone %"].tolist()[1] == 70
    assert table["Kept %"].tolist()[1] == pytest.approx(100 * 0.8 / 0.9)
    assert table["Student %"].isna().tolist() == [True, False]


def test_a_file_of_ones_own_is_called_as_its_owner_calls_it(home: Store) -> None:
    made(home, data={"name": "csv", "path": "uploads/0123.csv"})
    assert table_of(opened())["Data"].tolist() == ["0123.csv"]
    named = opened(**{"upload.names": {"uploads/0123.csv": "film reviews.csv"}})
    assert table_of(named)["Data"].tolist() == ["film reviews.csv"]


@pytest.mark.parametrize("baseline", [True, False])
def test_runs_of_several_seeds_are_listed_with_their_means(home: Store, baseline: bool) -> None:
    run_id = made(home)
    result = home.result(run_id)
    assert result is not None
    seeds = {
        "count": 2,
        "student": {"mean": 0.25, "std": 0.125},
        "baseline": {"mean": 0.5, "std": 0} if baseline else None,
    }
    home.write_result(run_id, {**result, "seeds": seeds, "baseline": result["baseline"] if baseline else None})
    line = table_of(opened()).iloc[0]
    assert (line["Student %"], line["±"], line["Teacher %"]) == (25, 12.5, 90)
    assert line["Alone %"] == 50 if baseline else line.isna()["Alone %"]


def test_empty_cells_are_blank(home: Store) -> None:
    home.create_run(RunConfig())
    app = opened()
    assert app.dataframe[0].proto.placeholder == ""


def test_a_folder_that_cannot_be_read_is_listed_and_can_be_deleted(home: Store) -> None:
    good = made(home)
    broken = {
        "20260101-000000-000001": {"status.json": "{"},
        "20260101-000000-000002": {"status.json": '{"run_id": 1}'},
        "20260101-000000-000003": {"status.json": '{"run_id": "x", "status": "odd", "created": "now"}'},
        "20260101-000000-000004": {"status.json": "[]", "config.json": "{}"},
    }
    for run_id, contents in broken.items():
        home.run_folder(run_id).mkdir(parents=True)
        for name, content in contents.items():
            (home.run_folder(run_id) / name).write_text(content)
    (home.run_folder(good) / "notes.json").write_text("nonsense")
    app = opened()
    assert table_of(app)["Status"].tolist() == ["Finished", *["Unreadable"] * 4]
    tick(app, 1)
    assert "cannot be read" in text_of(app)
    app.button(key="runs.delete").click().run()
    assert not app.exception
    assert len(home.run_ids()) == 4
    tick(app, 0, 1, 2)
    assert "Comparison" in text_of(app)
    assert not app.exception


@pytest.mark.parametrize(
    "content", ["{}", '{"student": 5}', '{"teacher": {"test_accuracy": "x"}, "student": {}}', "[]"]
)
def test_a_result_that_cannot_be_read_breaks_nothing(home: Store, content: str) -> None:
    run_id = made(home)
    (home.run_folder(run_id) / "result.json").write_text(content)
    app = opened()
    assert table_of(app)["Status"].tolist() == ["Unreadable"]
    tick(app, 0)


def test_five_hundred_runs_are_read_once_and_only_looked_at_after_that(
    home: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = made(home)
    for number in range(499):
        shutil.copytree(home.run_folder(run_id), home.run_folder(f"20250101-000000-{number:06x}"))
    assert len(_run_rows.rows(home)) == 500
    asked: list[str] = []
    monkeypatch.setattr(Store, "config", lambda self, run_id: asked.append(run_id) or RunConfig())
    started = time.perf_counter()
    assert len(_run_rows.rows(home)) == 500
    assert time.perf_counter() - started < 1
    assert asked == []
    home.write_notes(run_id, Notes("another"))
    assert next(row for row in _run_rows.rows(home) if row.run_id == run_id).name == "another"
    assert asked == [run_id]


# Search and choice


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", {"first", "second"}),
        ("FIRST", {"first"}),
        ("tag-b", {"second"}),
        ("bbc", {"second"}),
        ("news", {"second"}),
        ("finished xs", {"second"}),
        ("news first", set()),
        ("finished", {"first", "second"}),
        ("(", set()),
    ],
)
def test_a_search_finds_runs_that_have_all_its_words(home: Store, search: str, found: set[str]) -> None:
    home.write_notes(made(home), Notes("first", ("tag-a",)))
    home.write_notes(made(home, data={"name": "bbc_news"}, student={"size": "XS"}), Notes("second", ("tag-b",)))
    app = opened()
    app.text_input(key="runs.search").set_value(search).run()
    assert not app.exception
    assert set(table_of(app)["Run"]) == found


def test_a_run_is_found_by_its_id(home: Store) -> None:
    run_id = made(home)
    home.write_notes(run_id, Notes("named"))
    app = opened()
    app.text_input(key="runs.search").set_value(short(run_id)).run()
    assert table_of(app)["Run"].tolist() == ["named"]


def test_what_is_chosen_stays_chosen_when_runs_are_hidden_or_added(home: Store) -> None:
    first = made(home)
    home.write_notes(first, Notes("first"))
    app = tick(opened(), 0)
    assert "Run" in text_of(app)
    time.sleep(1.1)
    second = made(home, reached=0.85)
    home.write_notes(second, Notes("second"))
    app.run()
    assert table_of(app)["Run"].tolist() == ["second", "first"]
    assert app.session_state["runs.chosen"] == [first]
    assert app.session_state["runs.table"]["selection"]["rows"] == [1]
    app.text_input(key="runs.search").set_value("second").run()
    assert app.session_state["runs.chosen"] == [first]
    assert "1 of them hidden by the search" in text_of(app)
    tick(app, 0)
    assert app.session_state["runs.chosen"] == [first, second]
    assert "Comparison" in text_of(app)
    app.button(key="runs.none").click().run()
    assert app.session_state["runs.chosen"] == []


def test_more_than_eight_are_not_compared(home: Store) -> None:
    for _ in range(9):
        made(home)
    app = tick(opened(), *range(9))
    assert "Up to 8 runs can be compared; 9 are chosen" in app.info[0].value
    assert app.get("plotly_chart") == []
    app.button(key="runs.delete").click().run()
    assert home.run_ids() == []


# One run


def test_one_that_is_chosen_shows_verdict_charts_and_settings(home: Store) -> None:
    run_id = made(home)
    app = tick(opened(), 0)
    assert "lab-verdict" in text_of(app)
    assert len(charts_of(app)) == 2
    settings = next(frame.value for frame in app.dataframe if "Setting" in frame.value.columns)
    assert settings.set_index("Name").loc["objective.beta"].tolist() == ["β (how much the teacher counts)", "2"]
    assert app.session_state["run"] == run_id


def test_a_name_tags_and_a_note_are_kept(home: Store) -> None:
    run_id = made(home)
    app = tick(opened(), 0)
    app.text_input(key=f"runs.name.{run_id}").set_value("  the  article ").run()
    app.multiselect(key=f"runs.tags.{run_id}").set_value(["small", "slow"]).run()
    app.text_area(key=f"runs.note.{run_id}").set_value("as it stands").run()
    assert not app.exception
    assert home.notes(run_id) == Notes("the article", ("slow", "small"), "as it stands")
    assert table_of(app)["Run"].tolist() == ["the article"]
    assert list(table_of(app)["Tags"][0]) == ["slow", "small"]
    assert tick(opened(), 0).text_input(key=f"runs.name.{run_id}").value == "the article"


def test_a_name_is_shown_as_it_is(home: Store) -> None:
    name = "<b>x</b> *y* $z$ [a](b)"
    home.write_notes(made(home), Notes(name))
    app = tick(opened(), 0)
    assert "<b>x" not in text_of(app)
    assert "&lt;b&gt;x" in text_of(app)
    app.button(key="runs.delete").click().run()
    assert _run_actions.plain(name) in text_of(app)


def test_settings_are_opened_in_train(home: Store) -> None:
    made(home, objective={"beta": 3.5})
    app = tick(opened(), 0)
    app.button(key="runs.reuse").click().run()
    assert app.session_state["draft"]["objective.beta"] == 3.5


def test_others_may_look_and_copy_but_not_change(home: Store) -> None:
    run_id = made(home, owner="somebody else")
    app = tick(opened(), 0)
    assert app.text_input(key=f"runs.name.{run_id}").disabled
    assert app.multiselect(key=f"runs.tags.{run_id}").disabled
    assert app.text_area(key=f"runs.note.{run_id}").disabled
    assert app.button(key="runs.delete").disabled
    assert "Only who started this run" in app.button(key="runs.delete").help
    assert not app.button(key="runs.reuse").disabled
    with pytest.raises(RunError):
        Store(home.home).restore_run(run_id)


def test_a_forged_request_of_others_changes_nothing(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = made(home, owner="somebody else")
    monkeypatch.setattr(_identity, "may_manage", lambda status: False)
    monkeypatch.setattr(st, "session_state", {"runs.chosen": [run_id]})
    _run_actions.delete([run_id])
    assert home.run_ids() == [run_id]


def test_a_run_that_waits_cannot_be_deleted(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill_core.executor.Executor._serve", lambda self: None)
    home.create_run(RunConfig())
    app = tick(opened(), 0)
    assert app.button(key="runs.delete").disabled
    assert "stop it on Train first" in app.button(key="runs.delete").help


# Several runs


def test_two_runs_are_compared_by_curves_results_and_settings(home: Store) -> None:
    ids = [made(home, reached=0.8), made(home, reached=0.85, objective={"beta": 4})]
    for run_id, name in zip(ids, ("one", "two"), strict=True):
        home.write_notes(run_id, Notes(name))
    app = opened()
    places = {name: place for place, name in enumerate(table_of(app)["Run"])}
    tick(app, places["one"])
    tick(app, places["one"], places["two"])
    accuracy, loss = charts_of(app)
    assert [line["name"] for line in accuracy["data"]] == ["one", "two"]
    assert len({line["line"]["color"] for line in accuracy["data"]}) == 2
    assert [line["line"] for line in loss["data"]] == [line["line"] for line in accuracy["data"]]
    results, settings = (frame.value for frame in app.dataframe[1:3])
    assert results.loc["Student"].tolist() == ["80.0 %", "85.0 % (+5.0) ★"]
    assert settings.loc["β (how much the teacher counts)"].tolist() == ["2", "4"]
    assert len(settings) == 1
    app.selectbox(key="runs.reference").set_value(ids[1]).run()
    assert app.dataframe[1].value.loc["Student"].tolist() == ["80.0 % (-5.0)", "85.0 % ★"]
    app.get("button_group")[0].set_value("KL").run()
    assert not app.exception
    assert charts_of(app)[1]["data"][0]["y"] == [0.2] or "bdata" in str(charts_of(app)[1]["data"][0]["y"])


def test_runs_of_the_same_settings_are_said_to_be_so(home: Store) -> None:
    made(home), made(home)
    assert "all settings of these runs are the same" in text_of(tick(opened(), 0, 1))


# Deleting


def test_what_was_deleted_can_be_brought_back_until_others_are(home: Store) -> None:
    run_id, other = made(home), made(home)
    app = opened(run=run_id)
    place = table_of(app)["Run"].tolist().index(short(run_id))
    tick(app, place)
    app.button(key="runs.delete").click().run()
    assert not app.exception
    assert home.run_ids() == [other]
    assert "run" not in app.session_state, "no page goes on with what is gone"
    assert f"Deleted {short(run_id)}" in text_of(app)
    app.run()
    assert f"Deleted {short(run_id)}" in text_of(app), "it stays until it is used"
    app.button(key="runs.undo").click().run()
    assert set(home.run_ids()) == {run_id, other}
    assert app.session_state["runs.chosen"] == [run_id]
    assert "runs.undo" not in keys_of(app)


def test_several_are_deleted_and_brought_back_at_once(home: Store) -> None:
    ids = {made(home) for _ in range(3)}
    app = tick(opened(), 0, 1, 2)
    app.button(key="runs.delete").click().run()
    assert home.run_ids() == []
    assert "runs.undo" in keys_of(app)
    app.button(key="runs.undo").click().run()
    assert set(home.run_ids()) == ids


def test_bringing_back_what_is_gone_is_said(home: Store) -> None:
    run_id = made(home)
    app = tick(opened(), 0)
    app.button(key="runs.delete").click().run()
    shutil.rmtree(home.home / "trash" / run_id)
    app.button(key="runs.undo").click().run()
    assert "it is gone" in app.error[0].value


# Archives


def test_an_archive_that_is_refused_says_why(home: Store) -> None:
    made(home)
    app = opened()
    app.file_uploader[0].upload("run.zip", b"garbage", "application/zip").run()
    assert not app.exception
    assert "must be a zip file" in app.error[0].value


def test_an_archive_joins_the_runs_and_is_chosen(home: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = Store(tmp_path_factory.mktemp("other"))
    failed = other.create_run(RunConfig(), owner="their hash")
    other.end_run(failed, RunFailed("the disk is full"))
    file = io.BytesIO()
    archive.export_run(other, failed, file)
    app = opened()
    app.file_uploader[0].upload("run.zip", file.getvalue(), "application/zip").run()
    assert not app.exception
    assert home.run_ids() == [failed]
    assert home.status(failed).owner not in (None, "their hash")
    assert app.session_state["runs.chosen"] == [failed]
    assert "the disk is full" in text_of(app)
    assert not app.button(key="runs.delete").disabled


def test_why_a_run_cannot_be_exported_is_kept_for_the_page(home: Store) -> None:
    run_id, problems = made(home), dict[str, str]()
    with pytest.raises(RunError):
        _run_actions.packed(run_id, problems)
    assert "vocabulary.json" in problems[run_id]
    app = tick(opened(**{"runs.unpacked": dict(problems)}), 0)
    assert "vocabulary.json" in app.error[0].value


def test_rows_follow_files_whose_times_are_turned_back(home: Store) -> None:
    run_id = made(home)
    assert _run_rows.row(home, run_id).name == short(run_id)
    home.write_notes(run_id, Notes("a"))
    os.utime(home.run_folder(run_id) / "notes.json", (0, 0))
    assert _run_rows.row(home, run_id).name == "a"
