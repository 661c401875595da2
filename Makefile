# SPDX-License-Identifier: Apache-2.0
# Every verb does its own set-up on a fresh Debian 12 or Ubuntu machine (root, git, make, python3).
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | sed -E 's/:.*## /\t/' | expand -t 12

.venv/.ready: requirements/dev.txt pyproject.toml tools/packages.sh
	@tools/packages.sh base
	@test -x .venv/bin/python || $(or $(wildcard /usr/bin/python3),python3) -m venv .venv
	@.venv/bin/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	@.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: setup
setup: .venv/.ready ## make .venv with the vmwarden command

.PHONY: lint
lint: setup ## ruff, mypy, floors
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check --quiet .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo

.PHONY: lock
lock: ## lock dependencies with hashes again
	@python3 -m venv .cache/lock && .cache/lock/bin/pip install --quiet pip-tools
	@for set in "vm.txt pyproject.toml" "dev.txt --allow-unsafe --extra owner pyproject.toml requirements/dev.in"; do \
	  .cache/lock/bin/pip-compile --quiet --generate-hashes --strip-extras --no-emit-index-url \
	    --no-emit-trusted-host --no-emit-find-links --output-file requirements/$$set || exit 1; done

# -- running ----------------------------------------------------------------------------------------

.PHONY: demo
demo: setup ## the main job, for real: a VM that opens in the right place and closes itself in a wrong one
	@tools/packages.sh test guest
	@.venv/bin/python -m demo

.PHONY: run
run: setup ## guard the machine it is on, in observe mode, until Ctrl-C (SECONDS_TO_RUN=60 ends it)
	@tools/packages.sh test
	@tools/observe.sh

.PHONY: install
install: setup ## install on this machine (DESTDIR=… for an image)
	@tools/install.sh $(if $(DESTDIR),--destdir $(DESTDIR))

.PHONY: uninstall
uninstall: ## undo install (DESTDIR=… for an image); refuses while armed
	@tools/uninstall.sh $(if $(DESTDIR),--destdir $(DESTDIR))

# -- proving ----------------------------------------------------------------------------------------

PYTEST := .venv/bin/python -m pytest -q --timeout 600

.PHONY: test
test: lint ## everything: lint, types, floors, unit, property, contract, golden, integration (root), vm
	@tools/packages.sh test guest
	@tools/test.sh $(PYTEST) --durations 15

.PHONY: quick
quick: setup ## what needs neither root nor guests
	@$(PYTEST) tests/unit tests/property tests/golden

.PHONY: soak
soak: setup ## the long forms of the tests; writes docs/soak.md
	@tools/packages.sh test guest
	@VMWARDEN_SOAK_PAGE=docs/soak.md $(PYTEST) -m soak --timeout 7200

.PHONY: bench
bench: setup ## benchmarks; writes docs/benchmarks.md
	@tools/packages.sh test guest
	@.venv/bin/python -m benchmarks

.PHONY: clean
clean: ## remove what make made in the checkout (the guest image is cached elsewhere)
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build
