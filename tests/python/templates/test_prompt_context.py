"""`prepare_prompt_with_context`: data is never taken for a template."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

from quotaflow import InvalidArgumentError, LLMInterface, prepare_prompt_with_context

if TYPE_CHECKING:
    from collections.abc import Mapping

CASES: list[tuple[str, dict[str, Any], str]] = [
    ("Dear $name,", {"name": "Ada"}, "Dear Ada,"),
    ("${name}s and $names", {"name": "cat"}, "cats and $names"),
    ("$a$b", {"a": "$b", "b": "$a"}, "$b$a"),
    ("$a", {"a": "${a} $$ $a"}, "${a} $$ $a"),
    ("$unknown ${unknown} $known", {"known": 1}, "$unknown ${unknown} 1"),
    ("for $$5, $$name", {"name": "x"}, "for $5, $name"),
    ("[$nothing]", {"nothing": None}, "[]"),
    ("$number $yes $list", {"number": 1.5, "yes": True, "list": [1, "a"]}, "1.5 True [1, 'a']"),
    ("50$ $ $1 ${not a name} ${", {"1": "x"}, "50$ $ $1 ${not a name} ${"),
    ("$na\N{LATIN SMALL LETTER I WITH DIAERESIS}ve", {"na": "x"}, "x\N{LATIN SMALL LETTER I WITH DIAERESIS}ve"),
    ("", {"name": "x"}, ""),
    ("no names\r\n", {}, "no names\r\n"),
]


@pytest.mark.parametrize(("template", "data", "text"), CASES)
def test_names_are_filled_in_once(template: str, data: Mapping[str, Any], text: str) -> None:
    assert prepare_prompt_with_context(template, data) == text
    assert prepare_prompt_with_context(template, MappingProxyType(data)) == text
    assert LLMInterface({}, state="memory").prepare_prompt_with_context(template, data) == text


def test_only_what_the_template_names_is_made_text() -> None:
    class Costly:
        def __str__(self) -> str:
            raise AssertionError("nobody asked for this")

    assert prepare_prompt_with_context("$cheap", {"cheap": 1, "costly": Costly()}) == "1"


@pytest.mark.parametrize(
    ("template", "data", "wrong"),
    [(None, {}, "template"), (b"$a", {}, "template"), ("$a", None, "data"), ("$a", [("a", 1)], "data")],
)
def test_anything_else_is_refused(template: Any, data: Any, wrong: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{wrong} is of type") as caught:
        prepare_prompt_with_context(template, data)
    assert caught.value.hint
