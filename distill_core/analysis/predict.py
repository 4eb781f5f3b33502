"""What the models of a finished run say about texts. Shapes: `B` texts, `C` classes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from distill_core.config import ModelConfig
from distill_core.data.batches import EncodedTexts, sorted_batches
from distill_core.data.vocabulary import Vocabulary, tokenize
from distill_core.errors import DataError, RunError
from distill_core.models import classifier
from distill_core.models.sizes import student_model
from distill_core.store import ENCODER, TEACHER_WEIGHTS, Store
from distill_core.training.losses import divergence

BATCH = 256
LATENCY_TEXTS = 100


@dataclass(frozen=True)
class Reader:
    """A model and its way to turn texts into token ids."""

    model: nn.Module
    encode_all: Callable[[Sequence[str]], list[list[int]]]

    def logits(self, texts: Sequence[str]) -> Tensor:
        """Logits `[B, C]` of texts, in their order."""
        encoded, order, parts = EncodedTexts.without_labels(self.encode_all(texts)), [], []
        with torch.inference_mode():
            for rows, batch in sorted_batches(encoded, BATCH):
                parts.append(self.model(batch.tokens_BT, batch.lengths_B))
                order.append(rows)
        return torch.cat(parts)[torch.cat(order).argsort()]


@dataclass(frozen=True)
class Predictor:
    """The models of one run with its words and labels; float32 on the CPU, so an answer is the same everywhere.

    A teacher that is a file has no model and is not among them.
    """

    label_names: tuple[str, ...]
    vocabulary: Vocabulary
    max_tokens: int
    readers: dict[str, Reader]

    @classmethod
    def load(cls, store: Store, run_id: str) -> Predictor:
        """Reads teacher, student and, where there is one, baseline. Raises RunError if the run has not finished."""
        result = store.result(run_id)
        if result is None:
            state = store.status(run_id).status
            raise RunError(f"run must be finished, got {run_id!r} which is {state}; choose another or wait")
        config, folder = store.config(run_id), store.run_folder(run_id)
        labels = tuple(result["labels"])
        vocabulary = Vocabulary.from_json((folder / "vocabulary.json").read_text(encoding="utf-8"))

        def own(role: str, settings: ModelConfig) -> Reader:
            model = classifier.build(settings, len(vocabulary), len(labels))
            model.load_state_dict(load_file(folder / f"{role}.safetensors"))
            return Reader(
                model.eval(), lambda texts: [vocabulary.encode(text, config.data.max_tokens) for text in texts]
            )

        readers = {}
        if config.teacher.kind == "lstm":
            readers["teacher"] = own("teacher", config.teacher)
        elif config.teacher.kind == "pretrained":
            readers["teacher"] = _encoder(folder, len(labels), config.teacher.encoder_max_tokens)
        readers["student"] = own("student", student_model(config))
        if result["baseline"] is not None:
            readers["baseline"] = own("baseline", student_model(config))
        return cls(labels, vocabulary, config.data.max_tokens, readers)

    def predict(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """One answer a text, in order.

        Each has `text`, a probability for each label under each model's role, `kl` (student ‖ teacher, nats) and
        `agree` (whether student and teacher choose the same label). Where the teacher is a file, which cannot answer
        new texts, `teacher`, `kl` and `agree` are None.

        Raises:
            DataError: a text is empty.
        """
        for text in texts:
            if not text.strip():
                raise DataError(f"text must not be empty, got {text!r}; type a sentence")
        if not texts:
            return []
        logits = {role: reader.logits(texts) for role, reader in self.readers.items()}
        return [self._answer(text, {role: rows[n] for role, rows in logits.items()}) for n, text in enumerate(texts)]

    def reading(self, text: str) -> tuple[int, int, int]:
        """How many of a text's tokens the models know, how many they read, and how many there are."""
        tokens = tokenize(text)
        ids = self.vocabulary.numbers(tokens, self.max_tokens)
        return sum(self.vocabulary.is_word(number) for number in ids), len(ids), max(len(tokens), 1)

    def _answer(self, text: str, logits: dict[str, Tensor]) -> dict[str, Any]:
        spoken = {
            role: dict(zip(self.label_names, logits_C.softmax(dim=0).tolist(), strict=True))
            for role, logits_C in logits.items()
        }
        student_C, teacher_C = logits["student"], logits.get("teacher")
        if teacher_C is None:
            return {"text": text, "teacher": None, **spoken, "kl": None, "agree": None}
        return {
            "text": text,
            **spoken,
            "kl": float(divergence(student_C[None], teacher_C[None], "kl_student_teacher", 1.0)),
            "agree": bool(student_C.argmax() == teacher_C.argmax()),
        }


def _encoder(folder: Path, classes: int, max_tokens: int) -> Reader:
    from distill_core.models import pretrained  # transformers take seconds to import

    model, pieces = pretrained.rebuild(folder / ENCODER, classes, max_tokens)
    model.load_state_dict(load_file(folder / TEACHER_WEIGHTS))
    return Reader(model.eval(), pieces.encode_all)


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
