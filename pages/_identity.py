"""Who is at the browser: a token that the browser keeps, or a person who has signed in, and what they may do.

A browser's token lies in a cookie. The lab keeps only a hash of it, with the runs that were started there.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any
from urllib.parse import urlsplit

import streamlit as st

from distill_core.status import Status
from distill_core.sweep.record import SweepStatus

COOKIE = "distill_lab_owner"

# Keeps the token with the browser for a year; where a cookie is there already, the session takes that one over.
_keep_token = st.components.v2.component(
    "distill_lab.identity",
    js="""
export default function ({ data, setStateValue }) {
  const kept = document.cookie.split("; ").find((part) => part.startsWith(`${data.cookie}=`))?.split("=")[1];
  if (kept) {
    if (kept !== data.token) setStateValue("token", kept);
    return;
  }
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `${data.cookie}=${data.token}; Max-Age=31536000; Path=/; SameSite=Lax${secure}`;
}
""",
)


def keep_token() -> None:
    """Gives the browser its token; draws nothing. Call it once a page."""
    found = _keep_token(data={"cookie": COOKIE, "token": _token()}, key="identity", height=1, on_token_change=_nothing)
    kept = found.get("token")
    if isinstance(kept, str) and _is_token(kept):
        st.session_state["owner.token"] = kept


def _nothing() -> None:
    """The script runs again by itself once the browser has answered."""


def owner() -> str:
    """A hash of who is at the browser: of the account where somebody has signed in, else of the browser's token."""
    account = signed_in()
    return _hash(f"account {account}" if account else _token())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def may_manage(status: Status | SweepStatus) -> bool:
    """Whether the person may stop, rename and delete it: their own, or one of the command line at this machine."""
    return is_local() if status.owner is None else status.owner in (owner(), _hash(_token()))


def is_local() -> bool:
    """Whether the browser runs on the lab's own machine: it has opened the lab there, and not by way of a proxy."""
    opened = urlsplit(st.context.headers.get("Origin", "")).hostname
    forwarded = "X-Forwarded-For" in st.context.headers
    return st.context.ip_address is None and not forwarded and opened in ("localhost", "127.0.0.1", "::1")


def signed_in() -> str | None:
    """The account of somebody who has signed in (OpenID Connect); None without."""
    if not offers_sign_in() or not st.user.is_logged_in:
        return None
    account: Any = st.user.get("sub") or st.user.get("email")
    return f"{st.user.get('iss', '')} {account}" if account else None


def offers_sign_in() -> bool:
    """Whether this lab has been given an identity provider, in `.streamlit/secrets.toml`."""
    return st.user.get("is_logged_in") is not None


def sign_in_button() -> None:
    """Signing in and out, where this lab has been given an identity provider."""
    if not offers_sign_in():
        return
    with st.sidebar:
        if signed_in():
            st.caption(f"Signed in as {st.user.get('name') or st.user.get('email')}")
            st.button("Sign out", on_click=st.logout, key="identity.out")
        else:
            st.button("Sign in", on_click=st.login, key="identity.in", help="Then your runs are yours on any browser.")


def _token() -> str:
    token: str | None = st.session_state.get("owner.token")
    if token is None:
        sent = st.context.cookies.get(COOKIE, "")
        token = st.session_state["owner.token"] = sent if _is_token(sent) else secrets.token_urlsafe(24)
    return token


def _is_token(text: str) -> bool:
    return len(text) == 32 and text.replace("-", "").replace("_", "").isalnum() and text.isascii()
