"""The home folder on disk, and the only code that writes it.

    DISTILL_HOME/
        runs/<run_id>/      config.json status.json events.jsonl result.json vocabulary.json *.safetensors worker.log
        teachers/<key>/     config.json teacher.safetensors logits.safetensors encoder/
        tokens/<key>/       vocabulary.json profile.json samples.json tokens.safetensors
        transfer/<key>/     transfer.safetensors (further texts and the teacher's answers)
        words/<key>/        words.safetensors (the teacher's vectors for the vocabulary)
        uploads/            files that people have given to the lab, named by their content
        data/               downloaded data sets, word vectors

Files and cache folders are written aside and renamed, so they appear whole or not at all. `events.jsonl` alone grows
line by line; its readers skip a torn last line.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from filelock import FileLock, Timeout

from distill_core import config as configuration
from distill_core import events
from distill_core.config import RunConfig
from distill_core.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

State = Literal["queued", "running", "finished", "failed", "cancelled"]
_END_STATES: Mapping[type[events.Event], State] = {
    events.RunFinished: "finished",
    events.RunFailed: "failed",
    events.RunCancelled: "cancelled",
}
CacheKind = Literal["teachers", "tokens", "transfer", "words"]
TEACHER_WEIGHTS = "teacher.safetensors"
TEACHER_LOGITS = "logits.safetensors"
ENCODER = "encoder"
"""Folder with a pre-trained teacher's configuration and tokenizer, beside its weights."""
OVER: frozenset[State] = frozenset({"finished", "failed", "cancelled"})


@dataclass(frozen=True)
class Status:
    """Where a run stands: times in seconds since the epoch, its worker by process id."""

    run_id: str
    status: State
    created: float
    started: float | None = None
    ended: float | None = None
    pid: int | None = None
    error: str | None = None

    @property
    def over(self) -> bool:
        """Whether the run will not change any more."""
        return self.status in OVER


def home_folder() -> Path:
    """`DISTILL_HOME`, or `.distill` in the current folder."""
    return Path(os.environ.get("DISTILL_HOME", ".distill")).absolute()


def short(run_id: str) -> str:
    """The end of a run id: what people read and may type."""
    return run_id.rpartition("-")[2]


