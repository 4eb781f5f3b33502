"""Asking the models of a finished run, without having trained any."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from distill_core.analysis import predict
from distill_core.analysis.predict import Predictor, latency_ms
from distill_core.config import DataConfig, RunConfig, StudentConfig, TeacherConfig, parse
from distill_core.data.batches import EncodedDataset
from distill_core.errors import Cancelled, ConfigError, DataError, RunError
from distill_core.models import classifier
from distill_core.store import ENCODER, TEACHER_WEIGHTS, Store
from tests.encoders import save_tiny

CONFIG = RunConfig(
    data=DataConfig(max_tokens=8),
    teacher=TeacherConfig(size="XS"),
    student=StudentConfig(size="XS", pooling="last", bidirectional=False),
)
TEXTS = [
    "a bright film",
    "a dull plot and a weak cast and a tired ending and more",
    "unheard words alone",
    "music",
    "a film",
]


def finished_run(store: Store, encoded: EncodedDataset, baseline: bool = True, status: str = "finished") -> str:
    """A run whose models have never learned anything, but differ and are sure of what they say."""
    run_id = store.create_run(CONFIG, state="running")
    store.write_text(run_id, "vocabulary.json", encoded.vocabulary.to_json())
    roles = {"teacher": CONFIG.teacher, "student": CONFIG.student} | ({"baseline": CONFIG.student} if baseline else {})
    for seed, (role, settings) in enumerate(roles.items()):
        torch.manual_seed(seed)
        model = classifier.build(settings, len(encoded.vocabulary), 2)
        for weights in model.parameters():
            nn.init.normal_(weights)
        store.write_tensors(run_id, f"{role}.safetensors", model.state_dict())
    result: dict[str, Any] = {"labels": list(encoded.label_names), "baseline": {} if baseline else None}
    store.write_result(run_id, result)
    store.update_status(run_id, status=status)
    return run_id


@pytest.fixture
def predictor(store: Store, encoded: EncodedDataset) -> Predictor:
    return Predictor.load(store, finished_run(store, encoded))


def test_each_text_gets_its_answer_in_order(predictor: Predictor) -> None:
    answers = predictor.predict(TEXTS)
    assert [answer["text"] for answer in answers] == TEXTS
    assert len({answer["teacher"]["good"] for answer in answers}) == len(TEXTS)


def test_an_answer_holds_a_probability_for_each_label_under_each_role(predictor: Predictor) -> None:
    for answer in predictor.predict(TEXTS):
        assert answer.keys() == {"text", "teacher", "student", "baseline", "kl", "agree"}
        for role in ("teacher", "student", "baseline"):
            assert list(answer[role]) == ["bad", "good"]
            assert sum(answer[role].values()) == pytest.approx(1)
            assert min(answer[role].values()) >= 0


def test_a_texts_answer_does_not_depend_on_its_neighbours(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = predictor.predict(TEXTS)
    monkeypatch.setattr(predict, "READING_TOKENS", 4)
    in_pairs = predictor.predict(TEXTS)
    for text, one, other in zip(TEXTS, together, in_pairs, strict=True):
        alone = predictor.predict([text])[0]
        for role in ("teacher", "student", "baseline"):
            assert one[role] == pytest.approx(alone[role], abs=1e-5)
            assert other[role] == pytest.approx(alone[role], abs=1e-5)


def test_kl_and_agreement_follow_from_the_probabilities(predictor: Predictor) -> None:
    answers = predictor.predict(predictor.vocabulary.tokens[2:])
    for answer in answers:
        p, q = answer["student"], answer["teacher"]
        expected = sum(p[label] * math.log(p[label] / q[label]) for label in p)
        assert answer["kl"] == pytest.approx(expected, rel=1e-3, abs=1e-5)
        assert answer["agree"] is (max(p, key=p.__getitem__) == max(q, key=q.__getitem__))
    assert {answer["agree"] for answer in answers} == {True, False}


def test_the_models_are_those_that_were_saved(predictor: Predictor, encoded: EncodedDataset) -> None:
    torch.manual_seed(0)
    model = classifier.build(CONFIG.teacher, len(encoded.vocabulary), 2)
    for weights in model.parameters():
        nn.init.normal_(weights)
    ids = torch.tensor([encoded.vocabulary.encode(TEXTS[0], 8)])
    with torch.no_grad():
        expected = model.eval()(ids, torch.tensor([ids.shape[1]])).softmax(dim=1)[0].tolist()
    assert list(predictor.predict(TEXTS[:1])[0]["teacher"].values()) == pytest.approx(expected, abs=1e-6)


def test_texts_are_cut_where_training_cut_them(predictor: Predictor) -> None:
    eight = "a dull plot and a weak cast and"
    whole, cut = predictor.predict([f"{eight} a bright ending", eight])
    assert whole["teacher"] == pytest.approx(cut["teacher"], abs=1e-6)


def test_a_run_without_a_baseline_answers_for_two_models(store: Store, encoded: EncodedDataset) -> None:
    predictor = Predictor.load(store, finished_run(store, encoded, baseline=False))
    assert predictor.predict(TEXTS[:1])[0].keys() == {"text", "teacher", "student", "kl", "agree"}


# Other teachers


def rewritten(store: Store, run_id: str, teacher: TeacherConfig) -> str:
    """The run with another kind of teacher in its configuration."""
    config = CONFIG.model_copy(update={"teacher": teacher})
    store.write_text(run_id, "config.json", config.to_json())
    return run_id


@pytest.fixture
def encoder_run(store: Store, encoded: EncodedDataset, tmp_path: Path) -> str:
    """A run whose teacher is a tiny transformer that reads at most six word pieces."""
    from distill_core.models import pretrained

    run_id = finished_run(store, encoded)
    torch.manual_seed(3)
    model, pieces = pretrained.build(str(save_tiny(tmp_path / "bert")), 2, 6)
    nn.init.normal_(model.output.weight)
    folder = store.run_folder(run_id)
    pretrained.save_shape(model, pieces, folder / ENCODER)
    store.write_tensors(run_id, TEACHER_WEIGHTS, {name: tensor.clone() for name, tensor in model.state_dict().items()})
    return rewritten(store, run_id, TeacherConfig(kind="pretrained", model="gone", encoder_max_tokens=6))


def test_a_pretrained_teacher_answers_from_the_runs_folder_alone(
    store: Store, encoder_run: str, tmp_path: Path
) -> None:
    from distill_core.models import pretrained

    model, pieces = pretrained.build(str(tmp_path / "bert"), 2, 6)
    model.load_state_dict(load_file(store.run_folder(encoder_run) / TEACHER_WEIGHTS))
    (tmp_path / "bert").rename(tmp_path / "moved away")
    answers = Predictor.load(store, encoder_run).predict(TEXTS)
    for text, answer in zip(TEXTS, answers, strict=True):
        ids = torch.tensor([pieces.encode(text)])
        with torch.no_grad():
            expected = model.eval()(ids, torch.tensor([ids.shape[1]])).softmax(dim=1)[0].tolist()
        assert list(answer["teacher"].values()) == pytest.approx(expected, abs=1e-5)
        assert answer["agree"] in (True, False)
        assert answer["kl"] >= 0
    assert len({answer["teacher"]["good"] for answer in answers}) > 1


def test_a_pretrained_teacher_reads_with_its_own_word_pieces_and_limit(store: Store, encoder_run: str) -> None:
    predictor = Predictor.load(store, encoder_run)
    reader = predictor.readers["teacher"]
    assert [len(row) for row in reader.reading.encode_all(TEXTS)] == [5, 6, 6, 3, 4]
    whole, cut = predictor.predict(["a dull plot and a bright ending", "a dull scene and a bright ending"])
    assert whole["teacher"] == pytest.approx(cut["teacher"], abs=1e-6)
    assert whole["student"] != pytest.approx(cut["student"], abs=1e-3)


def test_a_text_that_spells_out_a_mask_is_read_by_both_models(store: Store, encoder_run: str) -> None:
    answer = Predictor.load(store, encoder_run).predict(["a [MASK] film"])[0]
    assert sum(answer["teacher"].values()) == pytest.approx(1)


def test_a_file_cannot_be_asked_so_the_student_answers_alone(store: Store, encoded: EncodedDataset) -> None:
    run_id = finished_run(store, encoded)
    with_teacher = Predictor.load(store, run_id).predict(TEXTS)
    config = {"data": {"name": "csv", "path": "gone.csv", "max_tokens": 8}, "teacher": {"kind": "file"}}
    settings = {**config, "student": CONFIG.student.model_dump()}
    store.write_text(run_id, "config.json", parse(settings).to_json())
    (store.run_folder(run_id) / TEACHER_WEIGHTS).unlink()
    predictor = Predictor.load(store, run_id)
    assert set(predictor.readers) == {"student", "baseline"}
    for before, answer in zip(with_teacher, predictor.predict(TEXTS), strict=True):
        assert answer.keys() == {"text", "teacher", "student", "baseline", "kl", "agree"}
        assert (answer["teacher"], answer["kl"], answer["agree"]) == (None, None, None)
        assert answer["student"] == before["student"]


# Many texts, many threads


def test_a_stream_gives_the_answers_of_predict_in_order(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "CHUNK", 2)
    for one, other in zip(predictor.predict(TEXTS), predictor.stream(iter(TEXTS)), strict=True):
        assert one["text"] == other["text"]
        for role in ("teacher", "student", "baseline"):
            assert one[role] == pytest.approx(other[role], abs=1e-5)


def test_a_stream_says_which_texts_are_empty_and_goes_on(predictor: Predictor) -> None:
    answers = list(predictor.stream(["", "a film", " \n", "music", ""]))
    assert [answer["text"] for answer in answers] == ["", "a film", " \n", "music", ""]
    assert [("error" in answer, answer["student"] is None) for answer in answers] == [
        (empty, empty) for empty in (True, False, True, False, True)
    ]
    assert answers[0].keys() - {"error"} == answers[1].keys()
    assert list(predictor.stream(["", ""]))[1]["error"] == "text must not be empty; type a sentence"


def test_a_stream_reads_no_further_than_it_has_to(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "CHUNK", 3)
    taken = list[int]()

    def texts() -> Iterator[str]:
        for number in range(1000):
            taken.append(number)
            yield f"a film {number}"

    answers = predictor.stream(texts())
    for _ in range(4):
        next(answers)
    assert len(taken) == 6


def test_threads_that_ask_at_the_same_time_get_their_own_answers(store: Store, encoder_run: str) -> None:
    predictor = Predictor.load(store, encoder_run)
    expected = [predictor.predict([text]) for text in TEXTS]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: predictor.predict([text]), TEXTS * 20))
    for (answer,), (same,) in zip(found, expected * 20, strict=True):
        assert answer["text"] == same["text"]
        for role in ("teacher", "student", "baseline"):  # products of a library may differ in their last digits
            assert answer[role] == pytest.approx(same[role], abs=1e-5)
        assert answer["kl"] == pytest.approx(same["kl"], abs=1e-4)
        assert answer["agree"] == same["agree"]


def test_only_the_models_that_are_wanted_are_read(store: Store, encoded: EncodedDataset) -> None:
    run_id = finished_run(store, encoded)
    (store.run_folder(run_id) / TEACHER_WEIGHTS).unlink()
    predictor = Predictor.load(store, run_id, ["student"])
    (answer,) = predictor.predict(["a film"])
    assert (answer["teacher"], answer["kl"], answer["agree"]) == (None, None, None)
    assert "baseline" not in answer
    with pytest.raises(ConfigError, match=r"models must be among teacher, student, baseline .* got assistant"):
        Predictor.load(store, run_id, ["assistant"])


def test_logits_of_texts_can_be_cancelled(predictor: Predictor) -> None:
    def check() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        predictor.logits(TEXTS, check)


# What cannot be answered


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_an_empty_text_is_refused_with_its_value_and_a_remedy(predictor: Predictor, text: str) -> None:
    with pytest.raises(DataError) as caught:
        predictor.predict(["a film", text])
    assert str(caught.value) == f"text must not be empty, got {text!r}; type a sentence"


def test_no_texts_get_no_answers(predictor: Predictor) -> None:
    assert predictor.predict([]) == []


@pytest.mark.parametrize("state", ["queued", "interrupted", "failed", "cancelled"])
def test_a_run_that_has_not_finished_is_refused_with_its_state(store: Store, state: str) -> None:
    run_id = store.create_run(CONFIG)
    store.update_status(run_id, status=state)
    with pytest.raises(RunError) as caught:
        Predictor.load(store, run_id)
    assert str(caught.value) == f"run must be finished, got {run_id!r} which is {state}; choose another or wait"


@pytest.mark.parametrize("name", ["vocabulary.json", "student.safetensors"])
def test_a_run_whose_files_are_broken_is_refused_by_name(store: Store, encoded: EncodedDataset, name: str) -> None:
    run_id = finished_run(store, encoded)
    (store.run_folder(run_id) / name).write_bytes(b"\xc3(" * 40)
    with pytest.raises(RunError, match=f"the models of run {run_id} cannot be read"):
        Predictor.load(store, run_id)


def test_an_unknown_run_is_refused(store: Store) -> None:
    with pytest.raises(RunError, match="nowhere"):
        Predictor.load(store, "nowhere")


def test_reading_counts_known_read_and_all_words(predictor: Predictor) -> None:
    assert predictor.reading("a bright unheard film") == (3, 4, 4)
    assert predictor.reading("a film and a film and a film and a film") == (8, 8, 11)
    assert predictor.reading("") == (0, 1, 1)


# Latency


class Constant(nn.Module):
    """Answers at once and remembers under how many threads it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[list[int], int, int]] = []

    def forward(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        self.asked.append((tokens_BT[0].tolist(), int(lengths_B[0]), torch.get_num_threads()))
        return torch.zeros(1, 2)


@pytest.fixture
def two_threads() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("two_threads")
def test_latency_is_measured_one_text_at_a_time_on_one_thread() -> None:
    model = Constant()
    assert latency_ms(model, lambda text: [len(text)] * 3, ["a", "bb"]) > 0
    assert model.asked == [([1] * 3, 3, 1), ([2] * 3, 3, 1)] * 2, "a warm-up, and then each text once"
    assert torch.get_num_threads() == 2


def test_latency_times_at_most_a_hundred_texts() -> None:
    model = Constant()
    latency_ms(model, lambda text: [1], ["text"] * 500)
    assert len(model.asked) == 10 + 100


def test_latency_counts_the_encoding_and_is_a_median_of_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    durations = iter([9.0, 9.0, 9.0, 0.002, 5.0, 0.003])

    def encode(text: str) -> list[int]:
        nonlocal now
        now += next(durations)
        return [1]

    monkeypatch.setattr(predict.time, "perf_counter", lambda: now)
    assert latency_ms(Constant(), encode, ["a", "b", "c"]) == pytest.approx(3)


@pytest.mark.usefixtures("two_threads")
def test_threads_come_back_when_a_model_fails() -> None:
    def encode(text: str) -> list[int]:
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011
        latency_ms(Constant(), encode, ["a"])
    assert torch.get_num_threads() == 2


def test_loading_reads_and_writes_nothing_else(store: Store, encoded: EncodedDataset) -> None:
    run_id = finished_run(store, encoded)
    before = _contents(store.run_folder(run_id))
    Predictor.load(store, run_id).predict(TEXTS)
    assert _contents(store.run_folder(run_id)) == before


def _contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}
