"""The charts of a sweep, one at a time; a click on a cell chooses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from distill_core.sweep.cells import measured
from distill_core.sweep.importance import importances
from distill_core.sweep.space import SweepConfig
from pages import (
    _session,
    _sweep_axes,
    _sweep_curves,
    _sweep_figures,
    _sweep_means,
    _sweep_reading,
    _sweep_trade_offs,
)
from pages._figures import BASELINE, TEACHER, Chart
from pages._live_chart import MAX_MARKERS, live_chart
from pages._sweep_axes import Scale
from pages._sweep_choice import choose_cells
from pages._sweep_reading import View

KINDS = {"map": "Heat map", "lines": "Lines", "trades": "Trade-offs", "all": "All axes", "matters": "What matters"}


def charts(seen: View) -> None:
    """A choice of charts, and the one that was chosen."""
    kinds = [kind for kind in KINDS if kind != "map" or len(seen.config.axes) > 1]
    kind = st.segmented_control(
        "Chart",
        kinds,
        default=suited(seen.config),
        required=True,
        format_func=KINDS.__getitem__,
        label_visibility="collapsed",
        key=f"sweep.chart.{seen.sweep_id}",
    )
    _DRAW[kind](seen)


def suited(config: SweepConfig) -> str:
    """The chart that shows most of a sweep: a heat map over two axes of numbers, lines for a single one."""
    numeric = [axis for axis in config.axes if Scale.of(config, axis.field).numeric]
    return "map" if len(numeric) > 1 else "lines"


def _draw(seen: View, name: str, label: str, make: Callable[[], Chart], *, clicks: bool = True) -> None:
    """A chart, made once for all sessions until there is more to draw; chooses the cell that is clicked."""
    chart = _sweep_reading.made(_session.store(), seen, name, make)
    clicked = live_chart(chart, key=f"sweep.{name}.{seen.sweep_id}", label=label, clicks=clicks)
    known = {cell.number for cell in seen.cells}
    if type(clicked) is int and clicked in known:
        choose_cells(seen.sweep_id, [clicked])


def _choose_axes(seen: View, first: str, second: str, names: Sequence[str], kind: str) -> tuple[str, str]:
    """Which two axes a chart shows, where there are more."""
    if len(names) <= 2:
        return names[0], names[-1]
    left, right = st.columns(2)
    chosen = []
    for place, (column, words) in enumerate(((left, first), (right, second))):
        with column:
            rest = [name for name in names if name not in chosen]
            key = f"sweep.{kind}.{place}.{seen.sweep_id}"
            if st.session_state.get(key) not in rest:
                st.session_state[key] = rest[0]
            chosen.append(st.selectbox(words, rest, format_func=lambda name: _sweep_axes.title([name]), key=key))
    return chosen[0], chosen[1]


def _references(seen: View) -> None:
    """Teacher and baseline beside a chart that cannot draw them; what depends on the axes has its range."""
    done = measured(seen.cells)
    items = []
    for name, colour, of in (
        ("teacher", TEACHER, _sweep_means.teachers),
        ("student alone", BASELINE, _sweep_means.baselines),
    ):
        values = [sum(own) / len(own) for _, found in done if (own := of(found))]
        if values:
            low, high = _sweep_means.per_cent(min(values)), _sweep_means.per_cent(max(values))
            said = low if low == high else f"{low} to {high}"
            items.append(f'<span class="lab-role" style="font-weight:400"><i style="background:{colour}"></i>'
                         f"{name} {said}</span>")  # fmt: skip
    if items:
        st.html(f'<div style="display:flex;gap:1.4rem;flex-wrap:wrap">{"".join(items)}</div>')


def _heat_map(seen: View) -> None:
    names = [axis.field for axis in seen.config.axes]
    ordered = sorted(names, key=lambda name: not Scale.of(seen.config, name).numeric)
    across, down = _choose_axes(seen, "Across", "Up", ordered, "map")
    _references(seen)
    _draw(
        seen,
        f"map.{across}.{down}",
        f"Test accuracy by {_sweep_axes.title([across, down])}",
        lambda: _sweep_figures.heat_map(seen.config, seen.cells, across, down),
    )
    averaged = [name for name in names if name not in (across, down)]
    squares = all(Scale.of(seen.config, name).values for name in (across, down))
    st.caption(
        " ".join(
            [
                f"Accuracy on the test texts in per cent, the mean of {_seeds(seen.config)}.",
                f"Averaged over {_sweep_axes.title(averaged)}." if averaged and squares else "",
                "Framed: best on the validation texts." if squares else "",
                "Click a cell to see it.",
            ]
        )
    )


def _seeds(config: SweepConfig) -> str:
    return f"{config.seeds} seeds" if config.seeds > 1 else "one seed"


def _lines(seen: View) -> None:
    names = [axis.field for axis in seen.config.axes]
    ordered = sorted(names, key=lambda name: not Scale.of(seen.config, name).numeric)
    along, by = _choose_axes(seen, "Along", "A line for each", ordered, "lines") if len(names) > 1 else (names[0], None)
    if by is not None and not Scale.of(seen.config, by).values:
        by = None
    _draw(
        seen,
        f"lines.{along}.{by}",
        f"Test accuracy by {_sweep_axes.title([name for name in (along, by) if name])}",
        lambda: _sweep_curves.lines(seen.config, seen.cells, along, by),
    )
    averaged = [name for name in names if name not in (along, by)]
    bars = f"Bars: one standard deviation over {_seeds(seen.config)}." if seen.config.seeds > 1 else ""
    st.caption(" ".join([bars, f"Averaged over {_sweep_axes.title(averaged)}." if averaged else ""]).strip())


def _trade_offs(seen: View) -> None:
    sets = _sweep_trade_offs.data_sets(seen.cells)
    data = sets[0] if sets else ""
    if len(sets) > 1:
        known = _sweep_axes.setting("data.name")
        data = st.selectbox("Data set", sets, format_func=known.said, key=f"sweep.data.{seen.sweep_id}")
    costs: Mapping[_sweep_trade_offs.Cost, str] = {"parameters": "Accuracy and size", "latency": "Accuracy and speed"}
    for column, (cost, words) in zip(st.columns(2), costs.items(), strict=True):
        with column:
            st.markdown(f"**{words}**")
            _draw(seen, f"{cost}.{data}", words, lambda cost=cost: _sweep_trade_offs.trade_off(seen.cells, cost, data))
    more = len(measured(seen.cells)) > MAX_MARKERS
    st.caption(
        "Cells on the line are beaten by none that costs less. It goes by the test texts, so the luckiest look best "
        "there; the answer above goes by validation."
        + (f" {MAX_MARKERS:,} cells are drawn, evenly taken; the table has all." if more else "")
    )


def _parallel(seen: View) -> None:
    if not measured(seen.cells):
        st.caption("Lines appear with the first finished cells.")
        return
    _draw(
        seen,
        "all",
        "All cells through all axes",
        lambda: _sweep_curves.parallel(seen.config, seen.cells),
        clicks=False,
    )
    st.caption("A line is a cell. Drag along an axis to keep only the cells that pass there; click it to let go.")


def _matters(seen: View) -> None:
    try:
        shares = _sweep_reading.made(_session.store(), seen, "importance", lambda: importances(seen.config, seen.cells))
    except ImportError:
        st.info("What matters is worked out by Optuna, which is not installed; pip install -r requirements.txt")
        return
    if not shares:
        st.caption("This takes at least four finished cells, whose accuracies differ.")
        return
    _draw(seen, "matters", "What matters", lambda: _sweep_curves.importance(shares), clicks=False)
    st.caption(
        "How much of the differences in validation accuracy between cells each setting explains by itself or with "
        "others. It says what matters within these values and on these texts, not in general; "
        "where cells cannot be told apart, neither can their settings."
    )


_DRAW: Mapping[str, Callable[[View], Any]] = {
    "map": _heat_map,
    "lines": _lines,
    "trades": _trade_offs,
    "all": _parallel,
    "matters": _matters,
}
