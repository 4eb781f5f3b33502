"""How much faster this processor is in bfloat16 than in float32, found by trying: its instructions do not say.

With AVX-512 BF16 and without AMX, products took twice as long as in float32 on an Intel Xeon, and half as long on an
AMD EPYC (`make bench` prints both rates).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import nn

from distill_core.models.sizes import WIDE, Work

ROUNDS = 5
PRODUCT = (256, 384, 1536)
"""A product of all-MiniLM-L6-v2: word pieces, and the widths that they come in and go out with."""
TEXTS, WORDS = 64, 24


@cache
def gain(work: Work) -> float:
    """Times as fast as in float32, on one thread: an encoder's pass, a training step of an LSTM; 1 for other models.

    Takes a tenth of a second, once a process.
    """
    if work == "other":
        return 1.0
    with _alone():
        passing = _product() if work == "encoder" else _lstm_step()
        return _times_as_fast(passing)


@contextmanager
def _alone() -> Iterator[None]:
    """On one thread, and without a trace in PyTorch's random numbers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)


def _product() -> Callable[[], object]:
    rows, before, after = PRODUCT
    layer, states = nn.Linear(before, after), torch.randn(rows, before)

    def passing() -> object:
        with torch.inference_mode():
            return layer(states)

    return passing


def _lstm_step() -> Callable[[], object]:
    network, words_BTE = nn.LSTM(WIDE, WIDE, batch_first=True), torch.randn(TEXTS, WORDS, WIDE)

    def passing() -> object:
        states_BTH, _ = network(words_BTE)
        return torch.autograd.grad(states_BTH.sum(), list(network.parameters()))

    return passing


def _times_as_fast(passing: Callable[[], object]) -> float:
    """The least time of each, taken in turn, so that other work on the machine slows both."""
    least = dict.fromkeys((False, True), float("inf"))
    for _ in range(1 + ROUNDS):  # the first is slow, and is never the least
        for narrow in least:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow):
                start = time.perf_counter()
                passing()
                least[narrow] = min(least[narrow], time.perf_counter() - start)
    return least[False] / least[True]
