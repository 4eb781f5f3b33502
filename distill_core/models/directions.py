"""The reading directions of a text at the same time, the second on a thread that has been lent.

A recurrent network takes one step after the other, each too small for cores to share, and PyTorch walks back on one
thread. The directions know nothing of each other until they are joined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

LEAST_WORK = 30_000_000
"""Multiply-adds of a direction below which handing it over takes longer than it saves."""

_lent = ContextVar[Executor | None]("lent", default=None)


@contextmanager
def lending(threads: Executor | None) -> Iterator[None]:
    """Lets models use threads of one core each, or none, where this thread calls them."""
    token = _lent.set(threads)
    try:
        yield
    finally:
        _lent.reset(token)


def read_all(networks: Sequence[nn.Module], readings: Sequence[Tensor]) -> list[Tensor]:
    """The states `[B, T, H]` of each recurrent network after its reading `[B, T, E]`, with gradients for both."""
    threads, work = (
        _lent.get(),
        readings[0].shape[:2].numel() * sum(weight.numel() for weight in networks[0].parameters()),
    )
    if threads is None or len(networks) == 1 or work < LEAST_WORK or not torch.is_grad_enabled():
        return [network(reading_BTE)[0] for network, reading_BTE in zip(networks, readings, strict=True)]
    weights = [weight for network in networks for weight in network.parameters()]
    return list(_AtOnce.apply(threads, networks, *readings, *weights))  # type: ignore[no-untyped-call]


class _AtOnce(torch.autograd.Function):
    """Forward and backward on a thread a network. There are no second derivatives."""

    @staticmethod
    def forward(ctx: Any, threads: Executor, networks: Sequence[nn.Module], *tensors: Tensor) -> tuple[Tensor, ...]:
        readings = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in tensors[: len(networks)]]
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None

        def read(network: nn.Module, reading_BTE: Tensor) -> Tensor:
            with torch.enable_grad(), torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
                states_BTH: Tensor = network(reading_BTE)[0]
            return states_BTH

        ctx.threads, ctx.networks, ctx.readings = threads, networks, readings
        ctx.states = _each(threads, read, networks, readings)
        return tuple(states_BTH.detach() for states_BTH in ctx.states)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        def walk_back(network: nn.Module, *tensors: Tensor) -> tuple[Tensor | None, ...]:
            reading_BTE, states_BTH, gradient_BTH = tensors
            inputs = [reading_BTE, *network.parameters()]
            wanted = [one for one in inputs if one.requires_grad]
            found = iter(torch.autograd.grad(states_BTH, wanted, gradient_BTH) if wanted else ())
            return tuple(next(found) if one.requires_grad else None for one in inputs)

        found = _each(ctx.threads, walk_back, ctx.networks, ctx.readings, ctx.states, gradients)
        ctx.states = None
        return None, None, *(reading for reading, *_ in found), *(weight for _, *own in found for weight in own)


def _each(threads: Executor, function: Callable[..., Any], *columns: Sequence[Any]) -> list[Any]:
    """The function of each row of arguments, the first on this thread."""
    rows = list(zip(*columns, strict=True))
    later = [threads.submit(function, *row) for row in rows[1:]]
    return [function(*rows[0]), *(answer.result() for answer in later)]
