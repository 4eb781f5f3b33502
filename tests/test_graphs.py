"""Steps from recordings, beside steps taken one by one.

There is no GPU in these tests. `Tape` stands in for CUDA's recorder: it keeps the operations with the memory that they
read and write, and repeats them there. Whatever a step decides or counts in Python is fixed in a recording, here as
there. It knows nothing of streams; `tests/cuda` asks a GPU.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from distill_core.config import ObjectiveConfig, StudentConfig, TeacherConfig, TrainingConfig
from distill_core.data.batches import Batch, EncodedDataset, EncodedTexts, SampleLogits, widened
from distill_core.events import Event, Step, Warned
from distill_core.models import classifier
from distill_core.models.classifier import build
from distill_core.models.dropout import Dropout
from distill_core.training import graphs, loop
from distill_core.training.context import Context
from distill_core.training.graphs import FIRST, LEAST_WIDTH, MOST_WEIGHTS, Graphs, common_width, gains_by_graphs
from distill_core.training.student import distil, train_baseline
from distill_core.training.teacher import finetune
from distill_core.training.terms import Terms

CUDA = torch.device("cuda")
TRAINING = TrainingConfig(epochs=6, learning_rate=1e-2, batch_size=16, average_weights=True)
KINDS = [
    StudentConfig(kind="lstm"),
    StudentConfig(kind="gru", pooling="last"),
    StudentConfig(kind="textcnn"),
    StudentConfig(kind="bag"),
]
every_kind = pytest.mark.parametrize("config", KINDS, ids=lambda config: config.kind)


class Tape(TorchDispatchMode):
    """Operations and the memory they work on."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        # Aliases: what `transpose_` and its like change is not the memory, and no graph hears of it.
        given = tree_map_only(Tensor, torch.ops.aten.alias.default, (args, kwargs or {}))
        outcome = func(*args, **(kwargs or {}))
        if torch.Tag.inplace_view not in func.tags:
            self.operations.append((func, *given, tree_map_only(Tensor, torch.ops.aten.alias.default, outcome)))
        return outcome

    def replay(self) -> None:
        with torch._C._AutoDispatchBelowAutograd():
            for func, args, kwargs, outcome in self.operations:
                again = func(*args, **kwargs)
                if any(value.alias_info is not None for value in func._schema.returns):
                    continue  # a view, or written in place
                for place, value in zip(tree_leaves(outcome), tree_leaves(again), strict=True):
                    if isinstance(place, Tensor):
                        place.copy_(value)


