"""One run in this process: paused, taken by batches, stopped and kept, out of time, on a full disk."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill_core import steering
from distill_core.analysis.predict import Predictor
from distill_core.analysis.verdict import verdict
from distill_core.config import RunConfig
from distill_core.errors import DistillError, RunError
from distill_core.events import Epoch, Event, Paused, Resumed, RunInterrupted, StageStarted, Step
from distill_core.store import Store
from distill_core.training import loop
from distill_core.worker import work
from tests.runs import config_of, made_rows, write_csv


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return config_of(write_csv(tmp_path / "reviews.csv", made_rows(120)), "training.epochs=6", "student.dropout=0.2")


@pytest.fixture(autouse=True)
def every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill_core.events.Pace.due", lambda self: True)


def at(stage: str, step: int, action: Callable[[], None]) -> Callable[[Event], None]:
    """Listens to a run and does something once, at a step of a stage."""
    done: list[Event] = []

    def listen(event: Event) -> None:
        if isinstance(event, Step) and (event.stage, event.step) == (stage, step) and not done:
            done.append(event)
            action()

    return listen


def told(store: Store, run_id: str) -> list[Event]:
    return [event for _, event in store.read_events(run_id)[0]]


def steps_of(store: Store, run_id: str, stage: str) -> list[int]:
    return [event.step for event in told(store, run_id) if isinstance(event, Step) and event.stage == stage]


def test_a_student_that_is_stopped_is_tested_and_answers(store: Store, config: RunConfig) -> None:
    run_id = store.create_run(config)
    result = work(run_id, store, at("distil", 17, lambda: steering.ask(store, run_id, "keep")))
    assert result is not None
    assert store.status(run_id).status == "finished"
    steps = len(made_rows(120)) * 8 // 10 // 8 * 6
    assert result["stopped"] == {"stage": "distil", "step": 17, "steps": steps, "in_student": True}
    assert max(steps_of(store, run_id, "distil")) == 17
    said = verdict(result)
    assert said[0] == f"The student was stopped at step 17 of {steps}; it is measured at its best by then."
    assert said[-1].startswith("Whether the teacher helped cannot be said")
    answer = Predictor.load(store, run_id).predict(["a bright plot"])[0]
    assert sum(answer["student"].values()) == pytest.approx(1)


def test_repeats_that_are_stopped_leave_those_that_had_ended(store: Store, config: RunConfig) -> None:
    longer = config.model_copy(update={"training": config.training.model_copy(update={"seeds": 4})})
    run_id, ended = store.create_run(longer), set[int]()

    def listen(event: Event) -> None:
        if isinstance(event, Epoch) and event.role == "baseline" and event.seed == 2 and event.epoch == 1:
            steering.ask(store, run_id, "keep")
        if isinstance(event, Epoch) and event.role == "student" and event.epoch == 6:
            ended.add(event.seed or 0)

    result = work(run_id, store, listen)
    assert result is not None
    assert ended == {1}
    assert result["seeds"]["count"] == 2
    assert not result["stopped"]["in_student"]
    assert verdict(result)[0].startswith("The repeats were stopped at step")


@pytest.mark.parametrize("stage", ["finetune", "baseline"])
def test_there_is_nothing_to_keep_before_the_student_begins(store: Store, config: RunConfig, stage: str) -> None:
    run_id, refused = store.create_run(config), list[str]()

    def ask() -> None:
        with pytest.raises(RunError, match="run must have a student to keep") as caught:
            steering.ask(store, run_id, "keep")
        refused.append(str(caught.value))

    assert work(run_id, store, at(stage, 3, ask)) is not None
    assert refused


def test_steering_a_run_at_which_nothing_works_is_refused(store: Store, config: RunConfig) -> None:
    run_id = store.create_run(config)
    with pytest.raises(RunError, match=f"run must be at work to pause, got '{run_id}' which is queued; wait"):
        steering.ask(store, run_id, "pause")
    steering.discard(store, run_id)
    assert store.status(run_id).status == "cancelled"


def test_single_batches_are_shown_in_words_and_add_up(store: Store, config: RunConfig) -> None:
    run_id, seen = store.create_run(config), list[dict[str, Any]]()

    def listen(event: Event) -> None:
        if isinstance(event, Step) and event.stage == "distil":
            batch = store.batch(run_id)
            if batch is not None and batch["step"] == event.step - 1:
                seen.append(batch)
            steering.ask(store, run_id, "batch" if event.step < 6 else "run")

    work(run_id, store, listen)
    assert [batch["step"] for batch in seen] == [2, 3, 4, 5, 6]
    objective = config.objective
    for batch in seen:
        before = batch["before"]
        scale = batch["beta"] * objective.temperature**2
        assert before["total"] == pytest.approx(before["ce"] + scale * before["distance"], rel=1e-4)
        texts = batch["texts"]
        assert before["ce"] == pytest.approx(math.fsum(text["ce"] for text in texts) / len(texts), rel=1e-4)
        assert before["distance"] == pytest.approx(sum(text["distance"] for text in texts) / len(texts), rel=1e-3)
        assert batch["after"]["total"] != before["total"]
        for text in texts:
            assert text["tokens"][0] == "a"
            assert text["label"] in (0, 1)
            for role in ("teacher", "student", "student_after"):
                soft, logits = text[role]["soft"], text[role]["logits"]
                assert sum(soft) == pytest.approx(1)
                gap = (logits[0] - logits[1]) / objective.temperature
                assert math.log(soft[0] / soft[1]) == pytest.approx(gap, abs=1e-4)


def test_pausing_and_single_steps_change_nothing_of_the_outcome(store: Store, config: RunConfig) -> None:
    runs = [store.create_run(config) for _ in range(2)]
    plain = work(runs[0], store)

    def listen(event: Event) -> None:
        if isinstance(event, Step) and event.stage in ("baseline", "distil"):
            last = event.step == 72
            steering.ask(store, runs[1], "batch" if event.step % 7 and not last else "run")

    stepped = work(runs[1], store, listen)
    assert plain is not None
    assert stepped is not None
    weights = [(store.run_folder(run_id) / "student.safetensors").read_bytes() for run_id in runs]
    assert weights[0] == weights[1]
    assert plain["student"]["nll"] == stepped["student"]["nll"]
    assert plain["baseline"]["nll"] == stepped["baseline"]["nll"]


def test_a_pause_is_told_and_its_time_does_not_count(store: Store, config: RunConfig, monkeypatch: Any) -> None:
    run_id = store.create_run(config)
    looks = iter([*range(20)])
    monkeypatch.setattr("distill_core.control.time.sleep", lambda seconds: next(looks, None) or go_on())

    def go_on() -> None:
        assert store.status(run_id).status == "paused"
        store.ask(run_id, "run")

    work(run_id, store, at("distil", 4, lambda: steering.ask(store, run_id, "pause")))
    kinds = [type(event) for event in told(store, run_id)]
    assert kinds.count(Paused) == kinds.count(Resumed) == 1
    assert store.status(run_id).status == "finished"


def test_a_run_out_of_time_keeps_its_student(store: Store, config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = store.create_run(config)
    over = {"time": False}
    monkeypatch.setattr("distill_core.control.Control._over_time", lambda self: over["time"])
    result = work(run_id, store, at("distil", 9, lambda: over.update(time=True)))
    assert result is not None
    assert result["stopped"]["step"] == 9


def test_a_run_out_of_time_without_a_student_says_which_limit(store: Store, config: RunConfig) -> None:
    store.home.mkdir(parents=True)
    (store.home / "limits.json").write_text('{"training_minutes": 1e-6}')
    run_id = store.create_run(config)
    assert work(run_id, store) is None
    assert store.status(run_id).status == "interrupted"
    assert "training_minutes must not exceed" in (store.status(run_id).error or "")
    (store.home / "limits.json").unlink()
    assert work(run_id, store) is not None


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_interrupts_a_run(
    store: Store, config: RunConfig, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = store.create_run(config)

    def fail(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("distill_core.checkpoints.files.write_tensors", fail)
    assert work(run_id, store) is None
    assert store.status(run_id).status == "interrupted"
    assert "The disk is full" in (store.status(run_id).error or "")
    assert isinstance(told(store, run_id)[-1], RunInterrupted)
    monkeypatch.undo()
    assert work(run_id, store) is not None
    assert store.status(run_id).status == "finished"


def test_an_interrupted_run_goes_on_with_the_stages_it_had_done(
    store: Store, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = store.create_run(config)
    assert work(run_id, store, at("distil", 20, lambda: store.ask(run_id, "interrupt"))) is None
    before = len(told(store, run_id))
    store.ask(run_id, "run")
    result = work(run_id, store)
    later = told(store, run_id)[before:]
    assert next(event.stage for event in later if isinstance(event, Step) and event.loss is not None) == "distil"
    assert min(event.step for event in later if isinstance(event, Step) and event.stage == "distil") == 21
    assert not any(
        isinstance(event, StageStarted) and event.stage == "finetune" and not event.cached for event in later
    )
    assert result is not None
    assert all(result["seconds"][stage] > 0 for stage in ("finetune", "cache", "baseline", "distil", "test"))


def test_an_error_of_ours_fails_a_run_and_stays_loud(
    store: Store, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = store.create_run(config)
    monkeypatch.setattr(loop, "GRADIENT_NORM", None)
    with pytest.raises(Exception) as caught:  # noqa: PT011 (whatever PyTorch raises)
        work(run_id, store)
    assert not isinstance(caught.value, DistillError)
    assert store.status(run_id).status == "failed"
