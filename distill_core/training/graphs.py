"""A small model's steps as CUDA graphs: what a step asks of a GPU is recorded once for each shape of batch.

The processor takes longer to ask for the hundreds of operations of such a step than the GPU takes to do them; a graph
is asked for as a whole (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs). Before a graph takes the
place of a step, its outcome is compared with that of the step. Where they differ, or nothing can be recorded, the
training goes on operation by operation.

Shapes: `B` texts, `T` tokens.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from distill_core.data.batches import Batch
from distill_core.training.checkpoint import randomness, set_randomness
from distill_core.training.terms import Terms

LEAST_WIDTH = 8
"""Tokens of which a batch's width is a multiple, so that few shapes come often; of wide batches an eighth."""
FIRST = 3
"""The batch of a shape that is recorded: libraries choose their kernels at the first ones."""
WORTH = 10
"""Further batches of a shape that have to be expected: on an H100 a recording took about as long as eight steps from a
graph save."""
MOST_SHAPES = 64
MOST_WEIGHTS = 20_000_000
"""As far as it was measured: with 18.6 million weights, nearly all of them word vectors, a step of student XL took
3.3 ms from a graph, recordings included, and 9.8 ms without (H100)."""
TOLERANCE = 1e-2
"""Part of a gradient's length by which two calculations of it may differ: sums in any order, of bfloat16 too."""
SMALL = 1e-3
"""Part of the length of all gradients below which that of one weight does not matter."""

Gradients = Sequence[Tensor | None]
Step = Callable[[Batch], tuple[Terms, Gradients]]
Outcome = TypeVar("Outcome")


def gains_by_graphs(model: nn.Module, place: torch.device) -> bool:
    """Whether a model is small, on a GPU, and draws no random number inside a recurrent network of cuDNN."""
    if place.type != "cuda" or sum(weight.numel() for weight in model.parameters()) >= MOST_WEIGHTS:
        return False
    return not any(isinstance(module, nn.RNNBase) and module.dropout > 0 for module in model.modules())


class CudaRecorder:
    """Records what a function asks of a GPU, in memory that all recordings share."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def __call__(self, function: Callable[[], Outcome]) -> tuple[Outcome, Callable[[], None]]:
        """Where the outcome will lie, and what brings it about. Raises RuntimeError where it cannot be recorded.

        What waits for the GPU cannot be, and would leave PyTorch unable to go on, so it is looked for first.
        """
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream), _refusing_to_wait():
            function()
        graph = torch.cuda.CUDAGraph()
        with _keeping_chance(), torch.cuda.stream(self._stream):
            torch.cuda.synchronize()
            graph.capture_begin(self._pool, "thread_local")
            try:
                outcome = function()
            finally:
                graph.capture_end()
        torch.cuda.current_stream().wait_stream(self._stream)
        return outcome, graph.replay


@contextmanager
def _refusing_to_wait() -> Iterator[None]:
    """Raises RuntimeError where somebody waits for the GPU."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@contextmanager
def _keeping_chance() -> Iterator[None]:
    """Gives random numbers back a state of their own where a recording breaks off in the middle."""
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    before = generator.clone_state()
    try:
        yield
    except RuntimeError:
        generator.graphsafe_set_state(before)
        raise


