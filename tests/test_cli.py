"""The command line, run as people run it: in a process of its own, or for a second run within this one."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from distill_core import __main__ as command_line
from distill_core import machine, worker
from distill_core.__main__ import main
from distill_core.data import sources
from distill_core.data.sources import HUB, SOURCES
from distill_core.events import StageStarted, Step, stages_of
from distill_core.presets import PRESETS
from distill_core.store import Store
from tests.runs import made_rows, write_csv

ROLES = ("teacher", "baseline", "student")
LISTED = [*SOURCES, "hf:NAME"]
TINY = stages_of(PRESETS["tiny"].config)
FASTER = ("training.epochs=1", "teacher.epochs=1", "teacher.encoder_max_tokens=16", "data.train_limit=40")


def core(home: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "distill_core", *arguments, "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)


def within(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The same without a new process, whose imports take longer than a small run."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([*arguments, "--home", str(home)])
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def on_file(file: Path, *settings: str) -> list[str]:
    """Arguments that set a file and further settings."""
    given = ("data.name=csv", f"data.path={file}", "data.min_frequency=1", *settings)
    return [word for setting in given for word in ("--set", setting)]


def timeless(result: dict[str, Any]) -> dict[str, Any]:
    """What the models are worth, without how fast they are."""
    return {role: {name: value for name, value in result[role].items() if name != "latency_ms"} for role in ROLES}


def last_json(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli") / "home"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 made-up reviews and 12 without a label."""
    unlabelled = [{**row, "label": ""} for row in made_rows(30, seed=9)[:12]]
    return write_csv(tmp_path_factory.mktemp("files") / "reviews.csv", [*made_rows(60), *unlabelled])


@pytest.fixture(scope="module")
def first(home: Path) -> dict[str, Any]:
    result: dict[str, Any] = last_json(core(home, "run", "--preset", "tiny", "--json"))
    return result


def test_run_reports_what_the_contract_promises(first: dict[str, Any]) -> None:
    assert {"run_id", "device", "precision", "dataset", "seed", "sizes", "retention", "gain"} <= first.keys()
    assert first["status"] == "finished"
    assert first["sizes"] == {"train": 400, "val": 1288, "test": 1245, "classes": 2}
    of_all = {"architecture", "parameters", "bytes", "latency_ms", "val_accuracy", "test_accuracy", "macro_f1", "ece"}
    assert of_all | {"nll"} <= first["teacher"].keys()
    for role in ("student", "baseline"):
        assert of_all | {"nll", "agreement", "kl"} <= first[role].keys()
    assert set(first["seconds"]) == set(TINY)
    assert first["retention"] == first["student"]["test_accuracy"] / first["teacher"]["test_accuracy"]
    assert first["gain"] == first["student"]["test_accuracy"] - first["baseline"]["test_accuracy"]


def test_run_leaves_the_folders_of_the_contract(home: Path, first: dict[str, Any]) -> None:
    folder = home / "runs" / first["run_id"]
    names = {file.name for file in folder.iterdir()}
    weights = {f"{role}.safetensors" for role in ("teacher", "student", "baseline")}
    assert weights | {"config.json", "status.json", "events.jsonl", "result.json", "vocabulary.json"} <= names
    assert json.loads((folder / "result.json").read_text()) == first
    assert all(
        first[role]["bytes"] == (folder / f"{role}.safetensors").stat().st_size for role in ("teacher", "student")
    )


def test_events_name_every_stage_and_come_at_most_ten_a_second(home: Path, first: dict[str, Any]) -> None:
    events, _ = Store(home).read_events(first["run_id"])
    assert [event.stage for _, event in events if isinstance(event, StageStarted)] == ["read", *TINY]
    times = [when for when, event in events if isinstance(event, Step)]
    assert times
    assert all(sum(start <= when < start + 1 for when in times) <= 11 for start in times)


def test_second_run_takes_teacher_from_the_cache_and_repeats_the_numbers(home: Path, first: dict[str, Any]) -> None:
    second = last_json(within(home, "run", "--preset", "tiny", "--json"))
    assert set(second["seconds"]) == {"distil", "test"}
    assert timeless(second) == timeless(first)


def test_same_seed_in_another_home_gives_the_same_result(tmp_path: Path, first: dict[str, Any]) -> None:
    assert timeless(last_json(core(tmp_path, "run", "--preset", "tiny", "--json"))) == timeless(first)


