"""Keys of cached things: they change with all that decides the thing, and with nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from distill_core import keys
from distill_core.config import RunConfig
from distill_core.data import sources
from distill_core.errors import DataError
from distill_core.presets import load

FOLDER = Path("/nowhere/data")
DATA = [
    "data.text_column=text",
    "data.label_column=label",
    "data.split_column=split",
    'data.label_names={"0": "negative"}',
    "data.split_seed=1",
    "data.max_rows=5000",
    "data.min_frequency=3",
    "data.max_vocabulary=5000",
    "data.max_tokens=64",
    "data.train_limit=100",
    "data.unlabelled_limit=0",
]
READING = ["data.min_frequency=3", "data.max_vocabulary=5000", "data.max_tokens=64", "data.unlabelled_limit=0"]
LSTM = [
    "teacher.size=L",
    "teacher.bidirectional=false",
    "teacher.layers=2",
    "teacher.pooling=last",
    "teacher.dropout=0.2",
    "teacher.pretrain=false",
    "teacher.pretrain_task=lsa",
    "teacher.pretrain_epochs=2",
    "teacher.pretrain_learning_rate=0.01",
    "teacher.learning_rate=0.01",
]
ENCODER = [
    "teacher.model=/models/other",
    "teacher.frozen=true",
    "teacher.encoder_learning_rate=0.0001",
    "teacher.encoder_max_tokens=64",
]
ANY_TEACHER = ["teacher.epochs=5", "teacher.batch_size=32"]
STUDENT = [
    "student.kind=textcnn",
    "student.size=XL",
    "student.bidirectional=false",
    "student.layers=2",
    "student.pooling=last",
    "student.dropout=0.1",
    "student.word_vectors=teacher",
    "student.like_teacher=true",
    "objective.mode=joint",
    "objective.divergence=logit_mse",
    "objective.student_ce_weight=0",
    "objective.teacher_ce_weight=0.5",
    "objective.beta_ramp=0.5",
    "objective.beta=9",
    "objective.temperature=5",
    "training.epochs=2",
    "training.learning_rate=0.1",
    "training.batch_size=16",
    "training.baseline=false",
    "training.average_weights=true",
    "training.transfer=true",
    "training.augment=2",
    "training.assistant=S",
    "training.seeds=3",
]


def changed(setting: str) -> RunConfig:
    return load(settings=[setting])


def data_key(config: RunConfig) -> str:
    return keys.data_key(config, FOLDER)


def teacher_key(config: RunConfig, precision: str = "float32") -> str:
    return keys.teacher_key(config, precision, FOLDER)


def transfer_key(config: RunConfig, precision: str = "float32") -> str:
    return keys.transfer_key(config, precision, FOLDER)


def words_key(config: RunConfig, precision: str = "float32") -> str:
    return keys.words_key(config, precision, FOLDER)


def test_keys_of_equal_configurations_are_equal() -> None:
    assert data_key(RunConfig()) == data_key(load())
    assert teacher_key(RunConfig()) == teacher_key(load())
    assert data_key(RunConfig()) != teacher_key(RunConfig())


@pytest.mark.parametrize("setting", DATA)
def test_a_data_setting_changes_both_keys(setting: str) -> None:
    assert data_key(changed(setting)) != data_key(RunConfig())
    assert teacher_key(changed(setting)) != teacher_key(RunConfig())


@pytest.mark.parametrize("setting", ["teacher.kind=pretrained", *LSTM, *ANY_TEACHER, "training.seed=1"])
def test_a_setting_of_an_lstm_changes_the_teachers_key_alone(setting: str) -> None:
    assert data_key(changed(setting)) == data_key(RunConfig())
    assert teacher_key(changed(setting)) != teacher_key(RunConfig())


def encoder(*settings: str) -> RunConfig:
    return load(settings=["teacher.kind=pretrained", *settings])


@pytest.mark.parametrize("setting", [*ENCODER, *ANY_TEACHER, "training.seed=1", "data.train_limit=100"])
def test_a_setting_of_an_encoder_changes_its_key(setting: str) -> None:
    assert teacher_key(encoder(setting)) != teacher_key(encoder())


@pytest.mark.parametrize("setting", [*LSTM, *READING])
def test_what_an_encoder_does_not_read_keeps_it(setting: str) -> None:
    assert teacher_key(encoder(setting)) == teacher_key(encoder())


@pytest.mark.parametrize("setting", READING)
def test_texts_and_words_are_those_of_the_students_vocabulary(setting: str) -> None:
    for key in (transfer_key, words_key):
        assert key(encoder(setting)) != key(encoder())


@pytest.mark.parametrize("setting", ENCODER)
def test_an_lstm_knows_nothing_of_an_encoders_settings(setting: str) -> None:
    assert teacher_key(changed(setting)) == teacher_key(RunConfig())


@pytest.mark.parametrize("setting", STUDENT)
def test_a_students_setting_keeps_the_teacher(setting: str) -> None:
    assert data_key(changed(setting)) == data_key(RunConfig())
    assert teacher_key(changed(setting)) == teacher_key(RunConfig())


def names_in(settings: list[str], section: str) -> set[str]:
    paths = [setting.partition("=")[0].partition(".") for setting in settings]
    return {name for part, _, name in paths if part == section}


def test_every_setting_of_the_configuration_was_tried_above() -> None:
    config, tried = RunConfig(), [*LSTM, *ENCODER, *ANY_TEACHER]
    assert set(type(config.data).model_fields) - names_in(DATA, "data") == {"name", "path"}
    assert set(type(config.teacher).model_fields) - names_in(tried, "teacher") == {"kind"}
    assert set(type(config.student).model_fields) - names_in(STUDENT, "student") == set()
    assert set(type(config.objective).model_fields) - names_in(STUDENT, "objective") == set()
    assert set(type(config.training).model_fields) - names_in(STUDENT, "training") == {
        "seed",
        "precision",
        "label_share",
    }


def test_precision_that_computed_a_teacher_is_part_of_its_key() -> None:
    assert teacher_key(RunConfig(), "bfloat16") != teacher_key(RunConfig(), "float32")


def test_another_version_of_the_data_changes_both_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    before = data_key(RunConfig()), teacher_key(RunConfig())
    monkeypatch.setattr(sources, "version", lambda package: "9.9")
    after = data_key(RunConfig()), teacher_key(RunConfig())
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_another_pytorch_changes_the_teachers_key_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = data_key(RunConfig()), teacher_key(RunConfig())
    monkeypatch.setattr(keys, "_version", lambda package: "9.9")
    assert data_key(RunConfig()) == before[0]
    assert teacher_key(RunConfig()) != before[1]


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up source tree in place of ours."""
    for file in ("data/sources.py", "models/classifier.py", "training/loop.py"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text(f"# {file}", encoding="utf-8")
    for file in ("teachers.py", "teaching.py"):
        (tmp_path / file).write_text(f"# {file}", encoding="utf-8")
    monkeypatch.setattr(keys, "__file__", str(tmp_path / "keys.py"))
    return tmp_path


@pytest.mark.parametrize(
    ("file", "data_changes"),
    [
        ("data/sources.py", True),
        ("models/classifier.py", False),
        ("training/loop.py", False),
        ("training/new.py", False),
        ("teachers.py", False),
        ("teaching.py", False),
    ],
)
def test_what_old_code_computed_is_not_taken_for_new(code: Path, file: str, data_changes: bool) -> None:
    before = data_key(RunConfig()), teacher_key(RunConfig())
    (code / file).write_text("# changed", encoding="utf-8")
    assert (data_key(RunConfig()) != before[0]) is data_changes
    assert teacher_key(RunConfig()) != before[1]


def test_code_version_ignores_other_packages_and_other_files(code: Path) -> None:
    before = keys.code_version("models")
    (code / "training/loop.py").write_text("# changed", encoding="utf-8")
    (code / "models/notes.txt").write_text("not code", encoding="utf-8")
    assert keys.code_version("models") == before
    assert keys.code_version("models", "training") != before


# Data sets and files


@pytest.mark.parametrize("name", ["bbc_news", "csv", "imdb", "hf:ag_news"])
def test_another_data_set_has_other_keys(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "version", lambda package: "1.0")
    file = tmp_path / "texts.csv"
    file.write_text("text,label\na,b\n", encoding="utf-8")
    settings = [f"data.name={name}"] + ([f"data.path={file}"] if name == "csv" else [])
    other = load(settings=settings)
    assert data_key(other) != data_key(RunConfig())
    assert teacher_key(other) != teacher_key(RunConfig())


def of_file(path: Path, *settings: str) -> RunConfig:
    return load(settings=["data.name=csv", f"data.path={path}", *settings])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "texts.csv"
    made.write_text("text,label\na fine film,good\na dull film,bad\n", encoding="utf-8")
    return made


def test_where_a_file_lies_does_not_matter(tmp_path: Path, file: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    copy = Path(shutil.copy(file, tmp_path / "elsewhere" / "other name.csv"))
    for key in (data_key, teacher_key, transfer_key, words_key):
        assert key(of_file(copy)) == key(of_file(file))


def test_what_is_in_a_file_matters(file: Path) -> None:
    before = data_key(of_file(file)), teacher_key(of_file(file))
    file.write_text(file.read_text(encoding="utf-8").replace("dull", "weak"), encoding="utf-8")
    assert data_key(of_file(file)) != before[0]
    assert teacher_key(of_file(file)) != before[1]


def test_a_file_that_is_gone_has_no_key(file: Path) -> None:
    config = of_file(file)
    file.unlink()
    with pytest.raises(DataError, match=r"data\.path must be a file that exists"):
        data_key(config)


# Further texts and words


@pytest.mark.parametrize("setting", ["training.transfer=true", "training.augment=1", "training.augment=2"])
def test_how_texts_are_added_changes_the_key_of_the_further_texts_alone(setting: str) -> None:
    assert transfer_key(changed(setting)) != transfer_key(RunConfig())
    assert words_key(changed(setting)) == words_key(RunConfig())
    assert teacher_key(changed(setting)) == teacher_key(RunConfig())


def test_each_number_of_copies_and_each_source_of_texts_has_a_key_of_its_own() -> None:
    settings = [[], ["training.transfer=true"], ["training.augment=1"], ["training.augment=2"]]
    settings.append(["training.transfer=true", "training.augment=1"])
    assert len({transfer_key(load(settings=chosen)) for chosen in settings}) == 5


@pytest.mark.parametrize("setting", ["teacher.size=L", "training.seed=1", "data.max_tokens=64"])
def test_another_teacher_says_other_things_about_texts_and_words(setting: str) -> None:
    for key in (transfer_key, words_key):
        assert key(changed(setting)) != key(RunConfig())
        assert key(RunConfig(), "bfloat16") != key(RunConfig(), "float32")


@pytest.mark.parametrize("setting", ["student.kind=bag", "student.size=XL", "objective.beta=9", "training.epochs=2"])
def test_another_student_hears_the_same_about_texts_and_words(setting: str) -> None:
    for key in (transfer_key, words_key):
        assert key(changed(setting)) == key(RunConfig())


def test_no_two_kinds_of_cached_things_share_a_key() -> None:
    config = RunConfig()
    assert len({data_key(config), teacher_key(config), transfer_key(config), words_key(config)}) == 4


def test_an_encoder_in_a_folder_is_known_by_its_content_too(tmp_path: Path) -> None:
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    (encoder / "model.safetensors").write_bytes(b"first")
    config = load(settings=["teacher.kind=pretrained", f"teacher.model={encoder}"])
    before = keys.teacher_key(config, "float32", tmp_path)
    assert keys.teacher_key(config, "float32", tmp_path) == before
    (encoder / "model.safetensors").write_bytes(b"second")
    assert keys.teacher_key(config, "float32", tmp_path) != before
