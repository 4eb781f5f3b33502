"""How much of the differences between cells each axis explains. Needs no PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from distill_core.sweep.cells import Cell, Measured, measured
from distill_core.sweep.space import Axis, SweepConfig

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

LEAST_CELLS = 4
"""Finished cells below which nobody can tell one axis from another."""
BINS = 16
"""Steps of equal width into which a range is cut."""
TREES, FEWEST_TREES = 64, 4
MOST_LEAVES = 6400
"""Cells times trees beyond which there are fewer trees: the time of fANOVA grows with both."""
DEPTH = 8
"""Questions that a tree asks one after the other: enough to part 256 cells, and noise is not learned beyond that."""


def importances(config: SweepConfig, cells: Sequence[Cell]) -> dict[str, float]:
    """The share of each axis in what the axes explain one by one, by field, largest first; they add up to 1.

    By fANOVA (Hutter et al. 2014, http://proceedings.mlr.press/v32/hutter14.html): a forest learns how validation
    accuracy depends on the axes, and the variance of what it says along one axis, averaged over the others, is that
    axis's part. Validation and not test accuracy, since whoever reads importances goes on to choose by them. PED-ANOVA
    is faster, but asks what the best tenth of the cells have in common, which in a small grid are a cell or two.

    Axes of one value are left out. Empty with fewer than 4 finished cells, and where all are equally good. Chance is a
    difference like any other: where cells cannot be told apart, neither can their axes.
    """
    finished = [pair for pair in measured(cells) if all(axis.field in pair[0].values for axis in config.axes)]
    places = {axis.field: _places(axis, [cell.values[axis.field] for cell, _ in finished]) for axis in config.axes}
    places = {field: found for field, found in places.items() if len(set(found)) > 1}
    if len(finished) < LEAST_CELLS or len({found.val_accuracy for _, found in finished}) == 1 or not places:
        return {}

    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    study.add_trials(_trials(places, [found for _, found in finished]))
    trees = min(max(MOST_LEAVES // len(finished), FEWEST_TREES), TREES)
    evaluator = FanovaImportanceEvaluator(n_trees=trees, max_depth=DEPTH, seed=0)
    try:
        found = get_param_importances(study, evaluator=evaluator)
    except RuntimeError:  # no tree was given one of the few cells that differ
        return {}
    return {field: float(share) for field, share in found.items()}


def _places(axis: Axis, values: Sequence[Any]) -> list[int]:
    """The place of each value on its axis: among listed values, or among equal steps of a range."""
    if axis.low is None or axis.high is None:
        known = list(dict.fromkeys([*axis.values, *values]))
        return [known.index(value) for value in values]
    scale = math.log if axis.log else float
    low, high = scale(axis.low), scale(axis.high)
    return [min(max(math.floor(BINS * (scale(value) - low) / (high - low)), 0), BINS - 1) for value in values]


def _trials(places: dict[str, list[int]], results: Sequence[Measured]) -> list[FrozenTrial]:
    """Each cell as a finished trial.

    Places are numbers half a step away from both ends, so that all values of an axis weigh the same. Neither do numbers
    as they are, whose gaps differ, nor Optuna's categories, which fANOVA counts as if a cell could have several.
    """
    from optuna.distributions import FloatDistribution
    from optuna.trial import create_trial

    steps = {field: FloatDistribution(min(found) - 0.5, max(found) + 0.5) for field, found in places.items()}
    return [
        create_trial(
            params={field: float(found[row]) for field, found in places.items()},
            distributions=dict(steps),
            value=result.val_accuracy,
        )
        for row, result in enumerate(results)
    ]
