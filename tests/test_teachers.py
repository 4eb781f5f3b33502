"""A teacher of each kind: built, trained, asked, saved and read again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from distill_core import device, teachers
from distill_core.config import RunConfig
from distill_core.control import Control
from distill_core.data.batches import EncodedTexts
from distill_core.errors import Cancelled
from distill_core.events import Event, Pace, StageStarted
from distill_core.job import Job
from distill_core.models.classifier import TextClassifier
from distill_core.models.pretrained import TransformerClassifier
from distill_core.store import ENCODER, TEACHER_WEIGHTS, Store
from distill_core.teachers import Teacher
from distill_core.teaching import prepare_data
from distill_core.training.context import Context
from distill_core.training.reading import logits_of
from tests.encoders import save_tiny
from tests.runs import config_of, made_rows, write_csv

KINDS = ["lstm", "pretrained"]
TEXTS = ["a bright film", "a dull plot and a weak cast and a tired ending and more", "unheard words alone", "music"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "reviews.csv", made_rows(60))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("bert"))


def config_for(kind: str, file: Path, bert: Path, *settings: str) -> RunConfig:
    encoder = (f"teacher.model={bert}", "teacher.encoder_max_tokens=12", "teacher.encoder_learning_rate=0.005")
    return config_of(file, f"teacher.kind={kind}", *encoder, *settings)


def job_of(store: Store, config: RunConfig, events: list[Event] | None = None) -> Job:
    emit = (lambda event: None) if events is None else events.append
    context = Context(device.Compute(torch.device("cpu"), "float32"), emit, pace=Pace(0.0))
    return Job("unused", store, config, prepare_data(config, store), context)


def answers(teacher: Teacher, job: Job) -> Tensor:
    return logits_of(teacher.model, EncodedTexts.without_labels(teacher.encode_all(TEXTS)), job.context)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_teacher_is_of_its_kind_and_starts_the_same_every_time(
    home: Store, file: Path, bert: Path, kind: str
) -> None:
    job = job_of(home, config_for(kind, file, bert))
    first = teachers.new(job)
    torch.manual_seed(99)
    second = teachers.new(job)
    assert isinstance(first.model, TextClassifier if kind == "lstm" else TransformerClassifier)
    assert torch.equal(answers(first, job), answers(second, job))
    other = teachers.new(job_of(home, config_for(kind, file, bert, "training.seed=1")))
    assert not torch.equal(answers(first, job), answers(other, job))


def test_a_new_encoder_has_its_given_weights_under_a_new_head(home: Store, file: Path, bert: Path) -> None:
    teacher = teachers.new(job_of(home, config_for("pretrained", file, bert)))
    given, found = load_file(bert / "model.safetensors"), teacher.model.state_dict()
    assert all(torch.equal(found[f"encoder.{name}"], given[name]) for name in given)
    assert found["output.weight"].shape == (2, 16)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_teacher_answers_as_before_and_needs_nothing_else(
    home: Store, file: Path, bert: Path, tmp_path: Path, kind: str
) -> None:
    job = job_of(home, config_for(kind, file, bert))
    teacher = teachers.new(job)
    with torch.no_grad():
        for weights in teacher.model.parameters():
            weights.add_(0.1 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(1)))
    expected = answers(teacher, job)
    teacher.save(tmp_path)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == ({TEACHER_WEIGHTS} if kind == "lstm" else {TEACHER_WEIGHTS, ENCODER})
    away = config_for(kind, file, Path("/nowhere"))
    again = teachers.saved(replace(job, config=away), tmp_path)
    assert torch.allclose(answers(again, job), expected, atol=1e-6)
    assert again.encode_all(TEXTS) == teacher.encode_all(TEXTS)


def test_a_teacher_that_was_read_can_be_saved_again(home: Store, file: Path, bert: Path, tmp_path: Path) -> None:
    job = job_of(home, config_for("pretrained", file, bert))
    teacher = teachers.new(job)
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        teacher.save(folder)
        teacher = teachers.saved(job, folder)
    first, second = ({path.name for path in (tmp_path / name / ENCODER).iterdir()} for name in ("first", "second"))
    assert first == second
    assert "config.json" in first


@pytest.mark.parametrize("kind", KINDS)
def test_encoding_one_text_is_encoding_it_among_others(home: Store, file: Path, bert: Path, kind: str) -> None:
    teacher = teachers.new(job_of(home, config_for(kind, file, bert)))
    assert [teacher.encode(text) for text in TEXTS] == teacher.encode_all(TEXTS)


def test_an_lstm_reads_with_the_runs_words_and_an_encoder_with_its_own(home: Store, file: Path, bert: Path) -> None:
    lstm, encoder = (job_of(home, config_for(kind, file, bert)) for kind in KINDS)
    assert teachers.new(lstm).encode_all(TEXTS) == [lstm.encode(text) for text in TEXTS]
    assert [len(row) for row in teachers.new(encoder).encode_all(TEXTS)] == [5, 12, 6, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_readings_keep_ids_and_labels_of_each_split(home: Store, file: Path, bert: Path, kind: str) -> None:
    job = job_of(home, config_for(kind, file, bert))
    parts = teachers.readings(teachers.new(job), job, ("test", "train"))
    for part, split in zip(parts, (job.data.test, job.data.train), strict=True):
        assert torch.equal(part.ids_N, split.ids_N)
        assert torch.equal(part.labels_N, split.labels_N)


# Training


def trained(store: Store, config: RunConfig) -> tuple[Job, Teacher, dict[str, float], list[Event]]:
    events: list[Event] = []
    job = job_of(store, config, events)
    teacher = teachers.new(job)
    return job, teacher, teachers.train(teacher, job), events


@pytest.mark.parametrize(
    ("kind", "settings", "stages"),
    [
        ("lstm", [], ["finetune"]),
        ("lstm", ["teacher.pretrain=true"], ["pretrain", "finetune"]),
        ("pretrained", [], ["finetune"]),
        ("pretrained", ["teacher.pretrain=true"], ["finetune"]),
        ("pretrained", ["teacher.frozen=true"], ["finetune"]),
    ],
)
def test_training_goes_through_the_stages_of_its_kind(
    home: Store, file: Path, bert: Path, kind: str, settings: list[str], stages: list[str]
) -> None:
    _, _, seconds, events = trained(home, config_for(kind, file, bert, *settings))
    assert [event.stage for event in events if isinstance(event, StageStarted)] == stages
    assert list(seconds) == stages
    assert min(seconds.values()) > 0


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_encoder_moves_its_head_alone(home: Store, file: Path, bert: Path, frozen: bool) -> None:
    config = config_for("pretrained", file, bert, f"teacher.frozen={str(frozen).lower()}")
    before = {name: tensor.clone() for name, tensor in teachers.new(job_of(home, config)).model.state_dict().items()}
    _, teacher, _, _ = trained(home, config)
    moved = {name for name, tensor in teacher.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {"output.weight", "output.bias"} <= moved
    assert any(name.startswith("encoder.") for name in moved) is not frozen


def test_a_frozen_setting_says_nothing_about_an_lstm(home: Store, file: Path, bert: Path) -> None:
    plain, frozen = (
        trained(home, config_for("lstm", file, bert, *settings))[1] for settings in ([], ["teacher.frozen=true"])
    )
    weights = frozen.model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in plain.model.state_dict().items())


def test_a_frozen_head_is_trained_on_features_without_dropout_of_the_encoder(
    home: Store, file: Path, bert: Path
) -> None:
    config = config_for("pretrained", file, bert, "teacher.frozen=true")
    first, second = (trained(home, config)[1].model.state_dict() for _ in range(2))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


# Words and stopping


def test_an_lstms_words_are_its_embedding(home: Store, file: Path, bert: Path) -> None:
    job = job_of(home, config_for("lstm", file, bert))
    teacher = teachers.new(job)
    words = teachers.word_vectors(teacher, job)
    assert torch.equal(words, teacher.model.state_dict()["embedding.weight"])
    assert not words.requires_grad


def test_an_encoders_words_are_its_pooled_states_of_each_word(home: Store, file: Path, bert: Path) -> None:
    job = job_of(home, config_for("pretrained", file, bert))
    teacher = teachers.new(job)
    assert isinstance(teacher.model, TransformerClassifier)
    teacher.model.eval()
    words = teachers.word_vectors(teacher, job)
    assert words.shape == (len(job.data.vocabulary), 16)
    for row in (2, 7):
        ids = torch.tensor([teacher.encode(job.data.vocabulary.tokens[row])])
        with torch.no_grad():
            expected = teacher.model.pool(ids, torch.tensor([ids.shape[1]]))[0]
        assert torch.allclose(words[row], expected, atol=1e-5)


def test_turning_many_texts_into_word_pieces_can_be_stopped(
    home: Store, file: Path, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teachers, "CHUNK", 2)
    job = job_of(home, config_for("pretrained", file, bert))
    teacher = teachers.new(job)
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Cancelled

    stopping = replace(job, context=replace(job.context, control=Control(heed=check)))
    assert teachers.encoded_texts(teacher, job, TEXTS) == teacher.encode_all(TEXTS), "chunks change nothing"
    with pytest.raises(Cancelled):
        teachers.encoded_texts(teacher, stopping, TEXTS)
