"""Where a run computes and how precisely; and the memory that it keeps."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Collection, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from distill_core import bfloat16, device
from distill_core.device import MALLOC_SETTINGS, Compute, choose, keep_memory, place
from distill_core.models.sizes import WORKS, Work

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Machine:
    """Hardware that a test makes up."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch, self._faster = patch, frozenset[Work]()
        self.tried = 0
        self.has()

    def has(
        self,
        *,
        cuda: bool = False,
        capability: tuple[int, int] = (8, 0),
        flags: Sequence[str] = (),
        faster: Collection[Work] = (),
    ) -> None:
        """Says what there is: a GPU, instructions of the CPU, and the models that it computes faster in bfloat16."""
        self._faster = frozenset(faster)
        self._patch.setattr(torch.cuda, "is_available", lambda: cuda)
        self._patch.setattr(torch.cuda, "get_device_capability", lambda place: capability)
        self._patch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: "amx" in flags)
        self._patch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: "avx512_bf16" in flags)

    def chosen(self, precision: Any = "auto") -> Compute:
        return choose(precision, self._try)

    def _try(self) -> frozenset[Work]:
        self.tried += 1
        return self._faster


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


# Where


@pytest.mark.parametrize("cuda", [True, False])
@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
def test_a_run_is_placed_on_cuda_where_there_is_one(machine: Machine, cuda: bool, precision: Any) -> None:
    machine.has(cuda=cuda)
    assert machine.chosen(precision).device == place() == (CUDA if cuda else CPU)


# How precisely


@pytest.mark.parametrize(
    ("capability", "narrow"), [((7, 0), False), ((7, 5), False), ((8, 0), True), ((8, 9), True), ((9, 0), True)]
)
def test_a_gpu_computes_everything_in_bfloat16_from_capability_8_on(
    machine: Machine, capability: tuple[int, int], narrow: bool
) -> None:
    machine.has(cuda=True, capability=capability, flags=["amx"], faster=["encoder"])
    assert machine.chosen() == Compute(CUDA, "bfloat16" if narrow else "float32")
    assert machine.tried == 0


@pytest.mark.parametrize("flag", ["amx", "avx512_bf16"])
@pytest.mark.parametrize("faster", [["encoder", "lstm"], ["encoder"], ["lstm"]])
def test_a_cpu_computes_in_bfloat16_what_it_was_seen_to_be_faster_at(
    machine: Machine, flag: str, faster: list[Work]
) -> None:
    machine.has(flags=[flag], faster=faster)
    assert machine.chosen() == Compute(CPU, "bfloat16", frozenset(faster))
    assert machine.tried == 1


def test_a_cpu_that_is_faster_at_nothing_computes_in_float32(machine: Machine) -> None:
    machine.has(flags=["avx512_bf16"])
    assert machine.chosen() == Compute(CPU, "float32")
    assert machine.tried == 1


def test_without_instructions_for_it_bfloat16_is_not_even_tried(machine: Machine) -> None:
    machine.has(faster=["encoder", "lstm"])
    assert machine.chosen() == Compute(CPU, "float32")
    assert machine.tried == 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_precision_that_was_asked_for_is_used_for_every_model_and_nothing_is_tried(
    machine: Machine, precision: Any
) -> None:
    machine.has(flags=["amx"], faster=["encoder"])
    compute = machine.chosen(precision)
    assert {compute.precision_of(work) for work in WORKS} == {precision}
    assert machine.tried == 0


@pytest.mark.parametrize(
    ("works", "expected"),
    [
        (["encoder", "other"], Compute(CPU, "bfloat16", frozenset({"encoder"}))),
        (["encoder", "lstm"], Compute(CPU, "bfloat16", frozenset({"encoder", "lstm"}))),
        (["other"], Compute(CPU, "float32")),
        ([], Compute(CPU, "float32")),
    ],
)
def test_models_that_are_not_there_decide_nothing(works: list[Work], expected: Compute) -> None:
    found = Compute(CPU, "bfloat16", frozenset({"encoder", "lstm"})).among(works)
    assert found == expected
    assert found.name == expected.name
    assert Compute(CPU, "float32").among(works) == Compute(CPU, "float32")


def test_what_computes_otherwise_has_another_name() -> None:
    names = [
        Compute(CPU, "float32").name,
        *(Compute(CPU, "bfloat16", frozenset(narrow)).name for narrow in (["encoder"], ["lstm"], WORKS)),
        Compute(CUDA, "float32").name,
        Compute(CUDA, "bfloat16").name,
    ]
    assert len(set(names)) == len(names)
    assert names[0] == Compute(CPU, "float32", frozenset()).name == "cpu float32"


