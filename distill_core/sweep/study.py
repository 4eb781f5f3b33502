"""A sweep as a study of Optuna: which cell comes next, and whether one looks hopeless (Akiba et al. 2019).

The cells on disk are the truth; a study that lacks some is given them. Optuna takes a second to import, so it is
imported by who opens a study alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from distill_core.config import digest
from distill_core.errors import ConfigError
from distill_core.sweep.cells import ENDED, Cell, Measured
from distill_core.sweep.space import Axis, SweepConfig, Values, grid

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

OWN = "sweeps.db"
"""The database in the home folder."""
GOALS: tuple[Literal["maximize", "minimize"], ...] = ("maximize", "minimize", "minimize")
"""Accuracy, parameters and latency, which `nsga2` weighs; the other samplers look at the accuracy alone."""
WARM_UP = 5
"""Cells that have to end before the median of all says anything."""


class Study:
    """The study of one sweep in a database.

    Args:
        home: where the database lies, if the sweep names no other.
        cells: those that the sweep has by now.
        order: puts the cells of a grid into the order in which they begin.

    Raises:
        ConfigError: the database cannot be opened.
    """

    def __init__(
        self,
        sweep_id: str,
        config: SweepConfig,
        home: Path,
        cells: Sequence[Cell],
        order: Callable[[list[Values]], Sequence[Values]] = lambda cells: cells,
    ) -> None:
        import optuna
        from optuna.exceptions import OptunaError
        from sqlalchemy.exc import SQLAlchemyError

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._config = config
        self._axes = {axis.field: distribution(axis) for axis in config.axes}
        self._several = config.sampler == "nsga2"
        url = _url(config, home)
        try:
            self._study = optuna.create_study(
                study_name=f"{sweep_id}-{digest([axis.model_dump() for axis in config.axes])}",
                storage=url,
                sampler=_sampler(config, len(cells)),
                pruner=_pruner(config),
                directions=GOALS if self._several else GOALS[:1],
                load_if_exists=True,
            )
        except (OptunaError, SQLAlchemyError, ImportError, OSError, RuntimeError) as error:
            raise ConfigError(
                f"storage must be a database that can be opened, got {_without_password(url)!r}: "
                f"{_first_line(error)}; install its driver, or leave it out for sweeps.db"
            ) from error
        known = self._study.get_trials(deepcopy=False)
        self._count = len(known)
        over = {trial.number for trial in known if trial.state.is_finished()}
        self._reported: dict[int, optuna.Trial] = {}
        for cell in cells:
            if cell.number not in over:
                self._take_over(cell)
        begun = {_name(cell.values) for cell in cells}
        missing = [values for values in grid(config) if _name(values) not in begun] if config.sampler == "grid" else []
        self._missing = iter(order(missing) if missing else ())
        self._lacking = len(missing) if config.sampler == "grid" else max(config.planned - len(cells), 0)

    def next_values(self) -> tuple[int, Values] | None:
        """Number and values of a cell that begins now; None once the sweep has all."""
        if not self._lacking:
            return None
        self._lacking -= 1
        if self._config.sampler != "grid":
            return self._asked()
        values = next(self._missing)
        self._study.enqueue_trial(values)
        number, _ = self._asked()
        return number, values

    def _asked(self) -> tuple[int, Values]:
        trial = self._study.ask(self._axes)
        self._reported[trial.number] = trial
        return trial.number, dict(trial.params)

    def finish(self, cell: Cell) -> None:
        """Tells the study how a cell has ended."""
        from optuna.trial import TrialState

        states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
        state = states.get(cell.state, TrialState.FAIL)
        values = None if cell.measured is None or state is not TrialState.COMPLETE else self._goals(cell.measured)
        self._study.tell(cell.number, values, state, skip_if_finished=True)
        self._reported.pop(cell.number, None)

    def is_hopeless(self, number: int, epoch: int, accuracy: float) -> bool:
        """Takes a cell's validation accuracy after an epoch; whether the pruner would stop it there."""
        trial = self._reported.get(number)
        if trial is None:
            return False
        trial.report(accuracy, epoch)
        return trial.should_prune()

    def _goals(self, measured: Measured) -> list[float]:
        if not self._several:
            return [measured.val_accuracy]
        return [measured.val_accuracy, float(measured.parameters), measured.latency_ms]

    def _take_over(self, cell: Cell) -> None:
        """Adds a cell that the database lacks; one that has begun there goes on."""
        import optuna
        from optuna.trial import TrialState, create_trial

        for _ in range(self._count, cell.number):  # a trial whose cell was never written, in an earlier database
            self._study.add_trial(create_trial(state=TrialState.FAIL))
        if cell.number >= self._count:
            running = create_trial(state=TrialState.RUNNING, params=dict(cell.values), distributions=self._axes)
            self._study.add_trial(running)
        self._count = max(self._count, cell.number + 1)
        if cell.state in ENDED:
            self.finish(cell)
        elif begun := self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            trial = next((trial for trial in begun if trial.number == cell.number), None)
            if trial is not None:
                self._reported[cell.number] = optuna.Trial(self._study, trial._trial_id)


def forget(sweep_id: str, config: SweepConfig, home: Path) -> None:
    """Takes all that a database knows of a sweep out of it, where it can be opened."""
    if config.storage is None and not (home / OWN).is_file():
        return
    import optuna
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    with suppress(OptunaError, SQLAlchemyError, ImportError, OSError, RuntimeError, KeyError):
        for name in optuna.get_all_study_names(_url(config, home)):
            if name.startswith(f"{sweep_id}-"):
                optuna.delete_study(study_name=name, storage=_url(config, home))


def _url(config: SweepConfig, home: Path) -> str:
    return config.storage or f"sqlite:///{home / OWN}"


def distribution(axis: Axis) -> BaseDistribution:
    """What Optuna may choose from on an axis."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if axis.low is not None and axis.high is not None:
        return FloatDistribution(axis.low, axis.high, log=axis.log)
    return CategoricalDistribution(axis.values)


def _sampler(config: SweepConfig, begun: int) -> optuna.samplers.BaseSampler:
    """What chooses cells. One that goes on must not draw again what it has drawn."""
    from optuna import samplers

    seed = (config.seed + 7919 * begun) % 2**31
    if config.sampler == "tpe":
        return samplers.TPESampler(seed=seed)
    return samplers.NSGAIISampler(seed=seed) if config.sampler == "nsga2" else samplers.RandomSampler(seed=seed)


def _pruner(config: SweepConfig) -> optuna.pruners.BasePruner:
    from optuna import pruners

    if config.pruner == "median":
        return pruners.MedianPruner(n_startup_trials=WARM_UP)
    if config.pruner == "hyperband":
        return pruners.HyperbandPruner(min_resource=1, max_resource=config.base.training.epochs)
    return pruners.NopPruner()


def _name(values: Values) -> str:
    return json.dumps(values, sort_keys=True)


def _first_line(error: Exception) -> Any:
    return str(error).strip().split("\n")[0] or type(error).__name__


def _without_password(url: str) -> str:
    scheme, slashes, rest = url.partition("://")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"
