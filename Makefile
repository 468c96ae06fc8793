VENV ?= .venv
PYTHON ?=
DJANGO ?=
REQUIRE ?= sqlite
COVERAGE ?=
WAIT ?= 0
ARGS ?=
PORT ?= 8000

BIN := $(VENV)/bin
CHOICE := $(strip $(PYTHON) $(DJANGO))

.DEFAULT_GOAL := help
.PHONY: help venv test prove coverage bench tracker lint types build wheel-check screenshots demo clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile
	@echo 'with'
	@echo '  VENV=.venv       the folder of the environment'
	@echo '  PYTHON=python3   its interpreter'
	@echo "  DJANGO=          its Django, such as 'django~=5.2.0'; the newest without"
	@echo "  REQUIRE=sqlite   test, prove: databases that must be reached, such as 'sqlite postgresql mariadb'"
	@echo '  WAIT=0           test, prove: seconds to wait for those'
	@echo '  COVERAGE=1       test: measure what the runs on SQLite cover, and show it'
	@echo "  ARGS=            test, prove, coverage: arguments of pytest, such as '-k window'; bench: its own, see ARGS=--help"
	@echo '  PORT=8000        demo: where it is served'
	@echo 'One test, or one folder, after make venv, on SQLite and without any service:'
	@echo '  $(BIN)/pytest tests/unit'
	@echo '  $(BIN)/pytest tests/db/test_retention.py -k prune'
	@echo 'PAGESTATS_TEST_DB=postgresql or mariadb in front of it runs it there.'

# Without PYTHON and DJANGO an environment stays what it is; with others than it was made with it is made anew.
ifneq ($(CHOICE),)
ifneq ($(CHOICE),$(file < $(VENV)/made))
.PHONY: $(VENV)/made
endif
endif

venv: $(VENV)/made ## prepare the environment with all that tests need

$(VENV)/made: pyproject.toml
ifneq ($(CHOICE),)
	$(or $(PYTHON),python3) -m venv --clear $(VENV)
else
	test -x $(BIN)/python || python3 -m venv $(VENV)
endif
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --group test --group lint --editable . $(if $(DJANGO),'$(DJANGO)')
	@$(BIN)/python -m pip install --quiet --group mariadb 2> /dev/null || \
		echo 'mysqlclient could not be built, so nothing here runs on MariaDB. On Debian it needs: build-essential pkg-config libmariadb-dev' >&2
	$(if $(CHOICE),echo '$(CHOICE)' >,touch) $@

test: venv ## run the suite on SQLite, and on PostgreSQL and MariaDB where they are reachable
	$(BIN)/python -m tests.databases --require '$(REQUIRE)' --wait $(WAIT) $(if $(COVERAGE),--coverage) -- $(ARGS)

prove: venv ## run the proofs that take more than a minute, on the same databases
	$(BIN)/python -m tests.databases --require '$(REQUIRE)' --wait $(WAIT) -- -m prove $(ARGS)

coverage: venv ## run the suite on SQLite and show how much it covers; every line is in htmlcov/
	$(BIN)/python -m tests.databases --only sqlite --coverage -- $(ARGS)
	$(BIN)/coverage html --quiet

bench: venv ## measure what recording and reading cost: tables, and ratios within the run
	$(BIN)/python -m benchmarks $(ARGS)

tracker: venv ## write the small copy of the tracker
	$(BIN)/python -m rjsmin < pagestats/static/pagestats/tracker.js > pagestats/static/pagestats/tracker.min.js

lint: venv ## look for mistakes and odd layout with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv ## check the types with mypy
	$(BIN)/mypy

build: venv ## build the wheel
	rm -rf build dist
	$(BIN)/python -m build --quiet --wheel --outdir dist .

wheel-check: build ## install the wheel alone, and migrate a fresh site with it
	@set -eu; \
	folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(BIN)/python -m zipfile -l dist/*.whl | awk '/^pagestats\// {print $$1}' | sort > "$$folder/built"; \
	find pagestats -type f ! -path '*/__pycache__/*' | sort | diff - "$$folder/built" || \
		{ echo 'The wheel does not hold what pagestats/ holds: see [tool.setuptools] in pyproject.toml.' >&2; exit 1; }; \
	$(BIN)/python -m venv "$$folder/venv"; \
	"$$folder/venv/bin/pip" install --quiet dist/*.whl $(if $(DJANGO),'$(DJANGO)'); \
	cd "$$folder"; PATH="$$folder/venv/bin:$$PATH"; set -x; \
	django-admin startproject fresh .; \
	echo 'INSTALLED_APPS += ["pagestats"]' >> fresh/settings.py; \
	echo 'MIDDLEWARE.insert(0, "pagestats.middleware.PageViewMiddleware")' >> fresh/settings.py; \
	python manage.py check --fail-level WARNING; \
	python manage.py migrate --verbosity 0; \
	python manage.py showmigrations pagestats; \
	python manage.py makemigrations --check --dry-run

screenshots: venv ## take the screenshots of the README, from the demo
	$(BIN)/python -m tests.screenshots docs

demo: venv ## serve the example site on 127.0.0.1:PORT
	$(BIN)/python manage.py demo $(PORT)

clean: ## remove what these targets made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis htmlcov .coverage*
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
