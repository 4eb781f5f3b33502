"""The facts of a tokenised data set that pages and estimates need, readable without PyTorch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from distill_core.errors import DataError


@dataclass(frozen=True)
class Example:
    """A text of the training set, cut to a readable length, with its label."""

    text: str
    label: str


@dataclass(frozen=True)
class Profile:
    """What a tokenised data set looks like. Splits are train, val and test, and `unlabelled` for texts without label.

    `lengths` counts training texts by tokens: from each number up to the next; `unknown` is the share of a split's
    tokens that the vocabulary does not know, `unknown_by_size` that of the validation texts under vocabularies of
    fewer words. `dropped` counts the rows left out, by reason. `answered` says whether the data carries the answers
    of a teacher.
    """

    labels: tuple[str, ...]
    vocabulary: int
    texts: dict[str, int]
    mean_tokens: dict[str, float]
    class_counts: dict[str, list[int]] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)
    unknown: dict[str, float] = field(default_factory=dict)
    unknown_by_size: dict[int, float] = field(default_factory=dict)
    rows: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    answered: bool = False
    examples: tuple[Example, ...] = ()

    def write(self, folder: Path) -> None:
        """Puts the profile beside the token ids."""
        (folder / "profile.json").write_text(json.dumps(asdict(self), ensure_ascii=False), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Profile:
        """The inverse of `write`. Raises DataError where it cannot be read."""
        try:
            values = json.loads((folder / "profile.json").read_text(encoding="utf-8"))
            values["labels"], values["notes"] = tuple(values["labels"]), tuple(values["notes"])
            values["examples"] = tuple(Example(**example) for example in values["examples"])
            for name in ("lengths", "unknown_by_size"):
                values[name] = {int(number): value for number, value in values[name].items()}
            return cls(**values)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise DataError(
                f"what was kept of the data set must be readable, got a broken {folder.name}/profile.json ({error}); "
                "delete it with: storage --clean caches"
            ) from None
