"""What can be done with runs on the page Runs: choosing, deleting and bringing back, handing on and taking in."""

from __future__ import annotations

import io
import re
from collections.abc import MutableMapping, Sequence
from functools import partial

import streamlit as st

from distill_core import archive
from distill_core.errors import DistillError
from distill_core.status import short
from pages import _identity, _looks, _run_rows, _session
from pages._run_rows import Row

CHOSEN, SHOWN, TABLE = "runs.chosen", "runs.shown", "runs.table"
"""The ids that are chosen, those of the table's lines as last drawn, and the table itself."""
NOT_YOURS = (
    "Only who started this run can do that, in the browser in which it was started; a run of the command line "
    "belongs to who sits at the lab's machine."
)


def plain(text: str) -> str:
    """A text in which Markdown finds nothing to do."""
    return re.sub(r"([\\`*_{}\[\]()#+.!|~$:<>-])", r"\\\1", text)


def file_names() -> dict[str, str]:
    """What people call the files that they have given to the lab."""
    names: dict[str, str] = st.session_state.get("upload.names", {})
    return names


def manages(row: Row) -> bool:
    """Whether this browser may rename and delete a run; what cannot be read belongs to who sits at the machine."""
    return _identity.is_local() if row.status is None else _identity.may_manage(row.status)


def chosen() -> list[str]:
    """The ids of the runs that are chosen, in the order in which that was done."""
    ids: list[str] = st.session_state.setdefault(CHOSEN, [])
    return ids


def choose(run_ids: Sequence[str]) -> None:
    """Chooses runs in place of those that were; the table takes it over when it is next drawn."""
    st.session_state[CHOSEN] = list(run_ids)
    st.session_state.pop(SHOWN, None)


# Deleting, and bringing back


def delete_button(rows: Sequence[Row]) -> None:
    """Delete, where that is allowed; its help says why it is not."""
    mine, over = all(manages(row) for row in rows), all(row.over for row in rows)
    words = "Moves it to the trash; it can be brought back." if len(rows) == 1 else "They can be brought back."
    if not mine:
        words = NOT_YOURS
    elif not over:
        words = "A run that waits or works cannot be deleted; stop it on Train first."
    st.button(
        "Delete" if len(rows) == 1 else f"Delete {len(rows)} runs",
        icon=":material/delete:",
        disabled=not (mine and over),
        help=words,
        key="runs.delete",
        on_click=delete,
        args=([row.run_id for row in rows],),
    )


def delete(run_ids: Sequence[str]) -> None:
    """Moves runs to the trash, and remembers them until others are deleted."""
    store, gone = _session.store(), dict[str, str]()
    for run_id in run_ids:
        row = _run_rows.row(store, run_id)
        try:
            if manages(row):
                store.delete_run(run_id)
                gone[run_id] = row.name
        except (DistillError, OSError) as error:
            st.session_state["runs.problem"] = str(error)
    st.session_state["runs.deleted"] = gone
    choose([run_id for run_id in chosen() if run_id not in gone])
    if st.session_state.get("run") in gone:
        del st.session_state["run"]
        st.query_params.pop("run", None)


def undo() -> None:
    """Brings back what was deleted last."""
    back = []
    for run_id in st.session_state.pop("runs.deleted", {}):
        try:
            _session.store().restore_run(run_id)
            back.append(run_id)
        except DistillError as error:
            st.session_state["runs.problem"] = str(error)
    choose(back)


def offer_undo() -> None:
    """What was deleted last, and the way back, until it is used or others are deleted."""
    gone: dict[str, str] = st.session_state.get("runs.deleted", {})
    if gone:
        names = ", ".join(plain(name) for name in list(gone.values())[:3])
        more = f" and {len(gone) - 3} more" if len(gone) > 3 else ""
        with st.container(horizontal=True, vertical_alignment="center", border=True):
            st.markdown(f"Deleted {names}{more}.", width="content")
            st.button("Undo", icon=":material/undo:", key="runs.undo", on_click=undo)


# Archives


def export_button(row: Row) -> None:
    """Hands a run that is over on as an archive."""
    problems = st.session_state.setdefault("runs.unpacked", {})
    st.download_button(
        "Export",
        partial(packed, row.run_id, problems),
        file_name=f"run-{short(row.run_id)}.zip",
        mime="application/zip",
        icon=":material/download:",
        disabled=not row.over,
        help="One archive with settings, curves, result and models, tried before it is handed out, for any lab."
        if row.over
        else "A run can be exported once it is over.",
        key="runs.export",
    )


def packed(run_id: str, problems: MutableMapping[str, str]) -> bytes:
    """A run as an archive, made when somebody asks for it; why that is impossible stands in `problems`."""
    file = io.BytesIO()
    try:
        archive.export_run(_session.store(), run_id, file)
    except (DistillError, OSError) as error:
        problems[run_id] = str(error)
        raise
    return file.getvalue()


def import_archive() -> None:
    """Takes in an archive that another lab has handed out."""
    with st.popover("Import", icon=":material/upload:", width="stretch"):
        file = st.file_uploader(
            "An archive of a run",
            type="zip",
            max_upload_size=_session.allowed().upload_megabytes,
            help="A file that Export has made, here or in another lab. All of it is checked before it joins your runs.",
            key=f"runs.import.{st.session_state.setdefault('runs.imports', 0)}",
        )
        if file is None:
            return
        try:
            with st.spinner("Checking the archive and loading its models"):
                run_id = archive.import_run(_session.store(), file, _identity.owner())
        except DistillError as error:
            st.error(plain(_looks.named(error)))
            return
    st.session_state["runs.imports"] += 1  # an uploader of another key is an empty one
    choose([run_id])
    st.toast("The run has been imported.", icon=":material/check:")
    st.rerun()
