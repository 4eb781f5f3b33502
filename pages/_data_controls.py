"""The controls that say which texts are used; on Train and on Data alike."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from distill_core.data.sources import SOURCES
from pages import _widgets

HUB = "hub"
FILE_TYPES = ["csv", "tsv", "jsonl"]


def choose_data() -> None:
    """The data set: one that the lab knows, a file, or one of the Hugging Face Hub."""
    drafted = _widgets.drafted_parts().data
    options = {**{name: source.title for name, source in SOURCES.items()}, HUB: "Hugging Face Hub"}
    st.session_state.setdefault(_widgets.key_of("source"), HUB if drafted.name.startswith("hf:") else drafted.name)
    source = st.selectbox(
        "Data set",
        list(options),
        format_func=options.__getitem__,
        help="The labelled texts that both models learn from: one that comes with the lab, a file of your own, or "
        "one of the Hugging Face Hub.",
        key=_widgets.key_of("source"),
    )
    if source != HUB:
        _widgets.draft("data", "name", source)
    if source == "csv":
        _choose_file(drafted.path)
    elif source == HUB:
        _choose_hub(drafted.name)
    elif source == "imdb":
        _widgets.text("data", "path", placeholder="found or downloaded by itself")


def _choose_file(path: str | None) -> None:
    upload = st.file_uploader(
        "Your file",
        type=FILE_TYPES,
        help="A csv, tsv or jsonl file with a column of texts and a column of labels. With columns teacher_LABEL, "
        "one a label, it can also be the teacher. It stays on this machine.",
        key=_widgets.key_of("upload"),
    )
    names: dict[str, str] = st.session_state.setdefault("upload.names", {})
    if upload is not None:
        kept = str(_widgets.store().keep_upload(upload.name, upload.getvalue()))
        names[kept] = upload.name
        if st.session_state.get("upload.latest") != upload.file_id:
            st.session_state["upload.latest"] = upload.file_id
            _widgets.draft("data", "path", kept)
            st.session_state[_widgets.key_of("data.path")] = kept
            path = kept
    if path is not None:
        st.caption(f"In use: {names.get(path, Path(path).name)}")
    with st.expander("A file on the lab's machine"):
        _widgets.text("data", "path", placeholder="/folder/reviews.csv")


def _choose_hub(drafted: str) -> None:
    st.session_state.setdefault(
        _widgets.key_of("hub"), drafted.removeprefix("hf:") if drafted.startswith("hf:") else "ag_news"
    )
    name = st.text_input(
        "Name on the Hub",
        help="As in ag_news or owner/name. Its texts and labels are downloaded; no code of it is run.",
        key=_widgets.key_of("hub"),
    )
    _widgets.draft("data", "name", f"hf:{name.strip()}")


def data_settings() -> None:
    """How the texts are read and cut, for those who want to decide it."""
    name = _widgets.drafted_parts().data.name
    if name == "csv" or name.startswith("hf:"):
        _widgets.text("data", "text_column", placeholder="found by its name")
        _widgets.text("data", "label_column", placeholder="found by its name")
        _name_labels()
        _widgets.number("data", "max_rows", step=10_000)
    if name == "csv":
        _widgets.text("data", "split_column", placeholder="split at random")
    if name != "rotten_tomatoes":
        _widgets.number("data", "split_seed", step=1)
    _widgets.number("data", "train_limit", step=500)
    _widgets.number("data", "unlabelled_limit", step=500)
    _widgets.number("data", "max_tokens", step=32)
    _widgets.number("data", "max_vocabulary", step=1000)
    _widgets.number("data", "min_frequency", step=1)


def _name_labels() -> None:
    """Label names as `0 = negative, 1 = positive`."""
    named = _widgets.drafted_parts().data.label_names
    st.session_state.setdefault(
        _widgets.key_of("labels"), ", ".join(f"{value} = {name}" for value, name in named.items())
    )
    typed = st.text_input(
        "Names of the labels",
        placeholder="0 = negative, 1 = positive",
        help="What to call each value of the label column. Others keep their value.",
        key=_widgets.key_of("labels"),
    )
    pairs = [part.partition("=") for part in typed.split(",") if part.strip()]
    if all(equals and name.strip() for _, equals, name in pairs):
        _widgets.draft("data", "label_names", {value.strip(): name.strip() for value, _, name in pairs})
    else:
        st.error(f"Names of the labels must read 0 = negative, 1 = positive, got {typed!r}; put a = in each")
