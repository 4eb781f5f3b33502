"""A small model's steps as CUDA graphs: what a step asks of a GPU is recorded once for each shape of batch.

The processor takes longer to ask for the hundred small operations of such a step than the GPU takes to do them; a graph
is asked for as a whole (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs). Before a graph takes the
place of a step, its outcome is compared with that of the step. Where they differ, or nothing can be recorded, the
training goes on operation by operation.

Shapes: `B` texts, `T` tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from distill_core.data.batches import Batch
from distill_core.training.checkpoint import randomness, set_randomness
from distill_core.training.team import LARGE
from distill_core.training.terms import Terms

WIDTHS = 8
"""Batches are padded to a multiple of so many tokens, so that few shapes come often."""
FIRST = 3
"""The batch of a shape that is recorded: libraries choose their kernels at the first ones."""
MOST = 64
"""Shapes that are recorded."""
TOLERANCE = 1e-2
"""Part of the gradients' length by which two calculations of them may differ: sums in any order, of bfloat16 too."""

Gradients = Sequence[Tensor | None]
Walk = Callable[[Batch], tuple[Terms, Gradients]]
Outcome = TypeVar("Outcome")


def gains_by_graphs(model: nn.Module, place: torch.device) -> bool:
    """Whether a model is small, on a GPU, and draws no random number inside a recurrent network of cuDNN."""
    if place.type != "cuda" or sum(weight.numel() for weight in model.parameters()) >= LARGE:
        return False
    return not any(isinstance(module, nn.RNNBase) and module.dropout > 0 for module in model.modules())


class CudaRecorder:
    """Records what a function asks of a GPU, without doing it, in memory that all recordings share."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Callable[[], Outcome]) -> tuple[Outcome, Callable[[], None]]:
        """Where the outcome will lie, and what brings it about. Raises RuntimeError where it cannot be recorded."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            outcome = function()
        return outcome, graph.replay


class Graphs:
    """Steps of one training: `walk` gives the losses of a batch and the gradients of all weights."""

    def __init__(self, walk: Walk) -> None:
        self._walk, self._record = walk, CudaRecorder()
        self._seen = Counter[torch.Size]()
        self._graphs = dict[torch.Size, _Graph]()
        self._gradients: Gradients = ()
        self._usable = True

    def walk(self, batch: Batch) -> tuple[Terms, Gradients]:
        """The same, from a graph where there is one. The gradients last until the next step."""
        shape = batch.tokens_BT.shape
        if self._usable and shape in self._graphs:
            return self._graphs[shape].walk(batch), self._gradients
        self._seen[shape] += 1
        if not self._usable or self._seen[shape] < FIRST or len(self._graphs) == MOST:
            return self._walk(batch)
        before = randomness()
        found = self._walk(batch)
        after = randomness()
        try:
            self._graphs[shape] = self._graph_of(batch, found)
            set_randomness(before)
            self._usable = _agree(found, (self._graphs[shape].walk(batch), self._gradients))
        except RuntimeError:
            self._usable = False
        set_randomness(after)
        return found

    def _graph_of(self, batch: Batch, found: tuple[Terms, Gradients]) -> _Graph:
        if not self._gradients:
            self._gradients = [None if gradient is None else torch.zeros_like(gradient) for gradient in found[1]]
        return _Graph(self._walk, batch, self._gradients, self._record)


class _Graph:
    """A step of one shape. Its batch, its losses and the gradients, which it shares, lie at fixed places in memory."""

    def __init__(self, walk: Walk, batch: Batch, places: Gradients, record: CudaRecorder) -> None:
        ids_B, tokens_BT, lengths_B, labels_B = (tensor.clone() for tensor in _tensors(batch))
        own = Batch(ids_B, tokens_BT, lengths_B, labels_B)

        def step() -> Terms:
            terms, gradients = walk(own)
            for place, gradient in zip(places, gradients, strict=True):
                if place is not None and gradient is not None:
                    place.copy_(gradient)
            return terms.scalars()

        self._tensors = _tensors(own)
        self._terms, self._replay = record(step)

    def walk(self, batch: Batch) -> Terms:
        for own, given in zip(self._tensors, _tensors(batch), strict=True):
            own.copy_(given)
        self._replay()
        return self._terms.copied()


def _tensors(batch: Batch) -> tuple[Tensor, ...]:
    return batch.ids_B, batch.tokens_BT, batch.lengths_B, batch.labels_B


def _agree(step: tuple[Terms, Gradients], graph: tuple[Terms, Gradients]) -> bool:
    """Whether a step and its graph came to the same, but for the order of additions."""
    (terms, gradients), (again, others) = step, graph
    pairs = list(zip(gradients, others, strict=True))
    if any((one is None) != (other is None) for one, other in pairs):
        return False
    known = [(one, other) for one, other in pairs if one is not None and other is not None]
    return all(
        bool(_length([one - other for one, other in each]) <= TOLERANCE * _length([one for one, _ in each]))
        for each in (known, [(terms.loss.detach(), again.loss)])
    )


def _length(values: Sequence[Tensor]) -> Tensor:
    return torch.cat([value.float().flatten() for value in values]).pow(2).sum().sqrt()
