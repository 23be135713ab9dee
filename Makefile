# make demo: a small clip, end to end.  make test: all tests.  Both make their own virtual environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A file's tests stay together. One process more than there are cores, since each waits for servers and pages.
WORKERS := $(shell $(PYTHON) -c 'import os; print(min(4, 1 + (os.cpu_count() or 1)))')
PARALLEL := --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
READY := $(VENV)/.ready

.PHONY: demo test hosts slow comfyui packs lint format bench fuzz fuzz-host kills full-disk interrupts many-runs clean

demo: $(READY)
	$(BIN)/python demos/demo.py

# In several processes, each with a ComfyUI of its own.
test: comfyui
	$(BIN)/python -m pytest $(PARALLEL)

# The ComfyUI that the nodes are tested on, if none is found; no error where it cannot be had.
comfyui: $(READY)
	$(BIN)/python tests/host/bring.py

# Other people's packs, for the tests that run with them.
packs: $(READY)
	$(BIN)/python tests/host/bring_packs.py

# The tests of the nodes on every ComfyUI that is found (~/comfy*/ComfyUI, or COMFYUI_PATHS).
hosts: comfyui
	$(BIN)/python tests/host/all_hosts.py $(PARALLEL)

# The same with the slow ones, and those that need no ComfyUI, one after the other: minutes each, one with 24 GB of disk.
slow: comfyui
	MOVA_SLOW_TESTS=1 $(BIN)/python -m pytest --ignore tests/host
	MOVA_SLOW_TESTS=1 $(BIN)/python tests/host/all_hosts.py

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python tests/check_types.py

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python benchmarks/peak_memory.py

fuzz: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check atheris
	$(BIN)/python tests/fuzz_atheris.py .fuzz -max_total_time=600 -timeout=120 -rss_limit_mb=4000 -artifact_prefix=.fuzz-

# 300 processes that write files are killed with -9 at random moments, and 60 that train; counts what they leave.
kills: $(READY)
	$(BIN)/python tests/kill.py --times 300
	$(BIN)/python tests/kill_training.py --times 60

# The same with 100 disks that run full and 100 interrupts. Needs Linux, and root for its disks.
full-disk: $(READY)
	$(BIN)/python tests/full_disk.py --times 100

# The shipped workflows, changed in 2,000 ways, then with each odd object in each input, on a real ComfyUI. Needs Linux.
SEED := 1
fuzz-host: comfyui
	OMP_NUM_THREADS=1 $(BIN)/python tests/host/fuzz.py --seed $(SEED) --count 2000 --out .fuzz-host.json
	OMP_NUM_THREADS=1 $(BIN)/python tests/host/fuzz.py --objects --out .fuzz-objects.json

# ComfyUI's interrupt button, pressed at every moment of the shipped workflows' runs.
interrupts: comfyui
	$(BIN)/python tests/host/interrupts.py

# 1,000 runs of the shipped workflows on one ComfyUI: does its memory grow? Needs Linux.
many-runs: comfyui
	$(BIN)/python tests/host/many_runs.py

clean:
	rm -rf $(VENV) demo

$(READY): requirements-dev.txt
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 10) <= sys.version_info < (3, 14) else "MOVA needs Python 3.10 to 3.13, and this is " + sys.version.split()[0] + "; run: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