def test_another_seed_gives_another_student(home: Path, file: Path) -> None:
    one, other = (
        last_json(within(home, "run", "--preset", "tiny", *on_file(file, f"training.seed={seed}"), "--json"))
        for seed in (0, 7)
    )
    assert one["student"]["nll"] != other["student"]["nll"]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_runs(home: Path, file: Path, preset: str) -> None:
    settings = on_file(file, *FASTER)
    result = last_json(within(home, "run", "--preset", preset, *settings, "--json"))
    assert result["status"] == "finished"
    config = Store(home).config(result["run_id"])
    given = PRESETS[preset].config
    assert (config.student, config.objective) == (given.student, given.objective)
    assert (config.teacher.kind, config.training.augment) == (given.teacher.kind, given.training.augment)


def test_stages_can_be_left_out(home: Path, file: Path) -> None:
    settings = on_file(file, "teacher.pretrain=false", "training.baseline=false")
    result = last_json(within(home, "run", "--preset", "tiny", *settings, "--json"))
    assert result["baseline"] is None
    assert result["gain"] is None
    assert not {"pretrain", "baseline"} & result["seconds"].keys()


def test_config_file_is_overlaid_and_settings_win(home: Path, file: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps({"objective": {"beta": 3, "temperature": 5}, "training": {"epochs": 1}}))
    settings = on_file(file, "objective.beta=4")
    done = within(home, "run", "--preset", "tiny", "--config", str(mine), *settings, "--json")
    config = Store(home).config(last_json(done)["run_id"])
    assert (config.objective.beta, config.objective.temperature, config.training.epochs) == (4, 5, 1)


# Seeds


def test_seeds_repeat_baseline_and_student(home: Path, file: Path) -> None:
    done = within(home, "run", "--preset", "tiny", "--seeds", "3", *on_file(file), "--json")
    result = last_json(done)
    assert Store(home).config(result["run_id"]).training.seeds == 3
    assert {len(result["seeds"][role]["values"]) for role in ("student", "baseline")} == {3}
    assert "repeat: " in done.stderr
    text = within(home, "run", "--preset", "tiny", "--seeds", "3", *on_file(file)).stdout
    assert "on the average of 3 seeds" in text
    accuracies = {line.split()[0]: line[10:].lstrip() for line in text.splitlines()[1:4]}
    assert "±" not in accuracies["teacher"]
    for role in ("student", "baseline"):
        assert accuracies[role].startswith(mean_and_deviation(result["seeds"][role]) + " ")
    (listed,) = (line for line in within(home, "runs").stdout.splitlines() if line.startswith(result["run_id"]))
    assert listed.endswith(f"student {mean_and_deviation(result['seeds']['student'])} over 3 seeds")


def mean_and_deviation(spread: dict[str, Any]) -> str:
    return f"{spread['mean']:.1%} ±{100 * spread['std']:.1f}"


def test_runs_of_several_seeds_are_listed_with_the_mean_not_the_first_seeds_accuracy(tmp_path: Path) -> None:
    store = Store(tmp_path)
    spread = {"values": [0.5, 0.9], "mean": 0.7, "std": 0.25}
    result = {"student": {"test_accuracy": 0.5}, "retention": 1.0, "gain": None}
    for seeds in ({"count": 2, "student": spread, "baseline": None}, None):
        store.write_result(store.create_run(PRESETS["tiny"].config), {**result, "seeds": seeds})
    rows = last_json(within(tmp_path, "runs", "--json"))
    facts = [(row["test_accuracy"], row["test_accuracy_std"], row["seeds"]) for row in rows]
    assert sorted(facts, key=str) == [(0.5, None, 1), (0.7, 0.25, 2)]
    text = within(tmp_path, "runs").stdout
    assert "student 70.0% ±25.0 over 2 seeds\n" in text
    assert "student 50.0%\n" in text


def test_seeds_are_the_last_word_on_the_setting_of_the_same_name(home: Path, file: Path) -> None:
    settings = on_file(file, "training.seeds=4")
    result = last_json(within(home, "run", "--preset", "tiny", "--seeds", "2", *settings, "--json"))
    assert result["seeds"]["count"] == 2


@pytest.mark.parametrize("seeds", ["0", "-1", "51", "many", "2.5"])
def test_seeds_that_cannot_be_are_refused_with_value_and_remedy(tmp_path: Path, seeds: str) -> None:
    done = within(tmp_path, "run", "--seeds", seeds)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    for words in ("training.seeds", seeds, "try 3 to 5"):
        assert words in line
    assert not (tmp_path / "runs").exists()


