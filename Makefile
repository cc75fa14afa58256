# `make demo` and `make test` are all that a fresh machine needs; both make the environment themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo docs docs-test test test-device test-fast test-lowest test-newest coverage fuzz lint format bench release-check clean

demo: $(VENV)/.convert
	$(BIN)/edge-tracker demo

# Files of tests side by side, in as many processes; JOBS=0 runs all in one. PyTorch in one thread
# each: threads that wait for each other by turning cost a sixth of the time.
JOBS ?= 2
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

# What converts and trains nothing.
test-fast: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow"

# Each command and program of README and docs: run, taken apart, or listed with why not.
docs-test: $(VENV)/.dev
	$(BIN)/python -m pytest tests/test_docs.py tests/examples

# What runs without PyTorch, in an environment without it. BUNDLE is one converted elsewhere, for the
# tests that need a network; DEVICE_EXTRAS is what the device tracks with.
DEVICE_EXTRAS ?= openvino,onnxruntime,opencv-headless
test-device:
	$(MAKE) VENV=.venv-device .venv-device/bin/python
	.venv-device/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[test,$(DEVICE_EXTRAS)]'
	.venv-device/bin/python -m pytest tests/edge_tracker tests/examples $(if $(BUNDLE),--bundle $(BUNDLE))

# All of them on the oldest or newest versions that pyproject.toml allows, made anew each time. uv
# resolves: pip has no way to ask for the oldest.
test-lowest: RESOLUTION := lowest-direct
test-newest: RESOLUTION := highest
test-lowest test-newest: test-%:
	rm -rf .venv-$*
	$(MAKE) VENV=.venv-$* .venv-$*/bin/python
	.venv-$*/bin/python -m pip install --quiet uv
	.venv-$*/bin/uv pip install --quiet --python .venv-$*/bin/python --resolution $(RESOLUTION) \
	  --only-binary numpy --editable '.[dev]'
	.venv-$*/bin/uv pip freeze --python .venv-$*/bin/python
	OMP_NUM_THREADS=1 .venv-$*/bin/python -m pytest -n $(JOBS) --dist loadfile

coverage: $(VENV)/.dev
	$(BIN)/python -m coverage run -m pytest tests/edge_tracker tests/mixformerv2 tests/converters tests/calibration
	$(BIN)/python -m coverage report

# Damaged files for every reader; RUNS of each.
RUNS ?= 20000
fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.fuzz --runs $(RUNS)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The site: build/site/index.html. A broken link or a page that no menu names is an error.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(VENV)/.convert
	$(BIN)/python -m benchmarks.cached_search

# Wheel, source distribution and bill of materials in dist/, of the last commit; uploads nothing.
release-check:
	$(MAKE) VENV=.venv-release .venv-release/.release
	.ci/release .venv-release/bin

# An environment per extra: the file marks that it is installed in the versions of constraints.txt.
# Python compiles what is imported, when it is; pip would compile all of PyTorch and SymPy, 16 seconds.
$(VENV)/.%: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing edge-tracker[$*] and what it needs into $(VENV); the first time takes minutes.'
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt \
	  --editable '.[$*,opencv-headless]'
	touch $@

# Debian's Python may come without ensurepip; virtualenv brings its own pip.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV) \
	  && $(PYTHON) -m pip install --quiet --target build/virtualenv virtualenv \
	  && PYTHONPATH=build/virtualenv $(PYTHON) -m virtualenv --quiet $(VENV); }

clean:
	rm -rf $(VENV) build dist demo_output *.egg-info
