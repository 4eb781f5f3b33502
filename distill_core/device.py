"""The one place that decides which device and which precision a run uses."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch

from distill_core import openmp

MALLOC_SETTINGS = ((-3, 32 << 20), (-1, (1 << 31) - 1), (-2, 64 << 20))
"""M_MMAP_THRESHOLD, the largest that every version allows; M_TRIM_THRESHOLD; M_TOP_PAD: mallopt(3), in bytes."""

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Compute:
    """Where and how a run computes.

    `everywhere` says that a narrow precision was asked for, and is used where it is slower too.
    """

    device: torch.device
    precision: Precision
    everywhere: bool = True

    @property
    def name(self) -> str:
        """As in `cpu float32`: what has computed a thing decides its last digits."""
        return f"{self.device.type} {self.precision}"

    def autocast(self, *, encoder: bool) -> AbstractContextManager[None]:
        """Mixed precision for a forward pass; does nothing in float32.

        Args:
            encoder: a transformer passes, whose large products a CPU does faster in bfloat16, if it can at all. An
                LSTM's small ones are slower there: a training step of 64 texts took 7 to 12 % longer.
        """
        narrow = self.precision == "bfloat16" and (encoder or self.everywhere)
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=narrow)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 faster than float32: CUDA of capability ≥ 8, CPUs with AMX.

    AVX-512 BF16 alone does it at half the speed of float32 (`make bench` prints both), so it does not count.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(torch.cpu._is_amx_tile_supported())


def choose(precision: Literal["auto", "float32", "bfloat16"] = "auto", *, encoder: bool = True) -> Compute:
    """CUDA when available, else CPU; with `auto`, bfloat16 where the hardware has it for this work, else float32.

    Args:
        encoder: whether a transformer is among the models.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if precision != "auto":
        return Compute(device, precision)
    everywhere = device.type == "cuda"
    narrow = has_fast_bfloat16(device) and (encoder or everywhere)
    return Compute(device, "bfloat16" if narrow else "float32", everywhere)


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
