"""A classifier's embedding and LSTMs under a softmax over words, for pre-training.

The softmax is adaptive (Grave et al. 2017, https://arxiv.org/abs/1609.04309), since a full one would take most of the
time: frequent words have a place in its head, rarer ones share a place there and are told apart in a tail. How many of
a batch's words are in which tail decides the shape of its products. That is counted on the CPU, where the texts lie
too, so that nobody waits for a GPU to say it.

Shapes: `B` texts, `T` tokens, `H` states a direction, `W` next words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill_core.data.batches import Batch, sent
from distill_core.models.classifier import TextClassifier, reverse


@dataclass(frozen=True)
class NextWords:
    """The next words of a batch as one direction reads it, those of the softmax's head first, then tail by tail.

    `places_W` says which state each follows, of those of the batch time step after time step; `heads_W` its place in
    the head, where a tail has one, and `tails_W` that in its tail. `counts` are the words of the head and each tail.
    """

    places_W: Tensor
    heads_W: Tensor
    tails_W: Tensor
    counts: Sequence[int]

    @classmethod
    def of(cls, reading_BT: Tensor, lengths_B: Tensor, ends: Sequence[int]) -> NextWords:
        """Those of token ids on the CPU; `ends` says before which word the head and each tail end."""
        follows_TB = torch.arange(1, reading_BT.shape[1])[:, None] < lengths_B
        places_W = follows_TB.flatten().nonzero().squeeze(1)
        words_W = reading_BT[:, 1:].T.flatten()[places_W]
        parts_W = torch.bucketize(words_W, torch.tensor(ends), right=True)
        order_W = parts_W.argsort(stable=True)
        places_W, words_W, parts_W = places_W[order_W], words_W[order_W], parts_W[order_W]
        starts = torch.tensor([0, *ends[:-1]])
        return cls(
            places_W,
            heads_W=torch.where(parts_W == 0, words_W, ends[0] + parts_W - 1),
            tails_W=words_W - starts[parts_W],
            counts=torch.bincount(parts_W, minlength=len(ends)).tolist(),
        )

    def to(self, device: torch.device) -> NextWords:
        """The same on another device; nobody waits for it."""
        places_W, heads_W, tails_W = sent(torch.stack([self.places_W, self.heads_W, self.tails_W]), device)
        return NextWords(places_W, heads_W, tails_W, self.counts)


class LanguageModel(nn.Module):
    """Tells each next word from the states of each reading direction."""

    def __init__(self, model: TextClassifier, vocabulary_size: int) -> None:
        super().__init__()
        self.model = model
        cutoffs = sorted({max(vocabulary_size // 20, 1), max(vocabulary_size // 4, 1)})
        self.ends = [*cutoffs, vocabulary_size]
        self.heads = nn.ModuleList(
            nn.AdaptiveLogSoftmaxWithLoss(model.output.in_features // len(model.directions), vocabulary_size, cutoffs)
            for _ in model.directions
        )

    def forward(self, batch: Batch, on_cpu: Batch) -> Tensor:
        """Mean cross-entropy (nats) of each next word over all directions.

        Args:
            batch: texts of two tokens or more, on the model's device.
            on_cpu: the same.
        """
        tokens_BT, lengths_B = on_cpu.tokens_BT, on_cpu.lengths_B
        readings = [tokens_BT, reverse(tokens_BT, lengths_B)]
        states = self.model.states(batch.tokens_BT, batch.lengths_B)
        losses = []
        for head, states_BTH, reading_BT in zip(self.heads, states, readings, strict=False):
            assert isinstance(head, nn.AdaptiveLogSoftmaxWithLoss)
            words = NextWords.of(reading_BT, lengths_B, self.ends).to(states_BTH.device)
            states_WH = self.model.dropout(states_BTH.transpose(0, 1).flatten(0, 1)[words.places_W])
            with torch.autocast(states_WH.device.type, enabled=False):
                losses.append(cross_entropy(head, states_WH.float(), words))
        return torch.stack(losses).mean()


def cross_entropy(softmax: nn.AdaptiveLogSoftmaxWithLoss, states_WH: Tensor, words: NextWords) -> Tensor:
    """Mean cross-entropy (nats) of words, as the softmax itself gives it, whatever their order."""
    first, *others = words.counts
    told = F.log_softmax(softmax.head(states_WH), dim=1).gather(1, words.heads_W[:, None]).sum()
    states_of, places_of = (torch.split(values[first:], others) for values in (states_WH, words.tails_W))
    for tail, states, places in zip(softmax.tail, states_of, places_of, strict=True):
        if len(states):
            told = told + F.log_softmax(tail(states), dim=1).gather(1, places[:, None]).sum()
    return -told / len(states_WH)
