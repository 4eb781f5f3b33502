"""How contenders are timed side by side: in turn, from the same seeds; medians and their ratios."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Outcome:
    """What one training took and what its student is worth.

    `seconds` are those from raw texts to a trained student, `steady` the training examples a second from the second
    epoch on, `accuracy` that on the test texts, 0 to 1, measured once the clock has stopped.
    """

    seconds: float
    steady: float
    accuracy: float


@dataclass(frozen=True)
class Contender:
    """A way to train a student from a seed.

    One that is `slow`, as its teacher answers in every step, may take part in the first `rounds` only.
    """

    name: str
    run: Callable[[int], Outcome]
    rounds: int | None = None
    slow: bool = False


def alternate(
    contenders: Sequence[Contender], rounds: int, tell: Callable[[str], None] = lambda line: None
) -> dict[str, list[Outcome]]:
    """Runs each contender once a round, the order reversed in every other round; the outcomes by name.

    The number of the round is the seed, so that all have the same start in a round. What slows the machine down for a
    while falls on each of them in turn, and none inherits the garbage or the number of threads of the one before.

    Args:
        tell: hears a line after each training.
    """
    outcomes: dict[str, list[Outcome]] = {contender.name: [] for contender in contenders}
    threads = torch.get_num_threads()
    for number in range(rounds):
        for contender in contenders if number % 2 == 0 else reversed(contenders):
            if contender.rounds is None or number < contender.rounds:
                gc.collect()
                torch.set_num_threads(threads)
                outcome = contender.run(number)
                outcomes[contender.name].append(outcome)
                tell(f"round {number + 1} of {rounds}, {contender.name}: {_in_words(outcome)}")
    return outcomes


def _in_words(outcome: Outcome) -> str:
    return f"{outcome.seconds:.1f} s, {outcome.steady:,.0f} examples/s, accuracy {100 * outcome.accuracy:.1f} %"


def now() -> float:
    """Seconds on a clock, read once the device has done all that it was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def steady(ends: Sequence[float], examples: int) -> float:
    """Examples a second from the second epoch on.

    Args:
        ends: when each epoch was over, in seconds.
        examples: training texts of one epoch.

    Raises:
        ValueError: there was no second epoch.
    """
    if len(ends) < 2:
        raise ValueError(f"epochs must be >= 2, got {len(ends)}; the steady state begins with the second")
    return examples * (len(ends) - 1) / (ends[-1] - ends[0])


def summary(outcomes: Mapping[str, Sequence[Outcome]], ours: str) -> dict[str, dict[str, Any]]:
    """Figures of each contender that took part, ready for JSON.

    `ratio` and `steady_ratio` say how many times faster `ours` is, by medians: above 1 the contender is slower.

    Args:
        ours: the name of the contender that all are compared with.
    """
    seconds = statistics.median(outcome.seconds for outcome in outcomes[ours])
    speed = statistics.median(outcome.steady for outcome in outcomes[ours])
    return {name: _figures(done, seconds, speed) for name, done in outcomes.items() if done}


def _figures(outcomes: Sequence[Outcome], our_seconds: float, our_speed: float) -> dict[str, Any]:
    seconds = [outcome.seconds for outcome in outcomes]
    speeds = [outcome.steady for outcome in outcomes]
    accuracies = [outcome.accuracy for outcome in outcomes]
    return {
        "rounds": len(outcomes),
        "seconds": _spread(seconds),
        "steady": _spread(speeds),
        "accuracy": {"mean": statistics.fmean(accuracies), "min": min(accuracies), "max": max(accuracies)},
        "ratio": statistics.median(seconds) / our_seconds,
        "steady_ratio": our_speed / statistics.median(speeds),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


COLUMNS = ("", "end to end, s", "spread", "ours is faster", "examples/s from epoch 2", "ours is faster", "accuracy, %")


def table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """What `summary` gives as a Markdown table, a row a contender."""
    rows = [COLUMNS, ["---"] * len(COLUMNS), *(_cells(name, entry) for name, entry in figures.items())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _cells(name: str, entry: Mapping[str, Any]) -> Sequence[str]:
    seconds, accuracy = entry["seconds"], {key: 100 * value for key, value in entry["accuracy"].items()}
    return (
        f"{name} ({entry['rounds']} ×)",
        f"{seconds['median']:.1f}",
        f"{seconds['min']:.1f}–{seconds['max']:.1f}",
        f"{entry['ratio']:.1f} ×",
        f"{entry['steady']['median']:,.0f}",
        f"{entry['steady_ratio']:.1f} ×",
        f"{accuracy['mean']:.1f} ({accuracy['min']:.1f}–{accuracy['max']:.1f})",
    )
