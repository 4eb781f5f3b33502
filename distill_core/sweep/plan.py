"""Which cell of a sweep comes next, with the run that it is; and the cells that share an outcome share a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial

from distill_core import limits, storage
from distill_core.config import RunConfig
from distill_core.errors import RunError
from distill_core.status import Notes, short
from distill_core.store import Store
from distill_core.sweep.cells import ENDED, Cell, CellState, Measured
from distill_core.sweep.outlook import longest_first
from distill_core.sweep.record import Sweeps
from distill_core.sweep.space import cell_config, label, sameness
from distill_core.sweep.study import Study


class Plan:
    """The cells of a sweep, those that wait for a process, and the study that chooses further ones.

    Args:
        listen: hears each cell as it is written.
    """

    def __init__(self, sweep_id: str, sweeps: Sweeps, listen: Callable[[Cell], None]) -> None:
        self._sweep_id, self._sweeps, self._listen = sweep_id, sweeps, listen
        self.config = sweeps.config(sweep_id)
        self.cells = {cell.number: cell for cell in sweeps.cells(sweep_id)}
        self._leaders: dict[str, int] = {}
        """The first cell of each outcome, by the outcome's hash."""
        order = partial(longest_first, config=self.config, store=sweeps.store)
        self._study = Study(sweep_id, self.config, sweeps.store.home, list(self.cells.values()), order)
        self._ready = list(self._unfinished())

    def ahead(self) -> Cell | None:
        """The cell that comes next, with its folder made before a process waits for it; None if no other is known."""
        return self._ready[0] if self._ready else self._chosen()

    def take(self, can_begin: Callable[[Cell], bool]) -> Cell | None:
        """The next cell that can begin; it counts as running now."""
        self.ahead()
        found = next((cell for cell in self._ready if can_begin(cell)), None)
        if found is None:
            return None
        self._ready.remove(found)
        return self.write(replace(found, state="running", error=None, ended=None))

    def config_of(self, cell: Cell) -> RunConfig:
        """The configuration of a cell's run."""
        return cell_config(self.config, cell.values)

    def write(self, cell: Cell) -> Cell:
        """Writes a cell down, and has those that share its run end with it."""
        self.cells[cell.number] = cell
        self._sweeps.append(self._sweep_id, cell)
        self._listen(cell)
        if cell.state in ENDED:
            self._study.finish(cell)
            self._end_followers(cell)
        return cell

    def _end_followers(self, leader: Cell) -> None:
        """Cells that share the run of one that has ended end with it."""
        if self._leaders.get(self._outcome(leader)) == leader.number:
            for cell in list(self.cells.values()):
                if cell.state not in ENDED and cell.run_id == leader.run_id and cell.number != leader.number:
                    self.write(self._like(cell, leader))

    def _outcome(self, cell: Cell) -> str:
        return sameness(self.config_of(cell))

    def is_hopeless(self, cell: Cell, epoch: int, accuracy: float) -> bool:
        """Whether the pruner would stop a cell that has this validation accuracy after an epoch."""
        return self._study.is_hopeless(cell.number, epoch, accuracy)

    def _chosen(self) -> Cell | None:
        """A new cell with a run of its own; those of a known outcome are written on the way."""
        while (found := self._study.next_values()) is not None:
            cell = Cell(*found)
            leader = self.cells.get(self._leaders.setdefault(self._outcome(cell), cell.number))
            if leader is None:
                cell = self.write(replace(cell, run_id=self._new_run(cell)))
                self._ready.append(cell)
                return cell
            self._follow(cell, leader)
        return None

    def _follow(self, cell: Cell, leader: Cell) -> None:
        """A cell of another one's outcome ends with it, or as it has ended."""
        self.write(self._like(cell, leader) if leader.state in ENDED else replace(cell, run_id=leader.run_id))

    @staticmethod
    def _like(cell: Cell, leader: Cell) -> Cell:
        return replace(leader, number=cell.number, values=cell.values)

    def _new_run(self, cell: Cell) -> str:
        store = self._sweeps.store
        storage.check_room(store, limits.load(store.home))
        owner = self._sweeps.status(self._sweep_id).owner
        run_id = store.create_run(self.config_of(cell), owner=owner, sweep=self._sweep_id)
        store.write_notes(run_id, Notes(label(cell.values), (f"sweep {short(self._sweep_id)}",)))
        return run_id

    def _unfinished(self) -> Iterator[Cell]:
        """Cells of an earlier stretch that go on: nobody has ended them, or their run was stopped from outside."""
        for cell in list(self.cells.values()):
            leader = self.cells[self._leaders.setdefault(self._outcome(cell), cell.number)]
            if cell.state in ENDED and not self._was_stopped(cell, self._sweeps.store):
                continue
            if leader.number != cell.number:
                self._follow(replace(cell, state="waiting"), leader)
                continue
            there = cell.run_id is not None and self._sweeps.store.run_folder(cell.run_id).is_dir()
            run_id = cell.run_id if there else self._new_run(cell)
            yield self.write(replace(cell, state="waiting", run_id=run_id, error=None, ended=None))

    @staticmethod
    def _was_stopped(cell: Cell, store: Store) -> bool:
        if cell.state != "failed" or cell.run_id is None:
            return False
        with suppress(RunError):  # somebody has deleted it
            return store.status(cell.run_id).status == "interrupted"
        return False


def ended(cell: Cell, state: CellState, *, error: str | None = None, measured: Measured | None = None) -> Cell:
    """The cell as it has ended just now."""
    return replace(cell, state=state, ended=time.time(), error=error, measured=measured)
