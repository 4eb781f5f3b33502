"""What a sweep tries: its axes, how cells are chosen, and the run configuration of each cell. Needs no PyTorch."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from distill_core.config import RunConfig, Section, digest, parse
from distill_core.errors import ConfigError

Sampler = Literal["grid", "random", "tpe", "nsga2"]
Pruner = Literal["none", "median", "hyperband"]
Values = dict[str, Any]
"""The settings of a cell: its value on each axis, by field."""
MOST_CELLS = 10_000


class Axis(Section):
    """A setting that a sweep varies: over listed values, or between two numbers."""

    field: str = Field(description="A setting by its name, as in `objective.beta`.")
    values: tuple[bool | int | float | str, ...] = Field((), description="The values to try, in the order to draw.")
    low: float | None = Field(None, description="The least number, in place of listed values.")
    high: float | None = Field(None, description="The largest number.")
    log: bool = Field(False, description="Whether factors rather than differences count between the two.")

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Axis:
        if not self.values and self.low is None and self.high is None:
            raise ConfigError(f"axis {self.field} must have values or a range, got none; add at least one value")
        if bool(self.values) == (self.low is not None and self.high is not None):
            raise ConfigError(
                f"axis {self.field} must have values or a range, got {self.as_text()!r}; try {self.field}=1,2,4"
            )
        if len(set(self.values)) < len(self.values):
            raise ConfigError(f"axis {self.field} must have each value once, got {self.as_text()!r}; leave one out")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ConfigError(f"axis {self.field} must go from a lower to a higher number, got {self.as_text()!r}")
        if self.log and self.low is not None and self.low <= 0:
            raise ConfigError(f"axis {self.field} must be above 0 to go by factors, got {self.low:g}; leave out :log")
        return self

    def as_text(self) -> str:
        """The axis as the command line writes it, without the field."""
        if self.values:
            return ",".join(value if isinstance(value, str) else json.dumps(value) for value in self.values)
        return f"{self.low}..{self.high}{':log' if self.log else ''}"


class SweepConfig(Section):
    """All that decides a sweep."""

    question: str | None = Field(None, description="The ready question that it asks, whose answer it then gives.")
    base: RunConfig = Field(RunConfig(), description="All settings that are no axis.")
    axes: tuple[Axis, ...] = Field(min_length=1, max_length=8, description="What differs between cells.")
    seeds: int = Field(3, ge=1, le=50, description="Trainings of student and baseline in each cell, for error bars.")
    sampler: Sampler = Field(
        "grid",
        description="How cells are chosen: all combinations; at random; by a tree-structured Parzen estimator that "
        "looks where validation accuracy was high (Bergstra et al. 2011); or by NSGA-II, which looks for the best "
        "trades of accuracy, size and speed (Deb et al. 2002).",
    )
    cells: int | None = Field(None, ge=1, le=MOST_CELLS, description="How many cells, where it is no grid.")
    pruner: Pruner = Field(
        "none",
        description="Whether cells that look hopeless are stopped early: below the median of the others at the same "
        "epoch, or by Hyperband (Li et al. 2018). Leaves gaps in a grid.",
    )
    executor: Literal["local", "ray"] = Field("local", description="This machine's cores, or a Ray cluster.")
    address: str | None = Field(None, description="The Ray cluster's address; empty starts one on this machine.")
    storage: str | None = Field(None, description="URL of Optuna's database; empty means sweeps.db in the home folder.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Where the choice of cells begins, where it is no grid.")

    @model_validator(mode="after")
    def _fits_together(self) -> SweepConfig:
        names = [axis.field for axis in self.axes]
        if len(set(names)) < len(names):
            raise ConfigError(f"axes must each be another setting, got {', '.join(names)}; name each once")
        if "training.seeds" in names:
            raise ConfigError("axes must not vary training.seeds, got it among them; every cell has the sweep's seeds")
        grid = self.sampler == "grid"
        ranged = next((axis for axis in self.axes if not axis.values), None)
        if grid and ranged is not None:
            raise ConfigError(
                f"axis {ranged.field} must list its values in a grid, got {ranged.as_text()}; list them, or try "
                "sampler tpe"
            )
        if not grid and self.cells is None:
            raise ConfigError(f"cells must say how many {self.sampler} is to try, got nothing; try 30")
        if grid and self.cells is not None:
            raise ConfigError(f"cells must be left out of a grid, got {self.cells}; it has all combinations")
        if self.sampler == "nsga2" and self.pruner != "none":
            raise ConfigError(f"pruner must be none with nsga2, got {self.pruner}; several goals have no median")
        if self.address is not None:
            host_and_port(self.address)
        if self.storage is not None and "://" not in self.storage:
            raise ConfigError(f"storage must be the URL of a database, got {self.storage!r}; try sqlite:///sweeps.db")
        return self

    @property
    def planned(self) -> int:
        """How many cells the sweep is to have."""
        if self.cells is not None:
            return self.cells
        count = 1
        for axis in self.axes:
            count *= len(axis.values)
        return count

    def to_json(self) -> str:
        """Indented JSON, the content of `sweep.json`."""
        return self.model_dump_json(indent=2)


def host_and_port(address: str) -> tuple[str, int]:
    """Both parts of a Ray cluster's address. Raises ConfigError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        raise ConfigError(f"address must read host:port, got {address!r}; try 127.0.0.1:6379")
    return host.strip("[]"), int(port)


