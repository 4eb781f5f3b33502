"""Compare: type a text and see what teacher and student say."""

from __future__ import annotations

import html
from typing import Any

import streamlit as st

from distill_core.analysis.predict import Predictor
from distill_core.data.sources import describe
from distill_core.errors import DistillError
from distill_core.status import short
from pages import _figures, _looks, _router, _session

EXAMPLES = {
    "Praise": "A tender, funny and beautifully acted film that stays with you long after the credits.",
    "Scorn": "A tedious mess: the jokes fall flat, the plot makes no sense, and it lasts forever.",
    "Mixed": "The pictures are gorgeous, but the story never quite comes alive.",
}
KL_HELP = "Divergence of the student's answer from its teacher's (Kullback and Leibler): 0 when they are equal"
KL_WORDS = ((0.02, "alike"), (0.2, "close"))


@st.cache_resource(max_entries=8, show_spinner="Loading the models…")
def predictor_of(home: str, run_id: str) -> Predictor:
    """The models of a run, read once."""
    return Predictor.load(_session.store(), run_id)


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
        "Run", finished, index=index, format_func=_describe, key="compare.run", help="The run whose models answer."
    )
    if run_id != chosen:
        _session.choose_run(run_id)
    return run_id


def _describe(run_id: str) -> str:
    config, result = _session.store().config(run_id), _session.store().result(run_id)
    assert result is not None
    return (
        f"{short(run_id)} · {describe(config.data).title} · {_looks.models(config)} · "
        f"β {config.objective.beta:g} · student {100 * result['student']['test_accuracy']:.1f} %"
    )


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


def ask(examples: dict[str, str]) -> str:
    """The text to answer."""
    st.session_state.setdefault("compare.text", st.session_state.get("compare.draft", ""))
    text: str = st.text_area(
        "Text",
        key="compare.text",
        placeholder="Type a text",
        height=100,
        max_chars=_session.allowed().text_characters,
    )
    with st.container(horizontal=True):
        st.button("Compare", type="primary", key="compare.ask", help="Ask both models about the text above.")
        for name, example in examples.items():
            st.button(name, key=f"compare.example.{name}", on_click=_fill, args=(example,))
    st.session_state["compare.draft"] = text
    return text


def _fill(text: str) -> None:
    st.session_state["compare.text"] = text


def answer(run_id: str, text: str) -> None:
    """Teacher and student side by side, and how far they are apart."""
    predictor = predictor_of(str(_session.store().home), run_id)
    result = _session.store().result(run_id)
    assert result is not None
    spoken = predictor.predict([text])[0]
    left, middle, right = st.columns([5, 2, 5])
    if spoken["teacher"] is None:
        with left:
            _model("student", spoken["student"], result["student"])
        with right:
            st.info(
                "The teacher of this run is a file: its answers to the texts of that file are known, but nobody can "
                "ask it about a new one. So the student answers alone.",
                icon=":material/description:",
            )
    else:
        with left:
            _model("teacher", spoken["teacher"], result["teacher"])
        with middle:
            _between(spoken)
        with right:
            _model("student", spoken["student"], result["student"])
    _reading(predictor, text)


def _model(role: str, probabilities: dict[str, float], entry: dict[str, Any]) -> None:
    best = max(probabilities, key=probabilities.__getitem__)
    st.html(
        f'<div class="lab-role"><i style="background:{_figures.COLOURS[role]}"></i>{role.capitalize()}</div>'
        f'<p class="lab-answer">{html.escape(best)} {100 * probabilities[best]:.1f} %</p>'
    )
    st.plotly_chart(
        _figures.probability_figure(probabilities, role),
        key=f"compare.bars.{role}",
        config={"displayModeBar": False},
    )
    st.caption(
        f"{entry['latency_ms']:.2f} ms a text · {_looks.millions(entry['bytes'])}B · "
        f"{_looks.millions(entry['parameters'])} parameters"
    )


def _between(spoken: dict[str, Any]) -> None:
    near = next((word for limit, word in KL_WORDS if spoken["kl"] < limit), "apart")
    word, agree = (near, "They agree.") if spoken["agree"] else ("close" if near == "alike" else near, "They disagree.")
    st.html(
        f'<div class="lab-middle" title="{KL_HELP}"><b>{word}</b><div>{agree}</div>'
        f"<small>KL {spoken['kl']:.3f} nats</small></div>"
    )


def _reading(predictor: Predictor, text: str) -> None:
    known, read, total = predictor.reading(text)
    if known == 0:
        st.warning("The student knows none of these words, so its answer says nothing about the text.")
    elif known < read:
        st.caption(f"The student knows {known} of the {read} words and signs that it reads.")
    if total > read:
        st.caption(f"It reads the first {read:,} of {total:,} words and signs.")


_router.enter_by_router("pages/compare.py")
_looks.title("Compare teacher and student")
finished = _session.finished_runs()
if not finished:
    nothing_yet()
else:
    run_id = choose_run(finished)
    text = ask(examples_of(run_id))
    if text.strip():
        try:
            answer(run_id, text)
        except DistillError as error:
            _looks.show_error(error)
    else:
        st.info("Type a text, or try one of the examples.", icon=":material/edit:")
