"""The public names: sorted, documented, typed, and the same as in 0.1.0."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import quotaflow
from quotaflow import errors, records

if TYPE_CHECKING:
    from types import ModuleType

# What each module of 0.1.0 is the home of, and the members of its classes.
BEFORE = json.loads(
    (Path(__file__).parents[2] / "compatibility" / "0.1.0" / "names.json").read_text(encoding="utf-8")
)


def test_the_list_is_sorted_and_each_name_leads_to_something() -> None:
    assert quotaflow.__all__ == sorted(quotaflow.__all__)
    assert dir(quotaflow) == quotaflow.__all__
    for name in quotaflow.__all__:
        assert getattr(quotaflow, name) is not None


def test_type_checkers_and_the_interpreter_are_told_the_same() -> None:
    assert quotaflow.__file__ is not None
    tree = ast.parse(Path(quotaflow.__file__).read_text(encoding="utf-8"))
    for_checkers = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("quotaflow")
        for alias in node.names
    }
    assert for_checkers == set(quotaflow.__all__)


@pytest.mark.parametrize("module", [errors, records])
def test_every_class_a_caller_meets_is_public(module: ModuleType) -> None:
    met = {
        name
        for name, member in vars(module).items()
        if inspect.isclass(member) and member.__module__ == module.__name__
    }
    assert met - {"Facts"} <= set(quotaflow.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'LLMInterfaces'"):
        quotaflow.LLMInterfaces  # noqa: B018


def test_everything_public_is_documented() -> None:
    for name in set(quotaflow.__all__) - {"__version__"}:
        thing = getattr(quotaflow, name)
        assert inspect.getdoc(thing), name
        if inspect.isclass(thing):
            for member_name, member in vars(thing).items():
                if not member_name.startswith("_") and (callable(member) or isinstance(member, property)):
                    assert inspect.getdoc(member), f"{name}.{member_name}"


def test_both_ways_to_send_take_the_same() -> None:
    sync = inspect.signature(quotaflow.LLMInterface.send_prompt)
    assert sync == inspect.signature(quotaflow.LLMInterface.asend_prompt)


def test_so_do_both_ways_to_stream_and_a_little_more() -> None:
    ways = (quotaflow.LLMInterface.stream_prompt, quotaflow.LLMInterface.astream_prompt)
    one, other = (inspect.signature(way).parameters for way in ways)
    assert one == other
    send = inspect.signature(quotaflow.LLMInterface.send_prompt).parameters
    assert {name: one[name] for name in send} == dict(send)
    assert set(one) - set(send) == {"resume", "idle_timeout"}


def test_the_names_are_those_of_0_1_0() -> None:
    assert BEFORE["names"]["quotaflow"] == quotaflow.__all__


@pytest.mark.parametrize("module", BEFORE["names"])
def test_each_module_of_0_1_0_can_be_imported_and_has_its_names(module: str) -> None:
    found = importlib.import_module(module)
    for name in BEFORE["names"][module]:
        thing = getattr(found, name)
        if name in quotaflow.__all__:
            assert thing is getattr(quotaflow, name)


# Beside public names: what pickles of 0.1.0 name.
PRIVATE = {"quotaflow.batches": "Results", "quotaflow.key_manager": "_made_again", "quotaflow.pieces": "_restore"}


@pytest.mark.parametrize("module", BEFORE["names"])
def test_a_pickle_may_name_what_a_module_of_0_1_0_held(module: str) -> None:
    names = [*BEFORE["names"][module], *filter(None, [PRIVATE.get(module)])]
    for name in names:
        assert pickle.loads(f"c{module}\n{name}\n.".encode()) is getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("name", BEFORE["members"])
def test_each_class_has_the_members_of_0_1_0(name: str) -> None:
    members = {member for member in dir(getattr(quotaflow, name)) if not member.startswith("_")}
    assert members == set(BEFORE["members"][name])


def test_modules_of_0_1_0_are_loaded_only_when_they_are_named() -> None:
    code = (
        "import sys, quotaflow; from quotaflow import Batch, Plan, retrying\n"
        "print(*sorted(name for name in sys.modules if 'former' in name or name == 'quotaflow.batches'))\n"
        "from quotaflow.batches import Batch as before; print(before is Batch)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.split("\n") == ["", "True", ""]
