"""Where a run stands, and what people write about it. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

State = Literal["queued", "running", "paused", "interrupted", "finished", "failed", "cancelled"]
FINAL: frozenset[State] = frozenset({"finished", "failed", "cancelled"})
AT_WORK: frozenset[State] = frozenset({"running", "paused"})


@dataclass(frozen=True)
class Status:
    """Where a run stands: times in seconds since the epoch, its worker by process id.

    `queued` orders those that wait; `device` counts the machine's devices from 0. `owner` is a hash of who may stop and
    delete the run; None for the command line. `sweep` is the sweep whose cell the run is, which its driver starts.
    """

    run_id: str
    status: State
    created: float
    started: float | None = None
    ended: float | None = None
    pid: int | None = None
    error: str | None = None
    queued: float = 0.0
    owner: str | None = None
    device: int | None = None
    sweep: str | None = None

    @property
    def final(self) -> bool:
        """Whether the run will not change any more."""
        return self.status in FINAL

    @property
    def over(self) -> bool:
        """Whether nothing works on the run or is going to: it is final, or was interrupted and nobody resumes it."""
        return self.final or self.status == "interrupted"


@dataclass(frozen=True)
class Notes:
    """What people write about a run: a name in place of its id, tags, and a remark."""

    name: str = ""
    tags: tuple[str, ...] = ()
    note: str = ""

    def checked(self) -> Notes:
        """The same in the form it is kept in: one line and at most 80 characters a name, tags in order, once each."""
        tags = sorted({" ".join(str(tag).split())[:40] for tag in self.tags} - {""})
        return Notes(" ".join(str(self.name).split())[:80], tuple(tags), str(self.note)[:10_000])


def short(run_id: str) -> str:
    """The end of a run id: what people read and may type."""
    return run_id.rpartition("-")[2]


def checked(status: Status, run_id: str) -> Status:
    """The same status. Raises ValueError for one that no run of this id has."""
    times = (status.created, status.started, status.ended, status.queued)
    if status.run_id != run_id or status.status not in get_args(State):
        raise ValueError(f"{status.run_id!r} is {status.status!r}")
    if not all(time is None or isinstance(time, int | float) for time in times) or status.queued is None:
        raise ValueError(f"times {times!r}")
    if not all(value is None or isinstance(value, str) for value in (status.owner, status.error, status.sweep)):
        raise ValueError(f"owner {status.owner!r}, error {status.error!r}, sweep {status.sweep!r}")
    return status
