# Every target sets the machine up first; Python 3.11+, pip and make are all that must be there.
VENV := .venv
BIN := $(VENV)/bin
TORCH := 2.13.0
# Every package but torch, whose CPU build has a file of its own for each kind of machine, is compared with its hash.
# uv reads none of pip's settings, so that an index which pip uses is handed on.
INDEX = UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($(BIN)/pip config get global.index-url 2>/dev/null)}}"; \
	if [ "$$UV_DEFAULT_INDEX" ]; then export UV_DEFAULT_INDEX; else unset UV_DEFAULT_INDEX; fi;
LOCKED = $(INDEX) $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.lock --build-constraints constraints.lock
TOOL = $(BIN)/uv tool run --quiet --python $(BIN)/python --from

export PREFECT_HOME ?= $(CURDIR)/var/prefect
export PREFECT_SERVER_ANALYTICS_ENABLED ?= false
export DO_NOT_TRACK ?= 1
export TOKENIZERS_PARALLELISM ?= false
# Waiting threads sleep: on a busy machine spinning ones were seen to cost a factor of 50.
export OMP_WAIT_POLICY ?= PASSIVE

# Without stored byte code every process compiles some 1,500 modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test soak up deploy check docs format bench lock sbom audit clean

setup: $(VENV)/ready

# On Linux without an NVIDIA GPU only the CPU build of torch is accepted; anywhere else pip's own choice is right.
$(VENV)/ready: pyproject.toml constraints.lock
	@mkdir -p $(PREFECT_HOME)
	python3 -m venv $(VENV)
	@if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then torch=torch==$(TORCH)+cpu; else torch=torch==$(TORCH); fi; \
	echo "installing $$torch"; \
	$(BIN)/pip install --quiet --no-deps "$$torch" || { \
	echo "pip finds no $$torch. Set PIP_EXTRA_INDEX_URL to the CPU index that pytorch.org names under Get Started, then run make again." >&2; \
	echo "(make setup never falls back to the CUDA build on a machine without a GPU: that is several GB.)" >&2; exit 1; }
	sed -n '/^uv==/,/[^\\]$$/p' constraints.lock > $(VENV)/uv.txt
	$(BIN)/pip install --quiet --no-deps --require-hashes -r $(VENV)/uv.txt
	$(LOCKED) -e '.[dev]'
	@touch $@

demo: setup
	@$(BIN)/dealrec demo

# Two at once: tests that wait for servers leave a core to others. tests/conftest.py says what goes together and in which order.
test: setup
	$(BIN)/python -m pytest -n 2 --durations 25

# The long form of the fault matrix (docs/operations.md): some hours.
soak: setup
	DEALREC_FAULT_STRIDE=1 $(BIN)/python -m pytest tests/faults
	$(BIN)/python benchmarks/kills.py
	$(BIN)/python benchmarks/kills.py --s3
	$(BIN)/python benchmarks/torture_kill.py
	$(BIN)/python tests/faults/lost_answers.py 1000
	$(BIN)/python tests/faults/outages.py
	$(BIN)/python tests/faults/safeguards.py

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
	$(LOCKED) -e '.[dev,bench]'
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

# For a Prefect server that is already there (PREFECT_API_URL).
deploy: setup
	PYTHONPATH=$(CURDIR) $(BIN)/dealrec deploy

# The lock files: what a fresh install resolves to today, without build tags such as +cpu, and the hashes of all that and of torch's own libraries.
lock: setup
	$(LOCKED) -e '.[dev,bench,smollm2]'
	$(BIN)/uv pip freeze --python $(BIN)/python --exclude-editable | sed 's/+cpu$$//' > constraints.txt
	(cat constraints.txt; echo editables) | UV_FIND_LINKS= $(BIN)/uv pip compile - --quiet --no-header --no-annotate \
	--python-version 3.11 --generate-hashes --output-file constraints.lock

# What is installed, as a bill of materials (CycloneDX) and as a list of licences.
sbom: setup
	@mkdir -p build
	$(TOOL) cyclonedx-bom==7.5.0 cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON \
	-o build/sbom.json $(BIN)/python
	$(TOOL) pip-licenses==5.5.5 pip-licenses --python $(BIN)/python --format markdown --order license --with-urls --output-file build/licences.md

# Known weaknesses of the locked packages. The advisories come from the package index; where it has none, nothing is audited, and that fails.
audit: setup
	@mkdir -p build; rm -f build/audit.json
	@$(TOOL) pip-audit==2.10.1 pip-audit --strict --disable-pip --require-hashes -r constraints.lock --format json --output build/audit.json \
	|| { test -s build/audit.json && echo "weaknesses are known: see build/audit.json" >&2 \
	|| echo "error: NOTHING WAS AUDITED, because no advisories could be reached (see above); run make audit where the network allows it" >&2; exit 1; }

clean:
	rm -rf $(VENV) var
