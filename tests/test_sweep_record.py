"""Sweeps on disk: their cells line by line, their state, and who drives them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from filelock import FileLock, Timeout
from hypothesis import given
from hypothesis import strategies as st

from distill_core.errors import RunError
from distill_core.store import Store
from distill_core.sweep.cells import Cell
from distill_core.sweep.record import Sweeps, SweepWish
from tests.made_cells import drawn, finished, measured_of, sweep_of

CONFIG = sweep_of(objective__beta=(0, 1), objective__temperature=(2, 4))
FOUND = measured_of(drawn(np.random.default_rng(0), 0.7, texts=60))


@pytest.fixture
def sweeps(store: Store) -> Sweeps:
    return Sweeps(store)


@contextmanager
def fresh() -> Iterator[tuple[Sweeps, str]]:
    """A sweep in a home folder of its own, for tests that hypothesis runs many times."""
    with TemporaryDirectory() as folder:
        sweeps = Sweeps(Store(Path(folder)))
        yield sweeps, sweeps.create(CONFIG)


def cells_file(sweeps: Sweeps, sweep_id: str) -> Path:
    return sweeps.folder(sweep_id) / "cells.jsonl"


def test_a_new_sweep_waits_and_has_no_cells(sweeps: Sweeps) -> None:
    sweep_id = sweeps.create(CONFIG, owner="me", estimated=12.5)
    status = sweeps.status(sweep_id)
    assert (status.status, status.owner, status.estimated, status.over) == ("queued", "me", 12.5, False)
    assert sweeps.config(sweep_id) == CONFIG
    assert sweeps.cells(sweep_id) == []
    assert sweeps.ids() == [sweep_id]


Written = tuple[int, bool, bool, bytes]
"""A cell's number, whether it has finished, which of two writers writes it, and what a dying one leaves before."""
written = st.tuples(
    st.integers(0, 5),
    st.booleans(),
    st.booleans(),
    st.sampled_from([b"", b'{"number": 3, "val', b"7", b"\xff\xfe", b"[1, 2]", b'{"number": 1}']),
)


@given(rows=st.lists(written, max_size=12), reads=st.sets(st.integers(0, 11)))
def test_cells_read_back_as_they_were_written_last(rows: list[Written], reads: set[int]) -> None:
    with fresh() as (sweeps, sweep_id):
        other, expected = Sweeps(sweeps.store), dict[int, Cell]()
        for place, (number, done, by_other, torn) in enumerate(rows):
            if torn:
                with cells_file(sweeps, sweep_id).open("ab") as file:
                    file.write(torn)
            values = {"objective.beta": place}
            cell = finished(number, values, FOUND) if done else Cell(number, values, "running")
            (other if by_other else sweeps).append(sweep_id, cell)
            expected[number] = cell
            if place in reads:
                assert sweeps.cells(sweep_id) == [expected[key] for key in sorted(expected)]
        assert sweeps.cells(sweep_id) == other.cells(sweep_id) == [expected[key] for key in sorted(expected)]


def test_a_torn_last_line_is_not_read_before_it_is_whole(sweeps: Sweeps) -> None:
    sweep_id = sweeps.create(CONFIG)
    sweeps.append(sweep_id, Cell(0, {}, "running"))
    whole = cells_file(sweeps, sweep_id).read_bytes()
    sweeps.append(sweep_id, Cell(0, {}, "failed", error="lost"))
    both = cells_file(sweeps, sweep_id).read_bytes()
    cells_file(sweeps, sweep_id).write_bytes(both[: len(whole) + 10])
    assert [cell.state for cell in sweeps.cells(sweep_id)] == ["running"]
    cells_file(sweeps, sweep_id).write_bytes(both)
    assert [cell.state for cell in sweeps.cells(sweep_id)] == ["failed"]


def test_cells_are_read_anew_where_the_file_has_become_shorter(sweeps: Sweeps) -> None:
    sweep_id = sweeps.create(CONFIG)
    for number in range(3):
        sweeps.append(sweep_id, Cell(number, {}, "running"))
    assert len(sweeps.cells(sweep_id)) == 3
    first = cells_file(sweeps, sweep_id).read_bytes().splitlines(keepends=True)[0]
    cells_file(sweeps, sweep_id).write_bytes(first)
    assert [cell.number for cell in sweeps.cells(sweep_id)] == [0]


