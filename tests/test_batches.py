"""Encoded texts, their batches, and logits that find their sample whatever the shuffle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from distill_core.config import DataConfig
from distill_core.data.batches import (
    NO_LABEL,
    Batch,
    EncodedDataset,
    EncodedTexts,
    SampleLogits,
    batch_count,
    encode,
    shuffled_batches,
    sorted_batches,
    sorted_rows,
    unlabelled_ids,
    windows,
)
from distill_core.data.profile import Example, Profile
from distill_core.data.sources import Dataset
from distill_core.data.summary import summarise
from distill_core.data.texts import Split
from distill_core.data.vocabulary import PAD_ID, UNKNOWN_ID
from distill_core.errors import Cancelled

token_rows = st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=12), min_size=1, max_size=40)
batch_sizes = st.integers(1, 12)
seeds = st.integers(0, 1000)


@st.composite
def encoded_texts(draw: st.DrawFn) -> tuple[EncodedTexts, dict[int, list[int]]]:
    """Texts with arbitrary ids and the label `id % 7`; also the tokens by id."""
    rows = draw(token_rows)
    ids = draw(st.lists(st.integers(-100, 10_000), min_size=len(rows), max_size=len(rows), unique=True))
    return EncodedTexts.of(ids, rows, [number % 7 for number in ids]), dict(zip(ids, rows, strict=True))


def logits_that_name(texts: EncodedTexts) -> torch.Tensor:
    """Logits from which the id of their sample can be read."""
    return torch.stack([texts.ids_N.float(), 2 * texts.ids_N.float()], dim=1)


def one_pass(texts: EncodedTexts, batch_size: int, seed: int) -> list[Batch]:
    return list(shuffled_batches(texts, batch_size, torch.Generator().manual_seed(seed)))


def ids_of(batches: Sequence[Batch]) -> list[list[int]]:
    return [batch.ids_B.tolist() for batch in batches]


@given(made=encoded_texts())
def test_packed_texts_are_the_texts_that_went_in(made: tuple[EncodedTexts, dict[int, list[int]]]) -> None:
    texts, rows = made
    pieces = [texts.flat[texts.offsets[n] : texts.offsets[n + 1]].tolist() for n in range(len(texts))]
    assert dict(zip(texts.ids_N.tolist(), pieces, strict=True)) == rows
    assert texts.lengths_N.tolist() == [len(tokens) for tokens in rows.values()]


@given(made=encoded_texts(), data=st.data())
def test_gather_pads_on_the_right_alone_and_no_further_than_needed(
    made: tuple[EncodedTexts, dict[int, list[int]]], data: st.DataObject
) -> None:
    texts, tokens_by_id = made
    rows = data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=10))
    batch = texts.gather(torch.tensor(rows))
    assert batch.ids_B.tolist() == texts.ids_N[rows].tolist()
    assert batch.tokens_BT.shape == (len(rows), int(batch.lengths_B.max()))
    for number, padded, length in zip(
        batch.ids_B.tolist(), batch.tokens_BT.tolist(), batch.lengths_B.tolist(), strict=True
    ):
        assert padded[:length] == tokens_by_id[number]
        assert padded[length:] == [PAD_ID] * (len(padded) - length)


@given(made=encoded_texts(), batch_size=batch_sizes, seed=seeds)
def test_each_sample_appears_once_in_an_epoch(
    made: tuple[EncodedTexts, dict[int, list[int]]], batch_size: int, seed: int
) -> None:
    texts, _ = made
    batches = one_pass(texts, batch_size, seed)
    assert sorted(number for batch in ids_of(batches) for number in batch) == sorted(texts.ids_N.tolist())
    assert len(batches) == batch_count(texts, batch_size)
    assert max(len(batch) for batch in batches) <= batch_size


@given(made=encoded_texts(), batch_size=batch_sizes, seed=seeds, other_first=st.booleans())
def test_tokens_labels_and_cached_logits_belong_to_the_sample_whatever_the_shuffle(
    made: tuple[EncodedTexts, dict[int, list[int]]], batch_size: int, seed: int, other_first: bool
) -> None:
    texts, rows = made
    others = EncodedTexts.of([20_000, -20_000], [[1], [2]], [0, 0])
    parts = [(part, logits_that_name(part)) for part in (texts, others)]
    cached = SampleLogits.of(parts[::-1] if other_first else parts)
    for batch in one_pass(texts, batch_size, seed):
        logits_BC = cached.of_ids(batch.ids_B)
        for row, number in enumerate(batch.ids_B.tolist()):
            assert batch.labels_B[row] == number % 7
            assert logits_BC[row].tolist() == [number, 2 * number]
            assert batch.tokens_BT[row, : batch.lengths_B[row]].tolist() == rows[number]


@given(made=encoded_texts(), batch_size=batch_sizes, seed=seeds)
def test_the_same_seed_gives_the_same_order(
    made: tuple[EncodedTexts, dict[int, list[int]]], batch_size: int, seed: int
) -> None:
    texts, _ = made
    torch.manual_seed(seed + 1)
    first = ids_of(one_pass(texts, batch_size, seed))
    torch.manual_seed(seed + 2)
    assert ids_of(one_pass(texts, batch_size, seed)) == first


def test_order_changes_with_the_seed_and_from_epoch_to_epoch() -> None:
    texts = EncodedTexts.of(range(100), [[1]] * 100, [0] * 100)
    generator = torch.Generator().manual_seed(0)
    epochs = [ids_of(list(shuffled_batches(texts, 10, generator))) for _ in range(2)]
    assert epochs[0] != epochs[1]
    assert ids_of(one_pass(texts, 10, seed=1)) != epochs[0]


def test_training_batches_hold_texts_of_similar_length_in_random_order() -> None:
    lengths = [1 + number * 7 % 50 for number in range(400)]
    texts = EncodedTexts.of(range(400), [[1] * length for length in lengths], [0] * 400)
    batches = one_pass(texts, 8, seed=0)
    padded = sum(batch.tokens_BT.numel() for batch in batches)
    widths = [batch.tokens_BT.shape[1] for batch in batches]
    assert padded < 1.1 * sum(lengths)
    assert widths != sorted(widths)


@given(made=encoded_texts(), tokens=st.integers(1, 60))
def test_sorted_batches_hold_few_tokens_and_name_their_rows_shortest_first(
    made: tuple[EncodedTexts, dict[int, list[int]]], tokens: int
) -> None:
    texts, _ = made
    passed = list(sorted_batches(texts, tokens))
    rows = torch.cat([rows for rows, _ in passed])
    assert sorted(rows.tolist()) == list(range(len(texts)))
    for rows_B, batch in passed:
        assert torch.equal(texts.ids_N[rows_B], batch.ids_B)
        assert batch.tokens_BT.numel() <= tokens or len(batch) == 1
    for (_, batch), (_, following) in pairwise(passed):  # none could have taken one more
        assert (len(batch) + 1) * int(following.lengths_B[0]) > tokens
    lengths = torch.cat([batch.lengths_B for _, batch in passed]).tolist()
    assert lengths == sorted(lengths)


def test_a_sample_without_logits_is_an_error_that_names_it() -> None:
    texts = EncodedTexts.of([5, 3], [[1], [1]], [0, 1])
    cached = SampleLogits.of([(texts, logits_that_name(texts))])
    for missing in ([3, 4], [6], [-1]):
        with pytest.raises(KeyError, match=str(missing[-1])):
            cached.of_ids(torch.tensor(missing))


@given(parts=st.lists(token_rows, min_size=1, max_size=3), width=st.integers(2, 8))
def test_windows_lose_nothing_but_leftovers_of_one_token(parts: list[list[list[int]]], width: int) -> None:
    texts = [EncodedTexts.of(range(len(rows)), rows, [0] * len(rows)) for rows in parts]
    expected = [
        row[start : start + width]
        for rows in parts
        for row in rows
        for start in range(0, len(row), width)
        if len(row[start : start + width]) > 1
    ]
    assume(expected)
    cut = windows(texts, width)
    batch = cut.gather(torch.arange(len(cut)))
    found = [tokens[:length] for tokens, length in zip(batch.tokens_BT.tolist(), batch.lengths_B.tolist(), strict=True)]
    assert found == expected
    assert set(cut.labels_N.tolist()) == {NO_LABEL}


def test_windows_pass_over_a_part_without_texts() -> None:
    nothing = EncodedTexts.of(range(0), [], [])
    cut = windows([nothing, EncodedTexts.of([0], [[4, 5, 6]], [0])], 64)
    assert cut.flat.tolist() == [4, 5, 6]


@pytest.mark.parametrize("rows", [[], [[4]], [[4], [5], [6]]])
def test_no_windows_are_left_of_texts_of_one_token(rows: list[list[int]]) -> None:
    cut = windows([EncodedTexts.of(range(len(rows)), rows, [0] * len(rows))], 64)
    assert (len(cut), cut.flat.tolist(), cut.offsets.tolist()) == (0, [], [0])
    assert batch_count(cut, 8) == 0
    assert one_pass(cut, 8, 0) == list(sorted_batches(cut, 8)) == []
    other = EncodedTexts.of([0], [[4, 5]], [1])
    assert rows_of(cut.joined(other)) == rows_of(other)
    assert cut.joined(other).flat.dtype == other.flat.dtype


# Further texts


@st.composite
def disjoint_texts(draw: st.DrawFn) -> tuple[EncodedTexts, EncodedTexts]:
    """Two lots of texts without a common id."""
    first, _ = draw(encoded_texts())
    rows = draw(token_rows)
    return first, EncodedTexts.of(range(20_000, 20_000 + len(rows)), rows, [NO_LABEL] * len(rows))


def rows_of(texts: EncodedTexts) -> list[tuple[int, int, list[int]]]:
    """Id, label and tokens of each text."""
    pieces = [texts.flat[texts.offsets[n] : texts.offsets[n + 1]].tolist() for n in range(len(texts))]
    return list(zip(texts.ids_N.tolist(), texts.labels_N.tolist(), pieces, strict=True))


@given(pair=disjoint_texts())
def test_joined_texts_are_these_and_then_the_others(pair: tuple[EncodedTexts, EncodedTexts]) -> None:
    first, second = pair
    both = first.joined(second)
    assert rows_of(both) == rows_of(first) + rows_of(second)
    assert len(both) == len(first) + len(second)
    assert both.flat.dtype == first.flat.dtype
    assert int(both.offsets[-1]) == len(both.flat)


def test_joining_nothing_changes_nothing() -> None:
    texts, nothing = EncodedTexts.of([4, 2], [[7, 8], [9]], [0, 1]), EncodedTexts.without_labels([])
    assert rows_of(texts.joined(nothing)) == rows_of(texts) == rows_of(nothing.joined(texts))


@given(pair=disjoint_texts(), seed=seeds)
def test_joined_texts_can_be_batched_like_any_others(pair: tuple[EncodedTexts, EncodedTexts], seed: int) -> None:
    both = pair[0].joined(pair[1])
    by_id = {identity: (label, tokens) for identity, label, tokens in rows_of(both)}
    for batch in one_pass(both, 5, seed):
        for row, identity in enumerate(batch.ids_B.tolist()):
            label, tokens = by_id[identity]
            assert int(batch.labels_B[row]) == label
            assert batch.tokens_BT[row, : batch.lengths_B[row]].tolist() == tokens


@given(made=encoded_texts(), data=st.data())
def test_of_ids_gives_the_samples_in_the_order_asked_for(
    made: tuple[EncodedTexts, dict[int, list[int]]], data: st.DataObject
) -> None:
    texts, tokens_by_id = made
    asked = data.draw(st.lists(st.sampled_from(sorted(tokens_by_id)), min_size=1, max_size=10))
    batch = texts.of_ids(torch.tensor(asked))
    assert batch.ids_B.tolist() == asked
    assert batch.labels_B.tolist() == [number % 7 for number in asked]
    for number, padded, length in zip(asked, batch.tokens_BT.tolist(), batch.lengths_B.tolist(), strict=True):
        assert padded[:length] == tokens_by_id[number]
        assert set(padded[length:]) <= {PAD_ID}


def test_of_ids_names_a_sample_that_is_not_there() -> None:
    texts = EncodedTexts.of([5, 3], [[1], [1]], [0, 1])
    for missing in ([3, 4], [6], [-1]):
        with pytest.raises(KeyError, match=str(missing[-1])):
            texts.of_ids(torch.tensor(missing))


@given(counts=st.lists(st.integers(0, 6), min_size=1, max_size=5))
def test_texts_without_labels_get_ids_below_zero_that_never_collide(counts: list[int]) -> None:
    ids: list[int] = []
    for count in counts:
        texts = EncodedTexts.without_labels([[3]] * count, first=len(ids))
        assert texts.labels_N.tolist() == [NO_LABEL] * count
        assert texts.ids_N.tolist() == list(unlabelled_ids(count, len(ids)))
        ids.extend(texts.ids_N.tolist())
    assert ids == [-number for number in range(1, len(ids) + 1)]


@given(pair=disjoint_texts())
def test_joined_logits_belong_to_their_samples(pair: tuple[EncodedTexts, EncodedTexts]) -> None:
    caches = [SampleLogits.of([(texts, logits_that_name(texts))]) for texts in pair]
    for both in (caches[0].joined(caches[1]), caches[1].joined(caches[0])):
        assert bool((both.ids_N.diff() > 0).all())
        for texts in pair:
            assert torch.equal(both.of_ids(texts.ids_N), logits_that_name(texts))


@given(made=encoded_texts())
def test_logits_and_their_tensors_are_inverse(made: tuple[EncodedTexts, dict[int, list[int]]]) -> None:
    texts, _ = made
    cached = SampleLogits.of([(texts, logits_that_name(texts))])
    copy = SampleLogits.from_tensors(cached.tensors())
    assert torch.equal(copy.ids_N, cached.ids_N)
    assert torch.equal(copy.logits_NC, cached.logits_NC)
    assert torch.equal(copy.of_ids(texts.ids_N), logits_that_name(texts))


# Data sets


def made(train: Sequence[str] = ("a dull film", "a bright film")) -> Dataset:
    return Dataset(
        ("bad", "good"),
        train=Split(tuple(range(10, 10 + len(train))), tuple(train), (0, 1)),
        val=Split((3,), ("an unheard word",), (1,)),
        test=Split((7,), ("film",), (0,)),
        unlabelled=("a film", "films", "a"),
    )


def test_encode_numbers_the_words_of_the_training_texts_alone() -> None:
    encoded = encode(made(), DataConfig(min_frequency=1))
    assert set(encoded.vocabulary.tokens[2:]) == {"a", "dull", "film", "bright"}
    assert encoded.val.flat.tolist() == [UNKNOWN_ID] * 3
    assert encoded.label_names == ("bad", "good")


def test_encode_keeps_ids_and_labels_and_gives_unlabelled_texts_ids_of_their_own() -> None:
    encoded = encode(made(), DataConfig(min_frequency=1))
    assert (encoded.train.ids_N.tolist(), encoded.train.labels_N.tolist()) == ([10, 11], [0, 1])
    assert (encoded.val.ids_N.tolist(), encoded.val.labels_N.tolist()) == ([3], [1])
    assert (encoded.test.ids_N.tolist(), encoded.test.labels_N.tolist()) == ([7], [0])
    assert encoded.unlabelled.labels_N.tolist() == [-1, -1, -1]
    assert encoded.unlabelled.ids_N.tolist() == [-1, -2, -3]


def test_encode_obeys_the_limits_on_words_and_tokens() -> None:
    encoded = encode(made(("a a a b b c c c c d d d d d x y z", "a")), DataConfig(min_frequency=2, max_tokens=4))
    assert set(encoded.vocabulary.tokens[2:]) == {"a", "b", "c", "d"}
    assert encoded.train.lengths_N.tolist() == [4, 1]
    many = " ".join(f"w{number}" for number in range(30))
    assert len(encode(made((many, "a")), DataConfig(min_frequency=1, max_vocabulary=10)).vocabulary) == 12


def test_encode_can_be_stopped_between_any_two_texts() -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        encode(made(), DataConfig(), check)
    calls = -100
    encode(made(), DataConfig(), check)
    assert calls == -100 + 7, "once for each text"


def test_tensors_and_from_tensors_are_inverse(encoded: EncodedDataset) -> None:
    tensors = encoded.tensors()
    copy = EncodedDataset.from_tensors(list(encoded.label_names), encoded.vocabulary, tensors)
    assert copy.label_names == encoded.label_names
    assert len(tensors) == 16
    assert copy.answers is None
    for name, tensor in copy.tensors().items():
        assert torch.equal(tensor, tensors[name]), name
        assert tensor.dtype == tensors[name].dtype
    assert torch.equal(copy.test.ids_N, encoded.test.ids_N)


def answered(unlabelled: bool) -> Dataset:
    """The made data set with a teacher's logits that name their text."""
    dataset = made()

    def with_answers(split: Split) -> Split:
        return replace(split, answers=tuple((float(identity), -1.0) for identity in split.ids))

    return replace(
        dataset,
        train=with_answers(dataset.train),
        val=with_answers(dataset.val),
        test=with_answers(dataset.test),
        unlabelled_answers=((0.0, 1.0), (0.0, 2.0), (0.0, 3.0)) if unlabelled else (),
    )


