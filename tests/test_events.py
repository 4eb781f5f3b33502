"""Events: there and back through a line of JSON, at a pace, and folded into a history."""

from __future__ import annotations

import dataclasses
import json
import time
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_core.config import parse
from distill_core.events import (
    STAGES,
    Epoch,
    Event,
    History,
    Pace,
    Paused,
    Resumed,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunInterrupted,
    RunStarted,
    StageFinished,
    StageStarted,
    Step,
    Warned,
    decode,
    encode,
    stages_of,
)
from distill_core.presets import PRESETS

KINDS: tuple[type[Event], ...] = get_args(Event)
NAMES = {
    RunStarted: "run_started",
    StageStarted: "stage_started",
    Step: "step",
    Epoch: "epoch",
    StageFinished: "stage_finished",
    Warned: "warning",
    RunFinished: "run_finished",
    RunFailed: "run_failed",
    RunCancelled: "run_cancelled",
    Paused: "paused",
    Resumed: "resumed",
    RunInterrupted: "run_interrupted",
}
finite = st.floats(allow_nan=False)
values_by_type: dict[str, st.SearchStrategy[Any]] = {
    "str": st.text(),
    "int": st.integers(),
    "bool": st.booleans(),
    "float": finite,
    "float | None": st.none() | finite,
    "str | None": st.none() | st.text(),
    "int | None": st.none() | st.integers(),
    "tuple[str, ...]": st.lists(st.text(), max_size=4).map(tuple),
}


def events_of(kind: type[Event]) -> st.SearchStrategy[Event]:
    fields = {field.name: values_by_type[str(field.type)] for field in dataclasses.fields(kind)}
    return st.builds(kind, **fields)


every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
any_event = st.one_of([events_of(kind) for kind in KINDS])


@every_kind
@given(data=st.data())
def test_every_kind_of_event_survives_its_line(kind: type[Event], data: st.DataObject) -> None:
    event = data.draw(events_of(kind))
    line = encode(event)
    decoded = decode(line)
    assert "\n" not in line
    assert decoded is not None
    assert decoded[1] == event
    assert type(decoded[1]) is kind


@every_kind
@given(data=st.data())
def test_a_line_names_its_kind_and_time_beside_the_fields(kind: type[Event], data: st.DataObject) -> None:
    event = data.draw(events_of(kind))
    values = json.loads(encode(event))
    assert values["event"] == NAMES[kind]
    assert values["time"] == pytest.approx(time.time(), abs=60)
    assert set(values) == {"event", "time", *(field.name for field in dataclasses.fields(kind))}


def test_the_time_of_a_line_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill_core.events.time", SimpleNamespace(time=lambda: 1234.56789))
    assert decode(encode(RunFinished())) == (1234.568, RunFinished())


@given(event=any_event, share=st.floats(0, 1, exclude_max=True))
def test_a_torn_line_is_no_event(event: Event, share: float) -> None:
    line = encode(event)
    assert decode(line[: int(share * len(line))]) is None


@given(event=any_event, share=st.floats(0, 1, exclude_min=True))
def test_the_rest_of_a_torn_line_is_no_event(event: Event, share: float) -> None:
    line = encode(event)
    assert decode(line[max(int(share * len(line)), 1) :]) is None


@pytest.mark.parametrize(
    "line",
    [
        "",
        "null",
        "3",
        "[]",
        '"step"',
        "{}",
        '{"event": "run_finished"}',
        '{"time": 1.0}',
        '{"event": "run_finished", "time": "noon"}',
        '{"event": "run_finished", "time": null}',
        '{"event": "coffee_break", "time": 1.0}',
        '{"event": ["step"], "time": 1.0}',
        '{"event": "run_failed", "time": 1.0}',
        '{"event": "run_finished", "time": 1.0, "from": "a later version"}',
        "Traceback (most recent call last):",
    ],
)
def test_an_unknown_line_is_no_event(line: str) -> None:
    assert decode(line) is None


@given(line=st.text())
def test_no_line_of_text_breaks_a_reader(line: str) -> None:
    assert decode(line) is None


# Stages