# Looking at the data


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 made-up reviews, 3 of them twice, and 2 rows without a text."""
    rows = made_rows(60)
    empty = [{"text": " ", "label": "bad"}] * 2
    return write_csv(tmp_path_factory.mktemp("spoilt") / "reviews.csv", [*rows, *rows[:3], *empty])


LEFT_OUT = "Left out: 5 of 65 rows (2 empty text, 3 duplicate text)"


def test_data_tells_what_the_data_page_shows(tmp_path: Path, spoilt: Path) -> None:
    done = within(tmp_path, "data", *on_file(spoilt))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "Your own file (csv)"
    assert lines[2].startswith("2 classes, a vocabulary of ")
    sizes = {line[:20].strip(): line[20:].split() for line in lines[4:10]}
    assert sizes[""] == ["train", "val", "test", "unlabelled"]
    assert sizes["texts"] == ["48", "6", "6", "0"]
    assert sizes["bad"] == sizes["good"] == ["24", "3", "3"]
    assert LEFT_OUT in lines
    assert "The texts are in column 'text', the labels in column 'label'." in lines
    bars = lines[lines.index("Training texts by their number of tokens:") + 1 :]
    assert sum(int(line.split("#")[0].split()[-1]) for line in bars[: bars.index("")]) == 48
    assert lines[-5] == "Examples of training texts:"
    assert [line.split(":")[0].strip() for line in lines[-4:]] == ["bad", "bad", "good", "good"]
    assert done.stderr.startswith("Reading reviews.csv: 0%\n")


def test_data_gives_the_profile_as_json_and_reads_it_once(tmp_path: Path, spoilt: Path) -> None:
    first = within(tmp_path, "data", "--preset", "tiny", *on_file(spoilt, "data.train_limit=20"), "--json")
    (folder,) = (tmp_path / "tokens").iterdir()
    assert last_json(first) == json.loads((folder / "profile.json").read_text(encoding="utf-8"))
    assert last_json(first)["texts"]["train"] == 20
    again = within(tmp_path, "data", "--preset", "tiny", *on_file(spoilt, "data.train_limit=20"), "--json")
    assert last_json(again) == last_json(first)
    assert again.stderr == ""


def test_data_that_cannot_be_read_is_a_mistake(tmp_path: Path) -> None:
    done = within(tmp_path, "data", *on_file(tmp_path / "missing.csv"))
    assert done.returncode == 2
    assert "data.path must be a file that exists" in done.stderr


def test_reading_the_data_can_be_interrupted(tmp_path: Path, spoilt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sources, "load", interrupted)
    done = within(tmp_path, "data", *on_file(spoilt))
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "reading was cancelled\n")


def test_a_run_says_what_was_left_out_of_its_data(tmp_path: Path, spoilt: Path) -> None:
    done = within(tmp_path, "run", "--preset", "tiny", *on_file(spoilt))
    assert done.stdout.splitlines()[-1] == LEFT_OUT
    told = done.stderr.splitlines()
    assert told.count(LEFT_OUT) == 1
    assert told.index(LEFT_OUT) < next(place for place, line in enumerate(told) if line.startswith("finetune: "))
    store = Store(tmp_path)
    assert "Left out" not in json.dumps(store.result(store.run_ids()[0]))


def test_a_run_of_data_of_which_nothing_was_left_out_does_not_mention_it(home: Path, file: Path) -> None:
    done = within(home, "run", "--preset", "tiny", *on_file(file))
    assert "Left out" not in done.stdout + done.stderr


def test_a_run_ends_well_though_its_file_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = write_csv(tmp_path / "gone.csv", [*made_rows(60), made_rows(60)[0]])

    def work_and_delete(*arguments: Any, **options: Any) -> dict[str, Any] | None:
        result = worker.work(*arguments, **options)
        gone.unlink()
        return result

    monkeypatch.setattr(command_line, "work", work_and_delete)
    done = within(tmp_path / "home", "run", "--preset", "tiny", *on_file(gone))
    assert done.returncode == 0, done.stderr
    assert "Left out: 1 of 61 rows (1 duplicate text)" in done.stderr
    assert "Left out" not in done.stdout


# Files of one's own

FINE = ("很好", "不错", "精彩", "喜欢", "感动", "有趣")
POOR = ("难看", "无聊", "糟糕", "失望", "乏味", "讨厌")
THINGS = ("这部电影", "剧情", "演员", "画面", "音乐", "结局", "导演", "对白")


def test_a_chinese_file_goes_from_its_rows_to_a_verdict(tmp_path: Path) -> None:
    rows = [
        {"评论": f"{thing}{'真的' if number % 2 else '非常'}{word}。{other}也{word}！", "情感": label}
        for label, words in (("好", FINE), ("差", POOR))
        for number, word in enumerate(words)
        for thing, other in itertools.pairwise(THINGS)
    ]
    chinese = write_csv(tmp_path / "评论.csv", rows)
    columns = ("data.text_column=评论", "data.label_column=情感")
    learning = ("teacher.epochs=6", "teacher.learning_rate=0.02", "teacher.batch_size=8", "training.batch_size=8")
    arguments = (*on_file(chinese, *columns, *learning), "--preset", "tiny")
    done = within(tmp_path / "home", "run", *arguments)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["teacher", "baseline", "student"]
    assert all(line.startswith("The student") for line in lines[4:-1])
    assert "same student alone" in lines[-1]
    store = Store(tmp_path / "home")
    (run_id,) = store.run_ids()
    result = store.result(run_id)
    assert result is not None
    assert result["labels"] == sorted(["好", "差"])
    assert result["teacher"]["test_accuracy"] > 0.8, "a character is a word, so there is something to learn"
    asked = within(tmp_path / "home", "predict", run_id, "画面非常精彩", "剧情真的无聊")
    answers = [json.loads(line) for line in asked.stdout.splitlines()]
    assert [max(answer["teacher"], key=answer["teacher"].__getitem__) for answer in answers] == ["好", "差"]


def test_six_uneven_classes_of_very_short_texts_go_to_a_verdict(tmp_path: Path) -> None:
    counts = {"joy": 60, "anger": 30, "fear": 12, "love": 6, "sadness": 3, "surprise": 2}
    rows = [
        {"text": f"{label[:2]} {number}", "label": label} for label, count in counts.items() for number in range(count)
    ]
    uneven = write_csv(tmp_path / "feelings.csv", rows)
    done = within(tmp_path / "home", "run", "--preset", "tiny", *on_file(uneven), "--json")
    result = last_json(done)
    assert result["sizes"]["classes"] == 6
    assert result["labels"] == sorted(counts)
    for role in ROLES:
        confusion = result[role]["confusion"]
        assert len(confusion) == 6
        assert sum(map(sum, confusion)) == result["sizes"]["test"]
        assert 0 <= result[role]["macro_f1"] <= 1
    assert within(tmp_path / "home", "run", "--preset", "tiny", *on_file(uneven)).stdout.count("The ") >= 2


@pytest.fixture(scope="module")
def answered(home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run whose teacher is a file."""
    rows = [
        {
            **row,
            "teacher_bad": 0.9 if row["label"] == "bad" else 0.2,
            "teacher_good": 0.1 if row["label"] == "bad" else 0.8,
        }
        for row in made_rows(60)
    ]
    answers = write_csv(tmp_path_factory.mktemp("answers") / "answers.csv", rows)
    settings = on_file(answers, "teacher.kind=file")
    result: dict[str, Any] = last_json(within(home, "run", "--preset", "tiny", *settings, "--json"))
    return result


