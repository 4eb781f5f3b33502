"""Dropout from 16 random bits a number: its odds, its scale, its gradient, and where its chance comes from."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from distill_core.models import dropout as module
from distill_core.models.dropout import LEVELS, Dropout, drawing_from, keep_mask

COUNT = 400_003
parts = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**32)
shapes = st.lists(st.integers(1, 7), min_size=1, max_size=4).map(tuple)


def within(found: float, expected: float, count: int) -> bool:
    """Whether a part of so many draws is less than five standard deviations from what is expected."""
    return abs(found - expected) < 5 * math.sqrt(expected * (1 - expected) / count)


def part(mask: Tensor) -> float:
    return float(mask.float().mean())


# What is dropped


@pytest.mark.parametrize("p", [0.05, 0.1, 0.3, 0.5, 0.75, 0.9, 0.99])
def test_a_part_p_is_dropped(p: float) -> None:
    torch.manual_seed(0)
    assert within(part(Dropout(p)(torch.ones(COUNT)) == 0), p, COUNT)


@settings(max_examples=15)
@given(p=parts, seed=seeds)
def test_every_part_and_every_seed_have_their_odds(p: float, seed: int) -> None:
    torch.manual_seed(seed)
    assert within(part(keep_mask(torch.Size([40_001]), p)), 1 - p, 40_001)


@pytest.mark.parametrize("levels", [1, 2, LEVELS // 4, LEVELS // 2, LEVELS - 2, LEVELS - 1])
def test_a_part_of_few_levels_is_met_too(levels: int) -> None:
    torch.manual_seed(0)
    count, p = 4_000_000, levels / LEVELS
    assert within(part(keep_mask(torch.Size([count]), p)), 1 - p, count)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_the_four_numbers_of_a_draw_are_independent(p: float) -> None:
    torch.manual_seed(0)
    count, keep = 200_000, 1 - p
    lanes = keep_mask(torch.Size([count, 4]), p).unbind(1)
    for lane in lanes:
        assert within(part(lane), keep, count)
    for one, other in combinations(lanes, 2):
        assert within(part(one & other), keep**2, count)
    for lane in lanes:
        assert within(part(lane[1:] & lane[:-1]), keep**2, count), "nor does a draw say anything of the next"
    assert within(part(lanes[0] & lanes[1] & lanes[2] & lanes[3]), keep**4, count)


def test_values_are_hidden_one_by_one() -> None:
    torch.manual_seed(0)
    dropped = Dropout(0.5)(torch.ones(1000, 400)) == 0
    for dim, count in ((0, 1000), (1, 400)):
        rates = dropped.float().mean(dim=dim)
        assert float((rates - 0.5).abs().max()) < 6 * 0.5 / math.sqrt(count), "no row or column as a whole"


# What is kept


@given(p=parts, shape=shapes, seed=seeds)
def test_kept_values_are_scaled_by_exactly_what_keeps_the_mean(p: float, shape: tuple[int, ...], seed: int) -> None:
    torch.manual_seed(seed)
    values = torch.randn(shape)
    hidden = Dropout(p)(values)
    kept = hidden != 0
    assert hidden.shape == values.shape
    assert torch.equal(hidden[kept], values[kept] * torch.tensor(1 / (1 - p)))


@given(count=st.integers(0, 70), seed=seeds)
def test_any_number_of_values_is_covered(count: int, seed: int) -> None:
    torch.manual_seed(seed)
    hidden = Dropout(0.5)(torch.ones(count))
    assert hidden.shape == (count,)
    assert set(hidden.tolist()) <= {0.0, 2.0}
    generator = torch.Generator().manual_seed(seed)
    with drawing_from(generator):
        mask = keep_mask(torch.Size([count]), 0.5)
    assert mask.tolist() == hidden.ne(0).tolist()


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_last_of_an_odd_number_of_values_is_hidden_as_often_as_the_others(p: float) -> None:
    torch.manual_seed(0)
    masks = torch.stack([keep_mask(torch.Size([5]), p) for _ in range(4000)])
    assert all(within(part(masks[:, place]), 1 - p, 4000) for place in range(5))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_values_keep_their_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    hidden = Dropout(0.5)(torch.full((9, 9), 1.5, dtype=dtype))
    assert hidden.dtype == dtype
    assert set(hidden.unique().tolist()) == {0.0, 3.0}


def test_a_mask_lies_in_the_order_of_the_places_however_values_lie_in_memory() -> None:
    values = torch.arange(1.0, 241).reshape(4, 6, 10)
    torch.manual_seed(0)
    expected = Dropout(0.5)(values)
    torch.manual_seed(0)
    assert torch.equal(Dropout(0.5)(values.permute(2, 0, 1).contiguous().permute(1, 2, 0)), expected)


@given(p=parts, shape=shapes, seed=seeds)
def test_the_gradient_goes_through_the_same_mask(p: float, shape: tuple[int, ...], seed: int) -> None:
    torch.manual_seed(seed)
    values = torch.randn(shape).requires_grad_()
    upward = torch.randn(shape)
    hidden = Dropout(p)(values)
    hidden.backward(upward)
    assert values.grad is not None
    expected = torch.where(hidden != 0, upward * torch.tensor(1 / (1 - p)), 0.0)
    torch.testing.assert_close(values.grad, expected, rtol=0, atol=0)


def test_without_training_or_without_a_part_to_drop_the_very_values_come_back() -> None:
    values = torch.ones(5)
    assert Dropout(0.0)(values) is values
    assert Dropout(0.5).eval()(values) is values
    state = torch.get_rng_state()
    Dropout(0.0)(values)
    Dropout(0.5).eval()(values)
    assert torch.equal(torch.get_rng_state(), state), "and nothing is drawn"


def test_all_is_dropped_where_the_part_is_the_whole() -> None:
    values = torch.ones(50, requires_grad=True)
    hidden = Dropout(1.0)(values)
    assert torch.equal(hidden, torch.zeros(50))
    hidden.sum().backward()
    assert torch.equal(values.grad, torch.zeros(50))


def test_another_device_draws_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[float]()

    def spy(values: Tensor, p: float) -> Tensor:
        asked.append(p)
        return values

    monkeypatch.setattr(module, "keep_mask", lambda *given: pytest.fail("a mask was drawn on the CPU"))
    monkeypatch.setattr(F, "dropout", spy)
    assert Dropout(0.25)(torch.ones(3, device="meta")).device.type == "meta"
    assert asked == [0.25]


# Where chance comes from


@given(seed=seeds)
def test_pytorchs_seed_decides_the_mask(seed: int) -> None:
    values, dropout = torch.ones(200), Dropout(0.5)
    torch.manual_seed(seed)
    first, second = dropout(values), dropout(values)
    torch.manual_seed(seed)
    assert torch.equal(dropout(values), first)
    assert not torch.equal(first, second)
    torch.manual_seed(seed + 1)
    assert not torch.equal(dropout(values), first)


def test_the_mask_depends_on_no_number_of_threads() -> None:
    before, masks = torch.get_num_threads(), list[Tensor]()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        torch.manual_seed(5)
        masks.append(keep_mask(torch.Size([COUNT]), 0.5))
    torch.set_num_threads(before)
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[0], masks[2])


@given(seed=seeds)
def test_a_generator_of_its_own_decides_the_mask_and_leaves_pytorchs_state(seed: int) -> None:
    values, dropout, drawn = torch.ones(200), Dropout(0.5), list[Tensor]()
    for waste in (1, 2):
        torch.manual_seed(waste)
        state = torch.get_rng_state()
        with drawing_from(torch.Generator().manual_seed(seed)):
            drawn.append(torch.stack([dropout(values), dropout(values)]))
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0][0], drawn[0][1])


def test_after_a_generator_of_its_own_comes_the_one_before_also_after_an_error() -> None:
    def raised() -> None:
        with drawing_from(torch.Generator().manual_seed(2)):
            raise KeyError

    shape = torch.Size([200])
    with drawing_from(torch.Generator().manual_seed(1)):
        first = keep_mask(shape, 0.5)
    torch.manual_seed(1)
    own = keep_mask(shape, 0.5)
    with drawing_from(torch.Generator().manual_seed(1)):
        with pytest.raises(KeyError):
            raised()
        assert torch.equal(keep_mask(shape, 0.5), first)
    torch.manual_seed(1)
    assert torch.equal(keep_mask(shape, 0.5), own)


def test_threads_that_draw_at_the_same_time_have_masks_of_their_own() -> None:
    values, dropout, meeting = torch.ones(5000), Dropout(0.5), threading.Barrier(2)

    def draw(seed: int) -> list[Tensor]:
        with drawing_from(torch.Generator().manual_seed(seed)):
            drawn = []
            for _ in range(20):
                meeting.wait(timeout=20)
                drawn.append(dropout(values))
            return drawn

    def alone(seed: int) -> list[Tensor]:
        with drawing_from(torch.Generator().manual_seed(seed)):
            return [dropout(values) for _ in range(20)]

    state = torch.get_rng_state()
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(draw, (7, 8)))
    for found, seed in zip(together, (7, 8), strict=True):
        assert all(torch.equal(one, other) for one, other in zip(found, alone(seed), strict=True))
    assert not torch.equal(together[0][0], together[1][0])
    assert torch.equal(torch.get_rng_state(), state)


def test_a_part_just_below_the_whole_is_dropped() -> None:
    assert int((Dropout(0.999995)(torch.ones(1000)) != 0).sum()) < 10
