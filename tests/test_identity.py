"""Who is at the browser, and what they may do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from distill_core.status import Status
from pages import _identity
from pages._identity import COOKIE, is_local, may_manage, owner, signed_in

TOKEN = "abcdefghijklmnopqrstuvwxyz-_0123"


class Browser:
    """What Streamlit says of somebody's browser."""

    def __init__(self, patched: pytest.MonkeyPatch, **known: Any) -> None:
        self.session: dict[str, Any] = {}
        context = SimpleNamespace(
            cookies=known.get("cookies", {}), headers=known.get("headers", {}), ip_address=known.get("address")
        )
        user = SimpleNamespace(**known.get("user", {}), get=known.get("user", {}).get)
        patched.setattr(_identity.st, "session_state", self.session)
        patched.setattr(_identity.st, "context", context)
        patched.setattr(_identity.st, "user", user)


def test_a_browser_without_a_cookie_is_somebody_new_and_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    Browser(monkeypatch)
    first = owner()
    assert owner() == first
    Browser(monkeypatch)
    assert owner() != first


def test_the_cookie_says_who_it_is_and_only_a_hash_of_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    Browser(monkeypatch, cookies={COOKIE: TOKEN})
    first = owner()
    Browser(monkeypatch, cookies={COOKIE: TOKEN})
    assert owner() == first
    assert TOKEN not in first
    assert len(first) == 32


@pytest.mark.parametrize("cookie", ["", "short", "../../../../etc/passwd/../../../", "x" * 4000, "ä" * 32])
def test_a_cookie_that_is_no_token_is_not_used(monkeypatch: pytest.MonkeyPatch, cookie: str) -> None:
    browser = Browser(monkeypatch, cookies={COOKIE: cookie})
    owner()
    assert browser.session["owner.token"] != cookie
    assert len(browser.session["owner.token"]) == 32


def test_only_who_started_a_run_may_manage_it(monkeypatch: pytest.MonkeyPatch) -> None:
    Browser(monkeypatch, cookies={COOKIE: TOKEN}, address="10.0.0.7")
    mine = Status("a", "running", 0.0, owner=owner())
    assert may_manage(mine)
    Browser(monkeypatch, address="10.0.0.8")
    assert not may_manage(mine)
    Browser(monkeypatch)
    assert not may_manage(mine), "nor does somebody at the machine, who has the command line"


@pytest.mark.parametrize(
    ("known", "local"),
    [
        ({"headers": {"Origin": "http://localhost:8501"}}, True),
        ({"headers": {"Origin": "http://127.0.0.1:8501"}}, True),
        ({"headers": {"Origin": "https://lab.example.org"}}, False),
        ({"headers": {}}, False),
        ({"headers": {"Origin": "http://localhost:8501"}, "address": "10.0.0.7"}, False),
        ({"headers": {"Origin": "http://localhost:8501", "X-Forwarded-For": "10.0.0.7"}}, False),
    ],
)
def test_a_run_of_the_command_line_belongs_to_who_is_at_the_machine(
    monkeypatch: pytest.MonkeyPatch, known: dict[str, Any], local: bool
) -> None:
    Browser(monkeypatch, **known)
    assert is_local() is local
    assert may_manage(Status("a", "running", 0.0)) is local


def test_an_account_is_the_same_owner_on_any_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    anna = {"is_logged_in": True, "sub": "anna-1", "email": "anna@example.org"}
    Browser(monkeypatch, user=anna)
    first = owner()
    Browser(monkeypatch, user=anna, cookies={COOKIE: TOKEN})
    assert owner() == first
    Browser(monkeypatch, user={**anna, "sub": "ben-2"})
    assert owner() != first


def test_who_has_not_signed_in_is_known_by_the_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    Browser(monkeypatch, cookies={COOKIE: TOKEN})
    plain = owner()
    Browser(monkeypatch, cookies={COOKIE: TOKEN}, user={"is_logged_in": False})
    assert signed_in() is None
    assert owner() == plain


def test_no_account_can_be_guessed_into_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    Browser(monkeypatch, user={"is_logged_in": True, "sub": TOKEN})
    account = owner()
    Browser(monkeypatch, cookies={COOKIE: TOKEN})
    assert owner() != account


def test_who_signs_in_keeps_what_the_browser_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    Browser(monkeypatch, cookies={COOKIE: TOKEN})
    before = Status("a", "running", 0.0, owner=owner())
    Browser(monkeypatch, cookies={COOKIE: TOKEN}, user={"is_logged_in": True, "sub": "anna-1"})
    assert may_manage(before)
