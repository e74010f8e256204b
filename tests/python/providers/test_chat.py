"""Prompts in each provider's own dialect, and its answers in one shape."""

from __future__ import annotations

import asyncio
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest

from quotaflow import InvalidArgumentError, LLMInterface, Reply, Usage
from servers import OPENAI_ANSWER, Server, http

if TYPE_CHECKING:
    from collections.abc import Callable

    from quotaflow.testing import SimulatedProviders

ALL_PROVIDERS = [
    {"key": f"{name}-test-1", "label": f"{name.upper()}_KEY", "provider": name}
    for name in ("openai", "anthropic", "gemini", "openrouter", "groq", "ollama")
]
MODELS = {
    "openai": "gpt-4o-mini",
    "anthropic": "claude-haiku-4-5",
    "gemini": "gemini-2.5-flash",
    "openrouter": "mistralai/mistral-small",
    "groq": "llama-3.3-70b-versatile",
    "ollama": "llama3",
}
of_all_providers = pytest.mark.quotaflow_simulator(keys=ALL_PROVIDERS)


@of_all_providers
@pytest.mark.parametrize("provider", MODELS)
def test_every_provider_answers_both_ways(
    make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders, provider: str
) -> None:
    llm = make_llm()
    asked: dict[str, Any] = {"provider": provider, "model": MODELS[provider]}
    replies = [llm.send_prompt("Name a river.", **asked), asyncio.run(llm.asend_prompt("Name a river.", **asked))]
    for reply in replies:
        assert type(reply) is Reply
        assert "Name a river." in reply
        assert (reply.provider, reply.model, reply.key) == (provider, MODELS[provider], f"{provider.upper()}_KEY")
        assert reply.usage is not None
        assert reply.usage.input_tokens == 11  # 13 characters and the overhead
        assert reply.usage.output_tokens == 16
        assert reply.finish_reason == "stop"
        assert reply.tool_calls == []
        assert isinstance(reply.raw, dict)
        [attempt] = reply.attempts
        assert (attempt.succeeded, attempt.status, attempt.provider) == (True, 200, provider)
        assert 0 <= attempt.seconds <= reply.latency < 10
    assert simulated.stats()["accepted"] == 2


@of_all_providers
@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-4o-mini", "openai"),
        ("o3-mini", "openai"),
        ("claude-haiku-4-5", "anthropic"),
        ("gemini-2.5-flash", "gemini"),
        ("anthropic/claude-sonnet-5", "openrouter"),
        ("meta-llama/llama-3:free", "openrouter"),
    ],
)
def test_the_models_name_chooses_the_provider(
    make_llm: Callable[..., LLMInterface], model: str, provider: str
) -> None:
    reply = make_llm().send_prompt("Hi", model=model)
    assert (reply.provider, reply.model) == (provider, model)


@of_all_providers
@pytest.mark.parametrize("alias", ["google", "google_genai", "Gemini"])
def test_gemini_has_more_than_one_name(make_llm: Callable[..., LLMInterface], alias: str) -> None:
    assert make_llm().send_prompt("Hi", provider=alias, model="gemini-2.5-flash").provider == "gemini"


@of_all_providers
@pytest.mark.parametrize(
    ("provider", "model"), [(name, MODELS[name]) for name in ("openai", "anthropic", "gemini")]
)
def test_an_answer_cut_short_says_so(make_llm: Callable[..., LLMInterface], provider: str, model: str) -> None:
    reply = make_llm().send_prompt("Hi", provider=provider, model=model, max_tokens=5)
    assert reply.finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.output_tokens == 5


CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
TOOL = {
    "type": "function",
    "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}},
}
ANSWERS: dict[str, dict[str, Any]] = {
    "openai": {
        "id": "chatcmpl-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": None, "tool_calls": [CALL]},
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {
            "prompt_tokens": 30,
            "completion_tokens": 12,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
    },
    "anthropic": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": 1}}],
        "stop_reason": "tool_use",
        "usage": {
            "input_tokens": 24,
            "cache_read_input_tokens": 4,
            "cache_creation_input_tokens": 2,
            "output_tokens": 12,
        },
    },
    "gemini": {
        "candidates": [
            {
                "content": {"role": "model", "parts": [{"functionCall": {"name": "add", "args": {"a": 1}}}]},
                "finishReason": "STOP",
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 30,
            "candidatesTokenCount": 7,
            "thoughtsTokenCount": 5,
            "cachedContentTokenCount": 4,
        },
    },
}
USAGES = {
    "openai": Usage(30, 12, 4, 0, 5),
    "anthropic": Usage(30, 12, 4, 2, 0),
    "gemini": Usage(30, 12, 4, 0, 5),
}
PATHS = {
    "openai": "/v1/chat/completions",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/gemini-2.5-flash:generateContent",
}
BASES = {"openai": "/v1", "anthropic": "", "gemini": "/v1beta"}
KEY_HEADERS = {
    "openai": ("authorization", "Bearer sk-test-1"),
    "anthropic": ("x-api-key", "sk-test-1"),
    "gemini": ("x-goog-api-key", "sk-test-1"),
}
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "1 + 1"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "2", "tool_call_id": "call_1"},
    {"role": "user", "content": "And now?"},
]


def ask(provider: str, prompt: Any, **arguments: Any) -> tuple[Reply, Any]:
    """The reply to a call of a provider with tools in its answer, and the request that arrived."""
    with (
        Server(lambda _: http(ANSWERS[provider])) as server,
        LLMInterface(
            {},
            keys={provider: "sk-test-1"},
            base_urls={provider: server.url + BASES[provider]},
            state="memory",
        ) as llm,
    ):
        reply = llm.send_prompt(prompt, provider=provider, model=MODELS[provider], **arguments)
    [request] = server.asked
    assert (request.method, request.path) == ("POST", PATHS[provider])
    name, value = KEY_HEADERS[provider]
    assert request.headers[name] == value
    assert request.headers["user-agent"].startswith("quotaflow/")
    return reply, request.json


@pytest.mark.parametrize("provider", ANSWERS)
def test_tool_calls_are_passed_through_in_one_shape(provider: str) -> None:
    reply, _ = ask(provider, "1 + 1", tools=[TOOL])
    assert reply == ""
    [call] = reply.tool_calls
    assert call["type"] == "function"
    assert call["function"]["name"] == "add"
    assert call["function"]["arguments"].replace(" ", "") == '{"a":1}'
    assert reply.finish_reason == "tool_calls"
    assert reply.usage == USAGES[provider]
    assert reply.raw == ANSWERS[provider]


def test_messages_system_and_parameters_reach_openai() -> None:
    _, body = ask("openai", MESSAGES, system="Réponds.", temperature=0.5, max_tokens=7, stop="x", tools=[TOOL])
    assert body["messages"] == [{"role": "system", "content": "Réponds."}, *MESSAGES]
    assert (body["model"], body["temperature"], body["stop"]) == ("gpt-4o-mini", 0.5, "x")
    assert body["tools"] == [TOOL]
    assert 7 in (body.get("max_tokens"), body.get("max_completion_tokens"))


def test_messages_system_and_parameters_reach_anthropic() -> None:
    _, body = ask("anthropic", MESSAGES, system="Réponds.", temperature=0.5, max_tokens=7, stop="x", tools=[TOOL])
    assert "Réponds." in str(body["system"])
    assert "Be brief." in str(body["system"])
    roles = [message["role"] for message in body["messages"]]
    assert [role for role, _ in groupby(roles)] == ["user", "assistant", "user"]
    assert body["messages"][2]["content"][0]["type"] == "tool_result"
    assert body["messages"][1]["content"] == [
        {"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": 1}}
    ]
    assert (body["temperature"], body["max_tokens"], body["stop_sequences"]) == (0.5, 7, ["x"])
    assert body["tools"][0]["name"] == "add"
    assert body["tools"][0]["input_schema"] == TOOL["function"]["parameters"]  # type: ignore[index]


