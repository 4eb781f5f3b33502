"""The cores for PyTorch's threads, and how these wait for each other. Imports nothing of PyTorch: it comes first."""

from __future__ import annotations

import os


def sleep_soon() -> None:
    """Lets OpenMP threads that wait for each other sleep after a moment; call it before PyTorch is loaded.

    They spin by default, and on a machine with other work that makes a training step ten times slower and more.
    A setting of the environment wins.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
