"""What comes before a student: data, the teacher's answers, further texts, words, an assistant; and what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from distill_core import device, keys, teachers
from distill_core.config import DataConfig, RunConfig
from distill_core.control import Control
from distill_core.data.augment import altered
from distill_core.data.batches import EncodedTexts
from distill_core.data.profile import Profile
from distill_core.data.vocabulary import PAD_ID, UNKNOWN_ID
from distill_core.errors import Cancelled, DataError
from distill_core.events import Event, Pace, StageFinished, Step
from distill_core.job import Job
from distill_core.models.embedding import principal_components
from distill_core.models.sizes import student_model
from distill_core.store import Store
from distill_core.teaching import READING_STEPS, Teaching, prepare_data, prepare_teaching, read_data
from distill_core.training.context import Context
from distill_core.training.reading import logits_of
from tests.encoders import save_tiny
from tests.runs import config_of, made_rows, run, stages_begun, stages_found, write_csv

STILL = "training.learning_rate=1e-12"
"""So small a step that the saved student is the one that training began with."""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(device, "use_all_cores", lambda: torch.set_num_threads(1))
        yield


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 labelled texts and 12 without a label."""
    unlabelled = [{**row, "label": ""} for row in made_rows(30, seed=9)[:12]]
    return write_csv(tmp_path_factory.mktemp("data") / "reviews.csv", [*made_rows(60), *unlabelled])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A home folder that the tests of this module share, so that each teacher is trained once."""
    return Store(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("bert"))


def job_of(store: Store, config: RunConfig, events: list[Event] | None = None) -> Job:
    """A run that has not begun, whose events go into a list."""
    emit = (lambda event: None) if events is None else events.append
    context = Context(device.Compute(torch.device("cpu"), "float32"), emit, pace=Pace(0.0))
    return Job("unused", store, config, prepare_data(config, store), context)


def taught(store: Store, config: RunConfig) -> tuple[Job, Teaching, list[Event]]:
    events: list[Event] = []
    job = job_of(store, config, events)
    return job, prepare_teaching(job), events


def teacher_says(job: Job, teaching: Teaching, texts: list[str]) -> Tensor:
    """The kept teacher's logits for texts of its own reading."""
    assert teaching.folder is not None
    teacher = teachers.saved(job, teaching.folder)
    return logits_of(teacher.model, EncodedTexts.without_labels(teacher.encode_all(texts)), job.context)


def spoken(job: Job, texts: EncodedTexts, row: int) -> str:
    """A text as its words."""
    numbers = texts.flat[texts.offsets[row] : texts.offsets[row + 1]].tolist()
    return " ".join(job.data.vocabulary.tokens[number] for number in numbers)


# Data


def test_data_come_back_from_the_home_folder_as_they_were_read(store: Store, file: Path) -> None:
    config = config_of(file)
    progress: list[tuple[str, float]] = []
    first = prepare_data(config, store, progress=lambda words, part: progress.append((words, part)))
    heard = len(progress)
    again = prepare_data(config, store, progress=lambda words, part: progress.append((words, part)))
    assert len(progress) == heard, "nothing was read again"
    assert first.label_names == again.label_names == ("bad", "good")
    assert first.vocabulary.tokens == again.vocabulary.tokens
    tensors = first.tensors()
    assert tensors.keys() == again.tensors().keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in again.tensors().items())


def test_a_profile_is_kept_beside_the_token_ids(home: Store, file: Path) -> None:
    config = config_of(file)
    prepare_data(config, home)
    folder = home.cached("tokens", keys.data_key(config, home.data_folder))
    assert folder is not None
    profile = Profile.read(folder)
    assert profile.texts == {"train": 48, "val": 6, "test": 6, "unlabelled": 12}
    assert profile.rows == 72
    assert not profile.answered


def test_reading_stopped_half_way_keeps_nothing(store: Store, file: Path) -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls > 40:
            raise Cancelled

    with pytest.raises(Cancelled):
        prepare_data(config_of(file), store, check)
    assert not (store.home / "tokens").exists()


