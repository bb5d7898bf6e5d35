# Every target works alone on a fresh clone: it makes .venv and installs what it needs.
PYTHON  ?= python3
WORKERS ?= 2
NB      ?= nbs/*.ipynb
BIN     := .venv/bin
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --editable

# compiled modules are kept, also where the surroundings say otherwise: tests start many processes
export PYTHONDONTWRITEBYTECODE=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
TESTS   ?= 
QUICK   := $(patsubst %,tests/test_%.py,boolean cadquery drawing evaluate language notebooks project repair stages stats)
.PHONY: help demo test quick docs bench scale report compare ladder figures lab prepare outputs clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

demo: .venv/with-base ## make 200 parts, their drawings and their code, and a page that shows them
	@$(BIN)/cadvlm demo

test: .venv/with-dev ## run every chapter and every test (WORKERS=2); CADVLM_CASES=10 takes all cases
	@$(BIN)/python -m pytest -n $(WORKERS)

quick: .venv/with-dev ## run the tests of the core in a minute: geometry, languages, one pipeline, evaluation, the command line
	@$(BIN)/python -m pytest -n $(WORKERS) -m "not slow and not browser and not cluster and not occ" $(QUICK)

docs: .venv/with-dev ## build the site into _docs/ (with quarto where it is installed)
	@$(BIN)/python tools/build_site.py

bench: .venv/with-dev ## measure what has not been measured with this code; rows are added to data/results/*.csv (2 hours)
	@for bench in bench bench_languages bench_training bench_first bench_evaluation bench_synthesis bench_bounds \
	  bench_reading bench_ortho2cad bench_before; do \
	  $(BIN)/python tools/$$bench.py || exit 1; done

scale: .venv/with-dev ## run all stages on 1,100, 11,000 and 108,946 synthetic parts and write data/results/scale.csv (1.5 hours, 4 GB)
	@$(BIN)/python tools/scale.py

report: .venv/with-dev ## after make scale: the training test of each dataset, data/report.html and data/results/report.json (2 minutes)
	@for scale in 1k 10k 100k; do $(BIN)/cadvlm train --config config/deepcad_$${scale}_test.yaml || exit 1; done
	@$(BIN)/cadvlm report data/synthetic_1k data/synthetic_10k data/synthetic_100k --output data/report.html
	@cp data/report.json data/results/report.json

compare: .venv/with-dev ## train the same model on 1K, 10K and 100K parts, twice, and write data/results/compare.csv (3 hours, 5 GB)
	@for scale in 1k 10k 100k; do $(BIN)/cadvlm run --scale $$scale --language compact --no-verify --quick || exit 1; done
	@$(BIN)/cadvlm run --output data/held_out --train-size 460 --val-size 26 --test-size 26 --seed 1 --language compact
	@$(BIN)/cadvlm compare data/synthetic_1k data/synthetic_10k data/synthetic_100k --config config/compare.yaml $(TESTS)

LADDER = PYTHONPATH=tools OMP_NUM_THREADS=1 $(BIN)/python tools/ladder.py
HOME_LADDER = --home --seconds 2040 --real ../shared/deepcad/cad_json
ladder: .venv/with-dev ## train the transformer, measure choosing, searching, scales and expert iteration, write data/results/{ladder,scaling,expert}.csv (some 2 hours; goes on where it was stopped)
	@set -e; $(LADDER) prepare $(HOME_LADDER); \
	$(LADDER) scales $(HOME_LADDER) & scales=$$!; trap 'kill $$scales 2>/dev/null || :' EXIT INT TERM; \
	$(LADDER) measure $(HOME_LADDER); wait $$scales; $(LADDER) expert $(HOME_LADDER)
	@for table in ladder scaling expert; do cp data/ladder/$$table.csv data/results/$$table.csv; done; cp data/ladder/examples.json data/results/ladder_examples.json

figures: .venv/with-dev ## draw the images of the front page into nbs/images/ (1 minute; some need the reference data)
	@$(BIN)/python tools/figures.py

lab: .venv/with-lab ## open the chapters in JupyterLab
	@$(BIN)/jupyter lab --notebook-dir nbs $(if $(filter 0,$(shell id -u)),--allow-root)

prepare: .venv/with-dev ## after a change in nbs/: export the package, clean the notebooks, write README.md
	@$(BIN)/nbdev_export
	@$(BIN)/nbdev_clean
	@$(BIN)/python tools/readme.py

outputs: .venv/with-dev ## run notebooks and keep what they show (NB="nbs/130_solid.ipynb")
	@printf '%s\n' $(NB) | xargs -n 1 -P $(WORKERS) $(BIN)/python tools/runsave.py

clean: ## remove what is made again by itself (.venv and data/training stay)
	rm -rf _docs _proc _site_src build dist *.egg-info .pytest_cache .hypothesis data/demo
	find cadvlm nbs tests tools -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "cadvlm needs Python 3.11 or newer, and '$(PYTHON)' is not. Name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || \
	  { echo "'$(PYTHON)' lacks venv or pip. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "making .venv"
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/with-base: pyproject.toml | $(BIN)/python
	@echo "installing cadvlm into .venv"
	@$(INSTALL) .
	@touch $@

.venv/with-dev: pyproject.toml | $(BIN)/python
	@echo "installing cadvlm and its test tools into .venv"
	@$(INSTALL) '.[dev]'
	@touch .venv/with-base $@

.venv/with-lab: pyproject.toml | $(BIN)/python
	@echo "installing cadvlm, its test tools and JupyterLab into .venv"
	@$(INSTALL) '.[dev,lab]'
	@touch .venv/with-base .venv/with-dev $@
