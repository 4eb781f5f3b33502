"""The teacher's stages: pre-train on text, fine-tune on labels, cache its logits.

Shapes: `B` texts, `V` words, `N` texts of a data set, `C` classes, `W` width of an encoder.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill_core.config import FROZEN_PASSES, TeacherConfig
from distill_core.data.batches import (
    READING_TOKENS,
    Batch,
    EncodedDataset,
    EncodedTexts,
    SampleLogits,
    batch_count,
    shuffled_batches,
    sorted_batches,
    windows,
)
from distill_core.events import Step, Warned
from distill_core.models.classifier import TextClassifier
from distill_core.models.embedding import latent_semantic_vectors, start_from
from distill_core.training.context import Context
from distill_core.training.language_model import LanguageModel
from distill_core.training.loop import fit
from distill_core.training.reading import (
    Score,
    logits_of,
    outputs_of,
    reading_rows,
    score_of,
    validation_score,
    work_of,
)
from distill_core.training.terms import Terms

if TYPE_CHECKING:
    from distill_core.models.pretrained import TransformerClassifier

WINDOW = 64
"""Tokens read in one go while pre-training; longer texts are cut."""
WARMUP = 0.1
"""Part of an encoder's fine-tuning in which its learning rate rises (Devlin et al. 2019)."""
WEIGHT_DECAY = 0.01
HEAD_RATE = 10.0
"""A new head learns this many times as fast as the encoder below it."""
FROZEN_RATE = 5e-3
"""Learning rate of a head over a frozen encoder."""


def pretrain(
    model: TextClassifier, data: EncodedDataset, config: TeacherConfig, *, seed: int, context: Context
) -> float:
    """Learns word vectors for `model` from the unlabelled and the training texts, without labels.

    As a language model it predicts each next word, in each reading direction; the best epoch on the validation texts
    is kept (Dai & Le 2015, https://arxiv.org/abs/1511.01432). The other task, latent semantic analysis, has no steps
    and no loss.

    Only the embedding goes on to the classifier. LSTM states that have learned to tell the next word reach their
    extremes somewhere in every text, so that the largest of them say little: on `rotten_tomatoes` teachers that kept
    the LSTMs too were worse than teachers without any pre-training (CHANGELOG has the figures).

    Returns:
        Seconds it took.
    """
    if config.pretrain_task == "lsa":
        return _analyse(model, data, seed=seed, context=context)
    device = context.compute.device
    texts, held_out = (windows(parts, WINDOW) for parts in ([data.unlabelled, data.train], [data.val]))
    if not (len(texts) and len(held_out)):
        context.emit(Warned("The teacher was not pre-trained: in texts of one word there is no next word to predict."))
        with context.stage("pretrain", 0) as nothing:
            pass
        return nothing.seconds
    torch.manual_seed(seed)
    reader = copy.deepcopy(model)
    language_model = LanguageModel(reader, len(data.vocabulary)).to(device)
    placed = texts.to(device)

    def loss(batch: Batch, done: float) -> Terms:
        assert batch.rows_B is not None
        with context.compute.autocast(model.work):
            ce = language_model(batch, texts.gather(batch.rows_B))
        return Terms(ce, ce)

    def score() -> Score:
        """The mean cross-entropy without dropout, over all texts, each word counting the same."""
        words = held_out.lengths_N - 1
        total = torch.zeros((), device=device)
        for rows, batch in sorted_batches(held_out, READING_TOKENS):
            context.check()
            with torch.inference_mode(), context.compute.autocast(model.work):
                total += language_model(batch.to(device), batch) * int(words[rows].sum())
        ce = float(total) / int(words.sum())
        return Score(-ce, ce)

    steps = batch_count(texts, config.batch_size)
    with context.stage("pretrain", config.pretrain_epochs * steps) as outcome:
        fit(
            "pretrain",
            language_model,
            batches=lambda generator: shuffled_batches(placed, config.batch_size, generator),
            steps_per_epoch=steps,
            loss=loss,
            score=score,
            epochs=config.pretrain_epochs,
            optimizer=torch.optim.Adam(language_model.parameters(), config.pretrain_learning_rate, fused=True),
            seed=seed,
            context=context,
        )
        model.embedding.load_state_dict(reader.embedding.state_dict())
    return outcome.seconds


def _analyse(model: TextClassifier, data: EncodedDataset, *, seed: int, context: Context) -> float:
    texts, table = data.train.joined(data.unlabelled), model.embedding
    with context.stage("pretrain", 1) as outcome:
        vectors_VR = latent_semantic_vectors(
            texts, len(data.vocabulary), table.embedding_dim, seed=seed, check=context.check
        )
        start_from(table, vectors_VR, vectors_VR.any(dim=1))
    return outcome.seconds


