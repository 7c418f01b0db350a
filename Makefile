# Three commands on a machine with nothing but Python 3.11 or newer:
#   make train   sets up .venv, then trains a small language model on the built-in sample
#   make test    sets up .venv, then runs ruff, mypy and every test
#   make quick   sets up .venv, then runs the tests that take under a minute together
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# A file of tests stays in one process, since its tests share what they train.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: train test quick clean

train: $(VENV)/installed
	$(BIN)/python -m fixlm.train --output-embed pmi --data sample

test: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST)

quick: $(VENV)/installed
	$(PYTEST) -m "not slow"

$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fixlm needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build *.egg-info
