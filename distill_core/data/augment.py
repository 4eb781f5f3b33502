"""Altered copies of texts, for a teacher to answer and a student to learn from.

Masking and n-gram sampling follow Tang et al. 2019, https://arxiv.org/abs/1903.12136, section 3.3, but not in all:

- a word is masked with probability 0.15 here, with 0.1 there;
- an n-gram is of any length up to the whole text here, of 1 to 5 words there;
- their third rule, which replaces a word by another of the same part of speech with probability 0.1, is left out, and
  splicing, which joins the beginning of one text to the end of another, is added;
- a copy is made by one rule, each as likely as the others, while theirs apply together, n-gram sampling to a quarter of
  the copies;
- there are as many copies of a text as the caller asks for, the same ones more than once if it so happens, while they
  make 20 and discard duplicates.

A masked word becomes `MASK`, which each model reads in its own way: an encoder as its mask token, a vocabulary of ours
as an unknown word.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from distill_core.data.vocabulary import separate

MASK = "[MASK]"
"""Stands for a hidden word."""
MASKED_SHARE = 0.15
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=\S)|(?<=[。！？])\s*(?=\S)")
LONGER = 2.0
"""Unlabelled texts longer than this many times the training texts' mean are cut into sentences."""
SHORTEST = 4
"""Words of a sentence worth answering."""


def altered(texts: Sequence[str], copies: int, seed: int, check: Callable[[], None] = lambda: None) -> list[str]:
    """`copies` altered versions of each text, a third each masked, cut to an n-gram, and spliced with another.

    Args:
        check: called for every text; what it raises ends the work.
    """
    chance = random.Random(seed)
    words = [separate(text).split() for text in texts]
    made = []
    for _ in range(copies):
        for own in words:
            check()
            alter = chance.choice((_masked, _n_gram, _spliced))
            made.append(" ".join(alter(own, chance.choice(words), chance)) or MASK)
    return made


def _masked(words: Sequence[str], other: Sequence[str], chance: random.Random) -> list[str]:
    return [MASK if chance.random() < MASKED_SHARE else word for word in words]


def _n_gram(words: Sequence[str], other: Sequence[str], chance: random.Random) -> Sequence[str]:
    """Some words in a row, of any length."""
    count = chance.randint(min(1, len(words)), len(words))
    start = chance.randint(0, len(words) - count)
    return words[start : start + count]


def _spliced(words: Sequence[str], other: Sequence[str], chance: random.Random) -> list[str]:
    return [*words[: chance.randint(0, len(words))], *other[chance.randint(0, len(other)) :]]


def like_training(unlabelled: Sequence[str], mean_words: float) -> list[str]:
    """Unlabelled texts at the length that the student will meet: much longer ones are cut into sentences.

    Args:
        mean_words: mean number of words of the training texts.
    """
    cut = []
    for text in unlabelled:
        if len(separate(text).split()) <= LONGER * mean_words:
            cut.append(text)
        else:
            cut.extend(sentence for sentence in SENTENCE_END.split(text) if len(separate(sentence).split()) >= SHORTEST)
    return cut
