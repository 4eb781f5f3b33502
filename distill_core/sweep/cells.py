"""The cells of a sweep: where each stands, what it has measured, and all as one tidy table. Needs no PyTorch."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from distill_core.sweep.space import Values

CellState = Literal["waiting", "running", "finished", "failed", "pruned", "cancelled"]
ENDED: frozenset[CellState] = frozenset({"finished", "failed", "pruned", "cancelled"})


@dataclass(frozen=True)
class Measured:
    """What a cell's run has come to. Accuracies are shares of texts, 0 to 1; lists have an entry for each seed.

    `val_accuracy` is their mean. `right` and `right_alone` say which test texts student and baseline got right, a bit
    each as hexadecimal digits, so that any two cells can be compared text by text. `gain_margin` is half the 95 %
    interval of the gain, `commonest` the share of the class that most test texts have. Cells of the version before say
    neither that nor what their teacher is worth on validation.
    """

    dataset: str
    test_texts: int
    val_accuracy: float
    accuracies: tuple[float, ...]
    baselines: tuple[float, ...]
    right: tuple[str, ...]
    right_alone: tuple[str, ...]
    gain: float | None
    gain_margin: float | None
    retention: float | None
    agreement: float
    kl: float
    parameters: int
    bytes: int
    latency_ms: float
    teacher_accuracy: float
    teacher_parameters: int | None
    teacher_latency_ms: float | None
    seconds: float
    teacher_val_accuracy: float | None = None
    commonest: float | None = None

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Measured:
        """What counts of a run's result."""
        student, teacher, seeds = result["student"], result["teacher"], result["seeds"]
        validated = [] if seeds is None else [score for score in seeds["val_accuracies"] if score is not None]
        alone = result["baseline"]
        baselines = () if alone is None else (alone["test_accuracy"],)
        if seeds is not None:
            baselines = () if seeds["baseline"] is None else seeds["baseline"]["values"]
        return cls(
            dataset=result["dataset"],
            test_texts=result["sizes"]["test"],
            val_accuracy=statistics.fmean(validated or [student["val_accuracy"]]),
            accuracies=tuple(seeds["student"]["values"] if seeds else (student["test_accuracy"],)),
            baselines=tuple(baselines),
            right=tuple(result["right"]["student"]),
            right_alone=tuple(result["right"]["baseline"]),
            **{name: result[name] for name in ("gain", "gain_margin", "retention")},
            **{name: student[name] for name in ("agreement", "kl", "parameters", "bytes", "latency_ms")},
            teacher_accuracy=teacher["test_accuracy"],
            teacher_parameters=teacher["parameters"],
            teacher_latency_ms=teacher["latency_ms"],
            seconds=sum(result["seconds"].values()),
            teacher_val_accuracy=teacher["val_accuracy"],
            commonest=max(map(sum, student["confusion"])) / result["sizes"]["test"] if "confusion" in student else None,
        )

    @property
    def accuracy(self) -> float:
        """The student's test accuracy, on the average of its seeds."""
        return statistics.fmean(self.accuracies)

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the student's test accuracy over seeds; one seed has none."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None

    @property
    def alone(self) -> float | None:
        """The baseline's test accuracy, on the average of its seeds."""
        return statistics.fmean(self.baselines) if self.baselines else None


@dataclass(frozen=True)
class Cell:
    """One cell: its values on the axes, the run that it is, and how that went.

    `number` counts the sweep's cells from 0 and is Optuna's trial number. Cells of one outcome share a run.
    """

    number: int
    values: Values
    state: CellState = "waiting"
    run_id: str | None = None
    error: str | None = None
    ended: float | None = None
    measured: Measured | None = None

    def as_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Cell:
        """The cell that `as_json` has written. Raises TypeError for other fields."""
        found: Mapping[str, Any] | None = row.get("measured")
        if found is None:
            return cls(**row)
        lists = ("accuracies", "baselines", "right", "right_alone")
        values: dict[str, Any] = {name: tuple(value) if name in lists else value for name, value in found.items()}
        return cls(**{**row, "measured": Measured(**values)})


def latest(rows: Iterable[Cell]) -> list[Cell]:
    """Each cell as it was written last, by number."""
    found = {cell.number: cell for cell in rows}
    return [found[number] for number in sorted(found)]


def measured(cells: Iterable[Cell]) -> list[tuple[Cell, Measured]]:
    """The finished cells with what they have measured."""
    return [(cell, cell.measured) for cell in cells if cell.state == "finished" and cell.measured is not None]


def tidy(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """A flat row for each cell: number, state, run, its axes by field, what it has measured; None where unknown."""
    return [_row(cell) for cell in cells]


def _row(cell: Cell) -> dict[str, Any]:
    found = cell.measured
    row: dict[str, Any] = {"cell": cell.number, "state": cell.state, "run_id": cell.run_id, **cell.values}
    names = (
        "dataset",
        "val_accuracy",
        "gain",
        "gain_margin",
        "retention",
        "agreement",
        "kl",
        "parameters",
        "bytes",
        "latency_ms",
        "teacher_accuracy",
        "teacher_val_accuracy",
        "teacher_parameters",
        "teacher_latency_ms",
        "seconds",
    )
    means = {
        "test_accuracy": None if found is None else found.accuracy,
        "test_accuracy_std": None if found is None else found.deviation,
        "baseline_accuracy": None if found is None else found.alone,
        "seeds": None if found is None else len(found.accuracies),
    }
    return {**row, **means, **{name: getattr(found, name, None) for name in names}, "error": cell.error}