def test_messages_system_and_parameters_reach_gemini() -> None:
    _, body = ask("gemini", MESSAGES, system="Réponds.", temperature=0.5, max_tokens=7, stop="x", tools=[TOOL])
    assert "Réponds." in str(body["systemInstruction"])
    assert [role for role, _ in groupby(content["role"] for content in body["contents"])] == [
        "user",
        "model",
        "user",
    ]
    call = body["contents"][1]["parts"][0]["functionCall"]
    assert (call["name"], call["args"]) == ("add", {"a": 1})
    assert body["contents"][2]["parts"][0]["functionResponse"]["name"] == "add"
    settings = body["generationConfig"]
    assert (settings["temperature"], settings["maxOutputTokens"], settings["stopSequences"]) == (0.5, 7, ["x"])
    assert body["tools"][0]["functionDeclarations"][0]["name"] == "add"


def test_anthropic_is_never_asked_without_max_tokens() -> None:
    assert ask("anthropic", "Hi")[1]["max_tokens"] > 0


@pytest.mark.parametrize("keys", [None, {"vllm": "sk-test-1"}])
def test_any_compatible_server_is_a_provider_with_or_without_a_key(keys: dict[str, str] | None) -> None:
    with (
        Server(lambda _: http(OPENAI_ANSWER)) as server,
        LLMInterface({}, keys=keys, base_urls={"vllm": f"{server.url}/api/v1/"}, state="memory") as llm,
    ):
        reply = llm.send_prompt("Capital of France?", provider="vllm", model="my-model")
    assert (reply, reply.provider, reply.model) == ("Paris", "vllm", "my-model")
    assert server.asked[0].path == "/api/v1/chat/completions"
    assert server.asked[0].headers.get("authorization") == ("Bearer sk-test-1" if keys else None)


def test_a_reply_without_usage_has_none() -> None:
    answer = {name: value for name, value in OPENAI_ANSWER.items() if name != "usage"}
    with (
        Server(lambda _: http(answer)) as server,
        LLMInterface({}, base_urls={"vllm": server.url}, state="memory") as llm,
    ):
        assert llm.send_prompt("Hi", provider="vllm", model="m").usage is None


def test_user_and_task_stay_here() -> None:
    _, body = ask("openai", "Hi", user="ada", task_name="summary", priority=9)
    assert set(body) == {"model", "messages"}


UNKNOWN = [
    ({"provider": "opnai", "model": "m"}, "there is no provider 'opnai'|there is no provider \"opnai\"", "openai"),
    ({"model": "llama3"}, "llama3", "provider="),
    ({"provider": "openai"}, "no model was given", "model="),
    ({}, "neither a model nor a provider", "models.default"),
    ({"model": "gpt-4o-mini", "temprature": 0.5}, "temprature", "temperature"),
    ({"model": "gpt-4o-mini", "temperature": 9}, "temperature", ""),
    ({"model": "gpt-4o-mini", "max_tokens": 0}, "max_tokens", ""),
    ({"model": "gpt-4o-mini", "max_tokens": "many"}, "max_tokens", ""),
    ({"model": "gpt-4o-mini", "messages": []}, "messages", ""),
    ({"model": "gpt-4o-mini", "stream": True}, "stream", ""),
]


@pytest.mark.parametrize(("arguments", "words", "hint"), UNKNOWN, ids=[words for _, words, _ in UNKNOWN])
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    make_llm: Callable[..., LLMInterface],
    simulated: SimulatedProviders,
    arguments: dict[str, Any],
    words: str,
    hint: str,
) -> None:
    llm = make_llm()
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        llm.send_prompt("Hi", **arguments)
    assert hint in str(caught.value)
    with pytest.raises(InvalidArgumentError, match=words):
        asyncio.run(llm.asend_prompt("Hi", **arguments))
    assert simulated.stats()["requests"] == 0
