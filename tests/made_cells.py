"""Cells of sweeps that nobody has run, with any answers to the test texts that a test wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill_core.sweep.cells import Cell, Measured
from distill_core.sweep.space import Axis, SweepConfig, grid

Bits = NDArray[np.bool_]
"""`[S, N]`: whether each of `N` test texts was answered rightly, for each of `S` seeds."""


def axes_of(**values: Sequence[Any]) -> tuple[Axis, ...]:
    """Axes of listed values, each named `section__field`."""
    return tuple(Axis(field=name.replace("__", "."), values=tuple(listed)) for name, listed in values.items())


def sweep_of(question: str | None = None, seeds: int = 3, **values: Sequence[Any]) -> SweepConfig:
    """A grid of listed values, each named `section__field`."""
    return SweepConfig(question=question, seeds=seeds, axes=axes_of(**values))


def drawn(chance: np.random.Generator, share: float, seeds: int = 3, texts: int = 400) -> Bits:
    """Answers of which each is right with this chance, all by themselves."""
    return chance.random((seeds, texts)) < share


def hexadecimal(bits_SN: Bits) -> tuple[str, ...]:
    """The answers of each seed as a result holds them."""
    return tuple(np.packbits(row).tobytes().hex() for row in bits_SN)


def measured_of(right_SN: Bits, alone_SN: Bits | None = None, **changes: Any) -> Measured:
    """What a run with these answers has measured; its validation accuracy is that on test unless told otherwise."""
    gain = None if alone_SN is None else float(right_SN.mean() - alone_SN.mean())
    facts: dict[str, Any] = {
        "dataset": "rotten_tomatoes",
        "test_texts": right_SN.shape[1],
        "val_accuracy": float(right_SN.mean()),
        "accuracies": tuple(map(float, right_SN.mean(axis=1))),
        "baselines": () if alone_SN is None else tuple(map(float, alone_SN.mean(axis=1))),
        "right": hexadecimal(right_SN),
        "right_alone": () if alone_SN is None else hexadecimal(alone_SN),
        "gain": gain,
        "gain_margin": None if gain is None else 0.01,
        "retention": 0.98,
        "agreement": 0.9,
        "kl": 0.1,
        "parameters": 31_000,
        "bytes": 124_000,
        "latency_ms": 0.2,
        "teacher_accuracy": 0.78,
        "teacher_val_accuracy": 0.78,
        "teacher_parameters": 1_500_000,
        "teacher_latency_ms": 1.5,
        "seconds": 6.0,
    }
    return Measured(**{**facts, **changes})


def finished(number: int, values: Mapping[str, Any], found: Measured) -> Cell:
    """A finished cell of a run of its own."""
    return Cell(number, dict(values), "finished", run_id=f"run-{number}", measured=found)


def all_finished(config: SweepConfig, found: Sequence[Measured]) -> list[Cell]:
    """The cells of a grid with what each has measured, in the order of the grid."""
    pairs = zip(grid(config), found, strict=True)
    return [finished(number, values, result) for number, (values, result) in enumerate(pairs)]
