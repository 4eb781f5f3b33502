"""A training that goes on from a checkpoint takes the steps that it would have taken; and slow motion changes none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from distill_core import checkpoints as room
from distill_core.checkpoints import RunCheckpoints
from distill_core.control import Control, Wish
from distill_core.data.batches import Batch
from distill_core.device import Compute
from distill_core.errors import Interrupted
from distill_core.events import Event, Pace, StageFinished
from distill_core.training.context import Context
from distill_core.training.loop import fit
from distill_core.training.reading import Score
from distill_core.training.terms import Terms

EPOCHS, STEPS = 3, 4


class Killed(BaseException):
    """What no code of ours can save anything from."""


@dataclass
class Lesson:
    """A small network with dropout under Adam, with a warm-up and, if asked for, averaged weights."""

    folder: Path
    control: Control = field(default_factory=Control)
    average: bool = False
    seen: list[dict[str, Any]] = field(default_factory=list)
    reported: list[Event] = field(default_factory=list)

    def run(self) -> tuple[Score, dict[str, Tensor]]:
        torch.manual_seed(7)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.4), nn.Linear(8, 2))
        context = Context(
            Compute(torch.device("cpu"), "float32"),
            self.reported.append,
            self.control,
            Pace(0.0),
            RunCheckpoints.of(self.folder, "code", self.control.clock),
        )

        def loss(batch: Batch, done: float) -> Terms:
            logits_BC = model(batch.tokens_BT.float())
            ce = F.cross_entropy(logits_BC, batch.labels_B) * (1 + done)
            return Terms(ce, ce, student_BC=logits_BC)

        def score() -> Score:
            with torch.no_grad():
                value = -float(F.cross_entropy(model(torch.eye(4)), torch.tensor([0, 1, 0, 1])))
            return Score(value, -value, None)

        with context.stage("lesson", EPOCHS * STEPS):
            reached = fit(
                "lesson",
                model,
                batches=batches,
                steps_per_epoch=STEPS,
                loss=loss,
                score=score,
                epochs=EPOCHS,
                optimizer=torch.optim.AdamW(
                    [{"params": model[0].parameters(), "lr": 0.05}, {"params": model[3].parameters(), "lr": 0.2}]
                ),
                seed=3,
                context=context,
                warmup=0.2,
                average=self.average,
                explain=lambda batch, before, after, done: {
                    "before": before.loss.item(),
                    "after": after.loss.item(),
                },
            )
        return reached, {name: value.clone() for name, value in model.state_dict().items()}


def batches(order: torch.Generator) -> Iterator[Batch]:
    for number in torch.randperm(STEPS, generator=order).tolist():
        texts = torch.tensor([[number, 1, 2, 3], [3, number, 0, 1]])
        yield Batch(texts[:, 0], texts, torch.tensor([4, 4]), torch.tensor([number % 2, 1]))


def stopping_after(calls: int, error: type[BaseException]) -> Control:
    """Raises at one of the looks that a training takes before its batches."""
    left = iter(range(calls))

    def heed() -> None:
        if next(left, None) is None:
            raise error

    return Control(heed=heed)


def equal(one: tuple[Score, dict[str, Tensor]], other: tuple[Score, dict[str, Tensor]]) -> bool:
    return one[0] == other[0] and all(torch.equal(one[1][name], other[1][name]) for name in one[1])


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("calls", range(EPOCHS * STEPS))
def test_an_interrupted_training_goes_on_exactly_at_every_step(tmp_path: Path, calls: int, average: bool) -> None:
    undisturbed = Lesson(tmp_path / "undisturbed", average=average).run()
    with pytest.raises(Interrupted):
        Lesson(tmp_path / "it", stopping_after(calls, Interrupted), average).run()
    lesson = Lesson(tmp_path / "it", average=average)
    assert equal(lesson.run(), undisturbed)
    steps = [event for event in lesson.reported if type(event).__name__ == "Step"]
    assert len(steps) == EPOCHS * STEPS - calls, "no step is taken twice"


@settings(max_examples=15)
@given(kills=st.lists(st.integers(0, EPOCHS * STEPS - 1), max_size=5), due=st.lists(st.booleans(), min_size=1))
def test_a_killed_training_goes_on_exactly_from_its_last_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, kills: list[int], due: list[bool]
) -> None:
    folder = tmp_path_factory.mktemp("kills")
    undisturbed = Lesson(folder / "undisturbed").run()
    with pytest.MonkeyPatch.context() as patched:
        answers = iter(due * 100)
        patched.setattr(RunCheckpoints, "due", lambda self: next(answers))
        for calls in kills:
            try:
                Lesson(folder / "it", stopping_after(calls, Killed)).run()
            except Killed:
                continue
        assert equal(Lesson(folder / "it").run(), undisturbed)


def test_a_finished_training_is_not_taken_again(tmp_path: Path) -> None:
    first = Lesson(tmp_path / "it").run()
    again = Lesson(tmp_path / "it", stopping_after(0, Killed))
    assert equal(again.run(), first)


def test_slow_motion_changes_nothing_and_says_what_the_update_did(tmp_path: Path) -> None:
    undisturbed = Lesson(tmp_path / "undisturbed").run()
    wishes = iter(range(1, 1000))
    lesson = Lesson(tmp_path / "it", Control(lambda: Wish(next(wishes), "batch")))
    lesson.control.show = lambda batch: lesson.seen.append(dict(batch))
    assert equal(lesson.run(), undisturbed)
    assert [batch["step"] for batch in lesson.seen] == list(range(1, EPOCHS * STEPS + 1))
    assert all(batch["before"] != batch["after"] for batch in lesson.seen[1:]), "the first rate of a warm-up is 0"
    assert lesson.seen[0]["before"] == lesson.seen[0]["after"], "with the same dropout and no update"


def test_a_training_that_is_stopped_keeps_what_it_has_reached(tmp_path: Path) -> None:
    control = Control(lambda: Wish(1, "keep" if control.keeps else "run"))
    left = iter(range(STEPS + 2))
    control._heed = lambda: setattr(control, "keeps", next(left, None) is None)
    Lesson(tmp_path / "it", control).run()
    assert control.stopped is not None
    assert (control.stopped.stage, control.stopped.step, control.stopped.steps) == ("lesson", STEPS + 2, EPOCHS * STEPS)
    resumed = Control()
    Lesson(tmp_path / "it", resumed).run()
    assert resumed.stopped == control.stopped, "also after an interruption it is told to have been stopped"


@pytest.mark.parametrize("damage", [b"", b"torn", b"\xff" * 400])
def test_a_checkpoint_that_cannot_be_read_counts_as_none(tmp_path: Path, damage: bytes) -> None:
    undisturbed = Lesson(tmp_path / "undisturbed").run()
    with pytest.raises(Interrupted):
        Lesson(tmp_path / "it", stopping_after(6, Interrupted)).run()
    (tmp_path / "it" / "lesson.safetensors").write_bytes(damage)
    (tmp_path / "it" / "stages.json").write_bytes(damage)
    assert equal(Lesson(tmp_path / "it").run(), undisturbed)


def test_checkpoints_of_other_code_are_not_used(tmp_path: Path) -> None:
    RunCheckpoints.of(tmp_path / "it", "old").save("lesson", {"a": torch.ones(1)}, {})
    assert RunCheckpoints.of(tmp_path / "it", "old").load("lesson") is not None
    assert RunCheckpoints.of(tmp_path / "it", "new").load("lesson") is None


def test_a_part_of_a_run_has_checkpoints_of_its_own(tmp_path: Path) -> None:
    whole = RunCheckpoints.of(tmp_path / "it", "code")
    whole.within("seed-1").save("distil", {"a": torch.ones(1)}, {"of": "seed 1"})
    assert whole.load("distil") is None
    found = RunCheckpoints.of(tmp_path / "it", "code").within("seed-1").load("distil")
    assert found is not None
    assert found[1] == {"of": "seed 1"}


def test_the_time_of_a_stage_adds_up_over_interruptions(tmp_path: Path) -> None:
    hands = {"now": 100.0}
    first = RunCheckpoints.of(tmp_path / "it", "code", lambda: hands["now"])
    first.begin("distil", 100.0)
    hands["now"] = 107.0
    first.save("distil", {"a": torch.ones(1)}, {})
    hands["now"] = 500.0
    second = RunCheckpoints.of(tmp_path / "it", "code", lambda: hands["now"])
    assert second.begin("distil", 500.0) == 7.0
    second.finish(9.0)
    assert json.loads((tmp_path / "it" / "stages.json").read_text())["seconds"] == {"distil": 9.0}


def test_a_checkpoint_is_due_a_minute_after_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = RunCheckpoints.of(tmp_path / "it", "code")
    assert not checkpoints.due()
    monkeypatch.setattr(room, "INTERVAL", 0.0)
    assert checkpoints.due()


def test_a_stage_reports_the_time_of_all_its_parts(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        Lesson(tmp_path / "it", stopping_after(6, Interrupted)).run()
    ledger = RunCheckpoints.of(tmp_path / "it", "code").ledger
    ledger.seconds["lesson"] = 50.0
    ledger.write()
    lesson = Lesson(tmp_path / "it")
    lesson.run()
    finished = next(event for event in lesson.reported if isinstance(event, StageFinished))
    assert 50.0 < finished.seconds < 60.0