def parse_sweep(values: Mapping[str, Any]) -> SweepConfig:
    """Validates a sweep and each of its cells. Raises ConfigError with field, value and remedy."""
    if not values.get("axes"):
        raise ConfigError("axes must name at least one setting, got none; try objective.beta=0,1,2")
    base = values.get("base")
    given = {**values, "base": parse(base)} if isinstance(base, Mapping) else values
    try:
        config = SweepConfig.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"sweep {name}: {first['msg']}, got {first['input']!r}; see sweep --help") from None
    if config.planned > MOST_CELLS:
        raise ConfigError(f"axes must make at most {MOST_CELLS:,} cells, got {config.planned:,}; list fewer values")
    for axis in config.axes:
        if not axis.values and _is_whole(axis.field):
            raise ConfigError(
                f"axis {axis.field} must list its values, since they are whole numbers, got {axis.as_text()}; try "
                f"{axis.field}={axis.low:g},{axis.high:g}"
            )
    for cell in grid(config) if config.sampler == "grid" else corners(config):
        cell_config(config, cell)
    return config


def _is_whole(name: str) -> bool:
    """Whether a setting takes no numbers between two whole ones."""
    section, _, field = name.partition(".")
    part = RunConfig.model_fields.get(section)
    known = getattr(part.annotation, "model_fields", {}).get(field) if part is not None else None
    return known is not None and known.annotation in (int, int | None)


def parse_axis(text: str) -> Axis:
    """An axis as the command line writes it: `objective.beta=0,1,2` or `training.learning_rate=0.001..0.01:log`."""
    name, equals, listed = text.partition("=")
    if not (equals and listed and name.count(".") == 1):
        raise ConfigError(f"--axes must read section.field=value,value, got {text!r}; try objective.beta=0,1,2")
    low, dots, rest = listed.partition("..")
    if dots and not {",", "/"} & set(listed):  # the dots may be part of a file's path
        high, colon, scale = rest.partition(":")
        if colon and scale != "log":
            raise ConfigError(f"axis {name} may go by :log alone, got {scale!r}; leave it out for even steps")
        try:
            return Axis(field=name, low=float(low), high=float(high), log=bool(colon))
        except ValueError:
            raise ConfigError(f"axis {name} must go between two numbers, got {listed!r}; try 0.5..8") from None
    return Axis(field=name, values=tuple(_read(value.strip()) for value in listed.split(",")))


def _read(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) and math.isfinite(value) else text


def grid(config: SweepConfig) -> list[Values]:
    """All combinations of listed values; the last axis moves fastest."""
    names = [axis.field for axis in config.axes]
    return [dict(zip(names, cell, strict=True)) for cell in itertools.product(*(axis.values for axis in config.axes))]


def corners(config: SweepConfig) -> list[Values]:
    """For each value of each axis, and both ends of a range, a cell with the others at their first."""
    first = {axis.field: (axis.values or (axis.low,))[0] for axis in config.axes}
    return [{**first, axis.field: value} for axis in config.axes for value in axis.values or (axis.low, axis.high)]


def cell_config(config: SweepConfig, values: Mapping[str, Any]) -> RunConfig:
    """The configuration of a cell's run. Raises ConfigError: a value, or values together, cannot be used."""
    settings = config.base.model_dump(mode="json")
    settings["training"]["seeds"] = config.seeds
    for name, value in values.items():
        section, _, field = name.partition(".")
        if not isinstance(settings.get(section), dict):
            raise ConfigError(f"axis {name} is not a setting, got {value!r}; see presets for their names")
        settings[section][field] = value
    return parse(settings)


def sameness(config: RunConfig) -> str:
    """A hash that is equal for configurations of one outcome: without β, neither distance nor temperature counts."""
    settings = config.model_dump(mode="json")
    objective = settings["objective"]
    if objective["mode"] == "offline" and objective["beta"] == 0:
        for field in ("temperature", "divergence", "beta_ramp"):
            del objective[field]
    return digest(settings)


def distinct(configs: Iterable[RunConfig]) -> list[RunConfig]:
    """One configuration for each outcome, the first of those that share it."""
    return list({sameness(config): config for config in reversed(list(configs))}.values())[::-1]


def label(values: Mapping[str, Any], names: Sequence[str] = ()) -> str:
    """A cell in a few words, as in `beta 2, temperature 4`."""
    return ", ".join(f"{name.partition('.')[2]} {values[name]}" for name in names or values)
