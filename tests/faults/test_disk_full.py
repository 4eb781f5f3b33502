"""A disk that fills up at any moment: the run says that it was interrupted and goes on once there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distill_core.store import Store
from tests.faults.nursery import Nursery, nursery
from tests.faults.test_killed import left_behind
from tests.runs import config_of, made_rows, write_csv

POINTS = 10
PAGE = 4096
ROOMY = 64_000_000


@pytest.fixture(scope="module")
def hatchery() -> Iterator[Nursery]:
    with nursery() as started:
        yield started


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A disk in memory: a function that makes it so many bytes large and returns its folder."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOMY}", "tmpfs", folder], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")

    def sized(size: int) -> Path:
        subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)
        return folder

    yield sized
    subprocess.run(["umount", "-l", folder], check=True)


def used(folder: Path) -> int:
    stat = os.statvfs(folder)
    return (stat.f_blocks - stat.f_bfree) * stat.f_frsize


@pytest.mark.slow
def test_a_full_disk_interrupts_a_run_that_goes_on_with_more_room(
    disk: Callable[[int], Path], hatchery: Nursery, tmp_path: Path
) -> None:
    file = write_csv(tmp_path / "reviews.csv", made_rows(120))
    config = config_of(file, "teacher.size=S", "student.size=L", "training.epochs=3")
    folder = disk(ROOMY)
    undisturbed = Store(folder / "undisturbed")
    run_id = undisturbed.create_run(config)
    before = used(folder)
    assert hatchery.finish(undisturbed.home, run_id) == 0
    needed = used(folder) - before
    expected, interrupted = left_behind(undisturbed, run_id), 0
    for point in range(POINTS):
        store = Store(folder / f"home-{point}")
        run_id = store.create_run(config)
        room = PAGE * round(needed * (point + 0.5) / POINTS / PAGE)
        disk(used(folder) + room)
        ended = hatchery.finish(store.home, run_id)
        assert store.status(run_id).status == ("finished" if ended == 0 else "interrupted"), point
        interrupted += ended != 0
        disk(ROOMY)
        if ended != 0:
            assert hatchery.finish(store.home, run_id) == 0, store.log_tail(run_id, 20)
        assert left_behind(store, run_id) == expected
        assert not list(store.home.rglob(".new-*"))
    assert interrupted >= POINTS // 2
