"""A text with its words coloured by what they count, once for each model; a click on a word asks for an edit."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import streamlit as st

from pages._typed_text import clean

MOST = 400
"""How many words of a text are drawn."""
LONGEST = 200
"""UTF-16 units of a replacement."""

What = Literal["drop", "mask", "replace"]

_HERE = Path(__file__).parent


def _source(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


_mount = st.components.v2.component(
    "distill_lab.words",
    html=_source("words.html"),
    css=_source("words.css"),
    js=_source("words.js"),
    isolate_styles=False,  # from a shadow root, Streamlit would take typed letters for its shortcuts
)


@dataclass(frozen=True)
class Line:
    """What one model makes of the words.

    Attributes:
        name: as in "Teacher".
        colour: the role's colour, for the small square before the name.
        scores: a share in [-1, 1] for each word, 1 for the strongest; None where the model did not read the word.
        note: small text after the name.
    """

    name: str
    colour: str
    scores: Sequence[float | None]
    note: str


@dataclass(frozen=True)
class Edit:
    """A change of one word that a person asks for.

    Attributes:
        what: to leave the word out, to hide it from the models, or to put another in its place.
        place: which word, from 0.
        word: the replacement; empty for the other two.
    """

    what: What
    place: int
    word: str


def words(
    words: Sequence[str], gaps: Sequence[str], lines: Sequence[Line], marked: Collection[int], *, key: str, label: str
) -> Edit | None:
    """Draws the text once per line; returns the edit that a click has just asked for, once.

    Args:
        words: what is shown.
        gaps: the white space before each word in the original, which may be none.
        lines: the models, each with a score for every word.
        marked: places of words about which the models disagree.
        key: the drawing's identity.
        label: what the colours tell, for people who do not see them.

    Raises:
        ValueError: if gaps or scores are not as many as the words.
    """
    found = _mount(key=key, data=_message(words, gaps, lines, marked, label), height="content", on_edit_change=_nothing)
    return _edit(found.get("edit"), words)


def _nothing() -> None:
    """The script, or the fragment that the words are in, runs again by itself."""


def _message(
    words: Sequence[str], gaps: Sequence[str], lines: Sequence[Line], marked: Collection[int], label: str
) -> dict[str, Any]:
    """What the browser is told."""
    counts = {"gaps": len(gaps), **{f"scores of {line.name}": len(line.scores) for line in lines}}
    for name, count in counts.items():
        if count != len(words):
            raise ValueError(f"{name} must be as many as the words, {len(words)}, got {count}")
    return {
        "label": label,
        "words": list(words[:MOST]),
        "gaps": [_gap(gap) for gap in gaps[:MOST]],
        "lines": [_line(line) for line in lines],
        "marked": sorted(place for place in marked if 0 <= place < min(MOST, len(words))),
        "more": max(len(words) - MOST, 0),
        "longest": LONGEST,
    }


def _line(line: Line) -> dict[str, Any]:
    scores = [_share(score) for score in line.scores[:MOST]]
    return {"name": line.name, "colour": line.colour, "note": line.note, "scores": scores}


def _share(score: float | None) -> float | None:
    """A number that JSON has, in [-1, 1]."""
    if score is None or not math.isfinite(score):
        return None
    return round(max(-1.0, min(1.0, float(score))), 4)


def _gap(gap: str) -> str:
    """White space as it is drawn: a break, a space or nothing."""
    return "\n" if "\n" in gap or "\r" in gap else " " if gap else ""


def _edit(asked: object, words: Sequence[str]) -> Edit | None:
    """What the browser asks for, if it is one of our edits, and of a word that still stands at its place."""
    if not isinstance(asked, Mapping):
        return None
    what, place, word = (asked.get(name) for name in ("what", "place", "word"))
    if what not in get_args(What) or type(place) is not int or not isinstance(word, str):
        return None
    if not 0 <= place < len(words) or asked.get("was") != words[place]:
        return None
    replacement = clean(word.strip(), LONGEST) if what == "replace" else ""
    return Edit(cast(What, what), place, replacement) if replacement or what != "replace" else None
