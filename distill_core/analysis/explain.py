"""Which words make a model answer as it does: integrated gradients over the words' vectors.

Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365, by Captum. The score that is shared out among the words is
the log-odds of one class, log p / (1 − p) in nats; it is measured against a text of the same length whose vectors say
nothing: zeros where a model has word vectors of its own, the padding piece for an encoder, whose special pieces stay.
Exact attributions add up to the difference of both scores (completeness); how far they miss it is their error.

Shapes: `S` points of the path, `T` tokens, `E` width of a vector, `C` classes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill_core.analysis.predict import Predictor, Reader
from distill_core.analysis.words import Words
from distill_core.errors import ConfigError, DataError

STEPS = (16, 64, 256, 1024)
"""Points of the path, tried in turn until the error is small enough."""
TOLERANCE = 0.02
"""Error, as a part of the difference of scores, that is small enough."""
LEAST = 1e-3
"""Nats that errors are measured against where both scores differ by less: there is next to nothing to explain."""
POINTS = 512
"""Word vectors that are looked at together: few enough for `check` to be heard soon, and for any memory."""
WEIGHTY = 0.1
"""Part of a model's strongest word from which on a word counts when models are compared."""


@dataclass(frozen=True)
class Attribution:
    """What each word adds to a model's log-odds of a class, in nats; None for a word that the model does not read.

    `score` are the log-odds for the text, `reference` those for a text that says nothing, `steps` the points that
    were looked at on the way from one to the other.
    """

    values: tuple[float | None, ...]
    score: float
    reference: float
    missing: float
    steps: int

    @property
    def error(self) -> float:
        """What the words miss of the difference of both scores, as a part of it, or of `LEAST` if that is more."""
        return abs(self.missing) / max(abs(self.score - self.reference), LEAST)

    @property
    def shares(self) -> list[float | None]:
        """Each word's value as a part of the strongest word's, −1 to 1."""
        strongest = max((abs(value) for value in self.values if value is not None), default=0.0) or 1.0
        return [None if value is None else value / strongest for value in self.values]


