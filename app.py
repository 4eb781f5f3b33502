"""The router: page list, look, and the run and sweep that the address bar names."""

from pathlib import Path

import streamlit as st

from distill_core import files
from distill_core.errors import DistillError, LimitError
from pages import _identity, _looks, _router, _session, _sweep_choice

st.set_page_config(
    page_title="Distill Lab", page_icon=str(Path(__file__).parent / "assets" / "icon.png"), layout="wide"
)
_session.warm_up()
_identity.keep_token()
_session.keep_run_in_address()
_sweep_choice.keep_sweep_in_address()
_looks.style()
page = st.navigation(_router.pages(), position="top")
st.session_state["page"] = page.url_path or "train"
if "entered" in st.session_state:
    st.switch_page(st.session_state.pop("entered"))
try:
    page.run()
    _identity.sign_in_button()
except DistillError as error:
    _looks.show_error(error)
except OSError as error:
    if not files.says_full(error):
        raise
    _looks.show_error(LimitError("the disk must have room, got none; delete something on the page Storage"))
