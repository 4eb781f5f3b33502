"""Everything that comes before a student: the data, the teacher, and what the teacher says.

What takes long is kept in the home folder under a hash of all that decides it, so that the next run with the same
teacher, and every cell of a sweep, starts at the student.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from distill_core import keys, teachers
from distill_core.analysis import metrics
from distill_core.analysis.predict import LATENCY_TEXTS
from distill_core.config import RunConfig
from distill_core.data import augment, batches, sources
from distill_core.data.batches import EncodedDataset, EncodedTexts, SampleLogits
from distill_core.data.profile import Profile
from distill_core.data.summary import summarise
from distill_core.data.torchtext_parts import glove
from distill_core.data.vocabulary import Vocabulary, separate
from distill_core.device import Precision
from distill_core.errors import DataError
from distill_core.events import StageFinished, StageStarted, Step, stages_of
from distill_core.job import Job
from distill_core.models.sizes import assistant_model, work_of
from distill_core.store import TEACHER_LOGITS, Store
from distill_core.training import student, teacher
from distill_core.training.context import Context
from distill_core.training.reading import logits_of

READING_STEPS = 1000
"""Into so many parts the reading of a data set is divided for its progress."""
READ_SHARE = 0.5
"""Part of the reading that is getting the texts; the rest is tokenising them."""


# Data


def prepare_data(
    config: RunConfig,
    store: Store,
    check: Callable[[], None] = lambda: None,
    progress: Callable[[str, float], None] = lambda words, part: None,
) -> EncodedDataset:
    """The data set as token ids: from the home folder, or read, tokenised and kept there.

    Args:
        check: called often; what it raises ends the work.
        progress: hears what is being done and the part that is done, 0 to 1.
    """
    key = keys.data_key(config, store.data_folder)
    folder = store.usable("tokens", key)
    if folder is None:
        dataset = sources.load(
            config.data, store.data_folder, check, lambda words, part: progress(words, READ_SHARE * part)
        )
        encoded = batches.encode(
            dataset,
            config.data,
            check,
            lambda part: progress("Counting words", READ_SHARE + (1 - READ_SHARE) * part),
        )
        profile = summarise(dataset, encoded)
        samples = dataset.test.texts[:LATENCY_TEXTS]
        folder = store.publish("tokens", key, lambda path: _write_tokens(path, encoded, profile, samples))
    vocabulary = Vocabulary.from_json((folder / "vocabulary.json").read_text(encoding="utf-8"))
    data = EncodedDataset.from_tensors(
        Profile.read(folder).labels, vocabulary, load_file(folder / "tokens.safetensors")
    )
    return replace(data, samples=tuple(json.loads((folder / "samples.json").read_text(encoding="utf-8"))))


def _write_tokens(folder: Path, encoded: EncodedDataset, profile: Profile, samples: Sequence[str]) -> None:
    # Predictions are timed at the end of a run, when a file may lie elsewhere.
    (folder / "samples.json").write_text(json.dumps(samples), encoding="utf-8")
    (folder / "vocabulary.json").write_text(encoded.vocabulary.to_json(), encoding="utf-8")
    profile.write(folder)
    save_file(encoded.tensors(), folder / "tokens.safetensors")


def read_data(config: RunConfig, store: Store, context: Context) -> EncodedDataset:
    """The same as a stage of a run, with its progress, where the data set has not been read before."""
    if store.cached("tokens", keys.data_key(config, store.data_folder)) is not None:
        _report_cached(config, context, "read")
        return prepare_data(config, store, context.check)

    def progress(words: str, part: float) -> None:
        if context.pace.due():
            context.emit(Step("read", int(part * READING_STEPS), 0, None, None, None, None))

    with context.stage("read", READING_STEPS):
        return prepare_data(config, store, context.check, progress)


# What the teacher says


@dataclass(frozen=True)
class Teaching:
    """What a student learns from.

    `texts` are the training texts and, where the run says so, further ones without labels; `logits` are the answers
    of the teacher (or its assistant) to them by sample id, `teacher_logits` the teacher's own to the labelled splits.
    `folder` holds the trained teacher, unless it is a file. `words` are its vectors for the vocabulary's words.
    """

    folder: Path | None
    texts: EncodedTexts
    logits: SampleLogits
    teacher_logits: SampleLogits
    words: Tensor | None
    seconds: dict[str, float]


def prepare_teaching(job: Job) -> Teaching:
    """Obtains a teacher, lets it answer, and has an assistant taught where the run asks for one.

    Raises:
        DataError: as `prepare_teacher` does.
    """
    return _with_assistant(job, prepare_teacher(job))


def prepare_teacher(job: Job) -> Teaching:
    """The same without an assistant, which each run trains for itself: what a teacher has made is kept for others.

    Raises:
        DataError: something that the student needs is missing; said before the teacher takes its time.
    """
    vectors, training = job.config.student.word_vectors, job.config.training
    given = _glove_vectors(job) if vectors == "glove" else None
    from_file = job.config.teacher.kind == "file"
    if training.transfer and not (from_file or training.augment or len(job.data.unlabelled)):
        raise _no_further_texts(job)
    teaching = _answers_of_file(job) if from_file else _obtain_teacher(job)
    if job.config.transfers:
        teaching = _with_transfer(job, teaching)
    return _with_words(job, teaching) if vectors == "teacher" else replace(teaching, words=given)


def _answers_of_file(job: Job) -> Teaching:
    answers = job.data.answers
    if answers is None:
        wanted = ", ".join(f"teacher_{label}" for label in job.data.label_names)
        raise DataError(
            f"data file {job.config.data.path!r} must have the columns {wanted} when teacher.kind is file, got none "
            "of them; add the teacher's probabilities, or choose another kind of teacher"
        )
    return Teaching(None, job.data.train, answers, answers, None, {})


def _obtain_teacher(job: Job) -> Teaching:
    """The teacher of this configuration: from the home folder, or trained and kept there, with its answers."""
    key = keys.teacher_key(job.config, _precision(job), job.store.data_folder)
    folder, seconds = job.store.usable("teachers", key), dict[str, float]()
    if folder is None:
        trained = new = teachers.new(job)
        seconds = teachers.train(new, job)
        folder = job.store.publish("teachers", key, lambda path: _write_teacher(path, job.config, new))
    elif (folder / TEACHER_LOGITS).is_file():
        logits = SampleLogits.from_tensors(load_file(folder / TEACHER_LOGITS))
        accuracy = metrics.accuracy(logits.of_ids(job.data.val.ids_N), job.data.val.labels_N)
        for stage in ("pretrain", "finetune", "cache"):
            _report_cached(job.config, job.context, stage, None if stage == "pretrain" else accuracy)
        return Teaching(folder, job.data.train, logits, logits, None, seconds)
    else:  # somebody stopped the run that trained it, before it had answered
        trained = teachers.saved(job, folder)
        for stage in ("pretrain", "finetune"):
            _report_cached(job.config, job.context, stage)
    parts = teachers.readings(trained, job, ("train", "val", "test"))
    logits, seconds["cache"] = teacher.cache_logits(trained.model, parts, job.context)
    job.store.complete("teachers", key, TEACHER_LOGITS, logits.tensors())
    return Teaching(folder, job.data.train, logits, logits, None, seconds)


def _precision(job: Job) -> Precision:
    """That of the teacher."""
    return job.context.compute.precision_of(work_of(job.config.teacher))


def _write_teacher(folder: Path, config: RunConfig, trained: teachers.Teacher) -> None:
    (folder / "config.json").write_text(config.to_json(), encoding="utf-8")
    trained.save(folder)


def _report_cached(config: RunConfig, context: Context, stage: str, accuracy: float | None = None) -> None:
    if stage in stages_of(config):
        context.emit(StageStarted(stage, 0, cached=True))
        context.emit(StageFinished(stage, 0.0, accuracy))


def _with_transfer(job: Job, teaching: Teaching) -> Teaching:
    """Adds texts without labels: the data set's own, altered copies, or both, and the teacher's answers to them."""
    if teaching.folder is None:
        return _with_answered_texts(job, teaching)
    key = keys.transfer_key(job.config, _precision(job), job.store.data_folder)
    folder, seconds = job.store.usable("transfer", key), dict[str, float]()
    if folder is None:
        texts = _transfer_texts(job)
        own = teachers.saved(job, teaching.folder)
        first = len(job.data.unlabelled)
        read = EncodedTexts.without_labels(teachers.encoded_texts(own, job, texts), first)
        student_reads = EncodedTexts.without_labels([job.encode(text) for text in texts], first)
        logits, seconds["transfer"] = teacher.cache_logits(own.model, [read], job.context, stage="transfer")
        tensors = {**student_reads.tensors(), "answer_ids": logits.ids_N, "answers": logits.logits_NC}
        folder = job.store.publish("transfer", key, lambda path: save_file(tensors, path / "transfer.safetensors"))
    else:
        _report_cached(job.config, job.context, "transfer")
    found = load_file(folder / "transfer.safetensors")
    answers = SampleLogits(found.pop("answer_ids"), found.pop("answers"))
    return replace(
        teaching,
        texts=teaching.texts.joined(EncodedTexts(**found)),
        logits=teaching.logits.joined(answers),
        seconds=teaching.seconds | seconds,
    )


def _with_answered_texts(job: Job, teaching: Teaching) -> Teaching:
    """Adds those texts without labels that a file's teacher has answered."""
    texts = job.data.unlabelled
    known = torch.isin(texts.ids_N, teaching.logits.ids_N)
    if not bool(known.all()) or not len(texts):
        raise DataError(
            f"training.transfer must be false for {job.config.data.path!r}, got True; it has no rows without a label "
            "that the teacher has answered"
        )
    return replace(teaching, texts=teaching.texts.joined(texts))


