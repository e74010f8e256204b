"""Python types as JSON schemas, and JSON as their values."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from enum import Enum
from random import Random
from typing import Annotated, Any, Literal, NewType, NotRequired, TypedDict
from uuid import UUID

import pytest

from quotaflow._quotaflow import AnswerSchema
from quotaflow._structured.python_types import TypeShape

Metres = NewType("Metres", float)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Point(TypedDict):
    x: int
    note: NotRequired[str]


@dataclass
class Leaf:
    kind: Literal["leaf"]
    size: Metres


@dataclass
class Tree:
    """What grows."""

    kind: Literal["tree"]
    children: list[Tree | Leaf]
    colour: Colour = Colour.RED
    about: Annotated[str | None, "in one sentence"] = None
    tags: set[str] = field(default_factory=set)
    made: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        if len(self.children) > 2:
            raise ValueError("more children than it can carry")


def test_a_dataclass_is_said_with_all_it_holds() -> None:
    assert TypeShape(Tree).schema == {
        "type": "object",
        "properties": {
            "kind": {"enum": ["tree"], "type": "string"},
            "children": {
                "type": "array",
                "items": {"anyOf": [{"$ref": "#/$defs/Tree"}, {"$ref": "#/$defs/Leaf"}]},
            },
            "colour": {"enum": ["red", "blue"], "type": "string", "default": "red"},
            "about": {
                "anyOf": [{"type": "string"}, {"type": "null"}],
                "description": "in one sentence",
                "default": None,
            },
            "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        },
        "required": ["kind", "children"],
        "description": "What grows.",
        "$defs": {
            "Tree": TypeShape(Tree).schema["$defs"]["Tree"],
            "Leaf": {
                "type": "object",
                "properties": {"kind": {"enum": ["leaf"], "type": "string"}, "size": {"type": "number"}},
                "required": ["kind", "size"],
            },
        },
    }
    assert "$defs" not in TypeShape(Leaf).schema


def test_a_dataclass_is_made_of_json() -> None:
    leaf = {"kind": "leaf", "size": 3}
    tree = {
        "kind": "tree",
        "children": [leaf, {"kind": "tree", "children": []}],
        "colour": "blue",
        "tags": ["a", "a"],
    }
    made, faults = TypeShape(Tree).made_of(tree | {"surplus": 1})
    assert faults == []
    assert made == Tree("tree", [Leaf("leaf", Metres(3.0)), Tree("tree", [])], Colour.BLUE, None, {"a"})
    assert type(made.children[0].size) is float


@pytest.mark.parametrize(
    ("value", "faults"),
    [
        ([], ["is a list, not an object"]),
        ({"kind": "leaf"}, ["kind: is 'leaf', not one of 'tree'", "children: is missing"]),
        (
            {"kind": "tree", "children": [{"kind": "leaf", "size": "x"}, 3]},
            ["children.0.size: is a string, not a number", "children.1: is an integer, not an object"],
        ),
        ({"kind": "tree", "children": [], "colour": "pink"}, ["colour: is 'pink', not one of 'red', 'blue'"]),
        ({"kind": "tree", "children": [], "tags": None}, ["tags: is null, not a list"]),
        (
            {"kind": "tree", "children": [{"kind": "leaf", "size": 1}] * 3},
            ["more children than it can carry"],
        ),
    ],
)
def test_faults_name_their_place(value: Any, faults: list[str]) -> None:
    assert TypeShape(Tree).made_of(value) == (None, faults)


@pytest.mark.parametrize(
    ("kind", "value", "made"),
    [
        (datetime, "2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (date, "2026-01-02", date(2026, 1, 2)),
        (time, "03:04", time(3, 4)),
        (UUID, "12345678123456781234567812345678", UUID(int=0x12345678123456781234567812345678)),
        (tuple[int, str], [1, "a"], (1, "a")),
        (tuple[int, ...], [1, 2], (1, 2)),
        (frozenset[int], [1, 1], frozenset({1})),
        (dict[str, list[int]], {"a": [1]}, {"a": [1]}),
        (dict, {"a": [1]}, {"a": [1]}),
        (list, [1, "a"], [1, "a"]),
        (Any, {"a": None}, {"a": None}),
        (Point, {"x": 1, "z": 2}, {"x": 1}),
        (int, 3.0, 3),
        (Literal[1, "a"] | None, None, None),
        (int | float | None, 2, 2),
        (str | Metres, 2, 2.0),
    ],
)
def test_values_are_made_of_json(kind: Any, value: Any, made: Any) -> None:
    got = TypeShape(kind).made_of(value)
    assert got == (made, [])
    assert type(got[0]) is type(made)


@pytest.mark.parametrize(
    ("kind", "value", "fault"),
    [
        (int, True, "is true or false, not an integer"),
        (bool, 1, "is an integer, not true or false"),
        (int, 3.5, "is a number, not an integer"),
        (Literal[1], True, "is 'True', not one of 1"),
        (date, "soon", "is 'soon', not a date"),
        (tuple[int, int], [1], "is a list, not a list of 2"),
        (dict[str, int], {"a": "x"}, "a: is a string, not an integer"),
        (set[Any], [{}], "unhashable type: 'dict'"),
        (int | str, None, "is null, not an integer or a string"),
        (Point, {"note": "x"}, "x: is missing"),
    ],
)
def test_values_that_do_not_fit_are_refused(kind: Any, value: Any, fault: str) -> None:
    assert TypeShape(kind).made_of(value) == (None, [fault])


@dataclass
class Small:
    a: int


@dataclass
class Large:
    a: int
    b: int = 0


def test_of_several_ways_the_one_with_the_most_fields_holds() -> None:
    shape = TypeShape(Small | Large)
    assert shape.made_of({"a": 1, "b": 2}) == (Large(1, 2), [])
    assert shape.made_of({"a": 1}) == (Small(1), [])
    assert shape.made_of({"b": 1}) == (None, ["a: is missing"])


KINDS: list[Any] = [
    int, float, str, bool, None, Any, date, Colour, Point, Leaf, Small | Large | None, list[int], set[str],
    dict[str, float], tuple[int, str], Literal[1, "a"], int | str, list[Leaf | int],
]  # fmt: skip


def any_json(draw: Random, depth: int = 3) -> Any:
    """Some JSON, of the kind that the shapes above nearly take."""
    plain = [None, True, 0, 1, -3, 2.5, 4.0, "", "a", "red", "leaf", "2026-01-02"]
    if depth == 0 or draw.random() < 0.4:
        return draw.choice(plain)
    if draw.random() < 0.5:
        return [any_json(draw, depth - 1) for _ in range(draw.randrange(3))]
    names = draw.sample(["a", "b", "x", "kind", "size", "note"], draw.randrange(4))
    return {name: "leaf" if name == "kind" else any_json(draw, depth - 1) for name in names}


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_what_is_made_and_what_the_schema_allows_is_the_same(kind: Any) -> None:
    shape = TypeShape(kind)
    schema = AnswerSchema(json.dumps(shape.schema))
    draw = Random(7)
    taken = 0
    for _ in range(3_000):
        value = any_json(draw)
        made, faults = shape.made_of(value)
        allowed = not schema.faults(json.dumps(value))
        if not allowed and kind == set[str] and not faults:
            continue  # a schema wants lists without doubles, of which a set is made all the same
        assert allowed is (not faults), (value, faults)
        taken += allowed
    assert taken or made is None
