"""Script runs that begin anew, and work that gives way to the next one."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import streamlit as st
from streamlit.errors import StreamlitAPIException
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.scriptrunner_utils.script_requests import ScriptRequestType
from streamlit.runtime.scriptrunner_utils.script_run_context import ThreadState

from distill_core.errors import Cancelled

P = ParamSpec("P")


def polling(body: Callable[P, None], seconds: Callable[[], float], key: str) -> Callable[P, None]:
    """A fragment that is drawn again by itself, in ever so many seconds as are asked for at that moment.

    Streamlit names the interval when the whole page is drawn, and a browser drops its own as that begins. A poll that
    is on its way meanwhile can make the session ignore the end of the drawing, the interval with it, and the page
    stands still for good (`AppSession.request_rerun` of Streamlit 1.67: a new script runner takes over). Such a poll
    comes here, and each names the interval again; a browser ignores one that it already has.
    """

    @wraps(body)
    def polled(*args: P.args, **kwargs: P.kwargs) -> None:
        context, fragment = get_script_run_ctx(), ThreadState.get().fragment_id
        if context is not None and fragment is not None:
            message = ForwardMsg()
            message.auto_rerun.fragment_id, message.auto_rerun.interval = fragment, seconds()
            context.enqueue(message)
        body(*args, **kwargs)

    return st.fragment(polled, run_every=seconds(), key=key)


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
