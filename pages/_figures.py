"""Histories and results as Plotly figures. No Streamlit here."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import plotly.graph_objects as go

from distill_core.config import FROZEN_PASSES, ObjectiveConfig, RunConfig
from distill_core.events import Epoch, History, StageProgress, Step

TEACHER, STUDENT, BASELINE = "#0072B2", "#D55E00", "#7A7A7A"
CE, KL = "#CC79A7", "#009E73"
MARKERS = {"teacher": "diamond", "student": "circle", "baseline": "square"}
COLOURS = {"teacher": TEACHER, "student": STUDENT, "baseline": BASELINE}
ROLE_OF = {"pretrain": "teacher", "finetune": "teacher", "baseline": "baseline", "distil": "student"}
HEIGHT = 340
MAX_POINTS = 1000
CHART_CONFIG = {"displaylogo": False, "showSendToCloud": False}
"""What the buttons over a chart offer: nothing that leaves the browser."""

Chart = dict[str, Any]
"""A figure as Plotly's JSON: made many times a second while a run is watched, so without Plotly's own checks."""
LOSS_STAGES = ("pretrain", "finetune", "assistant", "baseline", "distil")
"""Stages that have a loss to draw."""
DISTANCE_WORDS = {"jensen_shannon": "JS", "logit_mse": "MSE"}
DISTANCE_HELP = {
    "kl_teacher_student": "KL divergence of the teacher from the student",
    "kl_student_teacher": "KL divergence of the student from the teacher",
    "jensen_shannon": "Jensen–Shannon divergence of both",
    "logit_mse": "Squared difference of the logits",
}


def loss_title(stage: str, config: RunConfig) -> str:
    """What the loss chart of a stage shows."""
    alone = {
        "pretrain": "Teacher reading: loss of the next word",
        "finetune": "Teacher learning the labels: loss",
        "baseline": "Student without teacher: loss",
    }
    if stage in alone:
        return alone[stage]
    objective, joint = config.objective, stage == "distil" and config.objective.mode == "joint"
    learner = "Both learning" if joint else {"assistant": "Assistant", "distil": "Student"}[stage]
    parts = [_labels_title(objective, joint), f"β·{distance_word(objective)}" if objective.beta else ""]
    return f"{learner}: {', '.join(filter(None, parts))} and total"


def _labels_title(objective: ObjectiveConfig, joint: bool) -> str:
    """Whose CE the chart shows."""
    teacher, student = joint and objective.teacher_ce_weight > 0, objective.student_ce_weight > 0
    if not joint:
        return "CE" if student else ""
    if teacher and student:
        return "CE of each"
    return "CE of the teacher" if teacher else "CE of the student" if student else ""


def distance_word(objective: ObjectiveConfig) -> str:
    """The distance between student and teacher in a few letters."""
    return DISTANCE_WORDS.get(objective.divergence, "KL")


def loss_figure(history: History, config: RunConfig, stage: str, ink: str) -> go.Figure:
    """The same as `loss_chart`, for a run that is over."""
    return go.Figure(loss_chart(history, config, stage, ink))


def loss_chart(history: History, config: RunConfig, stage: str, ink: str) -> Chart:
    """The losses of a stage, step by step, and the parts that add up to it; the total in `ink`, the colour of text."""
    progress, taught = history.progress.get(stage), stage in ("distil", "assistant")
    squared = taught and config.objective.beta > 0 and config.objective.divergence == "logit_mse"
    chart = _chart("step", "loss" if squared else "nats")
    if progress is None or not progress.curve:
        return _empty(chart, "The first numbers are on their way")
    progress = replace(progress, curve=_thinned(progress.curve))
    if taught:
        for part in _parts_of(progress, config):
            _add_line(chart, part.name, progress.curve, part.values, colour=part.colour, dash=part.dash, width=2)
        total = [step.loss for step in progress.curve]
        _add_line(chart, "total", progress.curve, total, colour=ink, dash="solid", width=1.5)
    else:
        role = ROLE_OF[stage]
        dash = "dash" if role == "baseline" else "solid"
        values = [step.ce for step in progress.curve]
        _add_line(chart, "CE", progress.curve, values, colour=COLOURS[role], dash=dash, width=2)
    chart["layout"]["xaxis"]["range"] = [0, max(progress.steps, 1)]
    return chart


def _thinned(curve: Sequence[Step]) -> list[Step]:
    """At most so many steps as a line may have points, evenly chosen, the last one among them."""
    stride = -(-len(curve) // MAX_POINTS)
    return list(curve[::-1][::stride][::-1])


@dataclass(frozen=True)
class _Part:
    """A summand of a student's loss, step by step."""

    name: str
    values: Sequence[float | None]
    colour: str
    dash: str = "solid"


