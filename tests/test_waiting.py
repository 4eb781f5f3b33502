"""A step of training never waits for its device: no value is read, and nothing is sent that has to arrive first.

Tensors on the device `meta` have no values, so whatever asks for one raises. There the whole step is run as on a GPU,
but for a fused Adam and for autocast, which know real devices alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from distill_core.config import Divergence, ObjectiveConfig, StudentConfig, TeacherConfig, TrainingConfig
from distill_core.data import batches
from distill_core.data.batches import NO_LABEL, Batch, EncodedDataset, EncodedTexts, SampleLogits
from distill_core.device import Compute
from distill_core.events import Event, Pace, Step
from distill_core.models import classifier
from distill_core.models.classifier import _Largest, build
from distill_core.models.pretrained import build as transformer
from distill_core.training import loop, student, teacher
from distill_core.training.context import Context
from distill_core.training.language_model import LanguageModel
from distill_core.training.reading import Score
from distill_core.training.student import distil, distil_jointly, train_baseline
from distill_core.training.teacher import finetune, parameter_groups, pretrain
from distill_core.training.team import Team
from distill_core.training.terms import Terms
from tests.encoders import WORDS, Family, save_tiny

CPU, META = torch.device("cpu"), torch.device("meta")
READS = frozenset({"_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal", "masked_select", "_unique2"})
"""Operations whose outcome the processor needs before it can go on."""
TRAINING = TrainingConfig(epochs=2, learning_rate=1e-2, batch_size=20)
STUDENTS = [
    StudentConfig(kind="lstm"),
    StudentConfig(kind="lstm", layers=2),
    StudentConfig(kind="gru", pooling="last"),
    StudentConfig(kind="textcnn"),
    StudentConfig(kind="bag"),
]
every_student = pytest.mark.parametrize(
    "config", STUDENTS, ids=lambda config: f"{config.kind}-{config.layers}-{config.pooling}"
)


class Recorder(TorchDispatchMode):
    """Notes each operation, and each copy to another device with whether somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.sent: list[tuple[torch.dtype, int, bool]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        self.operations[name] += 1
        device = kwargs.get("device")
        if name == "_to_copy" and device is not None and torch.device(device) != args[0].device:
            self.sent.append((args[0].dtype, args[0].dim(), not kwargs.get("non_blocking", False)))
        if name == "copy_" and args[0].device != args[1].device:
            self.sent.append((args[1].dtype, args[1].dim(), not (args[2] if len(args) > 2 else False)))
        return func(*args, **kwargs)

    @property
    def reads(self) -> int:
        return sum(count for name, count in self.operations.items() if name in READS)


@pytest.fixture
def short(encoded: EncodedDataset) -> EncodedDataset:
    """Training texts of at most four words: without a kernel, each word of an LSTM takes a while."""
    texts = encoded.train
    rows = [piece.tolist()[: 2 + row % 3] for row, piece in enumerate(texts.flat.split(texts.lengths_N.tolist()))]
    return replace(encoded, train=EncodedTexts.of(texts.ids_N.tolist(), rows, texts.labels_N.tolist()))


@pytest.fixture
def taught(encoded: EncodedDataset) -> SampleLogits:
    generator = torch.Generator().manual_seed(0)
    return SampleLogits.of([(encoded.train, torch.randn(len(encoded.train), 2, generator=generator))])


@pytest.fixture
def half_labelled(short: EncodedDataset) -> EncodedDataset:
    labels_N = short.train.labels_N.clone()
    labels_N[::3] = NO_LABEL
    return replace(short, train=replace(short.train, labels_N=labels_N))


def waiting_context(device: torch.device, reported: list[Event]) -> Context:
    """One whose events are due at the end of a training alone."""
    pace = Pace(1000.0)
    assert pace.due()
    return Context(Compute(device, "float32"), reported.append, pace=pace)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, reported: list[Event]) -> Iterator[Context]:
    """A context on another device, where events and scores are made up; PyTorch has two threads."""
    fused = list[bool]()

    def unfused(plain: type[torch.optim.Adam]) -> Callable[..., torch.optim.Adam]:
        def build(*given: Any, **named: Any) -> torch.optim.Adam:
            fused.append(named.pop("fused"))
            return plain(*given, **named)

        return build

    for name in ("Adam", "AdamW"):
        monkeypatch.setattr(torch.optim, name, unfused(getattr(torch.optim, name)))
    monkeypatch.setattr(torch, "autocast", lambda *given, **named: nullcontext())
    for module in (student, teacher):
        monkeypatch.setattr(module, "validation_score", lambda model, texts, context: Score(0.5, 0.5, 0.5))
    monkeypatch.setattr(
        loop.Meter, "read", lambda meter, stage, step, lr: Step(stage, step, meter.examples, None, None, None, lr)
    )
    monkeypatch.setattr(Team, "each_part", lambda *given: pytest.fail("threads of the CPU shared a batch"))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield waiting_context(META, reported)
    torch.set_num_threads(before)
    assert fused == [True]


