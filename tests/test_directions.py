"""What a classifier does faster than a textbook: directions at the same time and the largest state, with equal results.

Shapes: `B` texts, `T` tokens, `E` inputs of a network, `H` states.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from distill_core.data.vocabulary import PAD_ID
from distill_core.models import directions
from distill_core.models.classifier import TextClassifier, _Largest
from distill_core.models.directions import LEAST_WORK, lending, read_all
from tests.benchmarks.textbook import TextbookBiLSTM

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}
every_network = pytest.mark.parametrize(("cell", "layers"), list(product(CELLS, [1, 2])))


class Lent(ThreadPoolExecutor):
    """One thread that counts what it is asked to do."""

    def __init__(self) -> None:
        super().__init__(1, "lent", initializer=lambda: torch.set_num_threads(1))
        self.asked = 0

    def submit(self, *given: Any, **named: Any) -> Future[Any]:
        self.asked += 1
        return super().submit(*given, **named)


@pytest.fixture(scope="module")
def pool() -> Iterator[Lent]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with Lent() as threads:
        yield threads
    torch.set_num_threads(before)


@pytest.fixture
def lent(pool: Lent) -> Lent:
    pool.asked = 0
    return pool


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """No work is too small to be handed over."""
    monkeypatch.setattr(directions, "LEAST_WORK", 0)


def networks_of(cell: str, layers: int = 1, width: int = 5, hidden: int = 6, count: int = 2) -> list[nn.Module]:
    torch.manual_seed(1)
    return [CELLS[cell](width, hidden, layers, batch_first=True) for _ in range(count)]


def readings_of(texts: int, tokens: int, width: int = 5, seed: int = 2, count: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(texts, tokens, width, generator=generator).requires_grad_() for _ in range(count)]


def learned(
    networks: Sequence[nn.Module],
    readings: Sequence[Tensor],
    threads: ThreadPoolExecutor | None,
    *,
    narrow: bool = False,
) -> tuple[list[Tensor], list[Tensor | None]]:
    """The states, and what a sum of them in which each counts differently says of readings and weights."""
    inputs = [*readings, *(weight for network in networks for weight in network.parameters())]
    for tensor in inputs:
        tensor.grad = None
    with lending(threads), torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow):
        states = read_all(networks, readings)
        total = sum((place + 1) * found.float().sin().square().sum() for place, found in enumerate(states))
        total.backward()
    return [found.detach() for found in states], [tensor.grad for tensor in inputs]


def check_equal(found: Sequence[Tensor | None], expected: Sequence[Tensor | None], **limits: float) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, **limits)


# Directions


@every_network
@pytest.mark.usefixtures("always")
@settings(max_examples=10)
@given(texts=st.integers(1, 5), tokens=st.integers(1, 9), seed=st.integers(0, 99))
def test_directions_at_the_same_time_say_what_they_say_one_after_the_other(
    pool: Lent, cell: str, layers: int, texts: int, tokens: int, seed: int
) -> None:
    networks, readings = networks_of(cell, layers), readings_of(texts, tokens, seed=seed)
    states, gradients = learned(networks, readings, None)
    pool.asked = 0
    states_too, gradients_too = learned(networks, readings, pool)
    assert pool.asked == 2, "once forward and once backward"
    check_equal(states_too, states)
    check_equal(gradients_too, gradients)
    assert tokens == 1 or all(gradient is not None and bool(gradient.any()) for gradient in gradients)


@every_network
@pytest.mark.usefixtures("always")
def test_they_do_so_in_bfloat16(lent: Lent, cell: str, layers: int) -> None:
    networks, readings = networks_of(cell, layers), readings_of(4, 7)
    states, gradients = learned(networks, readings, None, narrow=True)
    states_too, gradients_too = learned(networks, readings, lent, narrow=True)
    assert lent.asked == 2
    assert [found.dtype for found in states_too] == [found.dtype for found in states]
    check_equal(states_too, states, rtol=1e-2, atol=1e-2)
    check_equal(gradients_too, gradients, rtol=2e-2, atol=2e-2)
    wide, _ = learned(networks, readings, lent)
    assert all(found.dtype == torch.float32 for found in wide)
    if cell == "lstm":
        assert {found.dtype for found in states_too} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("frozen", "read"),
    [
        (["weight_hh_l0"], True),
        (["weight_hh_l0"], False),
        (["weight_ih_l0", "bias_ih_l0"], True),
        (["weight_ih_l0", "bias_ih_l0"], False),
        (None, True),
    ],
)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.usefixtures("always")
def test_what_is_frozen_gets_no_gradient_and_disturbs_no_other(
    lent: Lent, cell: str, frozen: list[str] | None, read: bool
) -> None:
    """`frozen` None stands for all weights; `read` says whether the readings learn."""
    networks, readings = networks_of(cell), [reading.requires_grad_(read) for reading in readings_of(3, 4)]
    for network in networks:
        for name, weight in network.named_parameters():
            weight.requires_grad_(frozen is not None and name not in frozen)
    states, gradients = learned(networks, readings, None)
    states_too, gradients_too = learned(networks, readings, lent)
    assert lent.asked == 2
    check_equal(states_too, states)
    check_equal(gradients_too, gradients)
    assert any(gradient is None for gradient in gradients_too)


@pytest.mark.usefixtures("always")
def test_a_direction_may_be_frozen_as_a_whole(lent: Lent) -> None:
    networks, readings = networks_of("lstm"), readings_of(3, 4)
    networks[1].requires_grad_(False)
    _, gradients = learned(networks, readings, None)
    _, gradients_too = learned(networks, readings, lent)
    assert lent.asked == 2
    check_equal(gradients_too, gradients)


@pytest.mark.usefixtures("always")
def test_a_direction_that_nobody_listens_to_gets_the_gradient_0(lent: Lent) -> None:
    networks, readings = networks_of("gru"), readings_of(3, 4)
    with lending(lent):
        read_all(networks, readings)[0].sum().backward()
    assert bool(readings[0].grad.any())
    assert all(not bool(tensor.grad.any()) for tensor in (readings[1], *networks[1].parameters()))


@pytest.mark.usefixtures("always")
def test_the_second_direction_is_read_on_the_lent_thread(lent: Lent) -> None:
    networks, names = networks_of("lstm"), list[str]()
    for network in networks:
        network.register_forward_hook(lambda *given: names.append(threading.current_thread().name))
    learned(networks, readings_of(3, 4), lent)
    assert sorted(names) == sorted([threading.current_thread().name, "lent_0"])


@pytest.mark.parametrize("failing", [0, 1])
@pytest.mark.usefixtures("always")
def test_what_a_direction_raises_reaches_the_caller(lent: Lent, failing: int) -> None:
    def fail(*given: object) -> None:
        raise KeyError

    networks = networks_of("lstm")
    networks[failing].register_forward_hook(fail)
    with lending(lent), pytest.raises(KeyError):
        read_all(networks, readings_of(3, 4))


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("calm", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("cell", CELLS)
def test_without_gradients_no_thread_is_used(
    lent: Lent, cell: str, calm: Callable[[], AbstractContextManager[None]]
) -> None:
    networks, readings = networks_of(cell), readings_of(3, 4)
    expected, _ = learned(networks, readings, None)
    with lending(lent), calm():
        found = read_all(networks, readings)
    assert lent.asked == 0
    assert not any(states.requires_grad for states in found)
    check_equal(found, expected)


@pytest.mark.usefixtures("always")
def test_without_a_lent_thread_none_is_used(monkeypatch: pytest.MonkeyPatch, lent: Lent) -> None:
    monkeypatch.setattr(directions, "_AtOnce", None)
    networks, readings = networks_of("lstm"), readings_of(3, 4)
    before = threading.active_count()
    learned(networks, readings, None)
    with lending(lent):
        pass
    states = read_all(networks, readings)
    assert lent.asked == 0, "nor one that was lent before"
    assert threading.active_count() == before
    assert all(found.requires_grad for found in states)


def test_threads_are_lent_to_the_innermost_and_to_one_thread_alone(lent: Lent) -> None:
    with lending(lent):
        with lending(None):
            assert directions._lent.get() is None
        assert directions._lent.get() is lent
        assert lent.submit(directions._lent.get).result() is None
    assert directions._lent.get() is None


@pytest.mark.usefixtures("always")
def test_a_single_direction_is_read_where_it_is(monkeypatch: pytest.MonkeyPatch, lent: Lent) -> None:
    monkeypatch.setattr(directions, "_AtOnce", None)
    networks, readings = networks_of("lstm", count=1), readings_of(3, 4, count=1)
    states, gradients = learned(networks, readings, None)
    states_too, gradients_too = learned(networks, readings, lent)
    assert lent.asked == 0
    check_equal(states_too, states)
    check_equal(gradients_too, gradients)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("enough", [True, False])
def test_only_enough_work_is_handed_over(lent: Lent, cell: str, enough: bool) -> None:
    networks = networks_of(cell, width=32, hidden=64)
    step = 10 * sum(weight.numel() for weight in networks[0].parameters())
    tokens = -(-LEAST_WORK // step) - (0 if enough else 1)
    readings = readings_of(10, tokens, width=32)
    states, gradients = learned(networks, readings, None)
    states_too, gradients_too = learned(networks, readings, lent)
    assert lent.asked == (2 if enough else 0)
    check_equal(states_too, states)
    check_equal(gradients_too, gradients, rtol=1e-4, atol=1e-4)


def classifier_of(cell: str, pooling: str, dropout: float = 0.0, hidden: int = 6) -> TextClassifier:
    torch.manual_seed(3)
    model = TextClassifier(
        20,
        3,
        cell=cell,
        embedding_width=5,
        hidden_width=hidden,
        layers=1,
        bidirectional=True,
        pooling=pooling,
        dropout=dropout,
    )
    nn.init.normal_(model.embedding.weight)
    return model


def padded(lengths: Sequence[int], words: int = 20, extra: int = 0, seed: int = 4) -> tuple[Tensor, Tensor]:
    """Tokens and lengths, with `extra` more columns of padding than the longest text needs."""
    lengths_B, width = torch.tensor(lengths), max(lengths) + extra
    tokens_BT = torch.randint(1, words, (len(lengths), width), generator=torch.Generator().manual_seed(seed))
    return tokens_BT.masked_fill(torch.arange(width) >= lengths_B[:, None], PAD_ID), lengths_B


def answered(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, list[Tensor | None]]:
    """Logits, and the gradients of a cross-entropy."""
    logits_BC = model(*batch)
    loss = F.cross_entropy(logits_BC, torch.arange(len(logits_BC)) % logits_BC.shape[1])
    return logits_BC.detach(), list(torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize("pooling", ["max", "last"])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.usefixtures("always")
def test_a_classifier_learns_the_same_with_a_lent_thread_also_from_hidden_words(
    lent: Lent, cell: str, pooling: str
) -> None:
    model, batch = classifier_of(cell, pooling, dropout=0.5), padded([7, 1, 4, 7])
    torch.manual_seed(5)
    logits_BC, gradients = answered(model, batch)
    torch.manual_seed(5)
    with lending(lent):
        logits_too_BC, gradients_too = answered(model, batch)
    assert lent.asked == 2
    torch.testing.assert_close(logits_too_BC, logits_BC)
    check_equal(gradients_too, gradients)


# The largest state


def by_the_book(states_BTH: Tensor, lengths_B: Tensor) -> Tensor:
    padding_BT = torch.arange(states_BTH.shape[1]) >= lengths_B[:, None]
    return states_BTH.masked_fill(padding_BT[..., None], -torch.inf).amax(dim=1)


def pooled(
    pool: Callable[[Tensor, Tensor], Tensor], states_BTH: Tensor, lengths_B: Tensor, upward_BH: Tensor
) -> tuple[Tensor, Tensor]:
    states_BTH = states_BTH.clone().requires_grad_()
    largest_BH = pool(states_BTH, lengths_B)
    largest_BH.backward(upward_BH)
    assert states_BTH.grad is not None
    return largest_BH.detach(), states_BTH.grad


@st.composite
def states_and_lengths(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """States of which many are equal if drawn so, lengths from 1 to full, and a gradient."""
    texts, tokens, hidden = draw(st.integers(1, 5)), draw(st.integers(1, 9)), draw(st.integers(1, 4))
    lengths = st.just(tokens) if draw(st.booleans()) else st.integers(1, tokens)
    lengths_B = torch.tensor(draw(st.lists(lengths, min_size=texts, max_size=texts)))
    torch.manual_seed(draw(st.integers(0, 999)))
    shape = (texts, tokens, hidden)
    states_BTH = torch.randint(-1, 2, shape).float() if draw(st.booleans()) else torch.randn(shape)
    return states_BTH, lengths_B, torch.randn(texts, hidden)


@settings(max_examples=150)
@given(made=states_and_lengths())
@example(made=(torch.zeros(2, 5, 1), torch.tensor([5, 5]), torch.ones(2, 1)))
@example(made=(torch.zeros(3, 5, 2), torch.tensor([1, 5, 3]), torch.ones(3, 2)))
@example(made=(torch.ones(1, 1, 1), torch.tensor([1]), torch.ones(1, 1)))
@example(made=(torch.arange(6.0).reshape(1, 6, 1), torch.tensor([2]), torch.ones(1, 1)))
def test_the_largest_state_and_its_gradient_are_the_textbooks(made: tuple[Tensor, Tensor, Tensor]) -> None:
    largest_BH, gradient_BTH = pooled(_Largest.apply, *made)
    expected_BH, expected_BTH = pooled(by_the_book, *made)
    assert torch.equal(largest_BH, expected_BH)
    torch.testing.assert_close(gradient_BTH, expected_BTH)


def test_equal_states_share_the_gradient() -> None:
    states_BTH = torch.tensor([3.0, 1, 3, 3, 9, 3])[None, :, None]
    _, gradient_BTH = pooled(_Largest.apply, states_BTH, torch.tensor([4]), torch.tensor([[6.0]]))
    assert gradient_BTH.flatten().tolist() == [2, 0, 2, 2, 0, 0]


@pytest.mark.parametrize("lengths", [[4, 4], [4, 1], [2, 3]])
def test_the_gradient_of_the_largest_state_is_that_of_small_differences(lengths: list[int]) -> None:
    torch.manual_seed(0)
    states_BTH = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda states: _Largest.apply(states, torch.tensor(lengths)), (states_BTH,))


def test_the_states_themselves_are_left_as_they_were() -> None:
    torch.manual_seed(0)
    states_BTH = torch.randn(2, 4, 3)
    before = states_BTH.clone()
    upward_BH = torch.randn(2, 3)
    pooled(_Largest.apply, states_BTH, torch.tensor([2, 4]), upward_BH)
    assert torch.equal(states_BTH, before)


# The whole classifier


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "lent"])
@pytest.mark.usefixtures("always")
@settings(max_examples=15)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    extra=st.integers(0, 3),
    width=st.integers(1, 6),
    hidden=st.integers(1, 7),
    bidirectional=st.booleans(),
    classes=st.integers(2, 4),
    words=st.integers(2, 15),
)
def test_the_classifier_answers_and_learns_as_the_textbooks(
    pool: Lent,
    shared: bool,
    lengths: list[int],
    extra: int,
    width: int,
    hidden: int,
    bidirectional: bool,
    classes: int,
    words: int,
) -> None:
    torch.manual_seed(3)
    model = TextClassifier(
        words,
        classes,
        embedding_width=width,
        hidden_width=hidden,
        layers=1,
        bidirectional=bidirectional,
        pooling="max",
        dropout=0.0,
    )
    nn.init.normal_(model.embedding.weight[1:])
    plain = TextbookBiLSTM.with_weights(model.state_dict(), dropout=0.0)
    batch = padded(lengths, words, extra)
    pool.asked = 0
    with lending(pool if shared else None):
        logits_BC, gradients = answered(model, batch)
    assert pool.asked == (2 if shared and bidirectional else 0)
    expected_BC, expected = answered(plain, batch)
    torch.testing.assert_close(logits_BC, expected_BC, rtol=1e-4, atol=1e-5)
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in plain.named_parameters()]
    check_equal(gradients, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("always")
def test_a_frozen_direction_whose_reading_does_not_learn_either(lent: Lent) -> None:
    networks = networks_of("lstm", count=2)
    networks[1].requires_grad_(False)
    with lending(lent):
        states = read_all(networks, [torch.randn(2, 3, 5) for _ in networks])
    torch.cat(states).sum().backward()
    assert all(weight.grad is not None for weight in networks[0].parameters())
    assert all(weight.grad is None for weight in networks[1].parameters())