def _parts_of(progress: StageProgress, config: RunConfig) -> list[_Part]:
    """What adds up to the loss; what does not count is left out.

    The distance's part is what the labels leave of the loss: each event holds means over several steps, in which β
    may have risen along its ramp. Where some texts have no label, CE is the mean of those that have one, so the parts
    add up to more than the total, and the distance's part is that of the event's last step.
    """
    curve, objective = progress.curve, config.objective
    joint = any(step.teacher_ce is not None for step in curve)
    parts = []
    if joint and objective.teacher_ce_weight:
        values = [objective.teacher_ce_weight * (step.teacher_ce or 0.0) for step in curve]
        parts.append(_Part(_weighted("CE of the teacher", objective.teacher_ce_weight), values, TEACHER))
    if objective.student_ce_weight:
        values = [None if step.ce is None else objective.student_ce_weight * step.ce for step in curve]
        name = "CE of the student" if joint else "CE"
        parts.append(_Part(_weighted(name, objective.student_ce_weight), values, CE))
    if objective.beta:
        squared = "·T²" if objective.temperature != 1 else ""
        if config.transfers:
            risen = [min(step.step / max(progress.steps * objective.beta_ramp, 1e-9), 1.0) for step in curve]
            scale = objective.beta * objective.temperature**2
            values = [scale * part * (step.kl or 0.0) for part, step in zip(risen, curve, strict=True)]
        else:
            labels = [sum(part.values[place] or 0.0 for part in parts) for place in range(len(curve))]
            values = [(step.loss or 0.0) - own for step, own in zip(curve, labels, strict=True)]
        parts.append(_Part(f"β{squared}·{distance_word(objective)}", values, KL, "dot"))
    return parts


def _weighted(name: str, weight: float) -> str:
    return name if weight == 1 else f"{weight:g}·{name}"


def _add_line(
    chart: Chart,
    name: str,
    curve: Sequence[Step],
    values: Sequence[float | None],
    *,
    colour: str,
    dash: str,
    width: float,
) -> None:
    line = {
        "type": "scatter",
        "x": [step.step for step in curve],
        "y": list(values),
        "name": name,
        "mode": "lines" if len(curve) > 1 else "markers",
        "line": {"color": colour, "dash": dash, "width": width},
        "hovertemplate": "%{y:.3f}",
    }
    chart["data"].append(line)


def accuracy_figure(history: History, config: RunConfig) -> go.Figure:
    """The same as `accuracy_chart`, for a run that is over."""
    return go.Figure(accuracy_chart(history, config))