def model_of(config: StudentConfig | TeacherConfig, data: EncodedDataset, device: torch.device) -> nn.Module:
    torch.manual_seed(1)
    with device:
        return build(config.model_copy(update={"size": "XS", "dropout": 0.3}), len(data.vocabulary), 2)


def taken(reported: list[Event]) -> list[int]:
    return [event.step for event in reported if isinstance(event, Step)]


# Without values


@pytest.mark.parametrize(
    "read",
    [
        lambda tensor: tensor[0].item(),
        lambda tensor: int(tensor.sum()),
        lambda tensor: bool(tensor[0] == 0),
        lambda tensor: tensor[tensor > 0],
        lambda tensor: torch.equal(tensor, tensor),
        lambda tensor: tensor.tolist(),
        lambda tensor: tensor.cpu(),
        lambda tensor: torch.zeros(3).copy_(tensor),
    ],
    ids=["item", "int", "bool", "mask", "equal", "tolist", "cpu", "copy"],
)
def test_a_value_that_is_read_on_meta_raises(read: Callable[[Tensor], object]) -> None:
    with pytest.raises((RuntimeError, NotImplementedError), match=r"[Mm]eta"):
        read(torch.zeros(3, device=META))


@every_student
@pytest.mark.parametrize("trained", ["baseline", "distil"])
def test_a_students_steps_read_no_value(
    half_labelled: EncodedDataset,
    taught: SampleLogits,
    elsewhere: Context,
    reported: list[Event],
    config: StudentConfig,
    trained: str,
) -> None:
    model, data = model_of(config, half_labelled, META), half_labelled
    if trained == "baseline":
        train_baseline(model, data.train, data.val, TRAINING, seed=1, context=elsewhere)
    else:
        distil(
            model,
            data.train,
            data.val,
            taught,
            objective=ObjectiveConfig(beta_ramp=0.5),
            training=TRAINING,
            seed=1,
            context=elsewhere,
        )
    assert taken(reported) == [6], "two epochs of three batches, told of at the end"
    assert all(weight.grad is not None and weight.grad.device == META for weight in model.parameters())


@pytest.mark.parametrize("kind", get_args(Divergence))
def test_no_distance_reads_a_value(
    half_labelled: EncodedDataset, taught: SampleLogits, elsewhere: Context, reported: list[Event], kind: Divergence
) -> None:
    distil(
        model_of(StudentConfig(kind="bag"), half_labelled, META),
        half_labelled.train,
        half_labelled.val,
        taught,
        objective=ObjectiveConfig(divergence=kind),
        training=TRAINING,
        seed=1,
        context=elsewhere,
    )
    assert taken(reported) == [6]


def test_the_steps_of_teacher_and_student_together_read_no_value(
    short: EncodedDataset, elsewhere: Context, reported: list[Event]
) -> None:
    model, settings = model_of(StudentConfig(), short, META), TeacherConfig(size="XS")
    both = model_of(settings, short, META)
    distil_jointly(
        model,
        both,
        short.train,
        short.val,
        objective=ObjectiveConfig(mode="joint"),
        training=TRAINING,
        teacher_train=short.train,
        teacher_val=short.val,
        teacher_groups=parameter_groups(both, settings),
        seed=1,
        context=elsewhere,
    )
    assert taken(reported) == [6]


