"""The one place that decides which device and which precision a run uses."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch

from distill_core import bfloat16, openmp
from distill_core.models.sizes import WORKS, Work

MALLOC_SETTINGS = ((-3, 32 << 20), (-1, (1 << 31) - 1), (-2, 64 << 20))
"""M_MMAP_THRESHOLD, the largest that every version allows; M_TRIM_THRESHOLD; M_TOP_PAD: mallopt(3), in bytes."""

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Compute:
    """Where and how a run computes: in bfloat16 the kinds of model that are `narrow`, where that is the precision."""

    device: torch.device
    precision: Precision
    narrow: frozenset[Work] = frozenset(WORKS)

    @property
    def name(self) -> str:
        """As in `cpu bfloat16 encoder lstm`: what has computed a thing decides its last digits."""
        narrow = sorted(self.narrow) if self.precision == "bfloat16" else []
        return " ".join([self.device.type, self.precision, *narrow])

    def among(self, works: Collection[Work]) -> Compute:
        """The same for these kinds of model alone: float32 where none of them is narrow."""
        narrow = self.narrow.intersection(works)
        if self.precision == "float32" or not narrow:
            return Compute(self.device, "float32")
        return Compute(self.device, self.precision, narrow)

    def precision_of(self, work: Work) -> Precision:
        """The precision of a model."""
        return self.precision if work in self.narrow else "float32"

    def autocast(self, work: Work) -> AbstractContextManager[None]:
        """Mixed precision for a model's forward pass; does nothing in float32."""
        narrow = self.precision_of(work) == "bfloat16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=narrow)


def place() -> torch.device:
    """CUDA when available, else CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose(
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    faster: Callable[[], frozenset[Work]] = bfloat16.faster,
) -> Compute:
    """Where to compute, and with `auto` in bfloat16 what is faster so: on CUDA of capability ≥ 8 everything.

    Args:
        faster: the kinds of model that a CPU computes faster so; asked where it has instructions for that (x86).
    """
    device = place()
    if precision != "auto":
        return Compute(device, precision)
    if device.type == "cuda":
        return Compute(device, "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32")
    able = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return Compute(device, "bfloat16", faster() if able else frozenset()).among(WORKS)


def count() -> int:
    """Devices that can train at the same time: the GPUs, or the processor as one."""
    return max(torch.cuda.device_count(), 1)


def take_part(device: int, workers: int) -> None:
    """Keeps this process to one of the machine's GPUs, or to its part of the cores.

    Args:
        device: which one, from 0.
        workers: how many processes share the machine.
    """
    gpus = torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(device % gpus)
    elif workers > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(cores() // workers, 1)))


def use_all_cores() -> int:
    """Let PyTorch use every core this process may run on, or OMP_NUM_THREADS of them; returns their number."""
    count = int(os.environ.get("OMP_NUM_THREADS", cores()))
    torch.set_num_threads(count)
    return count


def keep_memory() -> None:
    """Lets this process keep the memory that it frees, for its next step: glibc gives large pieces back to the system.

    Getting them again, page by page, took a third of a student's training step. What the process holds stays at the
    most that it has needed at once. Does nothing where there is no glibc.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        for parameter, value in MALLOC_SETTINGS:
            libc.mallopt(parameter, value)


def use_one_core() -> None:
    """Lets PyTorch use one core for what this thread asks of it: threads that wait for each other serve nobody."""
    torch.set_num_threads(1)


def cores() -> int:
    """Cores that this process may run on."""
    return openmp.cores()


def name(device: torch.device) -> str:
    """What a person calls the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
