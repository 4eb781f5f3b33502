"""Storage: what takes how much of the disk, what can go, and what this lab allows."""

from __future__ import annotations

import html
import time

import streamlit as st

from distill_core import cleaning, limits, storage
from distill_core.cleaning import Cleaning, Kind
from distill_core.errors import DistillError
from distill_core.limits import Limits
from distill_core.storage import Part, Room, Usage, amount
from pages import _identity, _looks, _router, _session

# Comments and no docstrings: Streamlit would write those on the page.
# For so long a cleaning's outcome is shown:
SAID_SECONDS = 60.0
# What is not cleaned here:
FIXED: dict[str, tuple[str, tuple[Part, ...]]] = {
    "Runs": ("Settings, curves, results and models. Delete those that nobody needs on the page Runs.", ("runs",)),
    "Other": ("Settings of browsers and of this lab.", ("other",)),
}


def known_limits() -> Limits:
    """The limits of this lab; where they cannot be read, that is said, and no limit is drawn."""
    try:
        return limits.load(_session.store().home)
    except DistillError as error:
        _looks.show_error(error)
        return Limits(home_gigabytes=None)


def summary(room: Room) -> str:
    """All in a few words."""
    most = "" if room.limit is None else f" of {amount(room.limit)}"
    free = "" if room.free is None else f" · {amount(room.free)} free on the disk"
    return f"{amount(room.used)}{most} used{free}"


def whole_bar(room: Room) -> None:
    """How full the home folder is; a line stands at its limit."""
    scale = max(room.used, room.limit if room.limit is not None else room.used + (room.free or 0), 1)
    over = " over" if storage.shortage(room) else ""
    line = "" if room.limit is None else f'<b style="left:{100 * room.limit / scale:.2f}%"></b>'
    st.html(
        f'<div class="storage-bar{over}" role="img" aria-label="{html.escape(summary(room))}">'
        f'<i style="width:{100 * room.used / scale:.2f}%"></i>{line}</div>'
    )


def row(title: str, sentence: str, size: int, largest: int) -> None:
    """One kind: its name, its size and what it is."""
    st.html(
        f'<div class="storage-row"><div><b>{html.escape(title)}</b><span>{amount(size)}</span></div>'
        f'<i style="width:{100 * size / max(largest, 1):.2f}%"></i><p>{html.escape(sentence)}</p></div>'
    )


def table(found: Usage, frees: dict[str, int], local: bool) -> None:
    """All kinds, those that can be cleaned with a button."""
    largest = max(found.of(parts) for parts in (*(words.parts for words in cleaning.WORDS.values()), ("runs",)))
    rows = {name: (words, found.of(parts)) for name, (words, parts) in FIXED.items()}
    with st.container(key="storage.table", gap=None):
        _fixed_row("Runs", *rows["Runs"], largest)
        for kind, words in cleaning.WORDS.items():
            left, right = st.columns([4, 1.4], vertical_alignment="center")
            with left:
                row(words.title, f"{words.what} {words.lost}", found.of(words.parts), largest)
            with right:
                _button(kind, frees[kind], local)
        _fixed_row("Other", *rows["Other"], largest)


def _fixed_row(title: str, sentence: str, size: int, largest: int) -> None:
    left, _ = st.columns([4, 1.4])
    with left:
        row(title, sentence, size, largest)


def _button(kind: Kind, freed: int, local: bool) -> None:
    done = outcome(kind)
    if done is not None:
        st.markdown(f":green[:material/check: Freed {amount(done.freed)}]")
    elif not freed:
        st.caption("Nothing to free")
    elif not local:
        st.caption(f"{amount(freed)} could go")
    elif st.session_state.get("storage.asked") == kind:
        with st.container(horizontal=True, gap="small"):
            st.button(
                f"Delete {amount(freed)}",
                type="primary",
                on_click=_clean,
                args=(kind,),
                key=f"storage.delete.{kind}",
            )
            st.button("Keep", on_click=_ask, args=(None,), key=f"storage.keep.{kind}")
    else:
        asks = cleaning.WORDS[kind].asks
        st.button(
            f"Free {amount(freed)}{'…' if asks else ''}",
            on_click=_ask if asks else _clean,
            args=(kind,),
            key=f"storage.clean.{kind}",
        )


def _ask(kind: Kind | None) -> None:
    st.session_state["storage.asked"] = kind
    st.session_state.pop("storage.said", None)


