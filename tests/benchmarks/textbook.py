"""The models and the batches as anybody would write them in PyTorch: what a plain loop and a toolkit are given.

They stay plain whatever becomes of the lab's own, and share the names of its weights, so that all have the same start.

Shapes: `N` texts, `B` texts in a batch, `T` tokens of the longest text in it, `E` embedding width, `H` states a
direction, `W` width of an encoder, `C` classes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

Batch = dict[str, Tensor]
"""`student_tokens` and `teacher_tokens` `[B, T]`, each with its own `T` and its `…_lengths` `[B]`; `labels` `[B]`."""


class TextbookBiLSTM(nn.Module):
    """Embedding → an LSTM for each reading direction → the largest value of each state → linear."""

    def __init__(
        self,
        vocabulary_size: int,
        classes: int,
        *,
        embedding_width: int,
        hidden_width: int,
        directions: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, embedding_width, padding_idx=0)
        self.directions = nn.ModuleList(
            nn.LSTM(embedding_width, hidden_width, batch_first=True) for _ in range(directions)
        )
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_width * directions, classes)

    @classmethod
    def with_weights(cls, weights: Mapping[str, Tensor], dropout: float) -> TextbookBiLSTM:
        """The model of a `state_dict`, whose shapes say how wide it is; of one layer."""
        vocabulary_size, embedding_width = weights["embedding.weight"].shape
        directions = sum(name.startswith("directions.") and name.endswith("weight_hh_l0") for name in weights)
        model = cls(
            vocabulary_size,
            len(weights["output.bias"]),
            embedding_width=embedding_width,
            hidden_width=weights["directions.0.weight_hh_l0"].shape[1],
            directions=directions,
            dropout=dropout,
        )
        model.load_state_dict(weights)
        return model

    def forward(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Logits `[B, C]` of token ids `[B, T]` padded on the right; `lengths_B` ≥ 1 counts real tokens."""
        positions_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        padding_BT1 = (positions_T >= lengths_B[:, None])[..., None]
        readings = [tokens_BT, backwards(tokens_BT, lengths_B)][: len(self.directions)]
        pooled = []
        for network, reading_BT in zip(self.directions, readings, strict=True):
            states_BTH, _ = network(self.dropout(self.embedding(reading_BT)))
            pooled.append(states_BTH.masked_fill(padding_BT1, -torch.inf).amax(dim=1))
        logits_BC: Tensor = self.output(self.dropout(torch.cat(pooled, dim=1)))
        return logits_BC


def backwards(tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
    """Each text from its last token to its first, the padding still on the right."""
    positions_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
    mirrored_BT = lengths_B[:, None] - 1 - positions_T
    return tokens_BT.gather(1, torch.where(mirrored_BT >= 0, mirrored_BT, positions_T))


class TextbookEncoder(nn.Module):
    """A transformer encoder, the mean of its last states, and a linear layer; weights of its own."""

    def __init__(self, encoder: Any, output: nn.Linear, pad_id: int) -> None:
        super().__init__()
        self.encoder, self.output, self.pad_id = copy.deepcopy(encoder), copy.deepcopy(output), pad_id

    def forward(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Logits `[B, C]` of word pieces `[B, T]` padded on the right; `lengths_B` ≥ 1 counts real ones."""
        real_BT = torch.arange(tokens_BT.shape[1], device=tokens_BT.device) < lengths_B[:, None]
        input_ids = torch.where(real_BT, tokens_BT, self.pad_id)
        states_BTW = self.encoder(input_ids=input_ids, attention_mask=real_BT.long()).last_hidden_state
        pooled_BW = (states_BTW * real_BT[..., None]).sum(dim=1) / lengths_B[:, None]
        logits_BC: Tensor = self.output(pooled_BW)
        return logits_BC


@dataclass(frozen=True)
class Example:
    """One training text as token ids of the student and of the teacher."""

    student: Tensor
    teacher: Tensor
    label: int


class TextbookBatches:
    """A `DataLoader` over examples: each pass has another random order, every batch is padded to its longest text."""

    def __init__(self, examples: Sequence[Example], batch_size: int, seed: int) -> None:
        self._loader: DataLoader[Any] = DataLoader(
            examples,  # type: ignore[arg-type]
            batch_size,
            shuffle=True,
            generator=torch.Generator().manual_seed(seed),
            collate_fn=collate,
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._loader)


def examples_of(
    student: Sequence[Sequence[int]], teacher: Sequence[Sequence[int]] | None, labels: Sequence[int]
) -> list[Example]:
    """Examples from token ids; without those of a teacher it reads the student's."""
    student_rows = [torch.tensor(row) for row in student]
    teacher_rows = student_rows if teacher is None else [torch.tensor(row) for row in teacher]
    return [Example(*parts) for parts in zip(student_rows, teacher_rows, labels, strict=True)]


def collate(examples: Sequence[Example]) -> Batch:
    """One batch; where the teacher reads the student's tokens they are padded once."""
    tokens, lengths = _padded([example.student for example in examples])
    batch = {"student_tokens": tokens, "student_lengths": lengths}
    if examples[0].teacher is not examples[0].student:
        tokens, lengths = _padded([example.teacher for example in examples])
    labels = torch.tensor([example.label for example in examples])
    return {**batch, "teacher_tokens": tokens, "teacher_lengths": lengths, "labels": labels}


def _padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    return pad_sequence(list(rows), batch_first=True), torch.tensor([len(row) for row in rows])
