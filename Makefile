# Everything a person types here; `make demo` on a bare machine installs what it needs.
PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 2
SEEDS ?= 3
INSTALL = $(BIN)/pip install --quiet --no-compile --constraint constraints.txt
TESTS = $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations 8 --durations-min 7
# Compiled is what is imported, once: where Python is told to write no bytecode every process would compile it anew.
unexport PYTHONDONTWRITEBYTECODE
COMPILE = $(BIN)/python -c "import diga.cli, diga.launch.ray_train, diga.launch.search, diga.methods.ddb, diga.report.build, \
	matplotlib.backends.backend_pdf, matplotlib.figure, mlflow.store.tracking.sqlalchemy_store, ray.train.torch"

.PHONY: demo test faults check bench docs clean

demo: .venv/platform ## the embedded benchmark, DiGA's component ablation on it in half the updates, and its report
	$(BIN)/diga data make streets --workers $(JOBS)
	$(BIN)/diga plan demo --seeds $(SEEDS)
	$(BIN)/diga ablate demo --seeds $(SEEDS)
	$(BIN)/diga report demo

test: .venv/tools ## what must hold, but for tests of seven seconds or more each
	$(TESTS) -m "not slow"

faults: .venv/tools ## those: clusters, whatever is killed or stopped, several workers, whole reports, large networks
	$(TESTS) -m slow

check: .venv/tools ## floors, style, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/tools ## ratios in one run: the equations against the official way, a step against its networks
	$(BIN)/python -m benchmarks.ops
	$(BIN)/python -m benchmarks.evaluation
	$(BIN)/python -m benchmarks.distances
	$(BIN)/python -m benchmarks.step
	$(BIN)/python -m benchmarks.platform --train
	$(BIN)/python -m benchmarks.views
	$(BIN)/python -m benchmarks.sweeps --train
	$(BIN)/python -m benchmarks.reports

docs: .venv/platform ## the README's table and pictures, from the last report of the demo
	$(BIN)/python docs/refresh.py

.venv/platform: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) torch
	$(INSTALL) --editable .
	$(COMPILE)
	touch $@

.venv/tools: .venv/platform
	$(INSTALL) --editable ".[dev]"
	touch $@

clean: ## what was installed, not what was computed
	rm -rf .venv
