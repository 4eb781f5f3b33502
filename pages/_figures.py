"""Histories and results as Plotly figures. No Streamlit here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from distill_core.config import RunConfig
from distill_core.events import Epoch, History, StageProgress, Step

TEACHER, STUDENT, BASELINE = "#0072B2", "#D55E00", "#7A7A7A"
CE, KL = "#CC79A7", "#009E73"
COLOURS = {"teacher": TEACHER, "student": STUDENT, "baseline": BASELINE}
ROLE_OF = {"pretrain": "teacher", "finetune": "teacher", "baseline": "baseline", "distil": "student"}
HEIGHT = 340
MAX_POINTS = 1000
CHART_CONFIG = {"displaylogo": False, "showSendToCloud": False}
"""What the buttons over a chart offer: nothing that leaves the browser."""

LOSS_TITLES = {
    "pretrain": "Teacher reading: loss of the next word",
    "finetune": "Teacher learning the labels: loss",
    "baseline": "Student without teacher: loss",
    "distil": "Student: cross-entropy, β·KL and total",
}


def loss_figure(history: History, config: RunConfig, stage: str, ink: str) -> go.Figure:
    """The losses of a stage, step by step (nats); the total in `ink`, the colour of text."""
    progress = history.progress.get(stage)
    figure = _figure("step", "nats")
    if progress is None or not progress.curve:
        return _note(figure, "The first numbers are on their way")
    if stage == "distil":
        _add_student_losses(figure, progress, config, ink)
    else:
        role = ROLE_OF[stage]
        dash = "dash" if role == "baseline" else "solid"
        values = [step.ce for step in progress.curve]
        _add_line(figure, "CE", progress.curve, values, colour=COLOURS[role], dash=dash, width=2)
    figure.update_xaxes(range=[0, max(progress.steps, 1)])
    return figure


def _add_student_losses(figure: go.Figure, progress: StageProgress, config: RunConfig, ink: str) -> None:
    curve, objective = progress.curve, config.objective
    weight = objective.beta * objective.temperature**2
    squared = "·T²" if objective.temperature != 1 else ""
    _add_line(figure, "CE", curve, [step.ce for step in curve], colour=CE, dash="solid", width=2)
    _add_line(
        figure, f"β{squared}·KL", curve, [weight * (step.kl or 0.0) for step in curve], colour=KL, dash="dot", width=2
    )
    _add_line(figure, "total", curve, [step.loss for step in curve], colour=ink, dash="solid", width=1.5)


def _add_line(
    figure: go.Figure,
    name: str,
    curve: Sequence[Step],
    values: Sequence[float | None],
    *,
    colour: str,
    dash: str,
    width: float,
) -> None:
    stride = -(-len(curve) // MAX_POINTS)
    figure.add_scatter(
        x=[step.step for step in curve[::stride]],
        y=list(values[::stride]),
        name=name,
        mode="lines" if len(curve) > 1 else "markers",
        line={"color": colour, "dash": dash, "width": width},
        hovertemplate="%{y:.3f}",
    )


def accuracy_figure(history: History, config: RunConfig) -> go.Figure:
    """Accuracy on the validation texts, epoch by epoch: teacher, then its level, baseline and student."""
    figure = _figure("epoch", "accuracy on validation")
    finetune, distil = history.progress.get("finetune"), history.progress.get("distil")
    baseline = history.progress.get("baseline")
    students_began = baseline is not None or distil is not None
    epochs = config.training.epochs if students_began else config.teacher.epochs
    level = _teacher_level(history)
    if finetune is not None and finetune.epochs and not students_began:
        _add_epochs(figure, "teacher", finetune.epochs, role="teacher", dash="solid", width=2.5)
    elif level is not None:
        figure.add_scatter(
            x=[0.5, epochs + 0.5],
            y=[level, level],
            name="teacher",
            mode="lines",
            line={"color": TEACHER, "width": 2},
            hovertemplate="%{y:.1%}",
        )
    if baseline is not None and baseline.epochs:
        _add_epochs(figure, "student alone", baseline.epochs, role="baseline", dash="dash", width=2)
    if distil is not None and distil.epochs:
        _add_epochs(figure, "student", distil.epochs, role="student", dash="solid", width=3.5)
    figure.update_xaxes(range=[0.5, epochs + 0.5], dtick=max(1, epochs // 10))
    figure.update_yaxes(tickformat=".0%", range=_accuracy_range(figure))
    return figure if figure.data else _note(figure, "Accuracy appears after the first epoch on labels")


def _accuracy_range(figure: go.Figure) -> list[float]:
    """All values with some air around them, at least ten points high: the scale must not magnify noise."""
    values = [value for trace in figure.data for value in trace.y] or [0.5]
    middle, half = (min(values) + max(values)) / 2, max((max(values) - min(values)) * 0.6, 0.05)
    top = min(middle + half, 1.005)
    return [max(top - 2 * half, 0.0), top]


def _teacher_level(history: History) -> float | None:
    stages = (history.progress.get("cache"), history.progress.get("finetune"))
    return next((stage.accuracy for stage in stages if stage is not None and stage.accuracy is not None), None)


def _add_epochs(figure: go.Figure, name: str, epochs: Sequence[Epoch], *, role: str, dash: str, width: float) -> None:
    figure.add_scatter(
        x=[epoch.epoch for epoch in epochs],
        y=[epoch.accuracy for epoch in epochs],
        name=name,
        mode="lines+markers",
        line={"color": COLOURS[role], "dash": dash, "width": width},
        marker={"size": 7, "symbol": "square" if role == "baseline" else "circle"},
        hovertemplate="%{y:.1%}",
    )


def probability_figure(probabilities: Mapping[str, float], role: str) -> go.Figure:
    """One bar a label from 0 to 100 %, labels in the order given, from top to bottom."""
    labels, values = list(probabilities), list(probabilities.values())
    figure = go.Figure(
        go.Bar(
            x=values,
            y=labels,
            orientation="h",
            marker={"color": COLOURS[role]},
            text=[f"{100 * value:.1f} %" for value in values],
            textposition="auto",
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        )
    )
    figure.update_layout(height=60 + 42 * len(labels), margin={"l": 10, "r": 32, "t": 10, "b": 30}, bargap=0.35)
    figure.update_xaxes(range=[0, 1.001], tickformat=".0%", fixedrange=True, dtick=0.25)
    figure.update_yaxes(autorange="reversed", fixedrange=True, automargin=True)
    return figure


def _figure(x_title: str, y_title: str) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        height=HEIGHT,
        margin={"l": 56, "r": 12, "t": 34, "b": 44},
        hovermode="x unified",
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        uirevision="keep",
    )
    figure.update_xaxes(title={"text": x_title})
    figure.update_yaxes(title={"text": y_title})
    return figure


def _note(figure: go.Figure, text: str) -> go.Figure:
    figure.add_annotation(text=text, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper", opacity=0.6)
    figure.update_layout(showlegend=False)
    figure.update_xaxes(showticklabels=False)
    figure.update_yaxes(showticklabels=False)
    return figure
