"""Token ids as tensors, and batches of texts of similar length.

Shapes: `N` texts, `B` texts in a batch, `T` tokens of the longest text in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_core.config import DataConfig
from distill_core.data.sources import Dataset, Split
from distill_core.data.vocabulary import PAD_ID, Vocabulary, tokenize

NO_LABEL = -1
"""Stands in place of the label of a text that has none."""
READING_TOKENS = 8192
"""Tokens that a model reads at once where it does not learn: more are no faster, and take more memory."""
POOL = 32
"""Batches whose texts are sorted by length together: long enough to save padding, short enough to stay random."""


@dataclass(frozen=True)
class Batch:
    """Texts padded on the right with 0. `ids_B` address cached logits; `labels_B` may be `NO_LABEL`.

    `rows_B` says where they lie among the texts that they were taken from, on the CPU. Of a part of a batch, `share`
    says which part of the texts, and `labelled_share` which part of those with a label, it holds.
    """

    ids_B: Tensor
    tokens_BT: Tensor
    lengths_B: Tensor
    labels_B: Tensor
    rows_B: Tensor | None = None
    share: float = 1.0
    labelled_share: float = 1.0

    def __len__(self) -> int:
        return len(self.ids_B)

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return replace(
            self,
            ids_B=self.ids_B.to(device),
            tokens_BT=self.tokens_BT.to(device),
            lengths_B=self.lengths_B.to(device),
            labels_B=self.labels_B.to(device),
        )


def widened(batch: Batch, tokens: int) -> Batch:
    """The batch padded to a width of so many tokens."""
    return replace(batch, tokens_BT=F.pad(batch.tokens_BT, (0, tokens - batch.tokens_BT.shape[1]), value=PAD_ID))


@dataclass(frozen=True)
class EncodedTexts:
    """Texts as one flat row of token ids: text n is `flat[offsets[n]:offsets[n + 1]]`.

    `planned_N` are the lengths on the CPU, where batches are planned, if the texts lie on another device.
    """

    ids_N: Tensor
    labels_N: Tensor
    flat: Tensor
    offsets: Tensor
    planned_N: Tensor | None = None

    @classmethod
    def of(cls, ids: Sequence[int], token_ids: Sequence[Sequence[int]], labels: Sequence[int]) -> EncodedTexts:
        """Packs texts that are token ids already."""
        lengths = torch.tensor([0, *(len(numbers) for numbers in token_ids)])
        flat = torch.tensor(list(chain.from_iterable(token_ids)), dtype=torch.int32)
        numbers_of = partial(torch.tensor, dtype=torch.long)
        return cls(numbers_of(ids), numbers_of(labels), flat, lengths.cumsum(0))

    @classmethod
    def without_labels(cls, token_ids: Sequence[Sequence[int]], first: int = 0) -> EncodedTexts:
        """Packs texts that have no label; their ids are below 0, after `first` others."""
        return cls.of(unlabelled_ids(len(token_ids), first), token_ids, [NO_LABEL] * len(token_ids))

    def __len__(self) -> int:
        return len(self.ids_N)

    @property
    def lengths_N(self) -> Tensor:
        """Number of tokens of each text, on the CPU."""
        return self.offsets.diff() if self.planned_N is None else self.planned_N

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name."""
        return {name: getattr(self, name) for name in _COLUMNS}

    def to(self, device: torch.device) -> EncodedTexts:
        """The same texts on another device; batches of them are made there, and nobody waits for it."""
        if device == self.flat.device:
            return self
        ids_N, labels_N, flat, offsets = (tensor.to(device) for tensor in self.tensors().values())
        return EncodedTexts(ids_N, labels_N, flat, offsets, planned_N=self.lengths_N)

    def joined(self, other: EncodedTexts) -> EncodedTexts:
        """These texts and then the others."""
        return EncodedTexts(
            torch.cat([self.ids_N, other.ids_N]),
            torch.cat([self.labels_N, other.labels_N]),
            torch.cat([self.flat, other.flat]),
            torch.cat([self.offsets, self.offsets[-1] + other.offsets[1:]]),
        )

    def of_ids(self, ids_B: Tensor) -> Batch:
        """A batch of the samples with these ids. Raises KeyError for one that is not there."""
        return self.gather(self.rows_of(ids_B))

    def rows_of(self, ids_B: Tensor) -> Tensor:
        """Where the samples with these ids lie. Raises KeyError for one that is not there."""
        order = self.ids_N.argsort()
        return order[_rows_of(self.ids_N[order], ids_B)]

    def gather(self, rows_B: Tensor) -> Batch:
        """A batch of the texts in some rows, given on the CPU, in that order."""
        width, device = int(self.lengths_N[rows_B].max()), self.flat.device
        rows = rows_B if device.type == "cpu" else sent(rows_B, device)
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        positions = torch.arange(width, device=device)
        real = positions < lengths[:, None]
        index = torch.where(real, starts[:, None] + positions, 0)
        tokens = torch.where(real, self.flat[index].long(), PAD_ID)
        return Batch(self.ids_N[rows], tokens, lengths, self.labels_N[rows], rows_B)


