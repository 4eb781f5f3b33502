"""What the Data page and the estimates are told about a data set."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_core.config import DataConfig
from distill_core.data.batches import EncodedDataset, EncodedTexts, encode
from distill_core.data.description import describe_profile, left_out
from distill_core.data.profile import Example, Profile
from distill_core.data.sources import Dataset, Report, Split
from distill_core.data.summary import BINS, EXAMPLE_LENGTH, EXAMPLES_PER_CLASS, _lengths, summarise
from distill_core.data.vocabulary import UNKNOWN_ID, tokenize

LABELS = ("bad", "good", "odd")


def split(first: int, texts: dict[str, int], answers: bool = False) -> Split:
    rows = ((0.1, 0.2, 0.7),) * len(texts) if answers else ()
    return Split(tuple(range(first, first + len(texts))), tuple(texts), tuple(texts.values()), rows)


TRAIN = {f"a film {'again ' * number}and {'more' if number % 2 else 'less'}": number % 2 for number in range(20)}
VAL = {"a film": 0, "an unheard film and more": 1, "nobody knows this": 1}
TEST = {"less": 0, "a strange film": 1}


def made(answers: bool = False, report: Report | None = None) -> Dataset:
    splits = (split(first, texts, answers) for first, texts in ((0, TRAIN), (100, VAL), (200, TEST)))
    return Dataset(LABELS, *splits, ("a film without a label",), report=report or Report())


def profile_of(dataset: Dataset, **settings: int) -> tuple[Profile, EncodedDataset]:
    encoded = encode(dataset, DataConfig(**{"min_frequency": 1, **settings}))
    return summarise(dataset, encoded), encoded


# A profile on disk


def test_a_profile_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = Profile(
        ("schlecht", "好"),
        12,
        {"train": 3},
        {"train": 1.5},
        class_counts={"train": [1, 2]},
        lengths={3: 2, 8: 1},
        unknown={"val": 0.25},
        unknown_by_size={250: 0.5},
        rows=9,
        dropped={"empty text": 1},
        notes=("Größe ≠ 0",),
        answered=True,
        examples=(Example('"quoted"\n<b>', "好"),),
    )
    untouched = [field.name for field in dataclasses.fields(Profile) if not getattr(written, field.name)]
    assert untouched == []
    written.write(tmp_path)
    assert Profile.read(tmp_path) == written


def test_a_summary_comes_back_as_it_was_written(tmp_path: Path) -> None:
    profile, _ = profile_of(made())
    profile.write(tmp_path)
    assert Profile.read(tmp_path) == profile


# What is counted


def test_texts_and_classes_are_counted_on_each_side() -> None:
    profile, encoded = profile_of(made())
    assert profile.labels == LABELS
    assert profile.vocabulary == len(encoded.vocabulary)
    assert profile.texts == {"train": 20, "val": 3, "test": 2, "unlabelled": 1}
    assert profile.class_counts == {"train": [10, 10, 0], "val": [1, 2, 0], "test": [1, 1, 0]}


def test_tokens_are_counted_by_side() -> None:
    profile, _ = profile_of(made())
    for side, texts in (("train", TRAIN), ("val", VAL), ("test", TEST), ("unlabelled", made().unlabelled)):
        assert profile.mean_tokens[side] == pytest.approx(sum(len(tokenize(text)) for text in texts) / len(texts))


def test_a_side_without_texts_has_a_mean_of_zero() -> None:
    profile, _ = profile_of(dataclasses.replace(made(), unlabelled=()))
    assert profile.texts["unlabelled"] == 0
    assert profile.mean_tokens["unlabelled"] == 0
    assert profile.unknown["unlabelled"] == 0


def test_unknown_words_are_a_share_of_the_words_of_a_side() -> None:
    profile, _ = profile_of(made())
    words = {word for text in TRAIN for word in tokenize(text)}
    for side, texts in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        tokens = [token for text in texts for token in tokenize(text)]
        expected = sum(token not in words for token in tokens) / len(tokens)
        assert profile.unknown[side] == pytest.approx(expected)
    assert profile.unknown["train"] == 0 < profile.unknown["val"]


def test_a_smaller_vocabulary_knows_as_little_as_one_that_is_built_that_small() -> None:
    numbered = {
        f"word{number % (3 * row + 2)} " * 3 + f"word{number}": row % 2 for row, number in enumerate(range(700))
    }
    dataset = Dataset(
        LABELS,
        split(0, numbered),
        split(900, VAL | {f"word{n} and nobody": 0 for n in range(700)}),
        split(2000, TEST),
        (),
    )
    profile, _ = profile_of(dataset)
    assert list(profile.unknown_by_size) == [250, 500]
    shares = [*profile.unknown_by_size.values(), profile.unknown["val"]]
    assert shares == sorted(shares, reverse=True)
    for size, share in profile.unknown_by_size.items():
        small, encoded = profile_of(dataset, max_vocabulary=size - 2)
        assert len(encoded.vocabulary) == size
        assert share == pytest.approx(small.unknown["val"])


@given(lengths=st.lists(st.integers(1, 400), min_size=1, max_size=60))
def test_every_text_falls_into_one_bin_of_equal_width(lengths: list[int]) -> None:
    found = _lengths(EncodedTexts.without_labels([[UNKNOWN_ID] * length for length in lengths]))
    starts = list(found)
    widths = {second - first for first, second in itertools.pairwise(starts)} or {1}
    assert starts[0] == min(lengths)
    assert len(widths) == 1
    assert len(starts) <= BINS
    (width,) = widths
    if len(starts) == 1:
        width = max(lengths) - min(lengths) + 1
    counted = Counter(start for length in lengths for start in starts if start <= length < start + width)
    assert {start: count for start, count in found.items() if count} == counted


def test_what_was_left_out_is_passed_on() -> None:
    report = Report(30, {"empty text": 3, "duplicate text": 1}, ("A remark.",))
    profile, _ = profile_of(made(report=report))
    assert (profile.rows, profile.dropped, profile.notes) == (
        30,
        {"empty text": 3, "duplicate text": 1},
        ("A remark.",),
    )


@pytest.mark.parametrize("answers", [True, False])
def test_a_profile_says_whether_a_teachers_answers_are_there(answers: bool) -> None:
    assert profile_of(made(answers))[0].answered is answers


# Examples


def test_examples_are_training_texts_of_their_class_and_the_same_every_time() -> None:
    profile, _ = profile_of(made())
    for label, name in enumerate(LABELS[:2]):
        shown = [example.text for example in profile.examples if example.label == name]
        assert len(shown) == len(set(shown)) == EXAMPLES_PER_CLASS
        assert all(TRAIN[text] == label for text in shown)
    assert [example.label for example in profile.examples] == ["bad"] * 5 + ["good"] * 5
    assert profile_of(made())[0].examples == profile.examples


def test_a_class_of_few_texts_shows_those_it_has() -> None:
    dataset = Dataset(LABELS, split(0, {"one": 0, "two": 1, "three": 1}), split(10, VAL), split(20, TEST), ())
    shown = Counter(example.label for example in profile_of(dataset)[0].examples)
    assert shown == {"bad": 1, "good": 2}


@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=40))
def test_a_description_counts_every_training_text_in_its_bin(lengths: list[int]) -> None:
    texts = EncodedTexts.of(range(len(lengths)), [[2] * length for length in lengths], [0] * len(lengths))
    profile, _ = profile_of(made())
    lines = describe_profile(dataclasses.replace(profile, lengths=_lengths(texts)))
    bars = lines[lines.index("Training texts by their number of tokens:") + 1 :]
    counted = []
    for bar in bars[: bars.index("")]:
        *bounds, count = (int(word.replace(",", "")) for word in bar.split("#")[0].replace(" to ", " ").split())
        counted += [bounds] * count
    for (first, *rest), length in zip(counted, sorted(lengths), strict=True):
        assert first <= length <= (rest or [first])[0]


def test_a_description_names_every_class_and_what_was_left_out() -> None:
    profile, _ = profile_of(
        made(answers=True, report=Report(50, {"empty text": 2, "duplicate text": 1}, ("Split so.",)))
    )
    lines = describe_profile(profile)
    assert lines[0].startswith("3 classes")
    assert lines[0].endswith("carries a teacher's answers")
    assert ["odd", "0", "0", "0"] in [line.split() for line in lines]
    assert "Left out: 3 of 50 rows (2 empty text, 1 duplicate text)" in lines
    assert "Split so." in lines
    unknown = {line.split()[0]: line.split()[1] for line in lines if line.endswith("%") and len(line.split()) == 2}
    assert unknown == {f"{profile.vocabulary}": f"{profile.unknown['val']:.1%}"}
    assert left_out(profile_of(made())[0]) == []


def test_a_description_cannot_move_the_cursor_of_a_terminal() -> None:
    evil = "\x1b[2J" + "long\n" * 100
    profile, _ = profile_of(made())
    examples = tuple(Example(evil, label) for label in (evil, "good"))
    lines = describe_profile(dataclasses.replace(profile, labels=(evil, "good"), examples=examples))
    assert all(line.isprintable() and len(line) < 150 for line in lines)


def test_a_long_example_is_cut() -> None:
    dataset = Dataset(LABELS, split(0, {"x" * 5000: 0, "two": 1}), split(10, VAL), split(20, TEST), ())
    lengths = {example.label: len(example.text) for example in profile_of(dataset)[0].examples}
    assert lengths == {"bad": EXAMPLE_LENGTH, "good": 3}