def _clean(kind: Kind) -> None:
    st.session_state.pop("storage.asked", None)
    if _identity.is_local():
        st.session_state["storage.said"] = time.monotonic(), kind, cleaning.clean(_session.store(), [kind])


def outcome(kind: Kind) -> Cleaning | None:
    """What a cleaning of this kind has just done."""
    when, cleaned, done = st.session_state.get("storage.said", (0.0, None, None))
    return done if cleaned == kind and time.monotonic() - when < SAID_SECONDS else None


def problems() -> None:
    """What the last cleaning could not do."""
    for kind in cleaning.KINDS:
        done = outcome(kind)
        for problem in done.problems if done is not None else ():
            st.warning(_looks.named(problem))


def allowed(current: Limits, local: bool) -> None:
    """The limits, each with what it means."""
    st.markdown("**Limits of this lab**")
    cells = "".join(
        f"<tr><td><code>{name}</code></td><td>{_value(getattr(current, name))}</td>"
        f"<td>{html.escape(field.description or '')}</td></tr>"
        for name, field in Limits.model_fields.items()
    )
    st.html(f'<table class="storage-limits">{cells}</table>')
    where = f"`{limits.FILE}` in `{_session.store().home}`" if local else f"`{limits.FILE}` in the lab's home folder"
    st.caption(
        f'They can be changed in {where}, for example `{{"home_gigabytes": 50}}`; `null` is no limit. '
        "What the file does not name is as shown here."
    )


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:,g}" if isinstance(value, float) else f"{value:,}"


def nothing_yet() -> None:
    """What will be here."""
    st.markdown("Nothing is kept yet. Runs, their teachers and the files that you upload will take their room here.")
    if st.button("Start the first run", type="primary", icon=":material/school:", key="storage.train"):
        st.switch_page("pages/train.py")


def shortage(room: Room) -> None:
    """Why no further run starts, where that is so."""
    lacking = storage.shortage(room)
    if lacking is not None:
        st.error(f"No further run starts: {lacking}. Free some below, or raise the limit in {limits.FILE}.")


def main() -> None:
    """The page."""
    local = _identity.is_local()
    found = storage.usage(_session.store())
    place = st.container()
    current = known_limits()
    room = storage.room(_session.store(), current, found)
    with place:
        _looks.title("Storage", summary(room))
        whole_bar(room)
    shortage(room)
    if found.total == found.of(("other",)) and not any(map(outcome, cleaning.KINDS)):
        nothing_yet()
    else:
        table(found, cleaning.cleanable(_session.store()), local)
        problems()
    if found.unreadable:
        st.caption(f"{found.unreadable:,} files or folders could not be read; they are not counted.")
    if not local:
        st.caption(
            "Cleaning is for the person at the lab's machine, on this page or with "
            "`python -m distill_core storage --clean KIND`."
        )
    allowed(current, local)


_STYLE = """
.storage-bar { position: relative; height: 14px; border-radius: 4px; margin: 0.2rem 0 0.4rem;
  background: color-mix(in srgb, currentColor 12%, transparent); overflow: hidden; }
.storage-bar i { display: block; height: 100%; min-width: 2px;
  background: color-mix(in srgb, currentColor 60%, transparent); }
.storage-bar b { position: absolute; top: 0; bottom: 0; width: 3px; margin-left: -3px; background: currentColor; }
.storage-bar.over i { background: #D55E00; }
.storage-row { padding: 0.35rem 0; }
.storage-row > div { display: flex; justify-content: space-between; gap: 1rem; }
.storage-row span { font-variant-numeric: tabular-nums; white-space: nowrap; }
.storage-row i { display: block; height: 4px; border-radius: 2px; margin: 3px 0 4px;
  background: color-mix(in srgb, currentColor 45%, transparent); }
.storage-row p { margin: 0; font-size: 0.86rem; opacity: 0.7; line-height: 1.35; }
.storage-limits { border-collapse: collapse; font-size: 0.88rem; }
.storage-limits td { padding: 0.15rem 1.2rem 0.15rem 0; vertical-align: top; border: 0; }
.storage-limits td:nth-child(2) { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
@media (max-width: 640px) {
  .storage-row { padding-top: 0.8rem; }
  .storage-limits tr { display: grid; grid-template-columns: 1fr auto; padding-bottom: 0.5rem; }
  .storage-limits td { padding-right: 0; }
  .storage-limits td:nth-child(3) { grid-column: 1 / -1; opacity: 0.7; }
}
"""

_router.enter_by_router("pages/storage.py")
st.html(f"<style>{_STYLE}</style>")
main()