FILE = {"data": {"name": "csv", "path": "reviews.csv"}, "teacher": {"kind": "file"}}
USUAL = ("pretrain", "finetune", "cache", "baseline", "distil", "test")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, USUAL),
        ({"teacher": {"pretrain": False}}, ("finetune", "cache", "baseline", "distil", "test")),
        ({"training": {"baseline": False}}, ("pretrain", "finetune", "cache", "distil", "test")),
        (
            {"teacher": {"pretrain": False}, "training": {"baseline": False}},
            ("finetune", "cache", "distil", "test"),
        ),
        ({"objective": {"mode": "joint"}}, USUAL),
        ({"data": {"name": "bbc_news"}}, USUAL),
        ({"data": {"name": "csv", "path": "reviews.csv"}}, USUAL),
        ({"data": {"name": "imdb"}}, ("read", *USUAL)),
        ({"data": {"name": "hf:ag_news"}}, ("read", *USUAL)),
        ({"teacher": {"kind": "pretrained"}}, ("finetune", "cache", "baseline", "distil", "test")),
        ({"teacher": {"kind": "pretrained", "pretrain": True}}, ("finetune", "cache", "baseline", "distil", "test")),
        ({"teacher": {"kind": "pretrained", "frozen": True}}, ("finetune", "cache", "baseline", "distil", "test")),
        (FILE, ("baseline", "distil", "test")),
        ({**FILE, "training": {"transfer": True}}, ("baseline", "distil", "test")),
        ({**FILE, "training": {"assistant": "S", "baseline": False}}, ("assistant", "distil", "test")),
        (
            {"training": {"transfer": True}},
            ("pretrain", "finetune", "cache", "transfer", "baseline", "distil", "test"),
        ),
        ({"training": {"augment": 1}}, ("pretrain", "finetune", "cache", "transfer", "baseline", "distil", "test")),
        (
            {"training": {"assistant": "XS"}},
            ("pretrain", "finetune", "cache", "assistant", "baseline", "distil", "test"),
        ),
        ({"training": {"seeds": 2}}, ("pretrain", "finetune", "cache", "baseline", "distil", "repeat", "test")),
        (
            {"training": {"seeds": 2, "baseline": False}},
            ("pretrain", "finetune", "cache", "distil", "repeat", "test"),
        ),
        ({"student": {"word_vectors": "glove"}}, USUAL),
        ({"student": {"like_teacher": True}}, USUAL),
        (
            {"student": {"word_vectors": "teacher"}},
            ("pretrain", "finetune", "cache", "words", "baseline", "distil", "test"),
        ),
        (
            {"teacher": {"kind": "pretrained"}, "student": {"word_vectors": "teacher"}},
            ("finetune", "cache", "words", "baseline", "distil", "test"),
        ),
        (
            {
                "data": {"name": "imdb"},
                "teacher": {"kind": "pretrained"},
                "student": {"word_vectors": "teacher"},
                "training": {"transfer": True, "augment": 2, "assistant": "S", "seeds": 3},
            },
            ("read", "finetune", "cache", "transfer", "words", "assistant", "baseline", "distil", "repeat", "test"),
        ),
    ],
)
def test_a_configuration_decides_which_stages_there_are(values: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert stages_of(parse(values)) == expected


def test_stages_are_in_the_order_in_which_a_run_goes_through_them() -> None:
    assert STAGES == (
        "read",
        "pretrain",
        "finetune",
        "cache",
        "transfer",
        "words",
        "assistant",
        "baseline",
        "distil",
        "repeat",
        "test",
    )


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_ends_with_the_student_and_the_test(name: str) -> None:
    stages = stages_of(PRESETS[name].config)
    assert stages[-2:] == ("distil", "test")
    assert list(stages) == [stage for stage in STAGES if stage in stages]


# Pace


@given(waits=st.lists(st.floats(0, 0.3), min_size=1, max_size=200))
def test_pace_lets_at_most_ten_events_a_second_through(waits: list[float]) -> None:
    pace, now, sent = Pace(), 50.0, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill_core.events.time", SimpleNamespace(monotonic=lambda: now))
        for wait in waits:
            now += wait
            if pace.due():
                sent.append(now)
    assert sent[0] == 50.0 + waits[0], "the first goes out at once"
    assert max(sum(1 for other in sent if start <= other < start + 1) for start in sent) <= 10


def test_pace_lets_the_next_event_through_after_a_tenth_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=10.0)
    monkeypatch.setattr("distill_core.events.time", SimpleNamespace(monotonic=lambda: clock.now))
    pace, answers = Pace(), []
    for clock.now in (10.0, 10.05, 10.0999, 10.11, 10.2, 10.22, 99.0, 99.0):
        answers.append(pace.due())
    assert answers == [True, False, False, True, False, True, True, False]


# History

STEPS = [Step("finetune", number, 8 * number, 0.7, None, 0.7 - number / 10, 1e-3) for number in (1, 2, 3)]
STARTED = RunStarted("run", ("finetune", "cache"), "cpu", "float32")


