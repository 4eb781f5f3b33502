"""A run on a node of a cluster: in the home folder where the node sees it, else in one of the node's own. Knows no Ray.

A node's own home folder lies under the temporary folder. It keeps what was sent there, by content, and the baselines
that were trained there, for the runs that follow; it may be deleted whenever no run works in it.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path, PurePosixPath

from distill_core import keys
from distill_core.config import RunConfig, digest, parse
from distill_core.errors import ConfigError, DistillError, RunError
from distill_core.events import Event, Pace, RunStarted
from distill_core.models.sizes import work_of, works_of
from distill_core.store import Kept, Store

Parcel = Mapping[str, bytes]
"""The files of a folder by their path within it."""
Made = Mapping[str, bytes | PurePosixPath]
"""The files of a run by their path within its folder; a path stands for one that lies in the home folder already."""
RUN, TABLE = "run", "table"
"""Names of two parcels: the run's own folder, and the file that its texts are read from."""
WRITTEN_BY_PEOPLE = frozenset({"config.json", "control.json", "notes.json"})
"""Files of a run that may have changed at home meanwhile."""
CLAIM_SECONDS = 20.0
"""How long a run is waited for that is still held: the worker of a driver or node that has died may live a little."""
LOOK = 0.2
"""Seconds between two looks at it."""
TELL_SECONDS = 1.0


@dataclass(frozen=True)
class Order:
    """What a node has to know of a run: its configuration as JSON, and where all else lies; never data.

    `wish` numbers the wish that the driver has just left in the run's folder: a node that reads the same number there
    sees the home folder itself, and no copy of it. `outcome_key` is that of the lab, as of the function of this name.
    """

    run_id: str
    home: Path
    config: str
    wish: int
    outcome_key: str
    caches: tuple[tuple[Kept, str], ...] = ()


class HomeNotSeen(DistillError):
    """A node does not see the home folder."""


def outcome_key(config: RunConfig, store: Store) -> str:
    """Hash of what decides a run's outcome besides its settings: its teacher, and how each of its models computes."""
    from distill_core.computing import compute_for

    compute = compute_for(config, store)
    teacher = keys.teacher_key(config, compute.precision_of(work_of(config.teacher)), store.data_folder)
    return digest([teacher, {work: compute.precision_of(work) for work in sorted(works_of(config))}])


def work_at_home(order: Order) -> None:
    """Works on a run in the home folder, where the run's folder then says how it ended.

    Raises:
        HomeNotSeen: this node does not see the home folder.
        DistillError: this node cannot take the run; another one may.
    """
    store = Store(order.home)
    if not _is_seen(store, order):
        raise HomeNotSeen(f"node {platform.node()} must see the home folder {str(order.home)!r}, got another or none")
    deadline = time.monotonic() + CLAIM_SECONDS
    while store.is_claimed(order.run_id):
        if time.monotonic() > deadline:
            raise RunError(f"run must be waiting, got {order.run_id!r} which another process works on; end that one")
        time.sleep(LOOK)
    _work(order, store.config(order.run_id), store, lambda: None)


def work_away(order: Order, fetch: Callable[[str], Parcel], tell: Callable[[bytes], None]) -> Made:
    """Works on a run in a home folder of the node's own, and returns what has come of it.

    Args:
        fetch: gets a parcel by its name: `run`, `table`, or a cache as in `teachers/0123abcd`, where it is not here.
        tell: hears about once a second what the run has added to its `events.jsonl`.

    Raises:
        DistillError: this node cannot take the run; another one may.
    """
    store = Store(Path(tempfile.gettempdir()) / f"distill-lab-{os.getuid()}")
    for kind, key in order.caches:
        if store.usable(kind, key) is None:
            store.publish(kind, key, partial(unpack, fetch(f"{kind}/{key}")))
    config = _placed(parse(json.loads(order.config)), store, fetch)
    _adopt(store, order.run_id, {**fetch(RUN), "config.json": config.to_json().encode()})
    try:
        _work(order, config, store, _reader(store.run_folder(order.run_id) / "events.jsonl", tell))
        return _made(store, order)
    finally:
        shutil.rmtree(store.run_folder(order.run_id), ignore_errors=True)


