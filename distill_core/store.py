"""The home folder on disk, and the only code that writes it.

    DISTILL_HOME/
        runs/<run_id>/      config.json status.json events.jsonl result.json vocabulary.json *.safetensors worker.log
                            control.json (what people ask of it) notes.json batch.json (the batch that is looked at)
                            checkpoint/ (all that is needed to go on)
        trash/<run_id>/     deleted runs, which can be brought back
        teachers/<key>/     config.json teacher.safetensors logits.safetensors encoder/
        tokens/<key>/       vocabulary.json profile.json samples.json tokens.safetensors
        transfer/<key>/     transfer.safetensors (further texts and the teacher's answers)
        words/<key>/        words.safetensors (the teacher's vectors for the vocabulary)
        baselines/<key>/    baseline.safetensors epochs.json
        machines/<key>/     bfloat16.json (which models a kind of machine computes faster so)
        uploads/            files that people have given to the lab, named by their content
        drafts/<owner>.json the settings that a browser showed last
        data/               downloaded data sets, word vectors

Files and cache folders are written aside and renamed, so they appear whole or not at all. `events.jsonl` alone grows
line by line; its readers skip a torn last line.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, get_args

from filelock import FileLock, Timeout

from distill_core import config as configuration
from distill_core import events, files, keys
from distill_core.checkpoints import RunCheckpoints, seconds_by_stage
from distill_core.config import RunConfig
from distill_core.control import What, Wish
from distill_core.errors import RunError
from distill_core.status import AT_WORK, Notes, State, Status, checked

if TYPE_CHECKING:
    from torch import Tensor

_END_STATES: Mapping[type[events.Event], State] = {
    events.RunFinished: "finished",
    events.RunFailed: "failed",
    events.RunCancelled: "cancelled",
    events.RunInterrupted: "interrupted",
}
RunEnd = events.RunFinished | events.RunFailed | events.RunCancelled | events.RunInterrupted
CacheKind = Literal["teachers", "tokens", "transfer", "words", "baselines"]
Kept = Literal[CacheKind, "machines"]
"""What is kept by a key: caches, and what was found out of kinds of machine, which nobody has to clean."""
TEACHER_WEIGHTS = "teacher.safetensors"
BASELINE_WEIGHTS = "baseline.safetensors"
TEACHER_LOGITS = "logits.safetensors"
ENCODER = "encoder"
"""Folder with a pre-trained teacher's configuration and tokenizer, beside its weights."""
CHECKPOINTS = "checkpoint"
LOCK_SECONDS = 5.0
TICK = 0.1
"""Seconds within which two changes of a file may have the same time."""


def home_folder() -> Path:
    """`DISTILL_HOME`, or `.distill` in the current folder."""
    return Path(os.environ.get("DISTILL_HOME", ".distill")).absolute()


