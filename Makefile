# Every target installs what it needs into .venv first; nothing outside this folder is changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
BENCH_VENV := build/bench-venv
BENCH_BIN := $(BENCH_VENV)/bin
BENCH_INSTALLED := $(BENCH_VENV)/installed
BENCH_PIP := $(BENCH_BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test check chaos bench bench-detection detection-plots lock

help: ## list the targets
	@echo 'make demo [DEMO="--seed 7 --exit"] | test [TEST="-k broker"] | check | chaos [SEEDS=100] [LOG=kafka] [FIRST=1000] | bench | bench-detection | detection-plots | lock   (PYTHON=python3.11 or later)'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1	\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(INSTALLED) ## a fleet from devices to work orders, with its score; DEMO holds options
	$(BIN)/wardwatch demo $(DEMO)

test: $(INSTALLED) ## all tests, with a real broker, log and database; TEST holds options
	$(BIN)/python -m pytest $(TEST)

check: $(INSTALLED) ## lint, types, direction of imports
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

chaos: $(INSTALLED) ## crash everything, seed after seed: SEEDS=100 FIRST=1000 LOG=embedded|kafka STOP_S=30; CHAOS=--help
	PYTHONPATH=tests $(BIN)/python -m chaos $(if $(SEEDS),--seeds $(SEEDS)) $(if $(FIRST),--first $(FIRST)) \
		$(if $(LOG),--log $(LOG)) $(if $(STOP_S),--stop-s $(STOP_S)) $(CHAOS)

bench: $(INSTALLED) $(BENCH_INSTALLED) ## measure what the design promises, into build/bench.json; BENCH holds options (--quick)
	@set -e; for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file $(BENCH); done
	@$(BIN)/python benchmarks/report.py || test $$? -eq 1

bench-detection: $(INSTALLED) ## how well the detectors find things in public data; DETECTION is the folder of its scripts
	$(BIN)/python -m benchmarks.detection $(DETECTION) $(BENCH)

detection-plots: $(INSTALLED) $(BENCH_INSTALLED) ## the plots of docs/detection.md, some minutes; FLEET=1 learns across partitions anew
	@if test -n "$(FLEET)" -o ! -f build/fleet_learning.json; then $(BIN)/python -m benchmarks.fleet_learning; fi
	$(BIN)/python -m benchmarks.detection_traces
	$(BENCH_BIN)/python -m benchmarks.detection_plots

$(BENCH_INSTALLED): benchmarks/requirements.lock
	@echo 'installing what it is measured against into $(BENCH_VENV)'
	@test -x $(BENCH_BIN)/python || $(PYTHON) -m venv $(BENCH_VENV)
	@$(BENCH_PIP) install --require-hashes -r benchmarks/requirements.lock \
		|| echo 'not all peers can be installed here; those that are missing are reported as not measured' >&2
	@touch $@

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("wardwatch needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Say which to use: make PYTHON=python3.12 …")'
	@$(PYTHON) -c 'import ensurepip, venv' || { echo 'This Python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@echo 'installing into $(VENV)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

lock: ## resolve requirements.lock anew from pyproject.toml, and that of the benchmarks
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip --disable-pip-version-check --quiet install pip-tools
	build/lock/bin/pip-compile --quiet --extra dev --upgrade --generate-hashes --allow-unsafe --strip-extras \
		--no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--output-file requirements.lock pyproject.toml
	build/lock/bin/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras \
		--no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--output-file benchmarks/requirements.lock benchmarks/requirements.in
