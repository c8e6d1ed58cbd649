# Set-up and main jobs. `make` alone lists them.
#
# Each target brings what it needs: a virtual environment in .venv, filled from the lock files, and, when
# run by root on a Debian system, the few Debian packages that the target needs.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STATE ?= .vedette
ARGS ?=
SOAK_MINUTES ?= 10
# Tests wait for other processes more than they compute, so more of them at a time than cores.
PYTEST := $(BIN)/pytest --numprocesses $(shell expr $$(nproc) + 1) --dist loadfile --no-loadscope-reorder

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 14

.PHONY: up
up: $(VENV)/.up ## start hub and agent on this machine (ARGS="--https-port 9443 …")
	@exec $(BIN)/vedette up --state $(STATE) $(ARGS)

.PHONY: test
test: $(VENV)/.dev ## run the tests
	$(PYTEST) $(ARGS)

.PHONY: test-slow
test-slow: $(VENV)/.dev ## run the tests that take minutes
	packaging/system-packages slow
	$(PYTEST) -m slow $(ARGS)

.PHONY: lint
lint: $(VENV)/.lint ## check style, types and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: format
format: $(VENV)/.lint ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: $(VENV)/.dev ## run the benchmarks (minutes; root for the kernel ones)
	for bench in $(filter-out %/soak.py %/fleet.py,$(wildcard benchmarks/*.py)); do echo "== $$bench"; $(BIN)/python $$bench; done

.PHONY: soak
soak: $(VENV)/.dev ## run hub and agent under mixed load for SOAK_MINUTES, then compare (root)
	$(BIN)/python benchmarks/soak.py --minutes $(SOAK_MINUTES)

.PHONY: fleet
fleet: $(VENV)/.dev ## run gateways, worker, PostgreSQL, object store, load balancer and devices until Ctrl-C (ARGS="--kill …")
	$(BIN)/python benchmarks/fleet.py $(ARGS)

.PHONY: bpf
bpf: ## rebuild the eBPF objects (needs clang, llvm and libbpf-dev)
	packaging/system-packages bpf
	$(MAKE) -C src/vedette/agent/bpf

.PHONY: deb
deb: $(BIN)/python ## build the agent's Debian package in dist (ARCH=arm64 or armhf for another machine)
	packaging/system-packages deb
	$(if $(filter armhf,$(ARCH)),packaging/system-packages armhf)
	$(BIN)/python packaging/deb/build.py $(if $(ARCH),--arch $(ARCH))
	lintian --allow-root --fail-on error dist/vedette_*_$(or $(ARCH),$$(dpkg --print-architecture)).deb

.PHONY: wheelhouse
wheelhouse: $(BIN)/python ## collect the agent and its dependencies for devices without network, in dist
	packaging/airgap/wheelhouse

.PHONY: docs
docs: $(VENV)/.up ## regenerate the reference pages
	$(BIN)/python docs/generate.py

.PHONY: screenshots
screenshots: $(VENV)/.dev ## take the pictures of the console anew
	$(BIN)/python docs/screenshots.py

.PHONY: lock
lock: $(VENV)/.lint ## resolve the dependencies anew into the lock files
	$(BIN)/uv pip compile -q pyproject.toml --generate-hashes --custom-compile-command "make lock" --upgrade \
	  --all-extras --group dev -o requirements/dev.lock
	$(BIN)/uv pip compile -q pyproject.toml --generate-hashes --custom-compile-command "make lock" \
	  -c requirements/dev.lock --extra hub -o requirements/hub.lock
	$(BIN)/uv pip compile -q pyproject.toml --generate-hashes --custom-compile-command "make lock" \
	  -c requirements/dev.lock -o requirements/agent.lock

.PHONY: clean
clean: ## remove environments, caches and build results (not the state)
	rm -rf $(VENV) .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# -- what the targets stand on

$(BIN)/python:
	packaging/system-packages venv
	$(PYTHON) -m venv $(VENV)

# The package itself is installed without its dependencies: the lock file has brought them.
$(VENV)/.up: requirements/hub.lock pyproject.toml | $(BIN)/python
	packaging/system-packages up
	@echo "installing the hub's and the agent's dependencies …"
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/hub.lock
	$(BIN)/pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.lint: requirements/dev.lock $(VENV)/.up
	@echo "installing what development needs …"
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@touch $@

$(VENV)/.dev: packaging/system-packages $(VENV)/.lint
	packaging/system-packages test
	@touch $@
