# `make demo` and `make test` each suffice on a fresh machine with Python 3.11 or newer: they make .venv, install, run.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
GROWING := runs/demo-growing
# constraints.txt pins what CI uses. Where there is a GPU, the CUDA build of torch is taken instead of the pinned one.
HAS_GPU := $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1 && echo yes)

.PHONY: demo demo-growing test pytest lint matrix faults lowest figures docs install clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "latebloom: PYTHON = $$($(PYTHON) -V 2>&1): must be 3.11 or newer; run make PYTHON=python3.11 (or newer)"; exit 2; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@# torch first and alone: on a CPU machine the pinned build, not gigabytes of CUDA
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(if $(HAS_GPU),'torch>=2.11','torch' -c constraints.txt)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(if $(HAS_GPU),,-c constraints.txt) -e '.[dev]'
	@touch $@

demo: $(STAMP)
	$(VENV)/bin/latebloom demo
	@echo 'Next: a place where growing pays, and how sure that is'
	$(MAKE) --no-print-directory demo-growing

# One block grown to two beside one and two blocks of equal compute, on four seeds
demo-growing: $(STAMP)
	test -f $(GROWING)/data/manifest.json || \
	  $(VENV)/bin/latebloom data prepare --stdlib --tokenizer bytes --out $(GROWING)/data
	$(VENV)/bin/latebloom study studies/demo_growing.toml --data $(GROWING)/data --out $(GROWING)/runs \
	  --evals 2 --eval-tokens 32768

# Side by side: mypy alone would leave a core idle for most of a minute
test: $(STAMP)
	@$(MAKE) --no-print-directory --jobs 2 lint pytest

pytest: $(STAMP)
	$(VENV)/bin/python -m pytest

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/mypy

# The numerical tests under each set of processor instructions; ROWS="ATEN_CPU_CAPABILITY=default ..." for some
matrix: $(STAMP)
	$(VENV)/bin/python -m tests.matrix $(foreach row,$(ROWS),--row $(row))

# What may go wrong, and what is promised then (docs/faults.md); ROWS="4 9" for some
faults: $(STAMP)
	$(VENV)/bin/python -m tests.faults $(foreach row,$(ROWS),--row $(row))

# All tests at the lowest declared version of every dependency, on Python 3.11; gigabytes, as torch's is a CUDA build
lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet -c constraints-lowest.txt -e '.[dev]'
	.venv-lowest/bin/python -m pytest

# The documentation as pages, with the reference; a warning is an error
docs: $(STAMP)
	$(VENV)/bin/python -m sphinx -b html -W --keep-going -q docs docs/_build/html
	@echo docs/_build/html/index.html

figures: $(STAMP)
	$(VENV)/bin/latebloom figures

clean:
	rm -rf $(VENV) .venv-lowest runs docs/_build docs/reference .pytest_cache .ruff_cache