@pytest.mark.parametrize("unlabelled", [False, True])
def test_a_teachers_answers_in_the_data_are_kept_by_sample(unlabelled: bool) -> None:
    answers = encode(answered(unlabelled), DataConfig(min_frequency=1)).answers
    assert answers is not None
    assert answers.of_ids(torch.tensor([11, 3, 10, 7])).tolist() == [[11, -1], [3, -1], [10, -1], [7, -1]]
    assert len(answers.ids_N) == (7 if unlabelled else 4)
    if unlabelled:
        assert answers.of_ids(torch.tensor([-1, -3, -2])).tolist() == [[0, 1], [0, 3], [0, 2]]


def test_data_whose_teacher_has_not_answered_every_split_has_no_answers() -> None:
    dataset = answered(unlabelled=True)
    partly = replace(dataset, val=replace(dataset.val, answers=()))
    assert encode(partly, DataConfig(min_frequency=1)).answers is None
    assert encode(made(), DataConfig(min_frequency=1)).answers is None


def test_tensors_and_from_tensors_are_inverse_with_answers() -> None:
    encoded = encode(answered(unlabelled=True), DataConfig(min_frequency=1))
    tensors = encoded.tensors()
    copy = EncodedDataset.from_tensors(encoded.label_names, encoded.vocabulary, tensors)
    assert len(tensors) == 18
    assert copy.answers is not None
    assert encoded.answers is not None
    assert torch.equal(copy.answers.ids_N, encoded.answers.ids_N)
    assert torch.equal(copy.answers.logits_NC, encoded.answers.logits_NC)
    assert rows_of(copy.unlabelled) == rows_of(encoded.unlabelled)
    assert copy.tensors().keys() == tensors.keys()


