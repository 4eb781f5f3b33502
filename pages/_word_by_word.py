"""Compare's words: why the models answer as they do, edits by a click, and the fewest words that flip an answer."""

from __future__ import annotations

import html
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import streamlit as st

from distill_core.analysis import flips
from distill_core.analysis.explain import Attribution, Explanation, attribute
from distill_core.analysis.flips import Flip
from distill_core.analysis.softened import Softened
from distill_core.analysis.words import Words
from distill_core.errors import Cancelled
from pages import _reruns, _session, _voices
from pages._run_actions import plain
from pages._voices import Voice
from pages._words import MOST, Edit, Line, words

FLIP, EXPLAINED = "compare.flip", "compare.explained"
PATIENCE = 0.4
"""Seconds of work after which its progress is shown."""
LONGEST = 20 * MOST
"""Characters up to which the words of a text are counted."""
_KEPT = 256
_attributions: OrderedDict[tuple[str, ...], Attribution] = OrderedDict()
_attributions_lock = threading.Lock()


def show(voices: Sequence[Voice], text: str, answers: Sequence[Softened], put: Callable[[str], None]) -> None:
    """Each word coloured by what it adds to each model's answer, and what can be done with it.

    Args:
        put: puts another text into the box.
    """
    with st.container(horizontal=True, vertical_alignment="center"):
        wanted = st.toggle(
            "Word by word",
            value=True,
            key="compare.words.shown",
            persist_state="session",
            help="Colours each word by what it adds to a model's answer. Click a word to leave it out, hide it or put "
            "another in its place.",
        )
        if not wanted:
            return
        labels = list(answers[0].probabilities)
        label = _explained(labels, answers[0].label, voices[0].role)
    found = Words.of(text) if len(text) <= LONGEST else None
    if found is None or len(found) > MOST:
        st.caption(f"A text of up to {MOST} words can be explained; this one has more.")
        return
    _draw(voices, _explain(voices, found, label, labels.index(label)), put)
    _flips(voices, found, answers, put)


def _explained(labels: Sequence[str], first: str, role: str) -> str:
    """The class for or against which words count."""
    usual = f"for the {role}'s answer"
    chosen: str = st.selectbox(
        "Which answer",
        [usual, *labels],
        format_func=lambda option: option if option == usual else f"for “{option}”",
        key="compare.label",
        label_visibility="collapsed",
        help="The answer for or against which words count.",
        width=240,
    )
    return chosen if chosen in labels else first


def _explain(voices: Sequence[Voice], found: Words, label: str, place: int) -> Explanation | None:
    """The attributions of all voices; those drawn last where a key or click did not wait for them."""
    with _patience("Looking at each word…") as check:
        models = {_name(voice): _attribution(voice, found, place, check) for voice in voices}
        st.session_state[EXPLAINED] = Explanation(found, label, models)
    return st.session_state.get(EXPLAINED)


def _name(voice: Voice) -> str:
    """What an explanation calls a voice."""
    return voice.run_id if voice.further else voice.role


@contextmanager
def _patience(words: str) -> Iterator[Callable[[], None]]:
    """Gives a check for work that ends as soon as a key or click waits, and that says what it does if it takes long."""
    spot, began = st.empty(), time.monotonic()

    def check() -> None:
        _reruns.give_way()
        if time.monotonic() - began > PATIENCE:
            spot.caption(words)

    with suppress(Cancelled):
        yield check
    spot.empty()


def _attribution(voice: Voice, found: Words, place: int, check: Callable[[], None]) -> Attribution:
    """What the words do to a voice's answer; worked out once for all who look."""
    key = (str(_session.store().home), voice.run_id, voice.role, str(place), found.text)
    with _attributions_lock:
        if key in _attributions:
            _attributions.move_to_end(key)
            return _attributions[key]
    made = attribute(_voices.predictor(voice.run_id, voice.further).readers[voice.role], found, place, check)
    with _attributions_lock:
        _attributions[key] = made
        while len(_attributions) > _KEPT:
            _attributions.popitem(last=False)
    return made


def _draw(voices: Sequence[Voice], explanation: Explanation | None, put: Callable[[str], None]) -> None:
    if explanation is None or list(explanation.models) != [_name(voice) for voice in voices]:
        return
    lines = [
        Line(voice.name, voice.colour, made.shares, f"error {100 * made.error:.1f} % after {made.steps} steps")
        for voice, made in zip(voices, explanation.models.values(), strict=True)
    ]
    edit = words(
        explanation.words.shown,
        explanation.words.gaps,
        lines,
        explanation.disputed,
        key="compare.words",
        label=f"Words for and against “{explanation.label}”",
    )
    st.caption(
        f"What each word adds to the log-odds of “{plain(explanation.label)}” (integrated gradients, Sundararajan et "
        "al. 2017), as a part of the strongest word. The error is what the words miss of the whole difference."
    )
    if edit is not None:
        put(_edited(explanation.words, edit))
        _reruns.again()


def _edited(found: Words, edit: Edit) -> str:
    if edit.what == "drop":
        return found.without({edit.place})
    return found.masked(edit.place) if edit.what == "mask" else found.replaced(edit.place, edit.word)


def _flips(voices: Sequence[Voice], found: Words, answers: Sequence[Softened], put: Callable[[str], None]) -> None:
    """The fewest words whose loss changes the student's answer."""
    place = next(number for number, voice in enumerate(voices) if voice.role == "student")
    if st.button(
        "What flips it?",
        key="compare.flips",
        icon=":material/swap_horiz:",
        help="Looks for the fewest words to leave out so that the student answers otherwise.",
        disabled=len(found) < 2,
    ):
        with _patience("Leaving words out; any key or click ends this…") as check:
            student = _voices.predictor(voices[place].run_id).readers["student"]
            flip = flips.fewest_words(student, found, check)
            st.session_state[FLIP] = voices[place].run_id, found.text, flip
    run_id, text, flip = st.session_state.get(FLIP, ("", "", None))
    if (run_id, text) == (voices[place].run_id, found.text):
        _tell_flip(found, flip, answers[place], put)


def _tell_flip(found: Words, flip: Flip | None, answer: Softened, put: Callable[[str], None]) -> None:
    if flip is None:
        st.html(
            f'<p class="lab-flip">The student says <b>{html.escape(answer.label)}</b> whichever words are left out.</p>'
        )
        return
    other = html.escape(list(answer.probabilities)[flip.label])
    gone = ", ".join(f"<b>“{html.escape(found.shown[place])}”</b>" for place in flip.places)
    sure = "No fewer words do it." if flip.smallest else "These are the fewest that were found."
    st.html(f'<p class="lab-flip">Without {gone} the student says <b>{other}</b>. {sure}</p>')
    st.button("Try this text", key="compare.flips.try", on_click=put, args=(flip.text,))
