# Two commands do all the set-up: `make demo` and `make test`. They need Python 3.11 or newer, and a package registry.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SHELL  := /bin/bash
# A file of tests stays together: those of the store share one engine.
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-long check bench clean

help: ## what can be made here
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "tailsight needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12 …" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# One stamp for each set of extras, so that `make demo` does not install linters.
NATIVE := $(wildcard sdk/native/*.[ch] storage/native/*.[ch]) hatch_build.py

$(VENV)/.installed-all: pyproject.toml $(NATIVE) | $(BIN)/python
	@echo "Installing tailsight[all] into $(VENV) (a few minutes the first time: the embedded ClickHouse is large) …"
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[all]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(NATIVE) | $(BIN)/python
	@echo "Installing tailsight[dev] into $(VENV) (a few minutes the first time: the embedded ClickHouse is large) …"
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.installed-all

demo: $(VENV)/.installed-all ## the whole line on a real pipeline, until Ctrl-C; HEADLESS=1 for a bounded run without the dashboard
	@$(BIN)/tailsight demo $(if $(filter-out 0,$(HEADLESS)),--headless)

check: $(VENV)/.installed-dev ## ruff, mypy --strict, the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: check ## every check and every test but the longest, WORKERS files at a time
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not long"

test-long: $(VENV)/.installed-dev ## the longest tests: more of what shorter ones try
	$(BIN)/pytest -m long

bench: $(VENV)/.installed-dev ## the benchmarks, each a ratio within one run
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[bench]'
	@for bench in tests/benchmarks/bench_*.py; do echo "== $$bench"; $(BIN)/python $$bench || exit 1; done

clean: ## remove what was built; data in tailsight-data/ stays
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