def sent(values: Tensor, device: torch.device) -> Tensor:
    """A copy on another device for which nobody waits."""
    return (values.pin_memory() if device.type == "cuda" else values).to(device, non_blocking=True)


@dataclass(frozen=True)
class EncodedDataset:
    """A data set as token ids, ready for training.

    `answers` are a teacher's logits that the data itself carries, `samples` some test texts as they are written.
    """

    label_names: tuple[str, ...]
    vocabulary: Vocabulary
    train: EncodedTexts
    val: EncodedTexts
    test: EncodedTexts
    unlabelled: EncodedTexts
    answers: SampleLogits | None = None
    samples: tuple[str, ...] = ()

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, the inverse of `from_tensors`."""
        parts: list[EncodedTexts] = [getattr(self, part) for part in _PARTS]
        tensors = {
            f"{part}.{name}": tensor
            for part, texts in zip(_PARTS, parts, strict=True)
            for name, tensor in texts.tensors().items()
        }
        return tensors if self.answers is None else {**tensors, **self.answers.tensors()}

    @classmethod
    def from_tensors(
        cls, label_names: Sequence[str], vocabulary: Vocabulary, tensors: Mapping[str, Tensor]
    ) -> EncodedDataset:
        """Rebuilds what `tensors` took apart."""
        train, val, test, unlabelled = (
            EncodedTexts(*(tensors[f"{part}.{name}"] for name in _COLUMNS)) for part in _PARTS
        )
        answers = SampleLogits.from_tensors(tensors) if "logits_NC" in tensors else None
        return cls(tuple(label_names), vocabulary, train, val, test, unlabelled, answers)


_PARTS = ("train", "val", "test", "unlabelled")
_COLUMNS = ("ids_N", "labels_N", "flat", "offsets")


def encode(
    dataset: Dataset,
    config: DataConfig,
    check: Callable[[], None] = lambda: None,
    progress: Callable[[float], None] = lambda part: None,
) -> EncodedDataset:
    """Tokenises every text once and numbers the words of the training texts.

    Args:
        check: called between texts; what it raises ends the work.
        progress: hears the part of the texts that is done, 0 to 1.
    """
    splits, done = (dataset.train, dataset.val, dataset.test), 0
    total = sum(len(split) for split in splits) + len(dataset.unlabelled)

    def tokens_of(texts: Sequence[str]) -> list[list[str]]:
        nonlocal done
        tokenized = []
        for text in texts:
            check()
            tokenized.append(tokenize(text))
            done += 1
            if done % 256 == 0:
                progress(done / total)
        return tokenized

    train_tokens = tokens_of(dataset.train.texts)
    vocabulary = Vocabulary.build(train_tokens, min_frequency=config.min_frequency, max_size=config.max_vocabulary)

    def numbered(tokenized: Sequence[Sequence[str]]) -> list[list[int]]:
        return [vocabulary.numbers(tokens, config.max_tokens) for tokens in tokenized]

    def labelled(split: Split, tokenized: Sequence[Sequence[str]]) -> EncodedTexts:
        return EncodedTexts.of(split.ids, numbered(tokenized), split.labels)

    return EncodedDataset(
        dataset.label_names,
        vocabulary,
        train=labelled(dataset.train, train_tokens),
        val=labelled(dataset.val, tokens_of(dataset.val.texts)),
        test=labelled(dataset.test, tokens_of(dataset.test.texts)),
        unlabelled=EncodedTexts.without_labels(numbered(tokens_of(dataset.unlabelled))),
        answers=_answers(dataset),
    )


def _answers(dataset: Dataset) -> SampleLogits | None:
    """The teacher's logits that the data carries, by sample id; texts without labels have the ids below 0."""
    splits = (dataset.train, dataset.val, dataset.test)
    if not all(split.answers for split in splits):
        return None
    ids = [identity for split in splits for identity in split.ids]
    rows = [row for split in splits for row in split.answers]
    if dataset.unlabelled_answers:
        ids.extend(unlabelled_ids(len(dataset.unlabelled)))
        rows.extend(dataset.unlabelled_answers)
    ids_N = torch.tensor(ids)
    order = ids_N.argsort()
    return SampleLogits(ids_N[order], torch.tensor(rows)[order])


def unlabelled_ids(count: int, first: int = 0) -> range:
    """Sample ids of texts without labels: −1, −2 and so on, after `first` others."""
    return range(-first - 1, -first - count - 1, -1)


