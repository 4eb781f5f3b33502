"""Each page in each state, without a browser: Streamlit's AppTest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from distill_core import config as configuration
from distill_core.config import StudentConfig
from distill_core.data.profile import Profile
from distill_core.events import RunFailed
from distill_core.executor import executor_of
from distill_core.models.sizes import parameter_count
from distill_core.store import Store
from distill_core.worker import work

ROOT = Path(__file__).parents[1]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An empty home folder, whose executor is closed in the end."""
    monkeypatch.setenv("DISTILL_HOME", str(tmp_path))
    monkeypatch.chdir(ROOT)
    st.cache_resource.clear()
    store = Store(tmp_path)
    yield store
    executor = executor_of(store)
    for run_id in store.run_ids():
        executor.cancel(run_id)
    executor.close()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A home folder in which one run has finished."""
    store = Store(tmp_path_factory.mktemp("trained"))
    work(store.create_run(configuration.load("tiny"), state="running"), store)
    return store


@pytest.fixture
def trained_home(trained: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("DISTILL_HOME", str(trained.home))
    monkeypatch.chdir(ROOT)
    st.cache_resource.clear()
    yield trained
    executor_of(trained)  # stays for the next test; closed with the process


def open_page(name: str = "train") -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app.run()
    if name != "train":
        app.switch_page(f"pages/{name}.py").run()
    assert not app.exception, app.exception
    return app


def button(app: AppTest, label: str) -> Any:
    return next(item for item in app.button if item.label == label)


def text_of(app: AppTest) -> str:
    """All markdown, HTML and captions of the page."""
    parts = [item.value for kind in (app.markdown, app.caption) for item in kind]
    return "\n".join([*parts, *(str(item.proto.body) for item in app.get("html"))])


def test_each_page_without_runs_says_what_to_do_and_offers_it(home: Store) -> None:
    assert button(open_page(), "Start the first run")
    assert button(open_page("compare"), "Teach one")
    assert button(open_page("runs"), "Start the first one")


def test_train_shows_parameters_and_time_for_the_chosen_sizes(home: Store) -> None:
    app = open_page()
    before = text_of(app)
    assert "parameters" in before
    assert "about" in before
    app.session_state["train.student.size"] = "XL"
    app.run()
    assert not app.exception
    profile = Profile.read(next((home.home / "tokens").iterdir()))
    expected = parameter_count(StudentConfig(size="XL"), profile.vocabulary, len(profile.labels))
    assert f"{expected / 1e6:.2f} M parameters" in text_of(app)
    assert text_of(app) != before


def test_every_control_of_train_is_explained(home: Store) -> None:
    app = open_page()
    controls = [*app.sidebar.slider, *app.sidebar.selectbox, *app.sidebar.number_input, *app.sidebar.toggle]
    assert len(controls) >= 12
    assert [control.label for control in controls if not control.help] == []


def test_start_submits_exactly_what_the_controls_show(home: Store) -> None:
    app = open_page()
    app.session_state["train.teacher.size"] = "XS"
    app.sidebar.slider(key="train.objective.beta").set_value(3.5)
    app.sidebar.slider(key="train.training.epochs").set_value(2)
    app.sidebar.toggle(key="train.training.baseline").set_value(False)
    app.run()
    button(app, "Start").click().run()
    assert not app.exception
    (run_id,) = home.run_ids()
    config = home.config(run_id)
    assert config.teacher.size == "XS"
    assert config.objective.beta == 3.5
    assert config.training.epochs == 2
    assert config.training.baseline is False
    assert button(app, "Cancel")


def test_a_preset_fills_the_controls(home: Store) -> None:
    app = open_page()
    app.sidebar.selectbox(key="train.preset").set_value("article").run()
    assert not app.exception
    assert app.sidebar.slider(key="train.objective.temperature").value == 1.0
    assert app.sidebar.selectbox(key="train.objective.divergence").value == "kl_student_teacher"


def test_settings_survive_a_page_switch(home: Store) -> None:
    app = open_page()
    app.sidebar.slider(key="train.objective.beta").set_value(7.0).run()
    app.switch_page("pages/runs.py").run()
    app.switch_page("pages/train.py").run()
    assert app.sidebar.slider(key="train.objective.beta").value == 7.0


def test_finished_run_shows_verdict_and_charts(trained_home: Store) -> None:
    app = open_page()
    assert "student" in text_of(app)
    assert "lab-verdict" in text_of(app)
    charts = app.get("plotly_chart")
    assert len(charts) == 2
    names = {trace["name"] for chart in charts for trace in json.loads(chart.proto.spec)["data"]}
    assert {"CE", "total", "student", "student alone", "teacher"} <= names
    assert any("KL" in name for name in names)


def test_compare_answers_with_the_numbers_of_the_command_line(trained_home: Store) -> None:
    from distill_core.analysis.predict import Predictor

    text = "a wonderful and moving film"
    app = open_page("compare")
    app.text_area(key="compare.text").set_value(text).run()
    assert not app.exception
    (run_id,) = trained_home.run_ids()
    expected = Predictor.load(trained_home, run_id).predict([text])[0]
    shown = text_of(app)
    for role in ("teacher", "student"):
        best = max(expected[role], key=expected[role].__getitem__)
        assert f"{best} {100 * expected[role][best]:.1f} %" in shown
    assert f"KL {expected['kl']:.3f} nats" in shown
    assert "MB" in shown
    assert "ms a text" in shown
    bars = [json.loads(chart.proto.spec)["data"][0] for chart in app.get("plotly_chart")]
    assert bars[0]["y"] == bars[1]["y"]


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_compare_asks_for_a_text_when_there_is_none(trained_home: Store, text: str) -> None:
    app = open_page("compare")
    app.text_area(key="compare.text").set_value(text).run()
    assert not app.exception
    assert "Type a text" in app.info[0].value


@pytest.mark.parametrize("text", ["zzxq wqqz", "非常好看", "🎬", "<b>film</b>", "film " * 20_000, "\x00\u202e\u0301"])
def test_compare_answers_any_text(trained_home: Store, text: str) -> None:
    app = open_page("compare")
    app.text_area(key="compare.text").set_value(text).run()
    assert not app.exception
    assert "lab-answer" in text_of(app)


def test_runs_lists_every_run_with_its_state(home: Store) -> None:
    failed = home.create_run(configuration.load("tiny"), state="running")
    home.end_run(failed, RunFailed("the disk is full"))
    app = open_page("runs")
    table = app.dataframe[0].value
    assert table["Status"].tolist() == ["Failed"]
    assert table["Sizes"].tolist() == ["XS → XS"]


def test_failed_run_shows_its_error_on_train(home: Store) -> None:
    failed = home.create_run(configuration.load("tiny"), state="running")
    home.end_run(failed, RunFailed("the disk is full"))
    app = open_page()
    assert "the disk is full" in app.error[0].value


def test_an_address_that_names_no_run_is_answered(home: Store) -> None:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app.query_params["run"] = "nonsense"
    app.run()
    assert not app.exception
    assert "nonsense" in app.warning[0].value
