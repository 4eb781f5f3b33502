"""How a run computes is tried once on a kind of machine, and every process that asks later hears the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distill_core import bfloat16, computing, files, keys, machine, processor
from distill_core.computing import compute_for, narrow_here
from distill_core.device import Compute
from distill_core.models.sizes import Work
from distill_core.presets import load
from distill_core.store import Store

CPU = torch.device("cpu")


class Trials:
    """A processor that says of each trial what it is told to."""

    def __init__(self, *outcomes: list[Work]) -> None:
        self.left = list(outcomes)

    def __call__(self) -> frozenset[Work]:
        return frozenset(self.left.pop(0))


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> Trials:
    """The first says that encoders are faster, the second that LSTMs are; on a CPU with instructions for it."""
    trials = Trials(["encoder"], ["lstm"])
    monkeypatch.setattr(bfloat16, "faster", trials)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    return trials


def test_a_processor_is_tried_once(store: Store, trials: Trials) -> None:
    assert machine.narrow(store) is None
    assert [narrow_here(store) for _ in range(3)] == [{"encoder"}] * 3
    assert len(trials.left) == 1


def test_another_kind_of_processor_is_tried_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: Store, trials: Trials
) -> None:
    assert narrow_here(store) == {"encoder"}
    facts = tmp_path / "cpuinfo"
    facts.write_text("model name: another\nflags: amx_tile\n", encoding="utf-8")
    monkeypatch.setattr(processor, "FACTS", facts)
    assert narrow_here(store) == {"lstm"}
    monkeypatch.undo()
    assert machine.narrow(store) == {"encoder"}


def test_who_was_first_counts(monkeypatch: pytest.MonkeyPatch, store: Store, trials: Trials) -> None:
    def slowly() -> frozenset[Work]:
        machine.keep_narrow(store, ["lstm"])  # another process, meanwhile
        return frozenset({"encoder"})

    monkeypatch.setattr(bfloat16, "faster", slowly)
    assert narrow_here(store) == {"lstm"}


def test_what_a_bad_disk_has_spoilt_is_tried_again(store: Store, trials: Trials) -> None:
    narrow_here(store)
    (store.home / "machines" / keys.machine_key() / machine.NARROW).write_text("{", encoding="utf-8")
    assert machine.narrow(store) is None
    assert narrow_here(store) == {"lstm"}
    assert machine.narrow(store) == {"lstm"}


def test_a_disk_that_is_full_stops_nobody(monkeypatch: pytest.MonkeyPatch, store: Store, trials: Trials) -> None:
    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_json", full)
    assert narrow_here(store) == {"encoder"}
    assert machine.narrow(store) is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["teacher.kind=pretrained"], Compute(CPU, "bfloat16", frozenset({"encoder"}))),
        (["teacher.kind=pretrained", "training.precision=float32"], Compute(CPU, "float32")),
        (["teacher.kind=pretrained", "training.precision=bfloat16"], Compute(CPU, "bfloat16", {"encoder", "other"})),
        (["teacher.size=M", "student.size=XL"], Compute(CPU, "float32")),
    ],
)
@pytest.mark.usefixtures("trials")
def test_a_run_computes_as_its_own_models_do(store: Store, settings: list[str], expected: Compute) -> None:
    assert compute_for(load(settings=settings), store) == expected


def test_a_machine_without_instructions_for_it_is_never_tried(
    monkeypatch: pytest.MonkeyPatch, store: Store, trials: Trials
) -> None:
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(computing.device.torch.cpu, name, lambda: False)
    assert compute_for(load(settings=["teacher.kind=pretrained"]), store) == Compute(CPU, "float32")
    assert len(trials.left) == 2
    assert machine.narrow(store) is None
