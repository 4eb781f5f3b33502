"""Where a run computes and how precisely; and the memory that it keeps."""

from __future__ import annotations

import ctypes
import platform
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from distill_core import device
from distill_core.device import MALLOC_SETTINGS, Compute, choose, has_fast_bfloat16, keep_memory

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Machine:
    """Hardware that a test makes up."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self.has(cuda=False, amx=False)

    def has(self, *, cuda: bool = False, capability: tuple[int, int] = (8, 0), amx: bool = False) -> None:
        self._patch.setattr(torch.cuda, "is_available", lambda: cuda)
        self._patch.setattr(torch.cuda, "get_device_capability", lambda place: capability)
        self._patch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


# Where


@pytest.mark.parametrize("cuda", [True, False])
@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
@pytest.mark.parametrize("encoder", [True, False])
def test_a_run_is_placed_on_cuda_where_there_is_one(
    machine: Machine, cuda: bool, precision: Any, encoder: bool
) -> None:
    machine.has(cuda=cuda)
    assert choose(precision, encoder=encoder).device == (CUDA if cuda else CPU)


# How precisely


@pytest.mark.parametrize(
    ("capability", "narrow"), [((7, 0), False), ((7, 5), False), ((8, 0), True), ((8, 9), True), ((9, 0), True)]
)
@pytest.mark.parametrize("encoder", [True, False])
def test_a_gpu_computes_everything_in_bfloat16_from_capability_8_on(
    machine: Machine, capability: tuple[int, int], narrow: bool, encoder: bool
) -> None:
    machine.has(cuda=True, capability=capability)
    assert choose(encoder=encoder) == Compute(CUDA, "bfloat16" if narrow else "float32", everywhere=True)


@pytest.mark.parametrize(
    ("amx", "encoder", "precision"),
    [(True, True, "bfloat16"), (True, False, "float32"), (False, True, "float32"), (False, False, "float32")],
)
def test_a_cpu_computes_in_bfloat16_for_an_encoder_where_it_has_amx(
    machine: Machine, amx: bool, encoder: bool, precision: Any
) -> None:
    machine.has(amx=amx)
    assert choose(encoder=encoder) == Compute(CPU, precision, everywhere=False)


def test_a_cpus_instructions_say_nothing_of_a_gpu(machine: Machine) -> None:
    machine.has(cuda=True, capability=(7, 5), amx=True)
    assert not has_fast_bfloat16(CUDA)
    assert has_fast_bfloat16(CPU)


def test_avx512_bf16_alone_is_not_fast(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert not has_fast_bfloat16(CPU)
    assert choose().precision == "float32"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("amx", [True, False])
@pytest.mark.parametrize("encoder", [True, False])
def test_a_precision_that_was_asked_for_is_used_everywhere(
    machine: Machine, precision: Any, amx: bool, encoder: bool
) -> None:
    machine.has(amx=amx)
    assert choose(precision, encoder=encoder) == Compute(CPU, precision, everywhere=True)


@pytest.mark.parametrize(
    ("precision", "everywhere", "encoder", "narrow"),
    [
        ("bfloat16", True, True, True),
        ("bfloat16", True, False, True),
        ("bfloat16", False, True, True),
        ("bfloat16", False, False, False),
        ("float32", True, True, False),
        ("float32", True, False, False),
        ("float32", False, True, False),
        ("float32", False, False, False),
    ],
)
def test_autocast_is_on_where_a_narrow_precision_serves(
    precision: Any, everywhere: bool, encoder: bool, narrow: bool
) -> None:
    with Compute(CPU, precision, everywhere).autocast(encoder=encoder):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
        assert torch.is_autocast_enabled("cpu") == narrow
    assert product.dtype == (torch.bfloat16 if narrow else torch.float32)
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("place", [CPU, CUDA, torch.device("cuda", 1)])
def test_autocast_is_that_of_the_device(monkeypatch: pytest.MonkeyPatch, place: torch.device) -> None:
    asked = list[tuple[str, torch.dtype, bool]]()
    monkeypatch.setattr(torch, "autocast", lambda kind, dtype, enabled: asked.append((kind, dtype, enabled)))
    Compute(place, "bfloat16").autocast(encoder=False)
    assert asked == [(place.type, torch.bfloat16, True)]


@pytest.mark.parametrize(("amx", "encoder", "narrow"), [(True, True, True), (True, False, False), (False, True, False)])
def test_what_is_chosen_decides_how_a_model_passes(machine: Machine, amx: bool, encoder: bool, narrow: bool) -> None:
    machine.has(amx=amx)
    with choose().autocast(encoder=encoder):
        assert torch.is_autocast_enabled("cpu") == narrow


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
