"""What a model's entry of the result says: its facts, its worth on the test texts, how it follows its teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from distill_core import device, evaluation
from distill_core.config import RunConfig
from distill_core.control import Control
from distill_core.data.batches import SampleLogits
from distill_core.errors import Cancelled
from distill_core.evaluation import Candidate, evaluate
from distill_core.job import Job
from distill_core.store import Store
from distill_core.teaching import prepare_data
from distill_core.training.context import Context
from tests.runs import config_of, made_rows, write_csv

SPLITS = ("train", "val", "test")


class Known(nn.Module):
    """Answers what its table says of the first word of a text, and counts how many texts it was asked about."""

    def __init__(self, words: int, seed: int) -> None:
        super().__init__()
        table = torch.randn(words, 2, generator=torch.Generator().manual_seed(seed))
        self.table = nn.Parameter(3 * table)
        self.texts = 0

    def forward(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        self.texts += len(tokens_BT)
        return self.table[tokens_BT[:, 1]]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "reviews.csv", made_rows(120))


@pytest.fixture
def job(store: Store, file: Path, context: Context) -> Job:
    config = config_of(file)
    return Job(store.create_run(config), store, config, prepare_data(config, store), context)


def candidate(job: Job, role: str, seed: int) -> Candidate:
    model = Known(len(job.data.vocabulary), seed)
    job.store.write_tensors(job.run_id, f"{role}.safetensors", model.state_dict())
    return Candidate(role, job.config.teacher if role == "teacher" else job.config.student, model, job.encode)


@pytest.fixture(autouse=True)
def nothing_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "_latencies", {})


def answers(model: nn.Module, job: Job, split: str) -> Tensor:
    texts = getattr(job.data, split)
    batch = texts.gather(torch.arange(len(texts)))
    with torch.no_grad():
        logits_NC: Tensor = model(batch.tokens_BT, batch.lengths_B)
    return logits_NC


def kl(first_NC: Tensor, second_NC: Tensor) -> float:
    p, q = first_NC.double().softmax(dim=1), second_NC.double().softmax(dim=1)
    return float((p * (p / q).log()).sum(dim=1).mean())


def share(first_N: Tensor, second_N: Tensor) -> float:
    return float((first_N == second_N).double().mean())


def test_entries_say_what_each_model_does_on_each_split(job: Job) -> None:
    candidates = [candidate(job, role, seed) for seed, role in enumerate(("teacher", "baseline", "student"))]
    entries, test_logits = evaluate(job, candidates)
    assert list(entries) == list(test_logits) == ["teacher", "baseline", "student"]
    teacher = candidates[0].model
    assert teacher is not None
    for given in candidates:
        assert given.model is not None
        entry = entries[given.role]
        own = {split: answers(given.model, job, split) for split in SPLITS}
        assert torch.equal(test_logits[given.role], own["test"])
        for split, name in (("val", "val_accuracy"), ("test", "test_accuracy")):
            expected = share(own[split].argmax(dim=1), getattr(job.data, split).labels_N)
            assert entry[name] == pytest.approx(expected)
        assert entry["train"]["accuracy"] == pytest.approx(share(own["train"].argmax(dim=1), job.data.train.labels_N))
        if given.role == "teacher":
            assert not {"agreement", "kl", "kl_reverse"} & (entry.keys() | entry["train"].keys())
            continue
        for split, part in (("test", entry), ("train", entry["train"])):
            theirs = answers(teacher, job, split)
            assert part["agreement"] == pytest.approx(share(own[split].argmax(dim=1), theirs.argmax(dim=1)))
            assert part["kl"] == pytest.approx(kl(own[split], theirs), rel=1e-4)
            assert part["kl_reverse"] == pytest.approx(kl(theirs, own[split]), rel=1e-4)


def test_entries_count_weights_bytes_and_time(job: Job) -> None:
    given = candidate(job, "teacher", 0)
    entry = evaluate(job, [given])[0]["teacher"]
    assert entry["architecture"] == "BiLSTM 32 → 32, max pooling"
    assert entry["parameters"] == 2 * len(job.data.vocabulary)
    assert entry["bytes"] == (job.store.run_folder(job.run_id) / "teacher.safetensors").stat().st_size
    assert 0 < entry["latency_ms"] < 1000


def test_answers_that_are_known_are_not_asked_for_again(job: Job) -> None:
    given = candidate(job, "teacher", 0)
    assert isinstance(given.model, Known)
    known = SampleLogits.of([(getattr(job.data, split), answers(given.model, job, split) + 1) for split in SPLITS])
    given.model.texts = 0
    _, logits = evaluate(job, [Candidate("teacher", job.config.teacher, given.model, job.encode, known)])
    assert given.model.texts == 10 + len(job.data.test), "for its latency alone, one text at a time"
    assert torch.equal(logits["teacher"], answers(given.model, job, "test") + 1)


def test_a_file_has_answers_and_neither_weights_nor_time(job: Job) -> None:
    labels = {split: getattr(job.data, split).labels_N for split in SPLITS}
    right = SampleLogits.of(
        [(getattr(job.data, split), nn.functional.one_hot(labels[split], 2).float()) for split in SPLITS]
    )
    student = candidate(job, "student", 1)
    entries, _ = evaluate(job, [Candidate("teacher", job.config.teacher, None, job.encode, right), student])
    teacher = entries["teacher"]
    assert (teacher["parameters"], teacher["bytes"], teacher["latency_ms"]) == (None, None, None)
    assert teacher["test_accuracy"] == teacher["val_accuracy"] == teacher["train"]["accuracy"] == 1
    assert entries["student"]["agreement"] == pytest.approx(entries["student"]["test_accuracy"])


def test_evaluation_can_be_stopped_between_models(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def check() -> None:
        raise Cancelled

    given = candidate(job, "teacher", 0)
    stopping = Job(
        job.run_id, job.store, job.config, job.data, Context(job.context.compute, print, Control(heed=check))
    )
    monkeypatch.setattr(evaluation, "_answers", None)
    with pytest.raises(Cancelled):
        evaluate(stopping, [given])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ([], "BiLSTM 32 → 32, max pooling"),
        (["teacher.kind=pretrained"], "all-MiniLM-L6-v2"),
        (["teacher.kind=pretrained", "teacher.frozen=true"], "all-MiniLM-L6-v2, frozen"),
        (["teacher.kind=file"], "file"),
    ],
)
def test_a_teacher_is_described_in_a_few_words(job: Job, file: Path, settings: list[str], words: str) -> None:
    config: RunConfig = config_of(file, *settings)
    given = replace(candidate(job, "teacher", 0), settings=config.teacher)
    assert evaluate(job, [given])[0]["teacher"]["architecture"] == words


def test_models_of_one_shape_are_timed_once(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = list[nn.Module]()

    def latency_ms(model: nn.Module, *given: object) -> float:
        timed.append(model)
        return float(len(timed))

    monkeypatch.setattr(evaluation.predict, "latency_ms", latency_ms)
    first = [candidate(job, role, seed) for seed, role in enumerate(("teacher", "baseline", "student"))]
    again = [candidate(job, role, seed) for seed, role in enumerate(("teacher", "student"), start=3)]
    found = [evaluate(job, each)[0] for each in (first, again)]
    assert [{role: entry["latency_ms"] for role, entry in entries.items()} for entries in found] == [
        {"teacher": 1.0, "baseline": 2.0, "student": 2.0},
        {"teacher": 1.0, "student": 2.0},
    ]
    assert timed == [first[0].model, first[1].model]


@pytest.mark.parametrize("settings", ["data.max_tokens=7", "student.size=M", "student.pooling=last"])
def test_another_shape_or_other_texts_are_timed_again(job: Job, file: Path, settings: str) -> None:
    evaluate(job, [candidate(job, "teacher", 0), candidate(job, "student", 1)])
    config = config_of(file, settings)
    other = replace(job, config=config, data=prepare_data(config, job.store))
    given = replace(candidate(other, "student", 2), settings=config.student)
    evaluate(other, [candidate(other, "teacher", 0), given])
    assert isinstance(given.model, Known)
    labelled = sum(len(getattr(other.data, split)) for split in SPLITS)
    assert given.model.texts == labelled + 10 + min(len(other.data.samples), 100)


def test_evaluation_runs_where_the_run_computes(job: Job) -> None:
    assert job.context.compute == device.Compute(torch.device("cpu"), "float32")
    given = candidate(job, "teacher", 0)
    evaluate(job, [given])
    assert given.model is not None
    assert {weights.device.type for weights in given.model.parameters()} == {"cpu"}
    assert not given.model.training
