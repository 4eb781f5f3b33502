"""The fewest words whose loss changes an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from distill_core.analysis import flips
from distill_core.analysis.flips import Flip, fewest_words
from distill_core.analysis.words import Words


class Sum:
    """Answers 1 where the weights of a text's words add up to more than nothing."""

    def __init__(self, weights: dict[str, float]) -> None:
        self.weights = weights

    def logits(self, texts: Sequence[str], check: Callable[[], None] = lambda: None) -> Tensor:
        check()
        sums = [sum(self.weights.get(word, 0.0) for word in text.split()) for text in texts]
        return torch.tensor([[0.0, total] for total in sums])


def fewest(weights: dict[str, float], text: str) -> Flip | None:
    return fewest_words(Sum(weights), Words.of(text))


letters = st.lists(st.sampled_from("abcdefg"), min_size=2, max_size=7, unique=True)
weights_of = st.fixed_dictionaries({letter: st.integers(-5, 5).map(lambda n: n + 0.3) for letter in "abcdefg"})


@given(letters, weights_of)
def test_no_smaller_set_of_words_changes_the_answer(words: list[str], weights: dict[str, float]) -> None:
    text = " ".join(words)
    found = fewest(weights, text)

    def flipped(gone: Sequence[int]) -> bool:
        left = sum(weights[word] for place, word in enumerate(words) if place not in gone)
        return (left > 0) != (sum(weights[word] for word in words) > 0)

    sizes = [size for size in range(1, len(words)) if any(map(flipped, combinations(range(len(words)), size)))]
    if found is None:
        assert not sizes
    else:
        assert flipped(found.places)
        assert len(found.places) == min(sizes)
        assert found.smallest
        assert found.text == " ".join(word for place, word in enumerate(words) if place not in found.places)


@given(letters, weights_of)
def test_the_greedy_search_finds_a_set_none_of_whose_words_can_stay(
    words: list[str], weights: dict[str, float]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flips, "TRIED", 0)
        found = fewest(weights, " ".join(words))
    whole = sum(weights[word] for word in words) > 0

    def flipped(gone: Sequence[int]) -> bool:
        return (sum(weights[word] for place, word in enumerate(words) if place not in gone) > 0) != whole

    if found is not None:
        assert flipped(found.places)
        assert not any(flipped([other for other in found.places if other != place]) for place in found.places) or (
            len(found.places) == 1
        )
        assert found.smallest == (len(found.places) == 1)


def test_a_text_of_one_word_has_nothing_to_leave_out() -> None:
    assert fewest({"a": 1.0}, "a") is None
