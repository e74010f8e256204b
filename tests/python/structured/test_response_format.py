"""`response_format` of one answer, at every kind of provider."""

from __future__ import annotations

import asyncio
import json
import pickle
import re
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from answer_servers import MODELS, Sayer, interface
from quotaflow import (
    AnswerError,
    InvalidArgumentError,
    InvalidRequestError,
    ParseError,
    Reply,
    ResponseFormat,
    ValidationError,
)
from servers import Server, http

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class City(BaseModel):
    """A city."""

    name: str
    people: int = Field(gt=0)


@dataclass
class Town:
    name: str
    people: int


SCHEMA = {
    "title": "a place",
    "type": "object",
    "properties": {"name": {"type": "string"}, "people": {"type": "integer", "minimum": 1}},
    "required": ["name", "people"],
}
ROME = '{"name": "Rome", "people": 2800000}'
PARSED = {"name": "Rome", "people": 2_800_000}
SHAPES = [
    (City, City(**PARSED)),  # type: ignore[arg-type]
    (Town, Town(**PARSED)),  # type: ignore[arg-type]
    (SCHEMA, PARSED),
    (TypeAdapter(City), City(**PARSED)),  # type: ignore[arg-type]
]


@pytest.fixture
def sayer() -> Iterator[Sayer]:
    made = Sayer()
    with made.server:
        yield made


@pytest.fixture(params=["send_prompt", "asend_prompt"])
def ask(request: pytest.FixtureRequest, sayer: Sayer) -> Iterator[Callable[..., Reply]]:
    """Sends both ways, to OpenAI unless told otherwise."""
    with interface(sayer) as llm:

        def send(prompt: Any = "Name a city.", **arguments: Any) -> Reply:
            arguments = {"provider": "openai", "model": "gpt-4o-mini"} | arguments
            if request.param == "send_prompt":
                return llm.send_prompt(prompt, **arguments)
            return asyncio.run(llm.asend_prompt(prompt, **arguments))

        yield send


@pytest.mark.parametrize(("shape", "parsed"), SHAPES)
def test_every_kind_of_shape_is_read(ask: Callable[..., Reply], sayer: Sayer, shape: Any, parsed: Any) -> None:
    sayer.texts = [ROME]
    reply = ask(response_format=shape)
    assert (reply, reply.parsed, reply.repaired) == (ROME, parsed, False)
    assert type(reply.parsed) is type(parsed)
    [body] = sayer.bodies
    form = body["response_format"]["json_schema"]
    assert form["strict"] is True
    assert list(form["schema"]["properties"]) == ["name", "people"]
    assert re.fullmatch(r"[\w-]{1,64}", form["name"])


def test_each_provider_is_asked_in_its_own_way(ask: Callable[..., Reply], sayer: Sayer) -> None:
    sayer.texts = [ROME]
    for provider, model in MODELS.items():
        assert ask(provider=provider, model=model, response_format=City).parsed == City(
            name="Rome", people=2_800_000
        )
    openai, anthropic, gemini, deepseek = sayer.bodies
    assert openai["response_format"]["json_schema"]["name"] == "City"
    assert anthropic["output_config"]["format"]["schema"]["additionalProperties"] is False
    assert gemini["generationConfig"]["responseMimeType"] == "application/json"
    assert gemini["generationConfig"]["responseJsonSchema"]["required"] == ["name", "people"]
    assert deepseek["response_format"] == {"type": "json_object"}
    [told] = deepseek["messages"]
    assert told["content"].startswith("Name a city.\n\nAnswer with JSON only")
    assert json.dumps(City.model_json_schema(), separators=(",", ":")) in told["content"]
    assert "JSON" not in json.dumps([openai["messages"], anthropic["messages"], gemini["contents"]])


def test_a_fallback_is_asked_in_its_own_way_too(sayer: Sayer) -> None:
    sayer.texts = [http({"error": {"message": "no such model", "code": "model_not_found"}}, 404), ROME]
    config = {
        "models": {
            "default": {"provider": "openai", "model": "gpt-4o-mini"},
            "fallback": [{"provider": "deepseek", "model": "deepseek-chat"}],
        }
    }
    with interface(sayer, config) as llm:
        reply = llm.send_prompt("Name a city.", response_format=Town)
    assert (reply.provider, reply.parsed) == ("deepseek", Town("Rome", 2_800_000))
    assert [body["response_format"]["type"] for body in sayer.bodies] == ["json_schema", "json_object"]


