"""Answers that cannot be read: one repair round; answers that were cut off."""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, field_validator

from answer_servers import Sayer, interface
from quotaflow import InvalidArgumentError, ParseError, ResponseFormat, ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quotaflow import LLMInterface


@dataclass
class Town:
    name: str
    people: int


@dataclass
class Place:
    x: float


class Roman(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return {"Rome": "Roma"}[name]


class Sized(BaseModel):
    x: float


@dataclass
class Towns:
    best: Roman
    others: list[Roman]


@dataclass
class Lettered:
    name: str
    letters: InitVar[int]


@dataclass
class Numbered:
    name: str
    first: InitVar[int] = 1


@pytest.fixture
def sayer() -> Iterator[Sayer]:
    made = Sayer()
    with made.server:
        yield made


@pytest.fixture
def llm(sayer: Sayer) -> Iterator[LLMInterface]:
    with interface(sayer) as made:
        yield made


@pytest.mark.parametrize(
    ("shape", "wrong", "says", "right", "parsed"),
    [
        (
            Town, '{"name": "x", "people": ' + "9" * 5_000 + "}", "too many digits",
            '{"name": "x", "people": 1}', Town("x", 1),
        ),
        (Place, '{"x": ' + "9" * 400 + "}", "too large", '{"x": 1}', Place(1.0)),
        (Place, '{"x": 1e999}', "too large", '{"x": 1.5}', Place(1.5)),
        (list[Any], "[-1e999]", "too large", "[1]", [1]),
        ({"type": "array"}, "[1e999]", "", "[1]", [1]),
        ({"type": "array"}, "[" + "9" * 5_000 + "]", "", "[1]", [1]),
        (Sized, '{"x": 1e999}', "too large", '{"x": 1}', Sized(x=1)),
        (Roman, '{"name": "Oslo"}', "KeyError: 'Oslo'", '{"name": "Rome"}', Roman.model_construct(name="Roma")),
        (list[int], "[" * 100_000 + "]" * 100_000, "", "[1]", [1]),
    ],
)  # fmt: skip
def test_whatever_a_reader_does_not_get_through_is_repaired(
    llm: LLMInterface, sayer: Sayer, shape: Any, wrong: str, says: str, right: str, parsed: Any
) -> None:
    sayer.texts = [wrong, right]
    reply = llm.send_prompt("Hi", model="gpt-4o-mini", response_format=shape)
    assert (reply.parsed, reply.repaired) == (parsed, True)
    assert says in sayer.bodies[-1]["messages"][-1]["content"]
    sayer.texts = [wrong]
    with pytest.raises((ParseError, ValidationError)):
        llm.send_prompt("Hi", model="gpt-4o-mini", response_format=shape)


def test_openais_own_words_raise_nothing_here_either(llm: LLMInterface, sayer: Sayer) -> None:
    sayer.texts = ['{"people": ' + "9" * 5_000 + "}"]
    reply = llm.send_prompt("Hi", model="gpt-4o-mini", response_format={"type": "json_object"})
    assert reply.parsed is None


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ({"type": "integer"}, "2800"),
        ({"type": "number"}, "It is\n28.5"),
        (list[int], "Options [1]. Answer: [1, 2, 3"),
        (Town, 'Draft: {"name": "draft", "people": 1}. Final: {"name": "Ro'),
    ],
)
def test_a_cut_answer_is_never_taken_for_whole(llm: LLMInterface, sayer: Sayer, shape: Any, text: str) -> None:
    sayer.texts = [(text, "length")]
    with pytest.raises(ParseError, match="cut off by max_tokens") as caught:
        llm.send_prompt("Hi", model="gpt-4o-mini", response_format=shape)
    assert (caught.value.text, caught.value.finish_reason, len(sayer.bodies)) == (text, "length", 1)


def test_what_was_whole_before_the_cut_is_an_answer(llm: LLMInterface, sayer: Sayer) -> None:
    for shape, text, parsed in (
        (list[int], "[1, 2]", [1, 2]),
        (Town, '{"name": "Rome", "people": 3} is wh', Town("Rome", 3)),
        ({"type": "string"}, '"a1"', "a1"),
    ):
        sayer.texts = [(text, "length")]
        assert llm.send_prompt("Hi", model="gpt-4o-mini", response_format=shape).parsed == parsed
    sayer.texts = ["2800"]
    assert llm.send_prompt("Hi", model="gpt-4o-mini", response_format={"type": "integer"}).parsed == 2800


def test_what_no_answer_can_give_is_refused_at_the_door(llm: LLMInterface, sayer: Sayer) -> None:
    with pytest.raises(InvalidArgumentError, match="Lettered is made with letters, which is no field") as caught:
        llm.send_prompt("Hi", model="gpt-4o-mini", response_format=Lettered)
    assert caught.value.hint
    assert sayer.bodies == []
    sayer.texts = ['{"name": "Rome"}']
    assert llm.send_prompt("Hi", model="gpt-4o-mini", response_format=Numbered).parsed == Numbered("Rome")


def test_pydantic_models_stand_inside_of_other_types() -> None:
    rome = Roman(name="Rome")
    assert ResponseFormat(list[Roman]).read('[{"name": "Rome"}]') == ([rome], [])
    shape = ResponseFormat(Towns)
    assert shape.read('{"best": {"name": "Rome"}, "others": [{"name": "Rome"}]}') == (Towns(rome, [rome]), [])
    assert shape.read('{"best": {"name": "Rome"}, "others": [{"name": "Rome"}, {"name": 1}]}') == (
        None, ["others.1.name: Input should be a valid string"],
    )  # fmt: skip
    assert shape.read('{"best": {"name": "Oslo"}, "others": []}') == (None, ["best: KeyError: 'Oslo'"])
    assert shape.schema["properties"]["best"]["properties"] == {"name": {"title": "Name", "type": "string"}}
    assert ResponseFormat(Roman | None).read("null") == (None, [])


def test_parts_of_models_keep_their_names_apart() -> None:
    class Ring(BaseModel):
        inner: Ring | None = None

    @dataclass
    class Both:
        own: Ring
        other: OtherRing

    Both.__annotations__ = {"own": Ring, "other": OtherRing}
    Ring.model_rebuild(_types_namespace={"Ring": Ring})
    shape = ResponseFormat(Both)
    assert shape.schema["properties"] == {"own": {"$ref": "#/$defs/Ring"}, "other": {"$ref": "#/$defs/Ring_"}}
    read, faults = shape.read('{"own": {"inner": {}}, "other": {"size": 2}}')
    assert faults == []
    assert (read.own.inner.inner, read.other.size) == (None, 2)


@dataclass
class OtherRing:
    size: int


OtherRing.__name__ = "Ring"
