"""A button that puts a link to the lab, with what it shows, on the clipboard (Streamlit components v2)."""

from __future__ import annotations

import streamlit as st

_button = st.components.v2.component(
    "distill_lab.copy_link",
    html='<button type="button" class="copy-link"></button>',
    css="""
.copy-link { all: unset; cursor: pointer; font: 0.85rem var(--st-font); color: var(--st-link-color); padding: 2px 0; }
.copy-link:hover { text-decoration: underline; }
.copy-link:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 2px; border-radius: 4px; }
""",
    js="""
async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const field = document.createElement("textarea");  // clipboards are for https and localhost; this is for others
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  if (!done) throw new Error("no clipboard");
}

export default function ({ data, parentElement }) {
  const button = parentElement.querySelector("button");
  const link = `${location.origin}${location.pathname}?${data.query}`;
  button.textContent = data.words;
  button.title = "Opens this run and these settings in another browser";
  button.onclick = async () => {
    try {
      await copy(link);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = data.words; }, 1500);
    } catch {
      window.prompt(data.words, link);
    }
  };
}
""",
)


def copy_link(query: str, *, key: str) -> None:
    """Draws the button.

    Args:
        query: what follows the page's own address and a question mark.
    """
    _button(data={"query": query, "words": "Copy link"}, key=key, height="content")
