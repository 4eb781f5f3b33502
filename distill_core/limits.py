"""What one lab allows, so that a class can share a machine: `limits.json` in the home folder, all optional."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from distill_core.errors import ConfigError

FILE = "limits.json"


class Limits(BaseModel):
    """The limits of a home folder. A limit that is null does not apply."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    queued_per_owner: int | None = Field(10, ge=1, description="Runs of one person that wait or work at the same time.")
    training_minutes: float | None = Field(
        240.0, gt=0, description="Minutes that a run may work, pauses not counted; then its student is kept as it is."
    )
    pause_minutes: float | None = Field(
        10.0,
        gt=0,
        description="Minutes that a run may pause while others wait; then it makes way, and can be resumed.",
    )
    upload_megabytes: int = Field(200, ge=1, description="Megabytes of a file that is given to the lab.")
    text_characters: int = Field(200_000, ge=1, description="Characters of a text that is typed in Compare.")
    home_gigabytes: float | None = Field(
        20.0, gt=0, description="Gigabytes that the home folder may take before no further run starts."
    )
    workers: int | None = Field(
        None, ge=1, le=64, description="Runs that work at the same time; by default one a GPU, or one without any."
    )


def usable(home: Path) -> Limits:
    """The same for work that must go on: the defaults where the file is wrong, which whoever starts a run is told."""
    try:
        return load(home)
    except ConfigError:
        return Limits()


def load(home: Path) -> Limits:
    """The limits of a home folder, the defaults where it has none of its own. Raises ConfigError."""
    file = home / FILE
    if not file.exists():
        return Limits()
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ConfigError(f"{FILE} must hold an object, got {type(values).__name__}; see the command limits")
        return Limits.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{name} in {FILE} is wrong ({first['msg']}), got {first['input']!r}; the limits are "
            f"{', '.join(Limits.model_fields)}"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{FILE} must be a JSON object, got one that cannot be read ({error}); mend it") from None
