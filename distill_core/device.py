"""The one place that decides which device and which precision a run uses."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch

from distill_core import bfloat16, openmp
from distill_core.models.sizes import WORKS, Work

MALLOC_SETTINGS = ((-3, 32 << 20), (-1, (1 << 31) - 1), (-2, 64 << 20))
"""M_MMAP_THRESHOLD, the largest that every version allows; M_TRIM_THRESHOLD; M_TOP_PAD: mallopt(3), in bytes."""

Precision = Literal["float32", "bfloat16"]
PAYS = 1.15
"""Times as fast as in float32 that bfloat16 has to be for its coarser numbers."""


@dataclass(frozen=True)
class Compute:
    """Where and how a run computes: in bfloat16 the kinds of model that are `narrow`, where that is the precision."""

    device: torch.device
    precision: Precision
    narrow: frozenset[Work] = frozenset(WORKS)

    @property
    def name(self) -> str:
        """As in `cpu bfloat16 encoder lstm`: what has computed a thing decides its last digits."""
        return " ".join(
            [self.device.type, self.precision, *(sorted(self.narrow) if self.precision != "float32" else ())]
        )

    def precision_of(self, *works: Work) -> Precision:
        """The precision of a model, or the narrowest of several."""
        return self.precision if self.narrow.intersection(works) else "float32"

    def autocast(self, work: Work) -> AbstractContextManager[None]:
        """Mixed precision for a model's forward pass; does nothing in float32."""
        narrow = self.precision_of(work) == "bfloat16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=narrow)


def faster_in_bfloat16(device: torch.device) -> frozenset[Work]:
    """The kinds of model that `device` computes faster in bfloat16 than in float32.

    All on CUDA of capability ≥ 8. A CPU that has instructions for it is tried: a tenth of a second, once a process.
    """
    if device.type == "cuda":
        return frozenset(WORKS if torch.cuda.get_device_capability(device) >= (8, 0) else ())
    if not (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()):
        return frozenset()
    return frozenset(work for work in WORKS if bfloat16.gain(work) >= PAYS)


def choose(precision: Literal["auto", "float32", "bfloat16"] = "auto") -> Compute:
    """CUDA when available, else CPU; with `auto`, bfloat16 for the models that are faster so, else float32."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if precision != "auto":
        return Compute(device, precision)
    narrow = faster_in_bfloat16(device)
    return Compute(device, "bfloat16", narrow) if narrow else Compute(device, "float32")


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
