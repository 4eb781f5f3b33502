"""Slow motion: one batch of the student's training, so that a single update can be followed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from distill_core.config import RunConfig
from pages import _figures

SHOWN_CLASSES = 4
"""Classes whose numbers are shown; of more, those that matter most to the text."""


def show(batch: Mapping[str, Any], config: RunConfig) -> None:
    """The loss of the batch as a sum, then its texts with both models' answers."""
    st.markdown(
        f"**One batch: step {batch['step']:,}** · {len(batch['texts'])} texts · learning rate {batch['lr']:.2g}"
    )
    st.markdown(_sum_of(batch, config))
    st.caption(f"The numbers of a cell belong to: {_order(batch)}. p is softened by the temperature.")
    frame = pd.DataFrame([_row(text, batch) for text in batch["texts"]])
    st.dataframe(
        frame,
        hide_index=True,
        height=320,
        key="train.batch",
        column_config={"Text": st.column_config.TextColumn(width=180)} | _helps(batch, config),
    )


def _sum_of(batch: Mapping[str, Any], config: RunConfig) -> str:
    """Each term of the loss with its weight, their sum, and the same after the update."""
    before, after = batch["before"], batch["after"]
    terms = []
    taught = before["distance"] is not None
    weight = config.objective.student_ce_weight if taught else 1.0
    if before["ce"] is not None:
        terms.append(f"{_factor(weight)}CE {before['ce']:.4f}")
    if before["teacher_ce"] is not None:
        terms.append(f"{_factor(config.objective.teacher_ce_weight)}CE of the teacher {before['teacher_ce']:.4f}")
    if taught:
        squared = f" · T² {batch['temperature'] ** 2:g}" if batch["temperature"] != 1 else ""
        name = _figures.distance_word(config.objective)
        terms.append(f"β {batch['beta']:g}{squared} · {name} {before['distance']:.4f}")
    return (
        f"{' + '.join(terms)} = **{before['total']:.4f}**"
        f" · after this update the same batch gives **{after['total']:.4f}**"
    )


def _order(batch: Mapping[str, Any]) -> str:
    """The classes whose numbers stand side by side in a cell."""
    labels: Sequence[str] = batch["labels"]
    return ", ".join(labels) if len(labels) <= SHOWN_CLASSES else "the classes named"


def _factor(weight: float) -> str:
    return "" if weight == 1 else f"{weight:g} · "


def _row(text: Mapping[str, Any], batch: Mapping[str, Any]) -> dict[str, Any]:
    labels: Sequence[str] = batch["labels"]
    classes = _classes(text, len(labels))
    row: dict[str, Any] = {
        "Text": " ".join(text["tokens"]),
        "Label": "" if text["label"] is None else labels[text["label"]],
    }
    if len(labels) > SHOWN_CLASSES:
        row["Classes"] = ", ".join(labels[place] for place in classes)
    for role, words in (("teacher", "Teacher"), ("student", "Student")):
        if text[role] is not None:
            row[f"{words} logits"] = _numbers(text[role]["logits"], classes, 2)
            row[f"{words} p"] = _numbers(text[role]["soft"], classes, 3)
    row["CE"] = text["ce"]
    if text["distance"] is not None:
        row["Distance"] = text["distance"]
    row["Student p after"] = _numbers(text["student_after"]["soft"], classes, 3)
    return row


def _classes(text: Mapping[str, Any], count: int) -> list[int]:
    """The classes to show: all of a few, else the label and those that the models find most likely."""
    if count <= SHOWN_CLASSES:
        return list(range(count))
    answers = [text[role]["soft"] for role in ("teacher", "student") if text[role] is not None]
    ranked = sorted(range(count), key=lambda place: -max(answer[place] for answer in answers))
    own = [] if text["label"] is None else [text["label"]]
    return list(dict.fromkeys([*own, *ranked]))[:SHOWN_CLASSES]


def _numbers(values: Sequence[float], classes: Sequence[int], digits: int) -> str:
    return "  ".join(f"{values[place]:.{digits}f}" for place in classes)


def _helps(batch: Mapping[str, Any], config: RunConfig) -> dict[str, Any]:
    order = _order(batch)
    soft = f"Probabilities of {order}, softened by temperature {batch['temperature']:g}"
    number = st.column_config.NumberColumn
    distance = _figures.DISTANCE_HELP[config.objective.divergence]
    return {
        "Teacher logits": st.column_config.TextColumn(help=f"What the teacher answers for {order}, before the softmax"),
        "Student logits": st.column_config.TextColumn(help=f"What the student answers for {order}, before the softmax"),
        "Teacher p": st.column_config.TextColumn(help=soft),
        "Student p": st.column_config.TextColumn(help=soft),
        "Student p after": st.column_config.TextColumn(help="The student's, once its weights have been updated"),
        "CE": number(format="%.4f", help="Cross-entropy of the student and the label; the loss has the mean"),
        "Distance": number(format="%.4f", help=f"{distance} of this text; the loss has the mean"),
    }
