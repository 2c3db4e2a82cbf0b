# Gantry. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

NODES ?= 3
REPLICAS ?= 100
PURGE ?=
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
# Compiled code is kept between the processes of the tests: each file runs in its own, and would strip and compile the same modules again.
AVA := NODE_COMPILE_CACHE=$(CURDIR)/node_modules/.cache/compiled ava --concurrency=2
GENERATED := proto/gen base/kube/types.gen.ts control-plane/api/schema/schema.gen.json control-plane/api/schema/docs.gen.json

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: up
up: dependencies build ## start a cluster here and 100 containers on it (NODES=3 REPLICAS=100)
	@cli/gantry up --nodes $(NODES) --replicas $(REPLICAS)

.PHONY: down
down: node_modules ## stop it and remove everything that it made (PURGE=1: the data too)
	@cli/gantry down $(if $(PURGE),--purge)

.PHONY: test
test: test-dependencies check unit integration root ## types, lint, generated code, unit, contract, integration and root tests

.PHONY: check
check: types lint generated ## types, lint, generated code fresh

.PHONY: types
types: node_modules
	tsc -p .

.PHONY: lint
lint: node_modules
	oxlint --type-aware .
	cd proto && buf lint

.PHONY: generated
generated: node_modules ## is the generated code fresh?
	@before=$$(cat $$(find $(GENERATED) -type f | sort) | sha256sum); $(MAKE) --no-print-directory gen; \
	after=$$(cat $$(find $(GENERATED) -type f | sort) | sha256sum); \
	[ "$$before" = "$$after" ] || { echo "generated code was stale: commit what 'make gen' wrote" >&2; exit 1; }

.PHONY: gen
gen: node_modules ## generate code from proto/ and from the Kubernetes types
	cd proto && buf generate
	node control-plane/api/schema/generate.ts

.PHONY: unit
unit: node_modules ## fast tests beside the code
	$(AVA) '{base,cli,control-plane,node-agent,bench}/**/*.test.ts' --worker-threads

.PHONY: integration
integration: test-dependencies build ## real etcd, gRPC, registry and clients on loopback
	$(AVA) 'test/integration/**/*.test.ts'

.PHONY: root
root: test-dependencies build ## namespaces, mounts, cgroups, whole clusters; needs root
	$(AVA) 'test/{root,e2e,chaos}/**/*.test.ts'

.PHONY: bench
bench: dependencies build ## measure; see bench/README.md
	node bench/main.ts

.PHONY: build
build: node_modules ## compile to dist/
	@if [ ! -f dist/cli/main.js ] || [ -n "$$(find base proto/gen control-plane node-agent cli tsconfig*.json package.json -newer dist/cli/main.js -type f -print -quit)" ]; then \
	  rm -rf dist && tsc -p tsconfig.build.json && cp control-plane/api/schema/*.gen.json dist/control-plane/api/schema/ && touch dist/cli/main.js; fi

.PHONY: dependencies
dependencies: node_modules
	@node cli/cluster/install.ts

.PHONY: test-dependencies
test-dependencies: node_modules
	@node cli/cluster/install.ts test

node_modules: package-lock.json
	@echo "installing npm packages"
	@npm ci --no-audit --no-fund --loglevel=error
	@touch node_modules

.PHONY: clean
clean: ## remove what was built (not the cluster: make down PURGE=1)
	rm -rf dist node_modules
