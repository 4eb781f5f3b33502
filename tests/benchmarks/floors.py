"""What this machine does in a second, and the least time that a piece of work takes at these rates: its floor.

A floor adds up products at the rate that PyTorch reaches at their very shapes, tanh and its like, and what has to come
from memory, as if all cores shared them perfectly and nothing else had to be done. So a step can come close to its
floor, not below it.

Shapes: `m` rows and `k` columns of a left matrix, `n` columns of a right one; `B` texts of a batch, `T` tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch

from distill_core.data.batches import READING_TOKENS
from tests.benchmarks.protocol import now

SECONDS = 0.02
"""How long a rate is measured, unless a single call takes longer; the best moment counts."""
ROUND = 0.002
"""Seconds of calls between two looks at the clock."""
COPIED = 2**26
"""Numbers of float32 in a copy that no cache can hold."""
CURVED = 2**14
"""Numbers whose tanh is taken at once; they stay in the cache, as the gates of a step do."""
LARGE = 768
"""Side of square matrices that cores share well."""
TRIES = 5
ADAM_BYTES = 28
"""A weight, its gradient and both moments are read, all but the gradient written, in float32."""


@dataclass(frozen=True)
class Rates:
    """What a machine does in a second, on all the cores that it may use.

    `product` gives floating-point operations for the shape of a product, `curves` is in numbers whose tanh or sigmoid
    is taken, `bandwidth` in bytes read or written.
    """

    product: Callable[[int, int, int], float]
    curves: float
    bandwidth: float


@dataclass(frozen=True)
class Work:
    """What has to be computed: products `(m, k, n, count)` of `[m, k]` and `[k, n]`, curves, and bytes to be moved.

    A count may be a fraction, where a batch is not full.
    """

    products: tuple[tuple[int, int, int, float], ...] = ()
    curves: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.products + other.products, self.curves + other.curves, self.bytes + other.bytes)

    @property
    def flops(self) -> float:
        """Floating-point operations of the products, two a multiply-add."""
        return sum(2 * m * k * n * count for m, k, n, count in self.products)

    def floor_seconds(self, rates: Rates) -> float:
        """The least time that it takes."""
        products = sum(2 * m * k * n * count / rates.product(m, k, n) for m, k, n, count in self.products)
        return products + self.curves / rates.curves + self.bytes / rates.bandwidth


# What has to be done


def embedding_read(tokens: float, width: int) -> Work:
    """So many rows of a table of float32."""
    return Work(bytes=4.0 * tokens * width)


def adam_update(weights: int) -> Work:
    """One step of Adam over all weights, which have a gradient each."""
    return Work(bytes=float(ADAM_BYTES * weights))


def recurrent_pass(texts: int, tokens: float, *, embedding: int, hidden: int, directions: int) -> Work:
    """An LSTM of one layer reads a batch, `[B, T]`: the inputs in one product, the states in one a time step.

    Pooling and the last layer are too small to count.

    Args:
        tokens: of a text; the mean where they differ.
    """
    read, gates = round(texts * tokens), 4 * hidden
    products = ((read, embedding, gates, directions), (texts, hidden, gates, tokens * directions))
    # Three sigmoids and two tanh a state.
    curves = 5.0 * read * hidden * directions
    return Work(products, curves) + embedding_read(read, embedding)


def recurrent_step(texts: int, tokens: float, *, embedding: int, hidden: int, directions: int) -> Work:
    """The same and the way back, without the update: each product has a gradient of its inputs and one of its weights.

    That of the weights can wait for all time steps, and be one product.
    """
    read, gates = round(texts * tokens), 4 * hidden
    inputs = ((read, gates, embedding, directions), (texts, gates, hidden, tokens * directions))
    weights = ((embedding, read, gates, directions), (hidden, read, gates, directions))
    ahead = recurrent_pass(texts, tokens, embedding=embedding, hidden=hidden, directions=directions)
    return ahead + Work((*inputs, *weights))


def encoder_pass(
    lengths: Sequence[int],
    *,
    layers: int = 6,
    width: int = 384,
    inner: int = 1536,
    heads: int = 12,
    tokens_at_once: int = READING_TOKENS // 2,
) -> Work:
    """A transformer encoder, all-MiniLM-L6-v2 by default, reads texts of so many tokens, none of them padding.

    The products of attention are counted at the shape of a text whose length is the mean.

    Args:
        tokens_at_once: of a batch.
    """
    total, mean = sum(lengths), max(round(sum(lengths) / len(lengths)), 1)
    rows, head = min(total, tokens_at_once), width // heads
    batches, pairs = total / rows, sum(length**2 for length in lengths)
    attended = layers * heads * pairs / mean**2
    products = (
        (rows, width, width, 4 * layers * batches),
        (rows, width, inner, layers * batches),
        (rows, inner, width, layers * batches),
        (mean, head, mean, attended),
        (mean, mean, head, attended),
    )
    # GELU has an error function, softmax an exponential.
    curves = float(layers * (total * inner + heads * pairs))
    return Work(products, curves) + embedding_read(total, width)


# What the machine can do


def rates(dtype: torch.dtype = torch.float32) -> Rates:
    """This machine's rates on the threads that PyTorch uses; those of products are measured when they are asked for.

    A small product is measured on one thread, and multiplied by what all threads gain at a large one: cores can share
    the texts of a batch, but PyTorch does not share such a product well.
    """
    threads = torch.get_num_threads()
    more = gain(threads, dtype)

    @cache
    def product(m: int, k: int, n: int) -> float:
        return more * product_rate(m, k, n, dtype)

    return Rates(product, more * curve_rate(), bandwidth(threads))


def gain(threads: int, dtype: torch.dtype = torch.float32) -> float:
    """How many times as many large products so many threads do as one does: 1 where they share a core.

    Other programs may have a core for a while, so it is the best of some times.
    """
    if threads == 1:
        return 1.0
    alone, together = (
        max(product_rate(LARGE, LARGE, LARGE, dtype, count) for _ in range(TRIES)) for count in (1, threads)
    )
    return max(together / alone, 1.0)


def product_rate(m: int, k: int, n: int, dtype: torch.dtype = torch.float32, threads: int = 1) -> float:
    """Floating-point operations a second in products of `[m, k]` and `[k, n]`, the second as weights lie in memory."""
    left, right = torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype).t()
    out = torch.empty(m, n, dtype=dtype)
    return 2 * m * k * n / _seconds(lambda: torch.mm(left, right, out=out), threads)


def curve_rate(threads: int = 1) -> float:
    """Numbers a second whose tanh or sigmoid is taken."""
    values = torch.randn(CURVED)
    out = torch.empty_like(values)
    tanh = _seconds(lambda: torch.tanh(values, out=out), threads)
    sigmoid = _seconds(lambda: torch.sigmoid(values, out=out), threads)
    return 2 * CURVED / (tanh + sigmoid)


def bandwidth(threads: int) -> float:
    """Bytes a second read and written by a copy."""
    source, target = torch.ones(COPIED), torch.zeros(COPIED)
    return 2 * source.nbytes / _seconds(lambda: target.copy_(source), threads)


def _seconds(action: Callable[[], object], threads: int) -> float:
    """The least seconds of one call."""
    with on_threads(threads), torch.inference_mode():
        action()
        once = max(_timed(action, 1), 1e-7)
        calls, best = max(int(ROUND / once), 1), math.inf
        end = now() + SECONDS
        while best == math.inf or now() < end:
            best = min(best, _timed(action, calls))
    return best


def _timed(action: Callable[[], object], calls: int) -> float:
    start = now()
    for _ in range(calls):
        action()
    return (now() - start) / calls


@contextmanager
def on_threads(threads: int) -> Iterator[None]:
    """Lets PyTorch use so many threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
