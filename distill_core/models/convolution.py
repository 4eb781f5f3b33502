"""TextCNN: embedding → convolutions over 3, 4 and 5 words → largest value of each filter → linear.

Kim 2014, https://arxiv.org/abs/1408.5882. Shapes: `B` texts, `T` tokens, `E` embedding width, `F` filters a width.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill_core.models.dropout import Dropout
from distill_core.models.embedding import embedding

WINDOWS = (3, 4, 5)
"""Words that a filter sees at once."""


class TextCNN(nn.Module):
    """Logits for each class of each text."""

    def __init__(
        self, vocabulary_size: int, classes: int, *, embedding_width: int, filters: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = embedding(vocabulary_size, embedding_width)
        self.convolutions = nn.ModuleList(nn.Conv1d(embedding_width, filters, window) for window in WINDOWS)
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(filters * len(WINDOWS), classes)

    def forward(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Logits `[B, C]` of token ids `[B, T]` padded on the right; `lengths_B` ≥ 1 counts real tokens."""
        short = max(WINDOWS[-1] - tokens_BT.shape[1], 0)
        vectors_BET = self.dropout(self.embedding(F.pad(tokens_BT, (0, short)))).transpose(1, 2)
        pooled = [_largest(convolution(vectors_BET), lengths_B - window) for window, convolution in self._by_window()]
        logits_BC: Tensor = self.output(self.dropout(torch.cat(pooled, dim=1)))
        return logits_BC

    def _by_window(self) -> Iterator[tuple[int, nn.Module]]:
        return zip(WINDOWS, self.convolutions, strict=True)


def _largest(filtered_BFP: Tensor, last_B: Tensor) -> Tensor:
    """The largest value of each filter up to the last position whose words are all real, at least the first one."""
    positions_P = torch.arange(filtered_BFP.shape[2], device=last_B.device)
    beyond_B1P = (positions_P > last_B.clamp(min=0)[:, None])[:, None]
    return F.relu(filtered_BFP.masked_fill(beyond_B1P, -torch.inf).amax(dim=2))
