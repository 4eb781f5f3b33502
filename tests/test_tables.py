"""A file of one's own: columns, labels, sides, a teacher's answers, and everything that can be wrong with a file."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import time
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_core.config import DataConfig
from distill_core.data import labelled, sources, tables, textfiles
from distill_core.data.sources import Dataset, Split
from distill_core.data.tables import Record, Table
from distill_core.errors import Cancelled, DataError

Row = Mapping[str, object]
ROWS: tuple[Row, ...] = tuple(
    {"text": f"a film number {number}", "label": ("bad", "good")[number % 2]} for number in range(40)
)


def written(folder: Path, content: str | bytes, name: str = "mine.csv") -> DataConfig:
    """A configuration for a new file."""
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return DataConfig(name="csv", path=str(file))


def as_csv(rows: Sequence[Row] = ROWS, delimiter: str = ",", end: str = "\n") -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), delimiter=delimiter, lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def as_jsonl(rows: Sequence[Row] = ROWS) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def load(config: DataConfig, **changes: Any) -> Dataset:
    return sources.load(config.model_copy(update=changes), Path("unused"))


def refusal(config: DataConfig, **changes: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(config, **changes)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    assert ";" in message, "says what to do"
    return message


def splits(dataset: Dataset) -> tuple[Split, Split, Split]:
    return dataset.train, dataset.val, dataset.test


def triples(dataset: Dataset) -> list[tuple[int, str, str]]:
    """Id, text and label of every labelled text, by id."""
    return sorted(
        (number, text, dataset.label_names[label])
        for part in splits(dataset)
        for number, text, label in zip(part.ids, part.texts, part.labels, strict=True)
    )


EXPECTED = [(number, str(row["text"]), str(row["label"])) for number, row in enumerate(ROWS, start=1)]


# Kinds of files


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_csv_file_is_read_whatever_its_delimiter_and_line_ends(tmp_path: Path, delimiter: str, end: str) -> None:
    dataset = load(written(tmp_path, as_csv(delimiter=delimiter, end=end)))
    assert triples(dataset) == EXPECTED
    assert [len(part) for part in splits(dataset)] == [32, 4, 4]


def test_delimiters_between_quotation_marks_do_not_count(tmp_path: Path) -> None:
    lines = [f"{row['text']};film;{row['label']}" for row in ROWS]
    content = "\n".join(['text;"what, it, is, about";label', *lines])
    assert triples(load(written(tmp_path, content))) == EXPECTED


@pytest.mark.parametrize("name", ["mine.tsv", "mine.TSV"])
def test_a_tsv_file_is_cut_at_tabs_alone(tmp_path: Path, name: str) -> None:
    rows = [{**row, "text": f"{row['text']}, and; more"} for row in ROWS]
    dataset = load(written(tmp_path, as_csv(rows, delimiter="\t"), name))
    assert [text for _, text, _ in triples(dataset)] == [row["text"] for row in rows]


def test_a_jsonl_file_is_read_and_empty_lines_are_passed_over(tmp_path: Path) -> None:
    dataset = load(written(tmp_path, "\n" + as_jsonl().replace("\n", "\n\n"), "mine.jsonl"))
    assert triples(dataset) == EXPECTED


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_accents_survive_every_encoding_that_can_be_told(tmp_path: Path, encoding: str) -> None:
    rows = [{**row, "text": f"{row['text']} café “naïve”"} for row in ROWS]
    dataset = load(written(tmp_path, as_csv(rows).encode(encoding)))
    assert triples(dataset)[0] == (1, "a film number 0 café “naïve”", "bad")
    remarks = [note for note in dataset.report.notes if "UTF-16" in note or "Windows-1252" in note]
    assert len(remarks) == (encoding in {"utf-16", "cp1252"})


def test_text_in_any_script_and_of_any_sign_is_kept_as_it_is(tmp_path: Path) -> None:
    odd = [
        "=SUM(A1:A9)",
        "<script>alert(1)</script>",
        "日本の映画",
        "🎬",
        "NA",
        "null",
        "None",
        "a\nb",
        'say "hi"',
        "0",
        "-",
    ]
    rows = [{"text": text, "label": label} for text in odd for label in ["x"]] + [
        {"text": f"{n}th", "label": "y"} for n in range(9)
    ]
    for name, content in (("mine.csv", as_csv(rows)), ("mine.jsonl", as_jsonl(rows))):
        assert {text for _, text, _ in triples(load(written(tmp_path, content, name)))} >= set(odd)


def test_blank_lines_in_a_csv_file_count_for_nothing(tmp_path: Path) -> None:
    assert triples(load(written(tmp_path, "\n" + as_csv().replace("\n", "\n\n")))) == EXPECTED


def test_the_same_file_gives_the_same_data_set(tmp_path: Path) -> None:
    config = written(tmp_path, as_csv())
    assert load(config) == load(config)
    assert load(config, split_seed=1).test.ids != load(config).test.ids


# Columns


@pytest.mark.parametrize("text", ["text", "Sentence", "REVIEW", " content "])
@pytest.mark.parametrize("label", ["label", "Class", "SENTIMENT", "category"])
def test_columns_are_found_by_their_usual_names(tmp_path: Path, text: str, label: str) -> None:
    rows = [{"id": 7, label: row["label"], text: row["text"]} for row in ROWS]
    dataset = load(written(tmp_path, as_csv(rows)))
    assert triples(dataset) == EXPECTED
    assert f"The texts are in column {text.strip()!r}, the labels in column {label!r}." in dataset.report.notes


def test_the_first_usual_name_wins_over_the_first_column(tmp_path: Path) -> None:
    rows = [{"content": "no", "category": "no", "text": row["text"], "label": row["label"]} for row in ROWS]
    assert triples(load(written(tmp_path, as_csv(rows)))) == EXPECTED


def test_columns_can_be_named(tmp_path: Path) -> None:
    rows = [{"text": "no", "label": "no", "Body": row["text"], "stars": row["label"]} for row in ROWS]
    assert triples(load(written(tmp_path, as_csv(rows)), text_column="body", label_column="stars")) == EXPECTED


@pytest.mark.parametrize("setting", ["text_column", "label_column", "split_column"])
def test_a_column_that_is_not_there_is_refused_and_those_there_are_listed(tmp_path: Path, setting: str) -> None:
    message = refusal(written(tmp_path, as_csv()), **{setting: "nowhere"})
    assert message == f"data.{setting} must be a column of the data, got 'nowhere'; choose one of 'text', 'label'"


def test_a_file_without_a_usual_name_is_refused(tmp_path: Path) -> None:
    rows = [{"body": row["text"], "label": row["label"]} for row in ROWS]
    message = refusal(written(tmp_path, as_csv(rows)))
    expected = "got none called text, sentence, review or content; choose one of 'body', 'label'"
    assert message == f"data.text_column must be a column of the data, {expected}"


def test_one_column_for_two_purposes_is_refused(tmp_path: Path) -> None:
    assert "must be in different columns" in refusal(written(tmp_path, as_csv()), label_column="text")
    assert "must be in different columns" in refusal(written(tmp_path, as_csv()), split_column="label")


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    message = refusal(written(tmp_path, as_csv().replace("text,label", "label,label", 1)))
    assert "must have different names, got 'label' twice" in message


def test_columns_without_a_name_are_no_matter(tmp_path: Path) -> None:
    content = as_csv([{"": number, " ": "", **row} for number, row in enumerate(ROWS)])
    assert triples(load(written(tmp_path, content))) == EXPECTED


# Labels


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        ([0, 1], ("0", "1")),
        ([0.0, 1.0], ("0", "1")),
        ([10, 9], ("9", "10")),
        ([-1, 1], ("-1", "1")),
        ([2.5, "10"], ("2.5", "10")),
        ([True, False], ("false", "true")),
        (["TRUE", "False"], ("false", "true")),
        ([" good ", "bad"], ("bad", "good")),
        (["1", "other"], ("1", "other")),
        (["é", "z"], ("z", "é")),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_labels_are_trimmed_and_in_order(tmp_path: Path, raw: list[Any], names: tuple[str, ...], kind: str) -> None:
    rows = [{"text": f"film {number}", "label": raw[number % 2]} for number in range(20)]
    dataset = load(written(tmp_path, as_csv(rows) if kind == "csv" else as_jsonl(rows), f"mine.{kind}"))
    assert dataset.label_names == names


def test_the_same_number_written_in_different_ways_is_one_label(tmp_path: Path) -> None:
    ways = [1, 1.0, "1", " 1 ", "1.00", 0, 0.0, "0"]
    rows = [{"text": f"film {number}", "label": ways[number % 8]} for number in range(80)]
    dataset = load(written(tmp_path, as_jsonl(rows), "mine.jsonl"))
    assert dataset.label_names == ("0", "1")
    assert sum(label == "1" for _, _, label in triples(dataset)) == 50


def test_labels_are_shown_by_their_names(tmp_path: Path) -> None:
    rows = [{"text": f"film {number}", "label": number % 3} for number in range(30)]
    config = written(tmp_path, as_csv(rows))
    dataset = load(config, label_names={"0": "negative", "1.0": " neutral ", "7": "never"})
    assert dataset.label_names == ("negative", "neutral", "2")
    assert "No text has the label '7'." in dataset.report.notes


def test_labels_of_one_name_are_one_class(tmp_path: Path) -> None:
    rows = [{"text": f"film {number}", "label": number % 5 + 1} for number in range(50)]
    names = {"1": "bad", "2": "bad", "3": "good", "4": "good", "5": "good"}
    dataset = load(written(tmp_path, as_csv(rows)), label_names=names)
    assert dataset.label_names == ("bad", "good")
    assert sum(label == "good" for _, _, label in triples(dataset)) == 30


@pytest.mark.parametrize("count", [1, 51, 10_000])
def test_too_few_or_too_many_classes_are_refused(tmp_path: Path, count: int) -> None:
    rows = [{"text": f"film {number}", "label": f"label {number % count}"} for number in range(max(20, count))]
    message = refusal(written(tmp_path, as_csv(rows)))
    assert message.startswith(f"column 'label' must hold 2 to 50 classes, got {count}; is it the right column?")


def test_fifty_classes_are_not_too_many(tmp_path: Path) -> None:
    rows = [{"text": f"film {number}", "label": number % 50} for number in range(200)]
    assert len(load(written(tmp_path, as_csv(rows))).label_names) == 50


def test_a_text_in_the_label_column_is_refused(tmp_path: Path) -> None:
    rows = [{"text": f"film {number}", "label": f"{number % 2}" * 201} for number in range(20)]
    assert "row 1 (line 2): the label must have at most 200 characters" in refusal(written(tmp_path, as_csv(rows)))


@pytest.mark.parametrize("nothing", [None, "", "  ", float("nan")])
def test_a_row_without_a_label_gives_an_unlabelled_text(tmp_path: Path, nothing: object) -> None:
    rows = [*ROWS, {"text": "who knows", "label": nothing}, {"text": "nobody", "label": nothing}]
    dataset = load(written(tmp_path, as_jsonl(rows), "mine.jsonl"))
    assert dataset.unlabelled == ("who knows", "nobody")
    assert "2 rows have no label; their texts are kept as unlabelled." in dataset.report.notes
    assert dataset.report.dropped == {}


# What is left out


def test_empty_texts_and_duplicates_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [*ROWS, {"text": " ", "label": "bad"}, {"text": "", "label": "good"}, {"text": "", "label": ""}, ROWS[0]]
    rows += [{"text": ROWS[1]["text"], "label": "bad"}, {"text": f" {str(ROWS[2]['text']).upper()}", "label": "bad"}]
    dataset = load(written(tmp_path, as_csv(rows)))
    assert dataset.report.rows == 46
    assert dataset.report.dropped == {"empty text": 3, "duplicate text": 2, "contradictory labels": 2}
    assert [number for number, _, _ in triples(dataset)] == [1, *range(3, 41)]


def test_a_large_file_is_drawn_from_once_and_for_all(tmp_path: Path) -> None:
    rows = [{"text": f"film {number}", "label": number % 2} for number in range(2000)]
    config = written(tmp_path, as_csv(rows))
    dataset = load(config, max_rows=100)
    assert dataset == load(config, max_rows=100)
    assert dataset.report.rows == 2000
    assert dataset.report.dropped == {"over max_rows": 1900}
    numbers = [number for number, _, _ in triples(dataset)]
    assert len(numbers) == 100
    assert all(text == f"film {number - 1}" for number, text, _ in triples(dataset))
    assert min(numbers) < 200
    assert max(numbers) > 1800, "drawn from the whole file"


@given(count=st.integers(1, 60), most=st.integers(1, 60))
def test_a_draw_keeps_as_many_as_asked_for_in_their_order(count: int, most: int) -> None:
    kept, total = tables._drawn((Record(number, None, {}) for number in range(count)), most)
    numbers = [record.number for record in kept]
    assert total == count
    assert numbers == sorted(set(numbers))
    assert len(numbers) == min(count, most)


def test_every_row_has_the_same_chance_to_be_drawn() -> None:
    kept, _ = tables._drawn((Record(number, None, {}) for number in range(20_000)), 4000)
    shares = [sum(start <= record.number < start + 5000 for record in kept) for start in range(0, 20_000, 5000)]
    assert shares == pytest.approx([1000] * 4, abs=100)


def test_limits_of_the_configuration_apply(tmp_path: Path) -> None:
    rows = [*ROWS, *({"text": f"unlabelled {number}", "label": ""} for number in range(9))]
    dataset = load(written(tmp_path, as_csv(rows)), train_limit=10, unlabelled_limit=3)
    assert (len(dataset.train), len(dataset.unlabelled)) == (10, 3)


# Sides


def test_a_split_column_decides(tmp_path: Path) -> None:
    words = ["train", "TRAIN ", "dev", "Val", "validation", "valid", "test", "Test"]
    sides = ["train", "train", "val", "val", "val", "val", "test", "test"]
    rows = [{**row, "fold": words[number // 2 % 8]} for number, row in enumerate(ROWS)]
    dataset = load(written(tmp_path, as_csv(rows)), split_column="fold")
    for name, part in zip(("train", "val", "test"), splits(dataset), strict=True):
        assert list(part.ids) == [number + 1 for number in range(40) if sides[number // 2 % 8] == name]
    assert "Column 'fold' says which texts are for training and which for testing." in dataset.report.notes


@pytest.mark.parametrize(
    ("words", "cut"), [(("train", "test"), ["val"]), (("train", "dev"), ["test"]), (("train",) * 2, ["test", "val"])]
)
def test_a_side_that_is_missing_is_cut_from_train(tmp_path: Path, words: tuple[str, str], cut: list[str]) -> None:
    rows = [{**row, "split": words[number // 2 % 2]} for number, row in enumerate(ROWS)]
    dataset = load(written(tmp_path, as_csv(rows)), split_column="split")
    told = [note for note in dataset.report.notes if "cut off" in note]
    assert [note.split()[5].rstrip(";") for note in told] == cut
    assert all(len(part) for part in splits(dataset))


def test_an_unknown_side_is_refused_with_its_row(tmp_path: Path) -> None:
    rows = [{**row, "split": "train" if number else "hold-out"} for number, row in enumerate(ROWS)]
    message = refusal(written(tmp_path, as_csv(rows)), split_column="split")
    assert message == "row 1 (line 2): column 'split' must hold train, val (or dev) or test, got 'hold-out'; mend it"


def test_an_unlabelled_text_needs_no_side(tmp_path: Path) -> None:
    rows = [{**row, "split": "train"} for row in ROWS] + [{"text": "free", "label": "", "split": ""}]
    assert load(written(tmp_path, as_csv(rows)), split_column="split").unlabelled == ("free",)


# A teacher's answers


def answered(answers: Mapping[str, Sequence[object]], kind: str = "csv", more: Sequence[Row] = ()) -> str:
    rows = [
        {**row, **{name: column[number % len(column)] for name, column in answers.items()}}
        for number, row in enumerate(ROWS)
    ]
    return as_csv([*rows, *more]) if kind == "csv" else as_jsonl([*rows, *more])


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_logits_stay_as_they_are_in_the_order_of_the_labels(tmp_path: Path, kind: str) -> None:
    content = answered({"Teacher_GOOD": [3.5, -1], "teacher_bad": [0, 2]}, kind)
    dataset = load(written(tmp_path, content, f"mine.{kind}"))
    for part in splits(dataset):
        assert part.answers == tuple((0.0, 3.5) if number % 2 else (2.0, -1.0) for number in part.ids)
    assert dataset.unlabelled_answers == ()
    assert "The teacher's answers are logits, in columns teacher_bad, Teacher_GOOD." in dataset.report.notes


def test_probabilities_become_logarithms_that_add_up(tmp_path: Path) -> None:
    dataset = load(written(tmp_path, answered({"teacher_bad": [0.255, 0], "teacher_good": [0.76, 1]})))
    by_id = {number: row for part in splits(dataset) for number, row in zip(part.ids, part.answers, strict=True)}
    assert by_id[1] == pytest.approx([math.log(0.255 / 1.015), math.log(0.76 / 1.015)])
    assert by_id[2] == pytest.approx([math.log(1e-6), 0.0], abs=1e-5)
    assert all(sum(map(math.exp, row)) == pytest.approx(1) for row in by_id.values())


def answers_by_id(dataset: Dataset) -> dict[int, list[float]]:
    """The probabilities of each labelled text."""
    return {
        number: [math.exp(logit) for logit in row]
        for part in splits(dataset)
        for number, row in zip(part.ids, part.answers, strict=True)
    }


def test_probabilities_that_do_not_add_up_in_one_row_are_mended_in_that_row_alone(tmp_path: Path) -> None:
    dataset = load(written(tmp_path, answered({"teacher_bad": [0.9] * 40, "teacher_good": [0.1] * 39 + [0.13]})))
    by_id = answers_by_id(dataset)
    assert by_id.pop(40) == pytest.approx([0.9 / 1.03, 0.13 / 1.03])
    assert all(row == pytest.approx([0.9, 0.1]) for row in by_id.values())
    assert dataset.report.notes[-2:] == (
        "The teacher's answers are probabilities, in columns teacher_bad, teacher_good.",
        "In 1 row they did not add up to 1 and were divided by their sum.",
    )


def test_probabilities_that_add_up_are_mended_without_a_word(tmp_path: Path) -> None:
    dataset = load(written(tmp_path, answered({"teacher_bad": [1.0000001, 0.68], "teacher_good": [0, 0.33]})))
    assert answers_by_id(dataset)[2] == pytest.approx([0.68 / 1.01, 0.33 / 1.01])
    assert dataset.report.notes[-1].startswith("The teacher's answers are probabilities")


def test_percentages_are_probabilities_too(tmp_path: Path) -> None:
    dataset = load(written(tmp_path, answered({"teacher_bad": [97, 0.5, 30], "teacher_good": [3, 99, 60]})))
    by_id = answers_by_id(dataset)
    assert by_id[1] == pytest.approx([0.97, 0.03])
    assert by_id[2] == pytest.approx([0.5 / 99.5, 99 / 99.5])
    assert by_id[3] == pytest.approx([1 / 3, 2 / 3])
    assert dataset.report.notes[-2:] == (
        "The teacher's answers are percentages, which were divided by 100, in columns teacher_bad, teacher_good.",
        "In 13 rows they did not add up to 100 and were divided by their sum.",
    )


@pytest.mark.parametrize(("bad", "good"), [(0, 0), (0.0, "0e5")])
def test_a_row_whose_probabilities_are_all_0_is_refused_with_its_place(
    tmp_path: Path, bad: object, good: object
) -> None:
    content = answered({"teacher_bad": [0.4, 1, bad, 1], "teacher_good": [0.6, 0, good, 0]})
    message = refusal(written(tmp_path, content))
    assert "row 3 (line 4): a teacher's answers must add up to more than 0, got 0 in each" in message


@pytest.mark.parametrize(
    "answers",
    [
        {"teacher_bad": [-0.1], "teacher_good": [1.1]},
        {"teacher_bad": [0.5], "teacher_good": [1.01]},
        {"teacher_bad": [97, 97, 5], "teacher_good": [3, 3, 101]},
        {"teacher_bad": [50, 20], "teacher_good": [50, 0]},
    ],
)
def test_numbers_that_are_neither_probabilities_nor_percentages_are_logits(
    tmp_path: Path, answers: dict[str, list[float]]
) -> None:
    dataset = load(written(tmp_path, answered(answers)))
    given = set(zip(answers["teacher_bad"], answers["teacher_good"], strict=True))
    assert {row for part in splits(dataset) for row in part.answers} == given
    assert dataset.report.notes[-1].startswith("The teacher's answers are logits")


def test_unlabelled_texts_have_answers_too(tmp_path: Path) -> None:
    more = [{"text": f"free {number}", "label": "", "teacher_bad": number, "teacher_good": 1} for number in range(20)]
    config = written(tmp_path, answered({"teacher_bad": [1], "teacher_good": [2]}, more=more))
    dataset = load(config, unlabelled_limit=5, train_limit=10)
    assert [text.split()[1] for text in dataset.unlabelled] == [f"{row[0]:.0f}" for row in dataset.unlabelled_answers]
    assert len(dataset.train.answers) == 10


def test_answers_may_be_named_after_labels_as_they_stand_or_as_they_are_shown(tmp_path: Path) -> None:
    rows = [{"text": f"film {number}", "label": number % 2, "teacher_0": 5, "teacher_Good": 6} for number in range(20)]
    dataset = load(written(tmp_path, as_csv(rows)), label_names={"0": "bad", "1": "good"})
    assert dataset.train.answers[0] == (5.0, 6.0)


def test_a_missing_column_of_answers_is_named(tmp_path: Path) -> None:
    rows = [{"text": f"film {number}", "label": "abc"[number % 3], "teacher_a": 1} for number in range(30)]
    message = refusal(written(tmp_path, as_csv(rows)))
    assert message == "a teacher's answers must have a column for each class, got teacher_a; add teacher_b, teacher_c"


def test_two_columns_of_answers_for_one_class_are_refused(tmp_path: Path) -> None:
    rows = [
        {"text": f"film {number}", "label": number % 2, "teacher_0": 5, "teacher_bad": 5, "teacher_1": 6}
        for number in range(20)
    ]
    message = refusal(written(tmp_path, as_csv(rows)), label_names={"0": "bad"})
    assert "class 'bad' must have one column of answers, got teacher_0 and teacher_bad" in message


def test_a_column_of_a_teachers_name_is_no_answer(tmp_path: Path) -> None:
    dataset = load(written(tmp_path, answered({"teacher_id": ["Smith"]})))
    assert dataset.train.answers == ()
    assert "Column 'teacher_id' is not used: no class has this name." in dataset.report.notes


@pytest.mark.parametrize("wrong", ["nan", "inf", "-inf", "", "many", "1,5", None, [1], True and "NaN"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_answer_that_is_no_number_is_refused_with_its_place(tmp_path: Path, wrong: object, kind: str) -> None:
    content = answered({"teacher_bad": [1, 1, wrong, 1], "teacher_good": [2]}, kind)
    message = refusal(written(tmp_path, content, f"mine.{kind}"))
    assert f"row 3 (line {4 if kind == 'csv' else 3}): column 'teacher_bad' must hold a finite number" in message


def test_an_answer_of_five_thousand_digits_is_refused(tmp_path: Path) -> None:
    content = answered({"teacher_bad": [1, "9" * 5000], "teacher_good": [2]})
    assert "row 2 (line 3): column 'teacher_bad' must hold a finite number" in refusal(written(tmp_path, content))


# Column names


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("mine.csv", '\n Text ;label;;"a\nb"\n1;2\n', ["Text", "label", "a\nb"]),
        ("mine.tsv", "text\tlabel, or class\r\n", ["text", "label, or class"]),
        ("mine.jsonl", '\n{"text": "fine"}\n{"label": 1, "text": ["poor"]}\n', ["text", "label"]),
        ("mine.csv", "größe,label\nfine,1\n".encode("cp1252"), ["größe", "label"]),
        ("mine.csv", "评论,情感\n".encode("utf-16"), ["评论", "情感"]),
        ("mine.csv", "\ufeff评论,情感\n", ["评论", "情感"]),
    ],
)
def test_column_names_are_those_of_the_header(
    tmp_path: Path, name: str, content: str | bytes, expected: list[str]
) -> None:
    config = written(tmp_path, content, name)
    assert tables.column_names(tables.path_of(config)) == expected


def test_column_names_take_the_same_time_however_long_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, row in (("long.csv", b"\xc3\xa9tude,1\n"), ("long.jsonl", b'{"text": "\xc3\xa9tude", "label": 1}\n')):
        with (tmp_path / name).open("wb") as file:
            file.write(b"text,label\n" if name == "long.csv" else b"")
            file.write(row * (4_000_000 // len(row)))
            file.write(b"torn\0\xff\n")
    read: list[int] = []
    chunks = textfiles._chunks

    def counted(*arguments: Any) -> Iterator[bytes]:
        for chunk in chunks(*arguments):
            read.append(len(chunk))
            yield chunk

    monkeypatch.setattr(textfiles, "_chunks", counted)
    for name in ("long.csv", "long.jsonl"):
        assert tables.column_names(tmp_path / name) == ["text", "label"]
    assert sum(read) == 2 * tables.BEGINNING


def test_column_names_of_a_path_that_begins_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    written(tmp_path, as_csv())
    assert tables.column_names(Path("~/mine.csv")) == ["text", "label"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mine.txt", b"text,label\n", "data.path must end in .csv, .tsv, .jsonl"),
        ("missing.csv", None, "data.path must be a file that exists"),
        ("mine.csv", b"", "column names in its first line, got none"),
        ("mine.jsonl", b"\n", "data.path must be a file with rows, got none"),
        ("mine.csv", b"text,text\n", "must have different names, got 'text' twice"),
        ("mine.csv", b"text,\0label\n", "NUL character in line 1"),
        ("mine.csv", b"\x89PNG\r\n\x1a\n\x81", "data.path must be a text file in UTF-8, got byte 0x89"),
        ("mine.jsonl", b"text,label\n", "line 1 of 'mine.jsonl' must be JSON"),
    ],
)
def test_column_names_of_what_is_no_table_are_refused(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        tables.column_names(tmp_path / name)
    assert message in str(caught.value)


# Files that cannot be used


@pytest.mark.parametrize("name", ["mine.txt", "mine.xlsx", "mine.json", "mine", "mine.csv.gz"])
def test_other_kinds_of_files_are_refused(tmp_path: Path, name: str) -> None:
    assert "data.path must end in .csv, .tsv, .jsonl, got" in refusal(written(tmp_path, as_csv(), name))


def test_no_path_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    assert "got nothing" in refusal(DataConfig(name="csv"))
    for name in ("missing.csv", "folder.csv"):
        assert "data.path must be a file that exists" in refusal(DataConfig(name="csv", path=str(tmp_path / name)))


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    assert "must be a file that exists" in refusal(DataConfig(name="csv", path=str(tmp_path / "pipe.csv")))


@pytest.mark.parametrize("content", ["", "\n\n", "  \n", "﻿"])
@pytest.mark.parametrize("name", ["mine.csv", "mine.tsv", "mine.jsonl"])
def test_an_empty_file_is_refused(tmp_path: Path, content: str, name: str) -> None:
    assert "data.path must be a file with" in refusal(written(tmp_path, content, name))


def test_a_file_of_a_header_alone_is_refused(tmp_path: Path) -> None:
    assert "got none in 'mine.csv'; add texts and labels" in refusal(written(tmp_path, "text,label\n"))


def test_a_file_of_one_row_is_refused(tmp_path: Path) -> None:
    assert "2 to 50 classes, got 1" in refusal(written(tmp_path, as_csv(ROWS[:1])))


def test_a_file_of_one_row_of_each_class_is_refused(tmp_path: Path) -> None:
    assert "must hold texts for all three sides" in refusal(written(tmp_path, as_csv(ROWS[:2])))


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (as_csv().replace("number 5", "n\0mber 5"), "a NUL character in line 7 of 'mine.csv'"),
        (as_csv().encode("utf-16-le"), "a NUL character in line 1"),
        (as_csv().encode("utf-32"), "a NUL character in line 1"),
        (as_csv().replace("film", "日本の映画").encode("shift_jis"), "byte 0x93 at position 13"),
        (as_csv().replace("film", "хороший фильм").encode("cp1251"), "byte 0xf5 at position 13"),
        (as_csv().encode() + b"\xff\xfe\x81", "byte 0xff"),
        (as_csv().encode("utf-16")[:-1], "byte 0x0a"),
        (b"PK\x03\x04\xff\x12" * 50, "byte 0xff"),
    ],
    ids=["nul", "utf-16 without a mark", "utf-32", "shift-jis", "cp1251", "torn", "torn utf-16", "zip"],
)
def test_a_file_whose_encoding_cannot_be_told_is_refused(tmp_path: Path, content: str | bytes, place: str) -> None:
    message = refusal(written(tmp_path, content))
    assert place in message
    assert "save the file as UTF-8" in message


def test_a_byte_is_named_by_its_place_in_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textfiles, "FOREIGN", 0.0)
    content = as_csv([{"text": "é" * 700_000, "label": 1}, *ROWS]).encode() + b"\xe9,1\n"
    assert f"byte 0xe9 at position {len(content) - 4}" in refusal(written(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "text,label\na film,good,really\n",
            "row 1 (line 2) of 'mine.csv' must have 2 cells like the first line, got 3",
        ),
        (
            "text,label\na film,good\n\nalone\n",
            "row 2 (line 4) of 'mine.csv' must have 2 cells like the first line, got 1",
        ),
        ('text,label\na film,good\n"a plot,bad\na,b\n', "the row that begins in line 3 of 'mine.csv' cannot be read"),
        ('text,label\n"a film" of note,good\n', "the row that begins in line 2 of 'mine.csv' cannot be read"),
        ("\n\ntext,label\na film,good\nalone\n", "row 2 (line 5) of 'mine.csv' must have 2 cells"),
        ('\n\ntext,label\na film,good\n"a,b\n', "the row that begins in line 5 of 'mine.csv' cannot be read"),
        ('"text,label\na film,good\n', "the row that begins in line 1 of 'mine.csv' cannot be read"),
        (",\na,b\n", "column names in its first line"),
    ],
)
def test_a_torn_csv_file_is_refused_with_the_line(tmp_path: Path, content: str, message: str) -> None:
    assert message in refusal(written(tmp_path, content))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 of 'mine.jsonl' must be JSON, got '{'"),
        ('["a film", "good"]', "line 2 of 'mine.jsonl' must be a JSON object"),
        ('"a film"', "line 2 of 'mine.jsonl' must be a JSON object"),
        ("[" * 100_000, "line 2 of 'mine.jsonl' must be JSON"),
        ('{"text": ' + "9" * 5000 + "}", "line 2 of 'mine.jsonl' must be JSON"),
        (
            '{"text": {"body": "a film"}, "label": "good"}',
            "row 2 (line 2): column 'text' must hold text, got an object",
        ),
        ('{"text": "a film", "label": ["good"]}', "row 2 (line 2): column 'label' must hold text, got a list"),
        (
            '{"text": "' + "a" * 1_000_001 + '", "label": "good"}',
            "row 2 (line 2): the text must have at most 1,000,000",
        ),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_torn_jsonl_file_is_refused_with_the_line(tmp_path: Path, line: str, message: str) -> None:
    content = f'{{"text": "a film", "label": "bad"}}\n{line}\n{as_jsonl()}'
    assert message in refusal(written(tmp_path, content, "mine.jsonl"))


def test_lists_in_columns_that_nobody_reads_are_no_matter(tmp_path: Path) -> None:
    rows = [{**row, "tags": ["a"], "more": {"b": 1}} for row in ROWS]
    assert triples(load(written(tmp_path, as_jsonl(rows), "mine.jsonl"))) == EXPECTED


def test_a_jsonl_row_may_lack_what_others_have(tmp_path: Path) -> None:
    content = '{"text": "free"}\n{"label": "good"}\n' + as_jsonl()
    dataset = load(written(tmp_path, content, "mine.jsonl"))
    assert dataset.unlabelled == ("free",)
    assert dataset.report.dropped == {"empty text": 1}


def test_signs_that_no_file_can_hold_are_replaced(tmp_path: Path) -> None:
    rows = [*ROWS, {"text": "half \ud83c of a sign, \0", "label": "good"}]
    dataset = load(written(tmp_path, as_jsonl(rows), "mine.jsonl"))
    assert triples(dataset)[-1][1] == "half \ufffd of a sign, \ufffd"


def test_a_line_of_200_mb_is_refused_quickly_and_without_filling_memory(tmp_path: Path) -> None:
    for name in ("mine.csv", "mine.jsonl"):
        with (tmp_path / name).open("wb") as file:
            for _ in range(200):
                file.write(b"a" * 1_000_000)
        begin = time.monotonic()
        tracemalloc.start()
        message = refusal(DataConfig(name="csv", path=str(tmp_path / name)))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert f"line 1 of {name!r} must have at most 10,000,000 characters" in message
        assert peak < 100e6
        assert time.monotonic() - begin < 20


def test_a_cell_that_never_ends_is_refused(tmp_path: Path) -> None:
    content = 'text,label\n"' + "many words\n" * 200_000
    message = refusal(written(tmp_path, content))
    assert (
        "the row that begins in line 2 of 'mine.csv' cannot be read (field larger than field limit (1000000))"
        in message
    )


def test_too_many_columns_are_refused_quickly(tmp_path: Path) -> None:
    many = ",".join(f"c{number}" for number in range(900_000))
    assert "must have at most 1,000 columns, got 900,000" in refusal(written(tmp_path, f"{many}\n{many}\n"))
    lines = "".join(f'{{"c{number}": 1}}\n' for number in range(1001))
    assert "must have at most 1,000 columns, got 1,001" in refusal(written(tmp_path, lines, "mine.jsonl"))


def test_a_first_line_of_five_million_characters_is_refused(tmp_path: Path) -> None:
    assert "the row that begins in line 1" in refusal(written(tmp_path, "a" * 5_000_000 + "\n1,2\n"))


def test_cells_that_nobody_reads_do_not_fill_memory(tmp_path: Path) -> None:
    rows = [{**row, "more": "x" * 100_000, "tags": [[]] * 10_000} for row in ROWS * 2]
    for kind, content in (("csv", as_csv(rows)), ("jsonl", as_jsonl(rows))):
        config = written(tmp_path, content, f"mine.{kind}")
        tracemalloc.start()
        load(config)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 8e6


def test_lists_that_are_read_do_not_fill_memory(tmp_path: Path) -> None:
    content = as_jsonl([{"text": [[]] * 10_000, "label": 1}] * 100)
    config = written(tmp_path, content, "mine.jsonl")
    tracemalloc.start()
    assert "column 'text' must hold text, got a list" in refusal(config)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8e6


@pytest.mark.parametrize("path", ["~nobody-of-this-name/mine.csv", "a" * 5000 + ".csv", "nul\0.csv", "mine.csv/x.csv"])
def test_impossible_paths_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, as_csv())
    assert "data.path must be a file" in refusal(DataConfig(name="csv", path=path))
    with pytest.raises(DataError, match=r"data\.path must be a file"):
        sources.fingerprint(DataConfig(name="csv", path=path), tmp_path)


def test_a_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    written(tmp_path, as_csv())
    assert triples(load(DataConfig(name="csv", path="~/mine.csv"))) == EXPECTED


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = written(tmp_path, as_csv())

    def forbidden(*arguments: object, **options: object) -> None:
        raise PermissionError("not yours")

    monkeypatch.setattr(Path, "open", forbidden)
    assert "(not yours); check its name and its permissions" in refusal(config)


def test_a_file_over_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.csv").open("wb") as file:
        file.truncate(600_000_000)
    message = refusal(DataConfig(name="csv", path=str(tmp_path / "huge.csv")))
    assert message == "data.path must be a file of at most 500 MB, got 600 MB; keep fewer rows"


# The csv module of Python 3.11 writes a lone carriage return without quotation marks.
names = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=12)


@given(content=st.binary(max_size=200), kind=st.sampled_from(["csv", "tsv", "jsonl"]))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes, kind: str) -> None:
    config = written(tmp_path_factory.getbasetemp(), content, f"any.{kind}")
    with pytest.raises(DataError):
        load(config)


@given(
    rows=st.lists(st.tuples(names, st.sampled_from(["x", "y", ""])), min_size=1, max_size=25),
    kind=st.sampled_from(["csv", "tsv", "jsonl"]),
)
def test_rows_add_up_whatever_the_texts(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], kind: str
) -> None:
    cells = [{"text": text.replace("\0", ""), "label": label} for text, label in rows] + list(ROWS)
    content = as_jsonl(cells) if kind == "jsonl" else as_csv(cells, "\t" if kind == "tsv" else ",")
    dataset = load(written(tmp_path_factory.getbasetemp(), content, f"some.{kind}"))
    kept = sum(len(part) for part in splits(dataset)) + len(dataset.unlabelled)
    assert kept + sum(dataset.report.dropped.values()) == dataset.report.rows == len(cells)
    for number, text, _ in triples(dataset):
        assert text == str(cells[number - 1]["text"]).strip()


# Waiting


def test_reading_can_be_cancelled_and_says_how_far_it_is(tmp_path: Path) -> None:
    config = written(tmp_path, as_csv([{"text": f"film {number}", "label": number % 2} for number in range(5000)]))
    told: list[tuple[str, float]] = []
    sources.load(config, tmp_path, progress=lambda words, part: told.append((words, part)))
    parts = [part for _, part in told]
    assert {words for words, _ in told} == {"Reading mine.csv"}
    assert len(set(parts)) > 3
    assert parts == sorted(parts)
    assert 0 <= parts[0] < parts[-1] <= 1

    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise Cancelled

    with pytest.raises(Cancelled):
        sources.load(config, tmp_path, check)


def test_a_changed_file_has_another_fingerprint(tmp_path: Path) -> None:
    config = written(tmp_path, as_csv())
    first = sources.fingerprint(config, tmp_path)
    assert re.fullmatch(r"sha256 [0-9a-f]{64}", first)
    assert sources.fingerprint(written(tmp_path, as_csv(), "copy.csv"), tmp_path) == first
    written(tmp_path, as_csv().replace("bad", "sad"))
    assert sources.fingerprint(config, tmp_path) != first


def test_a_fingerprint_is_kept_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = written(tmp_path, as_csv())
    first = sources.fingerprint(config, tmp_path)
    monkeypatch.setattr(tables.hashlib, "file_digest", None)
    assert sources.fingerprint(config, tmp_path) == first


def test_the_fingerprint_of_a_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must be a file that exists"):
        sources.fingerprint(DataConfig(name="csv", path=str(tmp_path / "missing.csv")), tmp_path)


def test_a_known_order_of_labels_is_kept_even_for_classes_without_texts() -> None:
    records = [Record(number, None, row) for number, row in enumerate(ROWS, start=1)]
    table = Table(("text", "label"), records, len(records))
    assert labelled.from_table(table, DataConfig(), order=["good", "bad", "odd"]).label_names == ("good", "bad", "odd")
