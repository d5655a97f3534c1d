# Every target sets the machine up first; that costs nothing when nothing is to do.
PY := .venv/bin/python
PYTEST := $(PY) -m pytest

.PHONY: help setup demo test test-node image test-fast lint format types bench wheel clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install packages, .venv and tools (Debian 12, root)
	@scripts/setup

demo: setup ## two nodes, pods, policies, the matrix and the drops; cleans up
	@.venv/bin/axoneme lab demo

test: setup ## every test; what is skipped is listed with the missing capability
	@scripts/build-kubernetes >/dev/null || echo "tests with a real Kubernetes are skipped"
	$(PYTEST) -n 2 --dist loadscope -q -m "not serial and not lab"
	$(PYTEST) -n 2 --dist loadfile -q -m lab
	$(PYTEST) -q -m serial

test-node: setup ## two nodes with real kubelets: image, chart, pods, upgrade (once 15 min of building)
	@scripts/build-kubernetes node >/dev/null || { echo "Go is needed to build a kubelet"; exit 1; }
	$(PYTEST) -q -s -m "" tests/node

test-fast: setup ## tests that need no kernel
	$(PYTEST) -n 2 -q -m "not serial and not lab and not root and not slow"

lint: setup ## ruff, import contracts
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports

format: setup ## rewrite in house style
	.venv/bin/ruff check --fix -q . ; .venv/bin/ruff format .

types: setup ## mypy, strict
	MYPYPATH=build/types .venv/bin/mypy -p axoneme.hooks -p axoneme.core -p axoneme.plugins

bench: setup ## ratios against plain kernel networking, in one run
	$(PY) -m tests.perf $(ARGS)

image: setup ## the container image, by buildah, as dist/axoneme.tar
	@mkdir -p dist
	@deploy/image/build --output dist/axoneme.tar

wheel: setup ## build sdist and wheel
	$(PY) -m build --outdir dist .

clean: ## remove the lab and build products
	-.venv/bin/axoneme lab down
	rm -rf build/types dist *.egg-info