def common_width(tokens: int) -> int:
    """The width to which a batch of so many tokens is padded."""
    multiple = max(LEAST_WIDTH, (1 << (tokens - 1).bit_length()) // 8)
    return -(-tokens // multiple) * multiple


class Graphs:
    """The steps of one training: `step` gives the losses of a batch and the gradients of all weights.

    Args:
        steps: how many will be asked for at most.
        give_up: hears why steps go on without graphs.
    """

    def __init__(self, step: Step, steps: int, give_up: Callable[[str], None]) -> None:
        self._step, self._left, self._give_up, self._record = step, steps, give_up, CudaRecorder()
        self._seen = Counter[torch.Size]()
        self._graphs = dict[torch.Size, _Graph]()
        self._gradients: Gradients = ()
        self._usable = True

    def step(self, batch: Batch) -> tuple[Terms, Gradients]:
        """The same, from a graph where there is one. The gradients last until the next step."""
        shape = batch.tokens_BT.shape
        self._seen[shape] += 1
        self._left -= 1
        if shape in self._graphs:
            return self._graphs[shape].replay(batch), self._gradients
        if not (self._usable and self._pays(shape)):
            return self._step(batch)
        before = randomness()
        found = _without_history(self._step(batch))
        after = randomness()
        try:
            self._add(batch, found, before)
        except RuntimeError as error:
            self._usable = False
            self._graphs.clear()
            self._gradients = ()
            self._give_up(str(error).partition("\n")[0])
        set_randomness(after)
        return found

    def _pays(self, shape: torch.Size) -> bool:
        expected = self._left * self._seen[shape] / self._seen.total()
        return self._seen[shape] >= FIRST and expected >= WORTH and len(self._graphs) < MOST_SHAPES

    def _add(self, batch: Batch, found: tuple[Terms, Gradients], before: list[Tensor]) -> None:
        """Records a step and takes it again. Raises RuntimeError where that fails or comes to something else."""
        if not self._gradients:
            self._gradients = [None if gradient is None else torch.zeros_like(gradient) for gradient in found[1]]
        graph = _Graph(self._step, batch, self._gradients, self._record)
        set_randomness(before)
        if not _agree(found, (graph.replay(batch), self._gradients)):
            raise RuntimeError("a graph came to something else than its step")
        self._graphs[batch.tokens_BT.shape] = graph


class _Graph:
    """A step of one shape. Its batch, its losses and the gradients, which all share, lie at fixed places in memory."""

    def __init__(self, step: Step, batch: Batch, places: Gradients, record: CudaRecorder) -> None:
        ids_B, tokens_BT, lengths_B, labels_B = (tensor.clone() for tensor in _tensors(batch))
        own = Batch(ids_B, tokens_BT, lengths_B, labels_B)

        def recorded() -> Terms:
            terms, gradients = _without_history(step(own))
            for place, gradient in zip(places, gradients, strict=True):
                if place is not None and gradient is not None:
                    place.copy_(gradient)
            return terms

        self._tensors = _tensors(own)
        self._terms, self._replay = record(recorded)

    def replay(self, batch: Batch) -> Terms:
        """The losses of a batch; its gradients lie at their places."""
        for own, given in zip(self._tensors, _tensors(batch), strict=True):
            own.copy_(given)
        self._replay()
        return self._terms.copied()


def _without_history(outcome: tuple[Terms, Gradients]) -> tuple[Terms, Gradients]:
    """Lets go of what autograd keeps at the weights: it belongs to the stream on which it was made."""
    terms, gradients = outcome
    return terms.scalars(), gradients


def _tensors(batch: Batch) -> tuple[Tensor, ...]:
    return batch.ids_B, batch.tokens_BT, batch.lengths_B, batch.labels_B


def _agree(step: tuple[Terms, Gradients], graph: tuple[Terms, Gradients]) -> bool:
    """Whether a step and its graph came to the same, but for the order of additions."""
    (terms, gradients), (again, others) = step, graph
    pairs = list(zip(gradients, others, strict=True))
    if any((one is None) != (other is None) for one, other in pairs):
        return False
    known = [(one, other) for one, other in pairs if one is not None and other is not None]
    apart = torch.stack([torch.linalg.vector_norm((one - other).float()) for one, other in known])
    lengths = torch.stack([torch.linalg.vector_norm(one.float()) for one, _ in known])
    least = SMALL * torch.linalg.vector_norm(lengths)
    alike = (apart <= TOLERANCE * lengths.clamp(min=least)).all()
    return bool(alike & ((terms.loss - again.loss).abs() <= TOLERANCE * terms.loss.abs()))
