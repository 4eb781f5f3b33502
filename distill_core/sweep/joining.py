"""Joins a Ray cluster, or starts one on this machine. Ray is an optional package, so only these functions import it."""

from __future__ import annotations

import importlib
import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import distill_core
from distill_core.errors import ConfigError
from distill_core.sweep.space import host_and_port
from distill_core.sweep.workers import RUNS_A_GPU

CONNECT_SECONDS = 10.0
SETTINGS = b"\x04"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + SETTINGS + bytes(5)
"""How a client of gRPC begins, with an empty frame of settings; the server answers with its own (RFC 9113, 3.4)."""


def package() -> Any:
    """The package, untyped: whether it is installed must not decide what the type checker says."""
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise ConfigError(
            "executor ray needs the package ray, which is not installed; pip install -r requirements-ray.txt"
        ) from None


def join(ray: Any, address: str | None) -> None:
    """Joins a cluster, or starts one on this machine. Raises ConfigError."""
    if address is not None:
        _knock(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    code = Path(distill_core.__file__).parent
    environment = {
        "py_modules": [str(code)],
        "excludes": ["__pycache__"],
        # Read when PyTorch is loaded. One core a run, as everywhere in a sweep, or the last digits would differ.
        "env_vars": {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "1000")},
    }
    try:
        with _signals_kept():
            ray.init(
                address=address or "local",
                runtime_env=environment,
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=False if address is None else None,
            )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, ray.exceptions.RayError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise ConfigError(
            f"address must be one of a Ray cluster that lets us in, got {address!r} ({reason}); "
            "see ray status on its head node"
        ) from None


def runs_a_gpu(resources: Mapping[str, float]) -> int:
    """How many runs share a GPU so that all CPUs of the cluster have work; 0 where there is none."""
    gpus = resources.get("GPU", 0)
    return min(max(math.ceil(resources.get("CPU", 0) / gpus), 1), RUNS_A_GPU) if gpus else 0


def _knock(address: str) -> None:
    """Sees whether a server such as Ray's answers, since Ray itself tries for minutes. Raises ConfigError."""
    place = host_and_port(address)
    try:
        with socket.create_connection(place, timeout=CONNECT_SECONDS) as connection:
            connection.sendall(PREFACE)
            answer = connection.makefile("rb").read(9)
        found = "" if answer[3:4] == SETTINGS or _is_encrypted() else "where something else answers"
    except (OSError, OverflowError) as error:
        found = f"where nobody answers ({error})"
    if found:
        raise ConfigError(
            f"address must be one of a Ray cluster, got {address!r} {found}; start one there with: ray start --head"
        )


def _is_encrypted() -> bool:
    """Whether Ray's servers speak TLS, so that they do not understand a plain greeting."""
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Lets this process keep its own answer to SIGTERM, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
