# `make demo` shows it, `make check` is for the daily loop, `make test` is what CI runs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo bench-flatness bench-recovery bench-never-wrong bench-dynamics bench-completion bench-startup bench-one-pass check test lint types architecture format clean

demo: .venv/demo
	$(BIN)/flatrank demo

check: .venv/test lint types architecture
	$(BIN)/pytest -m 'not slow'

test: .venv/test lint types architecture
	$(BIN)/pytest

bench-flatness: .venv/bench
	$(BIN)/python benchmarks/flatness.py

bench-recovery: .venv/bench
	$(BIN)/python benchmarks/recovery.py --keep

bench-never-wrong: .venv/test
	$(BIN)/python benchmarks/never_wrong.py --keep

bench-dynamics: .venv/bench
	$(BIN)/python benchmarks/dynamics.py

bench-completion: .venv/bench-tables
	$(BIN)/python benchmarks/completion.py

bench-startup: .venv/bench
	$(BIN)/python benchmarks/startup.py --keep

bench-one-pass: .venv/test
	$(BIN)/python benchmarks/one_pass.py

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/test
	$(BIN)/mypy

architecture: .venv/test
	$(BIN)/lint-imports

format: .venv/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/pip:
	$(PYTHON) -m venv .venv
	touch $@

.venv/demo: .venv/pip pyproject.toml
	$(BIN)/pip install --quiet --editable '.[demo]'
	touch $@

.venv/test: .venv/pip pyproject.toml
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

.venv/bench: .venv/pip pyproject.toml
	$(BIN)/pip install --quiet --editable '.[bench]'
	touch $@

.venv/bench-tables: .venv/pip pyproject.toml
	$(BIN)/pip install --quiet --editable '.[bench-tables]'
	touch $@

clean:
	rm -rf .venv .cache
