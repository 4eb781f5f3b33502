"""The teacher's stages: pre-train on text, fine-tune on labels, cache its logits.

Shapes: `B` texts, `T` tokens, `H` states a direction, `V` words, `N` texts of a data set, `C` classes.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill_core.config import TeacherConfig
from distill_core.data.batches import (
    Batch,
    EncodedDataset,
    EncodedTexts,
    SampleLogits,
    batch_count,
    shuffled_batches,
    sorted_batches,
    windows,
)
from distill_core.events import Step
from distill_core.models.classifier import TextClassifier, reverse
from distill_core.training.loop import EVALUATION_BATCH, Context, Score, Terms, fit, logits_of, validation_score

WINDOW = 64
"""Tokens read in one go while pre-training; longer texts are cut."""


def pretrain(
    model: TextClassifier, data: EncodedDataset, config: TeacherConfig, *, seed: int, context: Context
) -> float:
    """Learns word vectors for `model` by predicting each next word, in each reading direction, without labels.

    Reads the unlabelled and the training texts; the best epoch on the validation texts is kept. The method is that
    of Dai & Le 2015 (https://arxiv.org/abs/1511.01432); the softmax is adaptive (Grave et al. 2017,
    https://arxiv.org/abs/1609.04309), since a full one would take most of the time.

    Only the embedding goes on to the classifier. LSTM states that have learned to tell the next word reach their
    extremes somewhere in every text, so that the largest of them say little: on `rotten_tomatoes` teachers that kept
    the LSTMs too were worse than teachers without any pre-training (CHANGELOG has the figures).

    Returns:
        Seconds it took.
    """
    texts, held_out = windows([data.unlabelled, data.train], WINDOW), windows([data.val], WINDOW)
    torch.manual_seed(seed)
    reader = copy.deepcopy(model)
    language_model = _LanguageModel(reader, len(data.vocabulary)).to(context.compute.device)

    def loss(batch: Batch) -> Terms:
        with context.compute.autocast():
            ce = language_model(batch.tokens_BT, batch.lengths_B)
        return Terms(ce, ce)

    def score() -> Score:
        ce = language_model.mean_cross_entropy(held_out, context)
        return Score(-ce, ce)

    steps = batch_count(texts, config.batch_size)
    with context.stage("pretrain", config.pretrain_epochs * steps) as outcome:
        fit(
            "pretrain",
            language_model,
            batches=lambda generator: shuffled_batches(texts, config.batch_size, generator),
            steps_per_epoch=steps,
            loss=loss,
            score=score,
            epochs=config.pretrain_epochs,
            learning_rate=config.pretrain_learning_rate,
            seed=seed,
            context=context,
        )
        model.embedding.load_state_dict(reader.embedding.state_dict())
    return outcome.seconds


def finetune(
    model: TextClassifier, data: EncodedDataset, config: TeacherConfig, *, seed: int, context: Context
) -> float:
    """Trains the whole teacher on the labelled texts and keeps the epoch that is best on validation.

    Returns:
        Seconds it took.
    """

    def loss(batch: Batch) -> Terms:
        with context.compute.autocast():
            logits_BC = model(batch.tokens_BT, batch.lengths_B)
        ce = F.cross_entropy(logits_BC.float(), batch.labels_B)
        return Terms(ce, ce)

    steps = batch_count(data.train, config.batch_size)
    with context.stage("finetune", config.epochs * steps) as outcome:
        best = fit(
            "finetune",
            model,
            batches=lambda generator: shuffled_batches(data.train, config.batch_size, generator),
            steps_per_epoch=steps,
            loss=loss,
            score=lambda: validation_score(model, data.val, context),
            epochs=config.epochs,
            learning_rate=config.learning_rate,
            seed=seed,
            context=context,
        )
        outcome.accuracy = best.accuracy
    return outcome.seconds


def cache_logits(model: TextClassifier, data: EncodedDataset, context: Context) -> tuple[SampleLogits, float]:
    """The teacher's logits for every labelled text of every split, by sample id, and the seconds it took.

    No label is read, so the test split stays closed.
    """
    splits = (data.train, data.val, data.test)
    steps, done, examples = sum(batch_count(texts, EVALUATION_BATCH) for texts in splits), 0, 0

    def tick(texts: int) -> None:
        nonlocal done, examples
        done, examples = done + 1, examples + texts
        if context.pace.due():
            context.emit(Step("cache", done, examples, None, None, None, None))

    with context.stage("cache", steps) as outcome:
        logits = SampleLogits.of([(texts, logits_of(model, texts, context, tick=tick)) for texts in splits])
    return logits, outcome.seconds


class _LanguageModel(nn.Module):
    """A classifier's embedding and LSTMs under a softmax over words."""

    def __init__(self, model: TextClassifier, vocabulary_size: int) -> None:
        super().__init__()
        self.model = model
        cutoffs = sorted({max(vocabulary_size // 20, 1), max(vocabulary_size // 4, 1)})
        self.heads = nn.ModuleList(
            nn.AdaptiveLogSoftmaxWithLoss(model.output.in_features // len(model.directions), vocabulary_size, cutoffs)
            for _ in model.directions
        )

    def forward(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Mean cross-entropy (nats) of each next word over both directions."""
        targets_BT = tokens_BT[:, 1:]
        real_BT = torch.arange(1, tokens_BT.shape[1], device=lengths_B.device) < lengths_B[:, None]
        readings = [targets_BT, reverse(tokens_BT, lengths_B)[:, 1:]]
        losses = []
        directions = zip(self.heads, self.model.states(tokens_BT, lengths_B), readings, strict=False)
        for head, states_BTH, reading_BT in directions:
            states = self.model.dropout(states_BTH[:, :-1][real_BT])
            with torch.autocast(states.device.type, enabled=False):
                losses.append(head(states.float(), reading_BT[real_BT]).loss)
        return torch.stack(losses).mean()

    def mean_cross_entropy(self, texts: EncodedTexts, context: Context) -> float:
        """The same without dropout, over all texts, each word counting the same."""
        total, words = 0.0, 0
        for _, batch in sorted_batches(texts, EVALUATION_BATCH):
            context.check()
            moved = batch.to(context.compute.device)
            count = int((batch.lengths_B - 1).sum())
            with torch.inference_mode(), context.compute.autocast():
                total += float(self(moved.tokens_BT, moved.lengths_B)) * count
            words += count
        return total / words
