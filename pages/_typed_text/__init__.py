"""A text box whose text follows the typing (Streamlit components v2).

Streamlit's own text area tells its text when it is left. This one tells it a moment after the last key, together with
the version of the script's text that it was typed over: a text that a newer version has replaced is of no account.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import streamlit as st

_HERE = Path(__file__).parent


def _source(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


_mount = st.components.v2.component(
    "distill_lab.typed_text",
    html=_source("typed_text.html"),
    css=_source("typed_text.css"),
    js=_source("typed_text.js"),
    isolate_styles=False,  # from a shadow root, Streamlit would take typed letters for its shortcuts
)


def typed_text(text: str, version: int, *, key: str, label: str, placeholder: str, most: int) -> str:
    """A text box that tells what has been typed 150 ms after the last key; returns its present text.

    Args:
        text: what the script puts into the box; the box takes it only when `version` has changed.
        version: the number of that text. While it stays, what the person types is what counts.
        key: the box's identity.
        label: its visible and accessible name.
        placeholder: what an empty box shows.
        most: the longest text, in UTF-16 units, as browsers count.
    """
    present = told(key, text, version, most)
    data = {"text": present, "version": version, "label": label, "placeholder": placeholder, "most": most}
    found = _mount(key=key, data=data, height="content", on_text_change=_nothing)
    return _present(found, text, version, most)


def _nothing() -> None:
    """The script, or the fragment that the box is in, runs again by itself."""


def told(key: str, text: str, version: int, most: int) -> str:
    """What the box of a key has last told about a version, before it is drawn; else the script's own text."""
    return _present(st.session_state.get(key), text, version, most)


def _present(state: object, text: str, version: int, most: int) -> str:
    """What the browser has last told about this version, else the script's own text."""
    told = state.get("text") if isinstance(state, Mapping) else None
    if isinstance(told, Mapping) and told.get("version") == version and isinstance(told.get("text"), str):
        return clean(told["text"], most)
    return clean(text, most)


def clean(text: str, most: int) -> str:
    """The text's first `most` UTF-16 units, with a question mark for each half of a broken pair of surrogates."""
    return text.encode("utf-16-le", "replace")[: 2 * most].decode("utf-16-le", "ignore")
