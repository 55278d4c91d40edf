# All commands run in .venv, which is created with PYTHON. If PYTHON has another
# version than .venv, .venv is created again.
PYTHON ?= python3

VERSION := $(shell $(PYTHON) -c \
  'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
# The file of the versions to install. CONSTRAINED is empty if there is no such
# file.
CONSTRAINTS := constraints/py$(subst .,,$(VERSION)).txt
CONSTRAINED := $(wildcard $(CONSTRAINTS))
# An empty file. If it is newer than its prerequisites, .venv is up to date.
INSTALLED := .venv/installed-$(VERSION)

.DEFAULT_GOAL := help
.PHONY: help install upgrade quickstart serve test test-runs test-long mutants reliability \
  results docs figures notebook screenshots dist lint format clean

help:  ## List the commands.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14
	@echo 'PYTHON=python3.12 chooses the interpreter (now $(PYTHON)).'

install: $(INSTALLED)  ## Create .venv and install the project into it.

$(INSTALLED): pyproject.toml $(CONSTRAINED)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo '$(PYTHON) is not Python 3.11 or newer: install one and' \
	  'name it, as in `make $(or $(MAKECMDGOALS),install)' \
	  'PYTHON=python3.12`' >&2; exit 2; }
	@.venv/bin/python -m pip --version 2>/dev/null \
	  | grep -q '(python $(VERSION))' || $(PYTHON) -m venv --clear .venv
	@[ -n '$(CONSTRAINED)' ] || echo 'there is no $(CONSTRAINTS):' \
	  'the newest versions are installed'
	.venv/bin/python -m pip install --quiet $(addprefix -c ,$(CONSTRAINED)) \
	  --editable '.[dev]'
	@touch $@

upgrade:  ## Write the newest package versions for PYTHON to constraints/.
	new=$$(mktemp -d) && trap 'rm -rf "$$new"' EXIT \
	  && $(PYTHON) -m venv "$$new" \
	  && "$$new/bin/python" -m pip install --quiet '.[dev]' \
	  && "$$new/bin/python" -m pip freeze --exclude tiger_jax >"$$new/versions" \
	  && mkdir -p constraints && cp "$$new/versions" $(CONSTRAINTS)

# On Linux, memory in huge pages makes a training step faster on a CPU.
FASTER := GLIBC_TUNABLES=glibc.malloc.hugetlb=1

quickstart: install  ## Train on the built-in shop and see recommendations.
	$(FASTER) .venv/bin/python -m tiger_jax.main \
	  --config=configs/quickstart.py --workdir=runs/quickstart

serve: install  ## Serve the built-in shop at http://127.0.0.1:8000 (trains it first).
	@[ -f runs/quickstart/results.json ] || $(MAKE) quickstart
	.venv/bin/python -m tiger_jax.main --mode=serve --workdir=runs/quickstart \
	  --serve_demo

# Enables the optimizations of XLA, which tests/conftest.py disables.
AS_USERS := JAX_DISABLE_MOST_OPTIMIZATIONS=0 XLA_FLAGS=
# --no-loadscope-reorder runs the files in the order of their folders. In this
# order, the slowest files are in the middle, so no process runs one at the end.
PYTEST := .venv/bin/python -m pytest -q -n 2 --dist loadfile \
  --no-loadscope-reorder

test: install  ## Run the tests of single parts, in eight minutes.
	$(PYTEST) -m 'not slow and not as_users and not whole_runs'

test-runs: install  ## Run the tests that start the program, whole stages or a browser.
	$(PYTEST) -m 'whole_runs and not slow and not as_users'
	$(AS_USERS) $(PYTEST) -m 'as_users and not slow'

test-long: install  ## Run the slow tests.
	$(AS_USERS) $(PYTEST) -m slow

mutants: install  ## Check that a test fails if the code is broken. ONLY=3,7 runs mutants 3 and 7.
	.venv/bin/python -m tests.mutants.run --only='$(ONLY)'

reliability: install  ## Kill, stop and damage hundreds of runs (half an hour).
	$(AS_USERS) TIGER_JAX_RELIABILITY=full $(PYTEST) tests/reliability -x \
	  -o tmp_path_retention_policy=failed

results: install  ## Make RESULTS.md from the files of results/.
	.venv/bin/python -m tiger_jax.report.tables results RESULTS.md

SITE := docs/_build

docs: install  ## Build the documentation: docs/_build/index.html.
	rm -rf $(SITE)
	JAX_PLATFORMS=cpu .venv/bin/python -m sphinx -W -n -q --keep-going \
	  -b html docs $(SITE)
	.venv/bin/python -m docs.check_html $(SITE)
	@echo 'wrote $(SITE)/index.html'

figures: install  ## Draw the figures of the documentation.
	.venv/bin/python -m docs.figures

notebook: install  ## Run the Colab notebook for the documentation.
	.venv/bin/python -m docs.notebook

screenshots: docs quickstart  ## Take the screenshots of the documentation.
	.venv/bin/python -m docs.screenshots

dist: install  ## Build the sdist and the wheel in dist/, and check them.
	rm -rf dist
	.venv/bin/python -m build --outdir dist
	.venv/bin/python -m twine check --strict dist/*

lint: install  ## Check style, format and types, changing nothing.
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyrefly check --python-interpreter-path=.venv/bin/python

format: install  ## Format the code and fix what can be fixed.
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

clean:  ## Remove the built documentation and the caches of tests and linters.
	rm -rf $(SITE) docs/jupyter_execute .pytest_cache .ruff_cache .hypothesis
