# `make demo` and `make test` need Python >= 3.11 and make; each prepares .venv on its first call and uses it afterwards.
PYTHON ?= python3
BIN := .venv/bin
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

.PHONY: demo test slow coverage lint docs benchmarks gpu soak clean

demo: .venv/.installed
	$(BIN)/python -m train.demo

test: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy -p modeling_unigloR -p datasets_scripts
	$(BIN)/python -m pytest -q -n auto --dist loadfile

# Notebooks and whole experiments; 5 is pytest's status where there is none.
slow: .venv/.installed
	$(BIN)/python -m pytest -q -m slow -n auto || test $$? -eq 5

# Lines that no test runs. Not in `make test`: tracing took half as much processor time again (125 tests: 15.2 s, with it 23.0 s).
coverage: .venv/.installed
	$(BIN)/python -m pytest -q -n auto --dist loadfile --cov --cov-report=term:skip-covered

lint: .venv/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The API reference, from the docstrings: open outputs/api/index.html.
docs: .venv/.installed
	$(BIN)/python -m pdoc --output-directory outputs/api modeling_unigloR modeling_unigloR.rendering_uniglor modeling_unigloR.keypoints_uniglor datasets_scripts

benchmarks: .venv/.installed
	$(BIN)/python -m benchmarks.run

# On a machine with a GPU, and a torch for it: speed, memory, MFU, equality of the kernels, a whole pretraining; about half an hour.
# ANNOTATIONS=DIR holds PHOENIX14T's train.parquet and dev.parquet; without, the sentences are invented.
gpu: .venv/.installed
	$(BIN)/python -m benchmarks.gpu $(if $(ANNOTATIONS),--annotations $(ANNOTATIONS))

soak: .venv/.installed
	$(BIN)/python -m tests.soak

# torch first: with none installed, a dependency may bring a CUDA build of several gigabytes.
.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "uniglor needs Python 3.11 or newer, found " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv outputs
