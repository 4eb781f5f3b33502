"""Imports do nothing: they print, seed, probe, configure and write nothing, and pages need not wait for PyTorch."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import distill_core

ROOT = Path(distill_core.__file__).parents[1]
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(distill_core.__path__, "distill_core.") if not module.ispkg
)
WITHOUT_TORCH = [
    "config",
    "events",
    "store",
    "keys",
    "estimate",
    "executor",
    "steering",
    "queueing",
    "storage",
    "cleaning",
    "checkpoints",
    "limits",
    "comparison",
    "analysis.verdict",
    "data.profile",
    "data.sources",
    "models.sizes",
    "worker",
    "sweep.questions",
    "sweep.importance",
    "sweep.sweeper",
    "sweep.drive",
    "__main__",
]
# Imports every module, each in a fork of one interpreter that has all we depend on but nothing of ours, and watches.
WATCH = """
import json, logging, os, random, signal, sys, tempfile, threading, warnings
import filelock, numpy, pandas, pydantic, safetensors.torch, scipy.special, torch, torchtext.data.utils, torchtext.vocab

def watch(module, report):
    def forbid(owner, name):
        original = getattr(owner, name)
        def called(*arguments, **options):
            if any(frame.startswith("distill_core") for frame in callers()):
                seen.append(f"{getattr(owner, '__name__', owner)}.{name}")
            return original(*arguments, **options)
        setattr(owner, name, called)

    def callers():
        frame = sys._getframe(2)
        while frame is not None:
            yield frame.f_globals.get("__name__", "")
            frame = frame.f_back

    seen = []
    for owner, names in (
        (torch, ("manual_seed", "set_num_threads", "set_num_interop_threads", "use_deterministic_algorithms")),
        (torch.cuda, ("is_available", "device_count", "get_device_capability", "init")),
        (torch.cpu, ("_is_avx512_bf16_supported", "_is_amx_tile_supported")),
        (random, ("seed",)),
        (numpy.random, ("seed",)),
        (logging, ("basicConfig",)),
        (signal, ("signal",)),
    ):
        for name in names:
            forbid(owner, name)

    def state():
        return [
            torch.random.get_rng_state().tolist(),
            repr(random.getstate()),
            repr(numpy.random.get_state()),
            torch.get_num_threads(),
            dict(os.environ),
            repr(logging.getLogger().handlers),
            logging.getLogger().level,
            repr(warnings.filters),
            [repr(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)],
            os.getcwd(),
            sorted(os.listdir()),
            threading.active_count(),
        ]

    before = state()
    printed = tempfile.TemporaryFile()
    for stream in (1, 2):
        os.dup2(printed.fileno(), stream)
    try:
        __import__(module)
        sys.stdout.flush()
        sys.stderr.flush()
        error = None
    except BaseException as problem:
        error = repr(problem)
    after = state()
    printed.seek(0)
    changed = [index for index in range(len(before)) if before[index] != after[index]]
    text = printed.read().decode()
    with os.fdopen(report, "w") as pipe:
        json.dump({"error": error, "printed": text, "called": seen, "changed": changed}, pipe)

found = {}
for module in sys.argv[1:]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        watch(module, writer)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        found[module] = json.loads(pipe.read())
    os.waitpid(child, 0)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What importing each module did, by module."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{WATCH}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *MODULES],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path_factory.mktemp("elsewhere"),
    )
    assert done.stderr == ""
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


def test_there_are_modules_to_try() -> None:
    assert {f"distill_core.{name}" for name in WITHOUT_TORCH} < set(MODULES)
    assert {"distill_core.pipeline", "distill_core.training.loop"} < set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_importing_a_module_does_nothing(imported: dict[str, dict[str, Any]], module: str) -> None:
    assert imported[module] == {"error": None, "printed": "", "called": [], "changed": []}


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_a_module_that_pages_read_at_once_needs_no_pytorch(name: str) -> None:
    slow = {"torch", "torchtext", "transformers", "datasets", "scipy", "pandas", "streamlit", "optuna"}
    code = f"import sys, distill_core.{name}; print(sorted({slow} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_whole_package_can_be_imported_without_a_word() -> None:
    code = f"import sys, {', '.join(MODULES)}; print('streamlit' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_the_package_itself_imports_nothing() -> None:
    code = "import sys, distill_core; print([name for name in sys.modules if name.startswith('distill_core.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"
