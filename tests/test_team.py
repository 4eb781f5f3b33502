"""Threads that share a batch: the losses, gradients and weights of one thread, from the same chance."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from distill_core.checkpoints import RunCheckpoints
from distill_core.config import Divergence, ModelConfig, ObjectiveConfig, StudentConfig, TeacherConfig, TrainingConfig
from distill_core.control import Control, Wish
from distill_core.data.batches import NO_LABEL, Batch, EncodedTexts, SampleLogits
from distill_core.data.vocabulary import PAD_ID
from distill_core.device import Compute
from distill_core.errors import Cancelled, Interrupted
from distill_core.events import Event, Pace, Step
from distill_core.models import directions
from distill_core.models.classifier import build
from distill_core.models.dropout import Dropout
from distill_core.training import reading, student
from distill_core.training.context import Context
from distill_core.training.loop import fit
from distill_core.training.reading import Score, logits_of, outputs_of, reading_rows
from distill_core.training.student import distil, distil_jointly, train_baseline
from distill_core.training.teacher import finetune, parameter_groups
from distill_core.training.team import (
    LARGE,
    LEAST_TEXTS,
    LEAST_TOKENS,
    Team,
    added,
    cut,
    gains_by_threads,
    team_of,
)
from distill_core.training.terms import Terms

CPU = torch.device("cpu")
WORDS, CLASSES = 40, 3
KINDS = ("lstm", "gru", "textcnn", "bag")
teams = pytest.mark.parametrize("size", [2, 3])


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Lets PyTorch use so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def team(size: int) -> Iterator[Team]:
    with threads(size), team_of(CPU) as found:
        assert found is not None
        yield found


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No thread and no setting outlives a test."""
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("distill-team")]


def batch_of(lengths: list[int], labels: list[int] | None = None, extra: int = 0) -> Batch:
    """Random texts of these lengths with `extra` more columns of padding than the longest needs."""
    lengths_B, width = torch.tensor(lengths), max(lengths) + extra
    tokens_BT = torch.randint(1, WORDS, (len(lengths), width), generator=torch.Generator().manual_seed(len(lengths)))
    tokens_BT[torch.arange(width) >= lengths_B[:, None]] = PAD_ID
    rows_B = torch.arange(len(lengths))
    return Batch(rows_B + 100, tokens_BT, lengths_B, torch.tensor(labels or [0] * len(lengths)), rows_B.flip(0))


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=40))
    labels = draw(st.lists(st.integers(NO_LABEL, CLASSES - 1), min_size=len(lengths), max_size=len(lengths)))
    batch = batch_of(lengths, labels, draw(st.integers(0, 3)))
    return batch if draw(st.booleans()) else replace(batch, rows_B=None)


# Parts of a batch


@given(batch=batches(), data=st.data())
def test_parts_hold_every_text_once_in_order(batch: Batch, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(batch)))
    parts = cut(batch, count)
    assert len(parts) == count
    for name in ("ids_B", "lengths_B", "labels_B"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))
    if batch.rows_B is None:
        assert {part.rows_B for part in parts} == {None}
    else:
        assert torch.equal(torch.cat([part.rows_B for part in parts]), batch.rows_B)
    tokens = [row.tolist() for part in parts for row in part.tokens_BT]
    for kept, whole, length in zip(tokens, batch.tokens_BT.tolist(), batch.lengths_B.tolist(), strict=True):
        assert kept[:length] == whole[:length]
        assert set(kept[length:]) <= {PAD_ID}


@given(batch=batches(), data=st.data())
def test_a_part_is_as_wide_as_its_longest_text_and_as_large_as_the_others(batch: Batch, data: st.DataObject) -> None:
    parts = cut(batch, data.draw(st.integers(1, len(batch))))
    assert all(part.tokens_BT.shape == (len(part), int(part.lengths_B.max())) for part in parts)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@given(batch=batches(), data=st.data())
def test_shares_are_those_of_the_texts_and_of_the_labels(batch: Batch, data: st.DataObject) -> None:
    parts = cut(batch, data.draw(st.integers(1, len(batch))))
    labelled = int((batch.labels_B != NO_LABEL).sum())
    assert sum(part.share for part in parts) == pytest.approx(1)
    assert sum(part.labelled_share for part in parts) == pytest.approx(1 if labelled else 0)
    for part in parts:
        assert part.share == len(part) / len(batch)
        assert part.labelled_share * labelled == pytest.approx(int((part.labels_B != NO_LABEL).sum()))