def test_an_empty_history_knows_nothing() -> None:
    history = History()
    assert (history.stages, history.progress, history.warnings, history.current) == ((), {}, [], None)


def test_history_folds_events_by_stage() -> None:
    history = History()
    epoch = Epoch("finetune", 1, "val", 0.75, 0.5)
    history.feed([(1.0, STARTED), (2.0, StageStarted("finetune", 10)), (3.0, STEPS[0]), (4.0, STEPS[1])])
    assert (history.stages, history.device, history.precision) == (("finetune", "cache"), "cpu", "float32")
    assert history.current == "finetune"
    stage = history.progress["finetune"]
    assert (stage.steps, stage.started, stage.done, stage.updated, stage.fraction) == (10, 2.0, 2, 4.0, 0.2)
    assert not stage.finished
    history.feed([(5.0, epoch), (6.0, StageFinished("finetune", 4.5, 0.75)), (6.5, Warned("slow"))])
    assert stage.curve == STEPS[:2]
    assert stage.epochs == [epoch]
    assert (stage.seconds, stage.accuracy, stage.finished, stage.fraction) == (4.5, 0.75, True, 1.0)
    assert history.warnings == ["slow"]
    assert history.current is None


def test_history_tells_cached_stages_from_worked_ones() -> None:
    history = History()
    history.feed([(1.0, StageStarted("cache", 0, cached=True)), (1.0, StageFinished("cache", 0.0))])
    assert history.progress["cache"].cached
    assert history.progress["cache"].fraction == 1.0
    history.feed([(2.0, StageStarted("distil", 5))])
    assert not history.progress["distil"].cached
    assert history.current == "distil"


def test_a_stage_without_steps_is_at_its_beginning() -> None:
    history = History()
    history.feed([(1.0, StageStarted("cache", 0))])
    assert history.progress["cache"].fraction == 0.0


def test_steps_without_a_loss_move_the_stage_and_draw_no_curve() -> None:
    history = History()
    history.feed([(1.0, StageStarted("cache", 4)), (2.0, Step("cache", 3, 768, None, None, None, None))])
    assert history.progress["cache"].fraction == 0.75
    assert history.progress["cache"].curve == []


def test_events_of_a_stage_that_never_began_are_ignored() -> None:
    history = History()
    history.feed([(1.0, STEPS[0]), (2.0, Epoch("finetune", 1, "val", 0.5, 0.6)), (3.0, StageFinished("finetune", 1.0))])
    assert history.progress == {}


def test_epochs_of_a_stage_to_come_are_its_own_once_it_begins() -> None:
    history, ahead = History(), Epoch("repeat", 1, "val", 0.5, 0.6, role="student", seed=3)
    history.feed([(1.0, StageStarted("distil", 9)), (2.0, ahead), (2.5, ahead)])
    assert list(history.progress) == ["distil"]
    copy = history.copy()
    for known in (history, copy):
        known.feed([(3.0, StageStarted("repeat", 9))])
        assert known.progress["repeat"].epochs == [ahead]


@pytest.mark.parametrize("end", [RunFinished(), RunFailed("out of memory"), RunCancelled()])
def test_the_end_of_a_run_leaves_what_was_reported(end: Event) -> None:
    history = History()
    history.feed([(1.0, STARTED), (2.0, StageStarted("finetune", 10)), (3.0, STEPS[0]), (4.0, end)])
    assert history.progress["finetune"].done == 1


@given(cut=st.integers(0, 7))
def test_history_is_the_same_however_its_events_arrive(cut: int) -> None:
    events: list[tuple[float, Event]] = [
        (1.0, STARTED),
        (2.0, StageStarted("finetune", 3)),
        *((3.0 + row, step) for row, step in enumerate(STEPS)),
        (7.0, StageFinished("finetune", 5.0, 0.5)),
        (8.0, Warned("odd")),
    ]
    whole, parts = History(), History()
    whole.feed(events)
    parts.feed(events[:cut])
    parts.feed(events[cut:])
    assert parts == whole


def test_lines_of_the_version_before_can_still_be_read() -> None:
    step = '{"event": "step", "time": 1.0, "stage": "distil", "step": 3, "examples": 24, "ce": 0.7, "kl": 0.1, '
    epoch = '{"event": "epoch", "time": 2.0, "stage": "distil", "epoch": 1, "split": "val", "accuracy": 0.5, "ce": 0.6}'
    assert decode(step + '"loss": 0.9, "lr": 0.001}') == (1.0, Step("distil", 3, 24, 0.7, 0.1, 0.9, 0.001))
    assert decode(epoch) == (2.0, Epoch("distil", 1, "val", 0.5, 0.6))


