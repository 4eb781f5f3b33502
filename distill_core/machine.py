"""What was found out of this kind of machine, kept in the home folder. Needs no PyTorch."""

from __future__ import annotations

import json
from collections.abc import Collection

from distill_core import files, keys
from distill_core.models.sizes import WORKS, Work
from distill_core.store import Store

NARROW = "bfloat16.json"


def narrow(store: Store) -> frozenset[Work] | None:
    """The models that it computes faster in bfloat16; None if nobody has kept that."""
    folder = store.cached("machines", keys.machine_key())
    if folder is None:
        return None
    try:
        found = json.loads((folder / NARROW).read_text(encoding="utf-8"))["faster"]
    except (OSError, ValueError, KeyError):
        return None
    return frozenset(work for work in WORKS if work in found)


def keep_narrow(store: Store, works: Collection[Work]) -> None:
    """Keeps that, unless somebody has."""
    key, facts = keys.machine_key(), {"faster": sorted(works)}
    store.usable("machines", key)  # what a bad disk has spoilt goes
    store.publish("machines", key, lambda folder: files.write_json(folder / NARROW, facts))
