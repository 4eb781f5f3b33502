"""Tables as files for spreadsheets. No Streamlit here."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r")
"""What a cell begins with that a spreadsheet takes for a formula."""


def spreadsheet_safe(cell: Any) -> Any:
    """A cell that no spreadsheet computes: text that begins like a formula gets a ' before it; numbers stay."""
    if isinstance(cell, str):
        whole = cell.encode("utf-8", "replace").decode()
        return f"'{whole}" if whole.startswith(FORMULA) else whole
    return cell


def as_csv(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """Columns as a csv file that spreadsheets open as UTF-8; None is an empty cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow([spreadsheet_safe(name) for name in columns])
    writer.writerows([spreadsheet_safe(cell) for cell in row] for row in zip(*columns.values(), strict=True))
    return buffer.getvalue().encode("utf-8-sig")
