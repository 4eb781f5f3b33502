"""Words of a text, where they stand, and texts with a word changed."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distill_core.analysis.words import Words
from distill_core.data.augment import MASK
from distill_core.data.vocabulary import tokenize

texts = st.text(
    st.one_of(st.sampled_from(list("ab '\".,()!?;:<br />[MASK]\n\t日本ก็ΣİŞß\u0301\u202e\x00")), st.characters()),
    max_size=30,
)


@given(texts)
@example('wo"rd <br /> x<br />y')
@example(f"a {MASK}b{MASK}")
@example("日本 film です。")
def test_reading_word_by_word_gives_the_tokens_of_the_whole_text(text: str) -> None:
    assert Words.of(text).tokens() == tokenize(text)


@given(texts)
def test_words_and_gaps_make_up_the_text(text: str) -> None:
    words = Words.of(text)
    pieces = "".join(gap + word for gap, word in zip(words.gaps, words.shown, strict=True))
    assert text.startswith(pieces)
    assert len(words) == len(words.shown) == len(words.gaps)
    assert not tokenize(text[len(pieces) :])


@given(texts, st.integers(0, 29))
@example("good,bad", 1)
@example("日本", 0)
def test_a_text_without_a_word_has_the_tokens_of_the_others(text: str, place: int) -> None:
    words = Words.of(text)
    if place < len(words):
        kept = [token for number, word in enumerate(words.shown) if number != place for token in tokenize(word)]
        assert tokenize(words.without({place})) == kept


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('A film, don\'t "miss" it.', ["A", "film", ",", "don't", '"', "miss", '"', "it", "."]),
        ("fine<br />bad", ["fine", "bad"]),
        ("日本film", ["日", "本", "film"]),
        (f"a {MASK}.", ["a", MASK, "."]),
        ("  \n ", []),
    ],
)
def test_words_are_what_a_person_would_point_at(text: str, shown: list[str]) -> None:
    assert Words.of(text).shown == shown


def test_edits_change_one_word_and_leave_the_rest_as_it_was() -> None:
    words = Words.of("A dull,  but\nfine film.")
    assert words.without({1, 2}) == "A  but\nfine film."
    assert words.without({0}) == "dull,  but\nfine film."
    assert words.masked(1) == f"A {MASK},  but\nfine film."
    assert words.replaced(4, "good") == "A dull,  but\ngood film."
