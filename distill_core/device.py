"""The one place that decides which device and which precision a run uses."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Compute:
    """Where and how a run computes."""

    device: torch.device
    precision: Precision

    def autocast(self) -> AbstractContextManager[None]:
        """Mixed precision for a forward pass; does nothing in float32."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 in hardware (CUDA capability ≥ 8, CPUs with AMX or AVX-512 BF16)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def choose(precision: Literal["auto", "float32", "bfloat16"] = "auto") -> Compute:
    """CUDA when available, else CPU; with `auto`, bfloat16 where the hardware has it, else float32."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if precision == "auto":
        return Compute(device, "bfloat16" if has_fast_bfloat16(device) else "float32")
    return Compute(device, precision)


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


def use_one_core() -> None:
    """Lets PyTorch use one core for what this thread asks of it: threads that wait for each other serve nobody."""
    torch.set_num_threads(1)


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def name(device: torch.device) -> str:
    """What a person calls the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
