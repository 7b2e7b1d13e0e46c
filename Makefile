# Everything a newcomer needs: `make serve`, `make test`. Each target prepares what it lacks.
.DEFAULT_GOAL := help
.PHONY: help install serve test test-long test-move test-realtime test-access lint format bench bench-gateway bench-supabase bench-regression \
	bench-fast-path bench-move bench-realtime bench-soak bench-start project-tables docs clean

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
export HOST PORT
# Many processes share the bytecode that the first one keeps, even where an image says not to.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
TABLES := src/amphibase/schema/project_tables.sql
READY := .venv/.ready

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

install: $(READY) ## Prepare .venv with everything that development needs

$(READY): pyproject.toml uv.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(BIN)/uv sync --frozen --quiet --compile-bytecode
	touch $@

serve: $(READY) ## Serve users and sign-in on HOST:PORT (127.0.0.1:8000)
	$(BIN)/amphibase serve

test: $(READY) ## Run the tests, on SQLite and on a Postgres started for them
	$(BIN)/pytest -n auto --dist worksteal $(ARGS)

test-long: $(READY) ## Run all tests that take minutes
	$(BIN)/pytest -m long $(ARGS)

test-move: $(READY) ## Run all tests of moving, also those that take minutes
	$(BIN)/pytest tests/move tests/test_examples.py tests/test_docs.py -m "long or not long" $(ARGS)

test-realtime: $(READY) ## Run all tests of Realtime, also those that take minutes
	$(BIN)/pytest tests/gateway/realtime -m "long or not long" $(ARGS)

test-access: $(READY) ## Try thousands of access declarations, and faults in what applies them
	$(BIN)/pytest tests/access -m "long or not long" -s $(ARGS)

lint: $(READY) ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## Measure beside peers; exit 1 when a bar is missed
	$(BIN)/python -m bench users records files

bench-gateway: $(READY) ## Measure the local Supabase beside a floor, a peer and an earlier commit
	$(BIN)/python -m bench gateway gateway-costs --rounds 7

bench-supabase: $(READY) ## Measure the Supabase backend beside the bare calls of supabase-py
	$(BIN)/python -m bench supabase

bench-regression: $(READY) ## Measure beside an earlier commit: EARLIER=a0ee756
	$(BIN)/python -m bench regression --rounds 9 --seconds 1.5

bench-fast-path: $(READY) ## Measure what the fast path of the built-in routes saves
	$(BIN)/python -m bench.fast_path

bench-move: $(READY) ## Measure a move beside the ways in which people copy a table
	$(BIN)/python -m bench.move

bench-realtime: $(READY) ## Measure Realtime beside the bare INSERT, SQL and a bare application
	$(BIN)/python -m bench realtime

bench-access: $(READY) ## Measure access rules beside the forms that people write by hand
	$(BIN)/python -m bench.access

bench-soak: $(READY) ## Ten minutes of load on four workers while they and Postgres are killed
	$(BIN)/python -m bench soak --rounds 3 --seconds 600

bench-start: $(READY) ## Measure what a start costs beside an earlier commit: EARLIER=a0ee756
	$(BIN)/python -m bench start --rounds 9

project-tables: $(READY) ## Write the tables of a local Supabase's new project from the revisions
	$(BIN)/python -m amphibase.schema.migrations.project_tables > $(TABLES).new
	mv $(TABLES).new $(TABLES)

docs: $(READY) ## Build the documentation into site/
	$(BIN)/uv sync --frozen --quiet --compile-bytecode --group docs
	$(BIN)/mkdocs build --strict --quiet

clean: ## Remove what can be made again
	rm -rf .venv bench/.venv-peers bench/peers/lite/node_modules site .mypy_cache .pytest_cache .ruff_cache
