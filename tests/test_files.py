"""Files that only one process works with."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from distill_core import files


def test_nobody_gets_what_another_has_to_itself(tmp_path: Path) -> None:
    with files.alone(tmp_path / "lock", None) as mine, files.alone(tmp_path / "lock", None) as also_mine:
        assert (mine, also_mine) == (True, False)
    with files.alone(tmp_path / "lock", None) as mine:
        assert mine
    assert list(tmp_path.iterdir()) == []


def test_who_waits_gets_it_once_the_other_is_done(tmp_path: Path) -> None:
    looks, done = list[int](), threading.Event()

    def wait() -> None:
        looks.append(len(looks))
        if len(looks) == 2:
            done.set()

    def hold() -> None:
        with files.alone(tmp_path / "lock", None):
            held.set()
            done.wait(20)

    held, holder = threading.Event(), threading.Thread(target=hold)
    holder.start()
    assert held.wait(20)
    with files.alone(tmp_path / "lock", wait) as mine:
        assert mine
        assert done.is_set()
    holder.join()


def test_waiting_ends_with_what_the_wait_raises(tmp_path: Path) -> None:
    def give_up() -> None:
        raise KeyboardInterrupt

    with files.alone(tmp_path / "lock", None) as mine:
        assert mine
        with pytest.raises(KeyboardInterrupt), files.alone(tmp_path / "lock", give_up):
            pytest.fail("it is taken")
