"""The pages of the lab, and the way to them through `app.py`."""

from __future__ import annotations

import streamlit as st
from streamlit.navigation.page import StreamlitPage

ICONS = {
    "Train": "school",
    "Data": "database",
    "Compare": "compare_arrows",
    "Runs": "list",
    "Sweep": "grid_view",
    "Storage": "hard_drive",
}


def pages() -> list[StreamlitPage]:
    """All pages in the order of the bar; the first is the one that opens."""
    return [
        st.Page(f"pages/{name.lower()}.py", title=name, icon=f":material/{icon}:", default=name == "Train")
        for name, icon in ICONS.items()
    ]


def enter_by_router(page: str) -> None:
    """Sends a page, named by its file, through `app.py` where Streamlit has run it by itself.

    Until `st.navigation` has been called once in a server, Streamlit takes a folder `pages/` for its older kind of
    many-page app, and a first request to any address but the root runs that page's file alone.
    """
    if "page" not in st.session_state:
        st.session_state["entered"] = page
        st.navigation(pages(), position="hidden")
        st.rerun()
