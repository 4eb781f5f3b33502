"""Answers as HTML: no text or label is markup, all classes have one scale, of many the likeliest are shown."""

from __future__ import annotations

import re

from distill_core.analysis.softened import Distance, Softened
from pages import _answer_cards
from pages._voices import Voice

ENTRY = {"latency_ms": 1.5, "bytes": 2_000_000, "parameters": 500_000}
TEACHER = Voice("r", "teacher", "Teacher", "#0072B2", ENTRY)
STUDENT = Voice("r", "student", "Student", "#D55E00", ENTRY, "β 2")
ALONE = Voice("r", "baseline", "Student alone", "#7A7A7A", ENTRY)
OTHER = Voice("s", "student", "Student 12", "#E69F00", ENTRY, "β 5", True)


def soft(*shares: float) -> Softened:
    return Softened({f"c{number}": share for number, share in enumerate(shares)}, 0.5, 0.25)


def test_a_card_tells_answer_entropy_margin_time_and_size() -> None:
    shown = _answer_cards.cards([TEACHER], [soft(0.3, 0.7)], [None])
    for words in ("Teacher", "c1 70.0 %", "entropy 0.50 nats", "margin 25.0 points", "1.50 ms", "2.00 MB", "0.50 M"):
        assert words in shown
    assert "lab-middle" not in shown


def test_between_teacher_and_student_stand_both_distances_and_a_word() -> None:
    for kl, agree, word in ((0.01, True, "alike"), (0.01, False, "close"), (0.1, True, "close"), (0.5, False, "apart")):
        shown = _answer_cards.cards(
            [TEACHER, STUDENT], [soft(0.3, 0.7), soft(0.4, 0.6)], [None, Distance(kl, kl + 1, agree)]
        )
        assert f"<b>{word}</b>" in shown
        assert f"KL {kl:.3f} nats" in shown
        assert f"the other way {kl + 1:.3f}" in shown
        assert ("They agree." in shown) == agree


def test_a_further_student_tells_its_own_distance_and_what_sets_it_apart() -> None:
    distances = [None, Distance(0.1, 0.2, True), Distance(0.3, 0.4, False)]
    shown = _answer_cards.cards([TEACHER, STUDENT, OTHER], [soft(0.3, 0.7)] * 3, distances)
    assert "disagrees with the teacher · KL 0.300, the other way 0.400" in shown
    assert "<em>β 5</em>" in shown
    assert shown.count("lab-middle") == 1


def test_every_class_has_a_bar_of_each_model_on_one_scale() -> None:
    shown = _answer_cards.bars([TEACHER, ALONE], [soft(0.3, 0.7), soft(0.1, 0.9)], ["c0", "c1"])
    assert re.findall(r"width:([\d.]+)%", shown) == ["30.00", "10.00", "70.00", "90.00"]


def test_of_many_classes_the_likeliest_are_shown_in_their_order() -> None:
    answer = soft(*[0.001] * 10, 0.5, 0.4, *[0.001] * 8)
    labels = list(answer.probabilities)
    shown = re.findall(r'<div class="lab-class"><div>(\w+)</div>', _answer_cards.bars([TEACHER], [answer], labels))
    assert len(shown) == _answer_cards.SHOWN_CLASSES
    assert {"c10", "c11"} <= set(shown)
    assert shown == sorted(shown, key=labels.index)
    assert "12 less likely classes" in _answer_cards.bars([TEACHER], [answer], labels)


def test_models_that_share_a_kind_of_colour_differ_by_stripes() -> None:
    fills = [_answer_cards.fill(voice) for voice in (TEACHER, STUDENT, ALONE, OTHER)]
    assert len(set(fills)) == 4
    assert ["repeating" in one for one in fills] == [False, False, True, True]


def test_labels_and_notes_are_never_markup() -> None:
    label, voice = "<img src=x onerror=1>", Voice("r", "student", "Student", "#D55E00", ENTRY, "<b>note</b>")
    answer = Softened({label: 0.9, "other": 0.1}, 0.1, 0.8)
    shown = _answer_cards.cards([voice], [answer], [None]) + _answer_cards.bars([voice], [answer], [label, "other"])
    assert "<img" not in shown
    assert "<b>note" not in shown
