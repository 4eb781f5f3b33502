"""Words and their numbers."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, repeat

from distill_core.data.torchtext_parts import basic_english, frequent_words

PAD, UNKNOWN = "<pad>", "<unk>"
PAD_ID, UNKNOWN_ID = 0, 1

# Scripts written without spaces between words: Thai, Lao, Burmese and Khmer, then Kana and CJK ideographs.
_SOUTHEAST = (range(0x0E00, 0x0F00), range(0x1000, 0x10A0), range(0x1780, 0x1800))
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
    "\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
# Vowel signs, tone marks and, in Kana, the marks of voiced sounds stay with the character before them.
_MARKS = "\u3099\u309a\uff9e\uff9f" + "".join(
    chr(number) for block in _SOUTHEAST for number in block if unicodedata.category(chr(number)) in ("Mn", "Mc")
)
# In Burmese and Khmer these signs write the character after them below the one before them.
_STACKERS = "\u1039\u17d2"
_CHARACTER = re.compile(rf"([{_UNSPACED}](?:[{_MARKS}]|(?<=[{_STACKERS}])[{_UNSPACED}])*)")


def separate(text: str) -> str:
    """The text with spaces around each character, with its marks, of a script that has none between its words."""
    return text if text.isascii() else _CHARACTER.sub(r" \1 ", text)


def tokenize(text: str) -> list[str]:
    """torchtext's basic_english tokens; scripts without spaces between words are split by character."""
    return basic_english(separate(text))


class Vocabulary:
    """Numbers for words: 0 pads, 1 is every unknown word, then the most frequent word first."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = tuple(tokens)
        # A text that spells "<pad>" out means no padding.
        self._ids = {token: number for number, token in enumerate(self.tokens) if number != PAD_ID}

    @classmethod
    def build(cls, tokenized: Iterable[Sequence[str]], *, min_frequency: int, max_size: int) -> Vocabulary:
        """Counts words and keeps those that occur `min_frequency` times or more, at most `max_size` of them."""
        counts = Counter(chain.from_iterable(tokenized))
        specials = [PAD, UNKNOWN]
        return cls(frequent_words(counts, min_frequency=min_frequency, max_size=max_size, specials=specials))

    def __len__(self) -> int:
        return len(self.tokens)

    @staticmethod
    def is_word(number: int) -> bool:
        """Whether a token id stands for a known word."""
        return number > UNKNOWN_ID

    def encode(self, text: str, max_tokens: int) -> list[int]:
        """Token ids of a text, cut after `max_tokens`; a text without any token becomes one unknown word."""
        return self.numbers(tokenize(text), max_tokens)

    def numbers(self, tokens: Sequence[str], max_tokens: int) -> list[int]:
        """Ids of tokens, cut after `max_tokens`, never empty."""
        return list(map(self._ids.get, tokens[:max_tokens], repeat(UNKNOWN_ID))) or [UNKNOWN_ID]

    def to_json(self) -> str:
        """The content of `vocabulary.json`."""
        return json.dumps({"tokenizer": "basic_english", "tokens": self.tokens}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Vocabulary:
        """The inverse of `to_json`."""
        return cls(json.loads(text)["tokens"])
