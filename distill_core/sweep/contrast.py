"""How far cells lie apart on the same test texts, and how much of that may be chance. Needs no PyTorch.

Two sources of chance add up, as in `metrics.gain_margin`: which texts were tested, and where training began. Shapes:
`S` seeds, `N` test texts.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill_core.analysis.verdict import FEW_TEXTS
from distill_core.sweep.cells import Cell, Measured

LEVEL = 0.95
NORMAL = statistics.NormalDist().inv_cdf(0.5 + LEVEL / 2)
ROUNDING = 1e-9
"""Accuracies this close are equal: averages of the same numbers in another order differ by less."""
OTHER_DATA = frozenset(
    {"data.min_frequency", "data.max_vocabulary", "data.max_tokens", "data.train_limit", "data.unlabelled_limit"}
)
"""Settings of the data that change how texts are read or learned from, and not which texts are tested."""

Finished = tuple[Cell, Measured]
Right = NDArray[np.floating[Any]]
"""`[S, N]`: 1 where a text was answered rightly, 0 where not; in between where models are averaged."""


@dataclass(frozen=True)
class Contrast:
    """A difference of accuracies, as a share of texts, and half its 95 % interval."""

    difference: float
    margin: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out that there is no difference."""
        return abs(self.difference) > self.margin + ROUNDING

    @property
    def p_value(self) -> float:
        """The chance of a difference as large as this, either way, where there is none."""
        if abs(self.difference) <= ROUNDING:
            return 1.0
        if self.margin == 0:
            return 0.0
        return math.erfc(NORMAL * abs(self.difference) / self.margin / math.sqrt(2))


def right(found: Measured) -> Right | None:
    """Which test texts the student got right; None where that is not known, or texts are too few to say anything."""
    return _decoded(found.right, found.test_texts)


def right_alone(found: Measured) -> Right | None:
    """Which test texts the baseline got right; None as for `right`, and where there is no baseline."""
    return _decoded(found.right_alone, found.test_texts)


def _decoded(digits: Sequence[str], texts: int) -> Right | None:
    if texts < FEW_TEXTS or not digits or any(4 * len(seed) < texts for seed in digits):
        return None
    rows = [np.frombuffer(bytes.fromhex(seed + "0" * (len(seed) % 2)), np.uint8) for seed in digits]
    return np.stack([np.unpackbits(row, count=texts) for row in rows]).astype(np.float32)


def pooled(several: Iterable[Right | None]) -> Right | None:
    """The average of models on the same texts, seed by seed; None where one is not known or there is none."""
    known = list[Right]()
    for right_SN in several:
        if right_SN is None:
            return None
        known.append(right_SN)
    if not known:
        return None
    seeds = min(map(len, known))
    mean_SN: Right = np.mean([right_SN[:seeds] for right_SN in known], axis=0, dtype=np.float64)
    return mean_SN


def contrast(first_SN: Right | None, second_SN: Right | None) -> Contrast | None:
    """How much more texts the first gets right; None where one of both is not known.

    The variance is that over texts of the difference averaged over seeds, divided by N, plus, with several seeds, that
    over seeds, divided by S. Normal approximation. Seeds that only one of them has are left out.
    """
    if first_SN is None or second_SN is None:
        return None
    seeds = min(len(first_SN), len(second_SN))
    differences_SN = first_SN[:seeds] - second_SN[:seeds]
    variance = float(differences_SN.mean(axis=0, dtype=np.float64).var()) / differences_SN.shape[1]
    by_seed = differences_SN.mean(axis=1, dtype=np.float64)
    if seeds > 1:
        variance += float(by_seed.var(ddof=1)) / seeds
    return Contrast(float(by_seed.mean()), NORMAL * math.sqrt(variance))


def against_teacher(found: Measured) -> Contrast:
    """How much more texts the student gets right than its teacher, by their agreement alone.

    Where two answers agree, both are right or both are wrong, so the spread over texts is at most 1 − agreement − the
    squared difference: that of the first seed for two classes, and a bound for more. The spread over seeds adds to it.
    """
    difference = found.accuracy - found.teacher_accuracy
    variance = max(1 - found.agreement - difference**2, 0.0) / found.test_texts
    if found.deviation is not None:
        variance += found.deviation**2 / len(found.accuracies)
    return Contrast(difference, NORMAL * math.sqrt(variance))


def holm(p_values: Sequence[float], level: float = 1 - LEVEL) -> list[bool]:
    """Which of several differences are clear, so that any claim among them is wrong at most so often (Holm 1979)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    clear = [False] * len(p_values)
    for rank, place in enumerate(order):
        if p_values[place] > level / (len(order) - rank):
            break
        clear[place] = True
    return clear


def by_texts(finished: Iterable[Finished]) -> list[list[Finished]]:
    """The cells in groups that were tested on the same texts: of others nothing can be compared."""
    groups: dict[tuple[object, ...], list[Finished]] = {}
    for cell, found in finished:
        chosen = ((name, value) for name, value in cell.values.items() if name.startswith("data."))
        texts = (found.dataset, found.test_texts, *(pair for pair in chosen if pair[0] not in OTHER_DATA))
        groups.setdefault(texts, []).append((cell, found))
    return list(groups.values())


def levels(finished: Iterable[Finished], field: str) -> dict[Any, list[Measured]]:
    """What was measured at each value of an axis, in rows that are alike in all other axes and have every value.

    An unfinished sweep has fewer rows, but never compares one value at some settings with another at others.
    """
    rows: dict[frozenset[tuple[str, Any]], dict[Any, Measured]] = {}
    for cell, found in finished:
        if field not in cell.values:
            continue
        others = frozenset((name, value) for name, value in cell.values.items() if name != field)
        rows.setdefault(others, {})[cell.values[field]] = found
    values = dict.fromkeys(value for row in rows.values() for value in row)
    whole = [row for row in rows.values() if len(row) == len(values)]
    return {value: [row[value] for row in whole] for value in values} if whole else {}
