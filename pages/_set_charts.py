"""A whole set in numbers and charts; what is chosen in a chart becomes a list."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from distill_core.analysis import agreement
from distill_core.analysis.agreement import SetAnswers
from distill_core.analysis.asking import Asking, Key
from pages import _figures, _looks, _set_figures
from pages._set_lists import ROLES, SHOWN, choose, one_line


def numbers(answers: SetAnswers) -> None:
    """How close the models are, and how often each is right."""
    found = agreement.summary(answers)
    other = ROLES[str(answers.reference)].lower()
    with st.container(horizontal=True):
        st.metric(
            "Agreement",
            f"{100 * found.agreement:.1f} %",
            help=f"Share of texts to which {other} and student give the same answer.",
            width="content",
        )
        st.metric(
            f"KL(student‖{other})",
            f"{found.kl:.3f} nats",
            help=f"Divergence of the student's answers from the {other}'s, a text on average; 0 when they are equal. "
            f"The other way round it is {found.kl_reverse:.3f} nats.",
            width="content",
        )
        for role, right in found.accuracy.items():
            st.metric(
                f"{ROLES[role]} right",
                f"{100 * right:.1f} %",
                help=f"Share of the {found.labelled:,} texts with a label that it gets right. Computed in float32, so "
                "it may differ a little from the run's result.",
                width="content",
            )


# Charts in which texts are chosen


def matrix(job: Asking, answers: SetAnswers) -> None:
    """Texts by the answers of both, to click."""
    counts, labels = agreement.agreement_matrix(answers), answers.label_names
    other = ROLES[str(answers.reference)]
    st.markdown(f"**{other} against student**", help="Texts by the answers of both. Click a square to list its texts.")
    if len(labels) > _set_figures.MOST_CLASSES:
        _large_cells(job, answers, counts)
        return
    figure = _set_figures.matrix_figure(counts, labels, str(answers.reference), _looks.ink())
    key = _chart_key("matrix", job)
    st.plotly_chart(
        figure,
        key=key,
        on_select=partial(_choose_cell, key, job.key),
        selection_mode="points",
        config={"displayModeBar": False},
        alt=f"Matrix of the answers of {other.lower()} and student",
    )


def _choose_cell(key: str, job: Key) -> None:
    points = st.session_state[key]["selection"]["points"]
    choose(job, {"cell": [int(place) for place in points[0]["customdata"]]} if points else None)


def _large_cells(job: Asking, answers: SetAnswers, counts: Sequence[Sequence[int]]) -> None:
    """The cells that hold most disagreements, where there are too many classes to draw."""
    names, other = answers.label_names, ROLES[str(answers.reference)]
    cells = sorted(
        ((count, row, column) for row, line in enumerate(counts) for column, count in enumerate(line) if row != column),
        reverse=True,
    )
    shown = [(count, row, column) for count, row, column in cells if count][:SHOWN]
    lines = [(one_line(names[row]), one_line(names[column]), count) for count, row, column in shown]
    key = _chart_key("cells", job)
    st.dataframe(
        pd.DataFrame(lines, columns=[other, "Student", "Texts"]),
        hide_index=True,
        on_select=partial(_choose_large_cell, key, job.key, [(row, column) for _, row, column in shown]),
        selection_mode="single-cell",
        height=_set_figures.HEIGHT,
        key=key,
        alt=f"Pairs of answers on which {other.lower()} and student disagree",
    )
    st.caption(f"{len(names)} classes are too many to draw: these are the pairs on which they disagree most often.")


def _choose_large_cell(key: str, job: Key, cells: Sequence[tuple[int, int]]) -> None:
    clicked = st.session_state[key]["selection"]["cells"]
    choose(job, {"cell": list(cells[clicked[0][0]])} if clicked else None)


def scatter(job: Asking, answers: SetAnswers) -> None:
    """How probable both find a class, text by text, to draw around."""
    names, other = answers.label_names, ROLES[str(answers.reference)]
    heading, choice = st.columns([3, 2], vertical_alignment="center")
    with choice:
        label = st.selectbox(
            "Class",
            range(len(names)),
            index=len(names) - 1,
            format_func=lambda number: one_line(names[number]),
            label_visibility="collapsed",
            help="The class whose probability is drawn.",
            key=f"compare.set.class.{job.key.run_id}",
            persist_state="session",
        )
    with heading:
        st.markdown(
            "**How sure both are**",
            help="A point is a text. Drag a box or a loop around points to list their texts; double-click to let go.",
        )
    points = agreement.points(answers, label)
    key = f"{_chart_key('scatter', job)}.{label}"
    st.plotly_chart(
        _set_figures.scatter_figure(points, names[label], str(answers.reference)),
        key=key,
        on_select=partial(_choose_points, key, job.key),
        selection_mode=("box", "lasso", "points"),
        config=_figures.CHART_CONFIG,
        alt=f"Probability of a class under {other.lower()} and student",
    )
    if len(points.rows) < points.total:
        st.caption(f"{len(points.rows):,} of {points.total:,} texts are drawn, evenly taken.")


def _choose_points(key: str, job: Key) -> None:
    rows = sorted({_first(point["customdata"]) for point in st.session_state[key]["selection"]["points"]})
    choose(job, {"rows": rows} if rows else None)


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, (list, tuple)) else value)


def _chart_key(name: str, job: Asking) -> str:
    return f"compare.set.{name}.{job.key.run_id}.{job.key.kind}.{job.key.digest[:12]}"


# Charts that need labels


def with_labels(answers: SetAnswers) -> None:
    """What can be said where texts have labels."""
    if not answers.labelled:
        st.caption(
            "None of these texts has a label, so nobody can say who is right: reliability and accuracy by length "
            "are shown for texts with labels, such as the test texts or a file with a column label."
        )
        return
    left, right = st.columns(2)
    with left:
        _reliability(answers)
    with right:
        _accuracy_by(answers)


def _reliability(answers: SetAnswers) -> None:
    st.markdown(
        "**Reliability**",
        help="How often a model is right when it is so sure. Below the dotted line it is too sure of itself. "
        "Larger marks stand for more texts.",
    )
    st.space("medium")
    bins = {role: agreement.reliability(answers, role) for role in answers.roles}
    st.plotly_chart(
        _set_figures.reliability_figure(bins),
        key="compare.set.reliability",
        config=_figures.CHART_CONFIG,
        alt="Accuracy by confidence",
    )
    errors = (
        f"{ROLES[role].lower()} {100 * agreement.calibration_error(own):.1f}\u00a0%" for role, own in bins.items()
    )
    st.caption(f"Calibration error, the mean distance to the dotted line: {', '.join(errors)}.")


def _accuracy_by(answers: SetAnswers) -> None:
    st.markdown(
        "**Accuracy by kind of text**",
        help="Labelled texts in groups of about the same size, n texts each; the bars are 95 % intervals.",
    )
    what = st.segmented_control(
        "By",
        ["Length", "Unknown words"],
        default="Length",
        required=True,
        help="Length counts words and signs. Unknown words are those that no training text taught the models.",
        label_visibility="collapsed",
        key="compare.set.by",
        persist_state="session",
    )
    by_length = what == "Length"
    values_N = answers.lengths_N if by_length else answers.unknown_N
    groups = {role: agreement.accuracy_by(answers, role, values_N) for role in answers.roles}
    title = "words and signs" if by_length else "share of unknown words"
    st.plotly_chart(
        _set_figures.accuracy_figure(groups, title, shares=not by_length),
        key="compare.set.accuracy",
        config=_figures.CHART_CONFIG,
        alt=f"Accuracy by {title}",
    )
