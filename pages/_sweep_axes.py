"""Settings that a sweep can vary: what they are called, and their values in words and back. No Streamlit here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distill_core.config import SIZES
from distill_core.errors import ConfigError
from distill_core.sweep import answers
from distill_core.sweep.space import Axis, SweepConfig, parse_axis

Value = bool | int | float | str


@dataclass(frozen=True)
class Setting:
    """How the page speaks of a setting: the values that it suggests, and words for those that are texts."""

    values: tuple[Value, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    per_cent: bool = False

    @property
    def numeric(self) -> bool:
        """Whether further numbers can be typed."""
        return not self.words and all(_is_number(value) for value in self.values)

    def said(self, value: Value) -> str:
        """A value as people read it."""
        if _is_number(value):
            return f"{100 * float(value):g} %" if self.per_cent else f"{value:.6g}"
        if isinstance(value, bool):
            return "yes" if value else "no"
        return self.words.get(str(value), str(value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _named(name: str) -> Setting:
    """One whose values all have words of their own."""
    return Setting(tuple(answers.WORDS[name]), answers.WORDS[name])


SETTINGS: Mapping[str, Setting] = {
    "objective.beta": Setting((0, 0.5, 1, 2, 5)),
    "objective.temperature": Setting((1, 2, 4, 8)),
    "objective.divergence": _named("objective.divergence"),
    "student.size": Setting(SIZES, dict(zip(SIZES, SIZES, strict=True))),
    "student.kind": _named("student.kind"),
    "teacher.size": Setting(SIZES, dict(zip(SIZES, SIZES, strict=True))),
    "student.word_vectors": _named("student.word_vectors"),
    "training.learning_rate": Setting((0.001, 0.002, 0.005, 0.01, 0.02)),
    "training.label_share": Setting((0.01, 0.05, 0.1, 0.25, 0.5, 1), per_cent=True),
    "data.name": Setting(("rotten_tomatoes", "bbc_news", "imdb"), answers.WORDS["data.name"]),
}


def setting(name: str) -> Setting:
    """How the page speaks of a setting, also of one that it does not suggest; `name` as in `objective.beta`."""
    return SETTINGS.get(name, Setting())


def read(name: str, text: str) -> Value:
    """The value that stands behind its words, or that somebody has typed. Raises ConfigError."""
    known = setting(name)
    for value in (*known.words, *known.values):
        if known.said(value) == text:
            return value
    typed = text.strip().removesuffix("%").strip() if known.per_cent else text.strip()
    if not known.values and typed in ("yes", "no"):
        return typed == "yes"
    single = typed and "," not in typed and ".." not in typed
    value = parse_axis(f"{name}={typed}").values[0] if single else typed
    if known.numeric and known.values and not _is_number(value):
        raise ConfigError(f"{name} must be a number, got {text!r}; try {known.said(known.values[-1])}")
    return round(float(value) / 100, 8) if known.per_cent else value


def axis(name: str, texts: Sequence[str], *, ranged: bool = False) -> Axis:
    """A sweep's axis from its values in words, numbers in rising order.

    Args:
        ranged: whether all numbers between the least and the largest may be tried; by factors where they span ten.

    Raises:
        ConfigError: a value cannot be read, or there are too few.
    """
    values = list(dict.fromkeys(read(name, text) for text in texts))
    if values and all(_is_number(value) for value in values):
        low, high = min(values), max(values)
        if ranged and low < high:
            return Axis(field=name, low=float(low), high=float(high), log=low > 0 and high / low >= 10)
        return Axis(field=name, values=tuple(sorted(values)))
    return Axis(field=name, values=tuple(values))


def words(given: Axis) -> list[str]:
    """The values of an axis in words; of a range both ends."""
    known = setting(given.field)
    return [known.said(value) for value in given.values or (given.low, given.high) if value is not None]


def label(values: Mapping[str, Any]) -> str:
    """A cell in words, as in "β 2, temperature 4"."""
    return ", ".join(f"{answers.title(name)} {setting(name).said(value)}" for name, value in values.items())


def title(names: Sequence[str]) -> str:
    """Axes in words, as in "β × temperature"."""
    return " × ".join(answers.title(name) for name in names)


# Where values lie on a chart


@dataclass(frozen=True)
class Scale:
    """An axis as a chart draws it: listed values at even steps, a range where its numbers lie."""

    name: str
    values: tuple[Value, ...]
    log: bool = False

    @classmethod
    def of(cls, config: SweepConfig, name: str) -> Scale:
        """The scale of one of a sweep's axes, by its field."""
        found = next(each for each in config.axes if each.field == name)
        return cls(name, found.values, found.log)

    @property
    def title(self) -> str:
        """What people call the setting."""
        return answers.title(self.name)

    @property
    def numeric(self) -> bool:
        """Whether its values are numbers, of which one is more than another."""
        return all(_is_number(value) for value in self.values)

    @property
    def ticks(self) -> list[str]:
        """Words for the listed values."""
        return [setting(self.name).said(value) for value in self.values]

    def place(self, value: Value) -> float:
        """Where a value lies; ValueError for one that is not listed."""
        return self.values.index(value) if self.values else float(value)

    def layout(self) -> dict[str, Any]:
        """The axis for Plotly."""
        drawn: dict[str, Any] = {"title": {"text": self.title}}
        if not self.values:
            return drawn | ({"type": "log", "dtick": "D2"} if self.log else {})
        drawn |= {"tickvals": list(range(len(self.values))), "ticktext": self.ticks}
        return drawn | {"range": [-0.5, len(self.values) - 0.5], "fixedrange": True}


def shown_logarithm(value: float) -> str:
    """A number that is given as its logarithm, in few letters as in 31 k."""
    number = 10**value
    for size, sign in ((1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{sign}"
    return f"{number:.3g}"


def logarithm(value: float) -> float:
    """Its decimal logarithm; 0 and less has the least that there is on a chart."""
    return math.log10(value) if value > 0 else -6.0
