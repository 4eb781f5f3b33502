"""Encoded texts, their batches, and logits that find their sample whatever the shuffle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from distill_core.config import DataConfig
from distill_core.data.batches import (
    Batch,
    EncodedDataset,
    EncodedTexts,
    SampleLogits,
    batch_count,
    encode,
    shuffled_batches,
    sorted_batches,
    windows,
)
from distill_core.data.profile import Profile
from distill_core.data.sources import Dataset, Split
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


@given(made=encoded_texts(), batch_size=batch_sizes)
def test_sorted_batches_name_the_rows_they_hold_shortest_first(
    made: tuple[EncodedTexts, dict[int, list[int]]], batch_size: int
) -> None:
    texts, _ = made
    passed = list(sorted_batches(texts, batch_size))
    rows = torch.cat([rows for rows, _ in passed])
    assert sorted(rows.tolist()) == list(range(len(texts)))
    assert len(passed) == batch_count(texts, batch_size)
    for rows_B, batch in passed:
        assert torch.equal(texts.ids_N[rows_B], batch.ids_B)
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
    assert set(cut.labels_N.tolist()) == {-1}


def test_windows_pass_over_a_part_without_texts() -> None:
    nothing = EncodedTexts.of(range(0), [], [])
    cut = windows([nothing, EncodedTexts.of([0], [[4, 5, 6]], [0])], 64)
    assert cut.flat.tolist() == [4, 5, 6]


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
    assert encoded.unlabelled.ids_N.tolist() == [-3, -2, -1]


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
    for name, tensor in copy.tensors().items():
        assert torch.equal(tensor, tensors[name]), name
        assert tensor.dtype == tensors[name].dtype
    assert torch.equal(copy.test.ids_N, encoded.test.ids_N)


def test_profile_counts_texts_words_and_mean_tokens() -> None:
    profile = encode(made(("a dull film", "bright")), DataConfig(min_frequency=1)).profile()
    assert profile.labels == ("bad", "good")
    assert profile.vocabulary == 2 + 4
    assert profile.texts == {"train": 2, "val": 1, "test": 1, "unlabelled": 3}
    assert profile.mean_tokens == {"train": 2.0, "val": 3.0, "test": 1.0, "unlabelled": pytest.approx(4 / 3)}


def test_profile_of_a_data_set_without_unlabelled_texts_has_a_mean() -> None:
    dataset = made()
    bare = Dataset(dataset.label_names, dataset.train, dataset.val, dataset.test, ())
    assert encode(bare, DataConfig(min_frequency=1)).profile().mean_tokens["unlabelled"] == 0


def test_profile_survives_the_disk(tmp_path: Path) -> None:
    profile = Profile(("schlecht", "großartig"), 12, {"train": 3, "unlabelled": 0}, {"train": 2.5, "unlabelled": 0.0})
    profile.write(tmp_path)
    assert Profile.read(tmp_path) == profile