def test_encode_tells_how_far_it_is() -> None:
    dataset = made(["a film"] * 2)
    many = replace(dataset, unlabelled=("a film",) * 1100)
    heard: list[float] = []
    encode(many, DataConfig(min_frequency=1), progress=heard.append)
    assert heard == pytest.approx([number * 256 / 1104 for number in range(1, 5)])


def test_profile_counts_texts_words_and_mean_tokens() -> None:
    dataset = made(("a dull film", "bright"))
    profile = summarise(dataset, encode(dataset, DataConfig(min_frequency=1)))
    assert profile.labels == ("bad", "good")
    assert profile.vocabulary == 2 + 4
    assert profile.texts == {"train": 2, "val": 1, "test": 1, "unlabelled": 3}
    assert profile.mean_tokens == {"train": 2.0, "val": 3.0, "test": 1.0, "unlabelled": pytest.approx(4 / 3)}


def test_profile_of_a_data_set_without_unlabelled_texts_has_a_mean() -> None:
    dataset = made()
    bare = Dataset(dataset.label_names, dataset.train, dataset.val, dataset.test, ())
    profile = summarise(bare, encode(bare, DataConfig(min_frequency=1)))
    assert profile.mean_tokens["unlabelled"] == 0
    assert profile.unknown["unlabelled"] == 0


