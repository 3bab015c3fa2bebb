# make demo: install into .venv and run the whole pipeline on the shipped graph (one thread:
# the graph is small, and threads that wait for each other cost more than they give).
# make test: the test suite; real data sets are used where G2T_ROOT names their folder.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint slow

demo: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/g2t run recipe:demo --graph data/demo --seeds 0:3 --out runs/demo

test: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

slow: $(VENV)/installed
	$(BIN)/python -m pytest -q -m slow

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e . --group dev
	touch $@