def test_a_teacher_that_is_a_file_is_summarised_without_size_and_speed(home: Path, tmp_path: Path) -> None:
    rows = [{**row, "teacher_bad": 0.5, "teacher_good": 0.5} for row in made_rows(60)]
    answers = write_csv(tmp_path / "answers.csv", rows)
    done = within(home, "run", "--preset", "tiny", *on_file(answers, "teacher.kind=file"))
    assert done.returncode == 0, done.stderr
    teacher = done.stdout.splitlines()[1].split()
    assert teacher[0] == "teacher"
    assert teacher[2:] == ["file"]
    assert "which is a file and cannot answer new texts" in done.stdout


def test_predict_of_a_run_with_a_file_answers_for_the_student_alone(home: Path, answered: dict[str, Any]) -> None:
    done = within(home, "predict", answered["run_id"], "a bright film", "a dull plot")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["text"] for answer in answers] == ["a bright film", "a dull plot"]
    for answer in answers:
        assert answer.keys() == {"text", "teacher", "student", "kl", "agree"}
        assert (answer["teacher"], answer["kl"], answer["agree"]) == (None, None, None)
        assert answer["student"].keys() == {"bad", "good"}


# Asking


def test_predict_answers_each_text_in_a_line(home: Path, first: dict[str, Any]) -> None:
    texts = ["a wonderful film", "很好看的电影", "<script>alert(1)</script>", "zzzxq", "film " * 20_000, "🎬🍿"]
    done = core(home, "predict", first["run_id"], *texts)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["text"] for answer in answers] == texts
    for answer in answers:
        assert answer.keys() == {"text", "teacher", "student", "kl", "agree"}
        assert answer["teacher"].keys() == {"fresh", "rotten"}
        assert abs(sum(answer["student"].values()) - 1) < 1e-5
        assert answer["kl"] >= -1e-6


