"""Many texts to ask about: a run's test split again, pasted lists, files, and what can be wrong with them."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_core.analysis import textset
from distill_core.analysis.textset import TextSet, from_file, from_lines
from distill_core.data import sources
from distill_core.errors import Cancelled, DataError, RunError
from distill_core.store import Store
from tests.runs import config_of, made_rows, run, write_csv

NAMES = ("bad", "good")
HOSTILE = (
    "<script>alert(1)</script>",
    "=HYPERLINK(1)",
    "\u05d0\u05d1 \u202eabc",
    "e\u0301\u0302\u0303",
    "a\x07\x1bb",
    "\ud800 half",
)


def quiet(words: str, part: float) -> None:
    """Progress that nobody hears."""


def written(folder: Path, content: str | bytes, name: str) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def refusal(path: Path, name: str = "mine.csv") -> str:
    with pytest.raises(DataError) as caught:
        from_file(path, name, NAMES)
    message = str(caught.value)
    assert "data." not in message
    assert str(path.parent) not in message
    assert ";" in message
    return message


# Pasted lists


@given(st.lists(st.text(max_size=30), max_size=30), st.sampled_from(["\n", "\r\n", "\r"]))
def test_each_line_with_a_sign_becomes_a_text(lines: list[str], end: str) -> None:
    lines = [line.replace("\n", " ").replace("\r", " ") for line in lines]
    filled = [line for line in lines if line.replace("\0", "\ufffd").strip()]
    if not filled:
        with pytest.raises(DataError, match="the list must hold a text"):
            from_lines("".join(line + end for line in lines), NAMES)
        return
    found = from_lines("".join(line + end for line in lines), ())
    assert len(found) == len(filled)
    assert found.skipped == len(lines) - len(filled)
    assert found.labels is None
    assert "".join(found.texts).encode()


@given(st.lists(st.tuples(st.text("xy z", min_size=1).filter(str.strip), st.sampled_from([*NAMES, "odd", ""]))))
def test_a_class_after_a_tab_is_a_label(rows: list[tuple[str, str]]) -> None:
    rows = [*rows, ("x", "good")]
    found = from_lines("\n".join(f"{text}\t{label}" for text, label in rows), NAMES)
    assert found.labels == tuple(NAMES.index(label) if label in NAMES else -1 for _, label in rows)
    assert found.texts == tuple(
        text.strip() if label in (*NAMES, "") else f"{text}\t{label}".strip() for text, label in rows
    )


def test_hostile_texts_are_taken_as_they_are_but_for_halves_of_characters() -> None:
    found = from_lines("\n".join(HOSTILE), NAMES)
    assert found.texts[:5] == HOSTILE[:5]
    assert found.texts[5] == "\ufffd half"


def test_a_text_of_a_megabyte_is_cut_and_counted() -> None:
    found = from_lines("x" * 1_000_000 + "\nshort", NAMES, 1000)
    assert [len(text) for text in found.texts] == [1000, 5]
    assert found.cut == 1


def test_too_many_texts_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(textset, "MAX_TEXTS", 5)
    assert len(from_lines("x\n" * 5, NAMES)) == 5
    with pytest.raises(DataError, match="the list must hold at most 5 texts, got more; cut it into parts"):
        from_lines("x\n" * 6, NAMES)
    rows = [{"text": f"t {number}"} for number in range(6)]
    assert "at most 5 texts, got 6" in refusal(write_csv(tmp_path / "mine.csv", rows))


def test_a_hundred_thousand_texts_are_read_at_once() -> None:
    started = time.perf_counter()
    assert len(from_lines("a warm film about a dog\n" * 100_000, NAMES)) == 100_000
    assert time.perf_counter() - started < 5


# Files


@pytest.mark.parametrize("column", ["text", "Sentence", "review", "content", "words of mine"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_texts_are_found_in_tables(tmp_path: Path, column: str, suffix: str) -> None:
    texts, buffer = ["a warm film", "a dull, tired one"], io.StringIO()
    if suffix == "jsonl":
        buffer.write("".join(json.dumps({column: text}) + "\n" for text in texts))
    else:
        writer = csv.writer(buffer, delimiter="\t" if suffix == "tsv" else ",")
        writer.writerows([[column], *([text] for text in texts)])
    found = from_file(written(tmp_path, buffer.getvalue(), f"0123.{suffix}"), f"mine.{suffix}", NAMES)
    assert found.texts == tuple(texts)
    assert found.labels is None


def test_labels_are_those_of_the_run_and_others_count_as_none(tmp_path: Path) -> None:
    content = "text,Label\none,good\ntwo,1\nthree,0.0\nfour,odd\nfive,\n,bad\n"
    found = from_file(written(tmp_path, content, "a.csv"), "a.csv", NAMES, named={"0": "bad", "1": "good"})
    assert found.labels == (1, 1, 0, -1, -1)
    assert found.skipped == 1
    assert "1 label is no class of the run, such as 'odd'; its classes are 'bad', 'good'." in found.notes
    strange = from_file(written(tmp_path, "text,label\none,x\ntwo,y\n", "b.csv"), "b.csv", NAMES)
    assert strange.labels is None
    assert any("2 labels are no class of the run" in note for note in strange.notes)


def test_lines_of_a_text_file(tmp_path: Path) -> None:
    path = written(tmp_path, '\ufeffone, "two"\r\n\r\n  \nthree\n', "lines.txt")
    assert from_file(path, "lines.txt", NAMES) == TextSet(('one, "two"', "three"), None, skipped=2)
    western = from_file(written(tmp_path, "a film in a café\n".encode("cp1252"), "west.txt"), "west.txt", NAMES)
    assert western.texts == ("a film in a café",)
    assert "Windows-1252" in western.notes[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n", "none called text, sentence, review or content"),
        ("\n\n\n", "column names in its first line"),
        ("text\n\n\n", "with rows, got none in 'mine.csv'"),
        ("text\n \n \n", "must hold a text, got 2 empty lines"),
        ("text,label\none,two,three\n", "must have 2 cells"),
        (b"text\n\x00\x01\n", "NUL character"),
        (b"\x80\x04\x95\x10\x00pickle", "save the file as UTF-8"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, content: str | bytes, said: str) -> None:
    assert said in refusal(written(tmp_path, content, "0123.csv"))


def test_a_file_of_empty_lines_or_of_objects_says_why(tmp_path: Path) -> None:
    assert "got 3 empty lines" in refusal(written(tmp_path, "\n \n\t\n", "0123.txt"), "mine.txt")
    assert "got none in 'mine.jsonl'" in refusal(written(tmp_path, "\n\n", "0123.jsonl"), "mine.jsonl")
    objects = written(tmp_path, '{"text": {"a": 1}}\n', "0124.jsonl")
    assert "must hold text, got an object" in refusal(objects, "mine.jsonl")
    assert "must be one that can be read, got 'gone.txt' (No such file" in refusal(tmp_path / "gone.txt", "gone.txt")


def test_halves_of_characters_in_a_file_are_replaced(tmp_path: Path) -> None:
    found = from_file(written(tmp_path, '{"text": "\\ud800 half"}\n', "a.jsonl"), "a.jsonl", NAMES)
    assert found.texts == ("\ufffd half",)


def test_reading_can_be_cancelled(tmp_path: Path) -> None:
    def check() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        from_lines("one\ntwo", NAMES, check=check)
    for name, content in (("a.csv", "text\none\n"), ("a.txt", "one\n")):
        with pytest.raises(Cancelled):
            from_file(written(tmp_path, content, name), name, NAMES, check=check)


# The test split


def test_the_test_split_is_read_again_and_must_be_the_same(store: Store, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "reviews.csv", made_rows(60))
    finished = run(store, config_of(file))
    found = textset.read_test_split(store, finished.run_id, lambda: None, quiet)
    expected = sources.load(finished.config.data, store.data_folder).test
    assert found == TextSet(expected.texts, expected.labels)
    write_csv(file, made_rows(90))
    with pytest.raises(DataError, match="they have changed: paste the texts or give a file"):
        textset.read_test_split(store, finished.run_id, lambda: None, quiet)
    file.unlink()
    with pytest.raises(DataError, match=r"the test texts of the run cannot be read again: .*reviews\.csv"):
        textset.read_test_split(store, finished.run_id, lambda: None, quiet)
    waiting = store.create_run(finished.config)
    with pytest.raises(RunError, match="run must be finished"):
        textset.read_test_split(store, waiting, lambda: None, quiet)


def test_a_large_test_split_is_drawn_once_and_for_all(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = run(store, config_of(write_csv(tmp_path / "reviews.csv", made_rows(60))))
    whole = textset.read_test_split(store, finished.run_id, lambda: None, quiet)
    monkeypatch.setattr(textset, "MAX_TEXTS", 4)
    part = textset.read_test_split(store, finished.run_id, lambda: None, quiet)
    assert part == textset.read_test_split(store, finished.run_id, lambda: None, quiet)
    assert len(part) == 4
    assert part.notes == (f"4 of the {len(whole)} test texts, drawn at random.",)
    labels = dict(zip(whole.texts, whole.labels or (), strict=True))
    assert part.labels == tuple(labels[text] for text in part.texts)
