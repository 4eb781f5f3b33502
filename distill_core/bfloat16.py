"""How much faster this processor is in bfloat16 than in float32, found by trying: its instructions do not say.

With AVX-512 BF16 and without AMX, products took twice as long as in float32 on an Intel Xeon, and half as long on an
AMD EPYC (`make bench` prints both rates).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from distill_core.models.sizes import WIDE, Work

PAYS = 1.15
"""Times as fast as in float32 that it has to be for its coarser numbers."""
ROUNDS = 5
PRODUCT = (256, 384, 1536)
"""A product of all-MiniLM-L6-v2: word pieces, and the widths that they come in and go out with."""
TEXTS, WORDS = 64, 24


def faster() -> frozenset[Work]:
    """The kinds of model that are faster in bfloat16 on one thread: an encoder's product, an LSTM's training step.

    Takes a fifth of a second.
    """
    tried: dict[Work, Callable[[], Callable[[], object]]] = {"encoder": _product, "lstm": _lstm_step}
    with _on_one_thread():
        return frozenset(work for work, made in tried.items() if _times_as_fast(made()) >= PAYS)


@contextmanager
def _on_one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _product() -> Callable[[], object]:
    rows, before, after = PRODUCT
    layer, states = _filled(nn.Linear(before, after, device="meta")), _numbers(rows, before)

    def passing() -> object:
        with torch.inference_mode():
            return layer(states)

    return passing


def _lstm_step() -> Callable[[], object]:
    network = _filled(nn.LSTM(WIDE, WIDE, batch_first=True, device="meta"))
    words_BTE = _numbers(TEXTS, WORDS, WIDE)

    def passing() -> object:
        states_BTH, _ = network(words_BTE)
        return torch.autograd.grad(states_BTH.sum(), list(network.parameters()))

    return passing


def _filled(module: nn.Module) -> nn.Module:
    """With weights of a usual size; nothing is drawn from PyTorch's own random state."""
    module = module.to_empty(device="cpu")
    for weight in module.parameters():
        weight.data.copy_(0.1 * _numbers(*weight.shape))
    return module


def _numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


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
