"""What sets several runs apart: the settings that differ, and how far their results lie from one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, Literal

from distill_core.config import RunConfig

Result = Mapping[str, Any]
Kind = Literal["share", "points", "nats", "count", "ms", "seconds"]
"""How a figure is told: `share` from 0 to 1, `points` a difference of shares, `nats`, `count`, `ms`, `seconds`."""
Better = Literal["higher", "lower"]


def setting_titles() -> dict[str, str]:
    """What people call each setting, by its name as in `teacher.size`; unlike for any two of them."""
    titles = {
        f"{section}.{name}": field.title or name
        for section, part in RunConfig()
        for name, field in type(part).model_fields.items()
    }
    times = Counter(titles.values())
    return {
        path: title if times[title] == 1 else f"{title} ({path.partition('.')[0]})" for path, title in titles.items()
    }


def differing_settings(configs: Sequence[RunConfig]) -> dict[str, list[Any]]:
    """The settings that are not the same in all runs, each with its value in each run, by name."""
    settings = [flat(config) for config in configs]
    return {
        path: [values[path] for values in settings]
        for path in (settings[0] if settings else ())
        if any(values[path] != settings[0][path] for values in settings)
    }


def flat(config: RunConfig) -> dict[str, Any]:
    """All settings of a run, by name as in `teacher.size`."""
    sections = config.model_dump(mode="json").items()
    return {f"{section}.{name}": value for section, fields in sections for name, value in fields.items()}


@dataclass(frozen=True)
class Figure:
    """One figure of several runs; None for a run that has none. `margins` are half its 95 % intervals."""

    title: str
    kind: Kind
    better: Better | None
    values: tuple[float | None, ...]
    margins: tuple[float | None, ...] = ()

    def differences(self, reference: int) -> tuple[float | None, ...]:
        """How far each value lies above that of one run; None for that run itself and where one of both lacks."""
        base = self.values[reference]
        return tuple(
            None if value is None or base is None or place == reference else value - base
            for place, value in enumerate(self.values)
        )

    def best(self) -> frozenset[int]:
        """The places of the best value; none where nothing is better or all are alike."""
        known = [value for value in self.values if value is not None]
        if self.better is None or len(set(known)) < 2:
            return frozenset()
        first = max(known) if self.better == "higher" else min(known)
        return frozenset(place for place, value in enumerate(self.values) if value == first)


_OF_STUDENT: Sequence[tuple[str, str, Kind, Better]] = (
    ("Agrees with its teacher", "agreement", "share", "higher"),
    ("KL(student‖teacher)", "kl", "nats", "lower"),
    ("Macro F1", "macro_f1", "share", "higher"),
    ("Calibration error", "ece", "share", "lower"),
    ("Negative log-likelihood", "nll", "nats", "lower"),
    ("Parameters", "parameters", "count", "lower"),
    ("Time a text", "latency_ms", "ms", "lower"),
)


def figures(results: Sequence[Result | None]) -> list[Figure]:
    """What the results say, a figure a row; accuracies are those on test, the means where there are several seeds."""

    def of(ask: Callable[[Result], float | None]) -> tuple[float | None, ...]:
        return tuple(None if result is None else ask(result) for result in results)

    found = [
        *(
            Figure(title, "share", "higher", of(partial(accuracy, role=role)))
            for title, role in (("Teacher", "teacher"), ("Student", "student"), ("Student alone", "baseline"))
        ),
        Figure("Gain by the teacher", "points", "higher", of(itemgetter("gain")), of(itemgetter("gain_margin"))),
        Figure("Kept of the teacher", "share", "higher", of(itemgetter("retention"))),
        *(
            Figure(title, kind, better, of(partial(_of_student, name=name)))
            for title, name, kind, better in _OF_STUDENT
        ),
        Figure("Time of all stages", "seconds", None, of(_seconds)),
    ]
    return [figure for figure in found if any(value is not None for value in figure.values)]


def accuracy(result: Result, role: str) -> float | None:
    """A model's accuracy on test, the mean over the seeds where there are several; None without the model."""
    if not result.get(role):
        return None
    spread = (result.get("seeds") or {}).get(role)
    return float(spread["mean"] if spread else result[role]["test_accuracy"])


def spread(result: Result, role: str) -> float | None:
    """The standard deviation of a model's accuracy over the seeds; None with one seed."""
    found = (result.get("seeds") or {}).get(role)
    return float(found["std"]) if found and "std" in found else None


def _of_student(result: Result, name: str) -> float | None:
    value: float | None = result["student"].get(name)
    return value


def _seconds(result: Result) -> float | None:
    seconds = result.get("seconds")
    return float(sum(seconds.values())) if seconds else None
