"""What a sweep will take: its cells, its trainings, and the time on this machine. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill_core import estimate, keys, openmp
from distill_core.config import RunConfig
from distill_core.store import Store
from distill_core.sweep.cells import Cell
from distill_core.sweep.record import SweepStatus
from distill_core.sweep.space import SweepConfig, Values, cell_config, corners, distinct, grid

START_SECONDS = 5.0
"""Seconds until the processes have loaded PyTorch and the first cells work."""
RUN_SECONDS = 0.25
"""Seconds that a run takes besides its stages: reading its data, writing its models."""


@dataclass(frozen=True)
class Outlook:
    """What lies ahead: cells, those of different outcome, trainings of students and baselines, and seconds."""

    cells: int
    runs: int
    trainings: int
    seconds: float


def outlook(config: SweepConfig, store: Store, begun: Sequence[Cell] = ()) -> Outlook:
    """What the sweep takes on this machine's cores; what lies in the home folder takes no time.

    Where cells are yet to be chosen, those at the corners stand for them.

    Args:
        begun: cells that have ended or work, which are not counted.
    """
    runs = distinct([cell_config(config, values) for values in _ahead(config, begun)])
    scale = 1.0
    if config.sampler != "grid":
        cells = max(config.planned - len(begun), 0)
        scale = cells / len(runs) if runs else 0.0
    else:
        cells = len(_ahead(config, begun))
    rates = estimate.learned_rates(store, packed=True)
    teachers, baselines = dict[str, float](), dict[str, float]()
    students = 0.0
    for run in runs:
        seconds = _once_each(run, store, rates)
        shared = sum(seconds.get(stage, 0.0) for stage in estimate.TEACHER_STAGES)
        teachers[keys.teacher_key(run, "", store.data_folder)] = shared
        alone = keys.baseline_key(run, "", store.data_folder, 0, 0)
        baselines[alone] = config.seeds * seconds.get("baseline", 0.0)
        own = seconds.get("assistant", 0.0) + seconds.get("test", 0.0) + RUN_SECONDS
        students += own + config.seeds * seconds.get("distil", 0.0)
    work = scale * students + sum(baselines.values())
    trainings = round(scale * len(runs)) * config.seeds + len(baselines) * config.seeds
    total = START_SECONDS + sum(teachers.values()) + work / min(openmp.cores(), max(round(scale * len(runs)), 1))
    return Outlook(cells, round(scale * len(runs)), trainings, total if runs else 0.0)


def _once_each(run: RunConfig, store: Store, rates: Mapping[str, float]) -> dict[str, float]:
    """Seconds of each stage of a run with one seed."""
    single = run.training.model_copy(update={"seeds": 1})
    return estimate.seconds_by_stage(
        run.model_copy(update={"training": single}), estimate.past_profile(run, store), store, rates
    )


def remaining(config: SweepConfig, status: SweepStatus, cells: Sequence[Cell], now: float) -> float | None:
    """Seconds that a sweep at work has left: by its own pace once a few cells have ended, else as estimated."""
    if status.estimated is None:
        return None
    worked = status.worked + (now - status.started if status.started is not None and not status.over else 0.0)
    ended = sum(cell.state not in ("waiting", "running") for cell in cells)
    by_estimate = max(status.estimated - worked, 0.0)
    if not ended:
        return by_estimate
    by_pace = worked / ended * max(config.planned - ended, 0)
    trust = min(ended / 8, 1.0)
    return trust * by_pace + (1 - trust) * by_estimate


def _ahead(config: SweepConfig, begun: Sequence[Cell]) -> list[Values]:
    if config.sampler != "grid":
        return corners(config)
    known = [cell.values for cell in begun]
    return [values for values in grid(config) if values not in known]
