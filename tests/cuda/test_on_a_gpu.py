"""What only a GPU can say: `make check-cuda`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill_core.config import ObjectiveConfig, StudentConfig, TeacherConfig, TrainingConfig
from distill_core.data.batches import Batch, EncodedDataset, SampleLogits
from distill_core.device import Compute, Precision
from distill_core.events import Pace, Warned
from distill_core.models.bag import BagOfEmbeddings
from distill_core.models.classifier import build
from distill_core.models.pretrained import build as transformer
from distill_core.store import Store
from distill_core.training import graphs, loop
from distill_core.training.context import Context
from distill_core.training.graphs import FIRST, Graphs, _Graph
from distill_core.training.reading import logits_of
from distill_core.training.student import distil
from distill_core.training.teacher import finetune, pretrain
from distill_core.training.terms import Terms
from tests.encoders import WORDS, save_tiny
from tests.runs import config_of, made_rows, run, write_csv

CUDA = torch.device("cuda")
KINDS = [StudentConfig(size="S", kind=kind, dropout=0.3) for kind in ("lstm", "gru", "textcnn", "bag")]
TRAINING = TrainingConfig(epochs=8, batch_size=16, average_weights=True)
every_kind = pytest.mark.parametrize("config", KINDS, ids=lambda config: config.kind)


pytestmark = pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")


@pytest.fixture(autouse=True)
def _recorded_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "WORTH", 1)


@pytest.fixture
def quiet() -> Context:
    """One that reports at the end of a training alone."""
    pace = Pace(1000.0)
    pace.due()
    return Context(Compute(CUDA, "float32"), lambda event: None, pace=pace)


@pytest.fixture
def unwaiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step from the fifth on raises where it waits for the GPU, but for the last, which is told of."""
    take = loop._Lesson._take

    def watched(lesson: loop._Lesson, batch: Batch) -> None:
        inner = FIRST < lesson.training.at.step < lesson.total - 1
        torch.cuda.set_sync_debug_mode("error" if inner else "default")
        try:
            take(lesson, batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(loop._Lesson, "_take", watched)


def model_of(config: StudentConfig | TeacherConfig, data: EncodedDataset, place: torch.device = CUDA) -> Any:
    torch.manual_seed(1)
    return build(config, len(data.vocabulary), 2).to(place)


def taught(config: StudentConfig, data: EncodedDataset, context: Context) -> dict[str, Tensor]:
    model = model_of(config, data)
    generator = torch.Generator().manual_seed(0)
    answers = SampleLogits.of([(data.train, torch.randn(len(data.train), 2, generator=generator))])
    distil(
        model, data.train, data.val, answers, objective=ObjectiveConfig(), training=TRAINING, seed=1, context=context
    )
    return dict(model.state_dict())


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Graphs]:
    """The graphs of each training."""
    found = list[Graphs]()

    def noted(*given: Any) -> Graphs:
        found.append(Graphs(*given))
        return found[-1]

    monkeypatch.setattr(loop, "Graphs", noted)
    return found


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called, steps are as wide and by the same chance as with graphs, but without them."""
    return lambda: monkeypatch.setattr(Graphs, "step", lambda steps, batch: steps._step(batch))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@every_kind
def test_a_student_that_learns_from_graphs_is_the_same(
    encoded: EncodedDataset,
    quiet: Context,
    made: list[Graphs],
    one_by_one: Callable[[], None],
    config: StudentConfig,
    precision: Precision,
) -> None:
    context = replace(quiet, compute=Compute(CUDA, precision))
    from_graphs = taught(config, encoded, context)
    assert made[0]._usable
    assert made[0]._graphs
    one_by_one()
    torch.testing.assert_close(from_graphs, taught(config, encoded, context), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("where", ["always", "in a recording"])
def test_a_step_that_cannot_be_recorded_is_taken_without_graphs(
    encoded: EncodedDataset,
    quiet: Context,
    made: list[Graphs],
    one_by_one: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    told, forward, config = list[object](), BagOfEmbeddings.forward, KINDS[-1]

    def reading(model: BagOfEmbeddings, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        logits_BC = forward(model, tokens_BT, lengths_B)
        if where == "always" or torch.cuda.is_current_stream_capturing():
            float(logits_BC.detach().sum())
        return logits_BC

    monkeypatch.setattr(BagOfEmbeddings, "forward", reading)
    without = taught(config, encoded, replace(quiet, emit=told.append))
    assert not made[0]._usable
    assert sum(isinstance(event, Warned) for event in told) == 1
    one_by_one()
    torch.testing.assert_close(without, taught(config, encoded, quiet), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("unwaiting")
@every_kind
def test_no_step_of_a_student_waits(encoded: EncodedDataset, quiet: Context, one_by_one: Any, config: Any) -> None:
    one_by_one()
    taught(config, encoded, quiet)


@every_kind
def test_no_step_from_a_graph_waits(
    encoded: EncodedDataset, quiet: Context, monkeypatch: pytest.MonkeyPatch, config: StudentConfig
) -> None:
    replay, taken = _Graph.replay, list[None]()

    def watched(graph: _Graph, batch: Batch) -> Terms:
        torch.cuda.set_sync_debug_mode("error")
        try:
            taken.append(None)
            return replay(graph, batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(_Graph, "replay", watched)
    taught(config, encoded, quiet)
    assert len(taken) > 5


@pytest.mark.usefixtures("unwaiting")
def test_no_step_of_pretraining_waits(encoded: EncodedDataset, quiet: Context) -> None:
    settings = TeacherConfig(size="S", pretrain_task="language_model", pretrain_epochs=3, batch_size=8)
    pretrain(model_of(settings, encoded), encoded, settings, seed=1, context=quiet)


@pytest.mark.usefixtures("unwaiting")
def test_no_step_of_an_encoder_waits(encoded: EncodedDataset, quiet: Context, tmp_path: Path) -> None:
    model, _ = transformer(str(save_tiny(tmp_path)), 2, 256)
    settings = TeacherConfig(kind="pretrained", epochs=3, batch_size=8)
    train, val = (replace(texts, flat=texts.flat % len(WORDS)) for texts in (encoded.train, encoded.val))
    finetune(model.to(CUDA), train, val, settings, seed=1, context=quiet)


@pytest.mark.parametrize(
    "config", [*KINDS, TeacherConfig(size="M")], ids=lambda config: f"{config.kind}-{type(config).__name__}"
)
def test_answers_are_those_of_a_cpu(encoded: EncodedDataset, config: StudentConfig | TeacherConfig) -> None:
    here, there = (
        logits_of(model_of(config, encoded, place), encoded.val, Context(Compute(place, "float32"), lambda event: None))
        for place in (torch.device("cpu"), CUDA)
    )
    torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-3)


def test_a_whole_run_takes_the_gpu(tmp_path: Path) -> None:
    config = config_of(write_csv(tmp_path / "rows.csv", made_rows(80)))
    assert run(Store(tmp_path / "home"), config).result["device"] == "cuda"
