"""Commands that ask the models of a run: files in, JSON lines out; explanations; disagreements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distill_core.analysis import predict
from distill_core.analysis.predict import Predictor
from distill_core.store import Store
from tests.runs import config_of, made_rows, run, write_csv
from tests.test_cli import within

TEXTS = ["a bright film", "a dull plot and a warm scene", "music"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("answering"))


@pytest.fixture(scope="module")
def run_id(store: Store) -> str:
    path = write_csv(store.home / "reviews.csv", made_rows(120))
    return run(store, config_of(path, "training.epochs=1", "teacher.epochs=2")).run_id


def lines(store: Store, *arguments: str) -> list[dict[str, Any]]:
    done = within(store.home, *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def refused(store: Store, *arguments: str) -> str:
    done = within(store.home, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    return done.stderr


def written(folder: Path, name: str, content: str) -> str:
    (folder / name).write_text(content, encoding="utf-8")
    return str(folder / name)


def files_of(folder: Path) -> dict[str, str]:
    """The same three texts and an empty one in all kinds of files."""
    rows = [*TEXTS, ""]
    quoted = "".join(f'"{text}",x\n' for text in rows)
    return {
        "csv": written(folder, "texts.csv", f"review,label\n{quoted}"),
        "tsv": written(
            folder, "texts.tsv", "id\tsentence\n" + "".join(f"{n}\t{text}\n" for n, text in enumerate(rows))
        ),
        "jsonl": written(folder, "texts.jsonl", "".join(json.dumps({"id": 1, "text": text}) + "\n" for text in rows)),
        "txt": written(folder, "texts.txt", "".join(f"{text}\n" for text in rows)),
    }


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "txt"])
def test_a_file_is_answered_line_by_line_as_its_texts_are(store: Store, run_id: str, tmp_path: Path, kind: str) -> None:
    told = lines(store, "predict", run_id, "--file", files_of(tmp_path)[kind])
    assert [answer["text"] for answer in told] == [*TEXTS, ""]
    alone = lines(store, "predict", run_id, *TEXTS)
    for one, other in zip(told, alone, strict=False):
        assert list(one) == list(other) == ["text", "teacher", "student", "kl", "agree"]
        assert one["student"] == pytest.approx(other["student"], abs=1e-5)
    assert told[-1] == {
        **dict.fromkeys(("teacher", "student", "kl", "agree")),
        "text": "",
        "error": "text must not be empty; type a sentence",
    }


def test_a_file_larger_than_memory_allows_comes_out_in_order(
    store: Store, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "CHUNK", 16)
    texts = [f"a {'dull' if number % 3 else 'bright'} film {'and ' * (number % 7)}{number}" for number in range(100)]
    file = written(tmp_path, "many.txt", "\n".join(texts))
    told = lines(store, "predict", run_id, "--file", file, "--models", "student")
    assert [answer["text"] for answer in told] == texts
    assert all(answer["teacher"] is None for answer in told)
    (expected,) = Predictor.load(store, run_id).predict([texts[77]])
    assert told[77]["student"] == pytest.approx(expected["student"], abs=1e-5)


def test_a_file_of_empty_lines_gets_a_line_for_each(store: Store, run_id: str, tmp_path: Path) -> None:
    done = within(store.home, "predict", run_id, "--file", written(tmp_path, "empty.txt", "\n \n\n"))
    assert done.returncode == 0
    assert [json.loads(line)["error"] for line in done.stdout.splitlines()] == [
        "text must not be empty; type a sentence"
    ] * 3
    assert "3 texts, 3 of them empty" in done.stderr


def test_what_a_file_holds_is_never_computed_or_run(store: Store, run_id: str, tmp_path: Path) -> None:
    hostile = ["=1+1", "<script>x</script>", "\u202eabc\u0301", "\x07 bell"]
    file = written(tmp_path, "hostile.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in hostile))
    told = within(store.home, "predict", run_id, "--file", file).stdout
    assert told.isascii()
    assert [json.loads(line)["text"] for line in told.splitlines()] == hostile


def test_a_column_can_be_named(store: Store, run_id: str, tmp_path: Path) -> None:
    file = written(tmp_path, "two.csv", "text,body\nno,a bright film\n")
    (told,) = lines(store, "predict", run_id, "--file", file, "--text-column", "body")
    assert told["text"] == "a bright film"
    said = refused(store, "predict", run_id, "--file", file, "--text-column", "nowhere")
    assert "must be a column of the data, got 'nowhere'; choose one of 'text', 'body'" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("predict", "RUN"), "predict needs either TEXT or --file, got neither"),
        (("predict", "RUN", "text", "--file", "some.csv"), "predict needs either TEXT or --file, got both"),
        (("predict", "RUN", "--file", "gone.csv"), "the file must be a file that exists, got 'gone.csv'"),
        (("predict", "RUN", "--file", "weights.pt"), "the file must end in .csv, .tsv, .jsonl"),
        (("explain", "RUN", " "), "text must not be empty"),
        (("explain", "RUN", "a film", "--label", "odd"), "label must be one of bad, good, got 'odd'"),
        (("disagreements", "RUN", "--top", "0"), "--top must be 1 or more, got 0"),
    ],
)
def test_mistakes_are_told_with_value_and_remedy(
    store: Store, run_id: str, arguments: tuple[str, ...], said: str
) -> None:
    assert said in refused(store, *(run_id if word == "RUN" else word for word in arguments))


def test_explain_tells_each_word_of_each_model(store: Store, run_id: str) -> None:
    (facts,) = lines(store, "explain", run_id, TEXTS[1], "--label", "good", "--json")
    assert facts["label"] == "good"
    assert [row["word"] for row in facts["words"]] == TEXTS[1].split()
    for role, model in facts["models"].items():
        total = sum(row[role] for row in facts["words"])
        assert total == pytest.approx(model["log_odds"] - model["reference"], rel=0.05, abs=1e-3)
        assert 0 <= model["error"] < 0.05
    shown = within(store.home, "explain", run_id, TEXTS[1], "--label", "good").stdout.splitlines()
    assert shown[1].split() == ["teacher", "student", "baseline"]
    assert [line.split()[0] for line in shown[2:]] == [*TEXTS[1].split(), "(error)"]


def test_disagreements_are_test_texts_with_the_worst_first(store: Store, run_id: str) -> None:
    (rows,) = lines(store, "disagreements", run_id, "--top", "3", "--json")
    assert 0 < len(rows) <= 3
    assert all(row["agree"] is False and row["label"] in ("bad", "good") for row in rows)
    assert [row["kl"] for row in rows] == sorted((row["kl"] for row in rows), reverse=True)
    again = Predictor.load(store, run_id).predict([row["text"] for row in rows])
    for row, answer in zip(rows, again, strict=True):
        assert row["kl"] == pytest.approx(answer["kl"], abs=1e-5)
    assert rows[0]["text"] in within(store.home, "disagreements", run_id).stdout


def test_disagreements_need_a_teacher_that_can_be_asked(store: Store, tmp_path: Path) -> None:
    rows = [{**row, "teacher_bad": "0.4", "teacher_good": "0.6"} for row in made_rows(60)]
    made = run(store, config_of(write_csv(tmp_path / "answered.csv", rows), "teacher.kind=file"))
    assert "has no teacher that can be asked, since it is a file" in refused(store, "disagreements", made.run_id)
