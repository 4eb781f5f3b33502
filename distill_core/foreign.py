"""Whether the files of a run that comes from elsewhere are what a run of this lab would have written.

Pages rely on what a run's files hold, so each value that they use is checked here, once, before the run is one of ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from distill_core import config as configuration
from distill_core import events, files
from distill_core.analysis.verdict import verdict
from distill_core.config import RunConfig
from distill_core.errors import DistillError, RunError
from distill_core.status import Status
from distill_core.store import ENCODER, Store

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")
LARGEST = 2**53
"""Whole numbers beyond this have no use in a run, and are not whole in a browser."""
CODE = frozenset({"auto_map", "custom_pipelines", "quantization_config", "_attn_implementation"})
"""Keys by which an encoder's configuration asks for code that does not come with the lab."""

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=LARGEST, strict=True)]
Moment = Annotated[float, Field(ge=0, le=4e9)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")


class _OnTrain(_Part):
    accuracy: Share | None = None
    agreement: Share | None = None
    kl: float | None = None
    kl_reverse: float | None = None


class _Entry(_Part):
    """What a result says about a model."""

    architecture: str = Field(max_length=1000)
    parameters: Count | None
    bytes: Count | None = None
    latency_ms: float | None
    val_accuracy: Share | None = None
    test_accuracy: Share
    test_interval: tuple[float, float] | None = None
    macro_f1: Share | None = None
    ece: Share | None = None
    nll: float | None = None
    agreement: Share | None = None
    kl: float | None = None
    kl_reverse: float | None = None
    confusion: list[list[Count]] | None = None
    train: _OnTrain = _OnTrain()


class _Spread(_Part):
    values: list[Share] = Field(max_length=1000)
    mean: Share
    std: Share


class _Seeds(_Part):
    count: Count
    student: _Spread
    baseline: _Spread | None
    p_value: Share | None = None


class _Result(_Part):
    labels: list[str] = Field(min_length=1, max_length=100_000)
    sizes: dict[str, Count] = {}
    seconds: dict[str, float] = {}
    teacher: _Entry
    baseline: _Entry | None
    student: _Entry
    retention: float | None
    gain: float | None
    gain_margin: float | None
    teacher_margin: float | None = None
    seeds: _Seeds | None = None


class _Words(_Part):
    tokens: list[str] = Field(min_length=2, max_length=1_000_002)


class _Notes(BaseModel):
    """What `Notes` takes and no more: else all of it would count as none."""

    model_config = ConfigDict(extra="forbid")

    name: str = ""
    tags: list[str] = []
    note: str = ""


class _Moments(_Part):
    created: Moment
    started: Moment | None
    ended: Moment | None
    queued: Moment = 0.0


def _fields_of(kind: type[events.Event]) -> dict[str, Any]:
    """The fields of an event, to be checked: a data class alone would take values of any type."""
    return {name: (hint, ...) for name, hint in get_type_hints(kind).items()}


_STATUS = TypeAdapter(Status)
_EVENTS = {
    kind: create_model(kind.__name__, __config__=ConfigDict(strict=True), **_fields_of(kind))
    for kind in get_args(events.Event)
}


def shortened(words: object, most: int = 400) -> str:
    """A message without what a stranger may have put into it at length."""
    text = str(words)
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"


def check_run(store: Store, run_id: str) -> Status:
    """Checks every file of a run that is over, loads its models and asks them about a text.

    Raises:
        DistillError: the first thing that is wrong.
    """
    folder = store.run_folder(run_id)
    for file in sorted(folder.glob("*.json")):
        _check_text(file.name, files.load_json(file))
    config = configuration.parse(files.load_json(folder / "config.json"))
    status = _status(folder / "status.json")
    if (folder / "notes.json").is_file():
        _check("notes.json", TypeAdapter(_Notes), files.load_json(folder / "notes.json"))
    _check_events(folder / "events.jsonl")
    for file in sorted(folder.glob("*.safetensors")):
        shapes_in(file)
    result = store.result(run_id)
    if result is not None:
        _check_result(result)
        _check_models(store, run_id, config, result)
    elif status.status == "finished":
        raise RunError("result.json must be there in a run that has finished, got none; export the run again")
    return status


def _check_text(name: str, values: Mapping[str, Any]) -> None:
    """Halves of characters, which JSON can hold, could be neither shown nor written."""
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RunError(f"{name} must hold whole characters, got halves of some; export the run again") from None


def _wrong(name: str, error: ValidationError) -> RunError:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    value = shortened(repr(first["input"]), 80)
    return RunError(f"{place} in {name} is wrong ({first['msg']}), got {value}; export the run again")


def _check(name: str, kind: TypeAdapter[T], values: object) -> T:
    try:
        return kind.validate_python(values)
    except ValidationError as error:
        raise _wrong(name, error) from None


def _status(file: Path) -> Status:
    values = files.load_json(file)
    status = _check(file.name, _STATUS, values)
    _check(file.name, TypeAdapter(_Moments), values)
    if not status.over:
        raise RunError(f"status in status.json must be that of a run that is over, got {status.status!r}; wait for it")
    return status


# Events


def _check_events(file: Path) -> None:
    """Reads all events as a page would."""
    history = events.History()
    try:
        history.feed(_events_in(file) if file.is_file() else ())
    except (TypeError, ArithmeticError) as error:
        raise RunError(f"events.jsonl must tell one story, got {shortened(error, 80)}; export the run again") from None


def _events_in(file: Path) -> Iterator[tuple[float, events.Event]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            decoded = events.decode(line.decode(errors="replace"))
            if decoded is None:
                got = shortened(line, 80)
                raise RunError(f"line {number} of events.jsonl must be an event, got {got}; export the run again")
            _check_event(f"line {number} of events.jsonl", *decoded)
            yield decoded


def _check_event(name: str, when: float, event: events.Event) -> None:
    try:
        _EVENTS[type(event)].model_validate(event.__dict__)
    except ValidationError as error:
        raise _wrong(name, error) from None
    _check_text(name, event.__dict__)
    numbers = [when, *(value for value in event.__dict__.values() if isinstance(value, int))]
    if not all(0 <= number <= LARGEST for number in numbers):
        raise RunError(f"{name} must have numbers from 0 to 2^53, got others; export the run again")
    if isinstance(event, events.RunStarted) and not set(event.stages) <= set(events.STAGES):
        raise RunError(f"{name} must name stages of {', '.join(events.STAGES)}, got others; export the run again")


# Result and models


def _check_result(result: Mapping[str, Any]) -> None:
    _check("result.json", TypeAdapter(_Result), result)
    for role in ("teacher", "baseline", "student"):
        confusion = (result[role] or {}).get("confusion")
        if confusion is not None and {len(row) for row in [confusion, *confusion]} != {len(result["labels"])}:
            raise RunError(
                f"{role}.confusion in result.json must have a row and a column a label; export the run again"
            )
    try:
        verdict(result)
    except (TypeError, ArithmeticError, LookupError) as error:
        raise RunError(f"result.json must allow a verdict, got {shortened(error, 80)}; export the run again") from None


def shapes_in(file: Path) -> dict[str, list[int]]:
    """The shape of each tensor of a safetensors file, from its header alone."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as tensors:
            return {name: list(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError) as error:
        raise RunError(f"{file.name} must be safetensors, got {shortened(error, 80)}; export the run again") from None


def _check_models(store: Store, run_id: str, config: RunConfig, result: Mapping[str, Any]) -> None:
    from distill_core.analysis.predict import Predictor

    folder = store.run_folder(run_id)
    words = _check("vocabulary.json", TypeAdapter(_Words), files.load_json(folder / "vocabulary.json")).tokens
    if config.teacher.kind == "pretrained":
        _check_encoder(folder)
    try:
        for role, model in _empty_models(folder, config, result, len(words)):
            _check_shapes(folder / f"{role}.safetensors", model)
        Predictor.load(store, run_id).predict(["a film"])
    except DistillError:
        raise
    except Exception as error:  # what strangers have made can be wrong in any way
        raise RunError(
            f"models must load and answer a text, got {shortened(error, 200)}; export the run again"
        ) from None


def _empty_models(
    folder: Path, config: RunConfig, result: Mapping[str, Any], vocabulary: int
) -> Sequence[tuple[str, nn.Module]]:
    """The models that settings and words ask for, without weights, so that they take no memory whatever is asked."""
    import torch

    from distill_core.models import classifier
    from distill_core.models.sizes import student_model

    classes = len(result["labels"])
    with torch.device("meta"):
        student = classifier.build(student_model(config), vocabulary, classes)
        found: list[tuple[str, nn.Module]] = [("student", student)]
        if result["baseline"] is not None:
            found.append(("baseline", student))
        if config.teacher.kind == "lstm":
            found.append(("teacher", classifier.build(config.teacher, vocabulary, classes)))
        elif config.teacher.kind == "pretrained":
            from distill_core.models import pretrained

            found.append(("teacher", pretrained.rebuild(folder / ENCODER, classes, 4)[0]))
    return found


def _check_shapes(file: Path, model: nn.Module) -> None:
    wanted = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    found = shapes_in(file)
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise RunError(
                f"{shortened(name, 80)} in {file.name} must have the shape {wanted.get(name)} that the settings ask "
                f"for, got {found.get(name)}; export the run again"
            )


def _check_encoder(folder: Path) -> None:
    """Refuses an encoder that asks for code, or for layers whose weights are not there."""
    tensors = len(shapes_in(folder / "teacher.safetensors"))
    for file in sorted((folder / ENCODER).glob("*config.json")):
        for key, value in _pairs(files.load_json(file)):
            if key in CODE:
                raise RunError(f"{key} in encoder/{file.name} must not be set: the lab runs no code of a model's own")
            if "layer" in key and isinstance(value, int) and value > tensors:
                raise RunError(
                    f"{key} in encoder/{file.name} must be at most {tensors}, got more; export the run again"
                )


def _pairs(values: object) -> Iterator[tuple[str, object]]:
    """All keys with their values, at whatever depth."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield key, value
            yield from _pairs(value)
    elif isinstance(values, list):
        for value in values:
            yield from _pairs(value)
