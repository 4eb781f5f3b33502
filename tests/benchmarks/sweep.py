"""What 24 runs of one teacher take together: `python -m tests.benchmarks.sweep`.

β × temperature × size of the student. Compared with the teacher's part and the 24 trainings of students alone, each
timed on one core and divided by the cores: what a machine would take that is never idle and does nothing else.
"""

from __future__ import annotations

import argparse
import itertools
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

BETAS, TEMPERATURES, SIZES = (0.5, 1, 2, 5), (1, 4), ("S", "M", "L")


def cells(epochs: int, limit: int | None) -> list[RunConfig]:
    """The configurations of the sweep."""
    settings = [f"training.epochs={epochs}", "training.baseline=false", "teacher.pretrain=false"]
    settings += [] if limit is None else [f"data.train_limit={limit}"]
    return [
        load(
            settings=[
                *settings,
                f"objective.beta={beta}",
                f"objective.temperature={temperature}",
                f"student.size={size}",
            ]
        )
        for beta, temperature, size in itertools.product(BETAS, TEMPERATURES, SIZES)
    ]


def main() -> None:
    """Times both and says how they compare."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.sweep", description=__doc__)
    parser.add_argument("--epochs", type=int, default=6, metavar="N")
    parser.add_argument("--limit", type=int, metavar="TEXTS", help="train on at most so many texts, to try it out")
    options = parser.parse_args()
    openmp.sleep_soon()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Store(Path(folder)), cells(options.epochs, options.limit))
    json.dump(figures, sys.stdout, indent=2)
    print()


def measure(store: Store, configs: list[RunConfig]) -> dict[str, Any]:
    """Seconds of the sweep, of its teacher, and of its students' trainings on one core each."""
    from distill_core import device, packing

    run_ids = [store.create_run(config) for config in configs]
    start = time.perf_counter()
    packing.prepare(store, run_ids)
    teacher = time.perf_counter() - start
    packing.run_all(store, run_ids, tell=lambda run_id: print(run_id, file=sys.stderr, flush=True))
    whole = time.perf_counter() - start
    alone = [_training_seconds(store, run_id) for run_id in run_ids]
    ideal = teacher + sum(alone) / device.cores()
    results = [store.result(run_id) for run_id in run_ids]
    stages = [result["seconds"] for result in results if result is not None]
    return {
        "cells": len(run_ids),
        "cores": device.cores(),
        "seconds": whole,
        "teacher": teacher,
        "trainings on one core": sum(alone),
        "ratio to teacher + trainings at full use": whole / ideal,
        "stages of the cells": {stage: sum(each[stage] for each in stages) for stage in stages[0]},
        "equal results": all(_same(store, run_id) for run_id in run_ids[:2]),
    }


def _training_seconds(store: Store, run_id: str) -> float:
    """One student's training and nothing else, on one core of a machine that has nothing else to do."""
    import torch

    from distill_core import device
    from distill_core.job import Job
    from distill_core.students import _distil
    from distill_core.teaching import prepare_data, prepare_teaching
    from distill_core.training.loop import Context

    torch.set_num_threads(1)
    device.keep_memory()
    config = store.config(run_id)
    context = Context(device.choose(config.training.precision, encoder=False), emit=lambda event: None)
    job = Job(run_id, store, config, prepare_data(config, store), context)
    teaching = prepare_teaching(job)
    start = time.perf_counter()
    model, _ = _distil(job, teaching, config.training.seed, context)
    seconds = time.perf_counter() - start
    _alone[run_id] = model.state_dict()
    return seconds


_alone: dict[str, Any] = {}


def _same(store: Store, run_id: str) -> bool:
    """Whether the cell's student has the very weights of the one that was trained alone."""
    import torch
    from safetensors.torch import load_file

    saved = load_file(store.run_folder(run_id) / "student.safetensors")
    return all(torch.equal(saved[name], tensor) for name, tensor in _alone[run_id].items())


if __name__ == "__main__":
    main()
