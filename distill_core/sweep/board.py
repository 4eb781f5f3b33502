"""What runs tell of themselves while they work away from home: an actor collects it, the driver fetches it.

So charts are drawn and hopeless cells are pruned as if the runs were at home.
"""

from __future__ import annotations

from typing import Any

Told = dict[tuple[str, int], bytes]
"""Further lines of `events.jsonl` by run and the number of its order: who was begun again has another number."""


class _Collector:
    """The actor."""

    def __init__(self) -> None:
        self._told: Told = {}

    def tell(self, run_id: str, number: int, lines: bytes) -> None:
        """Adds lines of a run."""
        self._told[run_id, number] = self._told.get((run_id, number), b"") + lines

    def take(self) -> Told:
        """What has come since the last time."""
        told, self._told = self._told, {}
        return told


class Board:
    """The driver's end of it. `collector` goes to the tasks."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self.collector = ray.remote(num_cpus=0)(_Collector).remote()
        self._asked = self.collector.take.remote()

    def news(self) -> Told:
        """What runs have told since; nothing while the actor has yet to answer, or once its node is lost."""
        if not self._ray.wait([self._asked], timeout=0)[0]:
            return {}
        try:
            told: Told = self._ray.get(self._asked)
        except self._ray.exceptions.RayError:
            told = {}
        self._asked = self.collector.take.remote()
        return told
