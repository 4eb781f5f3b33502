"""What the text box and the coloured words make of what a browser sends, and what they send to it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import streamlit as st
from hypothesis import given
from hypothesis import strategies as some

from pages import _typed_text, _words
from pages._typed_text import clean, typed_text
from pages._words import LONGEST, MOST, Edit, Line, words

WORDS = ["a", "fine", "film"]


class Browser:
    """Stands in for a component: keeps what it is called with and answers."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}
        self.answer: dict[str, Any] = {}

    def __call__(self, **given: Any) -> dict[str, Any]:
        self.told = given["data"]
        return self.answer


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Browser:
    """Answers for both components; it starts with nothing in the session."""
    stand_in = Browser()
    monkeypatch.setattr(_typed_text, "_mount", stand_in)
    monkeypatch.setattr(_words, "_mount", stand_in)
    monkeypatch.setattr(st, "session_state", {"typed": stand_in.answer})
    return stand_in


def typed(text: str, version: int, most: int = 100) -> str:
    return typed_text(text, version, key="typed", label="Text", placeholder="Type", most=most)


def test_what_was_typed_counts_until_the_script_has_a_newer_version(browser: Browser) -> None:
    assert typed("from the script", 1) == "from the script"
    browser.answer["text"] = {"version": 1, "text": "typed"}
    assert typed("from the script", 1) == browser.told["text"] == "typed"
    assert typed("newer", 2) == browser.told["text"] == "newer"
    browser.answer["text"] = {"version": 1, "text": "typed, and late"}
    assert typed("newer", 2) == "newer"
    browser.answer["text"] = {"version": 2, "text": ""}
    assert typed("newer", 2) == ""


@pytest.mark.parametrize("sent", [None, 7, "text", ["text"], {}, {"text": "no version"}, {"version": 1, "text": 5}])
def test_a_browser_that_sends_something_else_is_not_listened_to(browser: Browser, sent: object) -> None:
    browser.answer["text"] = sent
    assert typed("from the script", 1) == "from the script"


def test_a_typed_text_is_cut_and_can_be_written_as_utf_8(browser: Browser) -> None:
    browser.answer["text"] = {"version": 1, "text": "\ud800" + "x" * 200}
    assert typed("", 1) == "?" + "x" * 99


@given(some.text(), some.integers(0, 20))
def test_a_clean_text_has_at_most_so_many_units_and_is_a_beginning(text: str, most: int) -> None:
    cut = clean(text, most)
    assert len(cut.encode("utf-16-le")) <= 2 * most
    assert text.startswith(cut)
    if len(text.encode("utf-16-le")) <= 2 * most:
        assert cut == text


def draw(scores: list[float | None], **changed: Any) -> Edit | None:
    line = Line("Teacher", "#0072B2", scores, "exact")
    given: dict[str, Any] = {"words": WORDS, "gaps": ["", " ", " "], "lines": [line], "marked": {1}, **changed}
    return words(given["words"], given["gaps"], given["lines"], given["marked"], key="words", label="Words")


def test_scores_are_numbers_that_json_has_within_one(browser: Browser) -> None:
    draw([float("nan"), float("inf"), None])
    assert browser.told["lines"][0]["scores"] == [None, None, None]
    draw([-3.0, 1.5, 0.123456])
    assert browser.told["lines"][0]["scores"] == [-1.0, 1.0, 0.1235]
    json.dumps(browser.told, allow_nan=False)


def test_white_space_is_a_break_a_space_or_nothing(browser: Browser) -> None:
    draw([0.0, 0.0, 0.0], gaps=["", " \r\n\n ", "\t  "])
    assert browser.told["gaps"] == ["", "\n", " "]


def test_of_a_long_text_the_first_words_are_sent(browser: Browser) -> None:
    count = MOST + 25
    many = {"words": ["x"] * count, "gaps": [" "] * count, "lines": [Line("Student", "#D55E00", [0.5] * count, "")]}
    draw([], **many, marked={3, MOST + 1})
    told = browser.told
    assert len(told["words"]) == len(told["gaps"]) == len(told["lines"][0]["scores"]) == MOST
    assert (told["more"], told["marked"]) == (25, [3])


def test_as_many_gaps_and_scores_as_words_are_needed(browser: Browser) -> None:
    with pytest.raises(ValueError, match="scores of Teacher must be as many as the words, 3, got 1"):
        draw([0.1])
    with pytest.raises(ValueError, match="gaps must be as many as the words, 3, got 2"):
        draw([0.1, 0.1, 0.1], gaps=["", " "])


def asked(browser: Browser, **changed: Any) -> Edit | None:
    browser.answer["edit"] = {"what": "replace", "place": 1, "word": " good ", "was": "fine", **changed}
    return draw([0.1, 0.1, 0.1])


def test_an_edit_is_what_was_asked_for(browser: Browser) -> None:
    assert draw([0.1, 0.1, 0.1]) is None
    assert asked(browser) == Edit("replace", 1, "good")
    assert asked(browser, what="drop") == Edit("drop", 1, "")
    assert asked(browser, what="mask", word="") == Edit("mask", 1, "")
    long = asked(browser, word="\udfff" + "y" * 999)
    assert long == Edit("replace", 1, "?" + "y" * (LONGEST - 1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"what": "delete"},
        {"what": ["drop"]},
        {"place": 3},
        {"place": -2},
        {"place": True},
        {"place": "1"},
        {"word": None},
        {"word": "  "},
        {"was": "film"},
    ],
)
def test_an_edit_that_makes_no_sense_or_comes_too_late_is_none(browser: Browser, wrong: dict[str, Any]) -> None:
    assert asked(browser, **wrong) is None
    browser.answer["edit"] = "drop"
    assert draw([0.1, 0.1, 0.1]) is None
