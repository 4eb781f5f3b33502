"""The texts that a person has tried in Compare: a list to go back to, those that are pinned on top, and as CSV."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import streamlit as st

from pages._exports import as_csv

TRIED = "compare.tried"
MOST = 50
"""Texts that are kept; pinned ones stay longest."""
PAUSE = 3.0
"""Seconds without a key after which a text stays in the list."""
SHOWN = 160
"""Characters of a text in the list."""


@dataclass(frozen=True)
class Tried:
    """A text and what each model of a run said to it: its answer and the probability of that.

    `at` is when it was last asked about, in seconds of the monotonic clock.
    """

    text: str
    run: str
    said: Mapping[str, tuple[str, float]]
    kl: float | None
    at: float
    whole: bool = True
    pinned: bool = False

    def cells(self) -> dict[str, object]:
        """Its line in a table."""
        answers = {name: f"{label} {100 * share:.1f} %" for name, (label, share) in self.said.items()}
        return {"Pinned": "★" if self.pinned else "", "Text": self.text, "Run": self.run, **answers, "KL": self.kl}


def tried() -> list[Tried]:
    """All texts, the latest first."""
    found: list[Tried] = st.session_state.setdefault(TRIED, [])
    return found


def remember(text: str, run: str, said: Mapping[str, tuple[str, float]], kl: float | None, *, whole: bool) -> None:
    """Puts a text on top. What stood there is replaced where it was only a step on the way while typing.

    Args:
        whole: whether the text came at once, as an example or an edit does.
    """
    now, kept = time.monotonic(), tried()
    known = next((item for item in kept if (item.text, item.run) == (text, run)), None)
    others = [item for item in kept if item is not known]
    if others and known is None and not (whole or others[0].whole or others[0].pinned):
        others = others[1:] if now - others[0].at < PAUSE else others
    while len(others) >= MOST:
        others.remove(next((item for item in reversed(others) if not item.pinned), others[-1]))
    own = Tried(
        text, run, said, kl, now, whole or (known is not None and known.whole), known is not None and known.pinned
    )
    st.session_state[TRIED] = [own, *others]


def is_pinned(text: str) -> bool:
    """Whether a text is pinned."""
    return any(item.text == text and item.pinned for item in tried())


def turn_pin(text: str) -> None:
    """Pins a text, or takes the pin off."""
    st.session_state[TRIED] = [replace(item, pinned=not item.pinned) if item.text == text else item for item in tried()]


def ordered() -> list[Tried]:
    """Pinned ones first."""
    return sorted(tried(), key=lambda item: not item.pinned)


def table(items: Sequence[Tried], most: int | None = None) -> dict[str, list[object]]:
    """The columns of a table of texts, which are cut for the page and whole for a file; None where a run has no such.

    Args:
        most: characters of a text.
    """
    rows = [{**item.cells(), "Text": item.text[:most]} for item in items]
    voices = dict.fromkeys(name for item in items for name in item.said)
    return {name: [row.get(name) for row in rows] for name in ("Pinned", "Text", "Run", *voices, "KL")}


def csv(items: Sequence[Tried]) -> bytes:
    """Texts as a file that a spreadsheet opens without running anything in it."""
    return as_csv(table(items))
