"""Compare: what teacher and student say about a text as it is typed, and about whole sets of texts."""

from __future__ import annotations

import streamlit as st

from distill_core.errors import DistillError
from distill_core.status import short
from pages import _looks, _one_text, _router, _session, _voices, _whole_set

EXAMPLES = {
    "Praise": "A tender, funny and beautifully acted film that stays with you long after the credits.",
    "Scorn": "A tedious mess: the jokes fall flat, the plot makes no sense, and it lasts forever.",
    "Mixed": "The pictures are gorgeous, but the story never quite comes alive.",
}
VIEWS = {"One text": ":material/edit: One text", "Whole sets": ":material/table_rows: Whole sets"}


def nothing_yet() -> None:
    """What to do when no run has finished."""
    st.markdown("Here you type a text and see what teacher and student say about it. First a student must be taught.")
    if st.button("Teach one", type="primary", icon=":material/school:", key="compare.train"):
        st.switch_page("pages/train.py")


def choose_run(finished: list[str]) -> str:
    """The run whose models answer."""
    chosen = _session.chosen_run()
    index = finished.index(chosen) if chosen in finished else 0
    run_id: str = st.selectbox(
        "Run",
        finished,
        index=index,
        format_func=_voices.in_a_line,
        key="compare.run",
        help="The run whose models answer.",
    )
    if run_id != chosen:
        _session.choose_run(run_id)
    return run_id


def choose_beside(run_id: str, finished: list[str]) -> list[str]:
    """Further runs whose students answer the same text."""
    others = _voices.companions(run_id, finished)
    if not others:
        return []
    chosen: list[str] = st.multiselect(
        "Beside it",
        others,
        format_func=lambda other: f"{short(other)} · {_voices.difference_of(run_id, other)}",
        max_selections=_voices.MOST_BESIDE,
        placeholder="Further students of this teacher",
        help="Up to three more students of the same teacher answer the same text: see what β, temperature or size "
        "has changed.",
        key=f"compare.beside.{run_id}",
        persist_state="session",
    )
    return [other for other in chosen if other in others]


def examples_of(run_id: str) -> dict[str, str]:
    """Texts to try: made for film reviews, else training texts of the first classes."""
    config = _session.store().config(run_id)
    if config.data.name in ("rotten_tomatoes", "imdb"):
        return EXAMPLES
    try:
        profile = _session.known_profile(config)
    except DistillError:  # the file is gone
        profile = None
    found: dict[str, str] = {}
    for example in profile.examples if profile is not None else ():
        found.setdefault(example.label, example.text)
    return dict(list(found.items())[:3])


def open_text(text: str) -> None:
    """Shows a text of a set in the typed view."""
    _one_text.put(text)
    st.session_state["compare.view"] = "One text"


def show(finished: list[str]) -> None:
    """The choices on top, and the chosen view below."""
    _one_text.hear()
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    with left:
        run_id = choose_run(finished)
    with right:
        view = st.segmented_control(
            "View",
            list(VIEWS),
            default="One text",
            required=True,
            format_func=VIEWS.__getitem__,
            label_visibility="collapsed",
            key="compare.view",
            persist_state="session",
        )
    if view == "Whole sets":
        _whole_set.show(run_id, open_text)
        return
    beside = choose_beside(run_id, finished)
    _one_text.style()
    _one_text.show(run_id, _voices.voices(run_id, beside), examples_of(run_id))


_router.enter_by_router("pages/compare.py")
_looks.title("Compare teacher and student")
found = _session.finished_runs()
if found:
    try:
        show(found)
    except DistillError as error:
        _looks.show_error(error)
else:
    nothing_yet()
