"""Published results that a sweep on the same data set can be held against. No Streamlit here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

IMDB = ("imdb", "hf:imdb", "hf:stanfordnlp/imdb")
"""Names of one data set."""


@dataclass(frozen=True)
class Published:
    """A model of others: its test accuracy as a share, its parameters, and where both stand."""

    name: str
    data: tuple[str, ...]
    accuracy: float
    parameters: float
    source: str
    url: str


PUBLISHED: Sequence[Published] = (
    Published("DistilBERT", IMDB, 0.9282, 66e6, "Sanh et al. 2019", "https://arxiv.org/abs/1910.01108"),
    Published("LSTM taught by BERT", IMDB, 0.8522, 1.05e6, "KD_Lib's log", "https://github.com/SforAiDl/KD_Lib"),
)


def published(data: str) -> list[Published]:
    """The results on a data set, by its name in the configuration; others measured other texts and say nothing here."""
    return [each for each in PUBLISHED if data in each.data]
