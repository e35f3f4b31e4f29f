# `make demo` and `make test` need Python 3.11+ and make, nothing else: they set up what they use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# The core: no I/O, no clock, no asyncio, no Faust; every branch of it is tested.
CORE := errors values settings config prelude_natives prelude engine slices expressions batches closings objects receipts deliveries \
	streamtime window partition assignment retries breakers policy redelivery told excerpt events printable tables happenings clockskew health metrics \
	$(addprefix inspector/,outcomes rows minutes answers guard live places shapes unpacking)
comma := ,
space := $(subst ,, )

.PHONY: help setup demo test lint docs pictures bench chaos mutants lock clean

help: ## Say what there is to make.
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY) ## Create the virtual environment from the hash-pinned lock file.

$(READY): requirements-dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "stream-app needs Python 3.11 or newer; run make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## Real Kafka, real S3, one worker, 30 events, two objects, their receipts.
	$(BIN)/stream-app demo

lint: $(READY) ## ruff, mypy strict, import-linter.
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache >.lint-imports.log || { cat .lint-imports.log; exit 1; }

test: $(READY) lint ## Everything that CI runs, in about 22 minutes on 2 cores.
	$(BIN)/coverage run -m pytest -q tests/unit tests/property tests/tidy
	$(BIN)/coverage report --fail-under=100 --include='$(subst $(space),$(comma),$(CORE:%=stream_app/%.py))'
	$(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder tests/chaos tests/simulation tests/contract tests/integration tests/docs
	$(BIN)/pytest -q tests/browser # alone: a browser, Kafka, S3, a worker and the Inspector fill two cores

pictures: $(READY) ## Take the documentation's pictures of the Inspector again (needs /usr/bin/chromium).
	$(BIN)/pytest -q tests/browser/test_pictures.py --screenshots

docs: $(READY) ## The documentation as a site, in site/: every warning is an error.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(READY) ## All tables of docs/performance.md, in 45 minutes: make bench [ONLY=throughput].
	$(BIN)/python benchmarks/report.py $(if $(ONLY),--only $(ONLY))

MINUTES ?= 30
chaos: $(READY) ## Random faults on everything: make chaos MINUTES=30 SEED=7 [REPORT=docs/guarantees.md].
	$(BIN)/pytest -q -rP tests/chaos/test_schedule.py -k loses_and_repeats --chaos-minutes $(MINUTES) \
		$(if $(SEED),--chaos-seed $(SEED)) $(if $(REPORT),--chaos-report $(REPORT))

mutants: $(READY) ## Take each safeguard out, one at a time: a test must fail for it.
	$(BIN)/python tests/mutants.py

lock: ## Resolve the dependencies again and write both lock files (needs uv).
	uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
		--python-version 3.11 pyproject.toml -o requirements.txt
	uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
		--python-version 3.11 --extra dev pyproject.toml -c requirements.txt -o requirements-dev.txt

clean: ## Remove what the other targets made.
	rm -rf $(VENV) site .coverage .lint-imports.log .hypothesis .mypy_cache .pytest_cache .ruff_cache
