"""The student with and without its teacher: a fair comparison, and a teacher that nothing changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor

from distill_core.analysis.metrics import fidelity
from distill_core.config import Divergence, ObjectiveConfig, RunConfig, StudentConfig, TeacherConfig, TrainingConfig
from distill_core.data.batches import EncodedDataset, SampleLogits
from distill_core.errors import Cancelled
from distill_core.events import Epoch, Event, StageFinished, StageStarted, Step
from distill_core.models.classifier import TextClassifier, build
from distill_core.pipeline import Job
from distill_core.store import Store
from distill_core.training.loop import Context, logits_of
from distill_core.training.losses import divergence
from distill_core.training.student import distil, train_baseline

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
    train_baseline(model, data, TRAINING, context=context)
    return weights(model)


def distilled(
    data: EncodedDataset, taught: SampleLogits, context: Context, objective: ObjectiveConfig, epochs: int = 3
) -> TextClassifier:
    model = start(data)
    training = TRAINING.model_copy(update={"epochs": epochs})
    distil(model, data, taught, objective, training, context=context)
    return model


def with_other_labels(data: EncodedDataset) -> EncodedDataset:
    return replace(data, train=replace(data.train, labels_N=1 - data.train.labels_N))


def test_baseline_and_student_start_equal(encoded: EncodedDataset, context: Context, tmp_path: Path) -> None:
    config = RunConfig(student=STUDENT, teacher=TeacherConfig(size="XS"))
    job = Job("run", Store(tmp_path), config, encoded, context)
    first = job.build(config.student)
    train_baseline(first, encoded, TRAINING, context=context)  # uses up random numbers in between
    trained = weights(first)
    second = job.build(config.student)
    assert same(weights(second), weights(job.build(config.student)))
    assert not same(weights(second), trained)
    other = replace(job, config=config.model_copy(update={"training": TRAINING}))
    assert not same(weights(second), weights(other.build(config.student)))


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
    objectives = [ObjectiveConfig(temperature=t, divergence=kind) for t in (1, 4) for kind in get_args(Divergence)]
    outcomes = [weights(distilled(encoded, taught, context, objective)) for objective in objectives]
    pairs = [(one, other) for number, one in enumerate(outcomes) for other in outcomes[:number]]
    assert [same(*pair) for pair in pairs] == [False] * 6


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
    distil(model, encoded, taught, objective, everything_at_once, context=context)
    expected = float(divergence(student_NC, teacher_NC, kind, temperature))
    assert [event.kl for event in reported if isinstance(event, Step)] == [pytest.approx(expected, rel=1e-4)]


def test_the_baseline_learns_and_hears_no_teacher(
    encoded: EncodedDataset, context: Context, reported: list[Event]
) -> None:
    model = start(encoded)
    training = TRAINING.model_copy(update={"epochs": 8})
    seconds = train_baseline(model, encoded, training, context=context)
    steps = [event for event in reported if isinstance(event, Step)]
    epochs = [event for event in reported if isinstance(event, Epoch)]
    best = max(epoch.accuracy or 0.0 for epoch in epochs)
    assert {step.kl for step in steps} == {None}
    assert epochs[-1].ce < epochs[0].ce
    assert best > 0.9
    assert reported[0] == StageStarted("baseline", 8 * 6)
    assert reported[-1] == StageFinished("baseline", seconds, best)


@pytest.mark.parametrize("heard", [False, True], ids=["baseline", "distil"])
def test_cancelled_ends_the_stage_unfinished(
    encoded: EncodedDataset, taught: SampleLogits, context: Context, reported: list[Event], heard: bool
) -> None:
    def check() -> None:
        if any(isinstance(event, Step) for event in reported):
            raise Cancelled

    hurried = replace(context, check=check)
    with pytest.raises(Cancelled):
        distilled(encoded, taught, hurried, ObjectiveConfig()) if heard else alone(encoded, hurried)
    assert [type(event) for event in reported] == [StageStarted, Step]
