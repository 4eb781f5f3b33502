"""The article's classifier, embedding → LSTM (or GRU) → pooling → linear, and the way from a setting to a model.

Each reading direction is a network of its own, the backward one fed with reversed text, so that a direction never sees
the words that it predicts in pre-training (as in ELMo, Peters et al. 2018). Texts are padded on the right and a
direction only looks back, so padding cannot reach a real position; pooling leaves padded positions out.

Shapes: `B` texts, `T` tokens, `E` embedding width, `H` states a direction, `D` directions, `C` classes.
"""

from __future__ import annotations

from functools import reduce
from typing import Any, Literal

import torch
from torch import Tensor, nn

from distill_core.config import ModelConfig
from distill_core.models.bag import BagOfEmbeddings
from distill_core.models.convolution import TextCNN
from distill_core.models.directions import read_all
from distill_core.models.dropout import Dropout
from distill_core.models.embedding import embedding
from distill_core.models.sizes import Work, kind_of, lstm_work, widths


def build(config: ModelConfig, vocabulary_size: int, classes: int) -> TextClassifier | TextCNN | BagOfEmbeddings:
    """A new model whose start depends on PyTorch's random state alone."""
    size, kind = widths(config), kind_of(config)
    if kind == "textcnn":
        return TextCNN(
            vocabulary_size,
            classes,
            embedding_width=size.embedding,
            filters=size.hidden,
            dropout=config.dropout,
        )
    if kind == "bag":
        return BagOfEmbeddings(vocabulary_size, classes, embedding_width=size.embedding, dropout=config.dropout)
    return TextClassifier(
        vocabulary_size,
        classes,
        cell=kind,
        embedding_width=size.embedding,
        hidden_width=size.hidden,
        layers=config.layers,
        bidirectional=config.bidirectional,
        pooling=config.pooling,
        dropout=config.dropout,
    )


class TextClassifier(nn.Module):
    """Logits for each class of each text."""

    def __init__(
        self,
        vocabulary_size: int,
        classes: int,
        *,
        cell: Literal["lstm", "gru"] = "lstm",
        embedding_width: int,
        hidden_width: int,
        layers: int,
        bidirectional: bool,
        pooling: str,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embedding = embedding(vocabulary_size, embedding_width)
        network = nn.LSTM if cell == "lstm" else nn.GRU
        self.directions = nn.ModuleList(
            network(embedding_width, hidden_width, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
            for _ in range(2 if bidirectional else 1)
        )
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(hidden_width * len(self.directions), classes)
        self.pooling = pooling
        self.work: Work = lstm_work(hidden_width) if cell == "lstm" else "other"

    def forward(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Logits `[B, C]` of token ids `[B, T]` padded on the right; `lengths_B` ≥ 1 counts real tokens."""
        pooled = [self._pool(states_BTH, lengths_B) for states_BTH in self.states(tokens_BT, lengths_B)]
        logits_BC: Tensor = self.output(self.dropout(torch.cat(pooled, dim=1)))
        return logits_BC

    def states(self, tokens_BT: Tensor, lengths_B: Tensor) -> list[Tensor]:
        """States `[B, T, H]` of each direction, in the order in which that direction reads."""
        readings = [tokens_BT, reverse(tokens_BT, lengths_B)][: len(self.directions)]
        # Word after word in memory, as the networks read: one look-up and one mask for all directions.
        words_DTBE = self.dropout(self.embedding(torch.stack(readings).transpose(1, 2)))
        return read_all(list(self.directions), list(words_DTBE.transpose(1, 2)))

    def _pool(self, states_BTH: Tensor, lengths_B: Tensor) -> Tensor:
        if self.pooling == "last":
            rows = torch.arange(len(lengths_B), device=lengths_B.device)
            return states_BTH[rows, lengths_B - 1]
        largest_BH: Tensor = _Largest.apply(states_BTH, lengths_B)  # type: ignore[no-untyped-call]
        return largest_BH


class _Largest(torch.autograd.Function):
    """The largest of each state over real positions; equal ones share the gradient.

    As `masked_fill` and `amax`, of which the first copies all and the second takes long on its way back.
    """

    @staticmethod
    def forward(ctx: Any, states_BTH: Tensor, lengths_B: Tensor) -> Tensor:
        ctx.full = _shortest(states_BTH, lengths_B)
        parts = [states_BTH[:, : ctx.full]] if ctx.full else []
        if ctx.full < states_BTH.shape[1]:
            parts.append(_filled(states_BTH, lengths_B, ctx.full, -torch.inf))
        largest_BH = reduce(torch.maximum, [part.amax(dim=1) for part in parts])
        ctx.save_for_backward(states_BTH, lengths_B, largest_BH)
        return largest_BH

    @staticmethod
    def backward(ctx: Any, gradient_BH: Tensor) -> tuple[Tensor, None]:
        states_BTH, lengths_B, largest_BH = ctx.saved_tensors
        hits_BTH = (states_BTH == largest_BH[:, None]).to(gradient_BH.dtype)
        hits_BTH[:, ctx.full :] = _filled(hits_BTH, lengths_B, ctx.full, 0.0)
        return hits_BTH.mul_((gradient_BH / hits_BTH.sum(dim=1))[:, None]), None


def _shortest(states_BTH: Tensor, lengths_B: Tensor) -> int:
    """How many positions are real in every text; 0 on a GPU, where it would have to be waited for."""
    return int(lengths_B.min()) if states_BTH.device.type == "cpu" else 0


def _filled(states_BTH: Tensor, lengths_B: Tensor, first: int, value: float) -> Tensor:
    """The states from position `first` on, with a value in place of padding."""
    positions_T = torch.arange(first, states_BTH.shape[1], device=lengths_B.device)
    return states_BTH[:, first:].masked_fill((positions_T >= lengths_B[:, None])[..., None], value)


def reverse(tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
    """Each text backwards, its padding still on the right."""
    positions_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
    mirrored_BT = lengths_B[:, None] - 1 - positions_T
    return tokens_BT.gather(1, torch.where(mirrored_BT >= 0, mirrored_BT, positions_T))
