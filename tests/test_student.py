"""The student with and without its teacher: a fair comparison, and a teacher that nothing changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from distill_core.analysis.metrics import fidelity
from distill_core.config import Divergence, ObjectiveConfig, RunConfig, StudentConfig, TeacherConfig, TrainingConfig
from distill_core.control import Control
from distill_core.data.batches import Batch, EncodedDataset, EncodedTexts, SampleLogits, shuffled_batches
from distill_core.errors import Cancelled
from distill_core.events import Epoch, Event, Step
from distill_core.job import Job
from distill_core.models.bag import BagOfEmbeddings
from distill_core.models.classifier import TextClassifier, build
from distill_core.store import Store
from distill_core.training import student
from distill_core.training.context import Context
from distill_core.training.losses import divergence
from distill_core.training.reading import Score, logits_of
from distill_core.training.student import distil, distil_jointly, step_count, train_baseline
from distill_core.training.teacher import parameter_groups

TRAINING = TrainingConfig(epochs=3, learning_rate=2e-2, batch_size=8, seed=3)
STUDENT = StudentConfig(size="XS", dropout=0.3)
every_kind = pytest.mark.parametrize("kind", get_args(Divergence))


@pytest.fixture
def taught(encoded: EncodedDataset) -> SampleLogits:
    """Logits of an imaginary teacher that is mostly right, more or less sure, and different for every text."""
    parts = []
    for texts in (encoded.train, encoded.val, encoded.test):
        signs_N = torch.where(texts.ids_N % 9 == 0, -1.0, 1.0) * (2 * texts.labels_N - 1)
        sureness_N = 0.5 + (texts.ids_N % 5) / 2
        parts.append((texts, torch.stack([-signs_N * sureness_N, signs_N * sureness_N], dim=1)))
    return SampleLogits.of(parts)


def start(data: EncodedDataset) -> TextClassifier:
    torch.manual_seed(TRAINING.seed)
    return build(STUDENT, len(data.vocabulary), len(data.label_names))


def weights(model: TextClassifier) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def alone(data: EncodedDataset, context: Context) -> dict[str, Tensor]:
    model = start(data)
    train_baseline(model, data.train, data.val, TRAINING, seed=3, context=context)
    return weights(model)


def distilled(
    data: EncodedDataset,
    taught: SampleLogits,
    context: Context,
    objective: ObjectiveConfig,
    *,
    texts: EncodedTexts | None = None,
    seed: int = 3,
    **training: object,
) -> TextClassifier:
    model = start(data)
    distil(
        model,
        data.train if texts is None else texts,
        data.val,
        taught,
        objective=objective,
        training=TRAINING.model_copy(update=training),
        seed=seed,
        context=context,
    )
    return model


def with_other_labels(data: EncodedDataset) -> EncodedDataset:
    return replace(data, train=replace(data.train, labels_N=1 - data.train.labels_N))


def test_baseline_and_student_start_equal(encoded: EncodedDataset, context: Context, tmp_path: Path) -> None:
    config = RunConfig(student=STUDENT, teacher=TeacherConfig(size="XS"))
    job = Job("run", Store(tmp_path), config, encoded, context)
    first = job.build(config.student)
    train_baseline(
        first, encoded.train, encoded.val, TRAINING, seed=3, context=context
    )  # uses up random numbers in between
    trained = weights(first)
    second = job.build(config.student)
    assert same(weights(second), weights(job.build(config.student)))
    assert not same(weights(second), trained)
    other = replace(job, config=config.model_copy(update={"training": TRAINING}))
    assert not same(weights(second), weights(other.build(config.student)))
    assert same(weights(other.build(config.student)), weights(job.build(config.student, seed=3)))


@every_kind
def test_without_a_teachers_weight_distil_gives_exactly_the_baseline(
    encoded: EncodedDataset, taught: SampleLogits, context: Context, kind: Divergence
) -> None:
    objective = ObjectiveConfig(student_ce_weight=1, beta=0, divergence=kind)
    assert same(weights(distilled(encoded, taught, context, objective)), alone(encoded, context))


def test_the_teacher_changes_the_student(encoded: EncodedDataset, taught: SampleLogits, context: Context) -> None:
    student = distilled(encoded, taught, context, ObjectiveConfig(beta=1))
    assert not same(weights(student), alone(encoded, context))


@every_kind
def test_cached_logits_are_never_changed(
    encoded: EncodedDataset, taught: SampleLogits, context: Context, kind: Divergence
) -> None:
    ids_N, logits_NC = taught.ids_N.clone(), taught.logits_NC.clone()
    distilled(encoded, taught, context, ObjectiveConfig(beta=5, divergence=kind))
    assert torch.equal(taught.ids_N, ids_N)
    assert torch.equal(taught.logits_NC, logits_NC)
    assert taught.logits_NC.grad is None
    assert not taught.logits_NC.requires_grad


@every_kind
def test_the_student_comes_nearer_to_its_teacher(
    encoded: EncodedDataset, taught: SampleLogits, context: Context, reported: list[Event], kind: Divergence
) -> None:
    objective = ObjectiveConfig(student_ce_weight=0, beta=2, temperature=1, divergence=kind)
    teacher_NC = taught.of_ids(encoded.train.ids_N)
    before = fidelity(logits_of(start(encoded), encoded.train, context), teacher_NC)
    student = distilled(encoded, taught, context, objective, epochs=30)
    after = fidelity(logits_of(student, encoded.train, context), teacher_NC)
    kl = [event.kl for event in reported if isinstance(event, Step) and event.kl is not None]
    assert sum(kl[-6:]) < 0.6 * sum(kl[:6])
    assert after["kl"] < before["kl"]
    assert after["agreement"] > before["agreement"]


def test_a_student_without_labels_weight_hears_no_training_labels(
    encoded: EncodedDataset, taught: SampleLogits, context: Context
) -> None:
    deaf, hearing = ObjectiveConfig(student_ce_weight=0), ObjectiveConfig(student_ce_weight=1)
    other = with_other_labels(encoded)
    trained = {
        (name, heard): weights(distilled(data, taught, context, objective))
        for name, data in (("own", encoded), ("other", other))
        for heard, objective in ((False, deaf), (True, hearing))
    }
    assert same(trained["own", False], trained["other", False])
    assert not same(trained["own", True], trained["other", True])


def test_test_split_and_its_logits_are_never_read(
    encoded: EncodedDataset, taught: SampleLogits, context: Context
) -> None:
    of_test = torch.isin(taught.ids_N, encoded.test.ids_N)
    masked = replace(taught, logits_NC=taught.logits_NC.masked_fill(of_test[:, None], torch.nan))
    other = replace(encoded, test=replace(encoded.test, labels_N=1 - encoded.test.labels_N))
    objective = ObjectiveConfig()
    first = weights(distilled(encoded, taught, context, objective))
    assert same(first, weights(distilled(other, masked, context, objective)))


def test_logits_find_their_text_in_whatever_order_they_were_cached(
    encoded: EncodedDataset, taught: SampleLogits, context: Context
) -> None:
    splits = [encoded.test, encoded.train, encoded.val]
    other = SampleLogits.of([(texts, taught.of_ids(texts.ids_N)) for texts in splits])
    objective = ObjectiveConfig()
    first = weights(distilled(encoded, taught, context, objective))
    assert same(first, weights(distilled(encoded, other, context, objective)))


def test_a_text_that_the_teacher_has_not_answered_is_an_error(
    encoded: EncodedDataset, taught: SampleLogits, context: Context
) -> None:
    kept = taught.ids_N != encoded.train.ids_N[10]
    partial = SampleLogits(taught.ids_N[kept], taught.logits_NC[kept])
    with pytest.raises(KeyError, match=str(int(encoded.train.ids_N[10]))):
        distilled(encoded, partial, context, ObjectiveConfig())


def test_temperature_and_direction_both_matter(encoded: EncodedDataset, taught: SampleLogits, context: Context) -> None:
    settings = [(t, kind) for t in (1, 4) for kind in get_args(Divergence)]
    outcomes = {
        (t, kind): weights(distilled(encoded, taught, context, ObjectiveConfig(temperature=t, divergence=kind)))
        for t, kind in settings
    }
    # T² · logit MSE does not depend on T, but for rounding.
    one, other = outcomes[1, "logit_mse"], outcomes.pop((4, "logit_mse"))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-3)
    pairs = list(combinations(outcomes.values(), 2))
    assert [same(*pair) for pair in pairs] == [False] * 21


def test_reported_loss_is_the_weighted_sum_of_its_reported_parts(
    encoded: EncodedDataset, taught: SampleLogits, context: Context, reported: list[Event]
) -> None:
    distilled(encoded, taught, context, ObjectiveConfig(student_ce_weight=0.5, beta=3, temperature=2))
    steps = [event for event in reported if isinstance(event, Step)]
    assert len(steps) == 3 * 6
    for step in steps:
        assert step.ce is not None
        assert step.kl is not None
        assert step.loss == pytest.approx(0.5 * step.ce + 3 * 4 * step.kl, rel=1e-4)


@every_kind
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_reported_kl_is_the_divergence_at_the_objectives_temperature(
    *,
    encoded: EncodedDataset,
    taught: SampleLogits,
    context: Context,
    reported: list[Event],
    kind: Divergence,
    temperature: float,
) -> None:
    model = start(encoded)
    model.dropout.p = 0.0
    student_NC, teacher_NC = logits_of(model, encoded.train, context), taught.of_ids(encoded.train.ids_N)
    everything_at_once = TRAINING.model_copy(update={"epochs": 1, "batch_size": len(encoded.train)})
    objective = ObjectiveConfig(temperature=temperature, divergence=kind)
    distil(
        model,
        encoded.train,
        encoded.val,
        taught,
        objective=objective,
        training=everything_at_once,
        seed=3,
        context=context,
    )
    expected = float(divergence(student_NC, teacher_NC, kind, temperature))
    assert [event.kl for event in reported if isinstance(event, Step)] == [pytest.approx(expected, rel=1e-4)]


def test_the_baseline_learns_and_hears_no_teacher(
    encoded: EncodedDataset, context: Context, reported: list[Event]
) -> None:
    model = start(encoded)
    training = TRAINING.model_copy(update={"epochs": 8})
    reached = train_baseline(model, encoded.train, encoded.val, training, seed=3, context=context)
    steps = [event for event in reported if isinstance(event, Step)]
    epochs = [event for event in reported if isinstance(event, Epoch)]
    best = max(epoch.accuracy or 0.0 for epoch in epochs)
    assert {step.kl for step in steps} == {None}
    assert epochs[-1].ce < epochs[0].ce
    assert best > 0.9
    assert reached.accuracy == best
    assert steps[-1].step == len(steps) == step_count(encoded.train, training) == 8 * 6
    assert {event.stage for event in (*steps, *epochs)} == {"baseline"}


@pytest.mark.parametrize("heard", [False, True], ids=["baseline", "distil"])
def test_cancelled_ends_the_stage_unfinished(
    encoded: EncodedDataset, taught: SampleLogits, context: Context, reported: list[Event], heard: bool
) -> None:
    def check() -> None:
        if any(isinstance(event, Step) for event in reported):
            raise Cancelled

    hurried = replace(context, control=Control(heed=check))
    with pytest.raises(Cancelled):
        distilled(encoded, taught, hurried, ObjectiveConfig()) if heard else alone(encoded, hurried)
    assert [type(event) for event in reported] == [Step]


def test_the_seed_decides_the_order_and_the_dropout(
    encoded: EncodedDataset, taught: SampleLogits, context: Context
) -> None:
    first, again, other = (distilled(encoded, taught, context, ObjectiveConfig(), seed=seed) for seed in (3, 3, 4))
    assert same(weights(first), weights(again))
    assert not same(weights(first), weights(other))


def test_an_assistant_learns_under_its_own_name(
    encoded: EncodedDataset, taught: SampleLogits, context: Context, reported: list[Event]
) -> None:
    model = start(encoded)
    distil(
        model,
        encoded.train,
        encoded.val,
        taught,
        objective=ObjectiveConfig(),
        training=TRAINING,
        seed=3,
        context=context,
        stage="assistant",
    )
    assert {event.stage for event in reported if isinstance(event, Step | Epoch)} == {"assistant"}


def test_the_weights_are_averaged_where_the_run_says_so(
    encoded: EncodedDataset, taught: SampleLogits, context: Context
) -> None:
    plain, averaged = (
        weights(distilled(encoded, taught, context, ObjectiveConfig(), average_weights=average))
        for average in (False, True)
    )
    assert not same(plain, averaged)


def test_beta_rises_over_its_ramp(
    encoded: EncodedDataset, taught: SampleLogits, context: Context, reported: list[Event]
) -> None:
    distilled(encoded, taught, context, ObjectiveConfig(beta=3, beta_ramp=0.5, temperature=2))
    steps = [event for event in reported if isinstance(event, Step)]
    assert len(steps) == 18
    for number, step in enumerate(steps):
        beta = 3 * min(number / 9, 1)
        assert step.loss == pytest.approx(step.ce + beta * 4 * step.kl, rel=1e-4)


# Texts without labels


@pytest.fixture
def unlabelled(encoded: EncodedDataset) -> EncodedTexts:
    """The training texts under new ids and without their labels."""
    pieces = [piece.tolist() for piece in torch.split(encoded.train.flat, encoded.train.lengths_N.tolist())]
    return EncodedTexts.without_labels(pieces, first=len(encoded.unlabelled))


def answered(texts: EncodedTexts, labels_N: Tensor) -> SampleLogits:
    """A teacher that gives texts these labels with logits ±2."""
    signs_N = 2.0 * labels_N - 1
    return SampleLogits.of([(texts, 2 * torch.stack([-signs_N, signs_N], dim=1))])


def accuracy(model: nn.Module, texts: EncodedTexts, context: Context) -> float:
    return float((logits_of(model, texts, context).argmax(dim=1) == texts.labels_N).float().mean())


def test_a_student_learns_from_unlabelled_texts_by_the_teachers_logits_alone(
    encoded: EncodedDataset, unlabelled: EncodedTexts, context: Context, reported: list[Event]
) -> None:
    right = answered(unlabelled, encoded.train.labels_N)
    model = distilled(encoded, right, context, ObjectiveConfig(), texts=unlabelled, epochs=8)
    assert accuracy(model, encoded.test, context) > 0.9
    assert {event.ce for event in reported if isinstance(event, Step)} == {None}


def test_a_student_agrees_with_whatever_its_teacher_says_of_unlabelled_texts(
    encoded: EncodedDataset, unlabelled: EncodedTexts, context: Context
) -> None:
    wrong = answered(unlabelled, 1 - encoded.train.labels_N)
    inverted = replace(encoded, val=replace(encoded.val, labels_N=1 - encoded.val.labels_N))
    model = distilled(inverted, wrong, context, ObjectiveConfig(), texts=unlabelled, epochs=8)
    assert accuracy(model, encoded.test, context) < 0.1


def test_unlabelled_texts_teach_nothing_without_the_teachers_weight(
    encoded: EncodedDataset, unlabelled: EncodedTexts, context: Context
) -> None:
    logits = answered(unlabelled, encoded.train.labels_N)
    model = distilled(encoded, logits, context, ObjectiveConfig(beta=0), texts=unlabelled)
    assert same(weights(model), weights(start(encoded)))


def test_labelled_and_unlabelled_texts_are_learned_together(
    encoded: EncodedDataset, taught: SampleLogits, unlabelled: EncodedTexts, context: Context, reported: list[Event]
) -> None:
    logits = taught.joined(answered(unlabelled, encoded.train.labels_N))
    both = encoded.train.joined(unlabelled)
    model = distilled(encoded, logits, context, ObjectiveConfig(), texts=both)
    steps = [event for event in reported if isinstance(event, Step)]
    assert len(steps) == step_count(both, TRAINING) == 3 * 12
    assert steps[-1].examples == 3 * 96
    assert not same(weights(model), weights(distilled(encoded, taught, context, ObjectiveConfig())))


# Shuffling


def noted(monkeypatch: pytest.MonkeyPatch) -> tuple[list[list[int]], list[Tensor]]:
    """The sample ids of each batch that is drawn, and the teacher's logits that each batch is compared with."""
    ids: list[list[int]] = []
    heard: list[Tensor] = []

    def batches(texts: EncodedTexts, size: int, generator: torch.Generator) -> Iterator[Batch]:
        for batch in shuffled_batches(texts, size, generator):
            ids.append(batch.ids_B.tolist())
            yield batch

    def distance(student_BC: Tensor, teacher_BC: Tensor, kind: Divergence, temperature: float) -> Tensor:
        heard.append(teacher_BC.detach().clone())
        return divergence(student_BC, teacher_BC, kind, temperature)

    monkeypatch.setattr(student, "shuffled_batches", batches)
    monkeypatch.setattr(student, "divergence", distance)
    return ids, heard


