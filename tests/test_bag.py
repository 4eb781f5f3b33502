"""Bag of embeddings: a weighted mean of word vectors, whatever their order."""

from __future__ import annotations

import random

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from distill_core.data.batches import EncodedTexts
from distill_core.data.vocabulary import PAD_ID
from distill_core.models.bag import BagOfEmbeddings

WORDS = 20
token_lists = st.lists(st.integers(1, WORDS - 1), min_size=1, max_size=12)


def model_of(scores: bool = True) -> BagOfEmbeddings:
    """A small model in evaluation mode; with scores that differ from word to word, or as they are at the start."""
    torch.manual_seed(3)
    model = BagOfEmbeddings(WORDS, 3, embedding_width=5, dropout=0.5)
    with torch.no_grad():
        model.embedding.weight[1:].normal_()
        if scores:
            model.scores.weight[1:].normal_(std=2.0)
    return model.eval()


@torch.no_grad()
def answer(model: BagOfEmbeddings, rows: list[list[int]], extra: int = 0) -> Tensor:
    batch = EncodedTexts.without_labels(rows).gather(torch.arange(len(rows)))
    return model(torch.nn.functional.pad(batch.tokens_BT, (0, extra), value=PAD_ID), batch.lengths_B)


@given(rows=st.lists(token_lists, min_size=1, max_size=4), extra=st.integers(0, 5))
def test_logits_are_those_of_the_weighted_mean_by_hand(rows: list[list[int]], extra: int) -> None:
    model = model_of()
    vectors, scores, weight, bias = (
        tensor.detach().double().numpy()
        for tensor in (model.embedding.weight, model.scores.weight[:, 0], model.output.weight, model.output.bias)
    )
    expected = []
    for row in rows:
        shares = np.exp(scores[row]) / np.exp(scores[row]).sum()
        expected.append(weight @ (shares[:, None] * vectors[row]).sum(axis=0) + bias)
    np.testing.assert_allclose(answer(model, rows, extra).numpy(), np.stack(expected), atol=1e-5)


@given(row=token_lists, seed=st.integers(0, 100))
def test_the_order_of_words_does_not_matter(row: list[int], seed: int) -> None:
    shuffled = random.Random(seed).sample(row, len(row))
    model = model_of()
    torch.testing.assert_close(answer(model, [shuffled]), answer(model, [row]), rtol=0, atol=1e-5)


@given(row=token_lists, copies=st.integers(2, 3))
def test_a_text_said_twice_has_the_same_logits(row: list[int], copies: int) -> None:
    model = model_of()
    torch.testing.assert_close(answer(model, [row * copies]), answer(model, [row]), rtol=0, atol=1e-5)


def test_at_the_start_every_word_counts_the_same() -> None:
    model = model_of(scores=False)
    with torch.no_grad():
        expected = model.output(model.embedding(torch.tensor([3, 4, 8])).mean(dim=0))
    torch.testing.assert_close(answer(model, [[3, 4, 8]])[0], expected, rtol=0, atol=1e-6)


@given(rows=st.lists(token_lists, min_size=1, max_size=4))
def test_what_stands_in_padded_positions_never_matters(rows: list[list[int]]) -> None:
    model = model_of()
    batch = EncodedTexts.without_labels([*rows, [1] * 13]).gather(torch.arange(len(rows) + 1))
    other_BT = batch.tokens_BT.masked_fill(batch.tokens_BT == PAD_ID, 11)
    with torch.no_grad():
        found, expected = (model(tokens_BT, batch.lengths_B) for tokens_BT in (other_BT, batch.tokens_BT))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
