"""The law of imports of the package: who may import whom, and no circle.

Every import counts, those inside of functions and those for type checkers only as well.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PACKAGE = Path(__file__).parents[3] / "python" / "quotaflow"

# What each module or package at the top may import beside itself; the Rust module `_quotaflow` is open to all.
# A package above another in this table never imports it, but for the exception below.
LAW: dict[str, set[str]] = {
    "records": set(),
    "events": set(),
    "errors": {"records"},
    "testing": {"errors"},
    "_call": {"errors", "events", "records"},
    "_templates": {"_call", "errors"},
    "_prices": {"_call"},
    "_retry": {"_call", "errors"},
    "reply": {"_prices", "errors", "records"},
    "_keys": {"_retry", "_call", "errors"},
    "_limiter": {"_retry", "_call", "errors"},
    "_structured": {"reply", "_call", "errors"},
    "_streaming": {"_structured", "reply", "_call", "errors", "records"},
    "_batch": {"_structured", "reply", "_call", "errors", "records"},
    "_plan": {"_batch", "_prices", "_call", "errors", "records"},
    "interface": {
        "_plan", "_batch", "_streaming", "_structured", "_templates", "_prices", "_call", "reply", "errors",
        "records",
    },
    "integrations": {"interface", "_streaming", "_structured", "_call", "reply", "errors", "records"},
    "_cli": {"testing", "errors"},
    "__main__": {"_cli"},
    "pytest_plugin": {"testing"},
}  # fmt: skip
# Functions that import what a text names.
BY_NAME = {"__import__", "import_module"}
# They lead to everything that is public.
OPEN_TO_ALL = {"", "_former_modules"}

# The one exception: LangChain's verbs of an interface make a chat model that holds the interface. Its other half
# is imported when LangChain is there.
EXCEPTION = ("interface", "integrations.runnable")
LANGCHAIN = {"interface", "integrations.runnable", "integrations.chains", "integrations.langchain"}


def sources(package: Path) -> dict[str, str]:
    """The text of every file by its module's name below `quotaflow`; the package itself is the empty name."""
    found = {}
    for path in package.rglob("*.py"):
        name = ".".join(path.relative_to(package).with_suffix("").parts)
        found[name.removesuffix("__init__").removesuffix(".")] = path.read_text(encoding="utf-8")
    return found