def finetune(
    model: nn.Module,
    train: EncodedTexts,
    val: EncodedTexts,
    config: TeacherConfig,
    *,
    seed: int,
    context: Context,
) -> float:
    """Trains the whole teacher on the labelled texts and keeps the epoch that is best on validation.

    An LSTM learns by Adam; a pre-trained encoder by AdamW (Loshchilov & Hutter 2019) with a warm-up, its new head ten
    times as fast.

    Returns:
        Seconds it took.
    """

    def loss(batch: Batch, done: float) -> Terms:
        with context.compute.autocast(work_of(model)):
            logits_BC = model(batch.tokens_BT, batch.lengths_B)
        ce = batch.share * F.cross_entropy(logits_BC.float(), batch.labels_B)
        return Terms(ce, ce)

    steps, train = batch_count(train, config.batch_size), train.to(context.compute.device)
    with context.stage("finetune", config.epochs * steps) as outcome:
        best = fit(
            "finetune",
            model,
            batches=lambda generator: shuffled_batches(train, config.batch_size, generator),
            steps_per_epoch=steps,
            loss=loss,
            score=lambda: validation_score(model, val, context),
            epochs=config.epochs,
            optimizer=torch.optim.AdamW(parameter_groups(model, config), fused=True)
            if config.kind == "pretrained"
            else torch.optim.Adam(model.parameters(), config.learning_rate, fused=True),
            seed=seed,
            context=context,
            warmup=WARMUP if config.kind == "pretrained" else 0.0,
            divisible=True,
            steady=work_of(model) != "encoder",
        )
        outcome.accuracy = best.accuracy
    return outcome.seconds


def parameter_groups(
    model: nn.Module, config: TeacherConfig, *, decay: float = WEIGHT_DECAY
) -> list[dict[str, object]]:
    """An optimizer's groups: those of a pre-trained encoder, its head ten times as fast, biases and norms undecayed."""
    if config.kind != "pretrained":
        return [{"params": list(model.parameters()), "lr": config.learning_rate}]
    groups: list[dict[str, object]] = []
    for in_head, rate in ((False, 1.0), (True, HEAD_RATE)):
        for decayed in (True, False):
            chosen = [
                parameter
                for name, parameter in model.named_parameters()
                if name.startswith("output.") == in_head and (parameter.ndim > 1) == decayed
            ]
            groups.append(
                {
                    "params": chosen,
                    "lr": rate * config.encoder_learning_rate,
                    "weight_decay": decay if decayed else 0.0,
                }
            )
    return groups


def finetune_head(
    model: TransformerClassifier,
    train: EncodedTexts,
    val: EncodedTexts,
    config: TeacherConfig,
    *,
    seed: int,
    context: Context,
) -> float:
    """Trains the last layer of a frozen encoder, which reads each text only once.

    Returns:
        Seconds it took.
    """
    texts = (train, val)
    reading = sum(len(reading_rows(part, "encoder")) for part in texts)
    steps = batch_count(train, config.batch_size)
    epochs = FROZEN_PASSES * config.epochs
    model.eval()
    with context.stage("finetune", reading + epochs * steps) as outcome:
        tick, place = _Ticker("finetune", context), context.compute.device
        pooled = SampleLogits.of(
            [
                (part, outputs_of(model.pool, part, context, "encoder", tick=tick, name=f"pooled-{index}"))
                for index, part in enumerate(texts)
            ]
        ).to(place)
        head, train = model.output, train.to(place)

        def loss(batch: Batch, done: float) -> Terms:
            ce = F.cross_entropy(model.classify(pooled.of_known(batch.ids_B)), batch.labels_B)
            return Terms(ce, ce)

        def score() -> Score:
            with torch.inference_mode():
                return score_of(head(pooled.of_known(val.ids_N.to(place))).float().cpu(), val.labels_N)

        best = fit(
            "finetune",
            head,
            batches=lambda generator: shuffled_batches(train, config.batch_size, generator),
            steps_per_epoch=steps,
            loss=loss,
            score=score,
            epochs=epochs,
            optimizer=torch.optim.AdamW(head.parameters(), FROZEN_RATE, weight_decay=WEIGHT_DECAY, fused=True),
            seed=seed,
            context=context,
            first_step=reading,
        )
        outcome.accuracy = best.accuracy
    return outcome.seconds


def cache_logits(
    model: nn.Module, parts: Sequence[EncodedTexts], context: Context, *, stage: str = "cache"
) -> tuple[SampleLogits, float]:
    """The teacher's logits for all texts, by sample id, and the seconds it took.

    No label is read, so the test split stays closed.
    """
    steps = sum(len(reading_rows(texts, work_of(model))) for texts in parts)
    with context.stage(stage, steps) as outcome:
        tick = _Ticker(stage, context)
        logits = SampleLogits.of(
            [
                (texts, logits_of(model, texts, context, tick=tick, name=f"{stage}-{part}"))
                for part, texts in enumerate(parts)
            ]
        )
    return logits, outcome.seconds


def read_words(model: TransformerClassifier, words: EncodedTexts, context: Context) -> Tensor:
    """What an encoder makes of each word read by itself, `[V, W]`, in the order of the words."""
    model.eval()
    with context.stage("words", len(reading_rows(words, "encoder"))):
        return outputs_of(model.pool, words, context, "encoder", tick=_Ticker("words", context), name="words")


class _Ticker:
    """Reports the batches that a model has answered."""

    def __init__(self, stage: str, context: Context) -> None:
        self._stage, self._context = stage, context
        self._done = self._examples = 0

    def __call__(self, texts: int) -> None:
        self._done += 1
        self._examples += texts
        if self._context.pace.due():
            self._context.emit(Step(self._stage, self._done, self._examples, None, None, None, None))
