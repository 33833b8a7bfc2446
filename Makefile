# Each target does all its own set-up, in a virtual environment of the tree. It needs Python >= 3.11, git and make.
#   make test ARGS="-k breaker"        pass arguments on (demo, test, bench, test-all)
#   make test PYTHON=python3.12        choose the interpreter
#   make test VENV=/elsewhere/venv     keep the environment somewhere else

VENV ?= .venv
ARGS ?=
WORKERS ?= auto
BIN = $(VENV)/bin
SETUP = @.ci/venv $(VENV)
PYTEST = $(BIN)/python -m pytest -q
PARALLEL = -n $(WORKERS) --maxprocesses=4 --dist=worksteal
STEP = @printf '== %s\n'

unexport PYTHONPATH PYTHONHOME
ifdef PYTHON
export PYTHON
endif

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check bench deep properties mutation test-all cover clean

help:  ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo:  ## 500 payments, three contestants, faulty providers; then services that are killed: see whose books balance
	$(SETUP) +demo
	@$(BIN)/python -m examples.payment_flow $(ARGS)

test:  ## run the tests
	$(SETUP) tests
	@$(PYTEST) $(PARALLEL) $(ARGS)

check:  ## lint, format, types, and the laws of the house
	$(SETUP) dev
	$(STEP) "lint (ruff check)"
	@$(BIN)/ruff check --quiet || { echo "FAILED: lint. Much of it mends itself: $(BIN)/ruff check --fix"; exit 1; }
	$(STEP) "format (ruff format)"
	@$(BIN)/ruff format --check --quiet || { echo "FAILED: format. It mends itself: $(BIN)/ruff format"; exit 1; }
	$(STEP) "types (mypy)"
	@$(BIN)/mypy || { echo "FAILED: mypy"; exit 1; }
	$(STEP) "types (pyright)"
	@$(BIN)/pyright --pythonpath $(BIN)/python || { echo "FAILED: pyright"; exit 1; }
	$(STEP) "types of every public name (pyright --verifytypes)"
	@mkdir -p build
	@PATH="$(abspath $(BIN)):$$PATH" pyright --verifytypes finresilience --ignoreexternal >build/verifytypes.txt \
		|| { grep 'error:' build/verifytypes.txt; grep 'completeness score' build/verifytypes.txt; echo "FAILED: pyright --verifytypes"; exit 1; }
	$(STEP) "imports point one way (import-linter)"
	@$(BIN)/lint-imports --no-cache --no-logo || { echo "FAILED: import-linter"; exit 1; }

bench:  ## measure ourselves against a bare call and against our peers
	$(SETUP) bench
	@mkdir -p build
	@$(BIN)/python -m benchmarks $(ARGS)

deep: properties mutation  ## long property tests, then mutate the cores and see who notices

properties:  ## the first half of deep: 5,000 examples of each property, big worlds
	$(SETUP) tests
	$(STEP) "long properties"
	@FINRESILIENCE_DEEP=1 $(PYTEST) $(PARALLEL) -o faulthandler_timeout=1800 $(ARGS)

mutation:  ## the second half of deep
	$(SETUP) mutation
	$(STEP) "mutation of cores/"
	@rm -rf mutants; mkdir -p build
	@if [ -t 1 ]; then $(BIN)/mutmut run; else $(BIN)/mutmut run >build/mutation.log 2>&1 || { tail -n 40 build/mutation.log; exit 1; }; fi
	@$(BIN)/mutmut export-cicd-stats >/dev/null
	@$(BIN)/python .ci/mutation_score.py --at-least 97

test-all:  ## run the tests under each Python from 3.11 to 3.13 found on this machine
	@.ci/every-python $(PARALLEL) $(ARGS)

cover:  ## branch coverage; cores and policies must be whole
	$(SETUP) tests
	@mkdir -p build
	@$(PYTEST) $(PARALLEL) --cov --cov-report=html --cov-report= $(ARGS)
	@$(BIN)/coverage report
	@$(BIN)/coverage report --format=total --include='*/cores/*,*/policies/*' --fail-under=100 >/dev/null \
		|| { echo "FAILED: cores and policies are not covered whole"; exit 1; }

clean:  ## remove what tools left behind; environments stay
	rm -rf build dist mutants .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
