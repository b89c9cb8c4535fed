# Every command a person or CI needs. Each one first brings .venv up to date.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo test nightly check bench docs

help:
	@echo "make demo    facts of one activation, then the first study and its report (about 3 minutes)"
	@echo "make test    all default tests"
	@echo "make nightly the tests that take minutes each: large fuzzing, slow oracles"
	@echo "make check   lint, format, types, import contract, documentation"
	@echo "make bench   every script in benchmarks/, one after the other"
	@echo "make docs    the documentation site, into site/"
	@echo "make setup   only the environment, in .venv"

setup: $(READY)

# Installed again only when the requirements change.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "varphi needs Python 3.11 or newer, not " + sys.version.split()[0] + "; name one with: make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --no-input --disable-pip-version-check -c constraints.txt -e ".[all]"
	@touch $@

demo: $(READY)
	$(BIN)/varphi facts softplus
	$(BIN)/varphi study run constrained --demo
	@mkdir -p reports
	$(BIN)/varphi study report constrained -o reports/constrained.html

test: $(READY)
	$(BIN)/python -m pytest

nightly: $(READY)
	$(BIN)/python -m pytest -m nightly

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/mkdocs build --strict

# One at a time: a benchmark that shares the machine measures its neighbour.
bench: $(READY)
	@set -e; for script in $(sort $(wildcard benchmarks/*.py)); do \
		echo "== $$script"; $(BIN)/python "$$script"; \
	done

docs: $(READY)
	$(BIN)/mkdocs build --strict
	@echo "Open site/index.html"