class Store:
    """Runs, trained teachers and tokenised data sets under one home folder."""

    def __init__(self, home: Path | None = None) -> None:
        self.home = home_folder() if home is None else home.absolute()
        self._final: set[str] = set()
        """Runs that have been seen to be final."""
        self._buried: set[str] = set()
        """Runs that have been seen to be interrupted; they may come back."""

    @property
    def data_folder(self) -> Path:
        """Where downloaded data sets lie, or are put by hand."""
        return self.home / "data"

    def keep_upload(self, name: str, content: bytes) -> Path:
        """Keeps a file that somebody has given to the lab, once however often it is given.

        Args:
            name: its name, of which only the ending is used.
        """
        folder = self.home / "uploads"
        folder.mkdir(parents=True, exist_ok=True)
        ending = "".join(letter for letter in Path(name).suffix.lower() if letter.isalnum() or letter == ".")
        file = folder / f"{hashlib.sha256(content).hexdigest()[:16]}{ending}"
        if file.is_file():
            os.utime(file)  # it is wanted again, so it must not be taken for an old one that nobody needs
        else:
            with files.aside(file) as path:
                path.write_bytes(content)
        return file

    def write_draft(self, owner: str, draft: Mapping[str, Any]) -> None:
        """Keeps the settings that somebody's browser shows."""
        (self.home / "drafts").mkdir(parents=True, exist_ok=True)
        files.write_json(self.home / "drafts" / f"{owner}.json", draft)

    def draft(self, owner: str) -> dict[str, Any]:
        """The settings that somebody's browser showed last; nothing where none can be read."""
        try:
            return files.load_json(self.home / "drafts" / f"{owner}.json")
        except RunError:
            return {}

    # Runs

    def create_run(
        self,
        config: RunConfig,
        state: Literal["queued", "running"] = "queued",
        owner: str | None = None,
        sweep: str | None = None,
    ) -> str:
        """Makes the folder of a new run and returns its id.

        Args:
            state: `queued` for an executor to pick up, `running` if the caller claims and runs it at once.
            owner: a hash of who may stop and delete it.
            sweep: the sweep whose cell it is; then no executor picks it up.
        """
        now = time.time()
        run_id = time.strftime("%Y%m%d-%H%M%S-", time.gmtime(now)) + secrets.token_hex(3)
        started = now if state == "running" else None
        queued = self._next_in_queue() if state == "queued" else now
        status = Status(run_id, state, now, started, queued=queued, owner=owner, sweep=sweep)
        with files.new_folder(self.run_folder(run_id)) as folder:
            (folder / "config.json").write_text(config.to_json(), encoding="utf-8")
            (folder / "status.json").write_text(files.dump(asdict(status)), encoding="utf-8")
        return run_id

    def requeue(self, run_id: str) -> None:
        """Puts an interrupted run at the end of the queue; a sweep's cell is then a run like others.

        Raises:
            RunError: it is not interrupted.
        """
        queued = self._next_in_queue()
        with self._status_lock(run_id):
            status = self.status(run_id)
            if status.status != "interrupted":
                raise RunError(
                    f"run must be interrupted to be resumed, got {run_id!r} which is {status.status}; start a new one"
                )
            self._ask(run_id, "run")
            again = replace(
                status, status="queued", queued=queued, started=None, ended=None, pid=None, error=None, sweep=None
            )
            files.write_json(self.run_folder(run_id) / "status.json", asdict(again))

    def dead_runs(self) -> list[str]:
        """Runs that were at work when their process ended, which nobody has recorded yet."""
        return [
            run_id
            for run_id in self.run_ids()
            if run_id not in self._final and run_id not in self._buried and self._is_dead(run_id)
        ]

    def _is_dead(self, run_id: str) -> bool:
        try:
            written = self._written_status(run_id).status
            if written == "interrupted":
                self._buried.add(run_id)
            return written in AT_WORK and self.status(run_id).status == "interrupted"
        except RunError:
            return False

    def _next_in_queue(self) -> float:
        """The time, or a little after the last that waits where the clock has been set back."""
        waiting = [status.queued for status in self.open_runs() if status.status == "queued"]
        return max([time.time(), *(queued + 1e-3 for queued in waiting)])

    def open_runs(self) -> list[Status]:
        """Runs that wait or are at work, in the order of the queue; those that cannot be read are left out.

        The cells of a sweep are its driver's: they wait in no queue, and work beside the runs of people.
        """
        found = []
        for run_id in self.run_ids():
            if run_id not in self._final:
                try:
                    status = self.status(run_id)
                except RunError:  # a folder that cannot be read must not keep others from running
                    continue
                if status.final:
                    self._final.add(run_id)
                elif not status.over and status.sweep is None:
                    self._buried.discard(run_id)
                    found.append(status)
        return sorted(found, key=lambda status: (status.queued, status.run_id))

    def run_folder(self, run_id: str) -> Path:
        """Where a run keeps its files."""
        return self.home / "runs" / run_id

    def run_ids(self) -> list[str]:
        """All runs, oldest first."""
        folder = self.home / "runs"
        if not folder.is_dir():
            return []
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".")]
        return sorted(name for name in names if _is_there(folder / name / "status.json"))

    def find_run(self, name: str) -> str:
        """The run id that equals `name` or alone ends with it. Raises RunError."""
        known = self.run_ids()
        matches = [run_id for run_id in known if run_id == name] or [run_id for run_id in known if _ends(run_id, name)]
        if len(matches) == 1:
            return matches[0]
        remedy = f"it fits {len(matches)} runs; give more of it" if matches else "list them with: runs"
        raise RunError(f"run must be one that exists, got {name!r}; {remedy}")

    def config(self, run_id: str) -> RunConfig:
        """The configuration a run was created with."""
        return configuration.parse(files.load_json(self.run_folder(run_id) / "config.json"))

    def status(self, run_id: str) -> Status:
        """Where a run stands now: one that says it is at work while no process holds it has been interrupted."""
        status = self._written_status(run_id)
        if status.status in AT_WORK and not self.is_claimed(run_id):
            status = self._written_status(run_id)  # it may have ended between the two looks
            if status.status in AT_WORK:
                return replace(status, status="interrupted")
        return status

    def _written_status(self, run_id: str) -> Status:
        try:
            return checked(Status(**files.load_json(self.run_folder(run_id) / "status.json")), run_id)
        except (TypeError, ValueError) as error:
            raise RunError(f"status.json of {run_id!r} has other fields ({error}); the run cannot be read") from None

    def update_status(self, run_id: str, **changes: Any) -> Status:
        """Changes some fields of a run's status; a run that is final stays as it ended."""
        with self._status_lock(run_id):
            status = self._written_status(run_id)
            if not status.final:
                status = replace(status, **changes)
                files.write_json(self.run_folder(run_id) / "status.json", asdict(status))
        return status

    def end_run(self, run_id: str, event: RunEnd) -> Status:
        """Records how a run ended, unless that has been recorded already."""
        with self._status_lock(run_id):
            status = self._written_status(run_id)
            if status.final or (status.status == "interrupted" and isinstance(event, events.RunInterrupted)):
                return status
            with self.event_log(run_id) as emit:
                emit(event)
            reason = getattr(event, "error", None) or getattr(event, "reason", None)
            status = replace(status, status=_END_STATES[type(event)], ended=time.time(), error=reason)
            files.write_json(self.run_folder(run_id) / "status.json", asdict(status))
        if status.final:
            self.drop_checkpoints(run_id)
        return status

    def drop_checkpoints(self, run_id: str) -> None:
        """Removes what a run that is over would have needed to go on."""
        shutil.rmtree(self.run_folder(run_id) / CHECKPOINTS, ignore_errors=True)

    def _status_lock(self, run_id: str) -> FileLock:
        return FileLock(self.run_folder(run_id) / ".status", timeout=LOCK_SECONDS)

    @contextmanager
    def claim(self, run_id: str) -> Iterator[None]:
        """Holds a run for the process that works on it, until it ends in whatever way.

        The operating system ends the hold with the process, so neither a killed worker nor another process with its
        old id is ever taken for one at work.

        Raises:
            RunError: another process holds the run, or the run is final.
        """
        try:
            with FileLock(self._claim_file(run_id), timeout=1):
                status = self._written_status(run_id)
                if status.final:
                    raise RunError(f"run must be waiting, got {run_id!r} which is {status.status}; start a new one")
                yield
        except Timeout:
            raise RunError(f"run must be waiting, got {run_id!r} which another process works on; watch it") from None

    def is_claimed(self, run_id: str) -> bool:
        """Whether a living process works on a run."""
        if not self._claim_file(run_id).is_file():
            return False
        lock = FileLock(self._claim_file(run_id), timeout=0)
        try:
            with lock:
                return False
        except Timeout:
            return True

    def _claim_file(self, run_id: str) -> Path:
        return self.run_folder(run_id) / ".claim"

    def divert_output(self, run_id: str) -> None:
        """Sends what this process prints from now on to the run's `worker.log`."""
        with (self.run_folder(run_id) / "worker.log").open("ab") as log:
            os.dup2(log.fileno(), sys.stdout.fileno())
            os.dup2(log.fileno(), sys.stderr.fileno())

    def log_tail(self, run_id: str, lines: int = 5) -> str:
        """The last lines that a run's worker wrote to its log."""
        file = self.run_folder(run_id) / "worker.log"
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        return "\n".join(text.strip().splitlines()[-lines:])

    def result(self, run_id: str) -> dict[str, Any] | None:
        """The result of a finished run; None while there is none."""
        file = self.run_folder(run_id) / "result.json"
        return files.load_json(file) if file.is_file() else None

    def write_result(self, run_id: str, result: Mapping[str, Any]) -> None:
        """Writes `result.json`."""
        files.write_json(self.run_folder(run_id) / "result.json", result)

    def write_text(self, run_id: str, name: str, text: str) -> None:
        """Adds a text file to a run."""
        files.write_text(self.run_folder(run_id) / name, text)

    def write_tensors(self, run_id: str, name: str, tensors: dict[str, Tensor]) -> None:
        """Adds a safetensors file to a run."""
        files.write_tensors(self.run_folder(run_id) / name, tensors)

    def link_file(self, run_id: str, name: str, source: Path) -> None:
        """Adds a file that lies elsewhere in the home folder, without a second copy where the disk allows that."""
        (self.run_folder(run_id) / name).parent.mkdir(exist_ok=True)
        with files.aside(self.run_folder(run_id) / name) as path:
            try:
                os.link(source, path)
            except OSError:
                shutil.copyfile(source, path)

    # What people ask of a run, and say about it

    def ask(self, run_id: str, what: What) -> None:
        """Leaves a wish for the worker of a run, which heeds it before its next batch."""
        with self._status_lock(run_id):
            self._ask(run_id, what)

    def _ask(self, run_id: str, what: What) -> None:
        wish = Wish(self.wish(run_id).number + 1, what)
        files.write_json(self.run_folder(run_id) / "control.json", asdict(wish))

    def asked_at(self, run_id: str) -> float:
        """When somebody last asked something of a run, in seconds since the epoch; now where nobody has."""
        try:
            return (self.run_folder(run_id) / "control.json").stat().st_mtime
        except OSError:
            return time.time()

    def wish(self, run_id: str) -> Wish:
        """The latest wish; one that cannot be read counts as none."""
        try:
            wish = Wish(**files.load_json(self.run_folder(run_id) / "control.json"))
        except (RunError, TypeError):
            return Wish()
        return wish if isinstance(wish.number, int) and wish.what in get_args(What) else Wish()

    def wishes(self, run_id: str) -> Callable[[], Wish]:
        """Asks for the latest wish again and again at little cost: the file is read only once it has changed."""
        file, seen, latest = str(self.run_folder(run_id) / "control.json"), (0, 0), Wish()

        def look() -> Wish:
            nonlocal seen, latest
            try:
                stat = os.stat(file)  # noqa: PTH116 (before each batch, so every microsecond counts)
            except OSError:
                return latest
            # Files that follow each other within a tick of the clock may look the same, so a young one is read again.
            if (stat.st_ino, stat.st_mtime_ns) != seen or time.time() - stat.st_mtime < TICK:
                seen, latest = (stat.st_ino, stat.st_mtime_ns), self.wish(run_id)
            return latest

        return look

    def notes(self, run_id: str) -> Notes:
        """What people have written about a run; nothing where that cannot be read."""
        try:
            return Notes(**files.load_json(self.run_folder(run_id) / "notes.json")).checked()
        except (RunError, TypeError):
            return Notes()

    def write_notes(self, run_id: str, notes: Notes) -> None:
        """Replaces what people have written about a run."""
        files.write_json(self.run_folder(run_id) / "notes.json", asdict(notes.checked()))

    def delete_run(self, run_id: str) -> None:
        """Moves a run to the trash. Raises RunError while something works on it or will."""
        status = self._readable_status(run_id)
        if status is not None and not status.over:
            raise RunError(f"run must have ended to be deleted, got {run_id!r} which is {status.status}; stop it first")
        trash = self.home / "trash"
        trash.mkdir(parents=True, exist_ok=True)
        self.run_folder(run_id).rename(trash / run_id)
        os.utime(trash / run_id)  # the time of its deletion

    def adopt_run(self, folder: Path, run_id: str) -> bool:
        """Takes in a whole run that was made elsewhere under the home folder; False if its id is taken."""
        self.run_folder(run_id).parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(self.run_folder(run_id))
        except OSError:
            if not self.run_folder(run_id).exists():
                raise
            return False
        return True

    def restore_run(self, run_id: str) -> None:
        """Brings a run back from the trash. Raises RunError if it is not there."""
        try:
            (self.home / "trash" / run_id).rename(self.run_folder(run_id))
        except OSError:
            raise RunError(f"run must lie in the trash to come back, got {run_id!r}; it is gone") from None

    def _readable_status(self, run_id: str) -> Status | None:
        try:
            return self.status(run_id)
        except RunError:
            return None

    # Going on where a run was

    def checkpoints(self, run_id: str, compute: str, clock: Callable[[], float] = time.perf_counter) -> RunCheckpoints:
        """The checkpoints of a run, for the process that works on it.

        Args:
            compute: device and precision; what another one has computed is of no use.
            clock: seconds, pauses not counted.
        """
        return RunCheckpoints.of(self.run_folder(run_id) / CHECKPOINTS, _training_code(compute), clock)

    def checkpoints_beside(self, run_id: str, compute: str) -> RunCheckpoints | None:
        """The same for another process than the run's own; None where that has none yet, or computes otherwise."""
        return RunCheckpoints.beside(self.run_folder(run_id) / CHECKPOINTS, _training_code(compute))

    def seconds_spent(self, run_id: str) -> float:
        """Seconds that earlier processes have worked on a run that was interrupted."""
        return sum(seconds_by_stage(self.run_folder(run_id) / CHECKPOINTS).values())

    def write_batch(self, run_id: str, batch: Mapping[str, Any]) -> None:
        """Keeps the batch that people look at."""
        files.write_json(self.run_folder(run_id) / "batch.json", batch)

    def batch(self, run_id: str) -> dict[str, Any] | None:
        """The batch that people look at; None where there is none that can be read."""
        try:
            return files.load_json(self.run_folder(run_id) / "batch.json")
        except RunError:
            return None

    # Events

    @contextmanager
    def event_log(self, run_id: str) -> Iterator[events.Emit]:
        """Appends events to a run, each visible to readers at once."""
        with (self.run_folder(run_id) / "events.jsonl").open("a+b") as file:
            if file.tell() and not _ends_with_newline(file):
                file.write(b"\n")  # a line that a dying process left torn must not swallow the next one
            yield lambda event: _append(file, events.encode(event))

    def append_events(self, run_id: str, lines: bytes) -> None:
        """Appends whole lines of events that a run has written elsewhere."""
        with (self.run_folder(run_id) / "events.jsonl").open("ab") as file:
            file.write(lines)

    def read_events(self, run_id: str, offset: int = 0) -> tuple[list[tuple[float, events.Event]], int]:
        """Events written after byte `offset`, each with its time, and the offset to go on from."""
        file = self.run_folder(run_id) / "events.jsonl"
        try:
            with file.open("rb") as stream:
                stream.seek(offset)
                whole = stream.read().rpartition(b"\n")[0]
        except OSError:  # there is none yet, or it cannot be opened
            return [], offset
        if not whole:
            return [], offset
        decoded = (events.decode(line) for line in whole.decode(errors="replace").split("\n"))
        return [event for event in decoded if event is not None], offset + len(whole) + 1

    # Caches

    def cached(self, kind: Kept, key: str) -> Path | None:
        """The folder of something computed before; None if there is none."""
        folder = self.home / kind / key
        return folder if folder.is_dir() else None

    def usable(self, kind: Kept, key: str) -> Path | None:
        """The same for those who are about to read it: what a bad disk has spoilt goes, to be computed again."""
        folder = self.cached(kind, key)
        if folder is None or files.all_whole(folder):
            return folder
        aside = folder.with_name(f".new-{secrets.token_hex(4)}")
        with suppress(FileNotFoundError):  # another run has seen the same
            folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
        return None

    def publish(self, kind: Kept, key: str, fill: Callable[[Path], None]) -> Path:
        """Keeps something computed under its key: `fill` writes into the folder that it is given."""
        folder = self.home / kind / key
        try:
            with files.new_folder(folder) as path:
                fill(path)
        except OSError:
            # Another run published the same key first: what it wrote is the same.
            if not folder.is_dir():
                raise
        return folder

    def complete(self, kind: CacheKind, key: str, name: str, tensors: dict[str, Tensor]) -> None:
        """Adds a safetensors file to something that was published before."""
        files.write_tensors(self.home / kind / key / name, tensors)


def _training_code(compute: str) -> str:
    """Hash of all code that what is trained depends on, and where it is computed."""
    return f"{keys.training_version('models', 'training', 'teachers', 'teaching', 'students', 'data')} {compute}"


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # a folder that may not be entered
        return False


def _ends(run_id: str, name: str) -> bool:
    return len(name) >= 3 and run_id.endswith(name)


def _ends_with_newline(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _append(file: BinaryIO, line: str) -> None:
    file.write(line.encode() + b"\n")
    file.flush()
