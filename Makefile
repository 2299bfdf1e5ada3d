# Plain `make` prints the targets. Each of them sets up what it needs first; a second time that takes no time.

PYTHON := .venv/bin/python
# Three workers, one file each, also on two cores: tests wait a lot for what they started. Test files own their ports
# and folders, cases within a file may share them.
PYTEST_WORKERS ?= 3

export PYTHONUNBUFFERED := 1

.PHONY: help run test lint bench screenshots clean setup setup-dev
.NOTPARALLEL:

help:
	@echo "make run     set up if needed, then run Flotilla with its demo fleet; Ctrl-C ends it in order"
	@echo "make test    set up if needed, then check style and types and run all tests"
	@echo "make lint    style and types only"
	@echo "make bench   measure what the README states"
	@echo "make screenshots  take the pictures of README and docs from a demo fleet of their own"
	@echo "make clean   remove caches and the virtual environment; keeps var/ (databases, journals, keys)"

setup:
	@exec sh scripts/setup.sh

setup-dev:
	@exec sh scripts/setup.sh --dev

# The recipe's last line replaces its shell, so that signals arrive at Flotilla itself.
run: setup
	@exec $(PYTHON) -m server up --demo

# All three run, whatever the first ones find; pytest's summary comes last.
test: setup-dev
	@failed=0; \
	echo "ruff"; $(PYTHON) -m ruff check . || failed=1; \
	echo "mypy"; $(PYTHON) -m mypy || failed=1; \
	echo "pytest"; $(PYTHON) -m pytest -q -n $(PYTEST_WORKERS) --dist loadfile || failed=1; \
	exit $$failed

lint: setup-dev
	@failed=0; \
	$(PYTHON) -m ruff check . || failed=1; \
	$(PYTHON) -m mypy || failed=1; \
	exit $$failed

bench: setup-dev
	@for file in benchmarks/*.py; do echo "== $$file"; $(PYTHON) "$$file" || exit 1; done

screenshots: setup-dev
	@$(PYTHON) scripts/screenshots.py

clean:
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find bots research server shared simulator tests scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