def test_reading_is_a_stage_with_progress_that_rises_to_its_end(store: Store, tmp_path: Path) -> None:
    rows = [
        {"text": f"{row['text']} number {number}", "label": row["label"]}
        for number, row in enumerate(made_rows(60) * 20)
    ]
    config, events = config_of(write_csv(tmp_path / "long.csv", rows)), list[Event]()
    context = Context(device.Compute(torch.device("cpu"), "float32"), events.append, pace=Pace(0.0))
    read_data(config, store, context)
    steps = [event.step for event in events if isinstance(event, Step)]
    assert steps == sorted(steps)
    assert 0 <= steps[0] < steps[-1] <= READING_STEPS
    assert stages_begun(events) == ["read"]
    assert isinstance(events[-1], StageFinished)
    events.clear()
    read_data(config, store, context)
    assert events == [], "a small set has no stage of reading once it is read"


def test_a_large_set_that_was_read_before_says_so(store: Store, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DataConfig, "is_large", property(lambda self: True))
    config, events = config_of(file), list[Event]()
    prepare_data(config, store)
    context = Context(device.Compute(torch.device("cpu"), "float32"), events.append, pace=Pace(0.0))
    read_data(config, store, context)
    assert stages_found(events) == ["read"]


# The teacher's answers


def test_a_teacher_answers_all_labelled_texts_once_and_is_kept(store: Store, file: Path) -> None:
    job, teaching, events = taught(store, config_of(file))
    assert stages_begun(events) == ["finetune", "cache"]
    assert teaching.texts is job.data.train
    for split in ("train", "val", "test"):
        texts: EncodedTexts = getattr(job.data, split)
        expected = teacher_says(job, teaching, [spoken(job, texts, row) for row in range(len(texts))])
        assert torch.allclose(teaching.teacher_logits.of_ids(texts.ids_N), expected, atol=1e-5)
    _, again, events = taught(store, config_of(file, "objective.beta=5"))
    assert again.folder == teaching.folder
    assert torch.equal(again.logits.logits_NC, teaching.logits.logits_NC)
    assert stages_found(events) == ["finetune", "cache"]
    assert again.seconds == {}


def test_a_teacher_is_kept_although_its_run_was_stopped_before_it_had_answered(store: Store, file: Path) -> None:
    config, events = config_of(file), list[Event]()
    job = job_of(store, config, events)

    def check() -> None:
        if "cache" in stages_begun(events):
            raise Cancelled

    with pytest.raises(Cancelled):
        prepare_teaching(replace(job, context=replace(job.context, control=Control(heed=check))))
    job, teaching, events = taught(store, config)
    assert stages_found(events) == ["finetune"]
    assert stages_begun(events) == ["cache"]
    expected = teacher_says(job, teaching, [spoken(job, job.data.val, row) for row in range(len(job.data.val))])
    assert torch.allclose(teaching.logits.of_ids(job.data.val.ids_N), expected, atol=1e-5)
    assert stages_found(taught(store, config)[2]) == ["finetune", "cache"]


def test_a_kept_teacher_reports_its_accuracy_on_validation(home: Store, file: Path) -> None:
    taught(home, config_of(file))
    job, teaching, events = taught(home, config_of(file))
    logits_NC = teaching.logits.of_ids(job.data.val.ids_N)
    expected = float((logits_NC.argmax(dim=1) == job.data.val.labels_N).float().mean())
    reported = {event.stage: event.accuracy for event in events if isinstance(event, StageFinished)}
    assert reported == {"finetune": expected, "cache": expected}


@pytest.mark.parametrize("kind", ["lstm", "pretrained"])
def test_the_teachers_answers_belong_to_the_texts_whatever_the_order(
    home: Store, file: Path, bert: Path, kind: str
) -> None:
    """Logits are looked up by sample id: those of a permuted batch are the permuted logits."""
    job, teaching, _ = taught(home, config_of(file, f"teacher.kind={kind}", f"teacher.model={bert}"))
    order = torch.randperm(len(job.data.train), generator=torch.Generator().manual_seed(2))
    ids = job.data.train.ids_N
    assert torch.equal(teaching.logits.of_ids(ids[order]), teaching.logits.of_ids(ids)[order])
    texts = dict(zip(job.texts.train.ids, job.texts.train.texts, strict=True))
    expected = teacher_says(job, teaching, [texts[int(number)] for number in ids[order]])
    assert torch.allclose(teaching.logits.of_ids(ids[order]), expected, atol=1e-5)


