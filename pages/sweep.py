"""Sweep: the same training with a few settings changed, and what the differences say."""

from __future__ import annotations

import streamlit as st

from distill_core.errors import DistillError
from distill_core.sweep.space import SweepConfig
from pages import _looks, _router, _session, _sweep_controls, _sweep_reading, _sweep_view
from pages._phone import close_sidebar
from pages._sweep_choice import choose_sweep, shown_sweep


def welcome(drafted: SweepConfig | None) -> None:
    """What a sweep is, before there is any."""
    st.markdown(
        "One run says how well one student does. A **sweep** trains it again and again with a few settings changed, "
        "each several times, and shows which of them matter, by how much, and what may be chance."
    )
    st.markdown(
        "Choose a ready question in the sidebar, or settings of your own. All cells share one teacher where they can, "
        "results appear while the sweep works, and every cell is a run that you can open."
    )
    with st.container(horizontal_alignment="center"):
        st.space("small")
        first = st.button(
            "Start the first sweep",
            type="primary",
            icon=":material/play_arrow:",
            key="sweep.first",
            disabled=drafted is None,
        )
        if drafted is not None:
            st.caption(f"{_sweep_controls.in_words(drafted)}, as chosen in the sidebar", width="content")
            if first:
                _sweep_controls.begin(drafted)


def show(names: dict[str, str], shown: str, drafted: SweepConfig | None) -> None:
    """The sweeps to choose from, and the one that is shown."""
    if len(names) > 1:
        key = f"sweep.shown.{shown}"  # another for each, which starts out right: nothing has to be told to the browser
        st.selectbox(
            "Sweep",
            list(names),
            index=list(names).index(shown),
            format_func=lambda sweep_id: names.get(sweep_id, sweep_id),
            label_visibility="collapsed",
            key=key,
            on_change=lambda: choose_sweep(st.session_state[key]),
        )
    choose_sweep(shown)
    if st.session_state.get("sweep.started") == shown:
        close_sidebar(shown)
    try:
        _sweep_view.show(shown, drafted)
    except DistillError as error:  # its files cannot be read; another can be started
        _looks.show_error(error)


_router.enter_by_router("pages/sweep.py")
with st.sidebar:
    drafted = _sweep_controls.drafted_sweep()
names = _sweep_reading.names(_session.store())
shown = shown_sweep(list(names))
_looks.title(
    "Sweep" if shown is None else names[shown].partition(" · ")[0], "" if shown is None else f"sweep {shown[-6:]}"
)
if shown is None:
    welcome(drafted)
else:
    show(names, shown, drafted)
