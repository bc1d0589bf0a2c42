# `make demo` and `make test` need Python 3.11 or later and, the first time, a network for pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-faults lint benchmark clean

demo: $(VENV)/installed
	$(BIN)/captioning caption examples/photos --attention demo
	@echo "A picture of each, with the attention of every word, is in demo/"
	$(BIN)/pixelrnn complete examples/digits --mask lower-half --samples 8 -o demo/completions.png

test: $(VENV)/installed-dev lint
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

# Kills, full disks, mutated inputs, decompression bombs, on Linux: under half an hour on two idle cores. FULL=1 takes
# hours: 10,000 mutated inputs for each reader. SEED=1 takes other kills and inputs.
FULL ?=
SEED ?= 0
KILLS ?= 100
MUTATIONS ?= $(if $(FULL),10000,400)
# Not with the tests of their folder that `make test` runs: these compute in the processes of the test runner, and then
# what these processes fork cannot compute in parallel.
FAULTS := $(addprefix tests/faults/,kills.py disks.py mutations.py bombs.py)
# Who is not root may mount small disks in a namespace.
NAMESPACE = $(shell [ "$$(id -u)" = 0 ] || ! unshare -rm true 2>/dev/null || echo unshare -rm)

test-faults: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(NAMESPACE) $(BIN)/python -m pytest $(FAULTS) --numprocesses auto --maxprocesses 8 \
		--dist worksteal --tb=short -o timeout=0 -o faulthandler_timeout=0 \
		--kills=$(KILLS) --mutations=$(MUTATIONS) --faults-seed=$(SEED)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

benchmark: $(VENV)/installed-dev
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only

clean:
	rm -rf $(VENV) demo

# An editable install: the code at hand is what runs, and only new requirements install anew.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt --group dev
	touch $@
