"""Times the lab side by side with its peers: `python -m tests.benchmarks.side_by_side --help`.

Each contender has a process of its own, set up as its users have it: the lab as its command line does, the others as
PyTorch is. They train in turn, never at the same time. JSON on standard output; progress, and a Markdown table at the
end, on standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache, partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_core import openmp
from distill_core.store import home_folder

if TYPE_CHECKING:
    from tests.benchmarks.protocol import Contender, Outcome
    from tests.benchmarks.tasks import Task

FLAGS = ("amx_tile", "amx_bf16", "avx512_bf16", "avx512f")
PACKAGES = ("torch", "transformers", "textbrewer")
TASKS = ("minilm", "lstm")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the tasks that were asked for."""
    options = _options(arguments)
    machine = _machine()
    tell(json.dumps(machine))
    names = TASKS if options.task == "all" else (options.task,)
    report = {"machine": machine, "tasks": {name: _compare(name, options) for name in names}}
    text = json.dumps(report, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


def tell(line: str) -> None:
    """Says something to the person who waits."""
    print(line, file=sys.stderr, flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.side_by_side", description=__doc__)
    parser.add_argument("--task", choices=(*TASKS, "all"), default="all", help="MiniLM → BiLSTM, BiLSTM → LSTM")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="trainings of each contender")
    parser.add_argument("--slow-rounds", type=int, metavar="N", help="of those whose teacher answers every step")
    parser.add_argument("--limit", type=int, metavar="TEXTS", help="train on at most so many texts, to try it out")
    parser.add_argument("--epochs", type=int, metavar="N", help="2 or more, in place of the task's own")
    parser.add_argument("--home", type=Path, default=home_folder(), help="where trained teachers are kept")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the JSON here as well")
    return parser.parse_args(arguments)


def _compare(name: str, options: argparse.Namespace) -> dict[str, Any]:
    from tests.benchmarks import ours, protocol

    tell(f"{name}: getting texts and teacher ready")
    task, contenders = _prepared(name, options.home, options.limit, options.epochs)
    with ExitStack() as processes:
        everyone = [
            protocol.Contender(
                contender.name,
                partial(_train_alone, _process(processes, contender.name == ours.NAME), name, options, contender.name),
                options.slow_rounds if contender.slow else None,
            )
            for contender in contenders
        ]
        outcomes = protocol.alternate(everyone, options.rounds, tell)
    figures = protocol.summary(outcomes, ours.NAME)
    tell(f"\n{task.name}, {len(task.dataset.train):,} texts, {task.config.training.epochs} epochs\n")
    tell(protocol.table(figures) + "\n")
    return {
        "task": task.name,
        "texts": {side: len(getattr(task.dataset, side)) for side in ("train", "val", "test")},
        "config": task.config.model_dump(mode="json"),
        "contenders": figures,
    }


@cache
def _prepared(name: str, home: Path, limit: int | None, epochs: int | None) -> tuple[Task, list[Contender]]:
    """A task and those who take part, made once in each process."""
    from tests.benchmarks import ours, peers, tasks

    task = tasks.TASKS[name](home, limit, **({} if epochs is None else {"epochs": epochs}))
    return task, [*peers.contenders(task), ours.contender(task)]


def _process(processes: ExitStack, own: bool) -> ProcessPoolExecutor:
    settled = ProcessPoolExecutor(1, get_context("spawn"), _set_up, (own,))
    return processes.enter_context(settled)


def _set_up(own: bool) -> None:
    """Sets a contender's process up, before PyTorch is loaded; what it loads at its first step is there then."""
    if own:
        openmp.sleep_soon()
    from distill_core import device, pipeline

    if own:
        device.keep_memory()
    device.use_all_cores()
    pipeline.warm_up()


def _train_alone(
    process: ProcessPoolExecutor, task: str, options: argparse.Namespace, contender: str, seed: int
) -> Outcome:
    return process.submit(_train, task, options.home, options.limit, options.epochs, contender, seed).result()


def _train(task: str, home: Path, limit: int | None, epochs: int | None, contender: str, seed: int) -> Outcome:
    _, contenders = _prepared(task, home, limit, epochs)
    return next(one for one in contenders if one.name == contender).run(seed)


def _machine() -> dict[str, Any]:
    """What the figures depend on."""
    from distill_core import device
    from distill_core.models.sizes import WORKS

    compute = device.choose()
    facts = _processor(Path("/proc/cpuinfo"))
    versions = {package: version(package) for package in PACKAGES}
    return {
        **facts,
        "cores": device.cores(),
        "device": device.name(compute.device),
        "precision of distill_core": {work: compute.precision_of(work) for work in WORKS},
        "precision of the others": "float32",
        "versions": versions,
    }


def _processor(file: Path) -> dict[str, Any]:
    """Name of the processor, and which of the flags that matter it has; nothing where Linux does not say."""
    if not file.is_file():
        return {}
    lines = [line.partition(":") for line in file.read_text(encoding="utf-8").splitlines()]
    facts = {name.strip(): value.strip() for name, _, value in lines}
    own = set(facts.get("flags", "").split())
    return {"processor": facts.get("model name", ""), "flags": [flag for flag in FLAGS if flag in own]}


if __name__ == "__main__":
    main()
