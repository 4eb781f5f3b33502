"""Which sweep the page shows, kept in the address, and which of its cells are chosen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import streamlit as st

from distill_core.errors import DistillError
from pages import _identity, _looks, _session, _sweep_reading

SHOWN = "sweep.table.shown"
"""The sweep and the numbers of the table's lines as last drawn: clicks count for the lines that the person saw."""


def keep_sweep_in_address() -> None:
    """Page switches wipe the address; this puts the sweep back, or takes it over from a fresh address."""
    if "sweep" in st.session_state:
        st.query_params["sweep"] = st.session_state["sweep"]
    elif "sweep" in st.query_params:
        try:
            st.session_state["sweep"] = _sweep_reading.sweeps(_session.store()).find(st.query_params["sweep"])
        except DistillError as error:
            del st.query_params["sweep"]
            st.warning(f"The address names a sweep that cannot be opened: {_looks.named(error)}")


def choose_sweep(sweep_id: str) -> None:
    """Makes a sweep the one that is shown."""
    st.session_state["sweep"] = sweep_id
    st.query_params["sweep"] = sweep_id


def forget_sweep() -> None:
    """Shows another sweep from now on."""
    st.session_state.pop("sweep", None)
    st.query_params.pop("sweep", None)


def shown_sweep(known: Sequence[str]) -> str | None:
    """The sweep that was chosen, else this person's latest, else anybody's latest.

    Args:
        known: all sweeps, latest first.
    """
    chosen = st.session_state.get("sweep")
    if chosen in known:
        return str(chosen)
    return next((sweep_id for sweep_id in known if _owner(sweep_id) == _identity.owner()), next(iter(known), None))


def _owner(sweep_id: str) -> str | None:
    try:
        return _sweep_reading.sweeps(_session.store()).status(sweep_id).owner
    except DistillError:
        return None


def chosen_cells(sweep_id: str) -> list[int]:
    """The numbers of the cells that are chosen, in the order in which that was done."""
    kept: dict[str, list[int]] = st.session_state.setdefault("sweep.chosen", {})
    return kept.setdefault(sweep_id, [])


def choose_cells(sweep_id: str, numbers: Iterable[int]) -> None:
    """Chooses cells in place of those that were; the table takes it over when it is next drawn."""
    st.session_state.pop(SHOWN, None)
    st.session_state.setdefault("sweep.chosen", {})[sweep_id] = list(numbers)