def test_profile_tells_classes_lengths_and_unknown_words() -> None:
    dataset = Dataset(
        ("bad", "good"),
        train=Split((0, 1, 2), ("dull dull", "bright", "dull film plot"), (0, 1, 0)),
        val=Split((3,), ("dull bright plot unheard",), (1,)),
        test=Split((7,), ("film",), (0,)),
        unlabelled=(),
    )
    profile = summarise(dataset, encode(dataset, DataConfig(min_frequency=1)))
    assert profile.class_counts == {"train": [2, 1], "val": [0, 1], "test": [1, 0]}
    assert profile.lengths == {1: 1, 2: 1, 3: 1}
    assert profile.unknown == {"train": 0.0, "val": 0.25, "test": 0.0, "unlabelled": 0.0}
    assert {(example.text, example.label) for example in profile.examples} == {
        ("dull dull", "bad"),
        ("dull film plot", "bad"),
        ("bright", "good"),
    }
    assert not profile.answered


def test_profile_with_everything_in_it_survives_the_disk(tmp_path: Path) -> None:
    profile = Profile(
        ("schlecht", "großartig"),
        12,
        {"train": 3, "unlabelled": 0},
        {"train": 2.5, "unlabelled": 0.0},
        class_counts={"train": [1, 2]},
        lengths={1: 2, 9: 1},
        unknown={"val": 0.125},
        unknown_by_size={250: 0.5},
        rows=9,
        dropped={"no text": 2},
        notes=("Two rows were left out.",),
        answered=True,
        examples=(Example("ganz schön", "großartig"),),
    )
    profile.write(tmp_path)
    assert Profile.read(tmp_path) == profile


