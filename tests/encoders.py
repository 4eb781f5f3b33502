"""Tiny random transformer encoders as local folders, with tokenizers of two dozen words: no network, milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from distill_core.data.batches import EncodedTexts

WORDS = ("a", "and", "bright", "camera", "cast", "clever", "clumsy", "dull", "ending", "film", "moving", "music")
WORDS += ("plot", "scene", "story", "tired", "warm", "weak", "##s", "un", "##heard")
WIDTH = 16
POSITIONS = 40

Family = Literal["bert", "roberta"]


def tiny_tokenizer(family: Family, words: Sequence[str] = WORDS) -> Any:
    """A WordPiece tokenizer in the manner of a family: RoBERTa's padding has the id 1, BERT's 0."""
    import tokenizers
    import transformers
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import TemplateProcessing

    if family == "bert":
        first, pad, last, unknown, mask = "[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"
        specials = [pad, unknown, first, last, mask]
    else:
        first, pad, last, unknown, mask = "<s>", "<pad>", "</s>", "<unk>", "<mask>"
        specials = [first, pad, last, unknown, mask]
    numbers = {token: number for number, token in enumerate([*specials, *words])}
    inner = tokenizers.Tokenizer(WordPiece(numbers, unk_token=unknown))
    inner.normalizer = Lowercase()
    inner.pre_tokenizer = BertPreTokenizer()
    ends = [(first, numbers[first]), (last, numbers[last])]
    inner.post_processor = TemplateProcessing(single=f"{first} $A {last}", special_tokens=ends)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        cls_token=first,
        pad_token=pad,
        sep_token=last,
        unk_token=unknown,
        mask_token=mask,
        model_max_length=512,
    )


def tiny_config(family: Family) -> Any:
    """Two layers of width 16."""
    import transformers

    kind = {"bert": transformers.BertConfig, "roberta": transformers.RobertaConfig}[family]
    return kind(
        vocab_size=5 + len(WORDS),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=POSITIONS,
        pad_token_id=1 if family == "roberta" else 0,
        initializer_range=0.25,  # large enough for every input to matter
    )


def save_tiny(folder: Path, family: Family = "bert") -> Path:
    """Writes a tiny encoder with safetensors and its tokenizer into a folder."""
    import torch
    import transformers

    torch.manual_seed(0)
    transformers.AutoModel.from_config(tiny_config(family)).save_pretrained(folder)
    tiny_tokenizer(family).save_pretrained(folder)
    return folder


def packed(rows: Sequence[Sequence[int]]) -> EncodedTexts:
    """Rows of word pieces as texts without labels."""
    return EncodedTexts.without_labels(rows)
