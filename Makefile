# What CI and people run. `make demo` and `make test` set up everything they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test check docs dist bench setup clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    set up, judge the pictures that come with the package, write demo/report.html"
	@echo "make test    set up, run the tests"
	@echo "make check   format, lint, types"
	@echo "make docs    write the site to site/; fails on a link or a page that is missing"
	@echo "make dist    write the wheel and the source archive to dist/, and check them"
	@echo "make bench   measure speed on this machine, write benchmarks/results"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	@touch $@

demo: $(READY)
	$(BIN)/mfclip demo --out demo

test: $(READY)
	@# Two processes share the files; one that crashes fails the run, and nothing is tried again.
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -rs -n 2 --dist loadfile --max-worker-restart 0

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

dist: $(READY)
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist
	$(BIN)/twine check --strict dist/*

bench: $(READY)
	@# About half an hour on two cores, which should do nothing else. More: benchmarks/README.md.
	$(BIN)/python benchmarks/speed.py --model mfclip --out benchmarks/results/speed-mfclip.json
	$(BIN)/python benchmarks/speed.py --model mfclip-small --out benchmarks/results/speed-mfclip-small.json
	$(BIN)/python benchmarks/engines.py --model mfclip --out benchmarks/results/engines-mfclip.json
	$(BIN)/python benchmarks/startup.py --out benchmarks/results/startup.json
	$(BIN)/python benchmarks/end_to_end.py --out benchmarks/results/end_to_end.json
	$(BIN)/python benchmarks/profile_work.py --out benchmarks/results/profile.json

clean:
	rm -rf $(VENV) demo dist site
