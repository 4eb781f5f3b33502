"""Where two models agree on many texts, and where not. Shapes: `N` texts, `C` classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from distill_core.analysis.metrics import CALIBRATION_BINS, accuracy, bootstrap_interval
from distill_core.data.batches import NO_LABEL
from distill_core.errors import RunError
from distill_core.training.losses import kl_by_text

GROUPS = 6
"""Groups of similar texts whose accuracy is shown."""
MAX_POINTS = 5000
"""Points of a scatter."""


@dataclass(frozen=True, eq=False)
class SetAnswers:
    """What each model says about the texts of a set.

    Args:
        labels: for each text the number of its class, -1 where it has none; None where no text has one.
        logits: for each role `[N, C]`.
        lengths_N: tokens of each text.
        unknown_N: share of tokens that are no known word, 0 to 1, among those that the models read.
    """

    texts: tuple[str, ...]
    labels: tuple[int, ...] | None
    logits: Mapping[str, Tensor]
    lengths_N: Tensor
    unknown_N: Tensor
    label_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def reference(self) -> str | None:
        """The role that the student is compared with: the teacher, else the baseline, else nobody."""
        return next((role for role in ("teacher", "baseline") if role in self.logits), None)

    @property
    def roles(self) -> tuple[str, ...]:
        """The models that answered, in the order in which they are shown."""
        return tuple(role for role in ("teacher", "baseline", "student") if role in self.logits)

    @property
    def labelled(self) -> int:
        """How many texts have a label."""
        return int((self.labels_N != NO_LABEL).sum())

    @cached_property
    def labels_N(self) -> Tensor:
        """The labels as a tensor, -1 where there is none."""
        return torch.tensor([NO_LABEL] * len(self) if self.labels is None else self.labels, dtype=torch.long)

    @cached_property
    def probabilities(self) -> dict[str, Tensor]:
        """For each role `[N, C]`."""
        return {role: logits_NC.softmax(dim=1) for role, logits_NC in self.logits.items()}

    @cached_property
    def answers(self) -> dict[str, Tensor]:
        """For each role the number of the class that it chooses, `[N]`."""
        return {role: logits_NC.argmax(dim=1) for role, logits_NC in self.logits.items()}

    @cached_property
    def kl_N(self) -> Tensor:
        """KL(student ‖ reference) of each text in nats."""
        return kl_by_text(self.logits["student"].double(), self.logits[_reference(self)].double())


@dataclass(frozen=True)
class Summary:
    """How close two models are, and how often each is right among `labelled` texts. Divergences are nats a text."""

    texts: int
    labelled: int
    agreement: float
    kl: float
    kl_reverse: float
    accuracy: Mapping[str, float]


@dataclass(frozen=True)
class Bin:
    """Texts whose answer was given with a confidence from `low` to `high`; means are None where there is no text."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Group:
    """Labelled texts with values from `low` to `high`, how often a model is right, and the 95 % interval of that."""

    low: float
    high: float
    count: int
    accuracy: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Points:
    """Probabilities of one class under both models, of texts evenly taken from `total`."""

    rows: list[int]
    reference: list[float]
    student: list[float]
    agree: list[bool]
    total: int


def summary(answers: SetAnswers) -> Summary:
    """The whole set in a few numbers."""
    known = answers.labels_N != NO_LABEL
    reference, student = _reference(answers), answers.logits["student"]
    right = {role: accuracy(answers.logits[role][known], answers.labels_N[known]) for role in answers.roles}
    return Summary(
        len(answers),
        answers.labelled,
        float(_agree(answers).float().mean()),
        float(answers.kl_N.mean()),
        float(kl_by_text(answers.logits[reference].double(), student.double()).mean()),
        right if answers.labelled else {},
    )


def agreement_matrix(answers: SetAnswers) -> list[list[int]]:
    """Texts by answer: a row for each class that the reference chooses, a column for each that the student does."""
    classes = len(answers.label_names)
    pairs_N = answers.answers[_reference(answers)] * classes + answers.answers["student"]
    counts: list[list[int]] = torch.bincount(pairs_N, minlength=classes**2).reshape(classes, classes).tolist()
    return counts


# Lists of texts, each as rows in its order


def cell(answers: SetAnswers, reference_label: int, student_label: int) -> list[int]:
    """Texts of one cell of the matrix, furthest apart first."""
    chosen, student = answers.answers[_reference(answers)], answers.answers["student"]
    return _furthest_first(answers, (chosen == reference_label) & (student == student_label))


def worst_kl(answers: SetAnswers) -> list[int]:
    """All texts, furthest apart first."""
    return _furthest_first(answers, torch.ones(len(answers), dtype=torch.bool))


def among(answers: SetAnswers, rows: Sequence[int]) -> list[int]:
    """Some rows, furthest apart first."""
    wanted = torch.zeros(len(answers), dtype=torch.bool)
    wanted[list(rows)] = True
    return _furthest_first(answers, wanted)


def confident_disagreements(answers: SetAnswers) -> list[int]:
    """Texts on which the models disagree, first those where even the less sure of both is sure."""
    tops = torch.stack([answers.probabilities[role].amax(dim=1) for role in (_reference(answers), "student")])
    return _ranked(tops.amin(dim=0), ~_agree(answers))


def student_right(answers: SetAnswers) -> list[int]:
    """Texts on which the student is right and the reference is not, furthest apart first."""
    return _furthest_first(answers, _right(answers, "student") & _wrong(answers, _reference(answers)))


def teacher_right(answers: SetAnswers) -> list[int]:
    """Texts on which the reference is right and the student is not, furthest apart first."""
    return _furthest_first(answers, _right(answers, _reference(answers)) & _wrong(answers, "student"))