def test_profile_survives_the_disk(tmp_path: Path) -> None:
    profile = Profile(("schlecht", "großartig"), 12, {"train": 3, "unlabelled": 0}, {"train": 2.5, "unlabelled": 0.0})
    profile.write(tmp_path)
    assert Profile.read(tmp_path) == profile


# Another device

META = torch.device("meta")
"""Knows shapes and no values: whatever is read there raises."""


def on_meta(tensors: Sequence[torch.Tensor]) -> bool:
    return all(tensor.device == META for tensor in tensors)


@given(made=encoded_texts())
def test_the_lengths_of_texts_on_another_device_stay_on_the_cpu(
    made: tuple[EncodedTexts, dict[int, list[int]]],
) -> None:
    texts, _ = made
    there = texts.to(META)
    assert on_meta(list(there.tensors().values()))
    assert there.lengths_N.device.type == "cpu"
    assert torch.equal(there.lengths_N, texts.lengths_N)
    assert there.to(META) is there
    assert texts.to(torch.device("cpu")) is texts
    assert len(there) == len(texts)


@given(made=encoded_texts(), batch_size=batch_sizes, seed=seeds)
def test_batches_on_another_device_are_planned_as_on_the_cpu(
    made: tuple[EncodedTexts, dict[int, list[int]]], batch_size: int, seed: int
) -> None:
    texts, _ = made
    here, there = one_pass(texts, batch_size, seed), one_pass(texts.to(META), batch_size, seed)
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.rows_B, other.rows_B)
        assert torch.equal(texts.ids_N[other.rows_B], one.ids_B)
        assert other.rows_B.device.type == "cpu"
        for name in ("ids_B", "tokens_BT", "lengths_B", "labels_B"):
            expected, found = getattr(one, name), getattr(other, name)
            assert found.device == META
            assert (found.shape, found.dtype) == (expected.shape, expected.dtype)


