"""Bag of embeddings: every word has a vector and a weight, a text is the weighted mean of its words.

The weights are learned, as a softmax over one score a word (attention without context; compare the weighted averages
of Arora et al. 2017). Shapes: `B` texts, `T` tokens, `E` embedding width, `C` classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distill_core.data.vocabulary import PAD_ID
from distill_core.models.dropout import Dropout
from distill_core.models.embedding import embedding


class BagOfEmbeddings(nn.Module):
    """Logits for each class of each text; the order of its words does not matter."""

    def __init__(self, vocabulary_size: int, classes: int, *, embedding_width: int, dropout: float) -> None:
        super().__init__()
        self.embedding = embedding(vocabulary_size, embedding_width)
        self.scores = nn.Embedding(vocabulary_size, 1, padding_idx=PAD_ID)
        nn.init.zeros_(self.scores.weight)
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(embedding_width, classes)

    def forward(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Logits `[B, C]` of token ids `[B, T]` padded on the right; `lengths_B` ≥ 1 counts real tokens."""
        padding_BT = torch.arange(tokens_BT.shape[1], device=lengths_B.device) >= lengths_B[:, None]
        weights_BT = self.scores(tokens_BT)[..., 0].masked_fill(padding_BT, -torch.inf).softmax(dim=1)
        mean_BE = torch.einsum("bt,bte->be", weights_BT, self.embedding(tokens_BT))
        logits_BC: Tensor = self.output(self.dropout(mean_BE))
        return logits_BC