def test_predict_finds_a_run_by_the_end_of_its_id(home: Path, first: dict[str, Any]) -> None:
    done = core(home, "predict", first["run_id"][-6:], "good")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "--set", "objective.temperature=-1"), ("objective.temperature", "-1", "try 1 to 8")),
        (("run", "--set", "objective.betta=2"), ("objective.betta", "2", "objective.beta")),
        (("run", "--set", "training.epochs=many"), ("training.epochs", "many", "try")),
        (("run", "--set", "teacher.size=XXL"), ("teacher.size", "XXL", "'XS'")),
        (("run", "--set", "beta"), ("--set", "beta", "objective.beta=2")),
        (("run", "--preset", "quik"), ("preset", "quik", "quick")),
        (("run", "--config", "missing.json"), ("config", "missing.json", "check the path")),
        (("predict", "nobody", "text"), ("run", "nobody", "runs")),
        (("run", "--set", "data.name=imbd"), ("data.name", "imbd", "imdb")),
        (("run", "--set", "data.name=csv"), ("data.path", "nothing", "csv, tsv or jsonl")),
        (("run", "--set", "teacher.kind=file"), ("teacher.kind", "file", "teacher_LABEL")),
        (("run", "--preset", "article", "--seeds", "3"), ("training.seeds", "3", "joint")),
        (("run", "--preset", "article", "--set", "training.augment=2"), ("objective.mode", "joint", "offline")),
        (
            ("run", "--preset", "article", "--set", "training.assistant=S"),
            ("training.assistant", "'S'", "none", "joint"),
        ),
        (
            ("run", "--preset", "article", "--set", "teacher.kind=pretrained", "--set", "teacher.frozen=true"),
            ("teacher.frozen", "True", "joint"),
        ),
        (
            ("run", "--set", "student.like_teacher=true", "--set", "student.kind=bag"),
            ("student.like_teacher", "True", "two LSTMs"),
        ),
    ],
)
def test_a_mistake_is_answered_in_one_line_with_status_2(
    tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    done = within(tmp_path, *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    for word in words:
        assert word in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("no.csv", None, ("data.path", "no.csv", "check the path")),
        ("mine.txt", "text,label\n", ("data.path", ".csv, .tsv, .jsonl", "mine.txt")),
        ("mine.csv", "a,b\n1,2\n", ("data.text_column", "text, sentence, review or content", "'a', 'b'")),
        ("mine.csv", "text,label\nfine,good\n", ("'label'", "2 to 50 classes", "got 1", "data.label_column")),
    ],
)
def test_a_file_that_cannot_be_used_ends_its_run_with_a_line_and_status_2(
    tmp_path: Path, name: str, content: str | None, words: tuple[str, ...]
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    done = within(tmp_path / "home", "run", *on_file(tmp_path / name))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    for word in words:
        assert word in line
    store = Store(tmp_path / "home")
    assert [store.status(run_id).error for run_id in store.run_ids()] in ([], [line])


def test_empty_text_is_a_mistake(home: Path, first: dict[str, Any]) -> None:
    done = core(home, "predict", first["run_id"], "  ")
    assert done.returncode == 2
    assert "text must not be empty" in done.stderr


def test_predict_says_when_a_run_has_no_models_yet(home: Path) -> None:
    waiting = Store(home).create_run(PRESETS["tiny"].config)
    done = core(home, "predict", waiting, "good")
    assert done.returncode == 2
    assert "queued" in done.stderr


def test_failed_run_ends_with_status_1_and_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "tokens").parent.mkdir(exist_ok=True)
    (tmp_path / "tokens").write_text("a file where a folder belongs")
    done = core(tmp_path, "run", "--preset", "tiny")
    assert done.returncode == 1
    store = Store(tmp_path)
    status = store.status(store.run_ids()[0])
    assert status.status == "failed"
    assert status.error is not None
    assert status.error in done.stderr


