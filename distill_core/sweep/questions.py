"""Ready questions: the sweep that asks each of them, and the answer that its cells support. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from distill_core import presets
from distill_core.config import SIZES
from distill_core.errors import ConfigError
from distill_core.sweep import findings
from distill_core.sweep.answers import cautions, overall, progress
from distill_core.sweep.cells import Cell
from distill_core.sweep.space import Axis, SweepConfig

Answer = Callable[[SweepConfig, Sequence[Cell]], list[str]]


@dataclass(frozen=True)
class Question:
    """A question with the sweep that asks it.

    `answer` gives sentences, none where the cells that have finished do not suffice. It needs the axes `needs`, each
    with several values.
    """

    title: str
    description: str
    config: SweepConfig
    answer: Answer
    needs: tuple[str, ...]


def _asks(name: str, settings: Sequence[str], **axes: Sequence[bool | int | float | str]) -> SweepConfig:
    """A grid whose axes are written `section__field`, around quick runs whose teacher is not pre-trained."""
    return SweepConfig(
        question=name,
        base=presets.load("quick", settings=("teacher.pretrain=false", *settings)),
        axes=tuple(Axis(field=field.replace("__", "."), values=tuple(values)) for field, values in axes.items()),
    )


QUESTIONS: Mapping[str, Question] = {
    "how-much-beta": Question(
        "How much β?",
        "How much should the teacher count beside the labels? At β = 0 the student does not hear it; the temperature "
        "says how soft it speaks.",
        _asks(
            "how-much-beta",
            ("student.size=S",),
            objective__beta=(0, 0.5, 1, 2, 5),
            objective__temperature=(1, 2, 4, 8),
        ),
        findings.how_much_beta,
        ("objective.beta",),
    ),
    "does-temperature-matter": Question(
        "Does temperature matter?",
        "A soft teacher says which wrong answers are nearly right. With two classes there is little to say, with five "
        "there may be more.",
        _asks(
            "does-temperature-matter",
            (
                "teacher.kind=pretrained",
                "teacher.frozen=true",
                "teacher.encoder_max_tokens=128",
                "student.kind=bag",
                "student.size=S",
                "training.epochs=10",
                "training.learning_rate=0.01",
            ),
            data__name=("rotten_tomatoes", "bbc_news"),
            objective__temperature=(1, 2, 4, 8),
        ),
        findings.does_temperature_matter,
        ("objective.temperature",),
    ),
    "how-small": Question(
        "How small can the student be?",
        "Students of five sizes, which read word by word (LSTM) or only weigh the words (bag): which is the smallest "
        "that loses less than a point against its teacher?",
        _asks("how-small", (), student__size=SIZES, student__kind=("lstm", "bag")),
        findings.how_small,
        ("student.size",),
    ),
    "bigger-teacher": Question(
        "Is a bigger teacher better?",
        "A larger teacher knows more, but a small student may not be able to follow it: the capacity gap (Mirzadeh et "
        "al. 2020). The largest teachers take minutes to train.",
        _asks("bigger-teacher", (), teacher__size=SIZES, student__size=("S", "M")),
        findings.bigger_teacher,
        ("teacher.size",),
    ),
    "how-few-labels": Question(
        "How few labels are enough with a teacher?",
        "The student sees the labels of a part of the texts, and hears its teacher, which has learned from all labels, "
        "on all of them. The baseline has the same few labels and no teacher. Both keep the epoch that is best on all "
        "validation texts.",
        _asks("how-few-labels", ("student.size=S",), training__label_share=(0.01, 0.05, 0.1, 0.25, 0.5, 1.0)),
        findings.how_few_labels,
        ("training.label_share",),
    ),
}


def ask(name: str) -> Question:
    """The ready question of this name. Raises ConfigError for a name that is none."""
    if name not in QUESTIONS:
        raise ConfigError(f"question must be one of {', '.join(QUESTIONS)}, got {name!r}; try how-much-beta")
    return QUESTIONS[name]


def answer_of(config: SweepConfig, cells: Sequence[Cell]) -> list[str]:
    """What a sweep says so far: the answer to its ready question, or else which cell is best; with what to be wary of.

    A sweep that asks a ready question, but has no longer the axes that the answer needs, is answered like any other.
    """
    question = QUESTIONS.get(config.question or "")
    several = {axis.field for axis in config.axes if len(axis.values) != 1}
    said = question.answer(config, cells) if question is not None and several.issuperset(question.needs) else []
    return [*progress(config, cells), *(said or overall(config, cells)), *cautions(cells)]
