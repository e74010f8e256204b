"""Ollama's own API, whose streams are JSON lines, where a config names it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from quotaflow import InvalidArgumentError, InvalidPromptError, LLMInterface, StreamInterrupted
from quotaflow.testing import simulator
from servers import Server, http
from streaming_servers import in_turn, interface

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import Request

NATIVE = {"providers": {"ollama": {"dialect": "ollama"}}}
MODEL = "llama3.2"
HEAD = b"HTTP/1.1 200 Words\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n"
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
CALL = {"function": {"name": "weather", "arguments": {"city": "Oslo"}}}
BUSY = {"error": "server busy, please try again.  maximum pending requests exceeded"}
USED_UP = {"error": "you (user) have reached your weekly usage limit, upgrade for higher limits"}


def native(server: Server) -> LLMInterface:
    """An interface whose Ollama is this server, at the address that its other dialect has."""
    config = NATIVE | {"models": {"default": {"provider": "ollama", "model": MODEL}}}
    return interface(server, config, keys={}, base_urls={"ollama": f"{server.url}/v1"})


def said(content: str, **message: Any) -> dict[str, Any]:
    told = {"role": "assistant", "content": content} | message
    return {"model": MODEL, "created_at": "2026-10-21T07:27:00.5Z", "message": told, "done": False}


def ended(content: str = "", reason: str = "stop", **message: Any) -> dict[str, Any]:
    counts = {"total_duration": 5, "prompt_eval_count": 9, "eval_count": 3}
    return said(content, **message) | {"done": True, "done_reason": reason} | counts


def lines(*each: dict[str, Any]) -> bytes:
    return HEAD + b"".join(json.dumps(line).encode() + b"\n" for line in each)


def test_a_prompt_goes_there_with_its_options() -> None:
    with in_turn(http(ended("Paris"))) as server:
        reply = native(server).send_prompt("Capital of France?", system="Be brief.", max_tokens=64, num_ctx=8192)
        assert (reply, reply.provider, reply.finish_reason) == ("Paris", "ollama", "stop")
        assert reply.usage is not None
        assert (reply.usage.input_tokens, reply.usage.output_tokens) == (9, 3)
        assert reply.cost == 0
        (asked,) = server.asked
        assert (asked.path, "authorization" in asked.headers) == ("/api/chat", False)
        assert asked.json == {
            "model": MODEL,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Capital of France?"},
            ],
            "stream": False,
            "options": {"num_ctx": 8192, "num_predict": 64},
        }


def test_a_server_of_ones_own_may_speak_it() -> None:
    with in_turn(http(ended("Paris"))) as server:
        config = {
            "providers": {"mine": {"base_url": f"{server.url}/api", "dialect": "ollama", "keys": ["some-key"]}}
        }
        llm = LLMInterface(config, state="memory")
        assert llm.send_prompt("Capital of France?", provider="mine", model="m") == "Paris"
        assert (server.asked[0].path, server.asked[0].headers["authorization"]) == ("/api/chat", "Bearer some-key")


def test_what_it_has_no_word_for_is_refused_before_anything_is_sent() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    with in_turn(http(ended("Paris"))) as server:
        llm = native(server)
        with pytest.raises(InvalidArgumentError, match="native API of ollama does not take logit_bias"):
            llm.send_prompt("Hi", logit_bias={})
        with pytest.raises(InvalidPromptError, match="it fetches none"):
            llm.send_prompt([{"role": "user", "content": [picture]}])
        assert not server.asked
        picture["image_url"] = {"url": "data:image/png;base64,AAAA"}
        text = {"type": "text", "text": "What is this?"}
        assert llm.send_prompt([{"role": "user", "content": [text, picture]}]) == "Paris"
        (sent,) = server.asked[0].json["messages"]
        assert sent == {"role": "user", "content": "What is this?", "images": ["AAAA"]}


@pytest.mark.parametrize("in_pieces", [False, True])
def test_tools_are_called_and_answered(in_pieces: bool) -> None:
    first = lines(said("", tool_calls=[CALL]), ended()) if in_pieces else http(ended(tool_calls=[CALL]))
    with in_turn(first, http(ended("Rain."))) as server:
        llm = native(server)
        if in_pieces:
            stream = llm.stream_prompt("Weather in Oslo?", tools=[TOOL])
            assert list(stream) == []
            reply = stream.reply
        else:
            reply = llm.send_prompt("Weather in Oslo?", tools=[TOOL])
        assert (reply, reply.finish_reason) == ("", "tool_calls")
        (call,) = reply.tool_calls
        assert call["function"] == {"name": "weather", "arguments": '{"city":"Oslo"}'}
        conversation: list[dict[str, Any]] = [
            {"role": "user", "content": "Weather in Oslo?"},
            {"role": "assistant", "content": None, "tool_calls": list(reply.tool_calls)},
            {"role": "tool", "tool_call_id": call["id"], "content": "rain"},
        ]
        assert llm.send_prompt(conversation, tools=[TOOL]) == "Rain."
        assert server.asked[0].json["tools"] == [TOOL]
        assert server.asked[1].json["messages"][1:] == [
            {"role": "assistant", "content": "", "tool_calls": [{"id": call["id"]} | CALL]},
            {"role": "tool", "content": "rain", "tool_name": "weather", "tool_call_id": call["id"]},
        ]


@dataclass
class Town:
    name: str
    people: int


@pytest.mark.parametrize("in_pieces", [False, True])
def test_an_answer_has_the_shape_that_was_asked_for(in_pieces: bool) -> None:
    text = '{"name": "Rome", "people": 3}'
    answer = lines(said(text[:9]), said(text[9:]), ended()) if in_pieces else http(ended(text))
    with in_turn(answer) as server:
        llm = native(server)
        if in_pieces:
            stream = llm.stream_prompt("Which town?", response_format=Town)
            list(stream)
            reply = stream.reply
        else:
            reply = llm.send_prompt("Which town?", response_format=Town)
        assert reply.parsed == Town("Rome", 3)
        schema = server.asked[0].json["format"]
        assert (schema["type"], set(schema["properties"])) == ("object", {"name", "people"})


def test_an_answer_comes_in_pieces() -> None:
    with in_turn(lines(said("", thinking="Hm"), said("Pa"), said("ris"), ended())) as server:
        stream = native(server).stream_prompt("Capital of France?")
        assert list(stream) == ["Pa", "ris"]
        assert (stream.reply, stream.reply.finish_reason) == ("Paris", "stop")
        assert stream.reply.usage is not None
        assert (stream.reply.usage.input_tokens, stream.reply.usage.output_tokens) == (9, 3)
        assert server.asked[0].json["stream"] is True


def test_a_whole_answer_instead_of_lines_is_one_piece() -> None:
    with in_turn(http(ended("Paris", reason="length"))) as server:
        stream = native(server).stream_prompt("Capital of France?", max_tokens=1)
        assert (list(stream), stream.reply.finish_reason) == (["Paris"], "length")


def test_a_prompt_that_was_cached_is_not_counted() -> None:
    whole = ended("Paris")
    del whole["prompt_eval_count"]
    with in_turn(http(whole)) as server:
        usage = native(server).send_prompt("Capital of France?").usage
        assert usage is not None
        assert (usage.input_tokens, usage.output_tokens) == (0, 3)


@pytest.mark.parametrize("busy", [http(BUSY, 503), lines(BUSY)])
def test_a_full_queue_is_tried_again(busy: bytes) -> None:
    with in_turn(busy, lines(said("Paris"), ended())) as server:
        stream = native(server).stream_prompt("Capital of France?", retry_delay=0.01)
        assert list(stream) == ["Paris"]
        first, last = stream.reply.attempts
        assert (first.failure, last.failure) == ("overloaded", None)


@pytest.mark.parametrize("used_up", [http(USED_UP, 429), http({"error": "model 'llama3.2' not found"}, 404)])
def test_what_will_not_be_served_goes_to_the_fallback(used_up: bytes) -> None:
    def answer(request: Request) -> Iterator[bytes]:
        chat = {"choices": [{"message": {"content": "Rome"}, "finish_reason": "stop"}]}
        yield used_up if request.path == "/api/chat" else http(chat)

    with Server(answer) as server:
        config = {
            "providers": NATIVE["providers"] | {"other": {"base_url": f"{server.url}/v1"}},
            "models": {
                "default": {"provider": "ollama", "model": MODEL},
                "fallback": [{"provider": "other", "model": "m"}],
            },
        }
        llm = interface(server, config, keys={}, base_urls={"ollama": server.url})
        reply = llm.send_prompt("Capital of Italy?")
        assert (reply, reply.provider) == ("Rome", "other")
        assert [request.path for request in server.asked] == ["/api/chat", "/v1/chat/completions"]


@pytest.mark.parametrize(
    ("rest", "failure"),
    [
        (b"", "network"),
        (b'{"model":"llama3.2","message":{"role":"assi', "network"),
        (b'{"error":"an error was encountered while running the model"}\n', "server_error"),
    ],
)
def test_what_breaks_off_is_no_answer(rest: bytes, failure: str) -> None:
    with in_turn(lines(said("Par"), said("is")) + rest) as server:
        pieces: list[str] = []
        with pytest.raises(StreamInterrupted) as caught:
            pieces.extend(native(server).stream_prompt("Capital?"))
        assert (pieces, caught.value.text, caught.value.failure) == (["Par", "is"], "Paris", failure)


@pytest.mark.parametrize("then", ["end", "reset", "error", {"error": 429}])
def test_it_streams_against_the_stand_in(then: Any) -> None:
    with simulator(keys=[{"key": "", "label": "home", "provider": "ollama"}]) as world:
        llm = LLMInterface(NATIVE, base_urls=world.base_urls, state="memory")
        usual: dict[str, Any] = {"provider": "ollama", "model": MODEL}
        stream = llm.stream_prompt("Name a river.", **usual)
        assert len(list(stream)) == 4
        assert stream.reply == llm.send_prompt("Name a river.", **usual) == "answer to: Name a river."
        assert llm.send_prompt("Name a river.", **usual).usage == stream.reply.usage
        assert llm.send_prompt("Name a river.", options={"num_predict": 2}, **usual).finish_reason == "length"
        world.add_faults({"when": {"stream": True}, "do": {"after": 2, "then": then}})
        with pytest.raises(StreamInterrupted):
            list(llm.stream_prompt("Name a river.", **usual))
