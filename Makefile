# `make help` lists the targets. Everything is installed into .venv, at the versions of constraints.txt.

PYTHON ?= python3
# The home's name is never written into a command: it may hold what a shell or an address would take for its own.
ifndef HOME_DIR
HOME_DIR := $(or $(value CAVIAR_HOME),runs)
endif
export CAVIAR_HOME := $(HOME_DIR)
STUDY ?= studies/digits.toml
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
CODE := plugin tests benchmarks docs
# A file's tests share fixtures, so they stay together. At most four processes: each takes a gigabyte. ARGS="-n 0" runs one.
# A process that crashes is not replaced: pytest-xdist 3.8 may wait for the one that replaces it for ever (its issue 784).
PARALLEL := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder --max-worker-restart 0
# What tests write is thrown away when they pass. In memory, where there is room for it and programs may run, their
# databases wait for no disk. Others may pass through: where you are root, PostgreSQL's server runs as a user of its own.
MEMORY = $(shell grep -qs ' /dev/shm .*noexec' /proc/mounts || df -Pk /dev/shm 2>/dev/null | awk '$$NF == "/dev/shm" && $$4 > 4000000 {print $$NF}')
define RUN_TESTS
scratch=$$(mktemp -d "$${TMPDIR:-$(or $(MEMORY),/tmp)}/caviar.XXXXXX") && chmod a+x $$scratch && \
TMPDIR=$$scratch $(BIN)/python -m pytest $(PARALLEL) $(1) $(ARGS) && rm -rf $$scratch
endef

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install study serve test test-fast check format format-check lint types package dashboard mlflow clean

help: ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

install: $(VENV)/installed ## Make .venv with everything that running a study needs.

study: $(VENV)/installed ## Run the study of studies/digits.toml (another: STUDY=…, more options: ARGS="--trials 200").
	$(BIN)/caviar run $(STUDY) $(ARGS)

serve: $(VENV)/installed ## Serve studies, forms, REST and both dashboards, http://127.0.0.1:8000 (more options: ARGS="--port 8080").
	$(BIN)/caviar serve $(ARGS)

dashboard: $(VENV)/installed ## Show the studies in optuna-dashboard, http://127.0.0.1:8080.
	$(BIN)/python -m caviar.commands.pages dashboard

mlflow: $(VENV)/installed ## Show the runs in MLflow, http://127.0.0.1:5000.
	$(BIN)/python -m caviar.commands.pages mlflow

test test-fast: export PYTHONDONTWRITEBYTECODE := # else each process of the tests compiles the package anew

test: $(VENV)/developing ## Run all tests, in a process for each core.
	$(call RUN_TESTS)

test-fast: $(VENV)/developing ## Run the tests that take less than two seconds each.
	$(call RUN_TESTS,-m "not slow and not browser")

check: format-check lint types test package ## Everything that must hold before a change lands.

format: $(VENV)/developing ## Format the code.
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

format-check: $(VENV)/developing
	$(BIN)/ruff format --check $(CODE)

lint: $(VENV)/developing
	$(BIN)/ruff check $(CODE)

types: $(VENV)/developing
	$(BIN)/mypy

package: $(VENV)/developing ## Build the wheel and try it in an empty environment.
	sh tests/package_check.sh $(BIN)/python

clean: ## Remove .venv and what tools left behind; studies below runs/ stay.
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Installing byte-compiles: importing an uncompiled TensorFlow takes 15 s instead of 5 s.
ifeq ($(UV),)
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip --constraint constraints.txt

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/developing: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev
	@touch $@
else
$(VENV)/bin/python:
	$(UV) venv --quiet --seed --python $(PYTHON) $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(UV) pip install --quiet --python $(BIN)/python --compile-bytecode --constraint constraints.txt --editable .
	@touch $@

$(VENV)/developing: $(VENV)/installed
	$(UV) pip install --quiet --python $(BIN)/python --compile-bytecode --constraint constraints.txt --group dev
	@touch $@
endif