def test_ctrl_c_interrupts_a_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "distill_core", "run", "--set", "teacher.epochs=100", "--home", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        store = Store(tmp_path)
        deadline = time.monotonic() + 60
        while not (store.run_ids() and store.read_events(store.run_ids()[0])[0]) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        asked = time.monotonic()
        assert process.wait(timeout=30) == 1
        assert time.monotonic() - asked < 5
    assert store.status(store.run_ids()[0]).status == "interrupted"


def test_listings_answer_in_json(home: Path, first: dict[str, Any]) -> None:
    runs = last_json(core(home, "runs", "--json"))
    mine = next(run for run in runs if run["run_id"] == first["run_id"])
    assert mine["status"] == "finished"
    assert mine["test_accuracy"] == first["student"]["test_accuracy"]
    assert {preset["name"] for preset in last_json(within(home, "presets", "--json"))} == set(PRESETS)
    doctor = last_json(core(home, "doctor", "--json"))
    assert doctor["versions"]["torch"].startswith("2.13.0")
    assert doctor["device"]
    assert doctor["precision"] == ("bfloat16" if doctor["bfloat16"] else "float32")
    if doctor["device"] == "cpu":
        assert doctor["bfloat16"] == sorted(machine.narrow(Store(home)) or [])
    assert list(doctor["data"]) == LISTED
    assert doctor["data"]["rotten_tomatoes"] is True


def test_listings_answer_people_too(home: Path, first: dict[str, Any]) -> None:
    assert first["run_id"] in within(home, "runs").stdout
    for listing, names in (("presets", PRESETS), ("datasets", LISTED)):
        lines = within(home, listing).stdout.splitlines()
        assert [line.split()[0] for line in lines] == list(names)
    assert "rotten_tomatoes True" in within(home, "doctor").stdout


def test_data_sets_are_listed_with_what_is_there_of_them(tmp_path: Path) -> None:
    listed = {row["name"]: row for row in last_json(within(tmp_path, "datasets", "--json"))}
    assert list(listed) == LISTED
    assert [row["title"] for row in listed.values()] == [*(source.title for source in SOURCES.values()), HUB.title]
    assert {name for name, row in listed.items() if row["found"]} == {"rotten_tomatoes", "bbc_news", "csv", "hf:NAME"}
    archive = tmp_path / "data" / "imdb" / "aclImdb_v1.tar.gz"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"here it is")
    found = {row["name"]: row["found"] for row in last_json(within(tmp_path, "datasets", "--json"))}
    assert found["imdb"] is True
    assert last_json(within(tmp_path, "doctor", "--json"))["data"] == found


def test_the_hub_is_missing_where_its_library_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(package: str) -> str:
        if package == "datasets":
            raise PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr(sources, "version", installed)
    (line,) = (line for line in within(tmp_path, "datasets").stdout.splitlines() if line.startswith("hf:NAME"))
    assert line.split()[1] == "missing"
    assert "pip install datasets" in line


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("status.json", "{"),
        ("status.json", '{"status": "finished", "from": "another version"}'),
        ("result.json", "[]"),
        ("result.json", "{}"),
        ("result.json", '{"student": null, "seeds": null}'),
    ],
)
def test_a_run_that_cannot_be_read_is_listed_among_the_others(tmp_path: Path, name: str, content: str) -> None:
    store = Store(tmp_path)
    broken, whole = (store.create_run(PRESETS["tiny"].config) for _ in range(2))
    (store.run_folder(broken) / name).write_text(content, encoding="utf-8")
    rows = {row["run_id"]: row for row in last_json(within(tmp_path, "runs", "--json"))}
    assert rows[broken]["status"] == "unreadable"
    assert rows[broken]["error"]
    assert rows[broken]["test_accuracy"] is None
    assert rows[whole]["status"] == "queued"
    assert rows[broken].keys() == rows[whole].keys()
    done = within(tmp_path, "runs")
    assert done.returncode == 0
    assert f"{broken}  unreadable  {rows[broken]['error']}" in done.stdout


def test_home_comes_from_the_environment(tmp_path: Path) -> None:
    environment = {**os.environ, "DISTILL_HOME": str(tmp_path / "elsewhere")}
    command = [sys.executable, "-m", "distill_core", "doctor", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout)["home"] == str(tmp_path / "elsewhere")