def test_a_teachers_steps_read_no_value(short: EncodedDataset, elsewhere: Context, reported: list[Event]) -> None:
    settings = TeacherConfig(size="XS", epochs=2, batch_size=20)
    finetune(model_of(settings, short, META), short.train, short.val, settings, seed=1, context=elsewhere)
    assert taken(reported) == [6]


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_language_models_steps_read_no_value(
    short: EncodedDataset,
    elsewhere: Context,
    reported: list[Event],
    monkeypatch: pytest.MonkeyPatch,
    bidirectional: bool,
) -> None:
    def fit_unscored(*given: Any, **named: Any) -> Score:
        return loop.fit(*given, **{**named, "score": lambda: Score(0.5, 0.5)})

    monkeypatch.setattr(teacher, "fit", fit_unscored)
    settings = TeacherConfig(
        size="XS", bidirectional=bidirectional, pretrain_task="language_model", pretrain_epochs=2, batch_size=20
    )
    model = model_of(settings, short, META)
    pretrain(model, replace(short, unlabelled=short.train), settings, seed=1, context=elsewhere)
    assert taken(reported) == [2 * 5], "two epochs over 48 texts twice, 20 at a time"


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", get_args(Family))
def test_an_encoders_steps_read_no_value(
    short: EncodedDataset, elsewhere: Context, reported: list[Event], tmp_path: Path, family: Family, attention: str
) -> None:
    model, _ = transformer(str(save_tiny(tmp_path, family)), 2, 256)
    model.encoder.set_attn_implementation(attention)
    settings = TeacherConfig(kind="pretrained", epochs=2, batch_size=20)
    texts = replace(short.train, flat=short.train.flat % len(WORDS))
    finetune(model.to(META), texts, short.val, settings, seed=1, context=elsewhere)
    assert taken(reported) == [6]


def test_an_event_is_where_values_are_read() -> None:
    meter = loop.Meter()
    for _ in range(3):
        value = torch.ones((), device=META, requires_grad=True) * 2
        meter.add(Terms(value, value, value, labelled=torch.ones((), device=META)), 8)
    assert meter.examples == 24
    with pytest.raises(RuntimeError, match="meta"):
        meter.read("distil", 3, 0.1)


# What is sent


