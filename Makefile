# livecart: `make up` serves it, `make test` tests it. Both need Python 3.11 or newer, make and
# nothing else: what they use is installed into .venv/ from constraints.txt.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)

# Relative, so that a path with spaces above this folder does no harm.
BIN := .venv/bin
STAMP := .venv/.ready
DEV_STAMP := .venv/.ready-dev
LOAD_STAMP := .venv/.ready-loadtest
# `make up ARGS="--port 9000"`; see `.venv/bin/livecart up --help`.
ARGS ?=

.DEFAULT_GOAL := help
SEEDS ?= 1..200
SECONDS ?= 600
.PHONY: help setup setup-browser compiled screenshots player docs docs-serve loadtest up test model proofs faults soak deliveries mutations audited bench bench-core bench-hub bench-orders lint format demo coverage clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## what serving needs, in .venv/ with the console scripts

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# The stamp holds this folder's path: an environment that was moved or copied is made again.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "livecart needs Python 3.11 or newer and found" \
		"$$(python3 --version 2>&1); name one: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; exit 1; }
	@echo "Preparing .venv with $$("$(PYTHON)" --version); the first time, this takes about a minute."
	@rm -rf .venv
	@"$(PYTHON)" -m venv .venv || { rm -rf .venv; \
		echo "venv is missing: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation --editable .
	@printf %s "$(CURDIR)" > $(STAMP)

$(DEV_STAMP): $(STAMP)
	@echo "Adding what tests and lint need to .venv."
	@$(PIP) localstripe # comes as source, and is built apart from the rest
	@$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $(DEV_STAMP)

$(LOAD_STAMP): $(STAMP)
	@echo "Adding what load tests and benchmarks need to .venv."
	@$(PIP) --no-build-isolation --editable '.[loadtest,peers]'
	@touch $(LOAD_STAMP)

loadtest: $(LOAD_STAMP) ## what `.venv/bin/livecart-loadtest` needs beyond serving

up: setup ## serve on 127.0.0.1:8000 with a demo stream
	@exec $(BIN)/livecart up $(ARGS)

demo: setup ## play a short sale with simulated viewers
	@exec $(BIN)/livecart demo $(ARGS)

setup-browser: $(DEV_STAMP) ## Chromium, Node.js and what else the tests of the pages need; as root it installs them
	@tests/web/setup

player: ## hls.js, for browsers that play no HLS of their own; needs npm
	@livecart/web/player

screenshots: $(DEV_STAMP) ## a picture of every state of the pages, in docs/img/
	$(BIN)/python -m tests.browser.screenshots $(ARGS)

# Not --quiet: what is not logged does not count for --strict.
docs: $(DEV_STAMP) ## the documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: $(DEV_STAMP) ## the same on 127.0.0.1:8001, made anew when a page changes
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --strict -a 127.0.0.1:8001 $(ARGS)

# What is wrong with a test is told when it is run.
compiled: $(DEV_STAMP)
	-@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --collect-only -qq > /dev/null

# Tests wait for servers about as long as they compute: three at a time use two cores whole.
# Compiled files are kept, whatever is set: each of the hundreds of processes that tests start would
# compile the project again, and each run the tests.
test: $(DEV_STAMP) ## run every test
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --dist loadfile $(ARGS)

model: $(DEV_STAMP) ## explore the small model whole, also where it is too large for every test run
	$(BIN)/python -m tests.model

# Of `make proofs`: a failure names both, and repeats with them.
ifndef SEED
SEED := $(shell date +%s)
endif
DEPTH ?= 1

proofs: $(DEV_STAMP) ## an hour of orders of steps and histories of the core; see docs/proofs.md
	@echo "make proofs SEED=$(SEED) DEPTH=$(DEPTH)"
	@PROOF_SEED=$(SEED) PROOF_DEPTH=$(DEPTH) $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS) \
		tests/property/test_interleavings.py tests/property/test_money_interleavings.py \
		tests/property/test_core_machine.py

faults: $(DEV_STAMP) ## whole sales with faults drawn from seeds: SEEDS=a..b; goes on where it stopped
	$(BIN)/python -m tests.faults.seeded --seeds $(SEEDS) $(ARGS)

soak: $(DEV_STAMP) ## selling for SECONDS=600 with a fault every few seconds, then exact rest
	$(BIN)/python -m tests.faults.soak --seconds $(SECONDS) $(ARGS)

# `make deliveries ARGS="--deliveries 100000 --seed 7"`; without a seed, one is drawn and printed.
deliveries: $(DEV_STAMP) ## 1,000,000 events to viewers who come and go while hubs and Redis are killed
	$(BIN)/python -m tests.faults.deliveries $(ARGS)

mutations: $(DEV_STAMP) ## plant each known bug in a copy, and see what of the suite finds it
	$(BIN)/python -m tests.mutations.run $(ARGS)

audited: $(DEV_STAMP) ## plant each known bug, attack a sale of that copy, and see what the audit alone finds
	$(BIN)/python -m tests.mutations.audited $(ARGS)

# `make bench ARGS="--socketify-python /path/to/python"` has uWebSockets in it, too.
bench: $(LOAD_STAMP) ## fan-out, orders, reservations, connects and memory beside peers; writes docs/benchmarks.md
	$(BIN)/python -m tests.bench.bench $(ARGS)

bench-core: setup ## holds, orders, expiry and rebuild of the core alone, beside redis-benchmark
	$(BIN)/python -m tests.bench.bench_core $(ARGS)

bench-orders: $(DEV_STAMP) ## lists, sums and exports with a million orders, at rest and while more come in
	@$(BIN)/python -m tests.bench.bench_orders

bench-hub: setup ## fan-out, pins, memory, connects and recovery beside uWebSockets, nchan and Starlette
	$(BIN)/python -m tests.bench.bench_hub $(ARGS)

lint: $(DEV_STAMP) ## ruff, mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV_STAMP) ## let ruff lay out the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

coverage: $(DEV_STAMP) ## run every test and say what they did not reach
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

clean: ## remove .venv/ and what tools left; the data in .livecart/ stays
	rm -rf .venv build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf .coverage .coverage.* htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
