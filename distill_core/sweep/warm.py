"""What the processes of a sweep are forked from: imported once, it has loaded all that a run needs.

It computes nothing, as a process that has begun to compute cannot be forked: its threads would be missing.
"""

from __future__ import annotations

import gc

import torch

from distill_core import pipeline, worker

__all__ = ["pipeline", "worker"]

torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))]).step()  # the first has PyTorch load its compiler
gc.freeze()  # what is here stays, so that no process has to copy it
