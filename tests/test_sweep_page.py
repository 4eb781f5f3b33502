"""The page Sweep: the sidebar becomes a sweep, sweeps are shown as they stand, and cells lead to their runs."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from distill_core.errors import RunError
from distill_core.executor import executor_of
from distill_core.presets import load
from distill_core.store import Store
from distill_core.sweep import sweeper
from distill_core.sweep.cells import Cell
from distill_core.sweep.questions import QUESTIONS
from distill_core.sweep.record import Sweeps
from distill_core.sweep.space import Axis, SweepConfig, cell_config, grid
from distill_core.worker import work
from pages import _identity, _sweep_cells, _sweep_charts, _sweep_figures, _sweep_reading, _sweep_view
from tests.made_cells import finished, sweep_of
from tests.test_sweep_figures import BETA, SIZE, TEMPERATURE, filled, measured

ROOT = Path(__file__).parents[1]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An empty home folder, whose executor is closed in the end."""
    monkeypatch.setenv("DISTILL_HOME", str(tmp_path))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(_identity, "is_local", lambda: True)  # AppTest tells no address
    st.cache_resource.clear()
    store = Store(tmp_path)
    yield store
    executor_of(store).close()


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What the page asks of the sweeper, which starts no driver."""
    asked: list[tuple[str, Any]] = []

    def submit(store: Store, config: SweepConfig, owner: str | None) -> str:
        asked.append(("submit", config))
        return Sweeps(store).create(config, owner, 60.0)

    monkeypatch.setattr(sweeper, "submit", submit)
    monkeypatch.setattr(sweeper, "extend", lambda store, sweep_id, config: asked.append(("extend", config)))
    for name in ("pause", "resume", "cancel"):
        monkeypatch.setattr(sweeper, name, lambda store, sweep_id, name=name: asked.append((name, sweep_id)))
    return asked


def opened(**state: Any) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app.run()
    app.session_state["page"] = "sweep"
    for name, value in state.items():
        app.session_state[name] = value
    return well(app.switch_page("pages/sweep.py").run())


def well(app: AppTest) -> AppTest:
    assert not app.exception, app.exception
    return app


def text_of(app: AppTest) -> str:
    parts = [item.value for kind in (app.markdown, app.caption, app.error, app.warning) for item in kind]
    return "\n".join([*parts, *(str(item.proto.body) for item in app.get("html"))])


def made(store: Store, config: SweepConfig, cells: list[Cell], state: str = "finished", **status: Any) -> str:
    sweeps = Sweeps(store)
    sweep_id = sweeps.create(config, None, 60.0)
    for cell in cells:
        sweeps.append(sweep_id, cell)
    sweeps.update(sweep_id, status=state, **status)
    return sweep_id


# The sidebar


def test_the_first_sweep_asks_a_ready_question(home: Store, begun: list[tuple[str, Any]]) -> None:
    app = opened()
    assert "20 cells × 3 seeds" in text_of(app)
    well(app.button(key="sweep.first").click().run())
    assert begun == [("submit", QUESTIONS["how-much-beta"].config)]
    assert "Starting" in text_of(app) or "0 of 20 cells" in str(app.get("progress")[0].proto)


def test_what_the_sidebar_shows_survives_a_refresh(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pages._session.owner", lambda: "o" * 32)
    app = opened()
    app.number_input(key="sweep.seeds").set_value(2)
    well(app.multiselect(key="sweep.values.objective.beta").set_value(["0", "3"]).run())
    assert "8 cells × 2 seeds" in text_of(app)
    assert "8 cells × 2 seeds" in text_of(opened())


@pytest.mark.parametrize("kept", ["nonsense", {"axes": []}, {"axes": [{"field": "objective.beta", "values": "x"}]}])
def test_what_cannot_be_shown_again_is_forgotten(home: Store, monkeypatch: pytest.MonkeyPatch, kept: object) -> None:
    monkeypatch.setattr("pages._session.owner", lambda: "o" * 32)
    home.write_draft("o" * 32, {"settings": {}, "run": None, "sweep": kept})
    assert "20 cells × 3 seeds" in text_of(opened())


@pytest.mark.parametrize("question", sorted(QUESTIONS))
def test_each_question_is_started_as_it_is_meant(home: Store, begun: list[tuple[str, Any]], question: str) -> None:
    app = opened()
    well(app.selectbox(key="sweep.question").set_value(question).run())
    well(app.button(key="sweep.start").click().run())
    assert begun == [("submit", QUESTIONS[question].config)]


def test_axes_of_ones_own_vary_what_is_drafted_on_train(home: Store, begun: list[tuple[str, Any]]) -> None:
    app = opened(draft={"training.epochs": 3})
    well(app.selectbox(key="sweep.question").set_value("own").run())
    well(app.multiselect(key="sweep.axes").set_value([BETA, SIZE]).run())
    well(app.multiselect(key=f"sweep.values.{BETA}").set_value(["0", "3"]).run())
    well(app.multiselect(key=f"sweep.values.{SIZE}").set_value(["S"]).run())
    well(app.number_input(key="sweep.seeds").set_value(2).run())
    assert "2 cells × 2 seeds" in text_of(app)
    well(app.button(key="sweep.start").click().run())
    ((_, config),) = begun
    assert (config.question, config.seeds, config.base.training.epochs) == (None, 2, 3)
    assert [(axis.field, axis.values) for axis in config.axes] == [(BETA, (0, 3)), (SIZE, ("S",))]


def test_cells_can_be_chosen_between_the_listed_numbers(home: Store, begun: list[tuple[str, Any]]) -> None:
    app = opened()
    well(app.selectbox(key="sweep.sampler").set_value("tpe").run())
    well(app.toggle(key="sweep.between").set_value(True).run())
    well(app.number_input(key="sweep.cells").set_value(7).run())
    well(app.button(key="sweep.start").click().run())
    ((_, config),) = begun
    assert (config.sampler, config.cells) == ("tpe", 7)
    assert [(axis.low, axis.high) for axis in config.axes] == [(0, 5), (1, 8)]


def test_what_cannot_be_tried_is_said_beside_the_axes(home: Store) -> None:
    app = opened()
    well(app.multiselect(key=f"sweep.values.{BETA}").set_value([]).run())
    assert "must have values" in app.error[0].value
    assert app.button(key="sweep.start").disabled


def test_a_far_browser_cannot_name_a_cluster(
    home: Store, begun: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_identity, "is_local", lambda: False)
    app = opened()
    assert app.selectbox(key="sweep.executor").disabled
    app.session_state["sweep.executor"], app.session_state["sweep.address"] = "ray", "10.0.0.1:6379"
    well(app.button(key="sweep.start").click().run())
    ((_, config),) = begun
    assert (config.executor, config.address) == ("local", None)


# A sweep


def test_a_sweep_at_rest_can_be_deleted(home: Store) -> None:
    config = QUESTIONS["how-much-beta"].config
    kept, gone = (made(home, config, filled(config, lambda _: measured(0.75, 0.76))) for _ in range(2))
    app = opened(sweep=gone)
    well(app.button(key="sweep.delete").click().run())
    assert Sweeps(home).ids() == [kept]
    assert f"sweep {kept[-6:]}" in text_of(app)


def test_a_paused_sweep_can_go_on_grow_and_end(home: Store, begun: list[tuple[str, Any]]) -> None:
    config = QUESTIONS["how-much-beta"].config
    sweep_id = made(home, config, filled(config, lambda _: measured(0.75, 0.76))[:7], "paused")
    app = opened()
    assert "Paused · 7 of 20 cells" in str(app.get("progress")[0].proto)
    assert "7 of 20 cells finished" in text_of(app)
    well(app.button(key="sweep.resume").click().run())
    well(app.button(key="sweep.cancel").click().run())
    assert begun == [("resume", sweep_id), ("cancel", sweep_id)]
    well(app.multiselect(key=f"sweep.values.{BETA}").set_value(["0", "0.5", "1", "2", "5", "10"]).run())
    well(app.button(key="sweep.extend").click().run())
    assert begun[-1][1] == config.model_copy(
        update={"axes": (Axis(field=BETA, values=(0, 0.5, 1, 2, 5, 10)), config.axes[1])}
    )


def test_a_sweep_at_work_can_be_paused_but_not_grow(home: Store, begun: list[tuple[str, Any]]) -> None:
    config = sweep_of(objective__beta=(0, 1))
    sweep_id = made(home, config, [], "running", started=time.time())
    with Sweeps(home).claim(sweep_id):
        app = opened()
        assert app.button(key="sweep.extend").disabled
        well(app.button(key="sweep.pause").click().run())
    assert begun == [("pause", sweep_id)]


def test_a_sweep_of_others_can_be_watched_alone(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    config = sweep_of(objective__beta=(0, 1))
    made(home, config, filled(config, lambda _: measured(0.75, 0.76)))
    monkeypatch.setattr(_identity, "may_manage", lambda status: False)
    app = opened()
    assert "Started in another browser" in text_of(app)
    assert not {"sweep.extend", "sweep.cancel"} & {button.key for button in app.button}


def test_failed_cells_are_told_with_their_error(home: Store) -> None:
    config = sweep_of(objective__beta=(0, 1))
    values = grid(config)
    failed = Cell(1, values[1], "failed", error="training.learning_rate must be lower, got 1; try 0.005")
    made(home, config, [finished(0, values[0], measured(0.7, 0.71)), failed])
    assert any("β 1: “Student learning rate” must be lower" in error.value for error in opened().error)


def test_the_address_names_the_sweep(home: Store) -> None:
    config = sweep_of(objective__beta=(0, 1))
    first = made(home, config, [])
    made(home, QUESTIONS["how-small"].config, [])
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app.query_params["sweep"] = first[-6:]
    well(app.run())
    assert app.session_state["sweep"] == first
    app.session_state["page"] = "sweep"
    well(app.switch_page("pages/sweep.py").run())
    assert app.selectbox(key=f"sweep.shown.{first}").value == first
    assert app.query_params["sweep"] == first


def test_settings_of_a_chosen_cell_go_to_train(home: Store) -> None:
    config = sweep_of(objective__beta=(0, 3), objective__temperature=(1, 4))
    sweep_id = made(home, config, filled(config, lambda _: measured(0.75, 0.76)))
    app = opened(**{"sweep.chosen": {sweep_id: [3]}})
    assert "75.5\u00a0% ± 0.7 of the test texts right · +5.0 ± 2.0 points by its teacher" in text_of(app)
    well(app.button(key="sweep.use").click().run())
    wanted = cell_config(config, {BETA: 3, TEMPERATURE: 4})
    draft = app.session_state["draft"]
    assert (draft["objective.beta"], draft["objective.temperature"], draft["training.seeds"]) == (
        wanted.objective.beta,
        wanted.objective.temperature,
        3,
    )


def test_a_run_that_is_gone_is_not_opened(home: Store) -> None:
    config = sweep_of(objective__beta=(0, 3))
    sweep_id = made(home, config, filled(config, lambda _: measured(0.75, 0.76)))
    app = well(opened(**{"sweep.chosen": {sweep_id: [0]}}).button(key="sweep.open").click().run())
    assert "run-0" in app.error[0].value


# Parts


def test_sweeps_of_one_name_are_told_apart(home: Store) -> None:
    """Streamlit knows an option by its words alone."""
    ids = [made(home, sweep_of(objective__beta=(0, 1)), []) for _ in range(2)]
    names = _sweep_reading.names(home)
    assert set(names) == set(ids)
    assert len(set(names.values())) == 2
    assert all(name.startswith("β · ") for name in names.values())


def test_a_sweep_is_extended_by_what_the_sidebar_has_more() -> None:
    config = sweep_of(objective__beta=(0, 2), student__size=("S",))
    drafted = sweep_of(objective__beta=(1, 2), student__size=("S", "M"))
    assert [axis.values for axis in _sweep_view.extended(config, drafted).axes] == [(0, 1, 2), ("S", "M")]
    with pytest.raises(RunError, match="got no more"):
        _sweep_view.extended(config, config)
    with pytest.raises(RunError, match=r"axes must be objective\.beta, student\.size"):
        _sweep_view.extended(config, sweep_of(objective__beta=(0, 2)))
    sampled = SweepConfig(axes=(Axis(field=BETA, low=0, high=2),), sampler="random", cells=5)
    assert _sweep_view.extended(sampled, replace_cells(sampled, 9)).cells == 9


def replace_cells(config: SweepConfig, cells: int) -> SweepConfig:
    return config.model_copy(update={"cells": cells})


@pytest.mark.parametrize(
    ("axes", "kind"),
    [
        ({"objective__beta": (0, 1), "objective__temperature": (1, 2)}, "map"),
        ({"objective__beta": (0, 1)}, "lines"),
        ({"student__size": ("S", "M"), "student__kind": ("lstm", "bag")}, "lines"),
    ],
)
def test_the_chart_that_opens_suits_the_axes(axes: dict[str, Any], kind: str) -> None:
    assert _sweep_charts.suited(sweep_of(**axes)) == kind


def test_exports_have_a_line_for_each_cell_with_all_that_was_measured() -> None:
    config = sweep_of(objective__beta=(0, 0.5), student__size=("S", "M"))
    cells = [*filled(config, lambda _: measured(0.75, 0.76))[:3], Cell(3, grid(config)[3], "running")]
    parquet = pd.read_parquet(io.BytesIO(_sweep_cells.as_parquet(cells)))
    csv = pd.read_csv(io.BytesIO(_sweep_cells.as_csv(cells)))
    for table in (parquet, csv):
        assert list(table[BETA]) == [0, 0, 0.5, 0.5]
        assert list(table["state"]) == ["finished"] * 3 + ["running"]
        assert table["test_accuracy"][0] == pytest.approx(0.755)
        assert list(table["test_accuracy"].isna()) == [False] * 3 + [True]


def test_what_was_made_of_cells_is_made_again_only_for_others(home: Store) -> None:
    config = sweep_of(objective__beta=(0, 1))
    cells = filled(config, lambda _: measured(0.75, 0.76))
    sweep_id = made(home, config, cells[:1])
    first = _sweep_reading.view(home, sweep_id)
    assert _sweep_reading.made(home, first, "count", lambda: len(first.cells)) == 1
    assert _sweep_reading.made(home, _sweep_reading.view(home, sweep_id), "count", lambda: 99) == 1
    Sweeps(home).append(sweep_id, cells[1])
    second = _sweep_reading.view(home, sweep_id)
    assert second.version != first.version
    assert _sweep_reading.made(home, second, "count", lambda: len(second.cells)) == 2
    Sweeps(home).append(sweep_id, replace(cells[1], state="failed"))
    assert _sweep_reading.view(home, sweep_id).cells[1].state == "failed"


def test_two_thousand_cells_are_read_and_drawn_in_little_time(home: Store) -> None:
    values = {"objective__beta": tuple(range(20)), "objective__temperature": tuple(range(1, 101))}
    config = sweep_of(**values)
    sweep_id = made(home, config, filled(config, lambda _: measured(0.75, 0.76)))
    began = time.process_time()  # other tests work beside this one
    seen = _sweep_reading.view(home, sweep_id)
    _sweep_figures.heat_map(seen.config, seen.cells, BETA, TEMPERATURE)
    _sweep_cells.frame(seen)
    assert len(seen.cells) == 2000
    assert time.process_time() - began < 1.5
    began = time.process_time()
    _sweep_reading.view(home, sweep_id)
    assert time.process_time() - began < 0.05


def test_a_run_of_a_sweep_points_to_it(home: Store) -> None:
    config = QUESTIONS["how-much-beta"].config
    sweep_id = made(home, config, [])
    run_id = home.create_run(load("tiny"), state="running", sweep=sweep_id)
    work(run_id, home)
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app.query_params["run"] = run_id
    well(app.run())
    assert "best may be lucky" in text_of(app)
    well(app.button(key="train.sweep").click().run())
    assert app.session_state["sweep"] == sweep_id
    Sweeps(home).delete(sweep_id)
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app.query_params["run"] = run_id
    assert "best may be lucky" not in text_of(well(app.run()))
