# Every target does all its own set-up. Python 3.11 or newer is all that must be there.
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
VLLM_VENV := $(or $(MX_VLLM_VENV),.venv-vllm)
INTEROP_VENV := $(or $(MX_INTEROP_VENV),.venv-interop)
ARGS ?=

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# What a user needs: the server, the CLI and NIXL.
$(VENV)/.installed: pyproject.toml hatch_build.py scripts/setup.sh
	scripts/setup.sh $(VENV) nixl
	@touch $@

# What a developer needs beside it.
$(VENV)/.developer: $(VENV)/.installed
	scripts/setup.sh $(VENV) nixl,dev
	@touch $@

demo: $(VENV)/.installed ## a server and three replicas on this machine: one loads, two pull (ARGS="--size 2GiB")
	$(BIN)/mx demo $(ARGS)

check: $(VENV)/.developer ## format, lint, types, import contracts, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python protos/generate.py --check

# The published package, for the interop tests.
$(INTEROP_VENV)/.installed: pyproject.toml scripts/setup-interop.sh
	scripts/setup-interop.sh

test: check $(INTEROP_VENV)/.installed ## everything that needs no vLLM
	MX_INTEROP_PYTHON=$(abspath $(INTEROP_VENV))/bin/python $(BIN)/python -m pytest -m "not vllm and not images" $(ARGS)

test-images: $(VENV)/.developer ## build the images and run the chart in them (root, buildah, mmdebstrap; about 2 minutes)
	$(BIN)/python -m pytest -m images tests/charts $(ARGS)

test-vllm: ## the tests with a real vLLM, set up in .venv-vllm (about 6 minutes on two cores)
	scripts/setup-vllm.sh
	$(VLLM_VENV)/bin/python -m pytest tests/e2e $(ARGS)

demo-vllm: ## three vLLM replicas: one loads from disk, two take its weights (ARGS="--model DIR")
	scripts/setup-vllm.sh
	$(VLLM_VENV)/bin/python -m mx.engines.vllm.demo $(ARGS)

protos: $(VENV)/.developer ## write mx/wire/v1 from protos/
	$(BIN)/python protos/generate.py

format: $(VENV)/.developer ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed $(INTEROP_VENV)/.installed ## the benchmarks behind the figures in docs
	$(BIN)/python benchmarks/pull.py
	$(BIN)/python benchmarks/published_pull.py --python $(INTEROP_VENV)/bin/python
	$(BIN)/python benchmarks/control_plane.py
	$(BIN)/python benchmarks/serve_files.py
	$(BIN)/python benchmarks/object_stores.py
	$(BIN)/python benchmarks/stores.py
	$(BIN)/python benchmarks/watch.py
	$(BIN)/python benchmarks/tui.py

clean: ## remove what the targets made
	rm -rf $(VENV) .venv-vllm .venv-interop .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.PHONY: help demo check test test-images test-vllm demo-vllm protos format bench clean