# Further texts


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        (["training.transfer=true"], 12),
        (["training.augment=2"], 2 * 48),
        (["training.transfer=true", "training.augment=2"], 12 + 2 * (48 + 12)),
    ],
    ids=["unlabelled", "altered", "both"],
)
def test_a_student_sees_further_texts_with_the_teachers_answers(
    home: Store, file: Path, settings: list[str], count: int
) -> None:
    job, teaching, events = taught(home, config_of(file, *settings))
    assert "transfer" in stages_begun(events)
    assert len(teaching.texts) == 48 + count
    further = slice(48, None)
    assert set(teaching.texts.labels_N[further].tolist()) == {-1}
    assert torch.equal(teaching.texts.labels_N[:48], job.data.train.labels_N)
    ids = teaching.texts.ids_N
    assert len(set(ids.tolist())) == len(ids)
    assert not set(ids[further].tolist()) & set(job.data.unlabelled.ids_N.tolist())
    texts = [spoken(job, teaching.texts, row) for row in range(48, len(teaching.texts))]
    texts = [text.replace("<unk>", "zzzz") for text in texts]
    expected = teacher_says(job, teaching, texts)
    assert torch.allclose(teaching.logits.of_ids(ids[further]), expected, atol=1e-5)
    assert torch.equal(teaching.teacher_logits.of_ids(job.data.test.ids_N), teaching.logits.of_ids(job.data.test.ids_N))


def test_further_texts_are_those_without_a_label(home: Store, file: Path) -> None:
    job, teaching, _ = taught(home, config_of(file, "training.transfer=true"))
    expected = [job.data.vocabulary.encode(text, job.config.data.max_tokens) for text in job.texts.unlabelled]
    found = [
        teaching.texts.flat[teaching.texts.offsets[row] : teaching.texts.offsets[row + 1]].tolist()
        for row in range(48, 60)
    ]
    assert found == expected


def test_altered_copies_are_made_of_training_texts_alone(home: Store, file: Path) -> None:
    job, teaching, _ = taught(home, config_of(file, "training.augment=1"))
    expected = altered(job.texts.train.texts, 1, job.config.training.seed)
    assert [spoken(job, teaching.texts, row) for row in range(48, 96)] == [
        " ".join(job.data.vocabulary.tokens[number] for number in job.encode(text)) for text in expected
    ]


