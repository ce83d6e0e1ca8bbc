# Every target sets the machine up first; Python 3.11+, pip and make are all that must be there.
VENV := .venv
BIN := $(VENV)/bin
TORCH := 2.13.0

export PREFECT_HOME ?= $(CURDIR)/var/prefect
export PREFECT_SERVER_ANALYTICS_ENABLED ?= false
export DO_NOT_TRACK ?= 1
export TOKENIZERS_PARALLELISM ?= false
# Waiting threads sleep: on a busy machine spinning ones were seen to cost a factor of 50.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: setup demo test soak up deploy check docs format bench lock clean

setup: $(VENV)/ready

# On Linux without an NVIDIA GPU only the CPU build of torch is accepted; anywhere else pip's own choice is right.
$(VENV)/ready: pyproject.toml constraints.txt
	@mkdir -p $(PREFECT_HOME)
	python3 -m venv $(VENV)
	@if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then torch=torch==$(TORCH)+cpu; else torch=torch==$(TORCH); fi; \
	echo "installing $$torch"; \
	$(BIN)/pip install --quiet -c constraints.txt "$$torch" || { \
	echo "pip finds no $$torch. Set PIP_EXTRA_INDEX_URL to the CPU index that pytorch.org names under Get Started, then run make again." >&2; \
	echo "(make setup never falls back to the CUDA build on a machine without a GPU: that is several GB.)" >&2; exit 1; }
	$(BIN)/pip install --quiet uv -c constraints.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]' \
	|| $(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup
	$(BIN)/dealrec demo

# Two at once: tests that wait for servers leave a core to others. tests/conftest.py says what goes together and in which order.
test: setup
	$(BIN)/python -m pytest -n 2 --durations 25

# The long form of the fault matrix (docs/operations.md): about an hour.
soak: setup
	DEALREC_FAULT_STRIDE=1 $(BIN)/python -m pytest tests/faults
	$(BIN)/python benchmarks/kills.py

up: setup
	deployments/up.sh

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory docs

# The site of docs/, into var/site; a link or an anchor that leads nowhere is an error.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,bench]'
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

# For a Prefect server that is already there (PREFECT_API_URL).
deploy: setup
	PYTHONPATH=$(CURDIR) $(BIN)/dealrec deploy

# The lock file: what a fresh install resolves to today, without build tags such as +cpu.
lock: setup
	$(BIN)/uv pip freeze --python $(BIN)/python --exclude-editable | sed 's/+cpu$$//' > constraints.txt

clean:
	rm -rf $(VENV) var
