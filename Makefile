# `make demo` and `make test` need Python 3.11 to 3.13 with venv, and nothing else that is installed.

PYTHON ?= python3
PIP_ARGS ?=

BIN := .venv/bin
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check $(PIP_ARGS) -c constraints.txt

.PHONY: help demo test quick campaigns faults cluster chaos lint bench device clean
.NOTPARALLEL:

help: ## this page
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile
	@echo 'PYTHON=python3.12 chooses the Python of a new .venv; PIP_ARGS="..." goes to each pip install.'

demo: .venv/.installed ## install, then run the quickstart campaign; KEEP_UI=1 keeps its server up
	$(BIN)/finitewidth run quickstart --ui$(if $(filter-out 0,$(KEEP_UI)), --keep-ui)

test: .venv/.installed-dev ## install what the tests need, then run all of them
	$(BIN)/pytest

quick: .venv/.installed-dev ## the tests that need neither patience nor a server
	$(BIN)/pytest -m "not slow and not ray and not prefect and not campaigns and not faults and not cluster and not chaos"

campaigns: .venv/.installed-dev ## campaigns that cover every pair of choices, each to its end and beyond
	$(BIN)/pytest -m campaigns --dist load

faults: .venv/.installed-dev ## every write killed, every file damaged; minutes to an hour
	$(BIN)/pytest -m faults --dist load

cluster: .venv/.installed-dev ## campaigns on a Slurm that starts here, as root on Debian; ten minutes
	$(BIN)/pytest -n 0 -m cluster

chaos: .venv/.installed-dev ## workers, nodes and drivers killed at random moments; many minutes
	$(BIN)/pytest -n 0 -m chaos

lint: .venv/.installed-dev ## style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo

bench: .venv/.installed-dev .venv/.installed-peers .venv/.installed-peers-nt ## steps and effective samples per CPU second, here and elsewhere
	$(BIN)/python tests/benchmarks/bench_steps.py .venv/peers/bin/python
	$(BIN)/python tests/benchmarks/bench_scaling.py
	$(BIN)/python tests/benchmarks/bench_ess.py .venv/peers/bin/python
	$(BIN)/python tests/benchmarks/bench_regimes.py
	$(BIN)/python tests/benchmarks/bench_gpr.py .venv/peers-nt/bin/python
	$(BIN)/python tests/benchmarks/bench_kernels.py .venv/peers-nt/bin/python
	$(BIN)/python tests/benchmarks/bench_theories.py
	$(BIN)/python tests/benchmarks/bench_features.py .venv/peers/bin/python
	$(BIN)/python tests/benchmarks/bench_plan.py

device: ## ask a GPU what only it can say; $(PYTHON) needs torch, triton, numpy and scipy
	PYTHONPATH=. $(PYTHON) tests/device/check.py

clean: ## remove caches and .venv; results stay
	rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are touched last, so that an interrupted installation goes on at the next call.

.venv/.installed-dev: .venv/.created pyproject.toml constraints.txt
	$(INSTALL) -e '.[dev]'
	@touch .venv/.installed $@

.venv/.installed: .venv/.created pyproject.toml constraints.txt
	$(INSTALL) -e .
	@touch $@

# A peer that cannot be installed is absent from the table, and no reason to stop. What deepbays
# needs here came with the others; it names torchvision, too.
.venv/.installed-peers: .venv/.created tests/benchmarks/peers.txt constraints.txt
	$(BIN)/python -m venv .venv/peers
	for peer in jax blackjax posteriors; do \
	  .venv/peers/bin/python -m pip install --disable-pip-version-check $(PIP_ARGS) \
	    -c constraints.txt -c tests/benchmarks/peers.txt scipy $$peer || true; \
	done
	.venv/peers/bin/python -m pip install --disable-pip-version-check $(PIP_ARGS) \
	  -c tests/benchmarks/peers.txt --no-deps deepbays || true
	@touch $@

.venv/.installed-peers-nt: .venv/.created tests/benchmarks/peers-nt.txt
	$(BIN)/python -m venv .venv/peers-nt
	for peer in neural-tangents gpytorch; do \
	  .venv/peers-nt/bin/python -m pip install --disable-pip-version-check $(PIP_ARGS) \
	    -c tests/benchmarks/peers-nt.txt $$peer || true; \
	done
	@touch $@

.venv/.created:
	$(if $(problem),$(error $(problem)))
	$(PYTHON) -m venv .venv
	@touch $@

# One line that says why $(PYTHON) will not do; nothing where it does. Debian packages venv apart.
problem = $(shell $(examine))
define examine
version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null); \
case "$$version" in \
3.11|3.12|3.13) \
  $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
  echo "$(PYTHON) is Python $$version without venv: install it with" \
    "'apt-get install python3-venv' (python$$version-venv if it is not the system's own)" ;; \
*) \
  found=$${version:+Python $$version}; \
  echo "$(PYTHON) is $${found:-not found}; wanted 3.11, 3.12 or 3.13:" \
    "name one that is installed, as in 'PYTHON=python3.12 make demo'" ;; \
esac
endef
