"""A part of the labels: which texts keep theirs, and what those learn from who may see no other. Shapes: `N` texts."""

from __future__ import annotations

import torch
from torch import Tensor

from distill_core.data.batches import NO_LABEL, EncodedTexts


def kept_ids(train: EncodedTexts, share: float) -> Tensor:
    """Ids of the texts whose label is kept: of every class its part, drawn once, at least one text each.

    A smaller share is a part of each larger one.
    """
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randperm(len(train), generator=generator)
    kept = []
    for label in torch.unique(train.labels_N):
        own = drawn[train.labels_N[drawn] == label]
        kept.append(own[: max(round(share * len(own)), 1)])
    return train.ids_N[torch.cat(kept).sort().values]


def with_labels(texts: EncodedTexts, kept: Tensor) -> EncodedTexts:
    """The same texts, of which only those with the given ids have a label."""
    labels_N = torch.where(torch.isin(texts.ids_N, kept), texts.labels_N, NO_LABEL)
    return EncodedTexts(texts.ids_N, labels_N, texts.flat, texts.offsets)


def repeated(texts: EncodedTexts, kept: Tensor) -> EncodedTexts:
    """The texts with the given ids, again and again, until there are as many as `texts` has.

    So whoever learns from few takes as many steps as one who learns from all.
    """
    rows_N = texts.rows_of(kept)
    copies = -(-len(texts) // len(rows_N))
    rows_N = rows_N.repeat(copies)[: len(texts)]
    pieces = torch.split(texts.flat, texts.lengths_N.tolist())
    lengths_N = texts.lengths_N[rows_N]
    offsets = torch.cat([torch.zeros(1, dtype=lengths_N.dtype), lengths_N.cumsum(0)])
    return EncodedTexts(
        texts.ids_N[rows_N], texts.labels_N[rows_N], torch.cat([pieces[row] for row in rows_N.tolist()]), offsets
    )
