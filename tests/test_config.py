"""Settings: what is refused and in which words, and what stays the same through JSON."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from distill_core import config as configuration
from distill_core.config import DATA_SETS, SIZES, DataConfig, RunConfig, digest, parse
from distill_core.errors import ConfigError
from distill_core.presets import load

SECTIONS: dict[str, type[BaseModel]] = {
    name: field.annotation
    for name, field in RunConfig.model_fields.items()
    if field.annotation is not None  # what every section has
}
FIELDS = [(section, name) for section, model in SECTIONS.items() for name in model.model_fields]
every_field = pytest.mark.parametrize(("section", "name"), FIELDS, ids=[f"{s}.{n}" for s, n in FIELDS])

NUMBERS = [
    (section, name)
    for section, name in FIELDS
    if SECTIONS[section].model_fields[name].annotation in (int, float, int | None)
]
every_number = pytest.mark.parametrize(("section", "name"), NUMBERS, ids=[f"{s}.{n}" for s, n in NUMBERS])


def field_of(section: str, name: str) -> FieldInfo:
    return SECTIONS[section].model_fields[name]


def bounds(field: FieldInfo) -> dict[str, Any]:
    """The bounds of a field by their names: ge, gt, le, lt."""
    return {
        limit: getattr(item, limit)
        for item in field.metadata
        for limit in ("ge", "gt", "le", "lt")
        if getattr(item, limit, None) is not None
    }


def is_float(field: FieldInfo) -> bool:
    return field.annotation is float


def values_of(field: FieldInfo) -> st.SearchStrategy[Any]:
    """Every value that a field allows."""
    limits = bounds(field)
    if get_origin(field.annotation) is Literal:
        return st.sampled_from(get_args(field.annotation))
    if field.annotation is bool:
        return st.booleans()
    if is_float(field):
        return st.floats(
            limits.get("ge", limits.get("gt")),
            limits.get("le", limits.get("lt")),
            exclude_min="gt" in limits,
            exclude_max="lt" in limits,
        )
    if field.annotation in (str, str | None):
        texts = st.text(min_size=1, max_size=8)
        return texts if field.annotation is str else st.none() | texts
    if field.annotation == dict[str, str]:
        return st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3)
    numbers = st.integers(limits["ge"], limits.get("le", 10**6))
    return numbers if field.annotation is int else st.none() | numbers


NAMES = st.sampled_from([*DATA_SETS, "hf:ag_news", "hf:stanfordnlp/sst2"])


def reconciled(values: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same values where none excludes another."""
    data, teacher, student, objective, training = (values[section] for section in SECTIONS)
    if student.get("like_teacher"):
        teacher["kind"] = student["kind"] = "lstm"
    if teacher.get("kind") == "file":
        data["name"] = "csv"
        objective["mode"], student["word_vectors"], training["augment"] = "offline", "random", 0
    if data.get("name") == "csv":
        data["path"] = data.get("path") or "reviews.csv"
    if objective.get("mode") == "joint":
        training["transfer"] = False
        if teacher.get("kind") == "pretrained":
            teacher["frozen"] = False
        training |= {"augment": 0, "assistant": "none", "seeds": 1, "label_share": 1.0}
    if not objective.get("beta", 1):
        objective["student_ce_weight"] = 1.0
    sizes = ["none", *SIZES]
    if sizes.index(training.get("assistant", "none")) >= sizes.index(teacher.get("size", "M")):
        training["assistant"] = "none"
    return values