@given(made=encoded_texts(), tokens=st.integers(1, 60))
def test_sorted_batches_on_another_device_are_planned_as_on_the_cpu(
    made: tuple[EncodedTexts, dict[int, list[int]]], tokens: int
) -> None:
    texts, _ = made
    for (rows, batch), (rows_there, there) in zip(
        sorted_batches(texts, tokens), sorted_batches(texts.to(META), tokens), strict=True
    ):
        assert torch.equal(rows, rows_there)
        assert torch.equal(there.rows_B, rows)
        assert there.tokens_BT.device == META
        assert there.tokens_BT.shape == batch.tokens_BT.shape


def test_a_batch_moves_with_all_but_its_rows() -> None:
    texts = EncodedTexts.of([5, 3], [[1, 2], [1]], [0, 1])
    moved = replace(texts.gather(torch.tensor([1, 0])), share=0.5, labelled_share=0.25).to(META)
    assert on_meta([moved.ids_B, moved.tokens_BT, moved.lengths_B, moved.labels_B])
    assert moved.rows_B.tolist() == [1, 0]
    assert (moved.share, moved.labelled_share) == (0.5, 0.25)


@given(made=encoded_texts(), data=st.data())
def test_logits_of_known_samples_are_those_found_by_id(
    made: tuple[EncodedTexts, dict[int, list[int]]], data: st.DataObject
) -> None:
    texts, _ = made
    cached = SampleLogits.of([(texts, logits_that_name(texts))])
    asked = torch.tensor(data.draw(st.lists(st.sampled_from(texts.ids_N.tolist()), min_size=1, max_size=12)))
    assert torch.equal(cached.of_known(asked), cached.of_ids(asked))
    assert cached.of_known(asked)[:, 0].tolist() == asked.tolist()


