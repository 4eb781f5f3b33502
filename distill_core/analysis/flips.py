"""The fewest words to leave out so that a model answers otherwise (counterfactual by erasure).

Li et al. 2016, "Understanding neural networks through representation erasure", https://arxiv.org/abs/1612.08220, look
for such sets by reinforcement learning; texts are short enough here to try all small sets, and to go on greedily.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

from torch import Tensor

from distill_core.analysis.words import Words

TRIED = 4000
"""Texts that are asked about at most before the search goes on greedily."""


class Asked(Protocol):
    """A model that answers texts, such as a `Reader`."""

    def logits(self, texts: Sequence[str], check: Callable[[], None] = ...) -> Tensor: ...


@dataclass(frozen=True)
class Flip:
    """Words by their places, the text without them, and the class that it gets then.

    `smallest` says whether it is known that no fewer words do it; else they are the fewest that were found.
    """

    places: tuple[int, ...]
    text: str
    label: int
    smallest: bool


def fewest_words(reader: Asked, words: Words, check: Callable[[], None] = lambda: None) -> Flip | None:
    """The smallest set of words without which the model answers otherwise; None where leaving out does not do it.

    All sets of one word are tried, then of two and so on, as long as there are not too many of them; of those that
    do it, the one that leaves the model surest. From there on the word that helps most is left out, one after the
    other, and in the end each is put back that was not needed. One word always stays.

    Args:
        check: called often; what it raises ends the work.
    """
    answer = int(reader.logits([words.text], check).argmax())
    tried = 0
    for size in range(1, len(words)):
        tried += math.comb(len(words), size)
        if tried > TRIED:
            return _greedily(reader, words, answer, size, check)
        found = _surest(reader, words, list(combinations(range(len(words)), size)), answer, check)
        if found is not None:
            return _flip(reader, words, found, smallest=True)
    return None


def _surest(
    reader: Asked, words: Words, sets: Sequence[tuple[int, ...]], answer: int, check: Callable[[], None]
) -> tuple[int, ...] | None:
    """Of the sets that change the answer, the one that moves it furthest."""
    margins_N = _margins(reader, words, sets, answer, check)
    best = int(margins_N.argmin())
    return sets[best] if float(margins_N[best]) < 0 else None


def _margins(
    reader: Asked, words: Words, sets: Sequence[tuple[int, ...]], answer: int, check: Callable[[], None]
) -> Tensor:
    """How far the logit of the answer stays above all others without each set of words."""
    logits_NC = reader.logits([words.without(places) for places in sets], check)
    others_NC = logits_NC.clone()
    others_NC[:, answer] = -math.inf
    return logits_NC[:, answer] - others_NC.amax(dim=1)


def _greedily(reader: Asked, words: Words, answer: int, least: int, check: Callable[[], None]) -> Flip | None:
    gone: tuple[int, ...] = ()
    while len(gone) < len(words) - 1:
        sets = [tuple(sorted({*gone, place})) for place in range(len(words)) if place not in gone]
        margins_N = _margins(reader, words, sets, answer, check)
        gone = sets[int(margins_N.argmin())]
        if float(margins_N.min()) < 0:
            needed = _needed(reader, words, gone, answer, check)
            return _flip(reader, words, needed, smallest=len(needed) <= least)
    return None


def _needed(
    reader: Asked, words: Words, gone: tuple[int, ...], answer: int, check: Callable[[], None]
) -> tuple[int, ...]:
    """The set without words that can stay."""
    while len(gone) > 1:
        sets = [tuple(other for other in gone if other != place) for place in gone]
        fewer = _surest(reader, words, sets, answer, check)
        if fewer is None:
            break
        gone = fewer
    return gone


def _flip(reader: Asked, words: Words, places: tuple[int, ...], *, smallest: bool) -> Flip:
    text = words.without(places)
    return Flip(places, text, int(reader.logits([text]).argmax()), smallest)
