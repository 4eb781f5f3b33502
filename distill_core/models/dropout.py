"""Dropout (Srivastava et al. 2014) from 16 random bits a number.

PyTorch draws each number of a mask by itself, on a CPU a sixth of the time that a small student's step takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 2**16
"""The part that is dropped is a multiple of one in so many."""

_generator = ContextVar[torch.Generator | None]("generator", default=None)


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Draws this thread's masks from a generator of its own, in place of PyTorch's random state."""
    token = _generator.set(generator)
    try:
        yield
    finally:
        _generator.reset(token)


class Dropout(nn.Module):
    """Sets a part `p` of the numbers to 0 while training and makes the others larger by 1 / (1 − p)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: Tensor) -> Tensor:
        """The values with a mask of their own, drawn from PyTorch's random state unless `drawing_from` says where."""
        if not self.training or self.p == 0:
            return values
        if values.device.type != "cpu" or self.p == 1:
            return F.dropout(values, self.p)
        return values * keep_mask(values.shape, self.p).to(values.dtype).mul_(1 / (1 - self.p))


def keep_mask(shape: torch.Size, p: float) -> Tensor:
    """True in a part 1 − p of the places, on the CPU."""
    count = shape.numel()
    words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None, generator=_generator.get())
    return (words.view(torch.int16)[:count] >= min(round(p * LEVELS), LEVELS - 1) - LEVELS // 2).view(shape)