@pytest.mark.parametrize(
    "text",
    [
        f"Sure! Here it is:\n```json\n{ROME}\n```\nAnything else?",
        f'<think>A city... {{"name": "Oslo", "people": 1}}?</think>\n\n{ROME}',
        f"One of [Rome, Oslo] would be {ROME}.",
        f'[1] First {{"name": "Rome"}}, but whole: {ROME}',
        json.dumps(PARSED, indent=2),
    ],
)
def test_what_stands_around_the_json_is_left_out(ask: Callable[..., Reply], sayer: Sayer, text: str) -> None:
    sayer.texts = [text]
    reply = ask(response_format=City)
    assert (reply, reply.parsed) == (text, City(name="Rome", people=2_800_000))
    assert len(sayer.bodies) == 1


@pytest.mark.parametrize("provider", MODELS)
def test_a_wrong_answer_is_repaired_once(ask: Callable[..., Reply], sayer: Sayer, provider: str) -> None:
    wrong = '{"name": "Rome", "people": "many"}'
    sayer.texts = [wrong, ROME]
    reply = ask(
        provider=provider, model=MODELS[provider], response_format=City, temperature=0.5, system="Be brief."
    )
    assert (reply.parsed, reply.repaired) == (City(name="Rome", people=2_800_000), True)
    assert len(reply.attempts) == 2
    assert reply.usage is not None
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (20, 10)
    first, second = (json.dumps(body) for body in sayer.bodies)
    assert "0.5" in second
    assert "Be brief." in second
    assert "people: Input should be a valid integer" in second
    assert json.dumps(wrong)[1:-1] in second
    assert "people: Input" not in first


def test_messages_keep_their_places_in_a_repair(ask: Callable[..., Reply], sayer: Sayer) -> None:
    sayer.texts = ["Rome", ROME]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a city."}]
    assert ask(messages, response_format=Town).repaired
    *before, said, asked = sayer.bodies[1]["messages"]
    assert before == messages
    assert said == {"role": "assistant", "content": "Rome"}
    assert "there is no JSON in the answer" in asked["content"]


def test_an_empty_answer_leaves_no_empty_turn(ask: Callable[..., Reply], sayer: Sayer) -> None:
    sayer.texts = ["", ROME]
    assert ask(response_format=Town).repaired
    assert [message["role"] for message in sayer.bodies[1]["messages"]] == ["user", "user"]


def test_what_stays_wrong_is_an_error_with_everything(ask: Callable[..., Reply], sayer: Sayer) -> None:
    sayer.texts = ['{"name": 1}', "[1]"]
    with pytest.raises(ValidationError, match="has another shape: is a list, not an object") as caught:
        ask(response_format=Town)
    error = caught.value
    assert (error.text, error.errors) == ("[1]", ("is a list, not an object",))
    assert (error.provider, error.model, error.finish_reason) == ("openai", "gpt-4o-mini", "stop")
    assert (len(error.attempts), error.usage and error.usage.total_tokens) == (2, 30)
    assert isinstance(error, AnswerError)
    assert isinstance(error, ValueError)
    # Both answers were paid: 20 + 10 tokens at $0.15 and $0.60 a million.
    assert error.cost == Decimal("0.000009")
    again = pickle.loads(pickle.dumps(error))
    assert (again.text, again.errors, again.usage) == (error.text, error.errors, error.usage)
    assert again.cost == error.cost
    sayer.texts = ["Rome."]
    with pytest.raises(ParseError, match="there is no JSON in the answer") as missing:
        ask(response_format=Town)
    assert missing.value.text == "Rome."


def test_without_repair_there_is_one_call(ask: Callable[..., Reply], sayer: Sayer) -> None:
    sayer.texts = ['{"name": "Rome"}', ROME]
    with pytest.raises(ValidationError, match="people: is missing"):
        ask(response_format=ResponseFormat(Town, repair=False))
    assert len(sayer.bodies) == 1