configs = st.fixed_dictionaries(
    {
        section: st.fixed_dictionaries(
            {},
            optional={
                name: NAMES if (section, name) == ("data", "name") else values_of(field)
                for name, field in model.model_fields.items()
            },
        )
        for section, model in SECTIONS.items()
    }
).map(reconciled)
NEEDS: dict[tuple[str, str], dict[str, dict[str, Any]]] = {
    ("data", "name"): {"data": {"path": "reviews.csv"}},
    ("training", "assistant"): {"teacher": {"kind": "pretrained"}},
    ("teacher", "kind"): {"data": {"name": "csv", "path": "reviews.csv"}},
}
"""What must hold for every value of a field to be possible."""
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def reordered(value: Any, chance: random.Random) -> Any:
    """The same JSON value with the keys of all objects in another order."""
    if isinstance(value, dict):
        keys = list(value)
        chance.shuffle(keys)
        return {key: reordered(value[key], chance) for key in keys}
    return [reordered(item, chance) for item in value] if isinstance(value, list) else value


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(values)
    return str(caught.value)


# Through JSON


@given(values=configs)
def test_json_round_trip_gives_the_same_configuration_and_digest(values: dict[str, Any]) -> None:
    config = parse(values)
    copy = parse(json.loads(config.to_json()))
    assert copy == config
    assert copy.digest() == config.digest()


@given(values=configs, seed=st.integers(0, 100))
def test_digest_depends_on_values_not_on_the_order_of_keys(values: dict[str, Any], seed: int) -> None:
    assert parse(reordered(values, random.Random(seed))).digest() == parse(values).digest()


@given(value=json_values, seed=st.integers(0, 100))
def test_digest_of_any_json_ignores_the_order_of_keys(value: Any, seed: int) -> None:
    found = digest(value)
    assert digest(reordered(value, random.Random(seed))) == found
    assert len(found) == 16
    assert set(found) <= set("0123456789abcdef")


@every_field
def test_every_setting_changes_the_digest(section: str, name: str) -> None:
    field, needs = field_of(section, name), NEEDS.get((section, name), {})
    values: list[Any] = [field.default]
    if get_origin(field.annotation) is Literal:
        values.extend(get_args(field.annotation))
    elif field.annotation is bool:
        values.extend([False, True])
    elif field.annotation == dict[str, str]:
        values.extend([{"0": "bad"}, {"0": "good"}])
    elif (section, name) == ("data", "name"):
        values.extend([*DATA_SETS, "hf:ag_news"])
    elif field.annotation in (str, str | None):
        values.extend(["one", "another"])
    else:
        values.append(0.25 if is_float(field) else (field.default or 76) + 1)
    different = [value for row, value in enumerate(values) if value not in values[:row]]
    assert len(different) > 1
    settings = [{**needs, section: {**needs.get(section, {}), name: value}} for value in different]
    assert len({parse(values).digest() for values in settings}) == len(different)


def test_a_whole_number_and_the_same_float_have_one_digest() -> None:
    assert parse({"objective": {"beta": 1}}).digest() == parse({"objective": {"beta": 1.0}}).digest()


def test_digest_is_the_same_in_another_process() -> None:
    code = "from distill_core.config import RunConfig; print(RunConfig().digest())"
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=Path(configuration.__file__).parents[1],
    )
    assert found.stdout.strip() == RunConfig().digest()


def test_a_configuration_cannot_be_changed() -> None:
    config = RunConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.training = config.training  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config.objective.beta = 3.0  # type: ignore[misc]


# Fields


@every_field
def test_every_field_tells_a_person_what_it_is(section: str, name: str) -> None:
    field = field_of(section, name)
    assert field.title
    assert field.description
    assert field.description.endswith(".")
    assert field.title != name


@every_field
def test_every_error_names_field_value_and_remedy(section: str, name: str) -> None:
    message = refusal({section: {name: [["no such"]]}})
    assert message.startswith(f"{section}.{name} must be ")
    said, _, remedy = message.partition(", got [['no such']]; ")
    assert remedy
    assert len(said) > len(f"{section}.{name} must be ")
    assert "Input" not in message


