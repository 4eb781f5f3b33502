"""Whole sets without a browser: what is asked, shown, listed, opened and exported; hostile texts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from distill_core.analysis import agreement, asking, textset
from distill_core.analysis.agreement import SetAnswers
from distill_core.analysis.asking import Key
from distill_core.data.sources import load
from distill_core.store import Store
from pages import _exports, _set_charts, _set_figures, _set_lists, _whole_set
from tests.runs import config_of, made_rows, run, write_csv

APP = Path(__file__).parent / "browser" / "apps" / "whole_set_app.py"
HOSTILE = (
    "<script>alert(1)</script>",
    "=HYPERLINK(1)",
    "![x](http://127.0.0.1:9/x.png)",
    "\u05d0\u05d1 \u202eabc",
    "e\u0301\u0302",
    "a\x07\x1bb",
    "x " * 20_000,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A home folder in which one small run has finished."""
    store = Store(tmp_path_factory.mktemp("home"))
    run(store, config_of(write_csv(tmp_path_factory.mktemp("files") / "reviews.csv", made_rows(120))))
    return store


@pytest.fixture
def home(trained: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The same, with no job from another test."""
    yield from _entered(trained, monkeypatch)


def _entered(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("DISTILL_HOME", str(store.home))
    monkeypatch.setattr(_whole_set._session, "warm_up", lambda: None)
    streamlit.cache_resource.clear()
    yield store
    for job in list(asking._jobs.values()):
        asking.forget(job)
        job.wait(20)


def opened(**state: Any) -> AppTest:
    app = AppTest.from_file(str(APP), default_timeout=60)
    for name, value in state.items():
        app.session_state[name.replace("__", ".")] = value
    app.run()
    assert not app.exception, app.exception
    return app


def asked(app: AppTest) -> AppTest:
    """Presses the button, and waits for the answers."""
    app.button(key="compare.set.ask").click().run()
    assert not app.exception, app.exception
    job = next(reversed(asking._jobs.values()))
    assert job.wait(60)
    app.run()
    assert not app.exception, app.exception
    return app


def pasted(text: str) -> AppTest:
    app = opened(compare__set__source="Pasted list")
    app.text_area(key="compare.set.pasted").set_value(text).run()
    return asked(app)


def text_of(app: AppTest) -> str:
    return "\n".join(item.value for kind in (app.markdown, app.caption, app.error, app.info) for item in kind)


def charts_of(app: AppTest) -> list[dict[str, Any]]:
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def lists_of(app: AppTest) -> list[str]:
    (group,) = [group for group in app.get("button_group") if group.proto.label == "List"]
    return [option.content for option in group.proto.options]


# What is asked


def test_the_test_texts_are_asked_about_and_shown(home: Store) -> None:
    app = opened()
    (run_id,) = home.run_ids()
    count = (home.result(run_id) or {})["sizes"]["test"]
    assert app.button(key="compare.set.ask").label == f"Ask about the {count:,} test texts"
    asked(app)
    result = home.result(run_id) or {}
    metrics = {metric.label: metric.value for metric in app.metric}
    assert metrics["Agreement"] == f"{100 * result['student']['agreement']:.1f} %"
    assert metrics["Student right"] == f"{100 * result['student']['test_accuracy']:.1f} %"
    matrix, scatter, reliability, accuracy = charts_of(app)
    assert sum(int(text) for text in matrix["data"][0]["text"]) == count
    assert [line["name"].split(" ")[0] for line in scatter["data"]] == ["agree", "disagree"]
    assert [line["name"] for line in reliability["data"]] == ["teacher", "student alone", "student"]
    assert [line["name"] for line in accuracy["data"]] == ["teacher", "student alone", "student"]
    assert len(app.dataframe[0].value) == count
    assert set(app.dataframe[0].value["Text"]) == set(load(home.config(run_id).data, home.data_folder).test.texts)
    assert lists_of(app)[:2] == ["Furthest apart", "Sure, but not agreed"]
    assert "compare.set.ask" not in {button.key for button in app.button}


def test_another_session_comes_back_to_the_answers(home: Store) -> None:
    asked(opened())
    assert len(charts_of(opened())) == 4


def test_a_pasted_list_has_no_labels_and_says_so(home: Store) -> None:
    app = pasted("a warm film\n\na dull plot\na clever and moving story\n")
    assert "3 texts of the list · none with a label · 1 empty left out" in text_of(app)
    assert "nobody can say who is right" in text_of(app)
    assert len(charts_of(app)) == 2
    assert lists_of(app) == ["Furthest apart", "Sure, but not agreed"]
    assert "Label" not in app.dataframe[0].value.columns
    assert app.button(key="compare.set.ask").disabled
    app.text_area(key="compare.set.pasted").set_value("another").run()
    assert not app.button(key="compare.set.ask").disabled


def test_labels_of_a_pasted_table_are_used(home: Store) -> None:
    app = pasted("a warm film\tgood\na dull plot\tbad\nno label\n")
    assert "2 of them with a label" in text_of(app)
    assert len(charts_of(app)) == 4


def test_hostile_texts_break_nothing(home: Store) -> None:
    app = pasted("\n".join(HOSTILE))
    assert "7 texts of the list" in text_of(app)
    assert all(text.isprintable() or "\u202e" in text for text in app.dataframe[0].value["Text"])
    assert max(len(text) for text in app.dataframe[0].value["Text"]) <= 160
    shown = text_of(app) + "".join(chart.proto.spec for chart in app.get("plotly_chart"))
    assert "<script" not in shown
    assert "![x]" not in shown


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("mine.csv", "text,label\na warm film,good\na dull plot,odd\n", "'odd'"),
        ("mine.txt", "\n \n\n", "got 3 empty lines"),
        ("![x](http://127.0.0.1:9).csv", "a,b\n1,2\n", "none called text"),
    ],
)
def test_a_file_is_asked_about_or_refused_with_reasons(home: Store, name: str, content: str, said: str) -> None:
    path = home.keep_upload(name, content.encode())
    app = asked(opened(compare__set__source="A file", compare__set__file=(str(path), name)))
    assert said.replace(" ", "") in text_of(app).replace("\\", "").replace(" ", "")
    assert "![" not in text_of(app)
    assert str(path) not in text_of(app)
    assert bool(charts_of(app)) == ("odd" in content)


def test_data_that_have_changed_are_refused(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textset.sources, "load", lambda *rest: load(home.config(home.run_ids()[0]).data, *rest[1:]))
    monkeypatch.setattr(Store, "result", lambda self, run_id: {**_result(home), "sizes": {"test": 3}})
    app = asked(opened())
    assert "they have changed" in app.error[0].value
    assert not app.button(key="compare.set.ask").disabled


def _result(store: Store) -> dict[str, Any]:
    (run_id,) = store.run_ids()
    content: dict[str, Any] = json.loads((store.run_folder(run_id) / "result.json").read_text())
    return content


def test_a_job_shows_how_far_it_is_and_can_be_cancelled(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(store: Store, run_id: str, check: Any, progress: Any) -> Any:
        while True:
            progress("Reading *the* texts", 0.25)

    monkeypatch.setattr(textset, "read_test_split", endless)
    app = opened()
    app.button(key="compare.set.ask").click().run()
    (job,) = asking._jobs.values()
    app.run()
    assert app.button(key="compare.set.ask").disabled
    assert app.get("progress")[0].proto.text in (r"Reading \*the\* texts", "Waiting for others who ask")
    app.button(key="compare.set.cancel").click().run()
    assert job.wait(20)
    app.run()
    assert not app.exception
    assert "Cancelled" in text_of(app)
    assert not app.button(key="compare.set.ask").disabled


# Teachers that are files


def test_a_teacher_that_is_a_file_leaves_the_student_alone_to_compare_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "home")
    rows = [
        {**row, "teacher_bad": float(row["label"] == "bad"), "teacher_good": float(row["label"] == "good")}
        for row in made_rows(60)
    ]
    run(store, config_of(write_csv(tmp_path / "reviews.csv", rows), "teacher.kind=file"))
    entering = _entered(store, monkeypatch)
    next(entering)
    app = asked(opened())
    assert "compared with the same student alone" in text_of(app)
    assert [metric.label for metric in app.metric][1] == "KL(student‖student alone)"
    monkeypatch.setattr(Store, "result", lambda self, run_id: {**_result(store), "baseline": None})
    assert "there is nobody to compare the student with" in text_of(opened())
    next(entering, None)


# Choosing and opening


def test_clicks_in_charts_choose_a_list_and_letting_go_takes_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    key, state = Key("/home", "a", "test"), dict[str, Any]()
    monkeypatch.setattr(streamlit, "session_state", state)
    state["matrix"] = {"selection": {"points": [{"customdata": [0, 1]}]}}
    _set_charts._choose_cell("matrix", key)
    assert state[_set_lists.CHOICE] == {"job": key, "cell": [0, 1]}
    assert state[_set_lists.LIST] == _set_lists.CHOSEN
    state["scatter"] = {"selection": {"points": [{"customdata": 7}, {"customdata": [3]}, {"customdata": 7}]}}
    _set_charts._choose_points("scatter", key)
    assert state[_set_lists.CHOICE] == {"job": key, "rows": [3, 7]}
    state["scatter"] = {"selection": {"points": []}}
    _set_charts._choose_points("scatter", key)
    assert _set_lists.CHOICE not in state
    assert _set_lists.LIST not in state


def test_a_click_opens_the_text_once(monkeypatch: pytest.MonkeyPatch) -> None:
    state: dict[str, Any] = {_set_lists.VERSION: 3, "rows": {"selection": {"cells": [(1, "Text")]}}}
    monkeypatch.setattr(streamlit, "session_state", state)
    found = list[str]()
    _set_lists._open("rows", ["one", "two"], found.append)
    assert found == ["two"]
    assert state[_set_lists.VERSION] == 4
    state["rows"] = {"selection": {"cells": []}}
    _set_lists._open("rows", ["one", "two"], found.append)
    assert (found, state[_set_lists.VERSION]) == (["two"], 4)


def test_a_chosen_cell_lists_its_texts_and_is_forgotten_with_another_job(home: Store) -> None:
    app = asked(opened())
    (job,) = asking._jobs.values()
    assert job.result is not None
    matrix = agreement.agreement_matrix(job.result)
    app.session_state[_set_lists.CHOICE] = {"job": job.key, "cell": [1, 1]}
    app.run()
    assert lists_of(app)[-1] == "Teacher good, student good"
    (group,) = [group for group in app.get("button_group") if group.proto.label == "List"]
    group.set_value(_set_lists.CHOSEN).run()
    assert not app.exception
    assert len(app.dataframe[0].value) == matrix[1][1]
    assert set(app.dataframe[0].value["Student"]) == {"good"}
    app.session_state[_set_lists.CHOICE] = {"job": Key("/other", "x", "test"), "cell": [1, 1]}
    app.run()
    assert not app.exception
    assert lists_of(app)[-1] == "Teacher right, student wrong"


def many_classes() -> None:
    """A page of 25 classes."""
    import torch

    from distill_core.analysis.agreement import SetAnswers
    from distill_core.analysis.asking import Asking, Key
    from distill_core.analysis.predict import Predictor
    from distill_core.analysis.textset import TextSet
    from distill_core.data.vocabulary import Vocabulary
    from pages import _whole_set

    def read_nothing(check: object, progress: object) -> TextSet:
        return TextSet((), None)

    torch.manual_seed(0)
    logits = {role: torch.randn(300, 25) for role in ("teacher", "student")}
    names = tuple(f"<b>{number}</b>" for number in range(25))
    answers = SetAnswers(
        ("a text",) * 300, (1,) * 300, logits, torch.ones(300, dtype=torch.long), torch.zeros(300), names
    )
    job = Asking(
        Key("/home", "a", "test"), read_nothing, lambda: Predictor((), Vocabulary([]), 1, {})
    )  # it never starts
    _whole_set._results(job, answers, print)


def test_of_many_classes_a_table_lists_the_largest_cells(home: Store) -> None:
    app = AppTest.from_function(many_classes, default_timeout=60).run()
    assert not app.exception, app.exception
    table = app.dataframe[0].value
    assert list(table.columns) == ["Teacher", "Student", "Texts"]
    assert table["Texts"].is_monotonic_decreasing
    assert (table["Teacher"] != table["Student"]).all()
    assert len(charts_of(app)) == 3


# Figures, exports, lines


def small_answers() -> SetAnswers:
    import torch

    logits = {"teacher": torch.tensor([[2.0, 0.0], [0.0, 1.0]]), "student": torch.tensor([[1.0, 0.0], [1.0, 0.0]])}
    return SetAnswers(("one", "two"), None, logits, torch.ones(2), torch.zeros(2), ("<a href='x'>a</a>", "b" * 60))


def test_figures_escape_and_cut_labels_and_say_which_cell_is_meant() -> None:
    answers = small_answers()
    counts = agreement.agreement_matrix(answers)
    figure = json.loads(_set_figures.matrix_figure(counts, answers.label_names, "teacher", "#123456").to_json())
    assert figure["data"][0]["customdata"] == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert figure["data"][0]["text"] == ["1", "0", "1", "0"]
    assert "<a" not in json.dumps(figure)
    assert max(len(name) for name in figure["layout"]["xaxis"]["ticktext"]) < 40
    scatter = _set_figures.scatter_figure(agreement.points(answers, 0), answers.label_names[0], "teacher")
    assert [list(line["customdata"]) for line in scatter.data] == [[0], [1]]
    assert "<a" not in scatter.to_json()


@given(st.text(max_size=30))
def test_no_cell_of_an_export_is_a_formula_and_all_come_back(text: str) -> None:
    safe = _exports.spreadsheet_safe(text)
    assert not safe.startswith(("=", "+", "-", "@", "\t", "\r"))
    whole = text.encode("utf-8", "replace").decode()
    assert safe in (whole, f"'{whole}")


def test_an_export_has_numbers_as_numbers_and_names_escaped() -> None:
    content = _exports.as_csv({"text": ["=1+1", "plain, \n<b>"], "=kl": [-0.5, None]})
    assert content.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    assert rows == [["text", "'=kl"], ["'=1+1", "-0.5"], ["plain, \n<b>", ""]]


@given(st.text(max_size=400))
def test_a_line_is_one_line_without_control_characters(text: str) -> None:
    line = _set_lists.one_line(text)
    assert len(line) <= 160
    assert not set(line) & {chr(number) for number in [*range(32), *range(127, 160)]}
    assert line.encode("utf-8").decode() == line


def test_a_job_that_has_a_bug_is_loud_once(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(textset, "read_test_split", broken)
    app = opened()
    app.button(key="compare.set.ask").click().run()
    for job in asking._jobs.values():
        assert job.wait(20)
        app.run()
    assert "ZeroDivisionError" in str(app.exception)
    app.run()
    assert not app.exception
    assert not app.button(key="compare.set.ask").disabled
