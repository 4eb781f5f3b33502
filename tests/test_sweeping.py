"""Sweeps from the command line: carried out, listed, shown, exported, forgotten."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest

from distill_core.__main__ import main
from distill_core.errors import RunError
from distill_core.store import Store
from distill_core.sweep import sweeper
from distill_core.sweep.record import Sweeps
from distill_core.sweep.space import parse_axis, parse_sweep
from tests.runs import config_of, made_rows, write_csv


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str]:
    """A home folder in which a sweep of two cells has been carried out."""
    folder = tmp_path_factory.mktemp("swept")
    file = write_csv(folder / "reviews.csv", made_rows(64))
    settings = folder / "settings.json"
    settings.write_text(config_of(file, "training.epochs=1", "teacher.epochs=1").to_json(), encoding="utf-8")
    store = Store(folder / "home")
    given = ["--axes", "objective.beta=0,2", "--seeds", "1", "--config", str(settings), "--home", str(store.home)]
    assert main(["sweep", *given]) == 0
    (sweep_id,) = Sweeps(store).ids()
    return store, sweep_id


def called(capsys: pytest.CaptureFixture[str], store: Store, *arguments: str) -> tuple[int, list[str], str]:
    status = main([*arguments, "--home", str(store.home)])
    said = capsys.readouterr()
    return status, said.out.splitlines(), said.err


def test_a_sweep_is_listed_with_its_cells(swept: tuple[Store, str], capsys: pytest.CaptureFixture[str]) -> None:
    store, sweep_id = swept
    status, lines, _ = called(capsys, store, "sweeps")
    assert (status, lines) == (0, [f"{sweep_id}  finished    2 of 2 cells  objective.beta=0,2"])
    _, lines, _ = called(capsys, store, "sweeps", "--json")
    (row,) = json.loads(lines[-1])
    assert (row["sweep_id"], row["planned"], row["done"]) == (sweep_id, 2, 2)


def test_its_table_is_shown_and_exported_alike(
    swept: tuple[Store, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, sweep_id = swept
    csv, parquet = tmp_path / "cells.csv", tmp_path / "cells.parquet"
    asked = ("sweep-result", sweep_id[-6:], "--json", "--csv", str(csv), "--parquet", str(parquet))
    status, lines, _ = called(capsys, store, *asked)
    cells: list[dict[str, Any]] = json.loads(lines[-1])["cells"]
    assert status == 0
    assert [cell["objective.beta"] for cell in cells] == [0, 2]
    for frame in (pd.read_csv(csv), pd.read_parquet(parquet)):
        assert frame["test_accuracy"].tolist() == pytest.approx([cell["test_accuracy"] for cell in cells])
    _, lines, _ = called(capsys, store, "sweep-result", sweep_id)
    assert re.match(r"\s+[01]  beta [02]: test \d+\.\d%, gain [+-]\d+\.\d", lines[0])


def test_what_ended_a_sweep_is_told(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    sweeps = Sweeps(store)
    sweep_id = sweeps.create(parse_sweep({"axes": [parse_axis("objective.beta=0,2")]}))
    sweeps.update(sweep_id, status="failed", error="the disk is gone")
    status, lines, _ = called(capsys, store, "sweep-result", sweep_id)
    assert (status, lines) == (0, ["It failed: the disk is gone"])


def test_a_sweep_is_deleted_with_its_runs_or_without(
    swept: tuple[Store, str], capsys: pytest.CaptureFixture[str]
) -> None:
    store, sweep_id = swept
    database = f"sqlite:///{store.home / 'sweeps.db'}"
    assert [name.startswith(sweep_id) for name in optuna.get_all_study_names(database)] == [True]
    runs = store.run_ids()
    other = Sweeps(store).create(Sweeps(store).config(sweep_id))
    with pytest.raises(RunError, match="must be at rest to be deleted"):
        sweeper.delete(store, other)
    Sweeps(store).update(other, status="paused")
    for cell in Sweeps(store).cells(sweep_id):
        Sweeps(store).append(other, cell)
    status, lines, _ = called(capsys, store, "sweep-delete", other)
    assert (status, lines) == (0, [f"sweep {other} is deleted; its runs stay"])
    assert (Sweeps(store).ids(), store.run_ids()) == ([sweep_id], runs)
    status, lines, _ = called(capsys, store, "sweep-delete", sweep_id, "--runs")
    assert (status, lines) == (0, [f"sweep {sweep_id} is deleted and its runs are in the trash"])
    assert (Sweeps(store).ids(), store.run_ids()) == ([], [])
    assert optuna.get_all_study_names(database) == []
    assert {path.name for path in (store.home / "trash").iterdir()} == set(runs)
