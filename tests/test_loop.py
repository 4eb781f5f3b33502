"""The training loop: the best epoch is kept, chance is seeded, and somebody is told at a bearable pace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill_core.config import ModelConfig
from distill_core.control import Control
from distill_core.data.batches import Batch, EncodedDataset, EncodedTexts
from distill_core.errors import Cancelled
from distill_core.events import Epoch, Event, Pace, StageFinished, StageStarted, Step
from distill_core.models import classifier
from distill_core.training import loop, reading
from distill_core.training.context import Context
from distill_core.training.loop import fit
from distill_core.training.reading import Score, logits_of, outputs_of, reading_rows, score_of, validation_score
from distill_core.training.terms import Terms


@dataclass
class Lesson:
    """A model with two weights and some dropout, trained on made batches under scripted scores."""

    context: Context
    epochs: int = 3
    steps: int = 4
    seed: int = 0
    learning_rate: float = 0.1
    scores: list[float] = field(default_factory=lambda: [0.0] * 100)
    scale: float = 1.0
    warmup: float = 0.0
    average: bool = False
    first_step: int = 0

    def __post_init__(self) -> None:
        self.model = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 1, bias=False))
        nn.init.ones_(self.model[1].weight)
        self.drawn: list[list[int]] = []
        self.weights_at_score: list[Tensor] = []
        self.in_training_at_score: list[bool] = []
        self.weights_at_step: list[Tensor] = []
        self.parts_done: list[float] = []

    @property
    def weight(self) -> Tensor:
        return self.model[1].weight.detach().clone()

    def run(self) -> Score:
        return fit(
            "lesson",
            self.model,
            batches=self._batches,
            steps_per_epoch=self.steps,
            loss=self._loss,
            score=self._score,
            epochs=self.epochs,
            optimizer=torch.optim.Adam(self.model.parameters(), self.learning_rate),
            seed=self.seed,
            context=self.context,
            warmup=self.warmup,
            average=self.average,
            first_step=self.first_step,
        )

    def _batches(self, generator: torch.Generator) -> Iterator[Batch]:
        order = torch.randperm(self.steps, generator=generator)
        self.drawn.append(order.tolist())
        for number in order.tolist():
            ids = torch.tensor([number, number])
            yield Batch(ids, torch.ones(2, 1, dtype=torch.long), torch.ones(2, dtype=torch.long), ids)

    def _loss(self, batch: Batch, done: float) -> Terms:
        self.weights_at_step.append(self.weight)
        self.parts_done.append(done)
        loss = self.scale * self.model(torch.ones(2, 2) + batch.ids_B[:, None]).square().mean()
        return Terms(loss, loss)

    def _score(self) -> Score:
        self.in_training_at_score.append(self.model.training)
        self.weights_at_score.append(self.weight)
        value = self.scores[len(self.weights_at_score) - 1]
        return Score(value, 1 - value, value)


def steps_of(reported: list[Event]) -> list[Step]:
    return [event for event in reported if isinstance(event, Step)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands still until a test moves it."""
    hands = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("distill_core.events.time", SimpleNamespace(monotonic=lambda: hands.now))
    return hands


@pytest.mark.parametrize(
    ("scores", "best"),
    [([0.2, 0.9, 0.5], 1), ([0.9, 0.2, 0.5], 0), ([0.1, 0.2, 0.3], 2), ([-9.0, -7.0, -8.0], 1), ([0.5, 0.5, 0.4], 0)],
)
def test_fit_keeps_the_weights_of_the_best_epoch(context: Context, scores: list[float], best: int) -> None:
    lesson = Lesson(context, scores=scores)
    assert lesson.run().value == scores[best]
    assert torch.equal(lesson.weight, lesson.weights_at_score[best])
    others = [weights for epoch, weights in enumerate(lesson.weights_at_score) if epoch != best]
    assert all(not torch.equal(lesson.weight, weights) for weights in others)


def test_fit_scores_and_leaves_the_model_in_evaluation_mode(context: Context) -> None:
    lesson = Lesson(context)
    lesson.run()
    assert lesson.in_training_at_score == [False] * 3
    assert not lesson.model.training


def test_fit_is_the_same_for_a_seed_whatever_came_before(context: Context) -> None:
    weights, orders = [], []
    for waste in (1, 7):
        torch.manual_seed(waste)
        torch.rand(waste)
        lesson = Lesson(context, seed=11)
        lesson.run()
        weights.append(lesson.weights_at_score)
        orders.append(lesson.drawn)
    assert orders[0] == orders[1]
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


