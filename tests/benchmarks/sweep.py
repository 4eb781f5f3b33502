"""What a sweep of one teacher costs: `python -m tests.benchmarks.sweep`.

5 values of β × 4 temperatures × 3 seeds with the teacher ready, compared with what was estimated, and with the same
trainings of students, each timed alone on one core and divided by the cores: what a machine would take that is never
idle and does nothing else. Cells without β share a run, as their temperature says nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from distill_core import openmp
from distill_core.config import RunConfig
from distill_core.presets import load
from distill_core.store import Store
from distill_core.sweep.cells import Cell
from distill_core.sweep.outlook import outlook
from distill_core.sweep.record import Sweeps
from distill_core.sweep.space import SweepConfig, cell_config, distinct, grid, parse_axis, parse_sweep
from tests.benchmarks.scaling import alone, exponent, peak_mb

GROWTH = (8, 32, 128)
"""Cells of the sweeps whose growth is measured."""
AXES = ("objective.beta=0,0.5,1,2,5", "objective.temperature=1,2,4,8")


def sweep(axes: list[str], seeds: int, limit: int | None) -> SweepConfig:
    """The sweep that is measured."""
    settings = ["teacher.pretrain=false", *([] if limit is None else [f"data.train_limit={limit}"])]
    return parse_sweep({"base": load(settings=settings), "axes": [parse_axis(axis) for axis in axes], "seeds": seeds})


def main() -> None:
    """Times the sweep and says how that compares."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.sweep", description=__doc__)
    parser.add_argument("--axes", action="append", metavar="FIELD=V,V,…", help=f"default {' and '.join(AXES)}")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--limit", type=int, metavar="TEXTS", help="train on at most so many texts, to try it out")
    parser.add_argument("--growth", action="store_true", help="how time and memory grow with the number of cells")
    options = parser.parse_args()
    openmp.sleep_soon()
    with tempfile.TemporaryDirectory() as folder:
        figures = (
            growth(Path(folder))
            if options.growth
            else measure(Store(Path(folder)), sweep(options.axes or list(AXES), options.seeds, options.limit))
        )
    json.dump(figures, sys.stdout, indent=2)
    print()


def growth(folder: Path) -> dict[str, Any]:
    """Seconds of sweeps of small students, and the memory of their driver, by the number of cells."""
    found = {}
    for count in GROWTH:
        values = ",".join(str(round(1 + number / count, 4)) for number in range(count))
        config = sweep([f"objective.beta={values}"], 1, 1000)
        training = config.base.training.model_copy(update={"epochs": 1, "baseline": False})
        small = config.model_copy(update={"base": config.base.model_copy(update={"training": training})})
        found[count] = alone(_carried_out, folder / str(count), small)
    seconds = {count: each["seconds"] for count, each in found.items()}
    return {"cells": found, "exponent of time": exponent(seconds, seconds.values())}


def _carried_out(home: Path, config: SweepConfig) -> dict[str, float]:
    """One sweep, whose teacher is ready, in this process."""
    from distill_core.sweep.chores import prepare
    from distill_core.sweep.drive import drive

    sweeps = Sweeps(Store(home))
    prepare(sweeps.store, [cell_config(config, grid(config)[0])])
    before, start = peak_mb(), time.perf_counter()
    drive(sweeps.create(config), sweeps)
    return {"seconds": time.perf_counter() - start, "memory of the driver, MB": peak_mb() - before}


def measure(store: Store, config: SweepConfig) -> dict[str, Any]:
    """Seconds of the sweep, as estimated and as taken, and of its trainings on one core each."""
    from distill_core.sweep.drive import drive
    from distill_core.worker import work

    work(store.create_run(cell_config(config, grid(config)[-1]), state="running"), store)  # as somebody has before
    for baseline in (store.home / "baselines").iterdir():
        baseline.rename(store.home / f"away-{baseline.name}")
    sweeps, ahead = Sweeps(store), outlook(config, store)
    sweep_id = sweeps.create(config, estimated=ahead.seconds)
    start = time.perf_counter()
    drive(sweep_id, sweeps, _tell)
    whole = time.perf_counter() - start
    alone = _trainings_alone(store, config)
    ideal = alone / openmp.cores()
    cells = sweeps.cells(sweep_id)
    return {
        "cells": len(cells),
        "runs": len({cell.run_id for cell in cells}),
        "trainings": ahead.trainings,
        "cores": openmp.cores(),
        "seconds": whole,
        "estimated": ahead.seconds,
        "ratio to the estimate": whole / ahead.seconds,
        "trainings on one core": alone,
        "ratio to trainings at full use": whole / ideal,
        "stages of the runs": _stages(store, {cell.run_id for cell in cells if cell.run_id}),
    }


def _tell(cell: Cell) -> None:
    if cell.state not in ("waiting", "running"):
        print(cell.number, cell.state, cell.values, file=sys.stderr, flush=True)


def _stages(store: Store, run_ids: set[str]) -> dict[str, float]:
    """Seconds of each stage, over all runs."""
    results = [result for run_id in run_ids if (result := store.result(run_id)) is not None]
    names = dict.fromkeys(stage for result in results for stage in result["seconds"])
    return {stage: sum(result["seconds"].get(stage, 0.0) for result in results) for stage in names}


def _trainings_alone(store: Store, config: SweepConfig) -> float:
    """Seconds of all trainings of students and baselines on one core of a machine that has nothing else to do."""
    import torch

    from distill_core import device

    torch.set_num_threads(1)
    device.keep_memory()
    runs = distinct([cell_config(config, values) for values in grid(config)])
    students = sum(_seconds(store, run, taught=True) for run in runs)
    alike = {run.student.model_dump_json(): run for run in runs}
    baselines = sum(_seconds(store, run, taught=False) for run in alike.values())
    return config.seeds * (students + baselines)


def _seconds(store: Store, config: RunConfig, *, taught: bool) -> float:
    """One training and nothing else."""
    from distill_core.students import distil_one
    from distill_core.sweep.chores import job_without_run
    from distill_core.teaching import prepare_teaching
    from distill_core.training import student

    job, seed = job_without_run(config, store, lambda: None), config.training.seed
    teaching = prepare_teaching(job)
    start = time.perf_counter()
    if taught:
        distil_one(job, teaching, seed, job.context)
    else:
        model = job.build(config.student, seed)
        student.train_baseline(model, job.data.train, job.data.val, config.training, seed=seed, context=job.context)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