def _transfer_texts(job: Job) -> list[str]:
    training, texts = job.config.training, job.texts
    train_lengths = [len(separate(text).split()) for text in texts.train.texts]
    unlabelled = augment.like_training(texts.unlabelled, sum(train_lengths) / len(train_lengths))
    chosen = unlabelled if training.transfer else []
    copies = augment.altered([*texts.train.texts, *chosen], training.augment, training.seed, job.context.check)
    if not chosen and not copies:
        raise _no_further_texts(job)
    return [*chosen, *copies]


def _no_further_texts(job: Job) -> DataError:
    return DataError(
        f"training.transfer must be false for {job.config.data.name}, got True; it has no texts without labels; "
        "try training.augment=4"
    )


def _with_words(job: Job, teaching: Teaching) -> Teaching:
    """Adds what the teacher makes of each word, for the student's words to start from."""
    assert teaching.folder is not None
    key = keys.words_key(job.config, _precision(job), job.store.data_folder)
    folder, seconds = job.store.usable("words", key), dict[str, float]()
    if folder is None:
        started = time.perf_counter()
        words = teachers.word_vectors(teachers.saved(job, teaching.folder), job)
        seconds["words"] = time.perf_counter() - started
        folder = job.store.publish("words", key, lambda path: save_file({"words": words}, path / "words.safetensors"))
    else:
        _report_cached(job.config, job.context, "words")
    words = load_file(folder / "words.safetensors")["words"]
    return replace(teaching, words=words, seconds=teaching.seconds | seconds)


