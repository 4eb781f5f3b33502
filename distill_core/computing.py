"""Where and how precisely a run computes; what was tried of the processor is kept in the home folder."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from distill_core import bfloat16, device, machine
from distill_core.config import RunConfig
from distill_core.device import Compute
from distill_core.models.sizes import Work, works_of
from distill_core.store import Store


def compute_for(config: RunConfig, store: Store) -> Compute:
    """The device and the precision of each of a run's models: the same for every process that asks."""
    return device.choose(config.training.precision, partial(narrow_here, store)).among(works_of(config))


def narrow_here(store: Store) -> frozenset[Work]:
    """The models that this processor computes faster in bfloat16; whoever asks first tries it, for all."""
    if (known := machine.narrow(store)) is not None:
        return known
    found = bfloat16.faster()
    with suppress(OSError):  # a disk that is full says so where something would be lost
        machine.keep_narrow(store, found)
    return found if (kept := machine.narrow(store)) is None else kept
