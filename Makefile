# Everything a newcomer needs. `make demo` and `make test` do their own set-up.
# A change of pyproject.toml or constraints.txt installs again; nothing else does.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo ui test test-browser test-cluster test-frameworks lint lock clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	  || { echo "Python 3.11 to 3.13 is needed; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "On Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python scripts/install.py
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@$(BIN)/python scripts/install.py test
	@touch $@

setup: $(VENV)/.installed ## virtual environment, packages, source packages of the corpora
	@$(BIN)/python -m codellm_dag.corpora.fetch

demo: setup ## the whole life cycle on this machine, ending with the leaderboard
	@$(BIN)/codellm-dag demo $(ARGS)

ui: setup ## Dagster's web UI over the runs of the demo, on http://localhost:3000
	DAGSTER_HOME=$(CURDIR)/.codellm-dag/dagster $(BIN)/dagster dev $(ARGS)

lint: setup $(VENV)/.installed-test ## style, types and the import rules of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

test: lint ## style, types, import rules and the test suite
	$(BIN)/pytest -n 2 --dist loadfile -m "not browser and not cluster and not frameworks" tests $(ARGS)

test-browser: setup $(VENV)/.installed-test ## the UI in a headless Chromium (installs Debian's chromium when it is missing)
	@command -v chromium >/dev/null \
	  || { apt-get update -qq && apt-get install -y -qq chromium; }
	$(BIN)/pytest -m browser tests/browser $(ARGS)

PODMAN := podman runc catatonit conmon netavark aardvark-dns containernetworking-plugins iptables

test-cluster: setup $(VENV)/.installed-test ## real containers on the test cluster (installs Debian's podman when it is missing)
	@command -v podman >/dev/null && command -v runc >/dev/null && command -v iptables >/dev/null \
	  || { apt-get update -qq && apt-get install -y -qq $(PODMAN); }
	$(BIN)/pytest -m cluster tests/cluster $(ARGS)

$(VENV)/.installed-deepspeed: $(VENV)/.installed-test
	@$(BIN)/python scripts/install.py test deepspeed
	@touch $@

test-frameworks: setup $(VENV)/.installed-deepspeed ## outside training frameworks, in environments that it builds (about 9 GB)
	$(BIN)/pytest -m frameworks tests/training tests/scaling $(ARGS)

lock: setup $(VENV)/.installed-test ## write constraints.txt from what is installed
	$(BIN)/pip freeze --exclude-editable | grep -v '^codellm-dag' | sed 's/+cpu$$//' > constraints.txt

clean: ## remove the virtual environment and caches; stores are kept
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache
