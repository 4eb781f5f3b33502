"""What people ask of a run under way, without any run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from distill_core.control import Control, What, Wish
from distill_core.errors import Cancelled, Interrupted, LimitError


@dataclass
class Person:
    """Somebody who changes their mind."""

    wish: Wish = field(default_factory=Wish)
    told: list[bool] = field(default_factory=list)

    def asks(self, what: What) -> None:
        self.wish = Wish(self.wish.number + 1, what)

    def control(self, **options: float) -> Control:
        return Control(lambda: self.wish, on_pause=self.told.append, **options)


@pytest.fixture
def person() -> Person:
    return Person()


class Worker:
    """Takes batches on a thread of its own and counts them."""

    def __init__(self, control: Control, batches_an_epoch: int = 5) -> None:
        self.batches = self.epochs = self.checks = 0
        self._thread = threading.Thread(target=self._work, args=(control, batches_an_epoch), daemon=True)
        self._thread.start()

    def _work(self, control: Control, batches: int) -> None:
        try:
            while True:
                for _ in range(batches):
                    control.begin_batch()
                    self.batches += 1
                    time.sleep(0.001)
                control.check()
                self.checks += 1
                control.end_epoch()
                self.epochs += 1
        except Cancelled:
            pass

    def settle(self) -> int:
        """Batches taken by the time that no more are."""
        before = -1
        while before != self.batches:
            before = self.batches
            time.sleep(0.15)
        return self.batches


def wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def worker(person: Person) -> Worker:
    started = Worker(person.control())
    wait(lambda: started.batches > 3)
    return started


def test_without_a_wish_all_goes_on() -> None:
    control = Control()
    for _ in range(100):
        control.begin_batch()
        control.check()
        control.end_epoch()
    assert not control.stopping
    assert not control.shows


def test_a_pause_stands_still_until_the_run_goes_on(person: Person, worker: Worker) -> None:
    person.asks("pause")
    stood = worker.settle()
    assert person.told == [True]
    person.asks("run")
    wait(lambda: worker.batches > stood)
    assert person.told == [True, False]
    person.asks("discard")


def test_each_wish_for_a_batch_grants_one(person: Person, worker: Worker) -> None:
    person.asks("pause")
    stood = worker.settle()
    for taken in range(1, 8):
        person.asks("batch")
        assert worker.settle() == stood + taken
    assert person.told == [True], "a step is part of the pause"
    person.asks("discard")


def test_a_wish_for_an_epoch_goes_on_to_its_end(person: Person, worker: Worker) -> None:
    person.asks("pause")
    worker.settle()
    person.asks("epoch")
    assert worker.settle() % 5 == 0
    epochs, batches = worker.epochs, worker.batches
    person.asks("epoch")
    assert worker.settle() == batches + 5
    assert worker.epochs == epochs + 1
    person.asks("discard")


def test_a_wish_for_an_epoch_can_be_taken_back(person: Person) -> None:
    worker = Worker(person.control(), batches_an_epoch=100_000)
    person.asks("pause")
    worker.settle()
    person.asks("epoch")
    wait(lambda: worker.batches > 20)
    person.asks("pause")
    worker.settle()
    person.asks("discard")


def test_a_batch_is_looked_at_while_it_is_granted_by_itself(person: Person) -> None:
    control = person.control()
    control.begin_batch()
    assert not control.shows
    person.asks("batch")
    control.begin_batch()
    assert control.shows
    person.asks("run")
    control.begin_batch()
    assert not control.shows


def test_what_measures_a_model_within_a_granted_step_does_not_wait(person: Person) -> None:
    control = person.control()
    person.asks("batch")
    control.begin_batch()
    for _ in range(3):
        control.check()


@pytest.mark.parametrize(("what", "error"), [("discard", Cancelled), ("interrupt", Interrupted)])
def test_a_paused_run_can_be_ended(person: Person, what: What, error: type[Exception]) -> None:
    control = person.control()
    person.asks("pause")
    threading.Timer(0.1, person.asks, (what,)).start()
    with pytest.raises(error):
        control.check()
    assert person.told == [True, False]


def test_a_pause_is_saved_before_it_begins(person: Person) -> None:
    saved: list[str] = []
    control = person.control()
    control.begin_batch(before_pause=lambda: saved.append("early"))
    person.asks("pause")
    threading.Timer(0.1, person.asks, ("run",)).start()
    control.begin_batch(before_pause=lambda: saved.append("pause"))
    assert saved == ["pause"]


def test_pauses_do_not_count_as_time(person: Person) -> None:
    control = person.control()
    began, seconds = control.clock(), time.perf_counter()
    person.asks("pause")
    threading.Timer(0.5, person.asks, ("run",)).start()
    control.check()
    assert time.perf_counter() - seconds > 0.5
    assert control.clock() - began < 0.3


def test_a_pause_does_not_use_up_the_time_of_a_run(person: Person) -> None:
    control = person.control(time_limit=0.3)
    person.asks("pause")
    threading.Timer(0.8, person.asks, ("run",)).start()
    control.check()
    control.check()


def test_a_student_is_kept_only_once_there_is_one(person: Person) -> None:
    control = person.control()
    person.asks("keep")
    control.begin_batch()
    assert not control.stopping
    control.keeps = True
    assert control.stopping


def test_a_run_that_works_for_too_long_fails_where_there_is_no_student(person: Person) -> None:
    control = person.control(time_limit=60.0, spent=61.0)
    with pytest.raises(LimitError, match="training_minutes must not exceed 1"):
        control.check()


def test_a_run_that_works_for_too_long_keeps_its_student(person: Person) -> None:
    control = person.control(time_limit=60.0, spent=61.0)
    control.keeps = True
    control.begin_batch()
    assert control.stopping
