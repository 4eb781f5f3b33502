"""A text box that is followed, and words that can be edited; the query tells the text and how slow the script is."""

from __future__ import annotations

import re
import time

import streamlit as st

from pages._typed_text import typed_text
from pages._words import Line, words

HOSTILE = (
    "<img/src=x/onerror=\"document.title='hacked'\"> <script>document.title='hacked'</script> שלום "
    "e\u0301a\u0323\u0302 \u202etxet \x07bell \x00 &amp; javascript:alert(1) " + "long" * 60
)
TEXTS = {
    "film": "A tender, funny and beautifully acted film that stays with you.\n\nBut oh, it is slow.",
    "hostile": HOSTILE,
    "right": "הסרט הזה היה טוב מאוד, ואני ממליץ עליו.",
    "long": " ".join(f"w{number % 100}" for number in range(480)),
    "none": "",
}
SCORES = (0.9, -0.5, 0.05, -0.04, None, 0.3, -0.9, 0.1, 0.0)
MOST = 2000


def draw(text: str) -> None:
    """The words in three lines; what a click asks for is done to the text and counted."""
    found = [(match[1], match[2]) for match in re.finditer(r"(\s*)([\w\u0300-\u036f]+|[^\w\s]+)", text)]
    if st.query_params.get("text") == "hostile":
        found = [("" if place == 0 else " ", word) for place, word in enumerate(text.split(" "))]
    shown = [word for _, word in found]
    lines = [
        Line(name, colour, [SCORES[(place + shift) % len(SCORES)] for place in range(len(shown))], note)
        for name, colour, shift, note in (
            ("Teacher", "#0072B2", 0, "error 0.4 % after 32 steps"),
            ("Student", "#D55E00", 1, "exact"),
            ("Student alone", "#7A7A7A", 0, ""),
        )
    ]
    gaps = [gap for gap, _ in found]
    edit = words(shown, gaps, lines, {1, 4}, key="words", label="What counts for “positive”")
    if edit is not None:
        st.session_state["edits"].append(f"{edit.what} {edit.place} {edit.word}".strip())
        if edit.what != "mask":
            found[edit.place] = (gaps[edit.place], edit.word)
            push("".join(gap + word for gap, word in found if word))
            st.rerun(scope="fragment")
    st.text("edits: " + ", ".join(st.session_state["edits"]))


def push(text: str) -> None:
    """Puts a text into the box."""
    st.session_state["version"] += 1
    st.session_state["text"] = text


@st.fragment
def live() -> None:
    """What runs again at each pause of the typing."""
    text = typed_text(
        st.session_state["text"],
        st.session_state["version"],
        key="typed",
        label="Text",
        placeholder="Type a text",
        most=MOST,
    )
    st.session_state["text"] = text
    st.button("Push", on_click=push, args=("pushed from the script",))
    time.sleep(float(st.query_params.get("slow", "0")))
    st.session_state["runs"] += 1
    st.code(f"{st.session_state['runs']}|{text}", language=None)
    draw(text)


st.set_page_config(layout="wide")
for name, value in {"text": TEXTS[st.query_params.get("text", "none")], "version": 1, "runs": 0, "edits": []}.items():
    st.session_state.setdefault(name, value)
st.session_state["whole"] = st.session_state.get("whole", 0) + 1
st.caption(f"whole runs: {st.session_state['whole']}")
if st.checkbox("elsewhere"):
    st.session_state["version"] += 1
else:
    live()
if st.query_params.get("native") == "1":
    st.text_area("Text", placeholder="Type a text", height=100)