@dataclass(frozen=True)
class SampleLogits:
    """Logits addressed by sample id, so that no shuffling can misalign them. `ids_N` rises strictly.

    Any other rows of numbers can be kept in this way, such as an encoder's pooled states.
    """

    ids_N: Tensor
    logits_NC: Tensor

    @classmethod
    def of(cls, parts: Sequence[tuple[EncodedTexts, Tensor]]) -> SampleLogits:
        """Joins the logits of several splits, each `[N, C]` in the order of its texts."""
        ids = torch.cat([texts.ids_N for texts, _ in parts])
        order = ids.argsort()
        return cls(ids[order], torch.cat([logits for _, logits in parts])[order])

    def of_ids(self, ids_B: Tensor) -> Tensor:
        """Logits `[B, C]` of samples. Raises KeyError for a sample that is not there."""
        return self.logits_NC[_rows_of(self.ids_N, ids_B)]

    def of_known(self, ids_B: Tensor) -> Tensor:
        """The same for samples that are there, on whatever device, without waiting to see whether they are."""
        return self.logits_NC[torch.searchsorted(self.ids_N, ids_B)]

    def to(self, device: torch.device) -> SampleLogits:
        """The same logits on another device."""
        return SampleLogits(self.ids_N.to(device), self.logits_NC.to(device))

    def joined(self, other: SampleLogits) -> SampleLogits:
        """These logits and those of other samples."""
        ids = torch.cat([self.ids_N, other.ids_N])
        order = ids.argsort()
        return SampleLogits(ids[order], torch.cat([self.logits_NC, other.logits_NC])[order])

    def tensors(self) -> dict[str, Tensor]:
        """Both tensors by name, the inverse of `from_tensors`."""
        return {"ids_N": self.ids_N, "logits_NC": self.logits_NC}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> SampleLogits:
        """Rebuilds what `tensors` took apart."""
        return cls(tensors["ids_N"], tensors["logits_NC"])


def _rows_of(rising_N: Tensor, ids_B: Tensor) -> Tensor:
    rows = torch.searchsorted(rising_N, ids_B).clamp(max=len(rising_N) - 1)
    if not torch.equal(rising_N[rows], ids_B):
        raise KeyError(f"nothing for samples {ids_B[rising_N[rows] != ids_B].tolist()}")
    return rows


def windows(texts: Sequence[EncodedTexts], width: int) -> EncodedTexts:
    """All texts cut into pieces of at most `width` tokens, for language modelling; pieces of one token are left out.

    Where no text has two tokens, nothing is left.
    """
    pieces = [
        piece
        for part in texts
        for text in torch.split(part.flat, part.lengths_N.tolist())
        for piece in torch.split(text, width)
        if len(piece) > 1
    ]
    lengths = torch.tensor([0, *(len(piece) for piece in pieces)])
    flat = torch.cat([torch.empty(0, dtype=torch.int32), *pieces])
    return EncodedTexts(torch.arange(len(pieces)), torch.full((len(pieces),), NO_LABEL), flat, lengths.cumsum(0))


def shuffled_batches(texts: EncodedTexts, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
    """One pass over all texts in random order, in batches of similar length (least padding); none of no texts."""
    if not len(texts):
        return
    order = torch.randperm(len(texts), generator=generator)
    pools = torch.split(order, POOL * batch_size)
    groups = [rows for pool in pools for rows in torch.split(_by_length(texts, pool), batch_size)]
    for index in torch.randperm(len(groups), generator=generator).tolist():
        yield texts.gather(groups[index])


def sorted_batches(texts: EncodedTexts, tokens: int) -> Iterator[tuple[Tensor, Batch]]:
    """One pass over all texts, shortest first, each batch with the rows that it holds: for evaluation.

    Args:
        tokens: how many a batch has at most, padding counted, unless one text alone has more.
    """
    for rows in sorted_rows(texts, tokens):
        yield rows, texts.gather(rows)


def sorted_rows(texts: EncodedTexts, tokens: int) -> list[Tensor]:
    """The rows of each batch of that pass."""
    order = _by_length(texts, torch.arange(len(texts)))
    starts, lengths = list[int](), texts.lengths_N[order].tolist()
    for row, length in enumerate(lengths):
        if not starts or (row + 1 - starts[-1]) * length > tokens:
            starts.append(row)
    return list(torch.tensor_split(order, starts[1:])) if starts else []


def batch_count(texts: EncodedTexts, batch_size: int) -> int:
    """Batches in one pass."""
    return -(-len(texts) // batch_size)


def _by_length(texts: EncodedTexts, rows: Tensor) -> Tensor:
    return rows[texts.lengths_N[rows].argsort(stable=True)]
