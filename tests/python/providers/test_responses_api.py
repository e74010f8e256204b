"""OpenAI's Responses API, where a config names it as the dialect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from quotaflow import ConfigError, InvalidArgumentError, LLMInterface, StreamInterrupted
from quotaflow.testing import simulator
from servers import Server, http
from streaming_servers import HEAD, MODEL, event, in_turn, interface

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import Request

RESPONSES = {"providers": {"openai": {"dialect": "responses"}}}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
RATE = "Rate limit reached on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in {}."


def message(*texts: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}


def call(arguments: str) -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": "weather",
        "arguments": arguments,
    }


def response(*output: dict[str, Any], status: str = "completed", **fields: Any) -> dict[str, Any]:
    usage = {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 12,
    }
    known = {"id": "resp_1", "object": "response", "model": MODEL, "error": None, "usage": usage}
    return known | {"status": status, "output": list(output)} | fields


def streamed(*events: dict[str, Any]) -> bytes:
    return HEAD + b"".join(event(each, str(each["type"])) for each in events)


def said(*texts: str) -> bytes:
    """A whole stream of a text."""
    deltas = [
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": text}
        for text in texts
    ]
    whole = response(message("".join(texts)))
    return streamed(
        {"type": "response.created", "response": response(status="in_progress", usage=None)},
        *deltas,
        {"type": "response.completed", "response": whole},
    )


def refused(wait: str) -> bytes:
    """A stream that begins with a 200 and fails for a rate limit before it says anything."""
    error = {"code": "rate_limit_exceeded", "message": RATE.format(wait)}
    return streamed(
        {"type": "response.created", "response": response(status="in_progress", usage=None)},
        {"type": "response.failed", "response": response(status="failed", usage=None, error=error)},
    )


def test_a_prompt_is_an_input_and_its_answer_a_reply() -> None:
    with in_turn(http(response(message("Par", "is")))) as server:
        llm = interface(server, RESPONSES)
        reply = llm.send_prompt("Capital of France?", system="Be brief.", model=MODEL, max_tokens=64)
        assert (reply, reply.provider, reply.finish_reason) == ("Paris", "openai", "stop")
        assert reply.usage is not None
        usage = reply.usage
        assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens) == (9, 3, 4)
        (asked,) = server.asked
        assert asked.path == "/v1/responses"
        assert asked.headers["authorization"] == "Bearer sk-test-1"
        assert asked.json == {
            "model": MODEL,
            "instructions": "Be brief.",
            "input": [{"type": "message", "role": "user", "content": "Capital of France?"}],
            "max_output_tokens": 64,
            "store": False,
        }


def test_others_are_asked_in_their_own() -> None:
    with in_turn(http({"choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}]})) as server:
        assert interface(server).send_prompt("Capital of France?", model=MODEL) == "Paris"
        assert server.asked[0].path == "/v1/chat/completions"
    with pytest.raises(ConfigError, match="dialect"):
        LLMInterface({"providers": {"anthropic": {"dialect": "responses"}}}, state="memory")


def test_a_server_of_ones_own_may_speak_it() -> None:
    with in_turn(http(response(message("Paris")))) as server:
        config = {"providers": {"mine": {"base_url": f"{server.url}/v1", "dialect": "responses"}}}
        llm = LLMInterface(config, state="memory")
        assert llm.send_prompt("Capital of France?", provider="mine", model="m") == "Paris"
        assert server.asked[0].path == "/v1/responses"
        assert "authorization" not in server.asked[0].headers


def test_a_parameter_it_has_no_word_for_is_refused_before_anything_is_sent() -> None:
    with in_turn(http(response(message("Paris")))) as server:
        with pytest.raises(InvalidArgumentError, match="seed"):
            interface(server, RESPONSES).send_prompt("Hi", model=MODEL, seed=7)
        assert not server.asked


def test_tools_are_called_and_answered() -> None:
    with in_turn(http(response(call('{"city": "Oslo"}'))), http(response(message("Rain.")))) as server:
        llm = interface(server, RESPONSES)
        first = llm.send_prompt("Weather in Oslo?", model=MODEL, tools=[TOOL])
        assert (first, first.finish_reason) == ("", "tool_calls")
        assert first.tool_calls == [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
            }
        ]
        conversation: list[dict[str, Any]] = [
            {"role": "user", "content": "Weather in Oslo?"},
            {"role": "assistant", "content": None, "tool_calls": list(first.tool_calls)},
            {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        ]
        assert llm.send_prompt(conversation, model=MODEL, tools=[TOOL]) == "Rain."
        flat = server.asked[0].json["tools"][0]
        assert (flat["type"], flat["name"], flat["strict"]) == ("function", "weather", False)
        assert server.asked[1].json["input"][1:] == [
            {
                "type": "function_call",
                "call_id": "call_1",
                "name": "weather",
                "arguments": '{"city": "Oslo"}',
            },
            {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
        ]


@dataclass
class Town:
    name: str
    people: int


@pytest.mark.parametrize("in_pieces", [False, True])
def test_an_answer_has_the_shape_that_was_asked_for(in_pieces: bool) -> None:
    text = '{"name": "Rome", "people": 3}'
    with in_turn(said(text[:9], text[9:]) if in_pieces else http(response(message(text)))) as server:
        llm = interface(server, RESPONSES)
        if in_pieces:
            stream = llm.stream_prompt("Which town?", model=MODEL, response_format=Town)
            list(stream)
            reply = stream.reply
        else:
            reply = llm.send_prompt("Which town?", model=MODEL, response_format=Town)
        assert reply.parsed == Town("Rome", 3)
        wanted = server.asked[0].json["text"]["format"]
        assert (wanted["type"], wanted["name"], wanted["strict"]) == ("json_schema", "Town", True)


def test_an_answer_comes_in_pieces() -> None:
    with in_turn(said("Pa", "ris")) as server:
        stream = interface(server, RESPONSES).stream_prompt("Capital of France?", model=MODEL)
        assert list(stream) == ["Pa", "ris"]
        assert (stream.reply, stream.reply.finish_reason) == ("Paris", "stop")
        assert stream.reply.usage is not None
        assert stream.reply.usage.output_tokens == 3
        asked = server.asked[0].json
        assert asked["stream"] is True
        assert "stream_options" not in asked


def test_a_429_inside_a_stream_is_waited_out_before_the_first_piece() -> None:
    with in_turn(refused("120ms"), said("Paris")) as server:
        llm = interface(server, RESPONSES)
        stream = llm.stream_prompt("Capital of France?", model=MODEL, retry_delay=0.01)
        assert list(stream) == ["Paris"]
        first, last = stream.reply.attempts
        assert (first.failure, first.status) == ("rate_limited", 429)
        assert last.failure is None
        assert len(server.asked) == 2
        assert stream.reply.latency >= 0.12


def test_a_429_inside_a_stream_that_lasts_too_long_goes_to_the_fallback() -> None:
    chat = {"choices": [{"index": 0, "delta": {"content": "Rome"}, "finish_reason": "stop"}]}

    def answer(request: Request) -> Iterator[bytes]:
        yield refused("400s") if request.path.endswith("/responses") else HEAD + event(chat) + event("[DONE]")

    with Server(answer) as server:
        other = {"base_url": f"{server.url}/v1"}
        config = {
            "providers": RESPONSES["providers"] | {"other": other},
            "models": {
                "default": {"provider": "openai", "model": MODEL},
                "fallback": [{"provider": "other", "model": "m"}],
            },
        }
        llm = interface(server, config)
        stream = llm.stream_prompt("Capital of Italy?")
        assert list(stream) == ["Rome"]
        assert stream.reply.provider == "other"
        assert [request.path for request in server.asked] == ["/v1/responses", "/v1/chat/completions"]


def test_what_breaks_off_is_no_answer() -> None:
    whole = said("Par", "is")
    with in_turn(whole[: whole.index(b"event: response.completed")]) as server:
        pieces: list[str] = []
        with pytest.raises(StreamInterrupted) as caught:
            pieces.extend(interface(server, RESPONSES).stream_prompt("Capital?", model=MODEL))
        assert (pieces, caught.value.text, caught.value.failure) == (["Par", "is"], "Paris", "network")


def test_an_answer_given_again_is_one_of_the_same_dialect() -> None:
    with in_turn(http(response(message("Paris")))) as server:
        llm = interface(server, RESPONSES)
        assert llm.send_prompt("Capital of France?", model=MODEL, cache=True) == "Paris"
        again = llm.send_prompt("Capital of France?", model=MODEL, cache=True)
        assert (again, again.cached, len(server.asked)) == ("Paris", True, 1)


@pytest.mark.parametrize("then", ["end", "reset", "error", {"error": 429}])
def test_it_streams_against_the_stand_in(then: Any) -> None:
    with simulator(keys=[{"key": "sk-test-1", "provider": "openai"}]) as world:
        usual: dict[str, Any] = {"keys": world.keys, "base_urls": world.base_urls, "state": "memory"}
        llm = LLMInterface(RESPONSES, **usual)
        stream = llm.stream_prompt("Name a river.", model=MODEL)
        assert len(list(stream)) == 4
        assert stream.reply == llm.send_prompt("Name a river.", model=MODEL) == "answer to: Name a river."
        assert llm.send_prompt("Name a river.", model=MODEL).usage == stream.reply.usage
        world.add_faults({"when": {"stream": True}, "do": {"after": 2, "then": then}})
        with pytest.raises(StreamInterrupted):
            list(llm.stream_prompt("Name a river.", model=MODEL))
