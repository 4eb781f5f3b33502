"""What a data set looks like once it is tokenised: counts for the Data page and for estimates of time."""

from __future__ import annotations

import random

import torch

from distill_core.data.batches import EncodedDataset, EncodedTexts
from distill_core.data.profile import Example, Profile
from distill_core.data.sources import Dataset
from distill_core.data.vocabulary import UNKNOWN_ID

BINS = 24
EXAMPLES_PER_CLASS = 5
EXAMPLE_LENGTH = 400
"""Characters shown of an example."""
VOCABULARY_SIZES = (250, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)


def summarise(dataset: Dataset, encoded: EncodedDataset) -> Profile:
    """Counts what the Data page shows of a data set and its token ids."""
    splits = {"train": encoded.train, "val": encoded.val, "test": encoded.test, "unlabelled": encoded.unlabelled}
    classes = len(dataset.label_names)
    return Profile(
        dataset.label_names,
        len(encoded.vocabulary),
        texts={name: len(split) for name, split in splits.items()},
        mean_tokens={name: len(split.flat) / max(len(split), 1) for name, split in splits.items()},
        class_counts={
            name: torch.bincount(split.labels_N, minlength=classes).tolist()
            for name, split in splits.items()
            if name != "unlabelled"
        },
        lengths=_lengths(encoded.train),
        unknown={name: _unknown(split, len(encoded.vocabulary)) for name, split in splits.items()},
        unknown_by_size={
            size: _unknown(encoded.val, size) for size in VOCABULARY_SIZES if size < len(encoded.vocabulary)
        },
        rows=dataset.report.rows,
        dropped=dict(dataset.report.dropped),
        notes=dataset.report.notes,
        answered=encoded.answers is not None,
        examples=_examples(dataset),
    )


def _lengths(texts: EncodedTexts) -> dict[int, int]:
    """Texts by their number of tokens, in bins of equal width from the least number on."""
    lengths_N = texts.lengths_N
    first, last = int(lengths_N.min()), int(lengths_N.max())
    width = max(-(-(last + 1 - first) // BINS), 1)
    counts = torch.bincount((lengths_N - first) // width)
    return {first + width * row: count for row, count in enumerate(counts.tolist())}


def _unknown(texts: EncodedTexts, size: int) -> float:
    """Share of tokens that a vocabulary of the `size` most frequent words does not know."""
    unknown = (texts.flat == UNKNOWN_ID) | (texts.flat >= size)
    return float(unknown.float().mean()) if len(texts.flat) else 0.0


def _examples(dataset: Dataset) -> tuple[Example, ...]:
    """Some training texts of each class, the same ones every time."""
    rows, chance = list(range(len(dataset.train))), random.Random(0)
    chance.shuffle(rows)
    chosen: list[Example] = []
    for label, name in enumerate(dataset.label_names):
        of_class = [row for row in rows if dataset.train.labels[row] == label][:EXAMPLES_PER_CLASS]
        chosen.extend(Example(dataset.train.texts[row][:EXAMPLE_LENGTH], name) for row in of_class)
    return tuple(chosen)