def packed(folder: Path) -> dict[str, bytes]:
    """The files of a folder by their path within it, without locks and what is being written."""
    found = (path for path in folder.rglob("*") if path.is_file())
    named = ((path, path.relative_to(folder)) for path in found)
    return {name.as_posix(): path.read_bytes() for path, name in named if not any(p[0] == "." for p in name.parts)}


def unpack(parcel: Parcel, folder: Path) -> None:
    """Writes the files of a parcel into a folder."""
    for name, content in parcel.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _is_seen(store: Store, order: Order) -> bool:
    """Whether this is the very folder that the driver has just written to."""
    try:
        written = store.config(order.run_id).to_json()
    except DistillError:
        return False
    return written == order.config and store.wish(order.run_id).number >= order.wish


def _placed(config: RunConfig, store: Store, fetch: Callable[[str], Parcel]) -> RunConfig:
    """The same configuration with the file that its texts are read from where it lies on this node."""
    if config.data.name != "csv":
        return config
    [(name, content)] = fetch(TABLE).items()
    return config.model_copy(
        update={"data": config.data.model_copy(update={"path": str(store.keep_upload(name, content))})}
    )


def _adopt(store: Store, run_id: str, parcel: Parcel) -> None:
    """Gives the node's home folder the run, in place of what a process that was killed has left of it."""
    if store.is_claimed(run_id):
        raise RunError(f"run must be waiting, got {run_id!r} which another process of this node works on; end that one")
    shutil.rmtree(store.run_folder(run_id), ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=store.home, ignore_cleanup_errors=True) as scratch:
        unpack(parcel, Path(scratch) / run_id)
        store.adopt_run(Path(scratch) / run_id, run_id)


def _reader(log: Path, tell: Callable[[bytes], None]) -> Callable[[], None]:
    """Passes on what is added to a file from now on, each time it is called, but not more often than once a second."""
    pace, seen = Pace(TELL_SECONDS), log.stat().st_size if log.is_file() else 0

    def read() -> None:
        nonlocal seen
        if pace.due():
            with log.open("rb") as file:
                file.seek(seen)
                added = file.read()
            seen += len(added)
            tell(added)

    return read


def _work(order: Order, config: RunConfig, store: Store, heard: Callable[[], None]) -> None:
    """Takes a run to its end; its folder says how it ended.

    Args:
        heard: called after each event.

    Raises:
        ConfigError: it would get another teacher here.
    """
    from distill_core import worker

    _warm_up()
    if outcome_key(config, store) != order.outcome_key:
        raise ConfigError(
            f"node {platform.node()} must compute as the lab does to share its teacher, got another precision, or "
            "other packages, code or files; install the same there, and try training.precision=float32"
        )

    def listen(event: Event) -> None:
        heard()
        if isinstance(event, RunStarted):  # on the lab's machine its id may be another's, which nobody must kill
            store.update_status(order.run_id, pid=None)

    with suppress(Exception):  # its folder says why
        worker.work(order.run_id, store, listen)


@cache
def _warm_up() -> None:
    """Loads, once a process, all that a run needs."""
    from distill_core import pipeline

    os.nice(5)  # on a machine that does other work too, that stays quick
    pipeline.warm_up()


def _made(store: Store, order: Order) -> Made:
    """The files of a run; those that are the teacher's too are named, since the lab has them."""
    folder, known = store.run_folder(order.run_id), _caches_by_file(store, order)

    def named(name: str, content: bytes) -> bytes | PurePosixPath:
        facts = (folder / name).stat()
        return known.get((facts.st_dev, facts.st_ino), content)

    return {name: named(name, content) for name, content in packed(folder).items() if name not in WRITTEN_BY_PEOPLE}


def _caches_by_file(store: Store, order: Order) -> dict[tuple[int, int], PurePosixPath]:
    """Where in a home folder the files of the run's caches lie, by device and inode."""
    found = (file for kind, key in order.caches for file in (store.home / kind / key).rglob("*") if file.is_file())
    named = ((file.stat(), file.relative_to(store.home)) for file in found)
    return {(facts.st_dev, facts.st_ino): PurePosixPath(name.as_posix()) for facts, name in named}