@pytest.mark.parametrize("provider", MODELS)
def test_a_cut_answer_names_max_tokens_and_costs_no_second_call(
    ask: Callable[..., Reply], sayer: Sayer, provider: str
) -> None:
    for text in ('{"name": "Rome", "peo', "", '{"place": {"name": "Rome", "people": 3}, "b'):
        sayer.texts = [(text, "length")]
        with pytest.raises(ParseError, match="cut off by max_tokens after 5 tokens") as caught:
            ask(provider=provider, model=MODELS[provider], response_format=City, max_tokens=5)
        assert (caught.value.text, caught.value.finish_reason) == (text, "length")
    assert len(sayer.bodies) == 3
    # Cut off behind the answer is whole.
    sayer.texts = [(f"{ROME}\n\nI chose Ro", "length")]
    assert ask(provider=provider, model=MODELS[provider], response_format=Town).parsed == Town("Rome", 2_800_000)


def test_a_refusal_is_named_and_costs_no_second_call(ask: Callable[..., Reply], sayer: Sayer) -> None:
    sayer.texts = [("I cannot do that.", "content_filter")]
    with pytest.raises(ParseError, match="refused to answer") as caught:
        ask(response_format=City)
    assert (caught.value.text, len(sayer.bodies)) == ("I cannot do that.", 1)


def test_a_repair_that_fails_leaves_the_first_error(ask: Callable[..., Reply], sayer: Sayer) -> None:
    sayer.texts = ["Rome.", http({"error": {"message": "wrong", "type": "invalid_request_error"}}, 400)]
    with pytest.raises(ParseError) as caught:
        ask(response_format=Town)
    assert isinstance(caught.value.__cause__, InvalidRequestError)
    assert (caught.value.text, [attempt.status for attempt in caught.value.attempts]) == ("Rome.", [200, 400])


def test_the_second_round_has_what_is_left_of_the_time(
    ask: Callable[..., Reply], sayer: Sayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([100.0, 130.0, 200.0, 261.0])
    monkeypatch.setattr("quotaflow._structured.repair.monotonic", lambda: next(clock))
    sayer.texts = ["Rome.", ROME]
    assert ask(response_format=Town, timeout=timedelta(seconds=60)).repaired
    sayer.texts = ["Rome.", ROME]
    with pytest.raises(ParseError):
        ask(response_format=Town, timeout=60)
    assert len(sayer.bodies) == 3
    sayer.texts = ["Rome.", ROME]
    monkeypatch.setattr("quotaflow._structured.repair.monotonic", lambda: 0.0)
    monkeypatch.setattr("quotaflow._structured.repair.now", lambda: 4e9)
    with pytest.raises(ParseError):
        ask(response_format=Town, deadline=3.9e9)
    assert len(sayer.bodies) == 4


def test_both_rounds_have_the_configured_time_together(sayer: Sayer, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 130.0, 200.0, 261.0, 300.0, 391.0])
    monkeypatch.setattr("quotaflow._structured.repair.monotonic", lambda: next(clock))
    with interface(sayer, {"timeouts": {"call": 60}}) as llm:
        sayer.texts = ["Rome.", ROME]
        assert llm.send_prompt("Hi", model="gpt-4o-mini", response_format=Town).repaired
        sayer.texts = ["Rome.", ROME]
        with pytest.raises(ParseError):
            asyncio.run(llm.asend_prompt("Hi", model="gpt-4o-mini", response_format=Town))
        assert len(sayer.bodies) == 3
        # Its own timeout takes the place of the configured one.
        sayer.texts = ["Rome.", ROME]
        assert llm.send_prompt("Hi", model="gpt-4o-mini", response_format=Town, timeout=100).repaired
    assert len(sayer.bodies) == 5


def test_errors_as_text_are_text_here_too(sayer: Sayer) -> None:
    with interface(sayer, errors="text") as llm:
        sayer.texts = ["Rome."]
        reply = llm.send_prompt("Hi", model="gpt-4o-mini", response_format=Town)
        assert reply == "[LLM Error: there is no JSON in the answer]"
        assert isinstance(reply.error, ParseError)
        assert (reply.parsed, reply.usage and reply.usage.total_tokens) == (None, 30)
        sayer.texts = ["Rome.", http({"error": {"message": "wrong"}}, 400)]
        reply = llm.send_prompt("Hi", model="gpt-4o-mini", response_format=Town)
        assert isinstance(reply.error, ParseError)
        assert len(reply.attempts) == 2
        sayer.texts = [http({"error": {"message": "wrong"}}, 400)]
        reply = llm.send_prompt("Hi", model="gpt-4o-mini", response_format=Town)
        assert isinstance(reply.error, InvalidRequestError)


