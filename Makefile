# Roundhouse. `make` lists what there is. Needs make and a Python of 3.11 or later, nothing else.

VENV   := .venv
BIN    := $(VENV)/bin
PYTHON := $(BIN)/python
SHELL  := /bin/sh

# Options: `make run-all ARGS="--base-port 9700 --data /tmp/yard"`, `make test ARGS="-k paging"`.
ARGS    ?=
# Test processes side by side.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ "$$n" -gt 3 ] && echo 3 || echo 2)

# uv when it is there (ten times faster), else pip. They are configured apart: where uv does not know
# the way to the package index, pip may.
PIP := $(PYTHON) -m pip install --quiet --disable-pip-version-check
UV  := $(shell command -v uv 2>/dev/null)
ifneq ($(UV),)
install = VIRTUAL_ENV= $(UV) pip install --quiet --python $(PYTHON) $(1) || { echo "uv could not; trying pip" >&2; $(PIP) $(1); }
else
install = $(PIP) $(1)
endif

.DEFAULT_GOAL := help
.PHONY: help setup stubs run-all demo test lint type bench soak requirements clean
.DELETE_ON_ERROR:

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo 'Options go into ARGS: make run-all ARGS="--base-port 9700"; make test ARGS="-k paging".'

# --- installation ------------------------------------------------------------------------------

setup: $(VENV)/.installed stubs ## create .venv, install the pinned requirements, generate the stubs

# A virtual environment whose Python is gone counts as missing.
$(PYTHON):
	@found=; for candidate in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	  if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    found=$$candidate; break; \
	  fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "Python 3.11 or later is needed and none is on PATH (python3 is: $$(python3 --version 2>&1 || true))." >&2; \
	  exit 1; \
	fi; \
	if ! $$found -c 'import ensurepip, venv' >/dev/null 2>&1; then \
	  echo "$$found cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; \
	  exit 1; \
	fi; \
	echo "creating $(VENV) with $$($$found --version)"; \
	$$found -m venv --clear $(VENV)

$(VENV)/.required: requirements.txt | $(PYTHON)
	@echo "installing requirements.txt"
	@$(call install,-r requirements.txt)
	@touch $@

# The console script; the sources stay where they are.
$(VENV)/.installed: pyproject.toml $(VENV)/.required
	@$(call install,--no-deps --no-build-isolation -e .)
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.installed
	@echo "installing requirements-dev.txt"
	@$(call install,-r requirements-dev.txt)
	@touch $@

stubs: $(VENV)/.installed
	@$(PYTHON) shared/protos/generate.py --if-changed

# --- use ---------------------------------------------------------------------------------------

# For trying out: pods run as whoever runs this, and limits that this host cannot enforce are noted
# rather than refused. The jobs service says both.
JOBS := ROUNDHOUSE_JOBS_ALLOW_ROOT="$${ROUNDHOUSE_JOBS_ALLOW_ROOT:-true}" ROUNDHOUSE_JOBS_LIMITS="$${ROUNDHOUSE_JOBS_LIMITS:-advisory}"

run-all: setup ## run the services and the console until Ctrl-C
	@$(JOBS) exec $(BIN)/roundhouse up $(ARGS)

demo: setup ## the same, with a simulated lab of a dozen exporters to lease
	@$(JOBS) exec $(BIN)/roundhouse up --demo $(ARGS)

# --- development -------------------------------------------------------------------------------

test: setup $(VENV)/.dev ## run the whole suite; what is slow runs reduced
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup $(ARGS)

soak: setup $(VENV)/.dev ## run the whole suite with everything at full size (long)
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup --soak $(ARGS)

lint: setup $(VENV)/.dev ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: setup $(VENV)/.dev ## check types
	$(BIN)/mypy

bench: setup $(VENV)/.dev ## measure, as ratios, side by side
	$(PYTHON) -m bench $(ARGS)

# Keeps the pins that still fit; ARGS=--upgrade takes the newest. Never pass --emit-index-url.
requirements: $(PYTHON) ## compile requirements*.in to pinned files
	@set -e; tool=$$(command -v uv || true); \
	if [ -z "$$tool" ]; then \
	  $(PYTHON) -m venv .cache/uv; .cache/uv/bin/pip install --quiet --disable-pip-version-check uv; tool=.cache/uv/bin/uv; \
	fi; \
	for name in requirements requirements-dev $(filter-out requirements requirements-dev,$(basename $(wildcard requirements*.in))); do \
	  echo "compiling $$name.in"; \
	  $$tool pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
	    $(ARGS) $$name.in -o $$name.txt; \
	done

clean: ## remove everything that was generated, except data in var
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist shared/pb *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
