"""The language model of pre-training: its softmax beside PyTorch's, and the words that it is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from distill_core.config import TeacherConfig
from distill_core.data.batches import EncodedTexts
from distill_core.models.classifier import build, reverse
from distill_core.training.language_model import LanguageModel, NextWords, cross_entropy

VOCABULARY, ENDS = 40, [2, 10, 40]

rows_of_words = st.lists(st.lists(st.integers(0, VOCABULARY - 1), min_size=2, max_size=7), min_size=1, max_size=6)


def batch_of(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    batch = EncodedTexts.without_labels(rows).gather(torch.arange(len(rows)))
    return batch.tokens_BT, batch.lengths_B


def word(head: int, tail: int) -> int:
    """The word that has these places."""
    return head if head < ENDS[0] else ENDS[head - ENDS[0]] + tail


# Words


@given(rows_of_words)
def test_every_next_word_is_asked_for_once_where_it_follows(rows: list[list[int]]) -> None:
    words = NextWords.of(*batch_of(rows), ENDS)
    found = {
        (place % len(rows), place // len(rows) + 1): word(head, tail)
        for place, head, tail in zip(
            words.places_W.tolist(), words.heads_W.tolist(), words.tails_W.tolist(), strict=True
        )
    }
    assert found == {(text, at): row[at] for text, row in enumerate(rows) for at in range(1, len(row))}


@given(rows_of_words)
def test_words_of_a_tail_lie_together(rows: list[list[int]]) -> None:
    words = NextWords.of(*batch_of(rows), ENDS)
    assert sum(words.counts) == len(words.heads_W)
    assert len(words.counts) == len(ENDS)
    first, *others = words.counts
    assert bool((words.heads_W[:first] < ENDS[0]).all())
    for tail, heads in enumerate(words.heads_W[first:].split(others)):
        assert heads.unique().tolist() in ([], [ENDS[0] + tail])
    for size, places in zip((8, 30), words.tails_W[first:].split(others), strict=True):
        assert bool(((places >= 0) & (places < size)).all())


# The softmax


@pytest.mark.parametrize(
    "told",
    [torch.arange(VOCABULARY), torch.tensor([1]), torch.tensor([39, 38]), torch.tensor([0, 1, 12]), torch.tensor([5])],
    ids=["all", "head", "rarest", "one-tail-empty", "middle"],
)
def test_the_cross_entropy_and_its_gradients_are_those_of_pytorchs_softmax(told: Tensor) -> None:
    torch.manual_seed(0)
    softmax = nn.AdaptiveLogSoftmaxWithLoss(16, VOCABULARY, ENDS[:-1])
    states_TH = torch.randn(len(told), 16, requires_grad=True)
    words = NextWords.of(torch.cat([torch.zeros(1, dtype=torch.long), told])[None], torch.tensor([len(told) + 1]), ENDS)
    weights = [states_TH, *softmax.parameters()]
    found, expected = cross_entropy(softmax, states_TH[words.places_W], words), softmax(states_TH, told).loss
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, weights, materialize_grads=True, allow_unused=True),
        torch.autograd.grad(expected, weights, materialize_grads=True, allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_language_model_is_the_mean_of_its_directions_over_real_words(bidirectional: bool) -> None:
    torch.manual_seed(0)
    rows = [[3, 20, 1, 39], [5, 0], [7, 7, 30]]
    texts = EncodedTexts.without_labels(rows)
    batch = texts.gather(torch.arange(3))
    reader = build(TeacherConfig(size="XS", bidirectional=bidirectional, dropout=0.0), VOCABULARY, 2)
    model = LanguageModel(reader, VOCABULARY)
    readings = [batch.tokens_BT, reverse(batch.tokens_BT, batch.lengths_B)]
    expected = []
    for head, states_BTH, reading_BT in zip(
        model.heads, reader.states(batch.tokens_BT, batch.lengths_B), readings, strict=False
    ):
        pairs = [(text, at) for text, row in enumerate(rows) for at in range(len(row) - 1)]
        states = torch.stack([states_BTH[text, at] for text, at in pairs])
        expected.append(head(states, torch.stack([reading_BT[text, at + 1] for text, at in pairs])).loss)
    assert len(expected) == 1 + bidirectional
    torch.testing.assert_close(model(batch, batch), torch.stack(expected).mean())
