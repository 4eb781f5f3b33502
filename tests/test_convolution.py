"""TextCNN: filters over 3, 4 and 5 real words, of which each keeps its largest value."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from distill_core.data.batches import EncodedTexts
from distill_core.data.vocabulary import PAD_ID
from distill_core.models.convolution import WINDOWS, TextCNN

WORDS, WIDTH, FILTERS = 20, 5, 4
token_lists = st.lists(st.integers(1, WORDS - 1), min_size=1, max_size=12)


def model_of(bias: float | None = None) -> TextCNN:
    """A small model in evaluation mode with large weights; each filter's bias can be fixed."""
    torch.manual_seed(3)
    model = TextCNN(WORDS, 3, embedding_width=WIDTH, filters=FILTERS, dropout=0.5)
    with torch.no_grad():
        model.embedding.weight[1:].normal_()
        for convolution in model.convolutions:
            if bias is not None:
                convolution.bias.fill_(bias)
    return model.eval()


@torch.no_grad()
def answer(model: TextCNN, rows: list[list[int]], extra: int = 0) -> Tensor:
    batch = EncodedTexts.without_labels(rows).gather(torch.arange(len(rows)))
    return model(torch.nn.functional.pad(batch.tokens_BT, (0, extra), value=PAD_ID), batch.lengths_B)


@torch.no_grad()
def by_hand(model: TextCNN, row: list[int]) -> Tensor:
    """Each window of each width multiplied out; a text shorter than a window is filled up with zeros."""
    pooled = []
    for width, convolution in zip(WINDOWS, model.convolutions, strict=True):
        vectors_TE = model.embedding(torch.tensor(row + [PAD_ID] * max(width - len(row), 0)))
        values = [
            (convolution.weight * vectors_TE[start : start + width].T).sum(dim=(1, 2)) + convolution.bias
            for start in range(len(vectors_TE) - width + 1)
        ]
        pooled.append(torch.stack(values).amax(dim=0).clamp(min=0))
    return model.output(torch.cat(pooled))


@given(rows=st.lists(token_lists, min_size=1, max_size=4), extra=st.integers(0, 5))
def test_logits_are_those_of_every_window_multiplied_out_by_hand(rows: list[list[int]], extra: int) -> None:
    model = model_of()
    expected = torch.stack([by_hand(model, row) for row in rows])
    torch.testing.assert_close(answer(model, rows, extra), expected, rtol=0, atol=1e-4)


@given(row=token_lists, extra=st.integers(0, 8))
def test_padding_never_wins_even_where_every_real_window_is_negative(row: list[int], extra: int) -> None:
    """With zero vectors a window of padding has the bias; a positive one would beat negative real windows."""
    model = model_of(bias=2.0)
    torch.testing.assert_close(answer(model, [row], extra), answer(model, [row]), rtol=0, atol=1e-5)
    torch.testing.assert_close(answer(model, [row, [1] * 20], extra)[0], answer(model, [row])[0], rtol=0, atol=1e-5)


def test_filters_look_at_three_to_five_words() -> None:
    model = model_of()
    assert [convolution.kernel_size for convolution in model.convolutions] == [(3,), (4,), (5,)]
    assert model.output.in_features == 3 * FILTERS


def test_where_a_phrase_stands_does_not_matter() -> None:
    model = model_of()
    filler = [7] * 5
    early, late = answer(model, [[*filler, 3, 4, 5, *filler, *filler], [*filler, *filler, 3, 4, 5, *filler]])
    torch.testing.assert_close(early, late, rtol=0, atol=1e-5)


def test_the_order_within_a_phrase_matters() -> None:
    one, other = answer(model_of(), [[3, 4, 5, 6, 8], [8, 6, 5, 4, 3]])
    assert float((one - other).abs().max()) > 1e-3