def test_openais_own_words_go_out_as_they_are_and_are_read(ask: Callable[..., Reply], sayer: Sayer) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    wanted: Any
    for wanted in (form, {"type": "json_object"}):
        sayer.texts = [ROME]
        assert ask(response_format=wanted).parsed == PARSED
        assert sayer.bodies[-1]["response_format"] == wanted
        sayer.texts = ["Rome"]
        reply = ask(response_format=wanted)
        assert (reply, reply.parsed, reply.repaired) == ("Rome", None, False)
    for wanted in ({"type": "text"}, {"type": "json_schema"}, None):
        reply = ask(response_format=wanted)
        assert (reply, reply.parsed) == ("Rome", None)
    sayer.texts = ["[]", ROME]
    assert ask(response_format=ResponseFormat(form)).repaired


def test_a_call_of_a_tool_is_no_wrong_answer(sayer: Sayer) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    sayer.texts = [http({"choices": [{"message": message, "finish_reason": "tool_calls"}]})]
    with interface(sayer) as llm:
        tools = [{"type": "function", "function": {"name": "look"}}]
        reply = llm.send_prompt("Look.", model="gpt-4o-mini", tools=tools, response_format=City)
    assert (reply.parsed, reply.tool_calls[0]["id"], len(sayer.bodies)) == (None, "c1", 1)


def test_a_parsed_reply_survives_pickling(ask: Callable[..., Reply], sayer: Sayer) -> None:
    sayer.texts = ["?", ROME]
    again = pickle.loads(pickle.dumps(ask(response_format=Town)))
    assert (again, again.parsed, again.repaired) == (ROME, Town("Rome", 2_800_000), True)
    assert Reply("x").parsed is None
    assert Reply("x").repaired is False


class Odd(BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    thing: Server


@dataclass
class Holds:
    thing: Server


@dataclass
class Lost:
    thing: Nowhere  # type: ignore[name-defined] # noqa: F821


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (3, "is of type int"),
        ("json", "is of type str"),
        (int, "is int, which is no shape"),
        (Server, "is Server, which is no shape"),
        (City(name="x", people=1), "is of type City"),
        (Town("x", 1), "is of type Town"),
        ({}, "is empty"),
        ({"type": "objekt"}, "holds no JSON schema"),
        ({"properties": 3}, "holds no JSON schema"),
        ({"$ref": "https://example.com/schema.json"}, "holds no JSON schema"),
        ({"name": "string"}, "has nothing that a JSON schema has"),
        ({"type": "object", "default": object()}, "cannot be written as JSON"),
        (Odd, "Odd cannot be said as a JSON schema"),
        (Holds, "Holds.thing is of the type Server"),
        (Lost, "the types of Lost cannot be found"),
        (dict[int, str], "keys that are no text"),
        ([City], "is of type list"),
    ],
)
def test_what_is_no_shape_is_refused_at_the_door(
    ask: Callable[..., Reply], sayer: Sayer, wanted: Any, says: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=says) as caught:
        ask(response_format=wanted)
    assert caught.value.hint or "JSON schema" in says
    assert sayer.bodies == []


def test_a_response_format_is_checked_when_it_is_made() -> None:
    with pytest.raises(InvalidArgumentError, match="repair is of type"):
        ResponseFormat(City, repair=1)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="name is no text"):
        ResponseFormat(City, name=" ")
    assert ResponseFormat(ResponseFormat(City), name="a b/ü").name == "a_b__"
    assert ResponseFormat(SCHEMA).name == "a_place"
    assert ResponseFormat(list[Literal["a"]]).schema["items"] == {"enum": ["a"], "type": "string"}


def test_calls_without_a_shape_load_nothing_of_it() -> None:
    import subprocess
    import sys

    code = """
import sys
from quotaflow.testing import simulator
from quotaflow import LLMInterface
with simulator() as world, LLMInterface({}, keys=world.keys, base_urls=world.base_urls, state="memory") as llm:
    llm.send_prompt("Hi", model="gpt-4o-mini")
assert not {"quotaflow._structured.repair", "quotaflow._structured.response_format"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