class Store:
    """Runs, trained teachers and tokenised data sets under one home folder."""

    def __init__(self, home: Path | None = None) -> None:
        self.home = home_folder() if home is None else home.absolute()

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
        if not file.is_file():
            with _aside(file) as path:
                path.write_bytes(content)
        return file

    # Runs

    def create_run(self, config: RunConfig, state: Literal["queued", "running"] = "queued") -> str:
        """Makes the folder of a new run and returns its id.

        Args:
            state: `queued` for an executor to pick up, `running` if the caller claims and runs it at once.
        """
        now = time.time()
        run_id = time.strftime("%Y%m%d-%H%M%S-", time.gmtime(now)) + secrets.token_hex(3)
        status = Status(run_id, state, now, started=now if state == "running" else None)
        with self._new_folder(self.run_folder(run_id)) as folder:
            (folder / "config.json").write_text(config.to_json(), encoding="utf-8")
            (folder / "status.json").write_text(_dump(asdict(status)), encoding="utf-8")
        return run_id

    def run_folder(self, run_id: str) -> Path:
        """Where a run keeps its files."""
        return self.home / "runs" / run_id

    def run_ids(self) -> list[str]:
        """All runs, oldest first."""
        folder = self.home / "runs"
        if not folder.is_dir():
            return []
        return sorted(entry.name for entry in folder.iterdir() if (entry / "status.json").is_file())

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
        return configuration.parse(_load(self.run_folder(run_id) / "config.json"))

    def status(self, run_id: str) -> Status:
        """Where a run stands now."""
        try:
            return Status(**_load(self.run_folder(run_id) / "status.json"))
        except TypeError as error:
            raise RunError(f"status.json of {run_id!r} has other fields ({error}); the run cannot be read") from None

    def update_status(self, run_id: str, **changes: Any) -> Status:
        """Changes some fields of a run's status; a run that is over stays as it ended."""
        status = self.status(run_id)
        if not status.over:
            status = replace(status, **changes)
            _write(self.run_folder(run_id) / "status.json", _dump(asdict(status)))
        return status

    def end_run(self, run_id: str, event: events.RunFinished | events.RunFailed | events.RunCancelled) -> Status:
        """Records how a run ended, unless it had ended already."""
        status = self.status(run_id)
        if status.over:
            return status
        with self.event_log(run_id) as emit:
            emit(event)
        return self.update_status(
            run_id, status=_END_STATES[type(event)], ended=time.time(), error=getattr(event, "error", None)
        )

    @contextmanager
    def claim(self, run_id: str) -> Iterator[None]:
        """Holds a run for the process that works on it, until it ends in whatever way.

        Raises:
            RunError: another process holds the run, or the run is over.
        """
        try:
            with FileLock(self._claim_file(run_id), timeout=1):
                status = self.status(run_id)
                if status.over:
                    raise RunError(f"run must be waiting, got {run_id!r} which is {status.status}; start a new one")
                yield
        except Timeout:
            raise RunError(f"run must be waiting, got {run_id!r} which another process works on; watch it") from None

    def is_claimed(self, run_id: str) -> bool:
        """Whether a living process works on a run. A dead one's claim ends with it, so process ids never mislead."""
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
        return _load(file) if file.is_file() else None

    def write_result(self, run_id: str, result: Mapping[str, Any]) -> None:
        """Writes `result.json`."""
        _write(self.run_folder(run_id) / "result.json", _dump(result))

    def write_text(self, run_id: str, name: str, text: str) -> None:
        """Adds a text file to a run."""
        _write(self.run_folder(run_id) / name, text)

    def write_tensors(self, run_id: str, name: str, tensors: dict[str, Tensor]) -> None:
        """Adds a safetensors file to a run."""
        _write_tensors(self.run_folder(run_id) / name, tensors)

    def link_file(self, run_id: str, name: str, source: Path) -> None:
        """Adds a file that lies elsewhere in the home folder, without a second copy where the disk allows that."""
        (self.run_folder(run_id) / name).parent.mkdir(exist_ok=True)
        with _aside(self.run_folder(run_id) / name) as path:
            try:
                os.link(source, path)
            except OSError:
                shutil.copyfile(source, path)

    # Events

    @contextmanager
    def event_log(self, run_id: str) -> Iterator[events.Emit]:
        """Appends events to a run, each visible to readers at once."""
        with (self.run_folder(run_id) / "events.jsonl").open("a+b") as file:
            if file.tell() and not _ends_with_newline(file):
                file.write(b"\n")  # a line that a dying process left torn must not swallow the next one
            yield lambda event: _append(file, events.encode(event))

    def read_events(self, run_id: str, offset: int = 0) -> tuple[list[tuple[float, events.Event]], int]:
        """Events written after byte `offset`, each with its time, and the offset to go on from."""
        file = self.run_folder(run_id) / "events.jsonl"
        if not file.is_file():
            return [], offset
        with file.open("rb") as stream:
            stream.seek(offset)
            whole = stream.read().rpartition(b"\n")[0]
        if not whole:
            return [], offset
        decoded = (events.decode(line) for line in whole.decode(errors="replace").split("\n"))
        return [event for event in decoded if event is not None], offset + len(whole) + 1

    # Caches

    def cached(self, kind: CacheKind, key: str) -> Path | None:
        """The folder of something computed before; None if there is none."""
        folder = self.home / kind / key
        return folder if folder.is_dir() else None

    def publish(self, kind: CacheKind, key: str, fill: Callable[[Path], None]) -> Path:
        """Keeps something computed under its key: `fill` writes into the folder that it is given."""
        folder = self.home / kind / key
        try:
            with self._new_folder(folder) as path:
                fill(path)
        except OSError:
            # Another run published the same key first: what it wrote is the same.
            if not folder.is_dir():
                raise
        return folder

    def complete(self, kind: CacheKind, key: str, name: str, tensors: dict[str, Tensor]) -> None:
        """Adds a safetensors file to something that was published before."""
        _write_tensors(self.home / kind / key / name, tensors)

    @contextmanager
    def _new_folder(self, folder: Path) -> Iterator[Path]:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
        try:
            yield aside
            aside.chmod(0o755)
            aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _ends(run_id: str, name: str) -> bool:
    return len(name) >= 3 and run_id.endswith(name)


def _ends_with_newline(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _append(file: BinaryIO, line: str) -> None:
    file.write(line.encode() + b"\n")
    file.flush()


def _load(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"run {file.parent.name!r} has no {file.name}; list the runs with: runs") from None
    except ValueError as error:
        raise RunError(f"{file.name} of {file.parent.name!r} is not JSON ({error}); the run cannot be read") from None
    if not isinstance(values, dict):
        raise RunError(f"{file.name} of {file.parent.name!r} holds no object; the run cannot be read")
    return values


def _dump(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False)


def _write_tensors(file: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save_file  # imports PyTorch, which pages must not wait for

    with _aside(file) as path:
        save_file(tensors, path)


def _write(file: Path, text: str) -> None:
    with _aside(file) as path:
        path.write_text(text, encoding="utf-8")


@contextmanager
def _aside(file: Path) -> Iterator[Path]:
    """A path beside `file` that takes its place once it is written."""
    path = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        yield path
        path.replace(file)
    finally:
        path.unlink(missing_ok=True)