def attribute(reader: Reader, words: Words, label: int, check: Callable[[], None] = lambda: None) -> Attribution:
    """What each word of a text adds to a model's log-odds of one class.

    Args:
        label: the class, by its place.
        check: called several times a second; what it raises ends the work.
    """
    from captum.attr import IntegratedGradients  # takes over a second to import

    ids, owners = reader.reading.align(words.text, words.spans)
    tokens_1T = torch.tensor([ids], device=reader.device)
    answer, vectors_1TE, nothing_1TE = _differentiable(reader.model, tokens_1T, [owner < 0 for owner in owners])

    def log_odds(vectors_STE: Tensor) -> Tensor:
        check()
        others = answer(vectors_STE)
        own = others[:, label]
        return own - others.index_fill(1, torch.tensor(label, device=own.device), -torch.inf).logsumexp(dim=1)

    method = IntegratedGradients(log_odds)
    with torch.no_grad():
        score, reference = (float(log_odds(vectors)) for vectors in (vectors_1TE, nothing_1TE))
    found, missing = Tensor(), 0.0
    for steps in STEPS:
        found, delta = method.attribute(
            vectors_1TE,
            nothing_1TE,
            n_steps=steps,
            method="riemann_middle",  # as exact here as Gauss's rule, which has NumPy wake threads of its own
            internal_batch_size=max(POINTS // len(ids), 1),
            return_convergence_delta=True,
        )
        missing = float(delta)
        if abs(missing) <= TOLERANCE * max(abs(score - reference), LEAST):
            break
    return Attribution(_by_word(found[0].sum(dim=1), owners, len(words)), score, reference, missing, steps)


def _by_word(values_T: Tensor, owners: Sequence[int], count: int) -> tuple[float | None, ...]:
    """The sum over the tokens of each word."""
    sums: dict[int, float] = {}
    for owner, value in zip(owners, values_T.tolist(), strict=True):
        sums[owner] = sums.get(owner, 0.0) + value
    return tuple(sums.get(place) for place in range(count))


@runtime_checkable
class _Encoder(Protocol):
    """A model that can be asked by vectors itself."""

    pad_id: int

    def vectors(self, tokens_BT: Tensor) -> Tensor: ...

    def of_vectors(self, vectors_BTE: Tensor) -> Tensor: ...


def _differentiable(
    model: nn.Module, tokens_1T: Tensor, special: Sequence[bool]
) -> tuple[Callable[[Tensor], Tensor], Tensor, Tensor]:
    """A model as a function of word vectors `[S, T, E]`, the vectors `[1, T, E]` of a text, and those of no words."""
    if isinstance(model, _Encoder):
        vectors_1TE = model.vectors(tokens_1T)
        nothing_1TE = model.vectors(torch.full_like(tokens_1T, model.pad_id))
        special_1T1 = torch.tensor(special, device=tokens_1T.device)[None, :, None]
        return model.of_vectors, vectors_1TE, torch.where(special_1T1, vectors_1TE, nothing_1TE)
    vectors_1TE = model.get_submodule("embedding")(tokens_1T)
    return _OfVectors(model, tokens_1T), vectors_1TE, torch.zeros_like(vectors_1TE)


class _OfVectors:
    """A model of ours whose embedding is taken over: each place of a text has a number and a vector of its own.

    The copy shares the weights, so that others may ask the model meanwhile.
    """

    def __init__(self, model: nn.Module, tokens_1T: Tensor) -> None:
        shared = {id(weights): weights for weights in model.parameters()}
        self._model = copy.deepcopy(model, shared)
        for module in self._model.modules():
            if isinstance(module, nn.RNNBase):  # cuDNN has gradients of networks that train, which without dropout
                module.dropout = 0.0  # answer as they do otherwise
                module.train()
        self._tables = {name: table for name, table in model.named_children() if isinstance(table, nn.Embedding)}
        self._tokens_1T = tokens_1T

    def __call__(self, vectors_STE: Tensor) -> Tensor:
        points, length = vectors_STE.shape[:2]
        for name, table in self._tables.items():
            rows = vectors_STE if name == "embedding" else table(self._tokens_1T).expand(points, -1, -1)
            # Row 0 stays padding's.
            setattr(self._model, name, _Rows(torch.cat([table.weight[:1], rows.reshape(points * length, -1)])))
        places_ST = torch.arange(1, points * length + 1, device=vectors_STE.device).reshape(points, length)
        logits_SC: Tensor = self._model(places_ST, torch.full((points,), length, device=vectors_STE.device))
        return logits_SC


class _Rows(nn.Module):
    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self._rows = rows

    def forward(self, places: Tensor) -> Tensor:
        return F.embedding(places, self._rows)


@dataclass(frozen=True)
class Explanation:
    """Why the models of a run answer a text as they do, word by word, for one class."""

    words: Words
    label: str
    models: Mapping[str, Attribution]

    @property
    def disputed(self) -> frozenset[int]:
        """Words that count for the class with the teacher and against it with a student, or the other way round.

        Without a teacher, student and baseline are compared.
        """
        reference = "teacher" if "teacher" in self.models else "baseline"
        if reference not in self.models:
            return frozenset()
        own = self.models[reference].shares
        others = [made.shares for role, made in self.models.items() if role not in ("teacher", "baseline")]
        return frozenset(
            place for place, share in enumerate(own) if any(_opposed(share, other[place]) for other in others)
        )

    def facts(self) -> dict[str, Any]:
        """All of it as JSON."""
        rows = [
            {
                "word": word,
                **{role: found.values[place] for role, found in self.models.items()},
                "disputed": place in self.disputed,
            }
            for place, word in enumerate(self.words.shown)
        ]
        models = {
            role: {"log_odds": found.score, "reference": found.reference, "error": found.error, "steps": found.steps}
            for role, found in self.models.items()
        }
        return {"text": self.words.text, "label": self.label, "words": rows, "models": models}


def _opposed(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return False
    return one * other < 0 and min(abs(one), abs(other)) >= WEIGHTY


def explain(
    predictor: Predictor,
    text: str,
    label: str | None = None,
    check: Callable[[], None] = lambda: None,
) -> Explanation:
    """Explains the answers of a run's models to a text.

    Args:
        label: the class that is explained; by default the answer of the first model, which is the teacher if there.
        check: called several times a second; what it raises ends the work.

    Raises:
        DataError: the text is empty.
        ConfigError: there is no such class.
    """
    if not text.strip():
        raise DataError(f"text must not be empty, got {text!r}; type a sentence")
    if label is None:
        logits = predictor.logits([text], check)
        label = predictor.label_names[int(next(iter(logits.values())).argmax())]
    elif label not in predictor.label_names:
        raise ConfigError(f"label must be one of {', '.join(predictor.label_names)}, got {label!r}")
    words, place = Words.of(text), predictor.label_names.index(label)
    models = {role: attribute(reader, words, place, check) for role, reader in predictor.readers.items()}
    return Explanation(words, label, models)
