"""The configuration that the controls show, kept with the browser session: widgets forget their values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import streamlit as st
from pydantic import ValidationError

from distill_core.config import DataConfig, RunConfig, parse


def drafted_config() -> RunConfig:
    """The configuration that the controls show. Raises ConfigError."""
    return parse(_drafted_values())


def is_drafted(config: RunConfig) -> bool:
    """Whether the controls show this configuration."""
    return _drafted_values() == config.model_dump(mode="json")


def drafted_data() -> RunConfig:
    """The data set that the controls show, all else at its default. Raises ConfigError."""
    return parse({"data": _drafted_values()["data"]})


def drafted_parts() -> RunConfig:
    """The same without asking whether all is right, enough to draw the controls: a bad value counts as the default."""
    values = _drafted_values()
    return RunConfig.model_construct(**{name: _usable(type(part), values[name]) for name, part in RunConfig()})


def _usable(section: Any, values: dict[str, Any]) -> Any:
    try:
        return section.model_validate(values)
    except ValidationError as error:
        bad = {found["loc"][0] for found in error.errors()}
        return section.model_validate({name: value for name, value in values.items() if name not in bad})


def typed(section: str, name: str) -> Any:
    """What a field is set to, be it right or wrong."""
    return _drafted_values()[section][name]


def _drafted_values() -> dict[str, dict[str, Any]]:
    values: dict[str, dict[str, Any]] = RunConfig().model_dump(mode="json")
    _take_from_controls(values)
    for path, value in _draft().items():
        section, name = path.split(".")
        values[section][name] = value
    return values


def _take_from_controls(defaults: dict[str, dict[str, Any]]) -> None:
    """Updates the draft from controls further down the page, which this run of the script has yet to draw."""
    for section, fields in defaults.items():
        for name, default in fields.items():
            key = key_of(f"{section}.{name}")
            if key in st.session_state:
                value = st.session_state[key]
                _draft()[f"{section}.{name}"] = None if value == "" and default is None else value


def draft(section: str, name: str, value: object) -> None:
    """Sets a field of the draft that has no control of its own name."""
    _draft()[f"{section}.{name}"] = value


def reset(section: str, names: Iterable[str]) -> None:
    """Puts fields back to their defaults; their controls must not have been drawn yet."""
    for name in names:
        _draft().pop(f"{section}.{name}", None)
        st.session_state.pop(key_of(f"{section}.{name}"), None)


def changed_settings() -> dict[str, Any]:
    """The fields that the controls show at other values than their defaults, by path."""
    defaults: dict[str, dict[str, Any]] = RunConfig().model_dump(mode="json")
    return {
        f"{section}.{name}": value
        for section, fields in _drafted_values().items()
        for name, value in fields.items()
        if value != defaults[section][name]
    }


def draft_settings(settings: dict[str, Any]) -> None:
    """Puts fields, by path, into the controls, and all others to their defaults; unknown ones are left out."""
    values: dict[str, dict[str, Any]] = RunConfig().model_dump(mode="json")
    for path, value in settings.items():
        section, _, name = path.partition(".")
        if name in values.get(section, {}):
            values[section][name] = value
    _put(values)


def draft_from(config: RunConfig) -> None:
    """Puts a configuration into the controls."""
    _put(config.model_dump(mode="json"))


def _put(values: dict[str, dict[str, Any]]) -> None:
    _draft().clear()
    for section, fields in values.items():
        reset(section, fields)
        for name, value in fields.items():
            draft(section, name, value)
    _forget_controls()
    st.session_state.pop("ranges", None)


def forget_data() -> None:
    """Goes back to the data set that needs no reading."""
    reset("data", DataConfig.model_fields)
    _forget_controls()


def _forget_controls() -> None:
    """Lets those controls of the data set start anew that have no field of their own name."""
    for name in ("source", "hub", "labels"):
        st.session_state.pop(key_of(name), None)


def key_of(name: str) -> str:
    """A widget's key: the same control on another page is another widget."""
    return f"{st.session_state.get('page', 'train')}.{name}"


def remember(section: str, name: str) -> str:
    """The key of a field's widget, which starts from the draft: widgets forget their values on a page switch."""
    path, key = f"{section}.{name}", key_of(f"{section}.{name}")
    default = getattr(getattr(RunConfig(), section), name)
    if key not in st.session_state:
        st.session_state[key] = _draft().get(path, default)
    _draft()[path] = st.session_state[key]
    return key


def _draft() -> dict[str, Any]:
    draft: dict[str, Any] = st.session_state.setdefault("draft", {})
    return draft
