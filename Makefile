# make run   create .venv, install, start the lab        make check   format, lint, types, rooms
# make test  the same, then all tests                     make bench   all measurements, into bench/
# make clean remove .venv and caches                      make bench-check   has anything become slower?
# PORT=8600 make run   another port                       make check-cuda   what only a GPU can say

PYTHON ?= python3
PORT ?= 8501
BIN := .venv/bin

.PHONY: run test check check-cuda bench bench-check clean chromium

run: .venv/run-installed
	$(BIN)/streamlit run app.py --server.port $(PORT)

# Tests that measure times or type as fast as people do have the machine to themselves.
ALONE := $(addprefix tests/browser/test_,compare.py lab.py steering.py sweep.py typing.py) tests/load

test: .venv/dev-installed chromium check
	$(BIN)/pytest -n 2 --dist loadfile $(foreach folder,$(ALONE),--ignore=$(folder))
	$(BIN)/pytest $(ALONE)
	$(BIN)/python -m tests.benchmarks.check --short

check: .venv/dev-installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# On a machine with a GPU: what only that can say.
check-cuda: .venv/dev-installed
	$(BIN)/pytest tests/cuda
	$(BIN)/python -m tests.benchmarks.scaling --only batch

# Takes long, and wants a machine that does nothing else.
bench: .venv/bench-installed
	@mkdir -p bench
	$(BIN)/python -m tests.benchmarks.hot_paths > bench/hot_paths.json
	$(BIN)/python -m tests.benchmarks.scaling > bench/scaling.json
	$(BIN)/python -m tests.benchmarks.sweep > bench/sweep.json
	$(BIN)/python -m tests.benchmarks.sweep --growth > bench/sweep_growth.json
	$(BIN)/python -m tests.benchmarks.first_page > bench/first_page.json
	$(BIN)/python -m tests.benchmarks.side_by_side > bench/side_by_side.json

bench-check: .venv/dev-installed
	$(BIN)/python -m tests.benchmarks.check

clean:
	rm -rf .venv static bench .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: PYTHON=python3.11 make $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update && apt-get install -y python3-venv; } || { echo "Python lacks venv; install it, on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/run-installed: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install -r requirements.txt
	@touch $@

.venv/dev-installed: requirements.txt requirements-ray.txt requirements-dev.txt | .venv/bin/python
	$(BIN)/python -m pip install -r requirements-dev.txt
	@touch $@ .venv/run-installed

.venv/bench-installed: requirements.txt requirements-ray.txt requirements-dev.txt requirements-bench.txt | .venv/bin/python
	$(BIN)/python -m pip install -r requirements-bench.txt
	@touch $@ .venv/dev-installed .venv/run-installed

# A browser for the tests in tests/browser: one that is there, else Debian's if we may install it.
chromium: .venv/dev-installed
	@if [ -n "$$($(BIN)/python -m tests.browser.find)" ]; then \
		true; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update && apt-get install -y chromium chromium-driver; \
	else \
		echo "No Chromium: the browser tests will be skipped. Get it with: sudo apt-get install chromium chromium-driver"; \
	fi
