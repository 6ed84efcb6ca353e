# Everything one types here. A first target on a new machine sets it up (tools/setup).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
NAME := virtual-kubelet-vast
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REGISTRY ?=
TAG ?= $(VERSION)
IMAGE = $(if $(REGISTRY),$(REGISTRY)/)$(NAME):$(TAG)
DOCKER ?= docker
KUBECTL ?= kubectl
WAIT ?= 180s
SYSTEM = $(KUBECTL) -n kube-system
ARGS ?=
DOOR ?=
N ?=
ONLY ?= $(patsubst benchmarks/%.py,%,$(wildcard $(addprefix benchmarks/,$(addsuffix .py,burst offers watch provision proxy verbs offload ssh))))
CODE := src tests benchmarks tools
FAST := tests/unit tests/contract
REAL := $(wildcard tests/integration tests/e2e)

.PHONY: help
help: ## Show this
	@echo "Bareboat $(VERSION): make TARGET"
	@awk -F ':.*## ' '/^## /{printf "\n%s\n", substr($$0, 4)} /^[a-z-]+:.*## /{printf "  %-13s %s\n", $$1, $$2}' \
		$(firstword $(MAKEFILE_LIST))

.venv/.ready: pyproject.toml uv.lock tools/setup
	@tools/setup

## Try it
.PHONY: demo
demo: .venv/.ready ## A GPU pod's whole life (DOOR=proxy or provision, ARGS=--keep)
	@$(BIN)/bareboat demo $(DOOR) $(ARGS)

## Work on it
.PHONY: test check bench kubectl-table fmt docs clean
test: .venv/.ready ## All tests, the real control plane's too (CHECKED=1: only those)
	@failed=0; \
	$(if $(CHECKED),,$(BIN)/pytest -q -n 2 $(FAST) || failed=1;) \
	$(BIN)/pytest -q $(REAL) || failed=1; \
	exit $$failed

check: _lint _layers _types _fast ## Format, lint, types, layers, unit and contract tests

.PHONY: _lint _layers _types _fast
_lint: .venv/.ready
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

_layers: .venv/.ready
	$(BIN)/lint-imports

_types: .venv/.ready
	$(BIN)/mypy

_fast: .venv/.ready
	$(BIN)/pytest -q -n 2 $(FAST)

bench: .venv/.ready ## Measure (ONLY=burst, offers, watch, provision, proxy or verbs)
	@for each in $(ONLY); do $(BIN)/python -m benchmarks.$$each $(if $(N),--n $(N)) $(ARGS); done

kubectl-table: .venv/.ready ## What comes of 40 command lines (ARGS='cp exec')
	@$(BIN)/python tests/e2e/kubectl/table.py $(ARGS)

fmt: .venv/.ready ## Put the code into its form
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

docs: .venv/.ready ## Write docs/configuration.md and docs/pod-fields.md anew
	$(BIN)/python tools/configuration.py docs/configuration.md
	$(BIN)/python tools/pod_fields.py docs/pod-fields.md

clean: ## Remove what was made here, not the control plane's programs
	rm -rf .venv .uv dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

## Run it in a cluster
.PHONY: build quick-test docker push deploy dev-logs dev-status dev-debug
build: .venv/.ready ## Build the Python package into dist/
	@if uv --version >/dev/null 2>&1; then uv build -q; else .uv/bin/uv build -q; fi
	@ls -1 dist

quick-test: .venv/.ready ## Unit tests alone, until the first that fails
	$(BIN)/pytest -q -n 2 -x tests/unit

docker: ## Build the image (REGISTRY=you TAG=0.1.0)
	$(DOCKER) build -f deploy/Dockerfile -t $(IMAGE) .

push: ## Push the image
	$(DOCKER) push $(IMAGE)

deploy: ## Apply deploy/ with that image; VAST_API_KEY, if set, goes in
	@applied=$$(awk 'FNR == 1 {print "---"} {print}' deploy/[0-9]*.yaml | sed 's#image: $(NAME):.*#image: $(IMAGE)#' \
		| $(KUBECTL) apply -f -); \
	echo "$$applied"; \
	if [ -n "$${VAST_API_KEY:-}" ]; then printf '{"stringData": {"api-key": "%s"}}' "$$VAST_API_KEY" \
		| $(SYSTEM) patch secret vast-credentials --patch-file /dev/stdin; fi; \
	if grep -q '^deployment.*unchanged' <<<"$$applied"; then $(SYSTEM) rollout restart deployment/$(NAME); fi
	@[ "$(WAIT)" = no ] || $(SYSTEM) rollout status deployment/$(NAME) --timeout=$(WAIT)

dev-logs: ## Follow the node's log
	$(SYSTEM) logs -l app=$(NAME) --tail=100 -f

dev-status: ## The node, its own pod, and the pods on rented machines
	@$(SYSTEM) get deployment,pods -l app=$(NAME) -o wide
	@$(KUBECTL) get nodes -l provider=vast.ai -o wide
	@for node in $$($(KUBECTL) get nodes -l provider=vast.ai -o name); do \
		$(KUBECTL) get pods -A -o wide --field-selector spec.nodeName=$${node#node/}; done

dev-debug: ## What support would ask for: events, selection, rights
	@$(SYSTEM) describe pods -l app=$(NAME)
	@$(KUBECTL) describe nodes -l provider=vast.ai
	@$(SYSTEM) get configmap vast-provider-config vast-selection-weights -o yaml
	@$(SYSTEM) describe secret vast-credentials
	@$(KUBECTL) describe clusterrolebinding $(NAME)
	@$(KUBECTL) auth can-i --list --as=system:serviceaccount:kube-system:$(NAME)
	@$(SYSTEM) logs -l app=$(NAME) --tail=50 --prefix || true