@given(
    rows=st.lists(st.lists(st.none() | st.integers(-9, 9), min_size=3, max_size=3), min_size=1, max_size=4),
)
def test_gradients_are_added_weight_by_weight(rows: list[list[int | None]]) -> None:
    found = added([[None if value is None else torch.tensor([1.0, value]) for value in row] for row in rows])
    for place, gradient in enumerate(found):
        values = [row[place] for row in rows if row[place] is not None]
        expected = [len(values), sum(values)] if values else None
        assert (None if gradient is None else gradient.tolist()) == expected


# Losses and gradients of a batch


def long_batch(lengths: list[int], unlabelled: str) -> Batch:
    """A batch that a team cuts; which texts have no label is said in words."""
    count = len(lengths)
    without = {"none": 0, "first half": count // 2, "all": count}.get(unlabelled, 0)
    labels = [NO_LABEL if row < without else row % CLASSES for row in range(count)]
    if unlabelled == "some":
        labels = [NO_LABEL if row % 7 in (1, 2) else label for row, label in enumerate(labels)]
    return batch_of(lengths, labels)


def models(kind: str, dropout: float = 0.0) -> tuple[nn.Module, nn.Module]:
    """A student and a teacher with weights large enough for every input to matter."""
    torch.manual_seed(2)
    pair = (
        build(StudentConfig(kind=kind, size="XS", dropout=dropout), WORDS, CLASSES),
        build(StudentConfig(kind="gru", size="XS", bidirectional=False, dropout=dropout), WORDS, CLASSES),
    )
    for model in pair:
        nn.init.normal_(model.embedding.weight)
        nn.init.normal_(model.output.weight)
    return pair


Answer = tuple[Terms, tuple[Tensor | None, ...]]


def answers(kind: str, objective: ObjectiveConfig, *, joint: bool) -> Callable[[Batch], Answer]:
    """The losses of a batch and their gradients, as those of `distil` and of `distil_jointly`."""
    model, teacher = models(kind)
    cached = SampleLogits(torch.arange(100, 300), 2 * torch.randn(200, CLASSES))
    weights = [*model.parameters(), *(teacher.parameters() if joint else ())]
    context = Context(Compute(CPU, "float32"), lambda event: None)

    def answer(batch: Batch) -> Answer:
        student_BC = student._answer(model, batch, context)
        teacher_BC = student._answer(teacher, batch, context) if joint else cached.of_known(batch.ids_B)
        terms = student._terms(student_BC, teacher_BC, batch, objective, 0.5, learning_teacher=joint)
        return terms, torch.autograd.grad(terms.loss, weights, allow_unused=True)

    return answer


def check_equal(parts: list[Answer], whole: Answer) -> None:
    terms = Terms.of_parts([terms for terms, _ in parts])
    for name in (each.name for each in fields(Terms)):
        found, expected = getattr(terms, name), getattr(whole[0], name)
        if expected is None:
            assert found is None, name
        else:
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for found, expected in zip(added([gradients for _, gradients in parts]), whole[1], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", get_args(Divergence))
@teams
@settings(max_examples=5)
@given(
    lengths=st.lists(st.integers(1, 130), min_size=2 * LEAST_TEXTS - 1, max_size=60),
    unlabelled=st.sampled_from(["none", "some", "first half", "all"]),
    joint=st.booleans(),
)
def test_a_team_finds_the_losses_and_gradients_of_one_thread(
    kind: Divergence, size: int, lengths: list[int], unlabelled: str, joint: bool
) -> None:
    objective = ObjectiveConfig(divergence=kind, temperature=2.5, student_ce_weight=0.7, teacher_ce_weight=0.4, beta=3)
    batch = long_batch([*lengths, 130], unlabelled)
    answer = answers("lstm", objective, joint=joint)
    with team(size) as several:
        parts = several.each_part(answer, batch)
    assert len(parts) == min(size, len(batch) // LEAST_TEXTS)
    check_equal(parts, answer(batch))


@pytest.mark.parametrize("unlabelled", ["some", "first half"])
@pytest.mark.parametrize("kind", KINDS)
@teams
def test_every_kind_of_student_learns_the_same_from_parts(size: int, kind: str, unlabelled: str) -> None:
    batch = long_batch([90 + row % 20 for row in range(48)], unlabelled)
    answer = answers(kind, ObjectiveConfig(beta=1), joint=False)
    with team(size) as several:
        parts = several.each_part(answer, batch)
    assert len(parts) == size
    check_equal(parts, answer(batch))


# Who takes which part


@pytest.mark.parametrize(
    ("texts", "tokens", "size", "parts"),
    [
        (2 * LEAST_TEXTS, -(-LEAST_TOKENS // (2 * LEAST_TEXTS)), 2, 2),
        (2 * LEAST_TEXTS, LEAST_TOKENS // (2 * LEAST_TEXTS) - 1, 2, 1),
        (2 * LEAST_TEXTS - 1, LEAST_TOKENS, 2, 1),
        (2 * LEAST_TEXTS, LEAST_TOKENS, 3, 2),
        (3 * LEAST_TEXTS - 1, 200, 3, 2),
        (3 * LEAST_TEXTS, 200, 3, 3),
        (200, 200, 2, 2),
    ],
)
def test_only_batches_with_enough_texts_and_tokens_are_cut(texts: int, tokens: int, size: int, parts: int) -> None:
    with team(size) as several:
        sizes = several.each_part(len, batch_of([tokens] * texts))
    assert len(sizes) == parts
    assert sum(sizes) == texts


def test_a_batch_that_is_not_cut_is_given_whole_and_draws_from_pytorchs_own_state() -> None:
    batch = batch_of([5] * 40)
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    with team(2) as several:
        [(same, drawn, lent)] = several.each_part(
            lambda part: (part is batch, torch.rand(3), directions._lent.get()), batch
        )
        assert lent is several.others, "its directions are read at the same time"
    assert same
    assert torch.equal(drawn, expected)


@teams
def test_parts_are_taken_at_the_same_time_on_one_core_each(size: int) -> None:
    meeting = threading.Barrier(size)

    def take(part: Batch) -> tuple[int, str, int, object]:
        meeting.wait(timeout=20)
        return int(part.ids_B[0]), threading.current_thread().name, torch.get_num_threads(), directions._lent.get()

    batch = batch_of([100] * 60)
    with team(size) as several:
        first, names, cores, lent = zip(*several.each_part(take, batch), strict=True)
    assert list(first) == [int(part.ids_B[0]) for part in cut(batch, size)], "in the order of the texts"
    assert names[0] == threading.current_thread().name
    assert len(set(names)) == size
    assert set(cores) == {1}
    assert set(lent) == {None}, "nobody waits for a thread that has a part of its own"


@pytest.mark.parametrize("learns", [True, False])
def test_parts_learn_only_where_the_caller_does(learns: bool) -> None:
    with team(2) as several, torch.set_grad_enabled(learns):
        assert several.each_part(lambda part: torch.is_grad_enabled(), batch_of([100] * 60)) == [learns] * 2


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_what_a_part_raises_reaches_the_caller(failing: int) -> None:
    batch = batch_of([100] * 60)
    named = [int(part.ids_B[0]) for part in cut(batch, 3)]

    def take(part: Batch) -> None:
        if int(part.ids_B[0]) == named[failing]:
            raise Cancelled

    with threads(3):
        with pytest.raises(Cancelled), team_of(CPU) as several:
            several.each_part(take, batch)
        assert torch.get_num_threads() == 3
        with team_of(CPU) as again:
            assert again is not several


@pytest.mark.parametrize("size", [2, 3])
def test_a_team_has_as_many_threads_as_pytorch_had_and_gives_them_back(size: int) -> None:
    with threads(size):
        with team_of(CPU) as several:
            assert several is not None
            assert (several.size, torch.get_num_threads()) == (size, 1)
        assert torch.get_num_threads() == size


def test_a_team_within_a_team_is_the_same() -> None:
    with team(2) as several:
        with team_of(CPU) as inner:
            assert inner is several
        with team_of(CPU) as inner:
            assert inner is several, "also after the first has ended"
        assert several.each(abs, [-1, -2]) == [1, 2], "its threads are still there"


@pytest.mark.parametrize(("place", "count"), [("cuda", 2), ("meta", 2), ("cpu", 1)])
def test_there_is_no_team_where_it_is_no_help(place: str, count: int) -> None:
    with threads(count), team_of(torch.device(place)) as several:
        assert several is None
        assert torch.get_num_threads() == count


# Chance


def masks(model: nn.Module, batch: Batch, several: Team, seed: int) -> list[Tensor]:
    torch.manual_seed(seed)
    return several.each_part(lambda part: model(torch.ones(len(part), 50)), batch)


@teams
def test_each_part_has_a_mask_of_its_own_that_the_seed_decides(size: int) -> None:
    dropout, batch = Dropout(0.5).train(), batch_of([100] * 60)
    with team(size) as several:
        first, again, other = (masks(dropout, batch, several, seed) for seed in (0, 0, 1))
    assert all(torch.equal(one, same) for one, same in zip(first, again, strict=True))
    assert not any(torch.equal(one, changed) for one, changed in zip(first, other, strict=True))
    assert not torch.equal(first[0], first[1])


def test_the_next_batch_has_other_masks() -> None:
    dropout, batch = Dropout(0.5).train(), batch_of([100] * 60)
    with team(2) as several:
        one, other = (several.each_part(lambda part: dropout(torch.ones(50)), batch) for _ in range(2))
    assert not torch.equal(one[0], other[0])
    assert not torch.equal(one[1], other[1])


# Which models


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_small_models_with_our_own_dropout_gain(kind: str, dropout: float) -> None:
    assert gains_by_threads(build(StudentConfig(kind=kind, size="XL", dropout=dropout), WORDS, CLASSES))


@pytest.mark.parametrize(
    "config",
    [StudentConfig(layers=2, dropout=0.3), StudentConfig(kind="gru", layers=2, dropout=0.3)],
    ids=lambda config: config.kind,
)
def test_models_that_draw_between_their_layers_do_not_gain(config: ModelConfig) -> None:
    assert not gains_by_threads(build(config, WORDS, CLASSES))
    assert gains_by_threads(build(config.model_copy(update={"dropout": 0.0}), WORDS, CLASSES))
    assert gains_by_threads(build(config.model_copy(update={"layers": 1}), WORDS, CLASSES))


def test_models_with_pytorchs_dropout_do_not_gain_however_deep_it_lies() -> None:
    assert not gains_by_threads(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.1))))
    assert gains_by_threads(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Tanh())))


def test_large_models_do_not_gain() -> None:
    with torch.device("meta"):
        large, smaller = nn.Embedding(LARGE, 1), nn.Embedding(LARGE - 1, 1)
        teacher = build(TeacherConfig(size="XL"), 20_000, 2)
    assert not gains_by_threads(large)
    assert gains_by_threads(smaller)
    assert not gains_by_threads(teacher)


# Whole trainings


def long_texts(count: int, first: int, chance: torch.Generator) -> EncodedTexts:
    """Texts of 101 to 130 words of which two say the label; every ninth has none."""
    rows, labels = [], []
    for number in range(count):
        length, label = 101 + int(torch.randint(30, (), generator=chance)), number % CLASSES
        row = torch.randint(2 + CLASSES, WORDS, (length,), generator=chance)
        row[torch.randint(length, (2,), generator=chance)] = 2 + label
        rows.append(row.tolist())
        labels.append(NO_LABEL if number % 9 == 4 else label)
    return EncodedTexts.of(range(first, first + count), rows, labels)


CHANCE = torch.Generator().manual_seed(6)
TRAIN, UNREAD = long_texts(64, 1000, CHANCE), long_texts(20, 2000, CHANCE)
LABELLED, VAL = (replace(texts, labels_N=texts.labels_N.clamp(min=0)) for texts in (TRAIN, UNREAD))
TAUGHT = SampleLogits.of([(TRAIN, 2 * torch.randn(len(TRAIN), CLASSES, generator=CHANCE))])
TRAINING = TrainingConfig(epochs=2, learning_rate=1e-2, batch_size=40)
TEACHER = TeacherConfig(size="XS", epochs=2, batch_size=40, learning_rate=5e-3)
WHOLE, PARTS = {40, 24}, {2: {20, 24}, 3: {20, 24}}
"""Texts that a model of one thread, and of several, takes at once: the second batch has too few tokens to be cut."""


@dataclass
class Course:
    """A short training on long texts by so many threads."""

    threads: int
    dropout: float = 0.0
    seed: int = 3
    layers: int = 1
    average: bool = False
    folder: Path | None = None
    control: Control = field(default_factory=Control)
    reported: list[Event] = field(default_factory=list)
    taken: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        torch.manual_seed(1)
        self.model = build(StudentConfig(size="XS", layers=self.layers, dropout=self.dropout), WORDS, CLASSES)
        self.teacher = build(TEACHER.model_copy(update={"dropout": self.dropout}), WORDS, CLASSES)
        for model in (self.model, self.teacher):
            model.register_forward_pre_hook(self._note)
        self.context = Context(Compute(CPU, "float32"), self.reported.append, self.control, Pace(0.0))
        if self.folder is not None:
            checkpoints = RunCheckpoints.of(self.folder, "code", self.control.clock)
            self.context = replace(self.context, checkpoints=checkpoints)
        self.training = TRAINING.model_copy(update={"average_weights": self.average})

    def _note(self, module: nn.Module, given: tuple[Any, ...]) -> None:
        if module.training:
            self.taken.add(len(given[0]))

    def baseline(self) -> nn.Module:
        with threads(self.threads):
            train_baseline(self.model, TRAIN, VAL, self.training, seed=self.seed, context=self.context)
        return self.model

    def distil(self) -> nn.Module:
        with threads(self.threads):
            distil(
                self.model,
                TRAIN,
                VAL,
                TAUGHT,
                objective=ObjectiveConfig(beta_ramp=0.5),
                training=self.training,
                seed=self.seed,
                context=self.context,
            )
        return self.model

    def jointly(self) -> nn.Module:
        with threads(self.threads):
            distil_jointly(
                self.model,
                self.teacher,
                TRAIN,
                VAL,
                objective=ObjectiveConfig(mode="joint", beta=1),
                training=self.training,
                teacher_train=TRAIN,
                teacher_val=VAL,
                teacher_groups=parameter_groups(self.teacher, TEACHER),
                seed=self.seed,
                context=self.context,
            )
        return nn.ModuleList([self.model, self.teacher])

    def finetune(self) -> nn.Module:
        with threads(self.threads):
            finetune(self.teacher, LABELLED, VAL, TEACHER, seed=self.seed, context=self.context)
        return self.teacher

    @property
    def steps(self) -> list[Step]:
        return [event for event in self.reported if isinstance(event, Step)]


def weights(model: nn.Module) -> list[Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


every_training = pytest.mark.parametrize("take", [Course.baseline, Course.distil, Course.jointly, Course.finetune])


@every_training
@teams
def test_a_training_without_dropout_ends_as_that_of_one_thread(size: int, take: Callable[[Course], nn.Module]) -> None:
    alone, together = Course(1), Course(size)
    own, shared = take(alone), take(together)
    assert (alone.taken, together.taken) == (WHOLE, PARTS[size])
    pairs = zip(own.children(), shared.children(), strict=True) if take is Course.jointly else [(own, shared)]
    for one, other in pairs:
        with torch.no_grad():
            batch = TRAIN.gather(torch.arange(len(TRAIN)))
            expected, found = (model(batch.tokens_BT, batch.lengths_B) for model in (one, other))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
    for one, other in zip(alone.steps, together.steps, strict=True):
        for name in ("step", "examples", "ce", "kl", "loss", "lr", "teacher_ce"):
            expected = getattr(one, name)
            assert getattr(other, name) == (None if expected is None else pytest.approx(expected, abs=1e-4)), name


@every_training
def test_the_seed_alone_decides_a_training_by_threads(take: Callable[[Course], nn.Module]) -> None:
    first, again, other = (weights(take(Course(2, dropout=0.5, seed=seed))) for seed in (3, 3, 4))
    assert same(first, again)
    assert not same(first, other)


def test_dropout_hides_values_from_every_thread() -> None:
    courses = [Course(2, dropout=dropout) for dropout in (0.0, 0.5)]
    plain, hidden = (weights(course.distil()) for course in courses)
    assert courses[1].taken == PARTS[2]
    assert not same(plain, hidden)


def stopping_after(calls: int) -> Control:
    """Raises at one of the looks that a training takes before its batches."""
    left = iter(range(calls))

    def heed() -> None:
        if next(left, None) is None:
            raise Interrupted

    return Control(heed=heed)


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("calls", [1, 2, 3])
def test_an_interrupted_training_by_threads_goes_on_exactly(tmp_path: Path, calls: int, average: bool) -> None:
    undisturbed = weights(Course(2, dropout=0.4, average=average).distil())
    first = Course(2, dropout=0.4, average=average, folder=tmp_path / "it", control=stopping_after(calls))
    before = torch.get_num_threads()
    with pytest.raises(Interrupted):
        first.distil()
    assert torch.get_num_threads() == before
    second = Course(2, dropout=0.4, average=average, folder=tmp_path / "it")
    assert same(weights(second.distil()), undisturbed)
    assert len(first.steps) + len(second.steps) == 4, "no step is taken twice"


def test_slow_motion_changes_no_training_by_threads_and_draws_the_same_masks_again(tmp_path: Path) -> None:
    undisturbed = weights(Course(2, dropout=0.4).distil())
    seen, wishes = list[dict[str, Any]](), iter(range(1, 1000))
    control = Control(lambda: Wish(next(wishes), "batch"), show=lambda batch: seen.append(dict(batch)))
    assert same(weights(Course(2, dropout=0.4, control=control).distil()), undisturbed)
    assert [len(batch["texts"]) for batch in seen if batch["step"] in (1, 2)] in ([40, 24], [24, 40])
    still = Course(2, dropout=0.4, control=control)
    still.training = still.training.model_copy(update={"learning_rate": 0.0})
    seen.clear()
    still.distil()
    assert still.taken == PARTS[2]
    assert len(seen) == 4
    for batch in seen:
        assert batch["after"]["total"] == pytest.approx(batch["before"]["total"], abs=1e-5)


def test_a_model_that_draws_between_its_layers_is_trained_by_one_thread() -> None:
    course = Course(2, dropout=0.4, layers=2)
    course.distil()
    assert course.taken == WHOLE


@pytest.mark.parametrize("divisible", [True, False])
def test_only_a_divisible_loss_is_asked_about_parts(divisible: bool) -> None:
    model, sizes = nn.Linear(1, 1), list[int]()

    def loss(batch: Batch, done: float) -> Terms:
        sizes.append(len(batch))
        value = batch.share * model(torch.ones(1, 1)).sum()
        return Terms(value, value)

    with threads(2):
        fit(
            "lesson",
            model,
            batches=lambda generator: iter([batch_of([100] * 40)]),
            steps_per_epoch=1,
            loss=loss,
            score=lambda: Score(0, 0),
            epochs=1,
            optimizer=torch.optim.SGD(model.parameters(), 0.1),
            seed=0,
            context=Context(Compute(CPU, "float32"), lambda event: None),
            divisible=divisible,
        )
    assert sizes == ([20, 20] if divisible else [40])
    assert model.weight.grad is not None
    assert float(model.weight.grad) == pytest.approx(1)


# Reading


@teams
def test_a_team_reads_what_one_thread_reads(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "READING_TOKENS", 700)
    course, names, ticks = Course(1), set[str](), list[int]()
    course.model.register_forward_pre_hook(lambda *given: names.add(threading.current_thread().name))
    with threads(1):
        expected = logits_of(course.model, TRAIN, course.context)
    assert len(names) == 1
    with threads(size):
        found = logits_of(course.model, TRAIN, course.context, tick=ticks.append)
    assert len(names) > 1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert ticks == [len(rows) for rows in reading_rows(TRAIN, "other")]


def test_a_reading_by_a_team_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "READING_TOKENS", 700)
    batches, read = len(reading_rows(TRAIN, "other")), list[int]()

    def first_token(tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        read.append(len(tokens_BT))
        return tokens_BT[:, :1]

    def read_all(control: Control) -> Tensor:
        checkpoints = RunCheckpoints.of(tmp_path / "it", "code")
        context = Context(Compute(CPU, "float32"), lambda event: None, control, checkpoints=checkpoints)
        with threads(3):
            return outputs_of(first_token, TRAIN, context, "other", name="it")

    monkeypatch.setattr(RunCheckpoints, "due", lambda self: True)
    with pytest.raises(Interrupted):
        read_all(stopping_after(2))
    assert len(read) == 6
    rows = read_all(Control())
    assert len(read) == batches, "nothing is read twice"
    assert rows[:, 0].tolist() == TRAIN.flat[TRAIN.offsets[:-1]].tolist()
