"""The part Whole sets by itself, with a place for the text that a click on a line opens."""

from __future__ import annotations

import streamlit as st

from pages import _looks, _session, _whole_set

VIEWS = ("One text", "Whole sets")


def open_text(text: str) -> None:
    """Turns to the other view, with a text in it."""
    st.session_state["text"] = st.session_state["kept"] = text
    st.session_state["view"] = VIEWS[0]


st.set_page_config(layout="wide")
_looks.style()
_session.warm_up()
st.session_state.setdefault("view", VIEWS[1])
view = st.segmented_control("View", VIEWS, required=True, key="view")
if view == VIEWS[0]:
    st.session_state.setdefault("text", st.session_state.get("kept", ""))
    st.text_area("Text", key="text")
else:
    _whole_set.show(st.query_params.get("run") or _session.store().run_ids()[-1], open_text)