def test_shuffling_never_misaligns_cached_logits(
    encoded: EncodedDataset, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, heard = noted(monkeypatch)
    texts = encoded.train
    named = SampleLogits.of([(texts, torch.stack([texts.ids_N / 100, -texts.ids_N / 100], dim=1))])
    distilled(encoded, named, context, ObjectiveConfig())
    assert len(ids) == len(heard) == 18
    assert [number for batch in ids for number in batch] != 3 * texts.ids_N.tolist(), "nothing was shuffled"
    for numbers, logits_BC in zip(ids, heard, strict=True):
        torch.testing.assert_close(logits_BC[:, 0], torch.tensor(numbers) / 100)


# Teacher and student together

TEACHER = TeacherConfig(size="XS", dropout=0.3, learning_rate=1e-2)
JOINT = ObjectiveConfig(mode="joint", beta=1, temperature=1, divergence="kl_student_teacher")


class Together:
    """A student and a teacher, and how they stood before they learned together."""

    def __init__(self, data: EncodedDataset, context: Context, objective: ObjectiveConfig, **training: object) -> None:
        self.student = start(data)
        torch.manual_seed(8)
        self.teacher = build(TEACHER, len(data.vocabulary), len(data.label_names))
        self.before = weights(self.student), weights(self.teacher)
        self.score: Score = distil_jointly(
            self.student,
            self.teacher,
            data.train,
            data.val,
            objective=objective,
            training=TRAINING.model_copy(update=training),
            teacher_train=data.train,
            teacher_val=data.val,
            teacher_groups=parameter_groups(self.teacher, TEACHER, decay=0.0),
            seed=3,
            context=context,
        )

    def moved(self) -> tuple[bool, bool]:
        """Whether every parameter of the student, and of the teacher, is another."""
        pairs = zip(self.before, (weights(self.student), weights(self.teacher)), strict=True)
        student_moved, teacher_moved = (
            all(not torch.equal(old[name], new[name]) for name in old) for old, new in pairs
        )
        return student_moved, teacher_moved


@every_kind
def test_joint_training_moves_every_parameter_of_both(
    encoded: EncodedDataset, context: Context, kind: Divergence
) -> None:
    both = Together(encoded, context, JOINT.model_copy(update={"divergence": kind}), epochs=1)
    assert both.moved() == (True, True)


@every_kind
def test_the_distance_alone_moves_the_teacher_too(encoded: EncodedDataset, context: Context, kind: Divergence) -> None:
    objective = JOINT.model_copy(update={"student_ce_weight": 0, "teacher_ce_weight": 0, "divergence": kind})
    both = Together(encoded, context, objective, epochs=1)
    assert both.moved() == (True, True)


def test_a_teacher_without_any_weight_in_the_objective_stays_where_it_is(
    encoded: EncodedDataset, context: Context
) -> None:
    both = Together(encoded, context, JOINT.model_copy(update={"beta": 0, "teacher_ce_weight": 0}))
    assert same(both.before[1], weights(both.teacher))
    assert both.moved()[0]


def test_without_the_distance_teacher_and_student_learn_side_by_side(
    encoded: EncodedDataset, context: Context, reported: list[Event]
) -> None:
    both = Together(encoded, context, JOINT.model_copy(update={"beta": 0}), epochs=8)
    assert accuracy(both.student, encoded.test, context) > 0.9
    assert accuracy(both.teacher, encoded.test, context) > 0.9
    first, *_, last = [event for event in reported if isinstance(event, Step)]
    assert last.teacher_ce < 0.5 * first.teacher_ce


def test_joint_steps_report_the_teachers_loss_and_the_sum(
    encoded: EncodedDataset, context: Context, reported: list[Event]
) -> None:
    objective = ObjectiveConfig(mode="joint", student_ce_weight=0.5, teacher_ce_weight=0.25, beta=3, temperature=2)
    Together(encoded, context, objective)
    steps = [event for event in reported if isinstance(event, Step)]
    assert len(steps) == 18
    assert {event.stage for event in steps} == {"distil"}
    for step in steps:
        assert step.loss == pytest.approx(0.5 * step.ce + 0.25 * step.teacher_ce + 3 * 4 * step.kl, rel=1e-4)
        assert step.teacher_ce != step.ce


def test_joint_epochs_tell_the_teachers_accuracy_as_it_stands(
    encoded: EncodedDataset, context: Context, reported: list[Event]
) -> None:
    both = Together(encoded, context, JOINT, epochs=4)
    epochs = [event for event in reported if isinstance(event, Epoch)]
    assert len(epochs) == 4
    assert {type(epoch.teacher_accuracy) for epoch in epochs} == {float}
    kept = max(epochs, key=lambda epoch: epoch.accuracy)  # the first of the best
    assert (both.score.accuracy, both.score.teacher_accuracy) == (kept.accuracy, kept.teacher_accuracy)
    assert accuracy(both.student, encoded.val, context) == kept.accuracy
    assert accuracy(both.teacher, encoded.val, context) == kept.teacher_accuracy


def test_joint_training_keeps_both_models_of_the_epoch_that_is_best_for_the_student(
    encoded: EncodedDataset, context: Context, reported: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {TextClassifier: iter([0.4, 0.9, 0.5]), BagOfEmbeddings: iter([0.1, 0.2, 0.3])}
    seen: dict[type, list[dict[str, Tensor]]] = {TextClassifier: [], BagOfEmbeddings: []}

    def scripted(model: nn.Module, texts: EncodedTexts, context: Context) -> Score:
        model.eval()
        seen[type(model)].append(weights(model))
        value = next(values[type(model)])
        return Score(value, 1 - value, value)

    monkeypatch.setattr(student, "validation_score", scripted)
    model = start(encoded)
    teacher = build(StudentConfig(kind="bag", dropout=0.3), len(encoded.vocabulary), 2)
    modes: list[bool] = []
    teacher.register_forward_pre_hook(lambda module, inputs: modes.append(module.training))
    reached = distil_jointly(
        model,
        teacher,
        encoded.train,
        encoded.val,
        objective=JOINT,
        training=TRAINING,
        teacher_train=encoded.train,
        teacher_val=encoded.val,
        teacher_groups=parameter_groups(teacher, TEACHER),
        seed=3,
        context=context,
    )
    assert (reached.accuracy, reached.teacher_accuracy) == (0.9, 0.2)
    epochs = [(event.accuracy, event.teacher_accuracy) for event in reported if isinstance(event, Epoch)]
    assert epochs == [(0.4, 0.1), (0.9, 0.2), (0.5, 0.3)]
    for trained, kind in ((model, TextClassifier), (teacher, BagOfEmbeddings)):
        assert [same(weights(trained), epoch) for epoch in seen[kind]] == [False, True, False]
    assert modes == [True] * 18, "the teacher learns with dropout"


def test_offline_epochs_and_steps_know_no_learning_teacher(
    encoded: EncodedDataset, taught: SampleLogits, context: Context, reported: list[Event]
) -> None:
    distilled(encoded, taught, context, ObjectiveConfig(teacher_ce_weight=5))
    assert {event.teacher_accuracy for event in reported if isinstance(event, Epoch)} == {None}
    assert {event.teacher_ce for event in reported if isinstance(event, Step)} == {None}


def test_an_offline_student_does_not_hear_the_weight_of_the_teachers_labels(
    encoded: EncodedDataset, taught: SampleLogits, context: Context
) -> None:
    one, other = (
        weights(distilled(encoded, taught, context, ObjectiveConfig(teacher_ce_weight=weight))) for weight in (0, 5)
    )
    assert same(one, other)


def test_shuffling_never_misaligns_what_teacher_and_student_read(
    encoded: EncodedDataset, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Namer(nn.Module):
        """Answers with the number that it reads."""

        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(1))

        def forward(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
            named_B = self.factor * tokens_BT[:, 0] / 100
            return torch.stack([named_B, -named_B], dim=1)

    ids, heard = noted(monkeypatch)
    backwards = encoded.train.ids_N.flip(0).tolist()
    reading = EncodedTexts.of(backwards, [[number] for number in backwards], [0] * len(backwards))
    namer = Namer()
    distil_jointly(
        start(encoded),
        namer,
        encoded.train,
        encoded.val,
        objective=JOINT,
        training=TRAINING,
        teacher_train=reading,
        teacher_val=encoded.val,
        teacher_groups=[{"params": list(namer.parameters()), "lr": 0.0}],
        seed=3,
        context=context,
    )
    assert len(ids) == len(heard) == 18
    for numbers, logits_BC in zip(ids, heard, strict=True):
        torch.testing.assert_close(logits_BC[:, 0], torch.tensor(numbers) / 100)


def test_the_teachers_groups_decide_how_fast_it_learns(encoded: EncodedDataset, context: Context) -> None:
    torch.manual_seed(8)
    teacher = build(TEACHER, len(encoded.vocabulary), len(encoded.label_names))
    before, model = weights(teacher), start(encoded)
    distil_jointly(
        model,
        teacher,
        encoded.train,
        encoded.val,
        objective=JOINT,
        training=TRAINING,
        teacher_train=encoded.train,
        teacher_val=encoded.val,
        teacher_groups=[{"params": list(teacher.parameters()), "lr": 0.0}],
        seed=3,
        context=context,
    )
    assert same(before, weights(teacher))
    assert not same(weights(start(encoded)), weights(model))
