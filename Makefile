# Everything runs in a virtual environment of its own, .venv, made when first needed.
PYTHON ?= python3
# Which of the samples to run: flask or django.
SAMPLE ?= flask
$(if $(filter flask django,$(SAMPLE)),,$(error SAMPLE is flask or django, not $(SAMPLE)))
BIN := .venv/bin
# The tests start Python hundreds of times: what they import is compiled only once, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=
# Most tests wait for a server or a command, so there are two more runners than processors. A file's tests have the same
# runner, since they share what they have started. tests/conftest.py sets the order of the files.
SPREAD = -n $(shell $(BIN)/python -c 'import os; print((os.cpu_count() or 1) + 2)') --dist loadfile --no-loadscope-reorder

# Which parts of the benchmark to run, by default all; and then perhaps --out, with the file to write the page to.
PARTS ?=

# Every tool and library that the tests and the checks need, each with its hash: one lock for all Pythons and systems.
LOCK := .ci/requirements.txt

# How many seconds to look for inputs that fail, for each target; and which targets, by default all.
SECONDS ?= 60
TARGETS ?=
# Which modules to make mutants of, by default all of the core.
MODULE ?=
# How often to measure each class of inputs.
SAMPLES ?= 200000

.PHONY: help demo run test matrix lint audit docs dist notes lock bench fuzz mutants timing clean

help:
	@echo "make demo   see it work: a guarded API, real commands and requests (SAMPLE=django: on Django)"
	@echo "make run    keep the sample service running, with a token and lines to try (SAMPLE=django: on Django)"
	@echo "make test   run every test"
	@echo "make matrix run what depends on them on the oldest and newest Python and Django"
	@echo "make lint   style, types, import contracts and unsafe calls"
	@echo "make audit  ask whether anything in the lock has a known vulnerability"
	@echo "make docs   build the documentation into docs/_build"
	@echo "make dist   build what is committed into dist, twice the same, and try it out"
	@echo "make notes  print the notes of the newest release, from CHANGELOG.md"
	@echo "make lock   take the newest versions of all that the tests and the checks need"
	@echo "make bench  measure what a guarded request costs, into bench/RESULTS.md (PARTS=requests: some of it)"
	@echo "make fuzz   look for inputs that fail, into tests/fuzz/corpus (SECONDS=600: longer, TARGETS=text: one)"
	@echo "make mutants  change the core line by line and see whether a test notices (MODULE=http: one module)"
	@echo "make timing   see whether the time of a refusal tells anything (SAMPLES=50000: sooner)"

demo: .venv/sample-$(SAMPLE)
	@$(BIN)/python -m sample_flask.demo $(SAMPLE)

run: .venv/sample-$(SAMPLE)
	@$(BIN)/python -m sample_flask.run $(SAMPLE)

test: .venv/test
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest $(SPREAD)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

matrix: .venv/test
	$(BIN)/python -m nox -- $(SPREAD)

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive tokenguard --configfile pyproject.toml --severity-level medium --confidence-level medium

audit: .venv/test
	@$(BIN)/python .ci/audit.py $(LOCK)

docs: .venv/test
	$(BIN)/python -m sphinx -W --keep-going -n -q -b html docs docs/_build

dist: .venv/test
	@$(BIN)/python .ci/dist.py

notes:
	@awk '/^## / { section++ } section == 1 && !/^## /' CHANGELOG.md

lock: .venv/test
	$(BIN)/uv pip compile --quiet --no-config --universal --generate-hashes --no-annotate --upgrade --python-version 3.11 \
		--extra test --extra docs --extra release --custom-compile-command "make lock" --output-file $(LOCK) setup.cfg

# This also needs the program wrk, from Debian's package of that name.
bench: .venv/bench
	$(BIN)/python -m bench $(PARTS)

fuzz: .venv/hardening
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(TARGETS)

mutants: .venv/hardening
	PATH="$(CURDIR)/$(BIN):$$PATH" nice $(BIN)/python -m tests.mutants $(MODULE)

timing: .venv/test
	$(BIN)/python -m tests.timing --samples $(SAMPLES)

clean:
	rm -rf .venv build dist mutants docs/_build *.egg-info .coverage*

.venv/sample-flask .venv/sample-django: .venv/sample-%: setup.cfg pyproject.toml | .venv
	@echo "Installing tokenguard and what the $* sample needs into .venv, which takes a minute, once."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*,jwt]" "gunicorn >= 23"
	@touch $@

# uv, which is in the lock as well, installs all of it in a fraction of pip's time. Where only pip is configured with a
# package index, pip does it.
.venv/test: setup.cfg pyproject.toml $(LOCK) | .venv
	sed -n '/^uv==/,/[^\\]$$/p' $(LOCK) > .venv/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement .venv/uv.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirement $(LOCK) || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes --requirement $(LOCK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv/hardening: .venv/test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test,hardening]"
	@touch $@

.venv/bench: setup.cfg pyproject.toml | .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[bench]"
	@touch $@

.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
