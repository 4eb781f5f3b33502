"""Duplicates leave, every class stands on every side, and no text stands on two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_core.data.splitting import Row, Side, assemble, plain
from distill_core.data.texts import Dataset, Report, Split
from distill_core.errors import Cancelled, DataError

CLASSES = ("bad", "good", "odd")
# Few different texts, some the same but for capitals and spaces, so that duplicates and contradictions are common.
texts = st.tuples(st.sampled_from(["film", "Film ", "plot\n  twist", "Plot twist"]), st.integers(0, 6)).map(
    lambda parts: f"{parts[0]} {parts[1]}"
)
row_facts = st.tuples(texts, st.sampled_from([*CLASSES, None]), st.sampled_from(["train", "val", "test"]))
# Enough clean texts for every class, so that no draw is refused.
SOLID = [(f"{name} text number {number}", name, None) for name in CLASSES for number in range(5)]


def rows_of(facts: Sequence[tuple[str, str | None, Side | None]]) -> list[Row]:
    return [Row(number, text, label, side) for number, (text, label, side) in enumerate(facts, start=1)]


def assembled(rows: Sequence[Row], *, seed: int = 0, published_test: bool = False) -> Dataset:
    return assemble(rows, CLASSES, seed=seed, report=Report(len(rows)), published_test=published_test)


def splits(dataset: Dataset) -> tuple[Split, Split, Split]:
    return dataset.train, dataset.val, dataset.test


def counts(split: Split) -> Counter[str]:
    return Counter(CLASSES[label] for label in split.labels)


@given(facts=st.lists(row_facts, max_size=40), with_sides=st.booleans(), published=st.booleans())
def test_no_text_is_on_two_sides_and_ids_are_unique(
    facts: list[tuple[str, str | None, Side]], with_sides: bool, published: bool
) -> None:
    rows = rows_of([*((text, label, side if with_sides else None) for text, label, side in facts), *SOLID])
    dataset = assembled(rows, published_test=published)
    sides = [{plain(text) for text in part.texts} for part in splits(dataset)]
    unlabelled = {plain(text) for text in dataset.unlabelled}
    assert sides[0] & sides[1] == sides[0] & sides[2] == sides[1] & sides[2] == set()
    assert not unlabelled & (sides[0] | sides[1] | sides[2])
    assert [len(part) for part in splits(dataset)][:2] == [len(side) for side in sides[:2]]
    ids = [number for part in splits(dataset) for number in part.ids]
    assert len(ids) == len(set(ids))


@given(facts=st.lists(row_facts, max_size=40), with_sides=st.booleans(), published=st.booleans())
def test_what_stays_and_what_goes_add_up_to_the_rows(
    facts: list[tuple[str, str | None, Side]], with_sides: bool, published: bool
) -> None:
    rows = rows_of([*((text, label, side if with_sides else None) for text, label, side in facts), *SOLID])
    dataset = assembled(rows, published_test=published)
    kept = sum(len(part) for part in splits(dataset)) + len(dataset.unlabelled)
    assert kept + sum(dataset.report.dropped.values()) == dataset.report.rows == len(rows)


@given(facts=st.lists(row_facts, max_size=40), with_sides=st.booleans())
def test_each_text_keeps_its_label_and_goes_where_its_source_puts_it(
    facts: list[tuple[str, str | None, Side]], with_sides: bool
) -> None:
    rows = rows_of([*((text, label, side if with_sides else None) for text, label, side in facts), *SOLID])
    dataset = assembled(rows)
    by_id = {row.id: row for row in rows}
    for name, part in zip(("train", "val", "test"), splits(dataset), strict=True):
        assert list(part.ids) == sorted(part.ids)
        for number, text, label in zip(part.ids, part.texts, part.labels, strict=True):
            assert (text, CLASSES[label]) == (by_id[number].text, by_id[number].label)
            meant = {by_id[number].side or "train", "train"}
            assert name in meant or not any(row.side == name for row in rows if row.label) or by_id[number].side is None


@given(sizes=st.lists(st.integers(3, 60), min_size=3, max_size=3), seed=st.integers(0, 2**31 - 1))
def test_every_class_of_three_texts_stands_on_every_side_in_its_share(sizes: list[int], seed: int) -> None:
    facts = [
        (f"{name} {number}", name, None) for name, size in zip(CLASSES, sizes, strict=True) for number in range(size)
    ]
    dataset = assembled(rows_of(facts), seed=seed)
    train, val, test = (counts(part) for part in splits(dataset))
    for name, size in zip(CLASSES, sizes, strict=True):
        assert val[name] == test[name] == max(1, round(size / 10))
        assert train[name] == size - 2 * val[name] >= 1


def test_a_class_of_two_texts_stays_in_train_and_is_named() -> None:
    dataset = assembled(rows_of([*SOLID[:10], ("one", "odd", None), ("two", "odd", None)]))
    assert [counts(part)["odd"] for part in splits(dataset)] == [2, 0, 0]
    assert dataset.report.notes == ("Too few texts to stand on every side, so they are all in train: 'odd'.",)


def test_the_seed_decides_the_sides_and_nothing_else_does() -> None:
    rows = rows_of([(f"{name} {number}", name, None) for name in CLASSES for number in range(40)])
    first, again, other = assembled(rows), assembled(rows), assembled(rows, seed=1)
    assert first == again
    assert set(first.test.ids) != set(other.test.ids)
    backwards = assembled(rows[::-1])
    assert set(backwards.test.ids) == set(first.test.ids)


def test_a_text_keeps_its_side_when_others_join() -> None:
    rows = rows_of([(f"{name} {number}", name, None) for name in CLASSES for number in range(100)])
    before, after = set(assembled(rows[:290]).test.ids), set(assembled(rows).test.ids)
    assert len(before & after) >= 0.8 * len(before)


def test_of_the_same_text_the_one_that_is_tested_stays() -> None:
    given_sides: list[tuple[str, str | None, Side | None]] = [
        ("Fine film", "good", "train"),
        ("fine  film", "good", "val"),
        ("fine film", "good", "test"),
        ("dull film", "bad", "train"),
        ("DULL film", "bad", "val"),
        ("dull plot", "bad", "train"),
        ("dull cast", "bad", "test"),
        ("fine plot", "good", "train"),
    ]
    dataset = assembled(rows_of(given_sides))
    assert [part.ids for part in splits(dataset)] == [(6, 8), (5,), (3, 7)]
    assert dataset.report.dropped == {"duplicate text": 3}


def test_a_text_with_two_labels_goes_altogether() -> None:
    dataset = assembled(rows_of([*SOLID, ("so so", "bad", None), ("So so", "good", None), ("so so", "good", None)]))
    assert dataset.report.dropped == {"contradictory labels": 3}
    assert "so so" not in {plain(text) for part in splits(dataset) for text in part.texts}


def test_a_published_test_side_stays_whole() -> None:
    test: list[tuple[str, str | None, Side | None]] = [
        ("twice", "bad", "test"),
        ("twice", "bad", "test"),
        ("both", "bad", "test"),
        ("both", "good", "test"),
    ]
    train: list[tuple[str, str | None, Side | None]] = [("both", "good", "train"), ("twice", "bad", "train")]
    rows = rows_of([*((text, label, "train") for text, label, _ in SOLID), *test, *train, ("twice", None, None)])
    dataset = assembled(rows, published_test=True)
    assert dataset.test.texts == ("twice", "twice", "both", "both")
    assert dataset.report.dropped == {"contradictory labels": 1, "duplicate text": 2}


def test_an_unlabelled_text_that_is_labelled_elsewhere_goes() -> None:
    dataset = assembled(rows_of([("BAD text number 1", None, None), ("new", None, None), ("new ", None, None), *SOLID]))
    assert dataset.unlabelled == ("new",)
    assert dataset.report.dropped == {"duplicate text": 2}


def test_what_a_source_knows_is_added_to_the_report() -> None:
    report = Report(20, {"empty text": 2, "over max_rows": 0}, ("A remark.",))
    dataset = assemble(rows_of([*SOLID, SOLID[0]]), CLASSES, seed=0, report=report)
    assert dataset.report == Report(20, {"empty text": 2, "duplicate text": 1}, ("A remark.",))


def test_a_side_that_nobody_meant_is_cut_from_train_and_the_report_says_so() -> None:
    facts: list[tuple[str, str | None, Side | None]] = [(text, label, "train") for text, label, _ in SOLID]
    dataset = assembled(rows_of([*facts, ("tested", "bad", "test"), ("tested too", "good", "test")]))
    assert dataset.test.ids == (16, 17)
    assert counts(dataset.val) == dict.fromkeys(CLASSES, 1)
    assert dataset.report.notes == ("No text was meant for val; 10 % of the training texts were cut off for it.",)


def test_answers_stay_with_their_texts() -> None:
    rows = [Row(number, text, label, None, (number, -number, 0.0)) for number, (text, label, _) in enumerate(SOLID)]
    rows += [Row(99, "new", None, None, (99.0, -99.0, 0.0))]
    dataset = assembled(rows)
    for part in splits(dataset):
        assert part.answers == tuple((number, -number, 0.0) for number in part.ids)
    assert dataset.unlabelled_answers == ((99.0, -99.0, 0.0),)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ([("one", "bad", None), ("two", "good", None)], "got 2 for train, 0 for val and 0 for test"),
        ([("one", "bad", "test"), ("two", "good", "val")], "got 0 for train, 1 for val and 1 for test"),
        ([(f"bad {number}", "bad", None) for number in range(9)], "2 classes at least, got 1"),
    ],
)
def test_too_few_texts_are_refused(facts: list[tuple[str, str | None, Side | None]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        assembled(rows_of(facts))


def test_it_can_be_cancelled() -> None:
    def check() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        assemble(rows_of(SOLID), CLASSES, seed=0, report=Report(), check=check)