@pytest.mark.parametrize(
    ("precision", "narrow", "work", "on"),
    [
        ("bfloat16", WORKS, "other", True),
        ("bfloat16", ["encoder"], "encoder", True),
        ("bfloat16", ["encoder"], "lstm", False),
        ("float32", WORKS, "encoder", False),
        ("float32", [], "encoder", False),
    ],
)
def test_autocast_is_on_where_a_narrow_precision_serves(precision: Any, narrow: Any, work: Any, on: bool) -> None:
    with Compute(CPU, precision, frozenset(narrow)).autocast(work):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
        assert torch.is_autocast_enabled("cpu") == on
    assert product.dtype == (torch.bfloat16 if on else torch.float32)
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("place", [CPU, CUDA, torch.device("cuda", 1)])
def test_autocast_is_that_of_the_device(monkeypatch: pytest.MonkeyPatch, place: torch.device) -> None:
    asked = list[tuple[str, torch.dtype, bool]]()
    monkeypatch.setattr(torch, "autocast", lambda kind, dtype, enabled: asked.append((kind, dtype, enabled)))
    Compute(place, "bfloat16").autocast("other")
    assert asked == [(place.type, torch.bfloat16, True)]


# Trying it


class Clock:
    """Time that goes by as a test says: so many seconds a pass in float32, and in bfloat16."""

    def __init__(self, patch: pytest.MonkeyPatch, passes: Callable[[int, bool], float]) -> None:
        self.now, self._passes, self._taken = 0.0, passes, 0
        patch.setattr(bfloat16.time, "perf_counter", lambda: self.now)

    def work(self) -> None:
        self.now += self._passes(self._taken // 2, torch.is_autocast_enabled("cpu"))
        self._taken += 1


def test_the_least_times_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    slow_rounds = {0, 2, 3}  # the first, and those in which others were at work
    clock = Clock(monkeypatch, lambda taken, narrow: (50 if taken in slow_rounds else 1) * (1 if narrow else 3))
    assert bfloat16._times_as_fast(clock.work) == pytest.approx(3)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0.5, 0.9], set()),
        ([1.9, 1.5], {"encoder", "lstm"}),
        ([1.9, 0.9], {"encoder"}),
        ([bfloat16.PAYS - 0.01, bfloat16.PAYS], {"lstm"}),
    ],
)
def test_what_is_clearly_faster_counts(monkeypatch: pytest.MonkeyPatch, times: list[float], expected: set[str]) -> None:
    found = iter(times)
    monkeypatch.setattr(bfloat16, "_times_as_fast", lambda passing: next(found))
    assert bfloat16.faster() == expected


def test_an_attempt_is_made_on_one_thread_and_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    compare, passes, made = bfloat16._times_as_fast, list[tuple[int, bool]](), list[Any]()

    def noted(passing: Callable[[], object]) -> float:
        def listened() -> object:
            passes.append((torch.get_num_threads(), torch.is_autocast_enabled("cpu")))
            made.append(passing())
            return made[-1]

        return compare(listened)

    monkeypatch.setattr(bfloat16, "_times_as_fast", noted)
    threads, before = torch.get_num_threads(), torch.random.get_rng_state()
    torch.set_num_threads(2)
    try:
        bfloat16.faster()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert passes == [(1, False), (1, True)] * (1 + bfloat16.ROUNDS) * 2
    assert torch.equal(torch.random.get_rng_state(), before)
    states, narrow_states = made[:2]
    assert (states.dtype, narrow_states.dtype) == (torch.float32, torch.bfloat16)
    assert torch.isfinite(states).all()
    gradients = made[-1]
    assert len(gradients) == 4
    assert all(torch.isfinite(gradient).all() and bool(gradient.any()) for gradient in gradients)


# Memory


def test_freed_memory_is_kept_by_three_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, opened = list[tuple[int, int]](), list[object]()

    def library(name: object) -> SimpleNamespace:
        opened.append(name)
        return SimpleNamespace(
            gnu_get_libc_version=lambda: b"2.36", mallopt=lambda setting, value: calls.append((setting, value)) or 1
        )

    monkeypatch.setattr(device.ctypes, "CDLL", library)
    keep_memory()
    assert opened == [None]
    assert calls == list(MALLOC_SETTINGS)
    mmap_threshold, trim_threshold, top_pad = -3, -1, -2
    assert dict(calls) == {mmap_threshold: 32 * 2**20, trim_threshold: 2**31 - 1, top_pad: 64 * 2**20}


def test_without_glibc_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    other = SimpleNamespace(mallopt=lambda *given: pytest.fail("a setting of glibc was made elsewhere"))
    monkeypatch.setattr(device.ctypes, "CDLL", lambda name: other)
    keep_memory()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="there is no glibc")
@pytest.mark.parametrize("setting", MALLOC_SETTINGS)
def test_glibc_takes_every_setting(setting: tuple[int, int]) -> None:
    assert ctypes.CDLL(None).mallopt(*setting) == 1
