# Every target sets itself up: `install` builds .venv from the pinned set in constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := $(CURDIR):$(CURDIR)/kernels

.PHONY: help install compare test wheel-test check paper paper-check benchmark gpu-check triton-matrix all-variants clean

help:  ## Show this list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 16

install: $(STAMP)  ## Build .venv from the pinned set.

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@

compare: $(STAMP)  ## Compare adaptive with fixed schedules on digits (the main job).
	$(BIN)/adaptive-lr compare $(ARGS)

test: $(STAMP)  ## Run the whole test suite.
	$(BIN)/python -m pytest -n 2 $(ARGS)

# The wheel in a fresh environment, its sources out of reach; only its dependencies come from .venv.
wheel-test: $(STAMP)  ## Build the wheel and run the suite against it, from another folder.
	rm -rf build dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist . > /dev/null
	$(PYTHON) -m venv build/wheel
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_paths()['purelib'])" \
		> "$$(build/wheel/bin/python -c "import sysconfig; print(sysconfig.get_paths()['purelib'])")/dependencies.pth"
	build/wheel/bin/python -m pip install --quiet --no-deps --no-index dist/*.whl
	mkdir -p build/suite && cp -r tests pyproject.toml build/suite
	cd build/suite && ../wheel/bin/python -m pytest -n 2 $(ARGS)

check: $(STAMP)  ## Lint, formatting and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

paper: $(STAMP)  ## Rebuild the paper from recorded results (the PDF too, where LaTeX is installed).
	$(BIN)/python -m experiments.paper $(ARGS)

paper-check: $(STAMP)  ## Fail if the paper's numbers, tables or figures differ from what the results make.
	$(BIN)/python -m experiments.paper --check

benchmark: $(STAMP)  ## Time what control costs (ARGS="--device cpu --quick", for example).
	PYTHONPATH=$(SOURCES) $(BIN)/python -m benchmarks $(ARGS)

# For a machine that has a GPU, torch, Triton, numpy, scipy and pytest, but no network: nothing is installed.
gpu-check:  ## Run the GPU tests and the GPU benchmark, with the machine's own python.
	@$(PYTHON) -c "import torch; raise SystemExit(not torch.cuda.is_available())" 2> /dev/null || \
		{ echo "gpu-check needs an NVIDIA GPU that torch can use from $(PYTHON); there is none here" >&2; exit 1; }
	@status=0; \
	PYTHONPATH=$(SOURCES) $(PYTHON) -m pytest -W default -p no:cacheprovider tests/gpu || status=1; \
	PYTHONPATH=$(SOURCES) $(PYTHON) -m benchmarks --device cuda || status=1; \
	exit $$status

# Each version is put before the installed one, under build/triton; VERSIONS="3.7.1" takes fewer.
triton-matrix: $(STAMP)  ## Compile and interpret the kernels under several versions of Triton.
	PYTHON=$(BIN)/python kernels/triton_matrix $(VERSIONS)

# About an hour on one core: 3096 of them. ARGS="--most 100 --seed 7" compiles a hundred others each time.
all-variants: $(STAMP)  ## Compile every variant of the kernels for compute capability 9.0, and record what came out.
	PYTHONPATH=$(SOURCES) $(BIN)/python -m adaptive_lr_kernels.all_variants \
		--report kernels/benchmarks/results/ahead_of_time.md $(ARGS)

clean:  ## Remove what the other targets made, the runs of studies included.
	rm -rf $(VENV) build dist *.egg-info runs