def test_further_texts_make_the_run_longer_and_are_answered_once(store: Store, file: Path) -> None:
    config = config_of(file, "training.augment=2")
    first, second = run(store, config), run(store, config)
    steps = config.training.epochs * -(-3 * 48 // 8)
    for finished in (first, second):
        assert finished.history.progress["distil"].steps == steps
    assert first.history.progress["baseline"].steps == steps // 3
    assert "transfer" in first.result["seconds"]
    assert "transfer" not in second.result["seconds"]
    assert stages_found(second.events) == ["finetune", "cache", "transfer", "baseline"]
    assert second.result["student"]["nll"] == first.result["student"]["nll"]


def test_further_texts_change_the_student_and_not_the_baseline(home: Store, file: Path) -> None:
    plain, more = (run(home, config_of(file, *settings)) for settings in ([], ["training.augment=2"]))
    assert plain.result["student"]["nll"] != more.result["student"]["nll"]
    assert plain.result["baseline"]["nll"] == more.result["baseline"]["nll"]
    assert plain.result["teacher"]["nll"] == more.result["teacher"]["nll"]


def test_a_file_without_further_texts_has_none_to_add(store: Store, tmp_path: Path) -> None:
    labelled = write_csv(tmp_path / "labelled.csv", made_rows(60))
    with pytest.raises(DataError, match=r"training\.transfer must be false .* try training\.augment=4"):
        run(store, config_of(labelled, "training.transfer=true"))
    assert not (store.home / "teachers").exists(), "said before the teacher takes its time"


def test_an_encoder_answers_further_texts_by_its_own_reading(home: Store, file: Path, bert: Path) -> None:
    config = config_of(
        file, "teacher.kind=pretrained", f"teacher.model={bert}", "training.transfer=true", "training.augment=1"
    )
    job, teaching, _ = taught(home, config)
    chosen = list(job.texts.unlabelled)
    texts = [*chosen, *altered([*job.texts.train.texts, *chosen], 1, 0)]
    assert any("[MASK]" in text for text in texts)
    expected = teacher_says(job, teaching, texts)
    assert torch.allclose(teaching.logits.of_ids(teaching.texts.ids_N[48:]), expected, atol=1e-5)


# Words


def start_of(store: Store, config: RunConfig) -> tuple[Job, dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Weights of student and baseline as training finds them, and of the same student with random words."""
    finished = run(store, config)
    folder = store.run_folder(finished.run_id)
    saved = {role: load_file(folder / f"{role}.safetensors") for role in ("student", "baseline")}
    job = job_of(store, config)
    return job, saved, job.build(student_model(config)).state_dict()


def same(first: Tensor, second: Tensor) -> bool:
    return torch.allclose(first, second, atol=1e-6)


@pytest.mark.parametrize("kind", ["lstm", "pretrained"])
@pytest.mark.parametrize("student", ["lstm", "textcnn", "bag"])
def test_the_teachers_words_are_for_the_student_and_all_else_starts_equal(
    home: Store, file: Path, bert: Path, kind: str, student: str
) -> None:
    settings = [f"teacher.kind={kind}", f"teacher.model={bert}", f"student.kind={student}"]
    config = config_of(file, *settings, "student.word_vectors=teacher", STILL)
    job, saved, random = start_of(home, config)
    for name in random:
        assert same(saved["baseline"][name], random[name]), "the baseline knows nothing of the teacher"
        if name != "embedding.weight":
            assert same(saved["student"][name], random[name])
    words, teaching = saved["student"]["embedding.weight"], prepare_teaching(job)
    assert teaching.words is not None
    known = torch.arange(len(words)) != PAD_ID
    assert same(words[known], principal_components(teaching.words[known], words.shape[1]))
    assert not words[PAD_ID].any()
    assert not same(words[known], random["embedding.weight"][known])


def test_an_lstm_lends_the_vectors_that_it_has_learned(home: Store, file: Path) -> None:
    job, teaching, _ = taught(home, config_of(file, "student.word_vectors=teacher"))
    assert teaching.folder is not None
    weights = load_file(teaching.folder / "teacher.safetensors")
    assert teaching.words is not None
    assert torch.equal(teaching.words, weights["embedding.weight"])
    assert len(teaching.words) == len(job.data.vocabulary)


def test_an_encoder_reads_each_word_by_itself(home: Store, file: Path, bert: Path) -> None:
    config = config_of(file, "teacher.kind=pretrained", f"teacher.model={bert}", "student.word_vectors=teacher")
    job, teaching, _ = taught(home, config)
    assert teaching.folder is not None
    teacher = teachers.saved(job, teaching.folder)
    pool: Any = teacher.model.eval()
    assert teaching.words is not None
    for row in (2, 5, len(job.data.vocabulary) - 1):
        ids = torch.tensor([teacher.encode(job.data.vocabulary.tokens[row])])
        with torch.no_grad():
            expected = pool.pool(ids, torch.tensor([ids.shape[1]]))[0]
        assert torch.allclose(teaching.words[row], expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["lstm", "pretrained"])
def test_words_are_read_once_for_each_teacher(store: Store, file: Path, bert: Path, kind: str) -> None:
    config = config_of(file, f"teacher.kind={kind}", f"teacher.model={bert}", "student.word_vectors=teacher")
    _, first, events = taught(store, config)
    assert stages_begun(events) == ["finetune", "cache", "words"]
    _, second, events = taught(store, config)
    assert stages_found(events) == ["finetune", "cache", "words"]
    assert first.words is not None
    assert second.words is not None
    assert torch.equal(first.words, second.words)


@pytest.fixture
def glove_home(store: Store, file: Path) -> Store:
    """A home folder with vectors of 50 numbers for all words but one."""
    chance = torch.Generator().manual_seed(4)
    words = [*prepare_data(config_of(file), store).vocabulary.tokens[2:], "elsewhere"]
    vectors = torch.randn(len(words), 50, generator=chance).tolist()
    lines = [
        " ".join([word, *(f"{number:.4f}" for number in vector)])
        for word, vector in zip(words, vectors, strict=True)
        if word != "film"
    ]
    store.data_folder.mkdir(parents=True)
    (store.data_folder / "glove.6B.50d.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return store


def test_glove_is_for_student_and_baseline_alike(glove_home: Store, file: Path) -> None:
    job, saved, random = start_of(glove_home, config_of(file, "student.word_vectors=glove", STILL))
    for name in random:
        assert same(saved["student"][name], saved["baseline"][name])
        assert same(saved["student"][name], random[name]) == (name != "embedding.weight")
    words, tokens = saved["student"]["embedding.weight"], job.data.vocabulary.tokens
    unknown = [PAD_ID, UNKNOWN_ID, tokens.index("film")]
    assert same(words[unknown], random["embedding.weight"][unknown]), "a word that GloVe lacks starts at random"
    given = {
        line.split()[0]: torch.tensor([float(number) for number in line.split()[1:]])
        for line in (glove_home.data_folder / "glove.6B.50d.txt").read_text(encoding="utf-8").splitlines()
    }
    known = [row for row in range(len(tokens)) if row not in unknown]
    expected = principal_components(torch.stack([given[tokens[row]] for row in known]), words.shape[1])
    assert same(words[known], expected)


def test_glove_needs_no_stage_and_no_teachers_words(glove_home: Store, file: Path) -> None:
    _, teaching, events = taught(glove_home, config_of(file, "student.word_vectors=glove"))
    assert "words" not in stages_begun(events)
    assert teaching.words is not None
    assert teaching.words.shape[1] == 50
    assert not (glove_home.home / "words").exists()


def test_glove_that_is_not_there_is_asked_for_by_its_place(store: Store, file: Path) -> None:
    config = config_of(file, "student.word_vectors=glove")
    with pytest.raises(DataError) as caught:
        run(store, config)
    for words in ("student.word_vectors 'glove'", str(store.data_folder / "glove.6B.100d.txt"), "nlp.stanford.edu"):
        assert words in str(caught.value)
    assert not (store.home / "teachers").exists(), "said before the teacher takes its time"


def test_glove_that_knows_no_word_is_refused(store: Store, file: Path) -> None:
    store.data_folder.mkdir(parents=True)
    (store.data_folder / "glove.6B.50d.txt").write_text("elsewhere 0.1 0.2 0.3\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"student\.word_vectors must be random or teacher here"):
        taught(store, config_of(file, "student.word_vectors=glove"))


# The assistant


def test_an_assistant_answers_in_the_teachers_place_for_the_student_alone(home: Store, file: Path) -> None:
    job, teaching, events = taught(
        home, config_of(file, "teacher.size=S", "training.assistant=XS", "training.augment=1")
    )
    assert stages_begun(events)[-1] == "assistant"
    assert set(teaching.logits.ids_N.tolist()) == set(teaching.texts.ids_N.tolist())
    ids = teaching.texts.ids_N
    own = replace(job, config=config_of(file, "teacher.size=S", "training.augment=1"))
    of_teacher = prepare_teaching(own)
    assert not torch.allclose(teaching.logits.of_ids(ids), of_teacher.logits.of_ids(ids), atol=1e-2)
    labelled = of_teacher.teacher_logits
    assert torch.equal(teaching.teacher_logits.of_ids(labelled.ids_N), labelled.logits_NC)


def test_a_student_of_an_assistant_is_measured_against_the_teacher(home: Store, file: Path) -> None:
    from distill_core.analysis.metrics import fidelity
    from distill_core.analysis.predict import Predictor

    finished = run(home, config_of(file, "teacher.size=S", "training.assistant=XS"))
    texts = job_of(home, finished.config).texts.test.texts
    logits = {role: reader.logits(texts) for role, reader in Predictor.load(home, finished.run_id).readers.items()}
    expected = fidelity(logits["student"], logits["teacher"])
    assert {name: finished.result["student"][name] for name in expected} == pytest.approx(expected, rel=1e-3)
    assert finished.history.progress["assistant"].accuracy is not None
    assert finished.result["seconds"]["assistant"] > 0


def test_an_assistant_is_an_lstm_of_its_size_also_below_an_encoder(
    home: Store, file: Path, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Any] = []
    original = Job.build

    def build(job: Job, settings: Any, seed: int | None = None) -> Any:
        built.append(settings)
        return original(job, settings, seed)

    monkeypatch.setattr(Job, "build", build)
    config = config_of(file, "teacher.kind=pretrained", f"teacher.model={bert}", "training.assistant=M")
    taught(home, config)
    assert [(settings.kind, settings.size) for settings in built] == [("lstm", "M")]
