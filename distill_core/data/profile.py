"""The few facts of a tokenised data set that pages and estimates need, readable without PyTorch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Profile:
    """Sizes of a tokenised data set: texts a split, their mean length in tokens, words of the vocabulary, labels."""

    labels: tuple[str, ...]
    vocabulary: int
    texts: dict[str, int]
    mean_tokens: dict[str, float]

    def write(self, folder: Path) -> None:
        """Puts the profile beside the token ids."""
        (folder / "profile.json").write_text(json.dumps(asdict(self), ensure_ascii=False), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Profile:
        """The inverse of `write`."""
        values = json.loads((folder / "profile.json").read_text(encoding="utf-8"))
        return cls(tuple(values["labels"]), values["vocabulary"], values["texts"], values["mean_tokens"])