def _glove_vectors(job: Job) -> Tensor:
    """GloVe's vectors of the vocabulary's words, `[V, W]`; 0 for those that it does not know."""
    known = glove(job.data.vocabulary.tokens, job.store.data_folder)
    if not known:
        raise DataError(
            "student.word_vectors must be random or teacher here, got 'glove'; GloVe knows none of the words"
        )
    nothing = torch.zeros_like(next(iter(known.values())))
    return torch.stack([known.get(token, nothing) for token in job.data.vocabulary.tokens])


def _with_assistant(job: Job, teaching: Teaching) -> Teaching:
    """Lets an assistant learn from the teacher and answer in its place (Mirzadeh et al. 2020, arXiv 1902.03393)."""
    settings = assistant_model(job.config)
    if settings is None:
        return teaching
    config, context = job.config, job.context
    assistant = job.build(settings)
    steps = student.step_count(teaching.texts, config.training)
    with context.stage("assistant", steps) as outcome:
        outcome.accuracy = student.distil(
            assistant,
            teaching.texts,
            job.data.val,
            teaching.logits,
            objective=config.objective,
            training=config.training,
            seed=config.training.seed,
            context=context,
            stage="assistant",
        ).accuracy
        logits = SampleLogits.of([(teaching.texts, logits_of(assistant, teaching.texts, context))])
    return replace(teaching, logits=logits, seconds={**teaching.seconds, "assistant": outcome.seconds})
