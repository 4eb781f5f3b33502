"""Word vectors at the start of a model. Shapes: `V` words, `E` embedding width, `W` width of given vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distill_core.data.vocabulary import PAD_ID

SCALE = 0.1
"""Standard deviation of word vectors at the start."""


def embedding(vocabulary_size: int, width: int) -> nn.Embedding:
    """Random vectors; that of padding is 0 and stays so."""
    table = nn.Embedding(vocabulary_size, width, padding_idx=PAD_ID)
    nn.init.normal_(table.weight, std=SCALE)
    with torch.no_grad():
        table.weight[PAD_ID] = 0.0
    return table


def principal_components(vectors_VW: Tensor, width: int) -> Tensor:
    """The vectors `[V, W]` along their `width` directions of largest variance, `[V, min(width, W)]`, centred.

    Principal component analysis (Jolliffe 2002); a static embedding made of a sentence encoder in this way is that of
    Model2Vec. Scaled as a whole to the standard deviation that word vectors have at the start of training.
    """
    centred = vectors_VW.double() - vectors_VW.double().mean(dim=0)
    _, directions = torch.linalg.eigh(centred.T @ centred)  # ascending
    projected = centred @ directions.flip(1)[:, :width]
    # An eigenvector's sign is arbitrary; the largest entry is made positive, so that every machine agrees.
    signs = projected.gather(0, projected.abs().argmax(dim=0, keepdim=True)).sign()
    scaled: Tensor = projected * signs * (SCALE / projected.std().clamp(min=1e-12))
    return scaled.float()


def start_from(table: nn.Embedding, vectors_VW: Tensor, known_V: Tensor) -> None:
    """Gives the words that `known_V` marks the vectors of the same rows, reduced to the table's width.

    Where the given vectors are narrower, the remaining columns stay as they were. Padding stays 0.
    """
    rows = known_V.clone()
    rows[PAD_ID] = False
    reduced = principal_components(vectors_VW[rows], table.embedding_dim)
    with torch.no_grad():
        columns = table.weight[:, : reduced.shape[1]]
        columns[rows] = reduced.to(table.weight)
