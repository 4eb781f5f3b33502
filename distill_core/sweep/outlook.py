"""What a sweep will take: its cells, its trainings, and the time on this machine. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from distill_core import estimate, keys, openmp
from distill_core.config import RunConfig
from distill_core.data.profile import Profile
from distill_core.errors import DistillError
from distill_core.models.sizes import student_model, work_of
from distill_core.store import Store
from distill_core.sweep.cells import ENDED, Cell
from distill_core.sweep.record import SweepStatus
from distill_core.sweep.space import SweepConfig, Values, cell_config, corners, distinct, grid, label, sameness

START_SECONDS = 3.0
"""Seconds until the processes have loaded PyTorch and the first cells work."""
RUN_SECONDS = 0.1
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
    alike = dict[str, _Alike]()
    teachers, baselines = dict[str, float](), dict[str, float]()
    students = 0.0
    for shared, seconds in _estimated(runs, config.seeds, store, alike):
        teachers[shared.teacher] = sum(seconds.get(stage, 0.0) for stage in estimate.TEACHER_STAGES)
        baselines[shared.baseline] = shared.missing * seconds.get("baseline", 0.0)
        own = seconds.get("assistant", 0.0) + seconds.get("test", 0.0) + RUN_SECONDS
        students += own + config.seeds * seconds["distil"]
    work = scale * students + sum(baselines.values())
    count = round(scale * len(runs))
    trainings = count * config.seeds + sum({one.baseline: one.missing for one in alike.values()}.values())
    total = START_SECONDS + sum(teachers.values()) + work / min(openmp.cores(), max(count, 1))
    return Outlook(cells, count, trainings, total if runs else 0.0)


def longest_first(cells: Sequence[Values], config: SweepConfig, store: Store) -> list[Values]:
    """Cells in the order in which they begin: those of one teacher together, and of these the long ones first.

    So the processes end at about the same time; a long one that came last would leave the others with nothing to do.
    """
    runs = [cell_config(config, values) for values in cells]
    order, teachers = list[tuple[int, float]](), dict[str, int]()
    try:
        for shared, seconds in _estimated(runs, config.seeds, store, {}):
            rank = teachers.setdefault(shared.teacher, len(teachers))
            order.append((rank, -seconds.get("assistant", 0.0) - config.seeds * seconds["distil"]))
    except DistillError:  # a file is gone, as the cells that need it will say
        return list(cells)
    return [cells[place] for place in sorted(range(len(cells)), key=order.__getitem__)]


def _estimated(
    runs: Sequence[RunConfig], seeds: int, store: Store, alike: dict[str, _Alike]
) -> Iterator[tuple[_Alike, dict[str, float]]]:
    """For each run what it shares with others, which is noted in `alike`, and the seconds of its stages for a seed."""
    rates = estimate.learned_rates(store, packed=True)
    for run in runs:
        name = run.model_dump_json(exclude={"objective"}) + run.objective.mode
        shared = alike[name] = alike.get(name) or _Alike.of(run, seeds, store)
        yield shared, estimate.seconds_by_stage(shared.single(run), shared.profile, store, rates, shared.cached)


@dataclass(frozen=True)
class _Alike:
    """What runs share that differ in the objective alone: looked up once, since that takes milliseconds.

    `missing` counts the seeds whose baseline has yet to be trained by a process of one core.
    """

    teacher: str
    baseline: str
    missing: int
    profile: Profile | None
    cached: set[str]

    @classmethod
    def of(cls, run: RunConfig, seeds: int, store: Store) -> _Alike:
        folder, first = store.data_folder, run.training.seed
        precisions = estimate.precisions(run, work_of(student_model(run)), store)
        kept = [
            seed
            for seed in range(first, first + seeds)
            if any(store.cached("baselines", keys.baseline_key(run, each, folder, seed, 1)) for each in precisions)
        ]
        glove = run.student.word_vectors == "glove"  # its baselines are shared with nobody
        name = run.digest() if glove else keys.baseline_key(run, "", folder, 0, 0)
        missing = (seeds if glove else seeds - len(kept)) if run.training.baseline else 0
        cached = estimate.cached_stages(run, store) - {"baseline"}
        return cls(keys.teacher_key(run, "", folder), name, missing, estimate.past_profile(run, store), cached)

    @staticmethod
    def single(run: RunConfig) -> RunConfig:
        """The run with one seed."""
        return run.model_copy(update={"training": run.training.model_copy(update={"seeds": 1})})


def remaining(config: SweepConfig, status: SweepStatus, cells: Sequence[Cell], now: float) -> float | None:
    """Seconds that a sweep at work has left: by its own pace once a few cells have ended, else as estimated."""
    if status.estimated is None:
        return None
    worked = status.worked + (now - status.started if status.started is not None and not status.over else 0.0)
    ended = [cell for cell in cells if cell.state in ENDED]
    by_estimate = max(status.estimated - worked, 0.0)
    if not ended:
        return max(by_estimate, status.estimated / max(config.planned, 1))  # a cell takes its time
    runs = len({cell.run_id for cell in ended})  # cells that share one cost nothing
    by_pace = worked * _left_of(config, ended, runs)
    trust = min(runs / 8, 1.0)
    return trust * by_pace + (1 - trust) * by_estimate


def _left_of(config: SweepConfig, ended: Sequence[Cell], runs: int) -> float:
    """The work that is left as a multiple of what is done, by the length of trainings where all cells are known."""
    known = _work_by_cell(config.to_json()) if config.sampler == "grid" else {}
    names = [label(cell.values) for cell in ended]
    if not known or not known.keys() >= set(names):
        return max(config.planned - len(ended), 0) / runs
    done, all_cells = dict(known[name] for name in names), dict(known.values())
    return sum(work for outcome, work in all_cells.items() if outcome not in done) / sum(done.values())


@lru_cache(maxsize=8)
def _work_by_cell(sweep: str) -> dict[str, tuple[str, float]]:
    """The outcome of each cell of a grid by its label, and how long it trains beside others (multiply-adds)."""
    config = SweepConfig.model_validate_json(sweep)
    runs = {label(values): cell_config(config, values) for values in grid(config)}
    works = {name: estimate.work_by_stage(run, None) for name, run in runs.items()}
    return {
        name: (sameness(runs[name]), work.get("assistant", 0.0) + config.seeds * work["distil"])
        for name, work in works.items()
    }


def _ahead(config: SweepConfig, begun: Sequence[Cell]) -> list[Values]:
    if config.sampler != "grid":
        return corners(config)
    known = {label(cell.values) for cell in begun}
    return [values for values in grid(config) if label(values) not in known]