class Recorder:
    """Records on tapes, and counts what is recorded and repeated."""

    def __init__(self) -> None:
        self.recorded = self.repeated = 0
        self.spoilt: Callable[[], None] | None = None

    def __call__(self, function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        with Tape() as tape:
            outcome = function()
        self.recorded += 1

        def replay() -> None:
            self.repeated += 1
            tape.replay()
            if self.spoilt is not None:
                self.spoilt()

        return outcome, replay


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """In place of CUDA's; and what a CPU reads of lengths is left out, as on a GPU."""
    made = Recorder()
    monkeypatch.setattr(graphs, "CudaRecorder", lambda: made)
    monkeypatch.setattr(graphs, "WORTH", 1)
    monkeypatch.setattr(classifier, "_shortest", lambda states_BTH, lengths_B: 0)
    return made


@pytest.fixture
def graphed(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Every model gains by graphs, and no thread shares a batch."""
    monkeypatch.setattr(loop, "gains_by_graphs", lambda model, place: True)
    monkeypatch.setattr(loop, "gains_by_threads", lambda model: False)
    return recorder


@pytest.fixture
def wide(encoded: EncodedDataset) -> EncodedDataset:
    """Training texts of 8 words but for 12 shorter ones, fewer than a batch: no batch has to be made wider."""
    texts = encoded.train
    rows = [piece.tolist() for piece in texts.flat.split(texts.lengths_N.tolist())]
    rows = [(row * 8)[: 8 if number % 4 else 1 + number % 7] for number, row in enumerate(rows)]
    return replace(encoded, train=EncodedTexts.of(texts.ids_N.tolist(), rows, texts.labels_N.tolist()))


@pytest.fixture
def taught(encoded: EncodedDataset) -> SampleLogits:
    generator = torch.Generator().manual_seed(0)
    return SampleLogits.of([(encoded.train, torch.randn(len(encoded.train), 2, generator=generator))])


def model_of(config: StudentConfig | TeacherConfig, data: EncodedDataset, dropout: float = 0.3) -> nn.Module:
    torch.manual_seed(1)
    return build(config.model_copy(update={"size": "XS", "dropout": dropout}), len(data.vocabulary), 2)


def trained(
    config: StudentConfig,
    data: EncodedDataset,
    taught: SampleLogits,
    context: Context,
    *,
    dropout: float = 0.3,
    objective: ObjectiveConfig | None = None,
) -> dict[str, Tensor]:
    model = model_of(config, data, dropout)
    objective = objective or ObjectiveConfig(temperature=2.0)
    distil(model, data.train, data.val, taught, objective=objective, training=TRAINING, seed=1, context=context)
    return model.state_dict()


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


def steps_of(reported: list[Event]) -> list[Step]:
    return [event for event in reported if isinstance(event, Step)]


# The tape


def test_a_tape_repeats_what_was_asked_for_on_other_values_and_with_other_chance() -> None:
    dropout, given = Dropout(0.5), torch.arange(64.0)

    def function() -> Tensor:
        return dropout(given.view(8, 8).T * 2).sum(dim=0)

    with Tape() as tape:
        outcome = function()
    given.copy_(torch.arange(64.0).flip(0))
    torch.manual_seed(5)
    expected = function()
    torch.manual_seed(5)
    tape.replay()
    torch.testing.assert_close(outcome, expected)


def test_a_value_that_is_read_cannot_be_recorded() -> None:
    with pytest.raises(RuntimeError, match="capturing"), Tape():
        float(torch.ones(3).sum())


# Whole trainings


@every_kind
def test_a_student_that_learns_from_recordings_is_the_same(
    wide: EncodedDataset,
    taught: SampleLogits,
    context: Context,
    reported: list[Event],
    monkeypatch: pytest.MonkeyPatch,
    recorder: Recorder,
    config: StudentConfig,
) -> None:
    monkeypatch.setattr(loop, "gains_by_threads", lambda model: False)
    plain, one_by_one = trained(config, wide, taught, context), steps_of(reported)
    assert recorder.recorded == 0
    reported.clear()
    monkeypatch.setattr(loop, "gains_by_graphs", lambda model, place: True)
    same(plain, trained(config, wide, taught, context))
    assert (recorder.recorded, recorder.repeated) == (1, 6 * 3 - FIRST + 1)
    told = steps_of(reported)
    assert len(told) == len(one_by_one) == 18
    for step, before in zip(told, one_by_one, strict=True):
        assert (step.step, step.lr, step.examples) == (before.step, before.lr, before.examples)
        assert (step.ce, step.kl, step.loss) == pytest.approx((before.ce, before.kl, before.loss), rel=1e-4)


@every_kind
def test_padding_to_common_widths_changes_nothing_but_what_dropout_draws(
    encoded: EncodedDataset,
    taught: SampleLogits,
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
    recorder: Recorder,
    config: StudentConfig,
) -> None:
    monkeypatch.setattr(loop, "gains_by_threads", lambda model: False)
    plain = trained(config, encoded, taught, context, dropout=0.0)
    monkeypatch.setattr(loop, "gains_by_graphs", lambda model, place: True)
    widths, step = set[int](), Graphs.step
    monkeypatch.setattr(
        Graphs, "step", lambda graphs, batch: widths.add(batch.tokens_BT.shape[1]) or step(graphs, batch)
    )
    same(plain, trained(config, encoded, taught, context, dropout=0.0))
    assert recorder.repeated > recorder.recorded > 0
    assert {width % LEAST_WIDTH for width in widths} == {0}


def test_a_baseline_and_a_teacher_learn_from_recordings_too(
    wide: EncodedDataset, context: Context, graphed: Recorder
) -> None:
    train_baseline(model_of(StudentConfig(), wide), wide.train, wide.val, TRAINING, seed=1, context=context)
    assert (graphed.recorded, graphed.repeated) == (1, 16)
    settings = TeacherConfig(size="XS", epochs=6, batch_size=16)
    finetune(model_of(settings, wide), wide.train, wide.val, settings, seed=1, context=context)
    assert (graphed.recorded, graphed.repeated) == (2, 32)


def test_a_loss_that_changes_on_the_way_is_not_recorded(
    wide: EncodedDataset, taught: SampleLogits, context: Context, graphed: Recorder
) -> None:
    trained(StudentConfig(), wide, taught, context, objective=ObjectiveConfig(beta_ramp=0.5))
    assert graphed.recorded == 0


# Single steps


class Lesson:
    """Steps of a student over made batches."""

    def __init__(self, data: EncodedDataset) -> None:
        self.model = model_of(StudentConfig(kind="bag"), data)
        self.weights = list(self.model.parameters())
        self.asked = 0
        self.reads = False
        self.fresh = True
        self.texts = data.train
        self.given_up: list[str] = []
        self.graphs = Graphs(self.step, 10_000, self.given_up.append)

    def step(self, batch: Batch) -> tuple[Terms, Any]:
        self.asked += 1
        loss = nn.functional.cross_entropy(self.model(batch.tokens_BT, batch.lengths_B), batch.labels_B)
        gathering = [get_gradient_edge(weight).node.metadata for weight in self.weights]
        self.fresh = not any("step" in node for node in gathering)
        gathering[0]["step"] = self.asked
        if self.reads:
            float(loss.detach())
        return Terms(loss, loss), torch.autograd.grad(loss, self.weights)

    def batch(self, first: int, width: int = 8) -> Batch:
        return widened(self.texts.gather(torch.arange(first, first + 4)), width)

    def agrees(self, first: int, width: int = 8) -> bool:
        """Whether the graphs say what the step itself says, by the same chance, and leave the same chance behind."""
        batch, before = self.batch(first, width), torch.get_rng_state()
        terms, gradients = self.step(batch)
        after = torch.get_rng_state()
        torch.set_rng_state(before)
        again, others = self.graphs.step(batch)
        return (
            torch.equal(after, torch.get_rng_state())
            and torch.allclose(terms.loss, again.loss)
            and all(torch.allclose(one, other) for one, other in zip(gradients, others, strict=True))
        )


def test_every_step_of_a_graph_is_that_of_its_own_batch(wide: EncodedDataset, recorder: Recorder) -> None:
    lesson = Lesson(wide)
    assert all(lesson.agrees(first) for first in range(12))
    assert (recorder.recorded, recorder.repeated) == (1, 12 - FIRST + 1)
    with torch.no_grad():
        for weight in lesson.weights:
            weight.mul_(0.5)
    assert lesson.agrees(3), "weights that have changed in place"
    assert recorder.recorded == 1


def test_what_autograd_keeps_of_a_step_is_gone_before_it_is_recorded(wide: EncodedDataset, recorder: Recorder) -> None:
    lesson = Lesson(wide)
    kept = [lesson.step(lesson.batch(0)), lesson.step(lesson.batch(1))]
    assert not lesson.fresh, "while losses of a step are kept, the next one finds its marks"
    kept.clear()
    for first in range(FIRST):
        lesson.graphs.step(lesson.batch(first))
    assert recorder.recorded == 1
    assert lesson.fresh


def test_graphs_and_their_memory_go_with_the_training(
    wide: EncodedDataset, taught: SampleLogits, context: Context, graphed: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, build_graphs = list[weakref.ref[Graphs]](), Graphs

    def noted(*given: Any) -> Graphs:
        found = build_graphs(*given)
        made.append(weakref.ref(found))
        return found

    monkeypatch.setattr(loop, "Graphs", noted)
    gc.disable()
    try:
        trained(StudentConfig(kind="bag"), wide, taught, context)
        assert graphed.recorded == 1
        assert [graphs_() for graphs_ in made] == [None]
    finally:
        gc.enable()


def test_losses_outlive_the_next_step(wide: EncodedDataset, recorder: Recorder) -> None:
    lesson = Lesson(wide)
    terms = [lesson.graphs.step(lesson.batch(first))[0] for first in range(8)]
    assert recorder.repeated == 8 - FIRST + 1
    assert len({float(term.loss.detach()) for term in terms}) == 8
    assert not any(term.loss.requires_grad for term in terms[FIRST:])


def test_each_shape_has_a_graph_of_its_own_up_to_a_limit(
    wide: EncodedDataset, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "MOST_SHAPES", 2)
    lesson = Lesson(wide)
    for round_ in range(FIRST + 2):
        assert all(lesson.agrees(round_, width) for width in (8, 16, 24))
    assert recorder.recorded == 2
    assert recorder.repeated == 2 * 3


def test_a_shape_that_will_hardly_come_again_is_not_recorded(
    wide: EncodedDataset, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "WORTH", 6)
    lesson = Lesson(wide)
    lesson.graphs = Graphs(lesson.step, 20, lesson.given_up.append)
    for first in range(8):
        lesson.graphs.step(lesson.batch(first, 8))
    assert recorder.recorded == 1, "at the third of twenty, seventeen more are expected"
    for first in range(FIRST):
        lesson.graphs.step(lesson.batch(first, 16))
    assert recorder.recorded == 1, "at the third of eleven, three of the nine that are left are expected"


def test_graphs_share_the_memory_of_their_gradients(wide: EncodedDataset, recorder: Recorder) -> None:
    lesson = Lesson(wide)
    found = {
        gradient.data_ptr()
        for _ in range(FIRST + 1)
        for width in (8, 16)
        for gradient in lesson.graphs.step(lesson.batch(0, width))[1]
        if recorder.recorded == 2
    }
    assert len(found) == 2 * len(lesson.weights), "those of the step that was compared, and of both graphs"


def test_a_graph_that_differs_is_never_used(wide: EncodedDataset, recorder: Recorder) -> None:
    lesson = Lesson(wide)

    def spoil() -> None:
        for gradient in lesson.graphs._gradients:
            assert gradient is not None
            gradient.mul_(1.05)

    recorder.spoilt = spoil
    assert all(lesson.agrees(first) for first in range(FIRST + 3))
    assert (recorder.recorded, recorder.repeated) == (1, 1)
    assert lesson.given_up == ["a graph came to something else than its step"]
    assert not lesson.graphs._graphs


def test_outcomes_agree_weight_by_weight() -> None:
    terms, gradient = Terms(torch.ones(()), torch.ones(())), torch.ones(3)
    assert graphs._agree((terms, [gradient, None]), (terms, [gradient, None]))
    assert not graphs._agree((terms, [gradient, None]), (terms, [gradient, gradient]))
    assert not graphs._agree((terms, [gradient * torch.nan]), (terms, [gradient]))
    assert not graphs._agree((terms, [100 * gradient, gradient]), (terms, [100 * gradient, 1.5 * gradient]))
    assert graphs._agree((terms, [gradient, 1e-9 * gradient]), (terms, [gradient, 0 * gradient])), "too small to matter"
    other = Terms(torch.tensor(1.1), terms.ce)
    assert not graphs._agree((terms, [gradient]), (other, [gradient]))


def test_what_cannot_be_recorded_goes_on_step_by_step(wide: EncodedDataset, recorder: Recorder) -> None:
    lesson = Lesson(wide)
    lesson.reads = True
    assert all(lesson.agrees(first) for first in range(FIRST + 3))
    assert (recorder.recorded, recorder.repeated) == (0, 0)
    lesson.asked = 0
    lesson.graphs.step(lesson.batch(0))
    assert lesson.asked == 1, "nobody tries again"
    assert lesson.given_up == ["operation not permitted when stream is capturing"]


def test_a_training_says_that_it_goes_on_without_graphs(
    wide: EncodedDataset,
    taught: SampleLogits,
    context: Context,
    reported: list[Event],
    graphed: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(loop, "gains_by_graphs", lambda model, place: True)
    monkeypatch.setattr(loop, "gains_by_threads", lambda model: False)
    monkeypatch.setattr(graphs, "CudaRecorder", lambda: graphed)  # and the shortest length of a batch is read
    trained(StudentConfig(kind="lstm"), wide, taught, context)
    assert [event.message for event in reported if isinstance(event, Warned)] == [
        "Steps are not taken from CUDA graphs (operation not permitted when stream is capturing); "
        "the outcome is the same, but takes longer."
    ]
    assert len(steps_of(reported)) == 18


# Who gains


@pytest.mark.parametrize(
    ("config", "place", "gains"),
    [
        (StudentConfig(size="M"), CUDA, True),
        (StudentConfig(size="M"), torch.device("cpu"), False),
        (StudentConfig(size="M", kind="textcnn"), CUDA, True),
        (StudentConfig(size="S", layers=2, dropout=0.1), CUDA, False),
        (StudentConfig(size="S", layers=2, dropout=0.0), CUDA, True),
    ],
)
def test_small_models_on_a_gpu_gain(config: StudentConfig, place: torch.device, gains: bool) -> None:
    with torch.device("meta"):
        assert gains_by_graphs(build(config, 5000, 2), place) is gains


@pytest.mark.parametrize(("weights", "gains"), [(MOST_WEIGHTS - 1, True), (MOST_WEIGHTS, False)])
def test_large_models_do_not_gain(weights: int, gains: bool) -> None:
    with torch.device("meta"):
        assert gains_by_graphs(nn.Linear(weights, 1, bias=False), CUDA) is gains


@pytest.mark.parametrize(
    ("tokens", "width"),
    [(1, 8), (8, 8), (9, 16), (22, 24), (63, 64), (64, 64), (65, 80), (128, 128), (129, 160), (250, 256), (257, 320)],
)
def test_batches_are_padded_to_a_common_width(tokens: int, width: int) -> None:
    assert common_width(tokens) == width
    batch = EncodedTexts.without_labels([[5] * tokens, [7]]).gather(torch.arange(2))
    padded = widened(batch, width)
    assert padded.tokens_BT.shape == (2, width)
    assert torch.equal(padded.tokens_BT[:, :tokens], batch.tokens_BT)
    assert not bool(padded.tokens_BT[:, tokens:].any())
    assert torch.equal(padded.lengths_B, batch.lengths_B)


@given(st.integers(1, 2000))
def test_padding_is_less_than_a_quarter_of_a_wide_batch_and_widths_are_few(tokens: int) -> None:
    width = common_width(tokens)
    assert tokens <= width < tokens + max(LEAST_WIDTH, tokens / 4)
    assert common_width(width) == width
