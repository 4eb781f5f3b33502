"""The cells of a sweep as a table, and the chosen ones: what they are, their runs, and their settings."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from distill_core.errors import DistillError
from distill_core.status import short
from distill_core.sweep.cells import Cell, tidy
from distill_core.sweep.space import cell_config
from pages import _draft, _exports, _looks, _run_actions, _session, _sweep_axes, _sweep_means, _sweep_reading
from pages._sweep_choice import SHOWN, choose_cells, chosen_cells
from pages._sweep_reading import View

TABLE = "sweep.table"
MOST = 8
"""Runs that can be compared at once."""
COLUMNS = {
    name: st.column_config.NumberColumn(format=form, help=words)
    for name, (form, words) in {
        "Student %": ("%.1f", "Accuracy on test, the mean over seeds"),
        "±": ("%.1f", "Standard deviation of the student's accuracy over the seeds, in points"),
        "Alone %": ("%.1f", "The same student without its teacher"),
        "Gain": ("%+.1f", "What the teacher adds, in points"),
        "Gain ±": ("%.1f", "Half the 95 % interval of the gain; a smaller gain may be chance"),
        "Validation %": ("%.1f", "Accuracy on validation, by which the best cell is chosen"),
        "Teacher %": ("%.1f", "Accuracy on test"),
        "Parameters": ("localized", "Of the student"),
        "ms": ("%.2f", "Milliseconds a text"),
    }.items()
} | {"Cell": st.column_config.NumberColumn(format="%d", pinned=True, width=60)}


def plain_label(cell: Cell) -> str:
    """A cell in words, in which Markdown finds nothing to do."""
    return _run_actions.plain(_sweep_axes.label(cell.values))


# The table


def heed_table(seen: View) -> None:
    """Takes over what was ticked in the table, before anything is drawn."""
    shown, state = st.session_state.get(SHOWN), st.session_state.get(TABLE)
    if state is None or shown is None or shown[0] != seen.sweep_id:
        return
    ticked = [shown[1][place] for place in state["selection"]["rows"] if place < len(shown[1])]
    before = chosen_cells(seen.sweep_id)
    kept = [number for number in before if number in ticked or number not in shown[1]]
    choose_cells(seen.sweep_id, kept + [number for number in ticked if number not in kept])


def table(seen: View) -> None:
    """All cells that have begun, a line each, and the same as files."""
    numbers, chosen = [cell.number for cell in seen.cells], chosen_cells(seen.sweep_id)
    places = [place for place, number in enumerate(numbers) if number in set(chosen)]
    state = st.session_state.get(TABLE)
    if st.session_state.get(SHOWN) != (seen.sweep_id, numbers) or state is None or state["selection"]["rows"] != places:
        st.session_state[TABLE] = {"selection": {"rows": places, "columns": [], "cells": []}}
    st.session_state[SHOWN] = seen.sweep_id, numbers
    st.dataframe(
        _sweep_reading.made(_session.store(), seen, "table", lambda: frame(seen)),
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        column_config=COLUMNS,
        placeholder="",
        height="auto" if len(numbers) <= 8 else 330,
        key=TABLE,
        alt="Cells of the sweep with what they have measured",
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{len(numbers):,} cells, a line each" if len(numbers) != 1 else "1 cell", width="content")
        for words, kind, pack in (("CSV", "text/csv", as_csv), ("Parquet", "application/octet-stream", as_parquet)):
            st.download_button(
                words,
                partial(pack, seen.cells),
                file_name=f"sweep-{short(seen.sweep_id)}.{words.lower()}",
                mime=kind,
                on_click="ignore",
                icon=":material/download:",
                type="tertiary",
                help="All that every cell has measured, a line each; accuracies are shares.",
                key=f"sweep.{words}",
                disabled=not numbers,
            )


def frame(seen: View) -> pd.DataFrame:
    """The cells for reading: settings in words, accuracies in per cent."""
    settings = [axis.field for axis in seen.config.axes]
    return pd.DataFrame([_row(cell, settings) for cell in seen.cells], columns=list(_row(Cell(0, {}), settings)))


def _row(cell: Cell, settings: Sequence[str]) -> dict[str, Any]:
    found = cell.measured

    def per_cent(share: float | None) -> float | None:
        return None if share is None else 100 * share

    return {
        "Cell": cell.number,
        **{_sweep_axes.title([name]): _value(name, cell) for name in settings},
        "Student %": None if found is None else per_cent(found.accuracy),
        "±": None if found is None else per_cent(found.deviation),
        "State": _sweep_means.STATE_WORDS[cell.state].capitalize(),
        "Alone %": None if found is None else per_cent(found.alone),
        "Gain": None if found is None else per_cent(found.gain),
        "Gain ±": None if found is None else per_cent(found.gain_margin),
        "Validation %": None if found is None else per_cent(found.val_accuracy),
        "Teacher %": None if found is None else per_cent(found.teacher_accuracy),
        "Parameters": None if found is None else found.parameters,
        "ms": None if found is None else found.latency_ms,
        "Run": cell.run_id and short(cell.run_id),
        "Error": cell.error,
    }


def _value(name: str, cell: Cell) -> Any:
    """A setting for the table: numbers stay numbers, so that they can be sorted."""
    value, known = cell.values.get(name), _sweep_axes.setting(name)
    return value if value is None or (known.numeric and not known.per_cent) else known.said(value)


def as_csv(cells: Sequence[Cell]) -> bytes:
    """All that cells have measured as a csv file."""
    rows = tidy(cells)
    return _exports.as_csv({name: [row.get(name) for row in rows] for name in rows[0]})


def as_parquet(cells: Sequence[Cell]) -> bytes:
    """The same as a Parquet file."""
    buffer = io.BytesIO()
    pd.DataFrame(tidy(cells)).to_parquet(buffer, index=False)
    return buffer.getvalue()


# What is chosen


def panel(seen: View) -> None:
    """The chosen cell with its run and its settings; of several, the way to compare them."""
    by_number = {cell.number: cell for cell in seen.cells}
    cells = [by_number[number] for number in chosen_cells(seen.sweep_id) if number in by_number]
    with st.container(border=True, key="sweep-panel"):
        if not cells:
            st.caption("Click a cell in the chart, or tick it in the table, to open its run or take its settings.")
        elif len(cells) == 1:
            _one(seen, cells[0])
        else:
            _several(cells)


def _one(seen: View, cell: Cell) -> None:
    left, right = st.columns([5, 4], vertical_alignment="center")
    with left:
        st.markdown(f"**{plain_label(cell)}**")
        st.caption(_told(cell))
    with right, st.container(horizontal=True, horizontal_alignment="right"):
        if st.button("Open its run", type="primary", key="sweep.open", disabled=cell.run_id is None):
            assert cell.run_id is not None
            _open([cell.run_id])
        if st.button("Use its settings", key="sweep.use", help="Puts this cell's settings into Train."):
            _draft.draft_from(cell_config(seen.config, cell.values))
            st.switch_page("pages/train.py")


def _told(cell: Cell) -> str:
    found = cell.measured
    own = None if found is None else _sweep_means.mean([(cell, found)])
    if found is None or own is None:
        return cell.error or _sweep_means.STATE_WORDS[cell.state].capitalize()
    parts = [f"{_sweep_means.spread(own)} of the test texts right"]
    if found.gain is not None:
        margin = "" if found.gain_margin is None else f" ± {100 * found.gain_margin:.1f}"
        parts.append(f"{100 * found.gain:+.1f}{margin} points by its teacher, which gets "
                     f"{_sweep_means.per_cent(found.teacher_accuracy)}")  # fmt: skip
    parts.append(f"{found.parameters:,} parameters, {found.latency_ms:.2f} ms a text")
    return " · ".join(parts)


def _several(cells: Sequence[Cell]) -> None:
    run_ids = list(dict.fromkeys(cell.run_id for cell in cells if cell.run_id is not None))
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"**{len(cells)} cells** chosen" + (f", {len(run_ids)} runs" if len(run_ids) < len(cells) else ""))
        words = f"Up to {MOST} runs can be compared." if len(run_ids) > MOST else None
        wrong = not 1 < len(run_ids) <= MOST
        if st.button("Compare their runs", type="primary", key="sweep.compare", disabled=wrong, help=words):
            _open(run_ids)


def _open(run_ids: Sequence[str]) -> None:
    """Goes to the page Runs with these chosen, if they are still there."""
    try:
        for run_id in run_ids:
            _session.store().status(run_id)
    except DistillError as error:
        _looks.show_error(error)
        return
    _session.choose_run(run_ids[0])
    _run_actions.choose(run_ids)
    st.switch_page("pages/runs.py")
