"""Agreement on many texts as Plotly figures. No Streamlit here."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from distill_core.analysis.agreement import Bin, Group, Points
from pages._figures import BASELINE, COLOURS, MARKERS, STUDENT

AGREEMENT = "#56B4E9"
ROLES = {"teacher": "teacher", "baseline": "student alone", "student": "student"}
DASHES = {"teacher": "solid", "baseline": "dash", "student": "solid"}
WIDTHS = {"teacher": 2.0, "baseline": 2.0, "student": 3.5}
HEIGHT = 360
SIDE = 250
"""Pixels of the side of a matrix that fits a phone."""
MOST_NUMBERS = 12
"""Classes up to which the squares of a matrix have their numbers in them."""
MOST_CLASSES = 20
"""Classes that a matrix is drawn for; of more a table lists the largest cells."""


def short_label(label: str, most: int = 18) -> str:
    """A label that fits an axis, in which Plotly finds no markup."""
    return html.escape(label if len(label) <= most else f"{label[: most - 1]}…", quote=False)


def matrix_figure(counts: Sequence[Sequence[int]], labels: Sequence[str], reference: str, ink: str) -> go.Figure:
    """Texts by answer of both models, as squares to click: stronger for more of a row, its colour tells agreement.

    `customdata` of each square has its row and its column. Counts are in `ink`, the colour of text.
    """
    cells = [(row, column) for row in range(len(labels)) for column in range(len(labels))]
    size = max(14.0, min(110.0, SIDE / len(labels)))
    figure = go.Figure(
        go.Scatter(
            x=[column for _, column in cells],
            y=[row for row, _ in cells],
            customdata=[list(cell) for cell in cells],
            mode="markers+text" if len(labels) <= MOST_NUMBERS else "markers",
            text=[f"{counts[row][column]:,}" for row, column in cells],
            textfont={"size": max(9, min(17, size / 3)), "color": ink},
            marker={
                "symbol": "square",
                "size": size,
                "color": [_shade(counts[row], row, column) for row, column in cells],
                "line": {"width": 1, "color": "rgba(127,127,127,0.5)"},
            },
            hovertext=[
                f"{ROLES[reference]}: {short_label(labels[row], 40)}<br>student: {short_label(labels[column], 40)}<br>"
                f"{_share_words(counts[row], column)}"
                for row, column in cells
            ],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    )
    # Places on the axes are numbers, since two long names may look alike once they are cut.
    axis = {
        "tickvals": list(range(len(labels))),
        "ticktext": [short_label(label) for label in labels],
        "fixedrange": True,
        "automargin": True,
        "showgrid": False,
        "zeroline": False,
    }
    ends = [-0.5, len(labels) - 0.5]
    height = HEIGHT if len(labels) <= 6 else min(HEIGHT + 26 * (len(labels) - 6), 640)
    figure.update_layout(height=height, margin={"l": 10, "r": 10, "t": 10, "b": 10}, showlegend=False)
    figure.update_xaxes(title={"text": "student answers"}, range=ends, constrain="domain", **axis)
    # Cells are as wide as they are high, so that the squares lie side by side.
    figure.update_yaxes(
        title={"text": f"{ROLES[reference]} answers"}, range=ends[::-1], scaleanchor="x", constrain="domain", **axis
    )
    return figure


def _shade(counts: Sequence[int], row: int, column: int) -> str:
    red, green, blue = (86, 180, 233) if row == column else (213, 94, 0)
    share = counts[column] / max(sum(counts), 1)
    return f"rgba({red},{green},{blue},{0.06 + 0.84 * share if counts[column] else 0.02:.3f})"


def _share_words(counts: Sequence[int], column: int) -> str:
    return f"{counts[column]:,} texts, {100 * counts[column] / max(sum(counts), 1):.1f} % of the row"


def scatter_figure(points: Points, label: str, reference: str) -> go.Figure:
    """How probable both models find a class, a point a text whose row is its `customdata`."""
    figure = go.Figure()
    for agree, name, colour, symbol in (
        (True, "agree", AGREEMENT, "circle"),
        (False, "disagree", STUDENT, "x"),
    ):
        places = [place for place, same in enumerate(points.agree) if same == agree]
        figure.add_scattergl(
            x=[points.reference[place] for place in places],
            y=[points.student[place] for place in places],
            customdata=[points.rows[place] for place in places],
            name=f"{name} ({len(places):,})",
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 7, "opacity": 0.75},
            hovertemplate=f"{ROLES[reference]} %{{x:.1%}}, student %{{y:.1%}}<extra></extra>",
        )
    _diagonal(figure)
    named = short_label(label)
    _lay_out(figure, f"{ROLES[reference]}: probability of {named}", f"student: probability of {named}")
    figure.update_layout(hovermode="closest", dragmode="select")
    figure.update_xaxes(range=[-0.02, 1.02], tickformat=".0%")
    figure.update_yaxes(range=[-0.02, 1.02], tickformat=".0%")
    return figure


def reliability_figure(bins: Mapping[str, Sequence[Bin]]) -> go.Figure:
    """How often each model is right when it is so sure; on the diagonal it is right as often as it says."""
    figure = go.Figure()
    _diagonal(figure)
    for role, own in bins.items():
        seen = [one for one in own if one.count]
        figure.add_scatter(
            x=[one.confidence for one in seen],
            y=[one.accuracy for one in seen],
            customdata=[one.count for one in seen],
            name=ROLES[role],
            mode="lines+markers",
            line={"color": COLOURS[role], "dash": DASHES[role], "width": WIDTHS[role]},
            marker={"symbol": MARKERS[role], "size": [_dot(one, own) for one in seen], "opacity": 0.9},
            hovertemplate=f"{ROLES[role]}: sure %{{x:.1%}}, right %{{y:.1%}} of %{{customdata:,}} texts<extra></extra>",
        )
    lowest = min((one.low for own in bins.values() for one in own if one.count), default=0.0)
    _lay_out(figure, "confidence", "accuracy")
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(range=[lowest - 0.02, 1.02], tickformat=".0%")
    figure.update_yaxes(range=[-0.03, 1.04], tickformat=".0%")
    return figure


def _dot(one: Bin, own: Sequence[Bin]) -> float:
    """The size of a marker, whose area tells how many texts it stands for."""
    return 5 + 9 * math.sqrt(one.count / max(other.count for other in own))


def accuracy_figure(groups: Mapping[str, Sequence[Group]], x_title: str, *, shares: bool) -> go.Figure:
    """Accuracy of each model among texts of similar value, with 95 % intervals.

    Args:
        shares: whether the values are shares, and not counts.
    """
    figure = go.Figure()
    for place, (role, own) in enumerate(groups.items()):
        shift = 0.09 * (place - (len(groups) - 1) / 2)
        figure.add_scatter(
            x=[number + shift for number in range(len(own))],
            y=[group.accuracy for group in own],
            error_y={
                "array": [group.interval[1] - group.accuracy for group in own],
                "arrayminus": [group.accuracy - group.interval[0] for group in own],
                "thickness": 1.5,
                "width": 4,
            },
            customdata=[group.count for group in own],
            name=ROLES[role],
            mode="lines+markers",
            line={"color": COLOURS[role], "dash": DASHES[role], "width": WIDTHS[role]},
            marker={"symbol": MARKERS[role], "size": 8},
            hovertemplate=f"{ROLES[role]}: %{{y:.1%}} of %{{customdata:,}} texts<extra></extra>",
        )
    first = next(iter(groups.values()), [])
    _lay_out(figure, x_title, "accuracy")
    names = [f"{_range(group, shares)}<br>n {group.count:,}" for group in first]
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(
        tickvals=list(range(len(first))), ticktext=names, range=[-0.5, max(len(first), 1) - 0.5], tickangle=0
    )
    limits = [limit for own in groups.values() for group in own for limit in group.interval] or [0.0, 1.0]
    figure.update_yaxes(tickformat=".0%", range=[max(min(limits) - 0.04, -0.02), min(max(limits) + 0.04, 1.02)])
    return figure


def _range(group: Group, shares: bool) -> str:
    low, high = (f"{100 * value:.0f}" if shares else f"{value:,.0f}" for value in (group.low, group.high))
    return f"{low if low == high else f'{low}–{high}'}{' %' if shares else ''}"


def _diagonal(figure: go.Figure) -> None:
    figure.add_shape(type="line", x0=0, y0=0, x1=1, y1=1, line={"color": BASELINE, "width": 1, "dash": "dot"})


def _lay_out(figure: go.Figure, x_title: str, y_title: str) -> None:
    figure.update_layout(
        height=HEIGHT,
        margin={"l": 56, "r": 12, "t": 34, "b": 44},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        uirevision="keep",
    )
    figure.update_xaxes(title={"text": x_title})
    figure.update_yaxes(title={"text": y_title})
