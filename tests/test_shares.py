"""A part of the labels: which texts keep theirs."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from distill_core.data.batches import NO_LABEL, EncodedTexts
from distill_core.data.shares import kept_ids, repeated, with_labels

shares = st.floats(0.001, 1.0)


def texts(labels: list[int]) -> EncodedTexts:
    """Texts whose token ids are their own place, told apart from their sample id."""
    ids = [10 * place + 7 for place in range(len(labels))]
    return EncodedTexts.of(ids, [[place] * (1 + place % 3) for place in range(len(labels))], labels)


@given(st.lists(st.integers(0, 2), min_size=3, max_size=200), shares, shares)
def test_every_class_has_its_part_and_a_smaller_share_lies_in_a_larger(
    labels: list[int], first: float, second: float
) -> None:
    small, large = sorted((first, second))
    train = texts(labels)
    few, many = (set(kept_ids(train, share).tolist()) for share in (small, large))
    assert few <= many
    for label in set(labels):
        own = [identity for identity, known in zip(train.ids_N.tolist(), labels, strict=True) if known == label]
        assert len(many & set(own)) == max(round(large * len(own)), 1)


def test_all_labels_are_all_texts() -> None:
    train = texts([0, 1] * 20)
    assert kept_ids(train, 1.0).tolist() == train.ids_N.tolist()


@given(st.lists(st.integers(0, 1), min_size=2, max_size=100), shares)
def test_only_kept_texts_have_a_label(labels: list[int], share: float) -> None:
    train = texts(labels)
    kept = kept_ids(train, share)
    hidden = with_labels(train, kept)
    shown = hidden.labels_N != NO_LABEL
    assert hidden.ids_N[shown].tolist() == kept.tolist()
    assert torch.equal(hidden.labels_N[shown], train.labels_N[shown])
    assert torch.equal(hidden.flat, train.flat)


@given(st.lists(st.integers(0, 1), min_size=2, max_size=100), shares)
def test_few_texts_are_read_again_and_again_with_their_own_words(labels: list[int], share: float) -> None:
    train = texts(labels)
    kept = kept_ids(train, share)
    again = repeated(train, kept)
    assert len(again) == len(train)
    assert set(again.ids_N.tolist()) <= set(kept.tolist())
    counts = again.ids_N.unique(return_counts=True)[1]
    assert int(counts.max() - counts.min()) <= 1
    for place, identity in enumerate(again.ids_N.tolist()):
        row = (identity - 7) // 10
        assert again.flat[again.offsets[place] : again.offsets[place + 1]].tolist() == [row] * (1 + row % 3)
        assert int(again.labels_N[place]) == labels[row]
