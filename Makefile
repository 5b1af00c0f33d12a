# What is done often, each under its short name. `make` alone lists them.
# All Python lives in .venv, made here; nothing needs root except installing RabbitMQ where it is missing.

SHELL := /bin/sh
PYTHONS := python3.13 python3.12 python3.11 python3
BIN := .venv/bin
CODE := pipeline tests configs benchmarks
APT := apt-get install -y --no-install-recommends rabbitmq-server

.DEFAULT_GOAL := help
.PHONY: help install hello test lint format test-4.3 test-cluster soak bench bench-embedded bench-handling bench-instructions bench-start-up build clean rabbitmq

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

$(BIN)/python:
	@for python in $(PYTHONS); do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
	    "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || { bare="$$bare $$python"; continue; }; \
	    exec "$$python" -m venv --clear .venv; \
	done; \
	if [ -n "$$bare" ]; then \
	    echo "make: no venv module in$$bare; try: apt-get install python3-venv" >&2; \
	else \
	    echo "make: no Python 3.11 or newer found; looked for $(PYTHONS)" >&2; \
	fi; \
	exit 1

.venv/.installed: pyproject.toml | $(BIN)/python
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

.venv/.installed-dev: pyproject.toml | $(BIN)/python
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch .venv/.installed $@

install: .venv/.installed-dev ## make .venv with piperun and the tools for working on it

hello: .venv/.installed ## run configs/hello.yaml; needs no RabbitMQ
	@$(BIN)/piperun configs/hello.yaml

test: .venv/.installed-dev rabbitmq lint ## all checks and tests
	@$(BIN)/python -m tests.halves
	$(BIN)/piperun validate configs/*.yaml

lint: .venv/.installed-dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict $(CODE)

format: .venv/.installed-dev ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-4.3: .venv/.installed-dev ## the tests again, with RabbitMQ 4.3 in the place of the installed one
	@tests/rabbitmq_4_3.sh $(BIN)/pytest

test-cluster: .venv/.installed-dev rabbitmq ## kill nodes of a cluster of three under a running pipeline
	@$(BIN)/pytest -s --durations=0 tests/cluster/by_hand.py $(ARGS)

soak: .venv/.installed-dev rabbitmq ## random faults for 20 minutes; SECONDS=60, ARGS="--seed 7"
	@$(BIN)/python -m tests.soak --seconds $(or $(SECONDS),1200) $(ARGS)

bench: .venv/.installed-dev rabbitmq ## measure speed on RabbitMQ, beside other clients; ARGS="--help" says more
	@$(BIN)/python -m benchmarks.speed $(ARGS)

bench-embedded: .venv/.installed-dev ## measure the embedded broker
	@$(BIN)/python -m benchmarks.embedded_broker

bench-handling: .venv/.installed-dev ## measure what handling one message costs
	@$(BIN)/python -m benchmarks.handling

bench-instructions: .venv/.installed-dev ## count the instructions that a message takes; needs valgrind
	@$(BIN)/python -m benchmarks.instructions $(ARGS)

bench-start-up: .venv/.installed-dev ## measure how long commands take to start
	@$(BIN)/python -m benchmarks.start_up

build: .venv/.installed-dev ## the wheel, in dist/
	@$(BIN)/python -m pip wheel -q --disable-pip-version-check --no-deps -w dist .

clean: ## remove .venv and everything that was made
	rm -rf .venv .bench dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# The tests start a RabbitMQ of their own from the installed programs. Some packages start a service when they are
# installed; it is neither needed nor touched.
rabbitmq: .venv/.installed-dev
	@$(BIN)/python -m tests.rabbitmq_installation >/dev/null && exit 0; \
	if ! command -v apt-get >/dev/null; then root=missing; \
	elif [ "$$(id -u)" = 0 ]; then root=; \
	elif sudo -n true 2>/dev/null; then root="sudo -n"; \
	else root=missing; fi; \
	if [ "$$root" != missing ]; then \
	    echo "installing rabbitmq-server"; \
	    $$root apt-get update -q && $$root env DEBIAN_FRONTEND=noninteractive $(APT); \
	fi; \
	$(BIN)/python -m tests.rabbitmq_installation >/dev/null && exit 0; \
	$(BIN)/python -m tests.rabbitmq_installation; \
	[ -z "$$CI" ]
