# `make demo` is the first thing to run: it needs python3 (3.11 or newer) and nothing else.
# MOEE_DATA names the folder of evaluation sets that test-data, bench-quality and bench-evaluate read.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
export MOEE_DATA ?= $(abspath ../shared/data)

.PHONY: help demo weights test test-slow test-data lint types docs docs-check pictures readme results performance
.PHONY: bench bench-performance bench-quality bench-evaluate clean

help:
	@echo "make demo        install into $(VENV) and embed real sentences with the embedded default model (the first time some minutes)"
	@echo "make weights     download the weights of the embedded default model, as make demo does (93 MB, once)"
	@echo "make test        the tests that need no model weights (about five minutes on two quiet cores)"
	@echo "make test-slow   the tests that run the embedded default model, PostgreSQL, and a browser (Chromium; about a quarter of an hour)"
	@echo "make test-data   the tests that read the evaluation sets in MOEE_DATA (about two minutes)"
	@echo "make lint types  ruff, import layers, size limits, English, generated docs; mypy --strict"
	@echo "make docs        write the pages of docs/ that the code and the result files know"
	@echo "make results     docs/results.md alone, from the files in benchmarks/results/evaluation"
	@echo "make pictures    take the pictures of the explorer page again, in a browser"
	@echo "make readme      put what the demo prints into README.md"
	@echo "make performance docs/performance.md alone, from the files in benchmarks/results/performance"
	@echo "make bench       speed, memory and percent of peak of the demo beside its peers"
	@echo "make bench-performance   the same for all models: the files that make performance reads (hours, 20 GiB)"
	@echo "make bench-quality   STS scores of every fusion, raw and calibrated, dense and carved"
	@echo "make bench-evaluate  every task in MOEE_DATA, with controls: the files that make results reads (hours)"

# torch goes first and alone, so that nothing else can pull another build of it.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) torch
	$(INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable '.[dev]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/moee demo --fetch

# the weights of the embedded default model alone: the only thing that is downloaded besides packages
weights: $(VENV)/.installed
	$(BIN)/python -c "from moee.demo.weights import fetch_weights; print(fetch_weights())"

# Two processes of one thread each: threads of torch would only wait for each other.
# WORKERS=0 runs everything in one process, as `pytest tests/some/file.py` does.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test: $(VENV)/.installed-dev
	$(PYTEST)

test-slow: $(VENV)/.installed-dev weights
	$(PYTEST) -m "slow and not data and not gpu"

test-data: $(VENV)/.installed-dev weights
	@test -d "$(MOEE_DATA)" || { echo "MOEE_DATA is '$(MOEE_DATA)': no such folder" >&2; exit 1; }
	$(PYTEST) -m "data and not gpu"

lint: $(VENV)/.installed-dev docs-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_sizes.py
	$(BIN)/python scripts/check_english.py

types: $(VENV)/.installed-dev
	$(BIN)/mypy

docs: $(VENV)/.installed-dev results performance
	$(BIN)/python scripts/generated_docs.py
	$(BIN)/python scripts/openapi.py

# the tables of what the evaluation found, from the files that bench-evaluate writes
results: $(VENV)/.installed
	$(BIN)/python scripts/results_page.py
	$(BIN)/python scripts/for_me_page.py

# the tables of how fast it is, from the files that bench-performance writes
performance: $(VENV)/.installed
	$(BIN)/python scripts/performance_page.py

# after a visible change of the explorer page
pictures: $(VENV)/.installed-dev
	$(BIN)/python -m tests.browser.screenshots docs/figures

# the demo's output in README.md, from a run of it
readme: $(VENV)/.installed
	$(BIN)/python scripts/readme_demo.py

docs-check: $(VENV)/.installed-dev
	$(BIN)/python scripts/generated_docs.py --check
	$(BIN)/python scripts/openapi.py --check
	$(BIN)/python scripts/results_page.py --check
	$(BIN)/python scripts/for_me_page.py --check
	$(BIN)/python scripts/performance_page.py --check

bench: $(VENV)/.installed-dev
	$(BIN)/moee bench -m demo

# Widths of published models with random weights, and as many layers as fit in float32: bfloat16 machines take twice.
# `mixed` has few layers, or the padding of the peers takes hours; three batches of 32, so that sorting can show.
PERFORMANCE := benchmarks/results/performance
# SUFFIX keeps what another machine measured: `make bench-performance SUFFIX=-bfloat16`.
SUFFIX ?=
BENCH = $(BIN)/moee bench --json $(PERFORMANCE)/$(1)$(SUFFIX).json --plot docs/figures/$(1)$(SUFFIX)
bench-performance: $(VENV)/.installed-dev
	@mkdir -p $(PERFORMANCE) docs/figures
	$(call BENCH,demo-short) -m demo --workload short --texts 500 --rounds 5
	$(call BENCH,demo-mixed) -m demo --workload mixed --texts 96
	$(call BENCH,demo-single) -m demo --workload single --texts 40
	$(call BENCH,olmoe-short) -m olmoe --layers 8 --workload short --texts 128
	$(call BENCH,olmoe-mixed) -m olmoe --layers 4 --workload mixed --texts 96
	$(call BENCH,olmoe-single) -m olmoe --layers 8 --workload single --texts 20
	$(call BENCH,olmoe-chunk) -m olmoe --layers 4 --texts 700 --peers none --batch-tokens 8192
	$(call BENCH,qwen1.5-moe-short) -m qwen1.5-moe --workload short --texts 128
	$(call BENCH,deepseek-moe-short) -m deepseek-moe --workload short --texts 128
	$(call BENCH,law) --scaling all
	$(BIN)/python benchmarks/sweep.py --layers 16 --memory 4GiB --tokens 20000 --json $(PERFORMANCE)/sweep$(SUFFIX).json
	$(BIN)/python benchmarks/precision.py --sts 250 --wider --json $(PERFORMANCE)/precision$(SUFFIX).json
	$(BIN)/python scripts/performance_page.py

bench-quality: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/quality.py

# A stopped run goes on where it was: texts and scores are kept in the package's cache.
# Of every result only the JSON file is committed: it holds numbers and no text of the sets.
EVALUATION := build/evaluation
EVALUATION_RESULTS := benchmarks/results/evaluation
REPRODUCED := table1 table5 figure4 figure5
bench-evaluate: $(VENV)/.installed-dev
	@test -d "$(MOEE_DATA)" || { echo "MOEE_DATA is '$(MOEE_DATA)': no such folder" >&2; exit 1; }
	@mkdir -p $(EVALUATION) $(EVALUATION_RESULTS)
	$(BIN)/moee eval --tasks all --recipe default --calibration-texts none,builtin,corpus --controls \
		--fusion weighted,hs,rw,concat,sum --weights hs=1,rw=0.2 --weights lexical=1 \
		--out $(EVALUATION)/demo
	cp $(EVALUATION)/demo/results.json $(EVALUATION_RESULTS)/demo.json
	$(BIN)/moee eval --tasks paper --recipe paper,default --calibration-texts corpus --limit 300 \
		--fusion hs,rw,concat,sum \
		--out $(EVALUATION)/demo-paper
	cp $(EVALUATION)/demo-paper/results.json $(EVALUATION_RESULTS)/demo-paper.json
	$(BIN)/moee reproduce $(REPRODUCED) --out $(EVALUATION)/reproduce
	cp $(REPRODUCED:%=$(EVALUATION)/reproduce/%.json) $(EVALUATION_RESULTS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
