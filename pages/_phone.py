"""On a phone the sidebar covers the page; this closes it once a run has been started (Streamlit components v2)."""

from __future__ import annotations

import streamlit as st

_component = st.components.v2.component(
    "distill_lab.phone",
    js="""
export default function ({ data }) {
  if (window.innerWidth > 768 || window.distillLabClosedFor === data.run) return;
  window.distillLabClosedFor = data.run;
  document.querySelector('[data-testid="stSidebarCollapseButton"] button')?.click();
}
""",
)


def close_sidebar(run_id: str) -> None:
    """Closes it, once for each run."""
    _component(data={"run": run_id}, key="phone", height=1)
