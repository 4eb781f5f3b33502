"""Words, their numbers, and the tokenizer in front of them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import distill_core
from distill_core.data.vocabulary import PAD, PAD_ID, UNKNOWN, UNKNOWN_ID, Vocabulary, tokenize

words = st.sampled_from(["film", "plot", "dull", "bright", "an", "ending", "日", "本", "'", "."])
token_lists = st.lists(st.lists(words, max_size=8), max_size=8)


def built(tokenized: list[list[str]], min_frequency: int = 1, max_size: int = 100) -> Vocabulary:
    return Vocabulary.build(tokenized, min_frequency=min_frequency, max_size=max_size)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A Dull, dull FILM!", ["a", "dull", ",", "dull", "film", "!"]),
        ("one<br />two", ["one", "two"]),
        ("it's", ["it", "'", "s"]),
        ("", []),
        ("日本の映画 was good", ["日", "本", "の", "映", "画", "was", "good"]),
        ("カタカナ", ["カ", "タ", "カ", "ナ"]),
        ("ｶﾞｷﾞ", ["ｶﾞ", "ｷﾞ"]),
        ("か\u3099人々", ["か\u3099", "人", "々"]),
        ("หนังดีมาก", ["ห", "นั", "ง", "ดี", "ม", "า", "ก"]),
        ("ຮູບເງົາດີ", ["ຮູ", "ບ", "ເ", "ງົ", "າ", "ດີ"]),
        ("ខ្មែរ good", ["ខ្មែ", "រ", "good"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("စက္ကူ", ["စ", "က္ကူ"]),
    ],
)
def test_tokenize_splits_words_and_unspaced_scripts(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


SCRIPTS = {
    "Thai": (0x0E01, 0x0E5B),
    "Lao": (0x0E81, 0x0EDF),
    "Burmese": (0x1000, 0x109F),
    "Khmer": (0x1780, 0x17F9),
    "Japanese": (0x3041, 0x30FF),
    "half-width Kana": (0xFF66, 0xFF9F),
    "Chinese": (0x4E00, 0x9FFF),
}
unspaced = st.one_of(
    st.text(st.characters(min_codepoint=first, max_codepoint=last), max_size=30) for first, last in SCRIPTS.values()
)


@given(text=unspaced)
def test_no_character_of_a_script_without_spaces_is_lost(text: str) -> None:
    assert "".join(tokenize(text)) == text


@given(text=unspaced)
def test_no_token_begins_with_a_mark_that_has_a_character_before_it(text: str) -> None:
    assert [token for token in tokenize(text)[1:] if unicodedata.category(token[0]) in ("Mn", "Mc")] == []


@pytest.mark.parametrize(
    "sentence",
    [
        "ภาพยนตร์เรื่องนี้สนุกมากและนักแสดงเก่ง",
        "ຮູບເງົາເລື່ອງນີ້ດີຫຼາຍ",
        "ဒီရုပ်ရှင်ကအရမ်းကောင်းတယ်",
        "ខ្សែភាពយន្តនេះល្អណាស់",
        "この映画はとても面白い",
        "ｺﾉｴｲｶﾞﾊｵﾓｼﾛｲ",
    ],
)
def test_a_sentence_without_spaces_is_more_than_one_token(sentence: str) -> None:
    tokens = tokenize(sentence)
    assert len(tokens) > 5
    assert "".join(tokens) == sentence


@given(text=st.text(max_size=60))
def test_no_token_is_empty_or_holds_a_space(text: str) -> None:
    assert [token for token in tokenize(text) if not token or token != token.strip() or " " in token] == []


@given(tokenized=token_lists, min_frequency=st.integers(1, 4), max_size=st.integers(1, 12))
def test_build_keeps_frequent_words_most_frequent_first(
    tokenized: list[list[str]], min_frequency: int, max_size: int
) -> None:
    vocabulary = built(tokenized, min_frequency, max_size)
    everything = [token for tokens in tokenized for token in tokens]
    frequencies = [everything.count(token) for token in vocabulary.tokens[2:]]
    frequent = {token for token in everything if everything.count(token) >= min_frequency}
    assert vocabulary.tokens[:2] == (PAD, UNKNOWN)
    assert len(vocabulary) == len(set(vocabulary.tokens)) == 2 + min(len(frequent), max_size)
    assert set(vocabulary.tokens[2:]) <= frequent
    assert frequencies == sorted(frequencies, reverse=True)
    left_out = frequent - set(vocabulary.tokens)
    assert all(everything.count(token) <= frequencies[-1] for token in left_out)


@given(tokenized=token_lists)
def test_build_does_not_depend_on_the_order_of_texts(tokenized: list[list[str]]) -> None:
    assert built(tokenized).tokens == built(tokenized[::-1]).tokens


@given(tokenized=token_lists, tokens=st.lists(words, max_size=12), max_tokens=st.integers(1, 10))
def test_numbers_stand_for_their_tokens(tokenized: list[list[str]], tokens: list[str], max_tokens: int) -> None:
    vocabulary = built(tokenized)
    numbers = vocabulary.numbers(tokens, max_tokens)
    expected = [token if token in vocabulary.tokens else UNKNOWN for token in tokens[:max_tokens]]
    assert [vocabulary.tokens[number] for number in numbers] == (expected or [UNKNOWN])


@pytest.mark.parametrize("text", ["", '"', " \n\t "])
def test_a_text_without_tokens_becomes_one_unknown_word(text: str) -> None:
    assert built([["film"]]).encode(text, 10) == [UNKNOWN_ID]


def test_encode_cuts_after_max_tokens() -> None:
    vocabulary = built([["a", "a", "film"]])
    assert vocabulary.encode("a film a film a film", 4) == [2, 3, 2, 3]


def test_no_typed_word_becomes_padding() -> None:
    assert PAD_ID not in built([["film"]]).encode("a <pad> film", 10)


def test_is_word_is_false_for_padding_and_unknown_words_alone() -> None:
    vocabulary = built([["film", "plot"]])
    assert [vocabulary.is_word(number) for number in range(len(vocabulary))] == [False, False, True, True]


@given(tokens=st.lists(st.text(min_size=1, max_size=5), unique=True, max_size=8))
def test_json_round_trip_keeps_every_token(tokens: list[str]) -> None:
    vocabulary = Vocabulary([PAD, UNKNOWN, *tokens])
    copy = Vocabulary.from_json(vocabulary.to_json())
    assert copy.tokens == vocabulary.tokens
    assert copy.numbers(tokens, 100) == vocabulary.numbers(tokens, 100)


def test_one_module_alone_imports_torchtext() -> None:
    folder = Path(distill_core.__file__).parent
    lines = [
        (file.name, line)
        for file in folder.rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.strip().startswith(("import torchtext", "from torchtext"))
    ]
    assert {name for name, _ in lines} == {"torchtext_parts.py"}
