"""The texts tried in Compare."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import pytest
import streamlit as st

from pages import _tried

SAID = {"Teacher": ("good", 0.75), "Student": ("bad", 0.5)}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The time, which tests move by hand."""
    now = [100.0]
    monkeypatch.setattr(_tried.time, "monotonic", lambda: now[0])
    st.session_state.clear()
    yield now
    st.session_state.clear()


def texts() -> list[str]:
    return [item.text for item in _tried.ordered()]


def type_text(text: str, *, whole: bool = False, run: str = "r1") -> None:
    _tried.remember(text, run, SAID, 0.1, whole=whole)


def test_steps_on_the_way_while_typing_are_replaced(clock: list[float]) -> None:
    for text in ("a", "a g", "a go", "a good", "a bad"):
        type_text(text)
        clock[0] += 0.3
    assert texts() == ["a bad"]
    clock[0] += _tried.PAUSE
    type_text("another")
    assert texts() == ["another", "a bad"]


def test_what_came_whole_or_is_pinned_stays() -> None:
    type_text("an example", whole=True)
    type_text("typed")
    assert texts() == ["typed", "an example"]
    _tried.turn_pin("typed")
    type_text("typed on")
    assert texts() == ["typed", "typed on", "an example"]
    assert _tried.is_pinned("typed")
    _tried.turn_pin("typed")
    assert not _tried.is_pinned("typed")


def test_a_text_is_listed_once_and_keeps_its_pin() -> None:
    for text in ("one", "two", "three"):
        type_text(text, whole=True)
    _tried.turn_pin("one")
    type_text("one")
    assert texts() == ["one", "three", "two"]
    assert _tried.is_pinned("one")


def test_only_so_many_are_kept_and_pinned_ones_stay_longest() -> None:
    type_text("first", whole=True)
    _tried.turn_pin("first")
    for number in range(2 * _tried.MOST):
        type_text(str(number), whole=True)
    assert len(texts()) == _tried.MOST
    assert texts()[:2] == ["first", str(2 * _tried.MOST - 1)]


def test_the_file_holds_whole_texts_and_no_formula() -> None:
    long = "=1+" + "1" * 500
    type_text(long, whole=True)
    (row,) = csv.DictReader(io.StringIO(_tried.csv(_tried.ordered()).decode("utf-8-sig")))
    assert row == {
        "Pinned": "",
        "Text": f"'{long}",
        "Run": "r1",
        "Teacher": "good 75.0 %",
        "Student": "bad 50.0 %",
        "KL": "0.1",
    }
    (shown,) = _tried.table(_tried.ordered(), _tried.SHOWN)["Text"]
    assert len(str(shown)) == _tried.SHOWN


def test_the_same_text_of_another_run_is_a_line_of_its_own_without_what_that_run_has_not() -> None:
    type_text("a text", whole=True)
    _tried.remember("a text", "r2", {"Student": ("bad", 0.6)}, None, whole=True)
    rows = list(csv.DictReader(io.StringIO(_tried.csv(_tried.ordered()).decode("utf-8-sig"))))
    assert [(row["Run"], row["Teacher"], row["Student"], row["KL"]) for row in rows] == [
        ("r2", "", "bad 60.0 %", ""),
        ("r1", "good 75.0 %", "bad 50.0 %", "0.1"),
    ]