def accuracy_chart(history: History, config: RunConfig) -> Chart:
    """Accuracy on the validation texts, epoch by epoch: teacher, then its level, baseline and student."""
    chart = _chart("epoch", "accuracy on validation")
    finetune, distil = history.progress.get("finetune"), history.progress.get("distil")
    baseline = history.progress.get("baseline")
    students_began = baseline is not None or distil is not None
    epochs = _last_epoch(history, config)
    level = _teacher_level(history)
    learning = [epoch for epoch in (distil.epochs if distil else []) if epoch.teacher_accuracy is not None]
    if finetune is not None and finetune.epochs and not students_began:
        _add_epochs(chart, "teacher", finetune.epochs, role="teacher", dash="solid", width=2.5)
    elif learning:
        moved = [replace(epoch, accuracy=epoch.teacher_accuracy) for epoch in learning]
        _add_epochs(chart, "teacher", moved, role="teacher", dash="solid", width=2.5)
    elif level is not None:
        line = {
            "type": "scatter",
            "x": [0.5, epochs + 0.5],
            "y": [level, level],
            "name": "teacher",
            "mode": "lines",
            "line": {"color": TEACHER, "width": 2},
            "hovertemplate": "%{y:.1%}",
        }
        chart["data"].append(line)
    repeats = _epochs_of(history, "repeat")
    if baseline is not None and baseline.epochs:
        _add_epochs(chart, "student alone", baseline.epochs, repeats, role="baseline", dash="dash", width=2)
    if distil is not None and distil.epochs:
        _add_epochs(chart, "student", distil.epochs, repeats, role="student", dash="solid", width=3.5)
    chart["layout"]["xaxis"] |= {"range": [0.5, epochs + 0.5], "dtick": max(1, epochs // 10)}
    chart["layout"]["yaxis"] |= {"tickformat": ".0%", "range": _accuracy_range(chart)}
    return chart if chart["data"] else _empty(chart, "Accuracy appears after the first epoch on labels")


def _last_epoch(history: History, config: RunConfig) -> int:
    """Where the axis ends: with what was planned, or with more epochs than that."""
    students = [stage for stage in ("baseline", "distil") if stage in history.progress]
    teacher = config.teacher
    passes = FROZEN_PASSES if teacher.kind == "pretrained" and teacher.frozen else 1
    planned = config.training.epochs if students else passes * teacher.epochs
    seen = [epoch.epoch for stage in students or ["finetune"] for epoch in _epochs_of(history, stage)]
    return max([planned, *seen])


def _epochs_of(history: History, stage: str) -> Sequence[Epoch]:
    progress = history.progress.get(stage)
    return progress.epochs if progress is not None else []


def _accuracy_range(chart: Chart) -> list[float]:
    """All values with some air around them, at least ten points high: the scale must not magnify noise."""
    values = [value for line in chart["data"] for value in line["y"] if value is not None] or [0.5]
    middle, half = (min(values) + max(values)) / 2, max((max(values) - min(values)) * 0.6, 0.05)
    top = min(middle + half, 1.005)
    return [max(top - 2 * half, 0.0), top]


def _teacher_level(history: History) -> float | None:
    stages = (history.progress.get("cache"), history.progress.get("finetune"))
    return next((stage.accuracy for stage in stages if stage is not None and stage.accuracy is not None), None)


def _add_epochs(
    chart: Chart,
    name: str,
    epochs: Sequence[Epoch],
    repeats: Sequence[Epoch] = (),
    *,
    role: str,
    dash: str,
    width: float,
) -> None:
    """Accuracy by epoch; with repeats of further seeds their mean, and one standard deviation as error bars."""
    values = [
        [epoch.accuracy, *(again.accuracy for again in repeats if (again.role, again.epoch) == (role, epoch.epoch))]
        for epoch in epochs
    ]
    accuracies = [[value for value in found if value is not None] for found in values]
    spread = [statistics.stdev(found) if len(found) > 1 else 0.0 for found in accuracies]
    line = {
        "type": "scatter",
        "x": [epoch.epoch for epoch in epochs],
        "y": [statistics.fmean(found) if found else None for found in accuracies],
        "name": name,
        "mode": "lines+markers",
        "line": {"color": COLOURS[role], "dash": dash, "width": width},
        "marker": {"size": 7, "symbol": "square" if role == "baseline" else "circle"},
        "hovertemplate": "%{y:.1%}",
    }
    if any(spread):
        line["error_y"] = {"array": spread, "visible": True, "width": 4, "thickness": 1.5}
    chart["data"].append(line)


def seeds_figure(result: Mapping[str, Any]) -> go.Figure:
    """Test accuracy of each seed, with and without teacher, mean and one standard deviation beside."""
    figure, seeds = _figure("", "test accuracy"), result["seeds"]
    for role, name in (("baseline", "student alone"), ("student", "student")):
        spread = seeds[role]
        if spread is None:
            continue
        figure.add_scatter(
            x=[*([name] * len(spread["values"]))],
            y=spread["values"],
            name=f"{name}, each seed",
            mode="markers",
            marker={"color": COLOURS[role], "size": 8, "opacity": 0.5, "symbol": MARKERS[role]},
            hovertemplate="%{y:.1%}",
        )
        figure.add_scatter(
            x=[name],
            y=[spread["mean"]],
            error_y={"array": [spread["std"]], "width": 10, "thickness": 2},
            name=f"{name}, mean",
            mode="markers",
            marker={"color": COLOURS[role], "size": 13, "symbol": MARKERS[role]},
            hovertemplate="%{y:.1%}",
        )
    teacher = result["teacher"]["test_accuracy"]
    figure.add_hline(y=teacher, line={"color": TEACHER, "width": 2}, annotation_text="teacher")
    figure.update_layout(showlegend=False, hovermode="closest")
    figure.update_yaxes(tickformat=".1%")
    return figure


def confusion_figure(confusion: Sequence[Sequence[int]], labels: Sequence[str], role: str) -> go.Figure:
    """Texts by true class (rows) and answer (columns), darker for more of a row."""
    shares = [[count / max(sum(row), 1) for count in row] for row in confusion]
    names = [label if len(label) <= 18 else f"{label[:17]}…" for label in labels]
    # Places on the axes are numbers, since two long names may look alike once they are cut.
    axis = {"tickvals": list(range(len(labels))), "ticktext": names, "fixedrange": True, "automargin": True}
    figure = go.Figure(
        go.Heatmap(
            z=shares,
            text=[[f"{count:,}" for count in row] for row in confusion],
            texttemplate="%{text}" if len(labels) <= 12 else None,
            customdata=[[f"true {true}, answered {answered}" for answered in labels] for true in labels],
            colorscale=[[0, "rgba(127,127,127,0.08)"], [1, COLOURS[role]]],
            zmin=0,
            zmax=1,
            showscale=False,
            hovertemplate="%{customdata}: %{text}<extra></extra>",
        )
    )
    figure.update_layout(height=min(150 + 34 * len(labels), 640), margin={"l": 10, "r": 10, "t": 10, "b": 10})
    figure.update_xaxes(title={"text": "answered"}, **axis)
    figure.update_yaxes(title={"text": "true"}, autorange="reversed", **axis)
    return figure


def counts_figure(counts: Mapping[str, Sequence[int]], labels: Sequence[str]) -> go.Figure:
    """Texts of each class, one bar a split."""
    figure = _figure("", "texts")
    for split, shade in (("train", TEACHER), ("val", "#66AAD1"), ("test", "#B3D5E8")):
        figure.add_bar(x=list(labels), y=list(counts[split]), name=split, marker={"color": shade})
    figure.update_layout(barmode="group")
    figure.update_xaxes(type="category")
    return figure


def lengths_figure(lengths: Mapping[int, int]) -> go.Figure:
    """Training texts by their number of tokens."""
    starts = list(lengths)
    width = starts[1] - starts[0] if len(starts) > 1 else 1
    figure = _figure("words and signs", "training texts")
    figure.add_bar(
        x=[start + width / 2 for start in starts],
        y=list(lengths.values()),
        width=width,
        marker={"color": TEACHER},
        customdata=[f"{start} to {start + width - 1}" for start in starts],
        hovertemplate="%{customdata}: %{y:,} texts<extra></extra>",
    )
    figure.update_layout(showlegend=False, hovermode="closest", bargap=0.05)
    return figure


def unknown_figure(unknown_by_size: Mapping[int, float], vocabulary: int, unknown: float) -> go.Figure:
    """Share of unknown words among validation texts, for vocabularies of each size and the chosen one."""
    figure = _figure("words in the vocabulary", "unknown words")
    sizes, shares = [*unknown_by_size, vocabulary], [*unknown_by_size.values(), unknown]
    figure.add_scatter(
        x=sizes,
        y=shares,
        mode="lines+markers",
        line={"color": STUDENT, "width": 2.5},
        hovertemplate="%{x:,} words: %{y:.1%} unknown<extra></extra>",
    )
    figure.add_annotation(x=vocabulary, y=unknown, text="chosen", showarrow=True, arrowhead=0, ax=0, ay=-28)
    figure.update_layout(showlegend=False, hovermode="closest")
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    return figure


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
    figure.update_yaxes(type="category", autorange="reversed", fixedrange=True, automargin=True)
    return figure


def _chart(x_title: str, y_title: str) -> Chart:
    """A chart without any line."""
    layout = {
        "height": HEIGHT,
        "margin": {"l": 56, "r": 12, "t": 34, "b": 44},
        "hovermode": "x unified",
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "uirevision": "keep",
        "xaxis": {"title": {"text": x_title}},
        "yaxis": {"title": {"text": y_title}},
    }
    return {"data": [], "layout": layout}


def _figure(x_title: str, y_title: str) -> go.Figure:
    return go.Figure(_chart(x_title, y_title))


def _empty(chart: Chart, text: str) -> Chart:
    """A chart that says why it is empty."""
    note = {"text": text, "showarrow": False, "x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "opacity": 0.6}
    chart["layout"] |= {"annotations": [note], "showlegend": False}
    for axis in ("xaxis", "yaxis"):
        chart["layout"][axis]["showticklabels"] = False
    return chart