def test_who_changes_the_list_of_cells_changes_nobody_elses(sweeps: Sweeps) -> None:
    sweep_id = sweeps.create(CONFIG)
    sweeps.append(sweep_id, Cell(0, {}, "running"))
    sweeps.cells(sweep_id).clear()
    assert len(sweeps.cells(sweep_id)) == 1


def test_a_sweep_is_found_by_the_end_of_its_id(sweeps: Sweeps) -> None:
    sweep_id = sweeps.create(CONFIG)
    assert sweeps.find(sweep_id) == sweeps.find(sweep_id[-6:]) == sweep_id
    for name in ("", sweep_id[-2:], "nothing"):
        with pytest.raises(RunError, match="sweep must be one that exists, got"):
            sweeps.find(name)


def test_a_running_sweep_that_nobody_drives_has_been_interrupted(sweeps: Sweeps) -> None:
    sweep_id = sweeps.create(CONFIG)
    sweeps.update(sweep_id, status="running")
    assert sweeps.status(sweep_id).status == "interrupted"
    with sweeps.claim(sweep_id):
        assert sweeps.status(sweep_id).status == "running"
    assert sweeps.status(sweep_id).status == "interrupted"


def hold(home: Path, sweep_id: str, told: Connection) -> None:
    """Drives a sweep in a process of its own until it is killed."""
    with Sweeps(Store(home)).claim(sweep_id):
        told.send("holds")
        told.recv()


def test_only_one_process_drives_a_sweep_and_a_killed_one_lets_go(sweeps: Sweeps) -> None:
    sweep_id = sweeps.create(CONFIG)
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(sweeps.store.home, sweep_id, there))
    process.start()
    try:
        assert here.poll(30)
        with (
            pytest.raises(RunError, match=r"sweep must be at rest, got .* which another process drives"),
            sweeps.claim(sweep_id),
        ):
            pass
    finally:
        process.kill()
        process.join()
    assert not sweeps.is_claimed(sweep_id)
    with sweeps.claim(sweep_id):
        pass


def test_a_driver_that_waits_in_vain_for_another_lock_does_not_blame_the_claim(sweeps: Sweeps, tmp_path: Path) -> None:
    sweep_id = sweeps.create(CONFIG)
    with FileLock(tmp_path / "other"), pytest.raises(Timeout), sweeps.claim(sweep_id), FileLock(tmp_path / "other", 0):
        pass


def test_a_sweep_is_extended_only_at_rest(sweeps: Sweeps) -> None:
    sweep_id, larger = sweeps.create(CONFIG), sweep_of(objective__beta=(0, 1, 2), objective__temperature=(2, 4))
    with pytest.raises(RunError, match=r"sweep must be at rest to be extended, got .* which is queued; pause it"):
        sweeps.extend(sweep_id, larger, 20.0)
    sweeps.update(sweep_id, status="paused")
    sweeps.extend(sweep_id, larger, 20.0)
    assert sweeps.config(sweep_id) == larger
    assert sweeps.status(sweep_id).estimated == 20.0


@pytest.mark.parametrize("wish", ["pause", "cancel", "run"])
def test_the_driver_hears_what_is_wanted(sweeps: Sweeps, wish: SweepWish) -> None:
    sweep_id = sweeps.create(CONFIG)
    assert sweeps.wish(sweep_id) == "run"
    sweeps.ask(sweep_id, wish)
    assert sweeps.wish(sweep_id) == wish


def test_a_wish_that_cannot_be_read_is_none(sweeps: Sweeps) -> None:
    sweep_id = sweeps.create(CONFIG)
    for text in ("{", "[]", '{"wish": "dance"}', '{"wish": ["pause"]}'):
        (sweeps.folder(sweep_id) / "control.json").write_text(text)
        assert sweeps.wish(sweep_id) == "run"


def test_a_status_of_other_fields_is_told(sweeps: Sweeps) -> None:
    sweep_id = sweeps.create(CONFIG)
    (sweeps.folder(sweep_id) / "status.json").write_text('{"colour": "red"}')
    with pytest.raises(RunError, match=r"status\.json of sweep .* has other fields"):
        sweeps.status(sweep_id)
