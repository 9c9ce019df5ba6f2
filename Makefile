.DEFAULT_GOAL := help
.PHONY: help setup demo test check fmt lint types bench compat docs wheel-test conformance clean
PYTHON ?= python3
BIN := .venv/bin

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 14

.venv/core: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	@touch $@

.venv/dev: .venv/core
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

.venv/conformance: .venv/dev
	$(BIN)/pip install --quiet --editable '.[conformance]'
	@touch $@

setup: .venv/dev  ## Create .venv with all that development needs
	$(BIN)/pre-commit install

demo: .venv/core  ## Explain a sample photograph with a trained CBAM
	$(BIN)/attnviz explain sample_data/chelsea.png --model cbam --out attnviz-report --overwrite

test: check  ## Run all checks and tests
	$(BIN)/pytest

check: lint types  ## Run all static checks

fmt: .venv/dev  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: .venv/dev  ## Style and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo

types: .venv/dev  ## mypy --strict
	$(BIN)/mypy

bench: .venv/dev  ## Run the benchmarks that the README quotes
	$(BIN)/python benchmarks/explain.py

conformance: .venv/conformance  ## Check capture on third-party models, and write docs/reference/coverage.md
	PYTHONPATH=tests $(BIN)/python -m conformance --json build/conformance.json --page docs/reference/coverage.md
	PYTHONPATH=tests $(BIN)/python -m conformance.tasks --page docs/reference/tasks-coverage.md

compat: .venv/core  ## Run the tests with the oldest and the newest supported releases
	$(BIN)/python compat/run.py

docs: .venv/core  ## Build the documentation, warnings are errors
	$(BIN)/pip install --quiet --editable '.[docs]'
	$(BIN)/sphinx-build -W -b html docs docs/_build

wheel-test: .venv/dev  ## Build a wheel and use it in a clean environment
	$(BIN)/python -m build --wheel --outdir build/wheel .
	$(PYTHON) -m venv --clear build/wheel-venv
	build/wheel-venv/bin/pip install --quiet build/wheel/attnviz-*.whl
	cd build && wheel-venv/bin/attnviz explain ../sample_data/chelsea.png --model cbam --out wheel-report --overwrite

clean:  ## Remove build products
	rm -rf .venv build dist docs/_build
