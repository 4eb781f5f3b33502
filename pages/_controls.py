"""Controls built from the fields of the configuration: labelled, explained and bounded by them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import streamlit as st

from distill_core.config import RunConfig
from distill_core.presets import PRESETS
from pages._draft import draft_from, is_drafted, remember

Range = tuple[float | None, float | None]
MARGIN = 1e-3
"""How far a control keeps from a bound that is itself excluded, as a part of its step."""


def choose(section: str, name: str, *, options: Mapping[Any, str] | None = None) -> Any:
    """A choice among a field's values, labelled and explained by the field."""
    info = _field(section, name)
    words = dict(options or {value: str(value) for value in get_args(info.annotation)})
    return st.selectbox(
        info.title, list(words), format_func=words.__getitem__, help=info.description, key=remember(section, name)
    )


def choose_preset() -> None:
    """Puts the settings of a preset into the controls; it goes by no preset's name once one of them has changed."""
    name = st.session_state.get("train.preset")
    if name is not None and not is_drafted(PRESETS[name].config):
        st.session_state["train.preset"] = None
    st.selectbox(
        "Start from a preset",
        list(PRESETS),
        index=None,
        placeholder="as set below",
        help="\n".join(f"- **{name}**: {preset.description}" for name, preset in PRESETS.items()),
        key="train.preset",
        on_change=_take_preset,
    )


def _take_preset() -> None:
    name = st.session_state["train.preset"]
    if name is not None:
        draft_from(PRESETS[name].config)


def choose_kind(section: Literal["teacher", "student"], kinds: Mapping[str, str], sizes: str) -> str:
    """The kind of model of a role; `sizes` says what its sizes cost."""
    key = remember(section, "kind")
    st.segmented_control(
        section.capitalize(),
        list(kinds),
        format_func=kinds.__getitem__,
        key=key,
        required=True,
        width="stretch",
        help=f"{_field(section, 'kind').description}\n\n{_field(section, 'size').description} {sizes}",
    )
    return str(st.session_state[key])


def choose_size(section: Literal["teacher", "student"], sizes: Iterable[str]) -> None:
    """The named sizes of a role."""
    st.segmented_control(
        f"{section.capitalize()} size",
        list(sizes),
        key=remember(section, "size"),
        required=True,
        width="stretch",
        label_visibility="collapsed",
    )


def slide(section: str, name: str, low: float, high: float, step: float) -> None:
    """A slider for the range of a field that is worth exploring, wider where its value lies outside."""
    info, path, key = _field(section, name), f"{section}.{name}", remember(section, name)
    kind = type(getattr(getattr(RunConfig(), section), name))
    # A range that shrank with the value would move under the person's hand.
    ranges: dict[str, Range] = st.session_state.setdefault("ranges", {})
    ranges[path] = low, high = _holding(ranges.get(path, (low, high)), st.session_state[key])
    st.slider(info.title, kind(low), kind(high), step=kind(step), help=info.description, key=key)


def number(section: str, name: str, *, step: float, format: str | None = None, whole: bool = True) -> None:
    """A number within a field's own bounds; an empty one where the field may be left out.

    Args:
        whole: whether a number that may be left out is an integer.
    """
    info, key = _field(section, name), remember(section, name)
    low, high = _holding(_bounds(info.metadata, MARGIN * step), st.session_state[key])
    default = getattr(getattr(RunConfig(), section), name)
    kind = (int if whole else float) if default is None else type(default)
    st.number_input(
        info.title,
        value="min" if default is not None else None,  # one that may be left out can be emptied again
        min_value=None if low is None else kind(low),
        max_value=None if high is None else kind(high),
        step=kind(step),
        format=format,
        help=info.description,
        placeholder="all" if default is None else None,
        key=key,
    )


def text(section: str, name: str, *, placeholder: str = "") -> None:
    """A short text; empty where the field may be left out."""
    info = _field(section, name)
    key = remember(section, name)
    st.session_state[key] = st.session_state[key] or ""
    st.text_input(info.title, help=info.description, placeholder=placeholder, key=key, on_change=_strip, args=(key,))


def choose_column(section: str, name: str, columns: Sequence[str], *, empty: str) -> None:
    """A choice among the columns of a file, or a short text while they are not known.

    Args:
        empty: what it means to leave the field out.
    """
    if not columns:
        text(section, name, placeholder=empty)
        return
    info, key = _field(section, name), remember(section, name)
    chosen = st.session_state[key] = st.session_state[key] or ""
    options = dict.fromkeys(["", *columns, chosen])  # a column that this file lacks is shown until another is chosen
    st.selectbox(info.title, list(options), format_func=lambda it: it or empty, help=info.description, key=key)


def _strip(key: str) -> None:
    """Takes the spaces off both ends of what was typed."""
    st.session_state[key] = st.session_state[key].strip()


def switch(section: str, name: str) -> None:
    """On or off."""
    info = _field(section, name)
    st.toggle(info.title, help=info.description, key=remember(section, name))


def _field(section: str, name: str) -> Any:
    annotation = RunConfig.model_fields[section].annotation
    assert annotation is not None
    return annotation.model_fields[name]


def _bounds(metadata: Iterable[Any], margin: float) -> Range:
    """Least and largest value of a field, `margin` away from a bound that is itself excluded."""
    found = {name: getattr(item, name) for item in metadata for name in ("ge", "gt", "le", "lt") if hasattr(item, name)}
    low = found["gt"] + margin if "gt" in found else found.get("ge")
    high = found["lt"] - margin if "lt" in found else found.get("le")
    return low, high


def _holding(bounds: Range, value: float | None) -> Range:
    """Bounds that also let in a value."""
    low, high = bounds
    if value is None:
        return bounds
    return None if low is None else min(low, value), None if high is None else max(high, value)
