"""How PyTorch's threads wait for each other. Imports nothing of PyTorch, since it must come first."""

from __future__ import annotations

import os


def sleep_soon() -> None:
    """Lets OpenMP threads that wait for each other sleep after a moment; call it before PyTorch is loaded.

    They spin by default, and on a machine with other work that makes a training step ten times slower and more.
    A setting of the environment wins.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
