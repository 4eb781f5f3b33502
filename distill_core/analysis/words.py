"""The words of a text as a person sees them, where they stand, and what becomes of the text when one is changed.

A word here is what lies between spaces and punctuation marks, or one character of a script without spaces. Reading a
text word by word gives the same tokens as reading it at once, so that each token belongs to one word.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from distill_core.data.augment import MASK
from distill_core.data.vocabulary import separate, tokenize

_MARKS = '.,()!?;:"'
_SKIPPED = r"(?P<skipped><br />)"
_FINE = re.compile(rf"{_SKIPPED}|{re.escape(MASK)}|(?:(?!<br />|{re.escape(MASK)})[^\s{_MARKS}])+|[{_MARKS}]")
_COARSE = re.compile(rf"{_SKIPPED}|(?:(?!<br />)\S)+")


@dataclass(frozen=True)
class Words:
    """A text and its words. `spans` has the first and last character (exclusive) of each, in order."""

    text: str
    spans: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, text: str) -> Words:
        """The words of a text, punctuation marks apart where that changes no token."""
        whole = tokenize(text)
        fine = cls(text, tuple(_spans(text, _FINE)))
        return fine if fine.tokens() == whole else cls(text, tuple(_spans(text, _COARSE)))

    def __len__(self) -> int:
        return len(self.spans)

    @property
    def shown(self) -> list[str]:
        """Each word as it stands in the text."""
        return [self.text[first:last] for first, last in self.spans]

    @property
    def gaps(self) -> list[str]:
        """What stands before each word and belongs to none."""
        ends = [0, *(last for _, last in self.spans)]
        return [self.text[end:first] for end, (first, _) in zip(ends, self.spans, strict=False)]

    def tokens(self) -> list[str]:
        """All tokens, word after word."""
        return [token for word in self.shown for token in tokenize(word)]

    def without(self, places: Collection[int]) -> str:
        """The text without some words and the gaps before them; what they kept apart stays apart."""
        pieces = list[str]()
        for place, (gap, word) in enumerate(zip(self.gaps, self.shown, strict=True)):
            if place not in places:
                lost = place > 0 and place - 1 in places
                pieces.append((gap or " " if lost else gap) + word)
        tail = self.text[self.spans[-1][1] :] if self.spans else self.text
        return ("".join(pieces) + tail).strip()

    def replaced(self, place: int, word: str) -> str:
        """The text with another word in a place."""
        first, last = self.spans[place]
        return self.text[:first] + word + self.text[last:]

    def masked(self, place: int) -> str:
        """The text with a word that no model can read."""
        return self.replaced(place, MASK)


def _spans(text: str, pattern: re.Pattern[str]) -> list[tuple[int, int]]:
    return [
        (match.start() + first, match.start() + last)
        for match in pattern.finditer(text)
        if match["skipped"] is None
        for first, last in _characters(match[0])
    ]


def _characters(word: str) -> Sequence[tuple[int, int]]:
    """Where the parts of a word stand: one, or each character of a script without spaces."""
    parts, end = separate(word).split(), 0
    found = []
    for part in parts:
        start = word.index(part, end)
        end = start + len(part)
        found.append((start, end))
    return found
