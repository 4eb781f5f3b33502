"""The limits of a lab, and what is said about a file of limits that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_core import limits
from distill_core.errors import ConfigError
from distill_core.limits import FILE, Limits

OPTIONAL = ("queued_per_owner", "training_minutes", "pause_minutes", "home_gigabytes", "workers")
NEEDED = ("upload_megabytes", "text_characters")


def write(home: Path, content: Any) -> Path:
    """A home folder whose file of limits holds a value, or a text as it stands."""
    (home / FILE).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return home


def test_a_home_folder_without_a_file_has_the_defaults(tmp_path: Path) -> None:
    assert limits.load(tmp_path) == limits.load(tmp_path / "not there") == Limits()


def test_the_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    found = limits.load(write(tmp_path, {"home_gigabytes": 1.5, "workers": 2}))
    assert found == Limits(home_gigabytes=1.5, workers=2)


@pytest.mark.parametrize("name", OPTIONAL)
def test_null_takes_a_limit_away(tmp_path: Path, name: str) -> None:
    assert getattr(limits.load(write(tmp_path, {name: None})), name) is None


@pytest.mark.parametrize("name", NEEDED)
def test_what_protects_the_server_itself_cannot_be_taken_away(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} in {FILE}"):
        limits.load(write(tmp_path, {name: None}))


@given(name=st.sampled_from((*OPTIONAL, *NEEDED)), value=st.sampled_from((0, -1, -0.5, True, "3", "much", [], {})))
def test_a_value_out_of_range_is_named_with_its_field(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: Any
) -> None:
    home = write(tmp_path_factory.mktemp("home"), {name: value})
    with pytest.raises(ConfigError) as raised:
        limits.load(home)
    assert str(raised.value).startswith(f"{name} in {FILE} is wrong")
    assert f"got {value!r}" in str(raised.value)


def test_an_unknown_limit_is_answered_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        limits.load(write(tmp_path, {"home_gigabyte": 5}))
    assert "home_gigabyte in limits.json" in str(raised.value)
    assert all(name in str(raised.value) for name in Limits.model_fields)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "5", "null", '{"workers": }'])
def test_what_is_no_json_object_is_a_mistake_that_names_the_file(tmp_path: Path, content: str) -> None:
    with pytest.raises(ConfigError, match=FILE):
        limits.load(write(tmp_path, content))


def test_bytes_that_are_no_text_are_a_mistake_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(ConfigError, match=FILE):
        limits.load(tmp_path)


def test_a_file_that_cannot_be_opened_is_a_mistake_that_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {})

    def refuse(self: Path, **options: Any) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(ConfigError, match=r"limits.json must be .* Permission denied"):
        limits.load(tmp_path)


def test_every_limit_says_what_it_limits() -> None:
    assert [name for name, field in Limits.model_fields.items() if not (field.description or "").endswith(".")] == []
    assert {*OPTIONAL, *NEEDED} == set(Limits.model_fields)


@pytest.mark.parametrize("content", ["Infinity", "NaN"])
def test_a_number_without_end_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(ConfigError, match=f"^home_gigabytes in {FILE} is wrong"):
        limits.load(write(tmp_path, f'{{"home_gigabytes": {content}}}'))


@pytest.mark.parametrize("content", ["[" * 100_000, "{torn", ""])
def test_a_file_that_is_not_json_is_said_to_be_unreadable(tmp_path: Path, content: str) -> None:
    with pytest.raises(ConfigError, match=f"^{FILE} must be a JSON object, got one that cannot be read"):
        limits.load(write(tmp_path, content))


def test_a_list_of_limits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{FILE} must hold an object, got list"):
        limits.load(write(tmp_path, [1]))


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        limits.load(tmp_path)
