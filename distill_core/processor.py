"""What the processor says of itself, without PyTorch: only Linux on x86 tells all that is asked here."""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path

FACTS = Path("/proc/cpuinfo")
BFLOAT16 = frozenset({"amx_tile", "avx512_bf16"})
"""Flags of instructions for bfloat16."""


def name() -> str:
    """What tells this kind of processor from others: its model and its instructions."""
    known = [_fact("model name", FACTS), _fact("flags", FACTS)]
    return " ".join(fact or "" for fact in known).strip() or f"{platform.machine()} {platform.processor()}"


def may_have_bfloat16() -> bool:
    """Whether there may be instructions for bfloat16."""
    flags = _fact("flags", FACTS)
    return flags is None or not BFLOAT16.isdisjoint(flags.split())


@cache
def _fact(label: str, file: Path) -> str | None:
    """The first one with this label."""
    try:
        found = re.search(rf"^{label}\s*:(.*)", file.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else found[1].strip()
