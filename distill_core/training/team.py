"""Threads that share a batch: each takes some of its texts, forward and backward, on a core of its own.

The products of a small model's step are too small for cores to share them, and PyTorch walks back on one thread. What
the parts say of the weights is added up, so a step is the same as one thread's but for the order of additions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from distill_core.data.batches import NO_LABEL, Batch
from distill_core.models.directions import lending
from distill_core.models.dropout import drawing_from

LEAST_TEXTS = 16
"""Texts of a part: with fewer the products get smaller, and slower, than the steps get fewer."""
LEAST_TOKENS = 4000
"""Tokens of a batch, padding counted, below which threads wait for each other longer than they compute."""
LARGE = 4_000_000
"""Weights from which PyTorch's own threads share the products of a step well enough."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Team:
    """Threads of one core each; the one that asks is among them."""

    size: int
    others: ThreadPoolExecutor

    def each(self, function: Callable[..., Answer], *columns: Sequence[Any]) -> list[Answer]:
        """What a function makes of each row of arguments, all at once."""
        rows = list(zip(*columns, strict=True))
        later = [self.others.submit(function, *row) for row in rows[1:]]
        return [function(*rows[0]), *(answer.result() for answer in later)]

    def each_part(self, function: Callable[[Batch], Answer], batch: Batch) -> list[Answer]:
        """What a function makes of each part of a batch. Random numbers are drawn from PyTorch's state, once a part."""
        count = min(self.size, len(batch) // LEAST_TEXTS) if batch.tokens_BT.numel() >= LEAST_TOKENS else 1
        if count <= 1:
            with lending(self.others):
                return [function(batch)]
        learns = torch.is_grad_enabled()

        def take(part: Batch, seed: int) -> Answer:
            with torch.set_grad_enabled(learns), drawing_from(torch.Generator().manual_seed(seed)):
                return function(part)

        return self.each(take, cut(batch, count), torch.randint(2**62, (count,)).tolist())


_own = ContextVar[Team | None]("team", default=None)


@contextmanager
def team_of(device: torch.device) -> Iterator[Team | None]:
    """The threads that this one may use, which computes on one core meanwhile; None where they are no help."""
    size, team = torch.get_num_threads(), _own.get()
    if team is not None or device.type != "cpu" or size == 1:
        yield team
        return
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(size - 1, "distill-team", initializer=lambda: torch.set_num_threads(1)) as others:
            team = Team(size, others)
            token = _own.set(team)
            try:
                yield team
            finally:
                _own.reset(token)
    finally:
        torch.set_num_threads(size)


def gains_by_threads(model: nn.Module) -> bool:
    """A small model that draws random numbers by our own dropout alone: PyTorch's would draw in any order."""
    if sum(weight.numel() for weight in model.parameters()) >= LARGE:
        return False
    return not any(
        isinstance(module, nn.Dropout) or (isinstance(module, nn.RNNBase) and module.dropout > 0)
        for module in model.modules()
    )


def cut(batch: Batch, count: int) -> list[Batch]:
    """The batch in so many parts with their shares of its texts and of its labels."""
    labelled = max(int((batch.labels_B != NO_LABEL).sum()), 1)
    return [_part(batch, rows, labelled) for rows in torch.arange(len(batch)).tensor_split(count)]


def _part(batch: Batch, rows: Tensor, labelled: int) -> Batch:
    here = slice(int(rows[0]), int(rows[-1]) + 1)
    lengths, labels = batch.lengths_B[here], batch.labels_B[here]
    return Batch(
        batch.ids_B[here],
        batch.tokens_BT[here, : int(lengths.max())],
        lengths,
        labels,
        None if batch.rows_B is None else batch.rows_B[here],
        share=len(rows) / len(batch),
        labelled_share=int((labels != NO_LABEL).sum()) / labelled,
    )


def added(gradients: Sequence[Sequence[Tensor | None]]) -> list[Tensor | None]:
    """The gradients of all parts, weight by weight, in the memory of the first."""
    total = list(gradients[0])
    for further in gradients[1:]:
        for place, gradient in enumerate(further):
            known = total[place]
            if gradient is not None:
                total[place] = gradient if known is None else known.add_(gradient)
    return total