def listing(answers: SetAnswers, rows: Sequence[int]) -> dict[str, list[Any]]:
    """Columns `text`, `label` and `kl`, for each role of both its answer and, as in `student_p`, its probability."""
    picked = torch.tensor(rows, dtype=torch.long)
    names, columns = answers.label_names, dict[str, list[Any]]()
    columns["text"] = [answers.texts[row] for row in rows]
    columns["label"] = [names[number] if number != NO_LABEL else None for number in answers.labels_N[picked].tolist()]
    for role in (_reference(answers), "student"):
        columns[role] = [names[number] for number in answers.answers[role][picked].tolist()]
        columns[f"{role}_p"] = answers.probabilities[role][picked].amax(dim=1).tolist()
    columns["kl"] = answers.kl_N[picked].tolist()
    return columns


def disagreements(answers: SetAnswers, top: int) -> list[dict[str, Any]]:
    """The texts on which teacher and student disagree, furthest apart first, at most so many, ready for JSON.

    Each has `text`, `label` (None where it has none), the probabilities of `teacher` and `student`, `kl` and `agree`.

    Raises:
        RunError: the teacher did not answer.
    """
    if "teacher" not in answers.logits:
        raise RunError("teacher must be a model that can be asked, got a file; choose a run with a teacher of its own")
    rows = _furthest_first(answers, ~_agree(answers))[:top]
    columns = listing(answers, rows)
    return [
        {
            "text": columns["text"][place],
            "label": columns["label"][place],
            **{role: _spoken(answers, role, row) for role in ("teacher", "student")},
            "kl": columns["kl"][place],
            "agree": False,
        }
        for place, row in enumerate(rows)
    ]


# Charts as numbers


def points(answers: SetAnswers, label: int, most: int = MAX_POINTS) -> Points:
    """How probable both models find a class, text by text; of more than `most` texts that many, evenly taken."""
    total = len(answers)
    rows = torch.arange(min(total, most)) * total // max(min(total, most), 1)
    return Points(
        rows.tolist(),
        answers.probabilities[_reference(answers)][rows, label].tolist(),
        answers.probabilities["student"][rows, label].tolist(),
        _agree(answers)[rows].tolist(),
        total,
    )


def reliability(answers: SetAnswers, role: str) -> list[Bin]:
    """Labelled texts by confidence, in 15 bins of equal width (Guo et al. 2017, https://arxiv.org/abs/1706.04599)."""
    known = answers.labels_N != NO_LABEL
    confidence_N, right_N = answers.probabilities[role].amax(dim=1)[known], _right(answers, role)[known]
    edges = torch.linspace(0, 1, CALIBRATION_BINS + 1)
    places = (torch.bucketize(confidence_N, edges, right=True) - 1).clamp(max=CALIBRATION_BINS - 1)
    bins = []
    for place in range(CALIBRATION_BINS):
        inside = places == place
        count, low, high = int(inside.sum()), float(edges[place]), float(edges[place + 1])
        means = [float(values[inside].double().mean()) if count else None for values in (confidence_N, right_N)]
        bins.append(Bin(low, high, count, *means))
    return bins


def calibration_error(bins: Sequence[Bin]) -> float:
    """The mean gap between confidence and accuracy, 0 to 1; 0 where there is no text."""
    gaps = [one.count * abs((one.confidence or 0) - (one.accuracy or 0)) for one in bins]
    return sum(gaps) / max(sum(one.count for one in bins), 1)


def accuracy_by(answers: SetAnswers, role: str, values_N: Tensor, groups: int = GROUPS) -> list[Group]:
    """Accuracy among labelled texts of similar value, in at most so many groups of about the same size.

    Texts of one value are in one group, so many equal values make fewer and larger groups.

    Args:
        values_N: a number for each text, such as `lengths_N`.
    """
    known = answers.labels_N != NO_LABEL
    values, right = values_N.double()[known], _right(answers, role)[known]
    if not len(values):
        return []
    shares = torch.arange(1, groups).double() / groups
    cuts = sorted(set(torch.quantile(values, shares, interpolation="lower").tolist()))
    places = torch.bucketize(values, torch.tensor(cuts, dtype=torch.double))
    found = []
    for place in sorted(set(places.tolist())):
        inside = places == place
        count, share = int(inside.sum()), float(right[inside].double().mean())
        low, high = values[inside].aminmax()
        found.append(Group(float(low), float(high), count, share, bootstrap_interval(share, count)))
    return found


def _reference(answers: SetAnswers) -> str:
    if answers.reference is None:
        remedy = "choose a run whose teacher is a model, or one with a baseline"
        raise RunError(f"student must have a model to be compared with, got none; {remedy}")
    return answers.reference


def _agree(answers: SetAnswers) -> Tensor:
    return answers.answers[_reference(answers)] == answers.answers["student"]


def _right(answers: SetAnswers, role: str) -> Tensor:
    return answers.answers[role] == answers.labels_N


def _wrong(answers: SetAnswers, role: str) -> Tensor:
    return ~_right(answers, role) & (answers.labels_N != NO_LABEL)


def _furthest_first(answers: SetAnswers, wanted_N: Tensor) -> list[int]:
    return _ranked(answers.kl_N, wanted_N)


def _ranked(values_N: Tensor, wanted_N: Tensor) -> list[int]:
    """The wanted rows, those of the largest values first; equal ones in their order."""
    rows = wanted_N.nonzero()[:, 0]
    ranked: list[int] = rows[values_N[rows].argsort(descending=True, stable=True)].tolist()
    return ranked


def _spoken(answers: SetAnswers, role: str, row: int) -> dict[str, float]:
    return dict(zip(answers.label_names, answers.probabilities[role][row].tolist(), strict=True))
