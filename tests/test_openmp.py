"""The setting that keeps waiting threads from spinning."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from distill_core import openmp


def test_waiting_threads_sleep_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    openmp.sleep_soon()
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    openmp.sleep_soon()
    assert os.environ["GOMP_SPINCOUNT"] == "7"


def test_it_can_come_before_pytorch() -> None:
    code = "import sys, distill_core.openmp; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
