# `make demo` and `make test` need Python 3.11+ and make, nothing else: they set up what they use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/.demo
READY := $(VENV)/.ready
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

# The pure modules: no I/O, no clock, no asyncio, no Faust; every branch of them is tested.
PURE := core/* expressions/* inspector/core/* records.py text.py errors.py log_declaration.py log_events.py log_fields.py \
	config/bucket_names.py config/contradictions.py config/parser.py config/settings.py config/validators.py kafka/cluster_findings.py kafka/login_tokens.py monitoring/accumulators.py monitoring/counts.py monitoring/destination_counts.py \
	monitoring/health.py monitoring/metrics.py monitoring/open_transactions.py monitoring/reload_state.py redelivery/owed.py s3/bucket_policy.py s3/clock_skew.py \
	monitoring/unanswered_partitions.py s3/conformance_verdict.py cli/tables.py
comma := ,
space := $(subst ,, )

# Tests that compute take a process for each core; those with real servers wait more than they compute.
# The longest tests come first (see tests/spread.py).
COMPUTE := -q -n auto
WAIT := -q -n 3
# A test with real servers that fails on a busy machine runs once more, except in tests/chaos; the summary names it.
AGAIN := --reruns 1 --rerun-show-tracebacks -raR
FAST := tests/property tests/wire tests/unit tests/tidy
SERVERS := $(addprefix tests/integration/,worker kafka commands s3) tests/contract tests/compat tests/docs

.PHONY: help setup demo lint check test test-core test-servers test-chaos test-waiting test-browser nightly
.PHONY: docs pictures bench chaos compat smoke-aws chart release image containers mutants lock clean

help: ## List what there is to make.
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

# The virtual environment with the packages of a hash-pinned lock file, and this checkout in it.
define install
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "stream-app needs Python 3.11 or newer; run make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
endef

setup: $(READY) ## Create the virtual environment with everything; the demo alone needs less.

$(DEMO): requirements-demo.txt pyproject.toml
	$(call install,$<)
	@touch $@

$(READY): requirements-dev.txt pyproject.toml
	$(call install,$<)
	@touch $(DEMO) $@

demo: $(DEMO) ## Real Kafka, real S3, one worker, 30 events, two objects, their receipts.
	$(BIN)/stream-app demo

lint: $(READY) ## ruff, mypy strict, import-linter.
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache >.lint-imports.log || { cat .lint-imports.log; exit 1; }

check: lint ## While you work, in 2 minutes: lint, unit, property, tidy and wire tests, 200 seeds.
	$(BIN)/pytest $(COMPUTE) --hypothesis-profile=dev $(FAST) tests/simulation --seeds 200

test: $(READY) ## Everything that CI runs, in 28 minutes on 2 cores; its shards run side by side, too.
	@began=$$(date +%s); for part in test-core test-waiting test-browser; do \
		$(MAKE) --no-print-directory $$part || exit 1; \
		ended=$$(date +%s); seconds="$$seconds $$part $$((ended - began))"; began=$$ended; \
	done; echo "seconds:$$seconds"

test-core: lint ## Shard: lint, every branch of the pure modules, 2,000 seeds of simulation.
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(COMPUTE) $(FAST)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=100 --include='$(subst $(space),$(comma),$(PURE:%=stream_app/%))'
	$(BIN)/pytest $(COMPUTE) tests/simulation

test-servers: $(READY) ## Shard: real Kafka, S3, workers, clients; the documents' commands.
	$(BIN)/pytest $(WAIT) $(AGAIN) $(SERVERS)

test-chaos: $(READY) ## Shard: scenarios and three minutes of random faults.
	$(BIN)/pytest -q -n 2 tests/chaos

test-waiting: $(READY) # both of these on one machine: while one waits, the other computes
	$(BIN)/pytest $(WAIT) $(AGAIN) tests/chaos $(SERVERS)

test-browser: $(READY) ## Shard: the Inspector in a browser, alone: its load test needs two cores.
	$(BIN)/pytest -q $(AGAIN) tests/browser

nightly: $(READY) ## Ten times the examples and seeds.
	$(BIN)/pytest $(COMPUTE) -o timeout=3600 --hypothesis-profile=nightly tests/property tests/simulation --seeds 20000

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

SERVER ?= seaweedfs
compat: $(READY) ## Programs of others, and their rows in docs/compatibility.md: make compat SERVER=minio, KAFKA=2.8.2 or READER=duckdb.
	$(BIN)/python -m tests.compat.run $(if $(KAFKA),kafka $(KAFKA),$(if $(READER),reader $(READER),server $(SERVER)))

smoke-aws: $(READY) ## In your AWS account: bucket, role, deliveries under kill -9, nothing left: make smoke-aws REGION=eu-central-1.
	$(BIN)/python -m tests.compat.aws --region '$(REGION)' $(if $(BUCKET_PREFIX),--bucket-prefix '$(BUCKET_PREFIX)') \
		$(if $(OWN_IDENTITY),--own-identity) $(if $(YES),--yes)

PYTHONS ?= python3.11 python3.12 python3.13 python3.14
release: $(READY) ## Wheel, sdist, image, SBOM, notes and checksums in dist/: make release [DRAFT=1] [PYTHONS="python3.11 ..."].
	$(BIN)/python -m tests.release $(if $(DRAFT),--draft) $(PYTHONS)

chart: $(READY) ## Render the Helm chart's cases by Helm, after a change of the chart (needs Go).
	$(BIN)/python -m tests.docs.chart_render
	$(BIN)/pytest -q tests/docs/test_deploy_doc.py

BASE ?= python:3.11-slim
image: ## The container image, and its SBOM in dist/; needs a Docker engine: make image [BASE=python:3.11-slim@sha256:...].
	docker build --build-arg BASE=$(BASE) --build-arg REVISION=$$(git describe --always --abbrev=40 --exclude='*' --dirty) \
		--tag stream-app:$(VERSION) .
	mkdir -p dist
	docker run --rm --network none --entrypoint cat stream-app:$(VERSION) /opt/stream-app/sbom.cdx.json \
		>dist/stream-app-$(VERSION)-image.cdx.json

COMPOSE ?= docker compose
containers: $(DEMO) ## docker-compose.yml on a Docker engine: an event to its receipts, two workers, a clean stop.
	$(BIN)/python -m tests.containers.run --compose "$(COMPOSE)"

mutants: $(READY) ## Take each safeguard out, one at a time: a test must fail for it.
	$(BIN)/python tests/mutants.py

COMPILE := uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11
lock: ## Resolve the dependencies again and write the four lock files (needs uv).
	$(COMPILE) pyproject.toml -o requirements.txt
	$(COMPILE) pyproject.toml --extra embedded --extra checkout -c requirements.txt -o requirements-demo.txt
	$(COMPILE) pyproject.toml --extra dev -c requirements-demo.txt -o requirements-dev.txt
	$(COMPILE) --group release -c requirements-dev.txt -o requirements-release.txt

clean: ## Remove what the other targets made.
	rm -rf $(VENV) site dist .coverage .coverage.* .lint-imports.log .hypothesis .mypy_cache .pytest_cache .ruff_cache