def told(*events: tuple[float, Event]) -> History:
    history = History()
    history.feed(events)
    return history


def taken(number: int, loss: float = 1.0) -> Step:
    return Step("distil", number, 8 * number, loss, 0.5, loss, 0.1)


def begun() -> RunStarted:
    return RunStarted("a", ("distil", "test"), "cpu", "float32")


def test_steps_taken_again_after_an_interruption_replace_those_that_were_lost() -> None:
    history = told(
        (0, begun()),
        (1, StageStarted("distil", 10)),
        *((number, taken(number, 9.0)) for number in (1, 2, 3, 4, 5)),
        (6, Epoch("distil", 1, "val", 0.5, 1.0)),
        (90, RunInterrupted("gone")),
        (100, begun()),
        (101, StageStarted("distil", 10)),
        (102, taken(4, 2.0)),
        (103, taken(5, 2.0)),
        (104, Epoch("distil", 1, "val", 0.6, 1.0)),
        (105, taken(6, 2.0)),
    )
    progress = history.progress["distil"]
    assert [(step.step, step.loss) for step in progress.curve] == [(1, 9), (2, 9), (3, 9), (4, 2), (5, 2), (6, 2)]
    assert [(epoch.epoch, epoch.accuracy) for epoch in progress.epochs] == [(1, 0.6)]
    assert progress.updated - progress.started == pytest.approx(10.0), "the time between is left out"


def test_a_stage_that_was_done_before_an_interruption_stays_as_it_was() -> None:
    history = told(
        (0, begun()),
        (1, StageStarted("distil", 3)),
        (2, taken(3)),
        (3, StageFinished("distil", 2.0, 0.7)),
        (9, begun()),
        (9, StageStarted("distil", 0, cached=True)),
        (9, StageFinished("distil", 0.0, None)),
    )
    progress = history.progress["distil"]
    assert (progress.seconds, progress.accuracy, progress.steps, progress.cached) == (2.0, 0.7, 3, False)
    assert len(progress.curve) == 1


def test_the_time_of_a_pause_is_left_out() -> None:
    history = told((0, begun()), (1, StageStarted("distil", 9)), (2, taken(1)), (3, Paused()))
    assert history.paused
    history.feed([(63, Resumed()), (64, taken(2))])
    assert not history.paused
    progress = history.progress["distil"]
    assert progress.updated - progress.started == pytest.approx(3.0)


@pytest.mark.parametrize("end", [RunFinished(), RunFailed("no"), RunCancelled(), RunInterrupted("gone")])
def test_a_run_that_has_ended_is_not_paused(end: Event) -> None:
    assert not told((0, begun()), (1, Paused()), (2, end)).paused


def test_a_copy_does_not_change_with_further_events() -> None:
    history = told((0, begun()), (1, StageStarted("distil", 9)), (2, taken(1)))
    copy = history.copy()
    history.feed([(3, taken(2)), (4, Epoch("distil", 1, "val", 0.5, 1.0)), (5, Warned("hm"))])
    assert [step.step for step in copy.progress["distil"].curve] == [1]
    assert (copy.progress["distil"].epochs, copy.warnings, copy.progress["distil"].done) == ([], [], 1)
    assert len(history.progress["distil"].curve) == 2


def test_a_clock_that_is_set_back_does_not_turn_time_around() -> None:
    history = told((1000, begun()), (1001, StageStarted("distil", 9)), (1011, taken(1)), (20, taken(2)), (25, taken(3)))
    progress = history.progress["distil"]
    assert progress.updated - progress.started == pytest.approx(15.0)
    assert history.worked == pytest.approx(15.0)


def test_a_baseline_that_comes_late_stands_behind_the_student() -> None:
    history, stages = History(), ("cache", "baseline", "distil", "test")
    orders = [history.in_order(stages)]
    for when, event in enumerate(
        [StageStarted("cache", 1), StageFinished("cache", 1.0), StageStarted("distil", 9), StageStarted("baseline", 9)]
    ):
        history.feed([(float(when), event)])
        orders.append(history.in_order(stages))
    assert orders[0] == orders[2] == list(stages)
    assert orders[3] == orders[4] == ["cache", "distil", "baseline", "test"]
    assert history.current == "baseline", "the run was killed in its student and began again with its baseline"
    history.feed([(9.0, StageFinished("baseline", 1.0))])
    assert history.current == "distil"