@cache
def named(text: str) -> frozenset[tuple[str, tuple[str, ...]]]:
    """The modules that a file names in its imports, each with what is taken from it."""
    found: set[tuple[str, tuple[str, ...]]] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {(alias.name, ()) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(("." * node.level + (node.module or ""), tuple(alias.name for alias in node.names)))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in BY_NAME:
            texts = (str(inner.value) for inner in ast.walk(node) if isinstance(inner, ast.Constant))
            found |= {(text, ()) for text in texts if text.startswith("quotaflow")}
    return frozenset(found)


def imports(name: str, text: str, modules: Iterable[str]) -> set[str]:
    """The modules of the package that a file imports, wherever the import stands in it."""
    known, found = set(modules), set()
    for module, taken in named(text):
        assert not module.startswith("."), f"{name} imports relatively"
        top, _, below = module.partition(".")
        if top == "quotaflow":
            inner = {f"{below}.{one}".removeprefix(".") for one in taken}
            found |= inner & known
            if inner - known or not taken:
                found.add(below)
    return found - {name}


def breaches(files: Mapping[str, str]) -> list[str]:
    """Every import that the table does not allow."""
    found = []
    for name, text in files.items():
        place = name.partition(".")[0]
        if place in OPEN_TO_ALL:
            continue
        allowed = LAW.get(place)
        if allowed is None:
            found.append(f"{place} is not in the table")
            continue
        open_to_it = {place, "_quotaflow", *allowed}
        found += [
            f"{name} imports {other or 'quotaflow'}"
            for other in imports(name, text, files)
            if other.partition(".")[0] not in open_to_it and (name, other) != EXCEPTION
        ]
    return sorted(found)


def circles(files: Mapping[str, str]) -> list[set[str]]:
    """The groups of files that import one another, each as large as it is."""
    arrows = {name: imports(name, text, files) & set(files) for name, text in files.items()}
    reached = {}
    for name in files:
        seen: set[str] = set()
        ahead = set(arrows[name])
        while ahead:
            seen |= ahead
            ahead = {other for one in ahead for other in arrows[one]} - seen
        reached[name] = seen
    groups = [frozenset({name} | {o for o in reached[name] if name in reached[o]}) for name in files]
    return [set(group) for group in sorted(set(groups), key=sorted) if len(group) > 1]


def test_imports_follow_the_table() -> None:
    assert breaches(sources(PACKAGE)) == []


def test_the_table_runs_one_way_and_names_what_exists() -> None:
    before: set[str] = set()
    for place, allowed in LAW.items():
        assert allowed <= before, f"{place} may import {allowed - before}, which stand below it"
        before.add(place)
    assert set(LAW) == {name.partition(".")[0] for name in sources(PACKAGE)} - OPEN_TO_ALL


def test_the_table_allows_no_more_than_is_used() -> None:
    files = sources(PACKAGE)
    used: dict[str, set[str]] = {place: set() for place in LAW}
    for name, text in files.items():
        if (place := name.partition(".")[0]) in LAW:
            used[place] |= {other.partition(".")[0] for other in imports(name, text, files)}
    assert {place: allowed - used[place] for place, allowed in LAW.items() if allowed - used[place]} == {}


def test_no_files_import_one_another_but_those_of_langchain() -> None:
    files = sources(PACKAGE)
    assert circles(files) == [LANGCHAIN]
    # Without its lazy half there is none.
    side = files["integrations.runnable"].replace("from quotaflow.integrations import chains", "pass")
    assert circles(files | {"integrations.runnable": side}) == []


FOR_CHECKERS = "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    from quotaflow._batch.results import BatchItem\n"
IN_A_FUNCTION = "def run() -> None:\n    from quotaflow import interface\n"


@pytest.mark.parametrize(
    ("name", "text", "breach"),
    [
        ("errors", FOR_CHECKERS, "errors imports _batch.results"),
        ("_call.logs", IN_A_FUNCTION, "_call.logs imports interface"),
        ("_batch.source", "import quotaflow._plan.plan\n", "_batch.source imports _plan.plan"),
        ("_keys.ring", "from quotaflow import LLMInterface\n", "_keys.ring imports quotaflow"),
        ("_limiter.run", "from quotaflow._keys import manager\n", "_limiter.run imports _keys.manager"),
        ("_limiter.run", "from quotaflow import errors, Batch\n", "_limiter.run imports quotaflow"),
        ("_call.logs", "import_module('quotaflow.interface')\n", "_call.logs imports interface"),
        ("_call.logs", "__import__('quotaflow.reply', fromlist=['Reply'])\n", "_call.logs imports reply"),
        ("_new.file", "", "_new is not in the table"),
    ],
)
def test_a_breach_is_found(name: str, text: str, breach: str) -> None:
    assert breaches(sources(PACKAGE) | {name: text}) == [breach]


def test_a_circle_is_found() -> None:
    files = sources(PACKAGE)
    back = files["_batch.results"] + "\nfrom quotaflow._batch.checkpoint import Checkpoint\n"
    assert {"_batch.results", "_batch.checkpoint"} in circles(files | {"_batch.results": back})


def test_every_package_says_what_it_does_who_calls_it_and_what_it_may_import() -> None:
    for name, text in sources(PACKAGE).items():
        if "." in name or f"{name}.x" == name or not (PACKAGE / name / "__init__.py").is_file() or not name:
            continue
        doc = ast.get_docstring(ast.parse(text))
        assert doc is not None, name
        first, blank, *lines = doc.splitlines()
        assert (bool(first), blank, len(lines)) == (True, "", 2), name
        told = {word.strip("`.,") for word in lines[-1].split() if word.startswith("`")}
        assert told == LAW[name], name