@every_student
def test_a_step_sends_nothing_but_rows_for_which_nobody_waits(
    short: EncodedDataset,
    taught: SampleLogits,
    elsewhere: Context,
    config: StudentConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder, steps = Recorder(), list[int]()

    def shuffled(*given: Any) -> Iterator[Batch]:
        found = batches.shuffled_batches(*given)
        while True:
            with recorder:
                batch = next(found, None)
            if batch is None:
                return
            steps.append(len(batch))
            yield batch

    take = loop._Lesson._take

    def watched(lesson: loop._Lesson, batch: Batch) -> None:
        with recorder:
            take(lesson, batch)

    monkeypatch.setattr(student, "shuffled_batches", shuffled)
    monkeypatch.setattr(loop._Lesson, "_take", watched)
    distil(
        model_of(config, short, META),
        short.train,
        short.val,
        taught,
        objective=ObjectiveConfig(),
        training=TRAINING,
        seed=1,
        context=elsewhere,
    )
    assert sorted(steps) == [8, 8, 20, 20, 20, 20]
    assert recorder.sent == [(torch.long, 1, False)] * 6


def test_a_language_model_sends_the_words_of_each_direction_for_which_nobody_waits(
    short: EncodedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *given, **named: nullcontext())
    model = LanguageModel(model_of(TeacherConfig(size="XS"), short, META), len(short.vocabulary)).to(META)
    on_cpu = short.train.gather(torch.arange(8))
    batch = on_cpu.to(META)
    with Recorder() as recorder:
        model(batch, on_cpu)
    assert recorder.sent == [(torch.long, 2, False)] * 2


def test_rows_are_sent_to_a_gpu_from_pinned_memory() -> None:
    calls = list[tuple[object, ...]]()

    class Rows:
        def pin_memory(self) -> Rows:
            calls.append(("pinned",))
            return self

        def to(self, device: torch.device, *, non_blocking: bool) -> Rows:
            calls.append((device, non_blocking))
            return self

    batches.sent(Rows(), torch.device("cuda", 0))
    batches.sent(Rows(), META)
    assert calls == [("pinned",), (torch.device("cuda", 0), True), (META, True)]


# What only a CPU reads


@pytest.mark.parametrize(
    ("config", "reads"),
    [
        (StudentConfig(kind="bag"), 0),
        (StudentConfig(kind="textcnn"), 0),
        (StudentConfig(kind="lstm", pooling="last"), 0),
        (StudentConfig(kind="lstm", bidirectional=False), 1),
        (StudentConfig(kind="gru"), 2),
    ],
    ids=["bag", "textcnn", "last", "one-direction", "two-directions"],
)
def test_a_step_on_the_cpu_reads_nothing_but_the_shortest_length_of_each_direction(
    half_labelled: EncodedDataset,
    taught: SampleLogits,
    context: Context,
    reported: list[Event],
    monkeypatch: pytest.MonkeyPatch,
    config: StudentConfig,
    reads: int,
) -> None:
    recorders, take = list[Recorder](), loop._Lesson._take

    def watched(lesson: loop._Lesson, batch: Batch) -> None:
        with Recorder() as recorder:
            take(lesson, batch)
        recorders.append(recorder)

    monkeypatch.setattr(loop._Lesson, "_take", watched)
    quiet = waiting_context(CPU, reported)
    distil(
        model_of(config, half_labelled, CPU),
        half_labelled.train,
        half_labelled.val,
        taught,
        objective=ObjectiveConfig(),
        training=TRAINING,
        seed=1,
        context=quiet,
    )
    assert taken(reported) == [6]
    assert [recorder.reads for recorder in recorders[:-1]] == [reads] * 5
    assert recorders[-1].reads > reads, "the event at the end is read"
    assert all(recorder.operations["_fused_adam_"] == 1 for recorder in recorders)
    assert all(recorder.sent == [] for recorder in recorders)


@pytest.mark.parametrize(("device", "first"), list(zip([CPU, META], [3, 0], strict=True)), ids=["cpu", "meta"])
def test_only_on_the_cpu_the_largest_state_knows_how_much_is_real_in_every_text(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, first: int
) -> None:
    filled, asked = classifier._filled, list[int]()

    def noted(states_BTH: Tensor, lengths_B: Tensor, start: int, value: float) -> Tensor:
        asked.append(start)
        return filled(states_BTH, lengths_B, start, value)

    monkeypatch.setattr(classifier, "_filled", noted)
    states_BTH = torch.zeros(2, 5, 3, device=device, requires_grad=True)
    _Largest.apply(states_BTH, torch.tensor([3, 4], device=device)).sum().backward()
    assert asked == [first, first]
    assert states_BTH.grad is not None
    assert states_BTH.grad.shape == states_BTH.shape


@pytest.mark.parametrize(("kind", "pooling"), list(product(["lstm", "gru"], ["max", "last"])))
def test_a_classifier_has_the_same_shapes_on_either_device(short: EncodedDataset, kind: str, pooling: str) -> None:
    shapes = []
    for device in (CPU, META):
        model = model_of(StudentConfig(kind=kind, pooling=pooling), short, device)
        batch = short.train.to(device).gather(torch.arange(5))
        logits_BC = model(batch.tokens_BT, batch.lengths_B)
        logits_BC.sum().backward()
        shapes.append([logits_BC.shape, *(weight.grad.shape for weight in model.parameters())])
    assert shapes[0] == shapes[1]


def test_averaging_weights_reads_no_value_and_sends_none() -> None:
    averaged, model = nn.Linear(2, 2, device="meta"), nn.Linear(2, 2, device="meta")
    with Recorder() as recorder:
        for steps in range(3):
            loop._average(averaged, model, steps)
    assert recorder.operations["_foreach_lerp_"] == 3
    assert recorder.sent == []
