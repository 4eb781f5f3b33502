"""What a result says in sentences that its numbers support. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SIGNIFICANT = 0.05
"""A p-value from which on a gain over several seeds counts as chance."""
NOTHING = 0.005
"""Accuracy beyond that of one answer for all texts, up to which a student has learned nothing of use."""
FEW_TEXTS = 50
"""Test texts below which the normal approximation behind the margin says nothing."""


def verdict(result: Mapping[str, Any]) -> list[str]:
    """Sentences for a person: student against teacher, whether the teacher helped, and what forbids to conclude so."""
    return [*_stopped(result), *_against_chance(result), _against_teacher(result), *_against_baseline(result)]


def _stopped(result: Mapping[str, Any]) -> list[str]:
    """Says that somebody has ended the training early."""
    stopped = result.get("stopped")
    if stopped is None:
        return []
    where = f"at step {stopped['step']:,} of {stopped['steps']:,}"
    if stopped["stage"] == "baseline" and result["baseline"] is None:
        return [f"The student has learned to its end; its baseline was stopped {where}."]
    if not _half_taught(result):
        return [f"The repeats were stopped {where}; those that had ended count."]
    return [f"The student was stopped {where}; it is measured at its best by then."]


def _half_taught(result: Mapping[str, Any]) -> bool:
    """Whether the student itself was stopped before its time, and not one of its repeats."""
    stopped = result.get("stopped")
    return stopped is not None and stopped["in_student"]


def _against_chance(result: Mapping[str, Any]) -> list[str]:
    """Says that a student has learned nothing where one answer for all texts would be right as often."""
    confusion = result["student"].get("confusion")
    if confusion is None:
        return []
    counts = [sum(row) for row in confusion]
    share = max(counts) / sum(counts)
    if _reached(result) > share + NOTHING:
        return []
    answer = result["labels"][counts.index(max(counts))]
    return [f"The student has learned nothing of use: always answering “{answer}” is right for {_percent(share)} too."]


def _reached(result: Mapping[str, Any]) -> float:
    """The student's test accuracy, on the average of its seeds."""
    accuracy: float = (result.get("seeds") or {}).get("student", {}).get("mean", result["student"]["test_accuracy"])
    return accuracy


def _against_teacher(result: Mapping[str, Any]) -> str:
    teacher, student = result["teacher"], result["student"]
    sentence = f"The student keeps {_percent(result['retention'])} of its teacher's accuracy"
    if result["retention"] is None:
        sentence = "The teacher is never right on the test texts"
    elif result["retention"] >= 1.005:
        sentence = "The student is more accurate than its teacher"
    elif result["retention"] > 0.995:
        sentence = "The student is as accurate as its teacher"
    seeds = result.get("seeds")
    average = f" on the average of {seeds['count']} seeds" if seeds else ""
    chance = ", which may be chance" if _is_near(result) else ""
    accuracies = f"{_percent(_reached(result))} against {_percent(teacher['test_accuracy'])}{average}{chance}"
    if teacher["parameters"] is None:
        return f"{sentence} ({accuracies}), which is a file and cannot answer new texts."
    smaller = teacher["parameters"] / student["parameters"]
    faster = teacher["latency_ms"] / student["latency_ms"]
    return f"{sentence} ({accuracies}), {_size(smaller)}, and answers {_speed(faster)}."


def _is_near(result: Mapping[str, Any]) -> bool:
    """Whether student and teacher differ by no more than which texts were tested may account for."""
    apart, margin = abs(_reached(result) - result["teacher"]["test_accuracy"]), result.get("teacher_margin")
    return margin is not None and 0 < apart <= margin


def _size(smaller: float) -> str:
    if smaller >= 1.5:
        return f"at 1/{smaller:.0f} of the size" if smaller >= 9.5 else f"at 1/{smaller:.1f} of the size"
    return "at a similar size" if smaller > 0.67 else f"while {1 / smaller:.1f} times as large"


def _speed(faster: float) -> str:
    if faster >= 1.05:
        return f"{faster:.1f} times as fast"
    return "as fast" if faster > 0.95 else f"{1 / faster:.1f} times slower"


def _against_baseline(result: Mapping[str, Any]) -> list[str]:
    gain, margin = result["gain"], result["gain_margin"]
    if gain is None:
        return ["No baseline was trained, so nobody can say whether the teacher helped."]
    if _half_taught(result):
        return [
            f"Whether the teacher helped cannot be said: the same student alone learned to the end "
            f"({_percent(result['baseline']['test_accuracy'])})."
        ]
    points, spread = round(100 * gain, 1) + 0.0, f"±{100 * margin:.1f}{_chance(result)}"
    tested = result.get("sizes", {}).get("test", FEW_TEXTS)
    if tested < FEW_TEXTS:
        return [
            f"With {tested} test texts nobody can say whether the teacher helped: {points:+.1f} points against the "
            f"same student alone may be chance; {FEW_TEXTS} would be the least."
        ]
    if abs(gain) > margin and not _may_be_chance(result):
        if gain > 0:
            return [f"The teacher helped: {points:.1f} points better than the same student alone ({spread})."]
        return [f"The teacher harmed: {-points:.1f} points worse than the same student alone ({spread})."]
    return [
        f"The teacher made no difference that this test can show: {points:+.1f} points against the same student "
        f"alone ({spread})."
    ]


def _may_be_chance(result: Mapping[str, Any]) -> bool:
    """Whether the paired test over seeds leaves more than one chance in twenty that the gain is none."""
    p_value = (result.get("seeds") or {}).get("p_value")
    return p_value is not None and p_value >= SIGNIFICANT


def _chance(result: Mapping[str, Any]) -> str:
    """What the paired test over seeds says."""
    seeds = result.get("seeds")
    if not seeds or seeds.get("p_value") is None:
        return ""
    p_value = seeds["p_value"]
    chance = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
    return f"; paired t-test over {seeds['count']} seeds: {chance}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
