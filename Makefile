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
