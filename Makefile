# The one interface: people, CI and pre-commit all call these targets.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TOOLS := .tools
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt
# Python compiles a module when it is first imported; pip would take half a minute to compile them all.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo test fuzz kills chaos reliability lint fix check bench scale evidence docs docs-serve package newcomer sbom audit

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## Create .venv and install everything, pinned (does nothing when up to date)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"ravel needs Python >= 3.11, $(PYTHON) is {sys.version.split()[0]}: run make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) pip
	$(PIP) --no-compile --editable '.[all]' --group dev
	@touch $@

demo: setup ## Set up, then run the main job: an ASHA sweep over SNNL, Mixup and adversarial training
	$(BIN)/ravel launch examples/digits.yaml

# A worker for each core, four at most: a test that starts Ray brings workers of its own.
# Once Ray's agent is compiled, Ray's processes keep their bytecode next to it, not in each cache folder of a test.
test: setup ## Set up, then run every test, the linters and type checks among them
	$(BIN)/python -m compileall -q $(VENV)/lib/python*/site-packages/ray/dashboard/modules/reporter
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal $(PYTEST_ARGS)

fuzz: setup ## Run every mutated spec and damaged file of tests/fuzz, of which test takes a tenth
	RAVEL_FUZZ=all $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal $(PYTEST_ARGS) tests/fuzz

# One after the other: a driver that waits for its turn ends late.
kills: setup ## Kill sweeps at every seeded moment of tests/kills, of which test takes one of each kind, and change clusters: one to two hours
	RAVEL_KILLS=all $(BIN)/python -m pytest -n 0 $(PYTEST_ARGS) tests/kills tests/orchestrator/test_elastic_cluster.py tests/orchestrator/test_confirm_sweeps.py tests/orchestrator/test_trials_on_two_nodes.py

chaos: setup ## Break machines, servers, links and disks under sweeps on a cluster of three nodes: 25 minutes
	RAVEL_CHAOS=all $(BIN)/python -m pytest -n 0 $(PYTEST_ARGS) tests/chaos

reliability: setup ## Write docs/reliability.md from docs/reliability.jsonl, to which chaos and kills append: RAVEL_CHAOS_RESULTS
	$(BIN)/python tests/chaos/reliability_page.py

lint: setup ## Check format, lint, types, import contracts and docstring coverage
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/interrogate --quiet search_spaces trainables orchestrator ravel

fix: setup ## Format, and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: lint test ## lint, then test

bench: setup ## Run the benchmarks, each at its whole size: hours
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

scale: setup ## Measure what a sweep costs as it grows, for docs/scaling.md, and write its tables: an hour and a half
	$(BIN)/python benchmarks/scale/scale.py run --results docs/scaling.jsonl
	$(BIN)/python benchmarks/scale/scale.py write

evidence: setup ## Measure sections of docs/results.md that are missing: make evidence SECTIONS="dose gan" DATA=FOLDER, with MNIST/raw and the others in it
	@test -n "$(DATA)" || { echo "evidence: say where the data sets are, for example make evidence DATA=data"; exit 2; }
	$(BIN)/python benchmarks/evidence/evidence.py run $(SECTIONS) --data-root $(DATA) $(if $(PART),--part $(PART))

docs: setup ## Build the documentation site into build/site; a broken link or a page without a place fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

docs-serve: setup ## Show the site on 127.0.0.1:8000, and build it once more when a page changes
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve --dev-addr 127.0.0.1:8000

package: setup $(TOOLS)/.installed ## Build wheel and sdist into dist/, check both, and try them in clean environments
	rm -rf dist
	$(TOOLS)/bin/python -m build --outdir dist .
	$(TOOLS)/bin/twine check --strict dist/*
	$(TOOLS)/bin/check-wheel-contents dist/*.whl
	RAVEL_RELEASE=$(CURDIR)/dist $(BIN)/python -m pytest -n 0 tests/release

newcomer: $(TOOLS)/.installed ## Write docs/newcomer.md: install the wheel into an empty home, and follow README and tutorial
	rm -rf dist
	$(TOOLS)/bin/python -m build --wheel --outdir dist .
	mkdir -p build
	$(PYTHON) tests/release/newcomer.py dist/*.whl > build/newcomer.md
	mv build/newcomer.md docs/newcomer.md

sbom: setup $(TOOLS)/.installed ## Write the bill of materials (CycloneDX) and the licences of all dependencies into build/sbom
	mkdir -p build/sbom
	$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON -o build/sbom/sbom.cdx.json $(BIN)/python
	$(TOOLS)/bin/pip-licenses --python $(BIN)/python --format=markdown --order=license --with-urls --output-file build/sbom/licences.md

audit: $(TOOLS)/.installed ## Ask PyPI for known vulnerabilities of the pinned dependencies; fails too where it cannot ask
	$(TOOLS)/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

$(TOOLS)/.installed: .ci/release-tools.txt
	test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install -qq --disable-pip-version-check --requirement $<
	@touch $@
