"""Asks a run's models about many texts in the background, so that a page can come back to it."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from distill_core import device
from distill_core.analysis.agreement import SetAnswers
from distill_core.analysis.textset import TextSet
from distill_core.data.texts import Check, Progress
from distill_core.errors import Cancelled

CHUNK = 512
"""Texts that are answered between two reports of progress."""
KEPT = 8
"""Finished jobs that are remembered."""
CHARACTERS = 100_000_000
"""Characters of their texts, all together."""
PATIENCE = 0.2
"""Seconds between two looks whether a job that waits has been cancelled."""
Kind = Literal["test", "pasted", "file"]
Read = Callable[[Check, Progress], TextSet]


class Answering(Protocol):
    """What a job asks: a `Predictor`."""

    @property
    def label_names(self) -> tuple[str, ...]: ...

    def logits(self, texts: Sequence[str], check: Check = ...) -> dict[str, Tensor]: ...

    def reading(self, text: str) -> tuple[int, int, int]: ...


@dataclass(frozen=True)
class Key:
    """Which texts are put to which models.

    Args:
        home: the home folder of the run.
        digest: a hash of the texts; empty for the test texts, of which a run has but one set.
    """

    home: str
    run_id: str
    kind: Kind
    digest: str = ""


def ask(
    models: Answering,
    given: TextSet,
    check: Check = lambda: None,
    progress: Progress = lambda words, part: None,
    workers: int = 1,
) -> SetAnswers:
    """What all models say about all texts.

    Args:
        check: called often, from several threads; raises to cancel.
        progress: told how many texts are answered, and which part of all that is, 0 to 1.
        workers: how many cores work, each on texts of its own, which serves long texts and short ones better than
            several cores on one.
    """
    parts, counts, total = defaultdict[str, list[Tensor]](list), list[tuple[int, int, int]](), len(given)

    def answers(start: int) -> tuple[dict[str, Tensor], list[tuple[int, int, int]]]:
        device.use_one_core()
        chunk = given.texts[start : start + CHUNK]
        logits = models.logits(chunk, check)
        check()
        return logits, [models.reading(text) for text in chunk]

    progress(f"0 of {total:,} texts are answered", 0.0)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="asking")
    try:
        for logits, read in pool.map(answers, range(0, total, CHUNK)):
            for role, logits_BC in logits.items():
                parts[role].append(logits_BC)
            counts.extend(read)
            progress(f"{len(counts):,} of {total:,} texts are answered", len(counts) / total)
    finally:
        pool.shutdown(cancel_futures=True)
    known_N, read_N, lengths_N = torch.tensor(counts).T
    return SetAnswers(
        given.texts,
        given.labels,
        {role: torch.cat(logits) for role, logits in parts.items()},
        lengths_N,
        1 - known_N / read_N,
        models.label_names,
    )


class Asking:
    """A job with a thread of its own; anybody may look at it at any time.

    `words` says what it is doing and `part` how much of that is done, 0 to 1. In the end there is either a `result` or
    an `error`; of one that was cancelled the error is `Cancelled`.
    """

    def __init__(self, key: Key, read: Read, load: Callable[[], Answering]) -> None:
        self.key = key
        self.owners = set[str]()
        self.words, self.part = "Waiting for others who ask", 0.0
        self.given: TextSet | None = None
        self.result: SetAnswers | None = None
        self.error: Exception | None = None
        self._read, self._load = read, load
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"asking-{key.run_id}", daemon=True)

    @property
    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.result is not None or self.error is not None

    @property
    def cancelled(self) -> bool:
        """Whether somebody has cancelled it; it may take a moment to end."""
        return self._cancelled.is_set()

    def start(self) -> None:
        """Lets it work, once."""
        self._thread.start()

    def cancel(self) -> None:
        """Ends it at the next batch."""
        self._cancelled.set()

    def leave(self, owner: str) -> None:
        """Somebody does not want it any more: it goes on for the others, or ends where there are none."""
        if self.owners - {owner}:
            self.owners.discard(owner)
        else:
            self.cancel()

    def wait(self, seconds: float) -> bool:
        """Waits for its end; returns whether it has come."""
        self._thread.join(seconds)
        return self.done

    def _work(self) -> None:
        try:
            self._check_while_waiting()
            try:
                self.result = self._answers()
            finally:
                _turn.release()
        except Exception as error:  # whoever looks at the job is told
            self.error = error
        finally:
            del self._read, self._load  # they may hold what was pasted

    def _check_while_waiting(self) -> None:
        """Waits for this job's turn: two at a time would only slow each other down."""
        while not _turn.acquire(timeout=PATIENCE):
            self._check()

    def _answers(self) -> SetAnswers:
        self._report("Reading the texts", 0.0)
        self.given = self._read(self._check, self._report)
        self._check()
        self._report("Loading the models", 0.0)
        # One core stays for those who type meanwhile.
        return ask(self._load(), self.given, self._check, self._report, max(device.cores() - 1, 1))

    def _check(self) -> None:
        if self.cancelled:
            raise Cancelled

    def _report(self, words: str, part: float) -> None:
        self._check()
        self.words, self.part = words, min(max(part, 0.0), 1.0)


_turn = threading.Semaphore(1)
_jobs = OrderedDict[Key, Asking]()
_jobs_lock = threading.Lock()


def begin(key: Key, read: Read, load: Callable[[], Answering], owner: str = "") -> Asking:
    """The job of this key: the one that works or has succeeded, else a new one, which starts.

    Args:
        owner: who asks; finds it again with `latest`.
    """
    with _jobs_lock:
        job = _jobs.get(key)
        if job is None or job.error is not None or job.cancelled:
            job = Asking(key, read, load)
            job.start()
        job.owners.add(owner)
        for other in _jobs.values():  # who asks about other texts in the same way wants the former no more
            if owner in other.owners and not other.done and other is not job and _alike(other.key, key):
                other.leave(owner)
        _jobs[key] = job
        _jobs.move_to_end(key)
        _forget_oldest()
        return job


def _alike(one: Key, other: Key) -> bool:
    return (one.home, one.run_id, one.kind) == (other.home, other.run_id, other.kind)


def latest(home: str, run_id: str, kind: Kind, owner: str = "") -> Asking | None:
    """The job of a kind that somebody began last; what came of the test texts is everybody's."""
    with _jobs_lock:
        for key, job in reversed(_jobs.items()):
            theirs = owner in job.owners or (kind == "test" and job.result is not None)
            if (key.home, key.run_id, key.kind) == (home, run_id, kind) and theirs:
                return job
    return None


def forget(job: Asking) -> None:
    """Drops a job, as if it had never been."""
    job.cancel()
    with _jobs_lock:
        if _jobs.get(job.key) is job:
            del _jobs[job.key]


def _forget_oldest() -> None:
    """Drops finished jobs, the oldest first, of which there are too many or whose texts are too long."""
    finished, kept, characters = [key for key, job in _jobs.items() if job.done], 0, 0
    for key in reversed(finished):
        given = _jobs[key].given
        kept, characters = kept + 1, characters + sum(map(len, given.texts if given else ()))
        if kept > KEPT or (characters > CHARACTERS and kept > 1):
            del _jobs[key]
