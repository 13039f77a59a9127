# Everyday commands. `make demo` and `make test` do all the set-up themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest

.PHONY: setup system-packages demo test test-long check bench build smoke constraints clean

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON); install Python 3.11 or newer, or name one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is $$($(PYTHON) --version); 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev --editable .
	@touch $@

setup: $(STAMP) ## the virtual environment with everything the project and its tests need

system-packages: ## real Redis and PostgreSQL servers for the tests; only as root, otherwise said so
	@tests/install-system-packages

demo: $(STAMP) ## one fault mended, one request refused, one wrong fix rolled back; no root, no system package
	@$(BIN)/remediate demo

check: $(STAMP) ## lint, types, layers, unit tests: under a minute
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/ansible-lint --offline
	$(PYTEST) -q tests/unit

test: $(STAMP) system-packages ## everything this machine can carry; prints what it left out and why
	REMEDIATE_TEST_ANSIBLE_LINES=$$(tests/ansible-lines $(BIN)/python) $(PYTEST) tests

test-long: $(STAMP) system-packages ## the same with every count at its full n
	REMEDIATE_LONG=1 REMEDIATE_TEST_ANSIBLE_LINES=$$(tests/ansible-lines $(BIN)/python) $(PYTEST) tests --timeout 7200

bench: $(STAMP) system-packages ## figures as ratios, each beside its bar
	@for bench in tests/bench/bench_*.py; do $(BIN)/python $$bench || exit 1; done

build: $(STAMP) ## wheel and source archive in dist/
	$(BIN)/python -m build --outdir dist .

smoke: build ## the built wheel in an empty environment, from another directory
	tests/smoke dist

constraints: ## renew constraints.txt from what is installed now
	$(BIN)/python -m pip freeze --exclude-editable | grep -v '^remediate' > constraints.txt

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