def test_the_seed_decides_the_order_of_batches_and_the_dropout(context: Context) -> None:
    ordered = [Lesson(context, seed=seed, steps=8) for seed in (0, 1)]
    single = [Lesson(context, seed=seed, steps=1, epochs=8) for seed in (0, 1)]
    for lesson in (*ordered, *single):
        lesson.run()
    assert ordered[0].drawn != ordered[1].drawn
    assert not torch.equal(single[0].weights_at_score[-1], single[1].weights_at_score[-1])


def test_each_epoch_draws_a_new_order(context: Context) -> None:
    lesson = Lesson(context, steps=10, epochs=2)
    lesson.run()
    assert lesson.drawn[0] != lesson.drawn[1]


def test_check_is_called_before_each_batch(context: Context) -> None:
    calls: list[int] = []
    lesson = Lesson(context)
    lesson.context = replace(context, control=Control(heed=lambda: calls.append(len(lesson.weights_at_step))))
    lesson.run()
    assert calls == list(range(12))


def test_cancelled_ends_training_before_the_next_step(context: Context) -> None:
    def check() -> None:
        if len(lesson.weights_at_step) == 5:
            raise Cancelled

    lesson = Lesson(replace(context, control=Control(heed=check)))
    with pytest.raises(Cancelled):
        lesson.run()
    assert len(lesson.weights_at_step) == 5
    assert len(lesson.weights_at_score) == 1


def test_learning_rate_falls_linearly(context: Context, reported: list[Event]) -> None:
    Lesson(context, learning_rate=0.3, epochs=2, steps=5).run()
    expected = [0.3 * (1 - step / 10) for step in range(10)]
    assert [step.lr for step in steps_of(reported)] == pytest.approx(expected)


def test_the_falling_learning_rate_reaches_the_weights(context: Context) -> None:
    """Adam's step is at most about the learning rate, so late steps must be short."""
    lesson = Lesson(context, learning_rate=0.01, epochs=1, steps=50)
    lesson.model[0].p = 0.0
    nn.init.constant_(lesson.model[1].weight, 100.0)
    lesson.run()
    moved = torch.stack(lesson.weights_at_step).diff(dim=0).abs().amax(dim=(1, 2))
    assert float(moved[0]) == pytest.approx(0.01, rel=0.01)
    assert float(moved[24]) == pytest.approx(0.005, rel=0.2)
    assert float(moved[-1]) < 0.001


@pytest.mark.parametrize("warmup", [0.1, 0.5, 0.25])
def test_learning_rate_rises_from_zero_in_the_warm_up_and_then_falls_to_zero(
    context: Context, reported: list[Event], warmup: float
) -> None:
    Lesson(context, learning_rate=0.3, epochs=2, steps=20, warmup=warmup).run()
    rates = [step.lr for step in steps_of(reported)]
    top = round(warmup * 40)
    expected = [0.3 * step / top for step in range(top)] + [0.3 * (40 - step) / (40 - top) for step in range(top, 40)]
    assert rates == pytest.approx(expected)
    assert rates[0] == 0.0
    assert max(rates) == pytest.approx(0.3)


def test_each_group_of_an_optimizer_keeps_its_share_of_the_learning_rate(context: Context) -> None:
    model = nn.Linear(2, 1)
    groups = [{"params": [model.weight], "lr": 0.1}, {"params": [model.bias], "lr": 0.01}]
    optimizer, seen = torch.optim.SGD(groups), []

    def loss(batch: Batch, done: float) -> Terms:
        seen.append([group["lr"] for group in optimizer.param_groups])
        value = model(torch.ones(1, 2)).sum()
        return Terms(value, value)

    batch = Batch(*(torch.ones(1, dtype=torch.long) for _ in range(4)))
    fit(
        "lesson",
        model,
        batches=lambda generator: iter([batch] * 4),
        steps_per_epoch=4,
        loss=loss,
        score=lambda: Score(0, 0),
        epochs=1,
        optimizer=optimizer,
        seed=0,
        context=context,
    )
    assert seen == [pytest.approx([0.1 * part, 0.01 * part]) for part in (1, 0.75, 0.5, 0.25)]
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0, 0])


def test_fit_uses_the_optimizer_that_it_is_given(context: Context) -> None:
    """SGD's first step is the learning rate times the gradient, Adam's the learning rate alone."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)

    def loss(batch: Batch, done: float) -> Terms:
        value = 3 * model(torch.ones(1, 1)).sum()
        return Terms(value, value)

    batch = Batch(*(torch.ones(1, dtype=torch.long) for _ in range(4)))
    fit(
        "lesson",
        model,
        batches=lambda generator: iter([batch]),
        steps_per_epoch=1,
        loss=loss,
        score=lambda: Score(0, 0),
        epochs=1,
        optimizer=torch.optim.SGD(model.parameters(), 0.1),
        seed=0,
        context=context,
    )
    assert float(model.weight.detach()) == pytest.approx(1 - 0.1 * 3)


def test_the_loss_hears_the_part_of_the_training_that_is_over(context: Context) -> None:
    lesson = Lesson(context, epochs=2, steps=5)
    lesson.run()
    assert lesson.parts_done == pytest.approx([step / 10 for step in range(10)])


# Averaged weights


def test_averaging_measures_and_keeps_averages_of_the_weights(context: Context) -> None:
    lesson = Lesson(context, epochs=2, steps=6, average=True, scores=[0.1, 0.2])
    lesson.run()
    seen = torch.stack(lesson.weights_at_step[1:])  # after each step but the last
    low, high = seen.amin(dim=0), seen.amax(dim=0)
    measured = lesson.weights_at_score
    assert torch.equal(lesson.weight, measured[1])
    assert bool(((low < measured[0]) & (measured[0] < high)).all()), "inside the weights that it is an average of"
    average = lesson.weights_at_step[1]
    for steps, weights in enumerate(lesson.weights_at_step[2:7], start=1):
        decay = min(loop.AVERAGE_DECAY, (1 + steps) / (10 + steps))
        average = decay * average + (1 - decay) * weights
    torch.testing.assert_close(measured[0], average)


def test_averaged_weights_differ_from_the_last_ones(context: Context) -> None:
    last, averaged = Lesson(context, scores=[0, 1, 2]), Lesson(context, scores=[0, 1, 2], average=True)
    last.run()
    averaged.run()
    assert not torch.equal(last.weight, averaged.weight)


def test_averaging_forgets_the_start_within_a_short_training() -> None:
    averaged, current = nn.Linear(2, 2), nn.Linear(2, 2)
    with torch.no_grad():
        averaged.weight.zero_()
        current.weight.fill_(1.0)
    for steps in range(1, 40):
        loop._average(averaged, current, steps)
    assert bool((averaged.weight > 0.99).all())


def test_averaging_leaves_training_itself_as_it_is(context: Context) -> None:
    plain, averaged = Lesson(context), Lesson(context, average=True)
    plain.run()
    averaged.run()
    assert len(plain.weights_at_step) == 12
    assert torch.equal(torch.stack(plain.weights_at_step), torch.stack(averaged.weights_at_step))
    assert plain.drawn == averaged.drawn


def test_averaging_keeps_the_best_epochs_average(context: Context) -> None:
    lesson = Lesson(context, scores=[0.2, 0.9, 0.5], average=True)
    assert lesson.run().value == 0.9
    assert torch.equal(lesson.weight, lesson.weights_at_score[1])
    assert not torch.equal(lesson.weight, lesson.weights_at_score[2])


def test_without_averaging_the_live_weights_are_measured(context: Context) -> None:
    lesson = Lesson(context, epochs=2)
    lesson.run()
    assert torch.equal(lesson.weights_at_score[0], lesson.weights_at_step[4])


# Limits and reports


def test_long_gradients_are_shortened(context: Context) -> None:
    lesson = Lesson(context, scale=1e6)
    lesson.model[0].p = 0.0
    lesson.run()
    gradient = lesson.model[1].weight.grad
    assert gradient is not None
    assert float(gradient.norm()) == pytest.approx(loop.GRADIENT_NORM, rel=1e-3)


def test_step_events_number_the_steps_and_count_the_examples(context: Context, reported: list[Event]) -> None:
    Lesson(context, epochs=2, steps=3).run()
    steps = steps_of(reported)
    assert [step.step for step in steps] == [1, 2, 3, 4, 5, 6]
    assert [step.examples for step in steps] == [2, 4, 6, 8, 10, 12]
    assert {step.stage for step in steps} == {"lesson"}


def test_step_events_go_on_from_the_steps_that_were_done_before(context: Context, reported: list[Event]) -> None:
    lesson = Lesson(context, epochs=2, steps=3, first_step=40)
    lesson.run()
    assert [step.step for step in steps_of(reported)] == [41, 42, 43, 44, 45, 46]
    assert [step.examples for step in steps_of(reported)] == [2, 4, 6, 8, 10, 12]
    assert lesson.parts_done[0] == 0.0


def test_an_epoch_event_follows_the_steps_of_each_epoch(context: Context, reported: list[Event]) -> None:
    Lesson(context, epochs=2, steps=2, scores=[0.25, 0.75]).run()
    assert [type(event) for event in reported] == [Step, Step, Epoch, Step, Step, Epoch]
    epochs = [event for event in reported if isinstance(event, Epoch)]
    assert epochs == [Epoch("lesson", 1, "val", 0.25, 0.75), Epoch("lesson", 2, "val", 0.75, 0.25)]


def test_an_epoch_event_tells_a_learning_teachers_accuracy(
    context: Context, reported: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    lesson = Lesson(context, epochs=1, steps=1)
    monkeypatch.setattr(lesson, "_score", lambda: Score(0.5, 0.5, 0.5, teacher_accuracy=0.875))
    assert lesson.run().teacher_accuracy == 0.875
    assert reported[-1] == Epoch("lesson", 1, "val", 0.5, 0.5, teacher_accuracy=0.875)


@pytest.mark.parametrize("duration", [0.001, 0.03, 0.0999, 0.25])
def test_at_most_ten_step_events_go_out_in_a_second(
    context: Context, reported: list[Event], clock: SimpleNamespace, duration: float
) -> None:
    times: list[float] = []

    def emit(event: Event) -> None:
        if isinstance(event, Step):
            times.append(clock.now)

    def check() -> None:
        clock.now += duration

    Lesson(replace(context, emit=emit, control=Control(heed=check), pace=Pace()), epochs=1, steps=400).run()
    busiest = max(sum(1 for other in times if start <= other < start + 1.0) for start in times)
    assert busiest <= 10
    assert len(times) >= min(400, 400 * duration / (0.1 + duration))


def seven_steps(context: Context, clock: SimpleNamespace, terms_of: Callable[[], Terms], sizes: Sequence[int]) -> None:
    """Trains on batches of so many texts; events are due at steps 1, 4 and 7."""
    model = nn.Linear(1, 1)

    def loss(batch: Batch, done: float) -> Terms:
        clock.now += 0.04
        terms = terms_of()
        return replace(terms, loss=terms.loss + 0 * model(torch.ones(1, 1)).sum())

    batches = [Batch(*(torch.ones(size, dtype=torch.long) for _ in range(4))) for size in sizes]
    fit(
        "lesson",
        model,
        batches=lambda generator: iter(batches),
        steps_per_epoch=7,
        loss=loss,
        score=lambda: Score(0, 0),
        epochs=1,
        optimizer=torch.optim.Adam(model.parameters(), 0.1),
        seed=0,
        context=replace(context, pace=Pace()),
    )


def test_a_step_event_gives_means_over_the_texts_since_the_last(
    context: Context, reported: list[Event], clock: SimpleNamespace
) -> None:
    values = iter(torch.tensor([1.0, 2.0, 3.0, 10.0, 20.0, 30.0, 99.0]))

    def terms() -> Terms:
        value = next(values)
        return Terms(3 * value, value, 2 * value, 4 * value)

    seven_steps(context, clock, terms, [8, 8, 8, 8, 8, 8, 2])
    steps, last = steps_of(reported), (8 * 20 + 8 * 30 + 2 * 99) / 18
    assert [step.step for step in steps] == [1, 4, 7]
    assert [step.ce for step in steps] == pytest.approx([1, 5, last])
    assert [step.kl for step in steps] == pytest.approx([2, 10, 2 * last])
    assert [step.loss for step in steps] == pytest.approx([3, 15, 3 * last])
    assert [step.teacher_ce for step in steps] == pytest.approx([4, 20, 4 * last])


def test_cross_entropy_is_the_mean_over_the_texts_that_have_a_label(
    context: Context, reported: list[Event], clock: SimpleNamespace
) -> None:
    seen = iter([(9.0, 4), (2.0, 1), (0.0, 0), (5.0, 3), (0.0, 0), (0.0, 0), (0.0, 0)])

    def terms() -> Terms:
        ce, labelled = next(seen)
        return Terms(torch.zeros(()), torch.tensor(ce), labelled=torch.tensor(labelled))

    seven_steps(context, clock, terms, [8] * 7)
    assert [step.ce for step in steps_of(reported)] == [9, pytest.approx((2 * 1 + 5 * 3) / 4), None]


def test_a_loss_without_divergence_reports_none(context: Context, reported: list[Event]) -> None:
    Lesson(context).run()
    assert {step.kl for step in steps_of(reported)} == {None}
    assert {step.teacher_ce for step in steps_of(reported)} == {None}


# Stages


def test_a_stage_reports_its_start_and_its_end(context: Context, reported: list[Event]) -> None:
    with context.stage("finetune", 12) as outcome:
        assert reported == [StageStarted("finetune", 12)]
        outcome.accuracy = 0.75
    finished = reported[-1]
    assert isinstance(finished, StageFinished)
    assert (finished.stage, finished.accuracy) == ("finetune", 0.75)
    assert finished.seconds == outcome.seconds > 0


def test_a_stage_that_fails_is_not_reported_as_finished(context: Context, reported: list[Event]) -> None:
    with pytest.raises(Cancelled), context.stage("distil", 3):
        raise Cancelled
    assert reported == [StageStarted("distil", 3)]


# Evaluation


@pytest.fixture
def model(encoded: EncodedDataset) -> classifier.TextClassifier:
    torch.manual_seed(2)
    return classifier.build(ModelConfig(size="XS", dropout=0.5), len(encoded.vocabulary), 2)


def test_logits_of_answers_in_the_order_of_the_texts_without_dropout(
    model: classifier.TextClassifier, encoded: EncodedDataset, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "READING_TOKENS", 28)
    model.train()
    logits_NC = logits_of(model, encoded.train, context)
    assert not model.training
    for row in range(len(encoded.train)):
        alone = encoded.train.gather(torch.tensor([row]))
        with torch.no_grad():
            expected_BC = model(alone.tokens_BT, alone.lengths_B)
        torch.testing.assert_close(logits_NC[row : row + 1], expected_BC, rtol=0, atol=1e-5)


def test_logits_of_can_be_used_in_later_training(
    model: classifier.TextClassifier, encoded: EncodedDataset, context: Context
) -> None:
    logits_NC = logits_of(model, encoded.val, context)
    assert logits_NC.dtype == torch.float32
    assert not logits_NC.requires_grad
    assert not logits_NC.is_inference()


def test_outputs_of_gives_a_row_a_text_in_their_order(
    encoded: EncodedDataset, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "READING_TOKENS", 28)
    rows = outputs_of(lambda tokens, lengths: torch.stack([tokens[:, 0], lengths], 1), encoded.train, context, "other")
    first = encoded.train.flat[encoded.train.offsets[:-1]]
    assert rows.dtype == torch.float32
    assert torch.equal(rows, torch.stack([first, encoded.train.lengths_N], 1).float())


def test_score_of_is_accuracy_and_mean_cross_entropy() -> None:
    logits = torch.tensor([[0.0, 2.0], [1, 0], [0, 2], [1, 0]])
    labels = torch.tensor([1, 0, 0, 0])
    assert score_of(logits, labels) == Score(0.75, pytest.approx(float(F.cross_entropy(logits, labels))), 0.75)


@pytest.mark.parametrize("asked", ["tick", "check"])
def test_logits_of_calls_back_once_a_batch(
    model: classifier.TextClassifier,
    encoded: EncodedDataset,
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
    asked: str,
) -> None:
    monkeypatch.setattr(reading, "READING_TOKENS", 20)
    calls: list[int] = []

    def call(texts: int = 0) -> None:
        calls.append(texts)

    check = call if asked == "check" else context.check
    tick = call if asked == "tick" else (lambda texts: None)
    logits_of(model, encoded.val, replace(context, control=Control(heed=check)), tick=tick)
    batches = len(reading_rows(encoded.val, "other"))
    assert batches > 4
    assert len(calls) == (batches if asked == "tick" else -(-batches // torch.get_num_threads()))
    if asked == "tick":
        assert sum(calls) == len(encoded.val)


def test_validation_score_is_accuracy_and_mean_cross_entropy(context: Context) -> None:
    class Fixed(nn.Module):
        """Says class 1 with logit 2 for texts that begin with token 1, else class 0 with logit 1."""

        def forward(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
            first = (tokens_BT[:, 0] == 1).float()
            return torch.stack([1 - first, 2 * first], dim=1)

    texts = EncodedTexts.of(range(4), [[1, 5, 5], [2], [1], [2, 2]], [1, 0, 0, 0])
    reached = validation_score(Fixed(), texts, context)
    expected = F.cross_entropy(torch.tensor([[0.0, 2.0], [1, 0], [0, 2], [1, 0]]), torch.tensor([1, 0, 0, 0]))
    assert reached.value == reached.accuracy == 0.75
    assert reached.ce == pytest.approx(float(expected))


def test_a_training_shorter_than_the_pace_still_reports_its_losses_once(
    context: Context, reported: list[Event]
) -> None:
    slow = Pace(1000.0)
    assert slow.due()
    Lesson(replace(context, pace=slow)).run()
    steps = [event for event in reported if isinstance(event, Step)]
    assert [step.step for step in steps] == [12]
    assert steps[0].loss is not None
