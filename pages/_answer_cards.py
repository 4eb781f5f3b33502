"""Answers to one text as HTML that changes in place while somebody types: a card a model, then bars a class."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from distill_core.analysis.softened import Distance, Softened
from pages._voices import Voice

SHOWN_CLASSES = 8
"""Classes that get bars; of more, those that any model finds most likely."""
WORDS = ((0.02, "alike"), (0.2, "close"))
"""KL in nats up to which answers are called so."""
KL_HELP = "Divergence of the student's answer from its teacher's (Kullback and Leibler): 0 when they are equal"


def cards(voices: Sequence[Voice], answers: Sequence[Softened], distances: Sequence[Distance | None]) -> str:
    """Each model's answer with its size and time; between teacher and student, how far they are apart.

    Args:
        distances: for each voice how far it is from the teacher; None for the teacher, and where there is none.
    """
    shown = [_card(*found) for found in zip(voices, answers, distances, strict=True)]
    middle = next((found for found in distances if found is not None), None)
    if middle is not None:
        shown.insert(1, _between(middle))
    return f'<div class="lab-cards">{"".join(shown)}</div>'


def _card(voice: Voice, answer: Softened, distance: Distance | None) -> str:
    lines = [f"entropy {answer.entropy:.2f} nats · margin {100 * answer.margin:.1f} points"]
    if distance is not None and (voice.role != "student" or voice.further):
        agree = "agrees with the teacher" if distance.agree else "disagrees with the teacher"
        lines.append(f"{agree} · KL {distance.student_teacher:.3f}, the other way {distance.teacher_student:.3f}")
    small = "".join(f"<small>{html.escape(line)}</small>" for line in [*lines, voice.cost])
    note = f"<em>{html.escape(voice.note)}</em>" if voice.note else ""
    return (
        f'<section class="lab-card"><div class="lab-role"><i style="{fill(voice)}"></i>{html.escape(voice.name)}</div>'
        f'{note}<p class="lab-answer">{html.escape(answer.label)} {100 * answer.confidence:.1f} %</p>{small}</section>'
    )


def _between(distance: Distance) -> str:
    near = next((word for limit, word in WORDS if distance.student_teacher < limit), "apart")
    word = "close" if near == "alike" and not distance.agree else near
    agree = "They agree." if distance.agree else "They disagree."
    return (
        f'<section class="lab-middle" title="{KL_HELP}"><b>{word}</b><div>{agree}</div>'
        f"<small>KL {distance.student_teacher:.3f} nats</small>"
        f"<small>the other way {distance.teacher_student:.3f}</small></section>"
    )


def bars(voices: Sequence[Voice], answers: Sequence[Softened], labels: Sequence[str]) -> str:
    """For each class a bar of every model, on one scale from 0 to 100 %."""
    shown = _classes(answers, labels)
    groups = "".join(_group(label, voices, [answer.probabilities for answer in answers]) for label in shown)
    rest = len(labels) - len(shown)
    more = f"<small>{rest} less likely classes are not shown.</small>" if rest else ""
    return f'<div class="lab-bars">{groups}{more}</div>'


def _classes(answers: Sequence[Softened], labels: Sequence[str]) -> list[str]:
    """The classes in their order; of many, the likeliest."""
    if len(labels) <= SHOWN_CLASSES:
        return list(labels)
    ranked = sorted(labels, key=lambda label: -max(answer.probabilities[label] for answer in answers))
    return [label for label in labels if label in ranked[:SHOWN_CLASSES]]


def _group(label: str, voices: Sequence[Voice], answers: Sequence[Mapping[str, float]]) -> str:
    rows = "".join(
        f'<div class="lab-bar" title="{html.escape(voice.name)}: {100 * answer[label]:.1f} %"><span>'
        f'<i style="width:{100 * answer[label]:.2f}%;{fill(voice)}"></i></span><b>{100 * answer[label]:.1f} %</b></div>'
        for voice, answer in zip(voices, answers, strict=True)
    )
    return f'<div class="lab-class"><div>{html.escape(label)}</div><div>{rows}</div></div>'


def fill(voice: Voice) -> str:
    """A voice's colour; stripes where colour alone would have to tell it from another."""
    if voice.role != "baseline" and not voice.further:
        return f"background:{voice.colour}"
    angle = 90 if voice.role == "baseline" else 45
    faint = f"color-mix(in srgb, {voice.colour} 55%, transparent)"
    return f"background:repeating-linear-gradient({angle}deg,{voice.colour} 0 4px,{faint} 4px 7px)"


STYLE = """
.lab-cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 0.6rem 1.4rem; }
.lab-card { min-width: 0; }
.lab-card small, .lab-middle small { display: block; opacity: 0.7; font-size: 0.8rem; line-height: 1.45;
  font-variant-numeric: tabular-nums; }
.lab-card em { display: block; font-style: normal; font-size: 0.85rem; opacity: 0.85; overflow-wrap: anywhere; }
.lab-cards .lab-middle { padding-top: 1.2rem; }
.lab-bars { display: grid; gap: 0.7rem; margin-top: 0.4rem; }
.lab-class { display: grid; grid-template-columns: minmax(5rem, 9rem) 1fr; gap: 0.8rem; align-items: center; }
.lab-class > div:first-child { text-align: right; overflow-wrap: anywhere; line-height: 1.25; }
.lab-bar { display: grid; grid-template-columns: 1fr 4.2rem; gap: 0.5rem; align-items: center; height: 15px; }
.lab-bar span { background: color-mix(in srgb, currentColor 7%, transparent); height: 11px; border-radius: 2px;
  overflow: hidden; }
.lab-bar i { display: block; height: 100%; }
.lab-bar b { font-weight: 500; font-size: 0.8rem; font-variant-numeric: tabular-nums; text-align: right; }
.lab-flip { font-size: 1.05rem; line-height: 1.5; margin: 0; overflow-wrap: anywhere; }
@media (max-width: 640px) {
  .lab-cards { grid-template-columns: 1fr 1fr; }
  .lab-cards .lab-answer { font-size: 1.05rem; }
  .lab-class { grid-template-columns: 1fr; gap: 0.1rem; }
  .lab-class > div:first-child { text-align: left; }
}
"""
