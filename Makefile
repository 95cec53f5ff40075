# Two commands carry a fresh machine: `make demo` and `make test`.
# They need python3, make and a package index; everything lands in .venv.
SHELL := bash
PY := .venv/bin/python
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
READY := .venv/.ready
EMPTY := .cache/installed

# Public raw data beside the checkout, where there is some (see data/README.md).
ifneq ($(wildcard ../shared/data),)
export CBRL_DATA_DIR ?= $(abspath ../shared/data)
endif
# Compilation dominates short runs: keep compiled programs between them.
export JAX_COMPILATION_CACHE_DIR ?= $(abspath .cache/jax)
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0
export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES ?= -1

.PHONY: demo test test-slow lint format benchmark analyses docs package lock clean

demo: $(READY)
	.venv/bin/cbrl-bayes demo --output demo_output

test: lint
	$(PY) -m pytest

test-slow: $(READY)
	$(PY) -m pytest -m slow
	$(PY) analyses/fill_calibration.py

benchmark: $(READY)
	$(PY) tests/benchmarks/run.py
	$(PY) tests/benchmarks/first_results.py --output tests/benchmarks/first_results.json
	$(PY) tests/benchmarks/scaling.py --output tests/benchmarks/scaling.json \
	  --figure docs/images/scaling.png
	$(PY) tests/benchmarks/learned.py --output tests/benchmarks/learned.json
	$(PY) tests/benchmarks/equilibrium.py --output tests/benchmarks/equilibrium.json
	$(PY) tests/benchmarks/workers.py --output tests/benchmarks/workers.json \
	  --figure docs/images/workers.png
	$(PY) analyses/fill_readmes.py

analyses: $(READY)
	$(PY) analyses/four_rooms/run.py
	$(PY) analyses/bus_replacement/run.py
	$(PY) analyses/theory/run.py
	$(PY) analyses/theory/second_order.py
	$(PY) analyses/wrong_followers/run.py
	$(PY) analyses/published_comparison/run.py
	$(PY) analyses/tax_design/run.py
	$(PY) analyses/route_tolls/posterior.py
	$(PY) analyses/route_tolls/run.py
	for name in bus_pricing contract_design four_rooms_doors learning reserve_price rlhf robustness \
	    shared_default_policy; do \
	  $(PY) analyses/$$name/run.py || exit 1; done
	$(PY) analyses/fill_readmes.py

docs: $(READY)
	$(PY) -m sphinx -W --keep-going -b html docs docs/_build/html

# Build, check, install into an empty environment and take a user's first steps there.
package: $(READY)
	rm -rf dist $(EMPTY)
	$(UV) build --quiet --no-build-isolation --python $(PY) --out-dir dist
	$(PY) -m twine check --strict dist/*
	$(UV) venv --quiet --python "$$(cat .python-version)" $(EMPTY)
	$(UV) pip install --quiet --python $(EMPTY)/bin/python dist/*.whl
	mkdir $(EMPTY)/work
	env -u PYTHONPATH $(EMPTY)/bin/python tests/packaging/first_steps.py $(EMPTY)/work

lint: $(READY)
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

format: $(READY)
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

# Resolve again what requirements.txt pins; the file carries versions, no addresses.
lock: $(UV)
	$(UV) pip compile -q pyproject.toml --extra test --extra docs --python-version 3.12 \
	  --no-header --no-annotate --no-emit-index-url --upgrade -o requirements.txt

$(READY): requirements.txt pyproject.toml .python-version | $(UV)
	test -x $(PY) || $(UV) venv --quiet --python "$$(cat .python-version)" .venv
	$(UV) pip install --quiet --python $(PY) --compile-bytecode -r requirements.txt
	$(UV) pip install --quiet --python $(PY) --no-deps --editable .
	touch $@

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/python -m pip install --quiet uv

clean:
	rm -rf .venv .uv .cache demo_output dist docs/_build
