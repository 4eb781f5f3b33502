"""What the processes of a sweep are forked from: imported once, it has loaded all that a run needs.

It computes nothing and looks for no GPU: a process that has done so cannot be forked.
"""

from __future__ import annotations

import gc

import torch._dynamo  # noqa: F401, which the first optimizer would load

from distill_core import pipeline, worker  # noqa: F401

gc.freeze()  # what is here stays, so that no process has to copy it
