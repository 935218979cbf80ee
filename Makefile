# Everything a developer types. `make demo` and `make test` set up what they need themselves.
# What may live here: names for commands. Logic belongs to packaging/ and tests/.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test check format docs bench soak clean

BIN := .venv/bin

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv and install missing system packages (the others do this by themselves)
	@packaging/bootstrap.sh

demo: setup ## mount a small image set from a local S3 server and train on it for two epochs
	@$(BIN)/python -m tests.demo.quickstart

test: setup ## run every test (ARGS="tests/unit -k name" for some of them)
	@packaging/run-tests.sh $(ARGS)

check: setup ## lint, format, types, layers and documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@packaging/run-tests.sh tests/docs

format: setup ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## write the generated parts of docs/ anew
	$(BIN)/python -m ossmount.cli.reference
	$(BIN)/python packaging/helm/options_schema.py

bench: ## compare with the peers that are installed (minutes; ARGS are passed on)
	@packaging/bootstrap.sh --bench
	@$(BIN)/python -m tests.bench $(ARGS)

soak: setup ## read for hours while processes are killed and the store fails (ARGS are passed on)
	@$(BIN)/python -m tests.soak $(ARGS)

clean: ## remove everything that was made here, .venv too
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
