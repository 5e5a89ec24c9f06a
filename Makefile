# Every target sets up what it needs by itself. `make VENV=FOLDER ...` uses another virtual environment than
# .venv, `make PYTHON=python3.12 ...` another Python to create it with.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.fovsfe-installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-slow test-tpu check audit bench decoder-report docs pictures wheel container lock force

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(INSTALLED)  ## draw photos of ten car models and train an ensemble on them
	$(BIN)/fovsfe demo

# One process more than cores, as some tests wait for a process, a page or a cluster rather than compute.
PROCESSES = $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')
test: check  ## the checks, then every test but the slow ones
	$(BIN)/python -m pytest --numprocesses=$(PROCESSES) --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

test-slow: $(INSTALLED)  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow --timeout=3600

# The environment of torch_xla, which has a torch of its own. Its CPU device stands in for a TPU; the flags let it
# compile in seconds rather than minutes.
TPU := .venv-tpu
test-tpu: $(TPU)/.fovsfe-installed  ## training on XLA, on its CPU device
	PYTHONPATH=src PJRT_DEVICE=CPU \
	XLA_FLAGS='--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true' \
	$(TPU)/bin/python -m pytest tests/training/test_xla.py --timeout=1800

$(TPU)/.fovsfe-installed: pyproject.toml
	$(PYTHON) -m venv --clear $(TPU)
	$(TPU)/bin/python -m pip install --editable '.[tpu]' pytest pytest-timeout
	@touch $@

check: $(INSTALLED)  ## style, types, and which package may import which
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

audit: $(INSTALLED)  ## known vulnerabilities of the packages, installed and of the image; needs PyPI itself, a mirror does not know
	$(BIN)/python -m pip freeze --exclude-editable | $(BIN)/pip-audit --strict --no-deps --disable-pip -r /dev/stdin
	$(BIN)/pip-audit --strict --require-hashes --disable-pip -r deploy/requirements.txt

# Tried from another folder than the checkout's, so that what is imported is what was installed.
wheel: $(INSTALLED)  ## the wheel and the source archive, into dist/; tried in a fresh environment, without PyTorch
	rm -rf dist/*.whl dist/*.tar.gz dist/venv
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz
	$(PYTHON) -m venv dist/venv
	dist/venv/bin/python -m pip install --quiet "$$(echo dist/*.whl)[serve]"
	cd dist && venv/bin/fovsfe --version
	cd dist && venv/bin/fovsfe recipes
	cd dist && venv/bin/python -c 'import fovsfe, fovsfe.service.server'
	cd dist && ! venv/bin/python -c 'import torch' 2>/dev/null

container: $(INSTALLED)  ## the image under load: with docker, podman or E2E=TOOL; of BUNDLE=FOLDER
	PYTHON='$(abspath $(BIN))/python' tests/container/run.sh $(BUNDLE)

# With the Python of the image, which versions may depend on. The hashes are those of a version's files for every
# platform, and nothing tells where they came from.
PIP_COMPILE := dist/lock/bin/pip-compile --quiet --upgrade --strip-extras --allow-unsafe --generate-hashes \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links
lock: export CUSTOM_COMPILE_COMMAND := make lock
lock:  ## the newest versions of what the image has, with their hashes, into deploy/; needs python3.11
	python3.11 -m venv --clear dist/lock
	dist/lock/bin/python -m pip install --quiet pip-tools
	$(PIP_COMPILE) --extra serve --output-file deploy/requirements.txt pyproject.toml
	$(PIP_COMPILE) --only-build-deps --build-deps-for wheel --output-file deploy/build-requirements.txt pyproject.toml

pictures: $(INSTALLED)  ## the README's pictures of the report and the page, from the demo's run
	$(BIN)/fovsfe demo --no-serve
	$(BIN)/python -m benchmarks.pictures demo

docs: $(INSTALLED)  ## the site of the documentation, into dist/site
	$(BIN)/python -m mkdocs build --strict

bench: $(INSTALLED)  ## the benchmarks that are quick
	$(BIN)/python -m benchmarks

decoder-report: $(INSTALLED)  ## what our decoder, Chromium and libvips make of the images in FOLDER=FOLDER
	$(BIN)/python -m benchmarks decoder --photos '$(FOLDER)'

# The file says which checkout is installed: one environment may serve several, and each must test its own code.
ifneq ($(shell cat $(INSTALLED) 2>/dev/null),$(CURDIR))
$(INSTALLED): force
endif

$(INSTALLED): pyproject.toml
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable '.[train,dev]'
	@printf '%s\n' '$(CURDIR)' > $@