def test_logits_of_known_samples_are_found_on_another_device_without_a_look_at_values() -> None:
    texts = EncodedTexts.of([5, 3, 9], [[1], [1], [2]], [0, 1, 0])
    there = SampleLogits.of([(texts, logits_that_name(texts))]).to(META)
    ids_B = torch.tensor([9, 5], device=META)
    assert there.of_known(ids_B).shape == (2, 2)
    assert there.of_known(ids_B).device == META
    with pytest.raises(NotImplementedError):
        there.of_ids(ids_B)


@given(made=encoded_texts(), data=st.data())
def test_rows_are_where_the_samples_with_these_ids_lie(
    made: tuple[EncodedTexts, dict[int, list[int]]], data: st.DataObject
) -> None:
    texts, _ = made
    rows = data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=12))
    assert texts.rows_of(texts.ids_N[rows]).tolist() == rows
    missing = int(texts.ids_N.max()) + 1
    with pytest.raises(KeyError, match=str(missing)):
        texts.rows_of(torch.tensor([int(texts.ids_N[0]), missing]))


@given(made=encoded_texts(), tokens=st.integers(1, 60))
def test_sorted_rows_cover_every_text_once(made: tuple[EncodedTexts, dict[int, list[int]]], tokens: int) -> None:
    texts, _ = made
    groups = sorted_rows(texts, tokens)
    assert torch.cat(groups).sort().values.tolist() == list(range(len(texts)))
    assert [rows.tolist() for rows in groups] == [rows.tolist() for rows, _ in sorted_batches(texts, tokens)]
    assert [rows.tolist() for rows in sorted_rows(texts.to(META), tokens)] == [rows.tolist() for rows in groups]
    longest = int(texts.lengths_N.max())
    assert [len(rows) for rows in sorted_rows(texts, len(texts) * longest)] == [len(texts)], "all at once if they fit"


def test_no_texts_have_no_sorted_rows() -> None:
    assert sorted_rows(EncodedTexts.of([], [], []), 10) == []
