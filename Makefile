# `make demo` and `make test` are the two main commands. Each installs and builds what is missing.
# Needs Python >= 3.11, make and a package registry; Node comes as a wheel.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := .make
SERVE ?= 1
PORT ?= 8000
RUN ?= demo
WEB_SOURCES := $(shell find serve/web -type f -not -path '*/node_modules/*' -not -path '*/dist/*' 2>/dev/null)

.PHONY: demo test test-slow test-clients clients test-gpu bench-gpu gpu-wheels check format setup web web-deps screenshots clean help

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: setup web ## train a small model in minutes, score it, serve it with the chat page (SERVE=0: stop after the scores)
	if [ -f checkpoints/$(RUN)/train.yaml ]; then \
	  $(BIN)/resonance train resume=$(RUN); \
	else \
	  $(BIN)/resonance train experiment=demo run=$(RUN); \
	fi
	$(BIN)/resonance eval checkpoint=$(RUN) compare=[untrained]
ifneq ($(SERVE),0)
	$(BIN)/resonance serve checkpoint=$(RUN) port=$(PORT)
endif

test: setup web ## all tests except the slow ones, the page's tests included
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not timing" \
	  --numprocesses=2 --dist=loadfile tests
	$(BIN)/python -m pytest -m "timing and not slow"
	$(NPM) run test
	$(NPM) run size

test-slow: setup web ## the slow tests
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[lm-eval]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow and not timing" \
	  --numprocesses=2 --dist=loadfile --no-loadscope-reorder tests/serve/test_serve_kills.py tests/test_notebooks.py tests
	$(BIN)/python -m pytest -m "slow and timing"

test-clients: setup clients ## the clients that people use, against a real server
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/serve/test_clients.py

# In environments of their own: they do not get on with our pins, nor Instructor with the newest of OpenAI's. GuideLLM
# finds torch and other large packages in ours.
clients: $(STAMPS)/clients

$(STAMPS)/clients: tests/clients/requirements.txt tests/clients/instructor.txt tests/clients/guidellm.txt tests/clients/package-lock.json | $(STAMPS)/setup
	$(BIN)/python -m venv --clear build/clients/python
	build/clients/python/bin/python -m pip install --quiet --requirement tests/clients/requirements.txt
	$(BIN)/python -m venv --clear build/clients/instructor
	build/clients/instructor/bin/python -m pip install --quiet --requirement tests/clients/instructor.txt
	$(BIN)/python -m venv --clear build/clients/guidellm
	build/clients/guidellm/bin/python -m pip install --quiet --no-deps --requirement tests/clients/guidellm.txt
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$(build/clients/guidellm/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/shared.pth"
	@mkdir -p build/clients/node
	cp tests/clients/package.json tests/clients/package-lock.json build/clients/node
	PATH="$(abspath $(BIN)):$$PATH" npm --prefix build/clients/node ci --no-audit --no-fund --loglevel=error
	@touch $@

# On a machine with a GPU and no registry, GPU_PYTHON names a Python that has torch 2.11 or newer, numpy, safetensors,
# tiktoken, lightning and pytest; `make gpu-wheels`, run where there is a registry, collects the rest.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
GPU_ENV = PYTHONPATH="$(CURDIR):$(CURDIR)/build/gpu-packages" PYTHONUNBUFFERED=1

test-gpu: build/gpu-packages ## the tests that need one CUDA GPU; they skip without
	$(GPU_ENV) $(GPU_PYTHON) -m pytest -q -rs -s --confcutdir=tests/gpu tests/gpu

bench-gpu: build/gpu-packages ## the engine and training on one CUDA GPU, as a Markdown table
	$(GPU_ENV) $(GPU_PYTHON) -m resonance.bench.gpu bench-gpu.md

gpu-wheels: setup ## what test-gpu and bench-gpu need beside torch, into build/gpu-wheels
	$(BIN)/python tests/gpu/wheels.py build/gpu-wheels

build/gpu-packages: $(wildcard build/gpu-wheels/*.whl) pyproject.toml tests/gpu/commands.py
	@mkdir -p $@
	if [ -n "$(filter %.whl,$^)" ]; then $(GPU_PYTHON) -m pip install --quiet --no-index --no-deps --upgrade --target $@ $(filter %.whl,$^); fi
	$(GPU_PYTHON) tests/gpu/commands.py $@
	@touch $@

check: setup web-deps ## formatting, lint, types, import rules, and the page's checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_imports.py
	$(NPM) run check

format: setup ## format every file, and apply the linter's fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

setup: $(STAMPS)/setup ## the virtual environment with pinned dependencies

$(STAMPS)/setup: pyproject.toml constraints.txt
	@mkdir -p $(STAMPS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,web,web-test,notebook,duckduckgo-search,otel,feedback]'
	@touch $@

# npm in the page's folder, with Node from the wheel.
NPM := PATH="$(abspath $(BIN)):$$PATH" npm --prefix serve/web

web-deps: $(STAMPS)/web-deps

$(STAMPS)/web-deps: serve/web/package-lock.json | $(STAMPS)/setup
	$(NPM) ci --no-audit --no-fund --loglevel=error
	@touch $@

web: $(STAMPS)/web ## the chat page, built into serve/web/dist

$(STAMPS)/web: $(STAMPS)/web-deps $(WEB_SOURCES)
	$(NPM) run build
	@touch $@

screenshots: setup web ## take screenshots of the chat page and of training's report with the demo's checkpoint, into docs/screenshots
	rm -f $(STAMPS)/screenshots.sqlite*
	$(BIN)/resonance serve checkpoint=$(RUN) port=$(PORT) store.url=sqlite:///$(abspath $(STAMPS))/screenshots.sqlite & \
	server=$$!; trap "kill $$server" EXIT; \
	$(BIN)/python serve/web/scripts/screenshots.py http://127.0.0.1:$(PORT) docs/screenshots \
		train-report=checkpoints/$(RUN)/train.html

clean: ## remove everything that was built, except checkpoints
	rm -rf $(VENV) $(STAMPS) build serve/web/node_modules serve/web/dist .pytest_cache .ruff_cache .hypothesis *.egg-info
