"""Asking about many texts in the background: results, progress, cancelling, and coming back to a job."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from distill_core.analysis import asking
from distill_core.analysis.asking import Asking, Key
from distill_core.analysis.predict import Predictor
from distill_core.analysis.textset import TextSet
from distill_core.data.texts import Check, Progress
from distill_core.errors import Cancelled, DataError
from distill_core.store import Store
from tests.runs import config_of, made_rows, run, write_csv

KEY = Key("/home", "20260101-000000-000001", "pasted", "abc")


class Models:
    """Models that find a text the better the longer it is, at once or as soon as they may."""

    label_names = ("bad", "good")

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.gate, self.asked = gate, list[int]()

    def logits(self, texts: Sequence[str], check: Check = lambda: None) -> dict[str, Tensor]:
        while self.gate is not None and not self.gate.wait(0.01):
            check()
        self.asked.append(len(texts))
        lengths = torch.tensor([float(len(text)) for text in texts])
        return {role: torch.stack([torch.zeros(len(texts)), lengths], dim=1) for role in ("teacher", "student")}

    def reading(self, text: str) -> tuple[int, int, int]:
        return 1, 4, len(text)


def reader(count: int = 3) -> Callable[[Check, Progress], TextSet]:
    def read(check: Check, progress: Progress) -> TextSet:
        check()
        progress("Reading", 0.5)
        return TextSet(tuple("x" * (number % 50) for number in range(count)), None)

    return read


@pytest.fixture(autouse=True)
def _no_jobs() -> Iterator[None]:
    """No job of another test is remembered or works."""
    yield
    for job in list(asking._jobs.values()):
        asking.forget(job)
        assert job.wait(10)


def finished(job: Asking) -> Asking:
    assert job.wait(10)
    return job


def test_texts_are_answered_in_their_order_and_in_parts() -> None:
    models, heard, given = Models(), list[tuple[str, float]](), reader(1100)(lambda: None, lambda words, part: None)
    answers = asking.ask(models, given, progress=lambda words, part: heard.append((words, part)))
    assert models.asked == [512, 512, 76]
    assert heard[1] == ("512 of 1,100 texts are answered", 512 / 1100)
    assert answers.logits["student"][:, 1].tolist() == [number % 50 for number in range(1100)]
    assert answers.lengths_N.tolist() == [number % 50 for number in range(1100)]
    assert answers.unknown_N.tolist() == [0.75] * 1100
    assert answers.label_names == ("bad", "good")


def test_a_job_ends_with_a_result_and_is_found_again() -> None:
    job = finished(asking.begin(KEY, reader(), Models, "me"))
    assert job.error is None
    assert job.result is not None
    assert len(job.result) == 3
    assert job.given is not None
    assert asking.begin(KEY, reader(), Models, "me") is job
    assert asking.latest(KEY.home, KEY.run_id, "pasted", "me") is job


def test_what_people_paste_is_theirs_and_test_texts_are_everybodys() -> None:
    finished(asking.begin(KEY, reader(), Models, "me"))
    assert asking.latest(KEY.home, KEY.run_id, "pasted", "you") is None
    assert asking.latest(KEY.home, "another", "pasted", "me") is None
    job = finished(asking.begin(Key(KEY.home, KEY.run_id, "test"), reader(), Models, "me"))
    assert asking.latest(KEY.home, KEY.run_id, "test", "you") is job
    assert asking.latest("/another", KEY.run_id, "test", "you") is None
    shared = asking.begin(KEY, reader(), Models, "you")
    assert asking.latest(KEY.home, KEY.run_id, "pasted", "me") is shared


def test_a_second_tab_comes_back_to_the_job_that_works() -> None:
    gate = threading.Event()
    job = asking.begin(KEY, reader(), lambda: Models(gate), "me")
    assert asking.begin(KEY, reader(), Models, "me") is job
    assert asking.latest(KEY.home, KEY.run_id, "pasted", "me") is job
    assert not job.done
    gate.set()
    assert finished(job).result is not None


def test_cancelling_ends_the_job_and_asking_again_begins_a_new_one() -> None:
    job = asking.begin(KEY, reader(), lambda: Models(threading.Event()), "me")
    job.cancel()
    assert isinstance(finished(job).error, Cancelled)
    assert job.result is None
    again = finished(asking.begin(KEY, reader(), Models, "me"))
    assert again is not job
    assert again.result is not None


def test_one_job_works_at_a_time_and_one_that_waits_can_be_cancelled() -> None:
    gate, models = threading.Event(), Models()
    first = asking.begin(KEY, reader(), lambda: Models(gate), "me")
    second = asking.begin(Key(KEY.home, KEY.run_id, "pasted", "b"), reader(), lambda: models, "you")
    third = asking.begin(Key(KEY.home, KEY.run_id, "pasted", "c"), reader(), lambda: models, "them")
    assert not second.wait(0.3)
    assert second.words == "Waiting for others who ask"
    third.cancel()
    assert isinstance(finished(third).error, Cancelled)
    assert models.asked == []
    gate.set()
    assert finished(first).result is not None
    assert finished(second).result is not None


@pytest.mark.parametrize("error", [DataError("the file must exist"), ZeroDivisionError("a bug")])
def test_an_error_is_kept_for_whoever_looks_and_the_next_job_works(error: Exception) -> None:
    def read(check: Check, progress: Progress) -> TextSet:
        raise error

    assert finished(asking.begin(KEY, read, Models)).error is error
    assert finished(asking.begin(KEY, reader(), Models)).result is not None


def test_the_latest_eight_are_remembered() -> None:
    for number in range(12):
        finished(asking.begin(Key(KEY.home, KEY.run_id, "pasted", str(number)), reader(), Models, "me"))
    asking.begin(Key(KEY.home, KEY.run_id, "pasted", "last"), reader(), Models, "me")
    digests = [key.digest for key in asking._jobs]
    assert digests[-1] == "last"
    assert len(digests) <= asking.KEPT + 1
    assert "0" not in digests


def test_the_models_of_a_run_are_asked(store: Store, tmp_path: Path) -> None:
    done = run(store, config_of(write_csv(tmp_path / "reviews.csv", made_rows(60))))
    models = Predictor.load(store, done.run_id)
    texts = ("a warm film", "   ", "unheard-of", "\u05d0\u05d1", "<b>&</b>", "x " * 2000)
    answers = asking.ask(models, TextSet(texts, None))
    assert set(answers.logits) == {"teacher", "student", "baseline"}
    assert answers.logits["student"].shape == (6, 2)
    assert answers.unknown_N.tolist()[:3] == [0, 1, 1]
    assert answers.lengths_N.tolist()[:2] == [3, 1]
    alone = asking.ask(models, TextSet(("a warm film",), None))
    torch.testing.assert_close(alone.logits["student"][0], answers.logits["student"][0])


def test_a_job_ends_once_nobody_wants_it_any_more() -> None:
    gate = threading.Event()
    job = asking.begin(KEY, reader(), lambda: Models(gate), "me")
    assert asking.begin(KEY, reader(), lambda: Models(gate), "you") is job
    job.leave("me")
    assert not job.cancelled
    assert asking.latest(KEY.home, KEY.run_id, "pasted", "me") is None
    job.leave("you")
    assert job.cancelled
    assert isinstance(finished(job).error, Cancelled)
    assert asking.latest(KEY.home, KEY.run_id, "pasted", "you") is job, "who cancels is told so"


def test_several_cores_answer_in_the_same_order() -> None:
    given = reader(3000)(lambda: None, lambda words, part: None)
    one, several = asking.ask(Models(), given), asking.ask(Models(), given, workers=4)
    assert torch.equal(one.logits["student"], several.logits["student"])
    assert torch.equal(one.lengths_N, several.lengths_N)


def test_long_texts_are_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "CHARACTERS", 10)
    keys = [Key(KEY.home, KEY.run_id, "pasted", str(number)) for number in range(3)]
    for key in keys:
        finished(asking.begin(key, reader(10), Models, "me"))  # 45 characters
    last = Key(KEY.home, KEY.run_id, "test")
    finished(asking.begin(last, reader(2), Models, "me"))
    asking.begin(last, reader(2), Models, "you")
    assert list(asking._jobs) == [last]


def test_who_asks_about_another_list_leaves_the_one_before() -> None:
    gate = threading.Event()
    first = asking.begin(KEY, reader(), lambda: Models(gate), "me")
    test = asking.begin(Key(KEY.home, KEY.run_id, "test"), reader(), lambda: Models(gate), "me")
    second = asking.begin(Key(KEY.home, KEY.run_id, "pasted", "other"), reader(), lambda: Models(gate), "me")
    assert (first.cancelled, test.cancelled, second.cancelled) == (True, False, False)
