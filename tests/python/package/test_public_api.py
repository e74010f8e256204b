"""The public names: sorted, documented, the same for type checkers."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import quotaflow
from quotaflow import errors, records

if TYPE_CHECKING:
    from types import ModuleType


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
