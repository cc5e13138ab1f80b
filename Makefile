# Thin targets over Python and Sphinx. `make course` does everything once; `make test` proves it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
# Without bytecode every import of torch costs seconds; one thread makes runs repeatable and leaves a core free.
unexport PYTHONDONTWRITEBYTECODE
export OMP_NUM_THREADS ?= 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1

PYTHON ?= python3
BIN := .venv/bin
STAMP := _build/.stamp
SETS := $(notdir $(wildcard solutions/ps*))
SITE := _build/html/index.html
PAGES = $(shell find book -name .ipynb_checkpoints -prune -o -type f -print) _config.yml _toc.yml $(shell find ebm_lib -name '*.py') tools/ebm_site.py $(wildcard exercises/*/*.ipynb)
GRADING = $(shell find grading -name __pycache__ -prune -o -type f -print) $(wildcard ebm_lib/check/*.py)
PORT ?= 8000

.PHONY: help course site serve lab release bundle grade bench notebooks test test-all lint browser constraints clean

help:  ## say what there is to make
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

course: site release $(if $(filter ps01,$(SETS)),$(STAMP)/samples)  ## everything: environment, website, problem sets, graded samples
	@printf '\nThe course stands. Next:\n  make serve           read it at http://localhost:$(PORT)\n  make lab             work on the problem sets in JupyterLab\n$(if $(SETS),  make grade PS=ps01   grade what is in submitted/\n)'

# --- environment -------------------------------------------------------------------------------------------------
.venv/.stamp: requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 14), f"Python 3.11 to 3.13 is needed, this is {sys.version.split()[0]}: make PYTHON=python3.11"'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check -r requirements.txt -c constraints.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --disable-pip-version-check -e .
	$(BIN)/python -m compileall -q -j 0 .venv/lib > /dev/null || true  # test data of some packages is broken on purpose
	touch $@

constraints: .venv/.stamp  ## resolve requirements.txt anew into constraints.txt
	$(BIN)/pip install --quiet --upgrade -r requirements.txt
	{ echo '# The full resolved set, made by `make constraints`; no local version tags, so any build of torch fits.'; \
	  $(BIN)/pip freeze --exclude-editable --all | grep -vE '^(pip|wheel)==' | sed -E 's/\+[a-z0-9.]+$$//'; } > constraints.txt

# --- website -----------------------------------------------------------------------------------------------------
site: $(SITE)  ## build the website into _build/html

$(SITE): .venv/.stamp $(PAGES)
	$(BIN)/jupyter-book build . --all --warningiserror --nitpick --keep-going --quiet
	touch $@

serve: site  ## serve the website on localhost
	$(BIN)/python tools/serve.py --port $(PORT)

notebooks: .venv/.stamp  ## execute the notebooks that changed and clean what they store
	$(BIN)/python tools/notebooks.py

# --- problem sets ------------------------------------------------------------------------------------------------
release: $(SETS:%=$(STAMP)/release-%)  ## write the student versions into exercises/

$(STAMP)/release-%: .venv/.stamp solutions/%/*.ipynb nbgrader_config.py $(GRADING)
	$(BIN)/python -m grading release $*
	@mkdir -p $(@D) && touch $@

$(STAMP)/samples: .venv/.stamp $(wildcard exercises/ps01/* tests/grading/corpus/ps01/*/*.py) $(GRADING) | release
	$(BIN)/python -m grading samples ps01 --grade
	@mkdir -p $(@D) && touch $@

lab: release  ## open JupyterLab with nbgrader's extensions
	$(BIN)/python -m grading lab

grade: .venv/.stamp  ## grade submitted/<student>/PS/: make grade PS=ps01
	@test -n "$(PS)" || { echo 'which problem set? make grade PS=ps01' >&2; exit 2; }
	$(BIN)/python -m grading run $(PS)

bundle: site release  ## write the archive for students into _build/
	$(BIN)/python -m grading bundle

bench: .venv/.stamp  ## measure the grading engine against stock nbgrader
	$(BIN)/python benchmarks/grading.py

# --- tests -------------------------------------------------------------------------------------------------------
PYTEST := $(BIN)/python -m pytest
NBVAL := $(PYTEST) --nbval --nbval-current-env --nbval-cell-timeout 120 --dist loadfile book solutions

lint: .venv/.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

browser:
	@test -x /usr/bin/chromium || { [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core > /dev/null; } || \
	  echo '*** No Chromium here: the browser tests will be SKIPPED. Install it with: apt-get install chromium ***' >&2

test: lint site release browser  ## all tests that a change must pass
	$(PYTEST) -n 2 --dist loadfile --doctest-modules
	$(BIN)/python -m grading lint
	$(NBVAL) -n 2

test-all: test  ## also: other threads and instructions, the corpora by plain nbgrader, long fuzzing, load and kills
	FUZZ_FRAMES=1000000 LOAD=1000 KILLS=20 CORPORA=all $(PYTEST) -n 2 --dist loadfile --timeout 7200 tests/grading
	OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive $(NBVAL) -n 1
	ATEN_CPU_CAPABILITY=default $(NBVAL) -n 2

clean:  ## remove what can be made again (not submissions, grades or the environment)
	rm -rf _build
