"""What the models of a finished run say about texts. Shapes: `N` texts, `B` texts of a batch, `C` classes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from distill_core import device
from distill_core.config import ModelConfig, RunConfig
from distill_core.data.batches import READING_TOKENS, EncodedTexts, sorted_batches
from distill_core.data.vocabulary import Vocabulary, tokenize
from distill_core.errors import ConfigError, DataError, RunError
from distill_core.models import classifier
from distill_core.models.sizes import student_model
from distill_core.store import ENCODER, TEACHER_WEIGHTS, Store
from distill_core.training.losses import kl_by_text

CHUNK = 4096
"""Texts that are read at once, and put in order of length."""
CHARACTERS = 10_000_000
"""The same of long texts, which bounds the memory."""
LATENCY_TEXTS = 100


class Reading(Protocol):
    """A model's way to turn texts into token ids."""

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, never empty."""

    def align(self, text: str, spans: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
        """Token ids of a text, and the word that each belongs to; −1 for those that belong to none."""


@dataclass(frozen=True)
class VocabularyReading:
    """How a model with a vocabulary of its own reads: words, cut after `max_tokens`."""

    vocabulary: Vocabulary
    max_tokens: int

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, never empty."""
        return [self.vocabulary.encode(text, self.max_tokens) for text in texts]

    def align(self, text: str, spans: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
        """Token ids of a text, and the word that each belongs to; −1 where a text has none at all."""
        read = [(token, place) for place, (first, last) in enumerate(spans) for token in tokenize(text[first:last])]
        ids = self.vocabulary.numbers([token for token, _ in read], self.max_tokens)
        return ids, [place for _, place in read[: len(ids)]] or [-1]


@dataclass(frozen=True)
class Reader:
    """A model, its way to read, and the device that it is on."""

    model: nn.Module
    reading: Reading
    device: torch.device

    def logits(self, texts: Sequence[str], check: Callable[[], None] = lambda: None) -> Tensor:
        """Logits `[N, C]` of texts, in their order, on the CPU.

        Args:
            check: called before each batch; what it raises ends the work.
        """
        encoded, order, parts = EncodedTexts.without_labels(self.reading.encode_all(texts)), [], []
        for rows, batch in sorted_batches(encoded, READING_TOKENS):
            check()
            moved = batch.to(self.device)
            with torch.inference_mode():
                parts.append(self.model(moved.tokens_BT, moved.lengths_B).cpu())
            order.append(rows)
        return torch.cat(parts)[torch.cat(order).argsort()]


@dataclass(frozen=True)
class Predictor:
    """The models of one run with its words and labels. Any number of threads may ask it at the same time.

    It computes in float32, on a GPU where there is one. A teacher that is a file has no model and is not among
    `readers`, whose keys are `teacher`, `student` and, where the run has one, `baseline`.
    """

    label_names: tuple[str, ...]
    vocabulary: Vocabulary
    max_tokens: int
    readers: dict[str, Reader]

    @classmethod
    def load(cls, store: Store, run_id: str, roles: Collection[str] | None = None) -> Predictor:
        """Reads the models of a run.

        Args:
            roles: those that are wanted; all by default.

        Raises:
            RunError: the run has not finished, or its models cannot be read.
            ConfigError: the run has no model of such a role.
        """
        result = store.result(run_id)
        if result is None:
            state = store.status(run_id).status
            raise RunError(f"run must be finished, got {run_id!r} which is {state}; choose another or wait")
        with _telling(run_id):
            there = _models(store.config(run_id), store.run_folder(run_id), result)
            unknown = sorted(set(roles or ()) - set(there.readers))
            if unknown:
                known = ", ".join(there.readers)
                raise ConfigError(f"models must be among {known} in run {run_id}, got {', '.join(unknown)}")
            wanted = {role: read() for role, read in there.readers.items() if roles is None or role in roles}
        return cls(tuple(result["labels"]), there.vocabulary, there.max_tokens, wanted)

    def logits(self, texts: Sequence[str], check: Callable[[], None] = lambda: None) -> dict[str, Tensor]:
        """Each model's logits `[N, C]`, in the order of the texts. A text without any word counts as an unknown one.

        Args:
            check: called often; what it raises ends the work.
        """
        parts: dict[str, list[Tensor]] = {role: [torch.empty(0, len(self.label_names))] for role in self.readers}
        for first in range(0, len(texts), CHUNK):
            for role, reader in self.readers.items():
                parts[role].append(reader.logits(texts[first : first + CHUNK], check))
        return {role: torch.cat(found) for role, found in parts.items()}

    def predict(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """One answer a text, in order.

        Each has `text`, a probability for each label under each model's role, `kl` (student ‖ teacher, nats) and
        `agree` (whether student and teacher choose the same label). Where there is no teacher to ask, as it is a file
        or was not loaded, `teacher`, `kl` and `agree` are None.

        Raises:
            DataError: a text is empty.
        """
        for text in texts:
            if not text.strip():
                raise DataError(f"text must not be empty, got {text!r}; type a sentence")
        return self._answers(texts)

    def stream(self, texts: Iterable[str]) -> Iterator[dict[str, Any]]:
        """The same for any number of texts, of which only some thousands are held at a time.

        A text without a word gets None in place of each answer, and an `error`.
        """
        for chunk in _chunks(texts):
            answers = iter(self._answers([text for text in chunk if text.strip()]))
            for text in chunk:
                yield next(answers) if text.strip() else self._unanswered(text)

    def reading(self, text: str) -> tuple[int, int, int]:
        """How many of a text's tokens the models know, how many they read, and how many there are."""
        tokens = tokenize(text)
        ids = self.vocabulary.numbers(tokens, self.max_tokens)
        return sum(self.vocabulary.is_word(number) for number in ids), len(ids), max(len(tokens), 1)

    def _answers(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        logits = self.logits(texts)
        spoken = {role: self._named(logits_NC.softmax(dim=1)) for role, logits_NC in logits.items()}
        compared = self._compared(logits) if {"teacher", "student"} <= logits.keys() else None
        answers = []
        for row, text in enumerate(texts):
            own: dict[str, Any] = {role: named[row] for role, named in spoken.items()}
            kl, agree = (None, None) if compared is None else compared[row]
            answers.append({"text": text, "teacher": None, **own, "kl": kl, "agree": agree})
        return answers

    def _named(self, probabilities_NC: Tensor) -> list[dict[str, float]]:
        return [dict(zip(self.label_names, row, strict=True)) for row in probabilities_NC.tolist()]

    @staticmethod
    def _compared(logits: Mapping[str, Tensor]) -> list[tuple[float, bool]]:
        """KL(student ‖ teacher) of each text, and whether both choose one label."""
        student_NC, teacher_NC = logits["student"], logits["teacher"]
        agree_N = student_NC.argmax(dim=1) == teacher_NC.argmax(dim=1)
        return list(zip(kl_by_text(student_NC, teacher_NC).tolist(), agree_N.tolist(), strict=True))

    def _unanswered(self, text: str) -> dict[str, Any]:
        nothing = dict.fromkeys(["teacher", *self.readers, "kl", "agree"])
        return {"text": text, **nothing, "error": "text must not be empty; type a sentence"}


@dataclass(frozen=True)
class _Models:
    """The models of a run that are still to be read."""

    vocabulary: Vocabulary
    max_tokens: int
    readers: Mapping[str, Callable[[], Reader]]


def _models(config: RunConfig, folder: Path, result: Mapping[str, Any]) -> _Models:
    classes, max_tokens = len(result["labels"]), config.data.max_tokens
    vocabulary = Vocabulary.from_json((folder / "vocabulary.json").read_text(encoding="utf-8"))

    def own(role: str, settings: ModelConfig) -> Reader:
        model = classifier.build(settings, len(vocabulary), classes)
        return _ready(model, folder / f"{role}.safetensors", VocabularyReading(vocabulary, max_tokens))

    readers: dict[str, Callable[[], Reader]] = {}
    if config.teacher.kind == "lstm":
        readers["teacher"] = partial(own, "teacher", config.teacher)
    elif config.teacher.kind == "pretrained":
        readers["teacher"] = partial(_encoder, folder, classes, config.teacher.encoder_max_tokens)
    readers["student"] = partial(own, "student", student_model(config))
    if result["baseline"] is not None:
        readers["baseline"] = partial(own, "baseline", student_model(config))
    return _Models(vocabulary, max_tokens, readers)


@contextmanager
def _telling(run_id: str) -> Iterator[None]:
    """Errors that say which run's files are not what they should be."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:160]
        raise RunError(
            f"the models of run {run_id} cannot be read ({type(error).__name__}: {reason}); choose another run, or "
            "train it again"
        ) from error


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts, `CHUNK` of them or `CHARACTERS` at a time."""
    chunk, characters = list[str](), 0
    for text in texts:
        chunk.append(text)
        characters += len(text)
        if len(chunk) == CHUNK or characters >= CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _ready(model: nn.Module, weights: Path, reading: Reading) -> Reader:
    """A saved model as it answers: on its device, without dropout, nothing to learn."""
    model.load_state_dict(load_file(weights))
    place = device.place()
    return Reader(model.eval().requires_grad_(False).to(place), reading, place)


def _encoder(folder: Path, classes: int, max_tokens: int) -> Reader:
    from distill_core.models import pretrained  # transformers take seconds to import

    model, pieces = pretrained.rebuild(folder / ENCODER, classes, max_tokens)
    return _ready(model, folder / TEACHER_WEIGHTS, pieces)


def latency_ms(model: nn.Module, encode: Callable[[str], list[int]], texts: Sequence[str]) -> float:
    """Median milliseconds from a text to its logits: one text at a time, one thread, after a warm-up, float32.

    Args:
        encode: text to token ids; its time counts.
        texts: at least one; up to 100 of them are timed.
    """
    timed, threads = list(texts[:LATENCY_TEXTS]), torch.get_num_threads()

    def once(text: str) -> float:
        start = time.perf_counter()
        ids = torch.tensor([encode(text)])
        with torch.inference_mode():
            model(ids, torch.tensor([ids.shape[1]]))
        return (time.perf_counter() - start) * 1000

    torch.set_num_threads(1)
    try:
        for text in timed[:10]:
            once(text)
        return statistics.median(once(text) for text in timed)
    finally:
        torch.set_num_threads(threads)
