"""Script runs that begin anew, and work that gives way to the next one."""

from __future__ import annotations

import streamlit as st
from streamlit.errors import StreamlitAPIException
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.scriptrunner_utils.script_requests import ScriptRequestType

from distill_core.errors import Cancelled


def again() -> None:
    """Draws the fragment anew; a click may have come with a run of the whole page, which then is drawn."""
    try:
        st.rerun(scope="fragment")
    except StreamlitAPIException:
        st.rerun()


def give_way() -> None:
    """Ends work for a key or click that waits for it; Streamlit itself lets a fragment run to its end.

    Raises:
        Cancelled: there is one.
    """
    requests = getattr(get_script_run_ctx(), "script_requests", None)
    if getattr(requests, "_state", ScriptRequestType.CONTINUE) != ScriptRequestType.CONTINUE:
        raise Cancelled
