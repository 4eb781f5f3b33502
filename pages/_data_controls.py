"""The controls that say which texts are used; on Train and on Data alike."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from distill_core.data import tables
from distill_core.data.sources import SOURCES
from distill_core.errors import DataError
from pages import _controls, _draft, _session

HUB = "hub"
FILE_TYPES = ["csv", "tsv", "jsonl"]
OF_ONE_SET = ("path", "text_column", "label_column", "split_column", "label_names")
"""Fields that say something of one data set and nothing of another."""


def choose_data() -> None:
    """The data set: one that the lab knows, a file, or one of the Hugging Face Hub."""
    drafted: str = _draft.typed("data", "name")
    options = {**{name: source.title for name, source in SOURCES.items()}, HUB: "Hugging Face Hub"}
    st.session_state.setdefault(_draft.key_of("source"), HUB if drafted.startswith("hf:") else drafted)
    source = st.selectbox(
        "Data set",
        list(options),
        format_func=options.__getitem__,
        help="The labelled texts that both models learn from: one that comes with the lab, a file of your own, or "
        "one of the Hugging Face Hub.",
        key=_draft.key_of("source"),
    )
    _change_to(_name_on_the_hub(drafted) if source == HUB else source)
    if source == "csv":
        _choose_file()
    elif source == "imdb":
        _controls.text("data", "path", placeholder="found or downloaded by itself")


def _change_to(name: str) -> None:
    """Drafts a data set, without what was said of another."""
    if name != _draft.typed("data", "name"):
        _draft.reset("data", [*OF_ONE_SET, *({"max_rows", "split_seed"} - set(_settings_of(name)))])
        st.session_state.pop(_draft.key_of("labels"), None)
    _draft.draft("data", "name", name)


def _settings_of(name: str) -> tuple[str, ...]:
    """The fields that a data set has and others lack, in the order of their controls."""
    if name == "csv" or name.startswith("hf:"):
        return ("text_column", "label_column", "label_names", "split_column", "max_rows", "split_seed")
    return () if name == "rotten_tomatoes" else ("split_seed",)


def _choose_file() -> None:
    upload = st.file_uploader(
        "Your file",
        type=FILE_TYPES,
        help="A csv, tsv or jsonl file with a column of texts and a column of labels. With columns teacher_LABEL, "
        "one a label, it can also be the teacher. It stays on this machine.",
        max_upload_size=_session.allowed().upload_megabytes,
        key=_draft.key_of("upload"),
    )
    names: dict[str, str] = st.session_state.setdefault("upload.names", {})
    if upload is not None and st.session_state.get("upload.latest") != upload.file_id:
        kept = str(_session.store().keep_upload(upload.name, upload.getvalue()))
        names[kept] = upload.name
        st.session_state["upload.latest"] = upload.file_id
        _draft.reset("data", ["path"])
        _draft.draft("data", "path", kept)
    path = _draft.typed("data", "path")
    if path:
        st.caption(f"In use: {names.get(path, Path(path).name)}")
        _choose_columns(_columns())
    with st.expander("A file on the lab's machine"):
        _controls.text("data", "path", placeholder="/folder/reviews.csv")


def _choose_columns(columns: list[str]) -> None:
    _controls.choose_column("data", "text_column", columns, empty="found by its name")
    _controls.choose_column("data", "label_column", columns, empty="found by its name")


def ask_for_file() -> bool:
    """Says what to do where a file of one's own is wanted and none has been chosen; returns whether that is so."""
    missing = _draft.typed("data", "name") == "csv" and not _draft.typed("data", "path")
    if missing:
        st.info(
            "Upload a csv, tsv or jsonl file, or give the path of one on the lab's machine.",
            icon=":material/upload_file:",
        )
    return missing


def _name_on_the_hub(drafted: str) -> str:
    st.session_state.setdefault(
        _draft.key_of("hub"), drafted.removeprefix("hf:") if drafted.startswith("hf:") else "ag_news"
    )
    name = st.text_input(
        "Name on the Hub",
        help="As in ag_news or owner/name. Its texts and labels are downloaded; no code of it is run.",
        key=_draft.key_of("hub"),
    )
    return f"hf:{name.strip()}"


def data_settings() -> None:
    """How the texts are read and cut, for those who want to decide it."""
    name: str = _draft.typed("data", "name")
    fields = _settings_of(name)
    if "text_column" in fields:
        columns = _columns() if name == "csv" else []
        if name != "csv":  # those of a file stand beside it
            _choose_columns(columns)
        _name_labels()
        unsplit = "split at random" if name == "csv" else "as published"
        _controls.choose_column("data", "split_column", columns, empty=unsplit)
        _controls.number("data", "max_rows", step=10_000)
    if "split_seed" in fields:
        _controls.number("data", "split_seed", step=1)
    _controls.number("data", "train_limit", step=500)
    _controls.number("data", "unlabelled_limit", step=500)
    _controls.number("data", "max_tokens", step=32)
    _controls.number("data", "max_vocabulary", step=1000)
    _controls.number("data", "min_frequency", step=1)


def _columns() -> list[str]:
    """The columns of the chosen file; none while they cannot be read."""
    path = _draft.typed("data", "path")
    try:
        return tables.column_names(Path(path)) if path else []
    except DataError:
        return []


def _name_labels() -> None:
    """Label names as `0 = negative, 1 = positive`."""
    named: dict[str, str] = _draft.typed("data", "label_names")
    st.session_state.setdefault(
        _draft.key_of("labels"), ", ".join(f"{value} = {name}" for value, name in named.items())
    )
    typed = st.text_input(
        "Names of the labels",
        placeholder="0 = negative, 1 = positive",
        help="What to call each value of the label column. Others keep their value.",
        key=_draft.key_of("labels"),
    )
    pairs = [part.partition("=") for part in typed.split(",") if part.strip()]
    if all(equals and name.strip() for _, equals, name in pairs):
        _draft.draft("data", "label_names", {value.strip(): name.strip() for value, _, name in pairs})
    else:
        st.error(f"Names of the labels must read 0 = negative, 1 = positive, got {typed!r}; put a = in each")
