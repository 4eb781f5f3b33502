"""What all stages of one run share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from distill_core.config import ModelConfig, RunConfig
from distill_core.data import sources
from distill_core.data.batches import EncodedDataset
from distill_core.data.sources import Dataset
from distill_core.events import stages_of
from distill_core.models import classifier
from distill_core.models.bag import BagOfEmbeddings
from distill_core.models.classifier import TextClassifier
from distill_core.models.convolution import TextCNN
from distill_core.store import Store
from distill_core.training.context import Context

Trainable = TextClassifier | TextCNN | BagOfEmbeddings
"""A model that is trained from scratch."""


@dataclass(frozen=True)
class Job:
    """A run's configuration, its data as token ids, and where to compute."""

    run_id: str
    store: Store
    config: RunConfig
    data: EncodedDataset
    context: Context

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that this run goes through."""
        return stages_of(self.config)

    @cached_property
    def texts(self) -> Dataset:
        """The texts themselves, read when they are first needed."""
        return sources.load(self.config.data, self.store.data_folder, self.context.check)

    def build(self, settings: ModelConfig, seed: int | None = None) -> Trainable:
        """A new model on the run's device; the same settings and seed give the same start every time."""
        torch.manual_seed(self.config.training.seed if seed is None else seed)
        model = classifier.build(settings, len(self.data.vocabulary), len(self.data.label_names))
        return model.to(self.context.compute.device)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text under the run's own vocabulary."""
        return self.data.vocabulary.encode(text, self.config.data.max_tokens)
