"""The teachers of a sweep: the first with all cores, further ones beside the cells that are at work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from distill_core import estimate, keys
from distill_core.config import RunConfig
from distill_core.errors import DistillError
from distill_core.store import Store
from distill_core.sweep.chores import prepare

_NONE = ""
"""A teacher that nobody can have."""


class Teachers:
    """Knows which teachers have answered, and trains one at a time.

    Args:
        check: called often; what it raises ends a training.
    """

    def __init__(self, store: Store, check: Callable[[], None]) -> None:
        self._store, self._check = store, check
        self._there = {_NONE}
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def have(self, config: RunConfig) -> None:
        """Returns once the teacher of a configuration is there; raises what `check` raises.

        One that cannot be had counts as there, too: the runs that need it fail, each with the reason in its folder.
        """
        with suppress(DistillError):
            if not estimate.teaching_is_kept(config, self._store):
                prepare(self._store, [config], self._check)
        self._there.add(self._name(config))

    def has(self, config: RunConfig) -> bool:
        """Whether a cell of this configuration can begin. Raises what has ended the training of a teacher."""
        if self._error is not None:
            raise self._error
        return self._name(config) in self._there

    def begin(self, config: RunConfig) -> None:
        """Has the teacher of a configuration trained, unless one is being trained already."""
        if not self.busy:
            self._thread = threading.Thread(target=self._try, args=(config,), name="sweep-teacher")
            self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether a teacher is being trained."""
        return self._thread is not None and self._thread.is_alive()

    def close(self) -> None:
        """Returns once nothing is trained any more; `check` has to raise by then."""
        if self._thread is not None:
            self._thread.join()

    def _try(self, config: RunConfig) -> None:
        try:
            self.have(config)
        except BaseException as error:  # told to the thread that drives
            self._error = error

    def _name(self, config: RunConfig) -> str:
        with suppress(DistillError):  # its file is gone
            key = keys.transfer_key(config, config.training.precision, self._store.data_folder)
            return f"{key} {config.student.word_vectors}"
        return _NONE
