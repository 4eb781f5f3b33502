"""Altered copies of texts: masked, cut, spliced, the same for a seed; and long texts cut to the students' length."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_core.data import augment
from distill_core.data.augment import LONGER, MASK, MASKED_SHARE, SHORTEST, altered, like_training
from distill_core.data.vocabulary import separate
from distill_core.errors import Cancelled

WORDS = [f"w{number}" for number in range(40)]
word_lists = st.lists(st.sampled_from(WORDS), max_size=15)
texts_of_words = st.lists(word_lists.map(" ".join), min_size=1, max_size=12)
any_texts = st.lists(st.text(max_size=30), min_size=1, max_size=8)
seeds = st.integers(0, 1000)
LONG = [" ".join(f"{chr(97 + row)}{number}" for number in range(20)) for row in range(26)]
"""26 texts of 20 words, all different, so that each word tells where it comes from."""


def is_run_of(part: Sequence[str], whole: Sequence[str]) -> bool:
    """Whether `part` stands somewhere in `whole` in one piece."""
    return any(list(whole[start : start + len(part)]) == list(part) for start in range(len(whole) - len(part) + 1))


@given(texts=any_texts, copies=st.integers(0, 5), seed=seeds)
def test_every_text_gets_its_copies_and_none_is_empty(texts: list[str], copies: int, seed: int) -> None:
    made = altered(texts, copies, seed)
    assert len(made) == copies * len(texts)
    assert all(text.split() for text in made)


@given(texts=any_texts, copies=st.integers(1, 3), seed=seeds)
def test_the_seed_alone_decides_the_copies(texts: list[str], copies: int, seed: int) -> None:
    random.seed(1)
    first = altered(texts, copies, seed)
    random.seed(2)
    assert altered(texts, copies, seed) == first


def test_another_seed_makes_other_copies() -> None:
    assert altered(LONG, 1, 0) != altered(LONG, 1, 1)
    assert altered(LONG, 2, 0)[:26] != altered(LONG, 2, 0)[26:], "each copy of a text is another"


@given(texts=texts_of_words, copies=st.integers(1, 4), seed=seeds)
def test_a_copy_is_made_of_words_of_the_texts_and_masks(texts: list[str], copies: int, seed: int) -> None:
    known = {word for text in texts for word in text.split()} | {MASK}
    assert {word for text in altered(texts, copies, seed) for word in text.split()} <= known


def kind_of_copy(copy: str, own: str) -> str:
    """How a copy of one of the `LONG` texts was made, from what can be seen of it."""
    words, whole = copy.split(), own.split()
    if words == [MASK]:
        return "spliced"  # of no words at all
    if len(words) == len(whole) and all(word in (MASK, old) for word, old in zip(words, whole, strict=True)):
        return "masked" if MASK in words else "unchanged"
    if is_run_of(words, whole):
        return "n-gram"
    for cut in range(len(words) + 1):
        first, last = words[:cut], words[cut:]
        others = [text.split() for text in LONG if not last or text.split()[-1] == last[-1]]
        if first == whole[:cut] and any(other[len(other) - len(last) :] == last for other in others):
            return "spliced"
    return "odd"


def test_the_module_states_where_it_differs_from_its_paper() -> None:
    told = " ".join(str(augment.__doc__).split())
    assert f"masked with probability {MASKED_SHARE} here, with 0.1 there" in told
    lengths = {len(copy.split()) for copy in altered([LONG[0]], 400, 0) if is_run_of(copy.split(), LONG[0].split())}
    assert lengths >= set(range(1, 21)), "of any length"
    assert "of any length up to the whole text here, of 1 to 5 words there" in told


@pytest.mark.parametrize("seed", range(3))
def test_copies_are_masked_cut_and_spliced_a_third_each(seed: int) -> None:
    made = altered(LONG, 40, seed)
    kinds = Counter(kind_of_copy(copy, LONG[row % 26]) for row, copy in enumerate(made))
    assert kinds["odd"] == 0
    total = sum(kinds.values())
    assert kinds["masked"] / total == pytest.approx(1 / 3, abs=0.06)
    assert kinds["spliced"] / total == pytest.approx(1 / 3, abs=0.06)
    assert kinds["n-gram"] / total == pytest.approx(1 / 3, abs=0.08)


def test_about_fifteen_words_in_a_hundred_are_masked() -> None:
    made = altered(LONG, 60, 0)
    masked = [copy.split() for row, copy in enumerate(made) if kind_of_copy(copy, LONG[row % 26]) == "masked"]
    share = sum(words.count(MASK) for words in masked) / sum(len(words) for words in masked)
    # Copies that happen to have no mask cannot be told from whole n-grams, and are left out.
    expected = MASKED_SHARE / (1 - (1 - MASKED_SHARE) ** 20)
    assert MASKED_SHARE == 0.15
    assert share == pytest.approx(expected, abs=0.015)


@given(words=word_lists, seed=seeds)
def test_masking_hides_words_and_moves_none(words: list[str], seed: int) -> None:
    made = augment._masked(words, [], random.Random(seed))
    assert len(made) == len(words)
    assert all(new in (old, MASK) for new, old in zip(made, words, strict=True))


@given(words=word_lists, seed=seeds)
def test_an_n_gram_is_words_in_a_row(words: list[str], seed: int) -> None:
    made = augment._n_gram(words, [], random.Random(seed))
    assert is_run_of(made, words)
    assert bool(made) == bool(words)


def test_n_grams_are_of_every_length_and_from_every_place() -> None:
    made = [augment._n_gram(WORDS[:6], [], random.Random(seed)) for seed in range(600)]
    assert {tuple(part) for part in made} == {
        tuple(WORDS[start:end]) for start in range(6) for end in range(start + 1, 7)
    }


@given(own=word_lists, other=word_lists, seed=seeds)
def test_a_splice_is_a_beginning_and_the_end_of_another_text(own: list[str], other: list[str], seed: int) -> None:
    made = augment._spliced(own, other, random.Random(seed))
    assert any(
        made[:cut] == own[:cut] and made[cut:] == other[len(other) - len(made) + cut :] for cut in cuts(made, other)
    )


def cuts(made: Sequence[str], other: Sequence[str]) -> range:
    """Where the second part of a splice can begin: it is no longer than the text that it comes from."""
    return range(max(len(made) - len(other), 0), len(made) + 1)


@given(
    texts=st.lists(st.text("这部电影很好看但是结尾无聊", min_size=1, max_size=20), min_size=1, max_size=6), seed=seeds
)
def test_chinese_is_altered_character_by_character(texts: list[str], seed: int) -> None:
    made = altered(texts, 4, seed)
    characters = set("".join(texts))
    assert len(made) == 4 * len(texts)
    assert all(word == MASK or (len(word) == 1 and word in characters) for copy in made for word in copy.split())


def test_long_chinese_texts_are_masked_in_part() -> None:
    text = "这部电影很好看但是结尾有点无聊"
    made = [copy.split() for copy in altered([text], 60, 0)]
    masked = [words for words in made if MASK in words]
    assert masked
    assert all(0 < words.count(MASK) < len(text) == len(words) for words in masked)


def test_making_copies_can_be_cancelled_at_any_text() -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise Cancelled

    with pytest.raises(Cancelled):
        altered(LONG, 1, 0, check)
    calls = -1000
    altered(LONG, 2, 0, check)
    assert calls == -1000 + 52, "once for each copy"


def test_no_copies_of_no_texts() -> None:
    assert altered([], 3, 0) == []
    assert altered(LONG, 0, 0) == []


# Unlabelled texts


def sentence(number: int, words: int = 5) -> str:
    return " ".join(f"s{number}w{word}" for word in range(words)) + "."


def test_short_texts_stay_whole() -> None:
    texts = [f"{sentence(0)} {sentence(1)}", "one", ""]
    assert like_training(texts, mean_words=5) == texts


def test_long_texts_are_cut_into_their_sentences() -> None:
    text = " ".join(sentence(number) for number in range(4))
    assert like_training([text], mean_words=5) == [sentence(number) for number in range(4)]


@pytest.mark.parametrize(("mean", "whole"), [(10.0, True), (9.99, False)])
def test_long_is_more_than_twice_the_mean(mean: float, whole: bool) -> None:
    text = " ".join(sentence(number) for number in range(4))  # 20 words
    assert LONGER == 2.0
    assert (like_training([text], mean) == [text]) is whole


@pytest.mark.parametrize("end", [".", "!", "?"])
def test_sentences_end_at_any_closing_mark(end: str) -> None:
    sentences = [f"a{row} b{row} c{row} d{row}{end}" for row in range(6)]
    assert like_training([" ".join(sentences)], mean_words=3) == sentences


def test_sentences_of_few_words_are_left_out() -> None:
    text = " ".join([sentence(0), "So what?", sentence(1), "No.", sentence(2, SHORTEST), sentence(3, SHORTEST - 1)])
    assert like_training([text], mean_words=3) == [sentence(0), sentence(1), sentence(2, SHORTEST)]


def test_long_chinese_texts_are_cut_at_their_own_marks() -> None:
    sentences = ["这部电影很好看。", "但是结尾有点无聊！", "你觉得怎么样？"]
    assert like_training(["".join(sentences)], mean_words=5) == sentences


@given(texts=texts_of_words, mean=st.floats(1, 30))
def test_texts_without_sentences_keep_their_words(texts: list[str], mean: float) -> None:
    kept = [text for text in texts if len(text.split()) <= 2 * mean or len(text.split()) >= SHORTEST]
    assert like_training(texts, mean) == kept


@given(text=st.text("ab .!?。", max_size=80))
def test_cutting_loses_nothing_but_short_sentences_and_spaces(text: str) -> None:
    found = like_training([text], mean_words=0.1)
    letters = "".join(text.split())
    for part in found:
        assert "".join(part.split()) in letters
        assert len(separate(part).split()) >= min(SHORTEST, len(separate(text).split()))