@every_number
def test_every_number_is_held_to_its_bounds(section: str, name: str) -> None:
    field = field_of(section, name)
    limits = bounds(field)
    assert limits.keys() & {"ge", "gt"}
    assert limits.keys() & {"le", "lt"} or field.default is None, "only a limit that may be left out has no upper bound"
    assert isinstance(field.json_schema_extra, dict)
    step = 1e-9 if is_float(field) else 1
    beyond = {"ge": -step, "gt": 0, "le": step * 1e6 if is_float(field) else step, "lt": 0}
    for limit, bound in limits.items():
        outside = bound + beyond[limit]
        message = refusal({section: {name: outside}})
        assert message.startswith(f"{section}.{name} must be ")
        assert message.endswith(f", got {outside!r}; {field.json_schema_extra['hint']}")
        if limit in ("ge", "le"):
            assert getattr(getattr(parse({section: {name: bound}}), section), name) == bound


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("objective.temperature=0", "objective.temperature must be greater than 0, got 0; try 1 to 8"),
        ("objective.temperature=-1.0", "objective.temperature must be greater than 0, got -1.0; try 1 to 8"),
        ("objective.beta=many", "must be valid number, unable to parse string as a number, got 'many'; try 0.5 to 5"),
        ("objective.beta=NaN", "objective.beta must be finite number, got nan; try 0.5 to 5"),
        ("objective.beta=1e999", "objective.beta must be finite number, got inf; try 0.5 to 5"),
        ("objective.beta=null", "objective.beta must be valid number, got None; try 0.5 to 5"),
        ("training.seed=1.5", "got 1.5; try 0"),
        ("training.epochs=0", "training.epochs must be greater than or equal to 1, got 0; try 3 to 20"),
        ("training.baseline=perhaps", "training.baseline must be valid boolean"),
        ("teacher.size=XXL", "teacher.size must be 'XS', 'S', 'M', 'L' or 'XL', got 'XXL'; see its default in presets"),
        ("data.train_limit=3", "got 3; try 1000, or leave it out to use all"),
        ("data.name=[1]", "data.name must be valid string, got [1]; use rotten_tomatoes, bbc_news, imdb, csv or hf:"),
        (
            "data.name=imbd",
            "data.name must be a known name, got 'imbd'; use rotten_tomatoes, bbc_news, imdb, csv or hf:NAME, as in "
            "hf:ag_news",
        ),
        ('data.label_names={"0":5}', "data.label_names.0 must be valid string, got 5; try {"),
        ("teacher.kind=bert", "teacher.kind must be 'lstm', 'pretrained' or 'file', got 'bert'; see its default"),
        ("objective.beta_ramp=1.5", "objective.beta_ramp must be less than or equal to 1, got 1.5; try 0.3"),
        ("training.seeds=0", "training.seeds must be greater than or equal to 1, got 0; try 3 to 5"),
        ("objective.betta=1", "objective.betta is not a setting, got 1; did you mean objective.beta?"),
        ("trainning.seed=1", "trainning is not a setting, got {'seed': 1}; did you mean training?"),
        ("qqq.zzz=1", "; the sections are data, teacher, student, objective, training"),
        ("teacher.bidirectional.x=1", "teacher.bidirectional.x is not a setting, got 1; did you mean"),
        ("beta=2", "--set must read section.field=value, got 'beta=2'; try objective.beta=2"),
        ("objective.beta", "--set must read section.field=value, got 'objective.beta'; try objective.beta=2"),
        (".beta=2", "--set must read section.field=value, got '.beta=2'; try objective.beta=2"),
        ("", "--set must read section.field=value, got ''; try objective.beta=2"),
    ],
)
def test_a_bad_setting_is_refused_in_one_helpful_line(setting: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(settings=[setting])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("section", list(SECTIONS))
def test_extra_fields_are_refused_with_a_suggestion(section: str) -> None:
    known = next(iter(SECTIONS[section].model_fields))
    message = refusal({section: {f"{known}s": 5}})
    assert message == f"{section}.{known}s is not a setting, got 5; did you mean {section}.{known}?"


def test_a_teachers_field_is_no_setting_of_the_student() -> None:
    assert "student.pretrain is not a setting, got True; " in refusal({"student": {"pretrain": True}})


def test_a_section_that_is_no_object_is_refused() -> None:
    assert refusal({"objective": 5}).startswith("objective must be valid dictionary or instance of ObjectiveConfig")


@pytest.mark.parametrize(
    ("name", "known"),
    [
        *((name, True) for name in (*DATA_SETS, "hf:ag_news", "hf:stanfordnlp/sst2", "hf:a.b-c_d/e.f-g_h")),
        *((name, False) for name in ("", "imbd", "IMDB", "csv ", "csvs", " imdb", "imdb\n", "hf:", "hf:/x", "hf:x/")),
        *((name, False) for name in ("hf:a/b/c", "hf:a b", "hf:a\n", "hf:../x/y", "HF:ag_news", "hf:a?b", "my hf:a")),
    ],
)
def test_a_data_set_has_a_known_name_or_one_of_the_hub(name: str, known: bool) -> None:
    values = {"data": {"name": name, "path": "reviews.csv"}}
    if known:
        assert parse(values).data.name == name
    else:
        assert refusal(values).startswith(f"data.name must be a known name, got {name!r}; use rotten_tomatoes, ")


@pytest.mark.parametrize(
    ("name", "large"), [("imdb", True), ("hf:ag_news", True), ("csv", False), ("bbc_news", False), (None, False)]
)
def test_only_data_that_takes_long_to_read_is_large(name: str | None, large: bool) -> None:
    assert DataConfig(**({"name": name} if name else {})).is_large is large


@pytest.mark.parametrize(("values", "transfers"), [({}, False), ({"transfer": True}, True), ({"augment": 1}, True)])
def test_texts_without_labels_come_from_transfer_or_from_altered_copies(
    values: dict[str, Any], transfers: bool
) -> None:
    assert parse({"training": values}).transfers is transfers


# Settings that exclude each other

FILE = {"data": {"name": "csv", "path": "reviews.csv"}, "teacher": {"kind": "file"}}
JOINT = {"objective": {"mode": "joint"}}
CONTRADICTIONS: dict[str, tuple[dict[str, Any], str, str, dict[str, Any]]] = {
    "csv without a path": (
        {"data": {"name": "csv"}},
        "data.path must name your file when data.name is csv, got nothing; ",
        "csv, tsv or jsonl",
        {"data": {"path": "reviews.csv"}},
    ),
    "csv with an empty path": (
        {"data": {"name": "csv", "path": ""}},
        "data.path must name your file when data.name is csv, got nothing; ",
        "csv, tsv or jsonl",
        {"data": {"path": "reviews.csv"}},
    ),
    "teacher in a file of another data set": (
        {"teacher": {"kind": "file"}},
        "teacher.kind must be lstm or pretrained for rotten_tomatoes, got 'file'; ",
        "data.name=csv",
        {"data": {"name": "csv", "path": "reviews.csv"}},
    ),
    "joint training of a file": (
        {**FILE, **JOINT},
        "objective.mode must be offline when teacher.kind is file, got 'joint'; ",
        "cannot learn",
        {"objective": {"mode": "offline"}},
    ),
    "word vectors of a file": (
        {**FILE, "student": {"word_vectors": "teacher"}},
        "student.word_vectors must be random or glove when teacher.kind is file, got 'teacher'; ",
        "no word vectors",
        {"student": {"word_vectors": "glove"}},
    ),
    "a file's answers to new texts": (
        {**FILE, "training": {"augment": 3}},
        "training.augment must be 0 when teacher.kind is file, got 3; ",
        "cannot answer",
        {"training": {"augment": 0}},
    ),
    "joint training of a frozen encoder": (
        {**JOINT, "teacher": {"kind": "pretrained", "frozen": True}},
        "teacher.frozen must be false when objective.mode is joint, got True; ",
        "moves the teacher",
        {"teacher": {"frozen": False}},
    ),
    "joint training on a transfer set": (
        {**JOINT, "training": {"transfer": True}},
        "objective.mode must be offline with training.transfer or training.augment, got 'joint'; ",
        "answers once",
        {"objective": {"mode": "offline"}},
    ),
    "joint training on altered copies": (
        {**JOINT, "training": {"augment": 2}},
        "objective.mode must be offline with training.transfer or training.augment, got 'joint'; ",
        "answers once",
        {"training": {"augment": 0}},
    ),
    "joint training with an assistant": (
        {**JOINT, "training": {"assistant": "S"}},
        "training.assistant must be none when objective.mode is joint, got 'S'; ",
        "side by side",
        {"training": {"assistant": "none"}},
    ),
    "a student that hears nobody": (
        {"objective": {"beta": 0, "student_ce_weight": 0}},
        "objective.beta and objective.student_ce_weight must not both be 0, got 0 and 0; ",
        "neither teacher nor labels",
        {"objective": {"beta": 1}},
    ),
    "an assistant as large as its teacher": (
        {"teacher": {"size": "S"}, "training": {"assistant": "S"}},
        "training.assistant must be smaller than the teacher (S), got 'S'; ",
        "between teacher and student",
        {"training": {"assistant": "XS"}},
    ),
    "joint training with several seeds": (
        {**JOINT, "training": {"seeds": 3}},
        "training.seeds must be 1 when objective.mode is joint, got 3; ",
        "another teacher",
        {"training": {"seeds": 1}},
    ),
    "self-distillation of an encoder": (
        {"teacher": {"kind": "pretrained"}, "student": {"like_teacher": True}},
        "student.like_teacher must be false for a pretrained teacher and a lstm student, got True; ",
        "two LSTMs",
        {"teacher": {"kind": "lstm"}},
    ),
    "self-distillation into another kind": (
        {"student": {"like_teacher": True, "kind": "textcnn"}},
        "student.like_teacher must be false for a lstm teacher and a textcnn student, got True; ",
        "two LSTMs",
        {"student": {"kind": "lstm"}},
    ),
}


@pytest.mark.parametrize("case", list(CONTRADICTIONS))
def test_a_contradiction_is_refused_with_field_value_and_remedy(case: str) -> None:
    values, starts, remedy, _ = CONTRADICTIONS[case]
    message = refusal(values)
    assert message.startswith(starts)
    assert remedy in message.partition("; ")[2]
    with pytest.raises(ConfigError):
        RunConfig(**values)


@pytest.mark.parametrize("case", list(CONTRADICTIONS))
def test_the_remedy_of_a_contradiction_helps(case: str) -> None:
    values, _, _, change = CONTRADICTIONS[case]
    mended = {section: {**values.get(section, {}), **change.get(section, {})} for section in (*values, *change)}
    parse(mended)


@pytest.mark.parametrize("case", list(CONTRADICTIONS))
def test_a_contradiction_on_the_command_line_is_refused_too(case: str) -> None:
    values, starts, _, _ = CONTRADICTIONS[case]
    settings = [
        f"{section}.{name}={json.dumps(value)}" for section, fields in values.items() for name, value in fields.items()
    ]
    with pytest.raises(ConfigError) as caught:
        load(settings=settings)
    assert str(caught.value).startswith(starts)


@pytest.mark.parametrize(
    "values",
    [
        {**JOINT, "teacher": {"frozen": True}},  # says nothing about an LSTM
        {**FILE, "training": {"transfer": True, "seeds": 3, "assistant": "S"}},
        {**FILE, "student": {"word_vectors": "glove"}},
        {**JOINT, "teacher": {"kind": "pretrained"}, "student": {"word_vectors": "teacher"}},
        {"student": {"like_teacher": True}, "training": {"augment": 2, "seeds": 2, "assistant": "S"}},
        {"data": {"name": "imdb", "path": "somewhere"}},
    ],
)
def test_settings_that_go_together_are_accepted(values: dict[str, Any]) -> None:
    parse(values)
