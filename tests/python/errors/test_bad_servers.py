"""Misbehaving servers: one typed error each, and the next call works."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from quotaflow import (
    CallError,
    CallTimeoutError,
    ContentFilteredError,
    LLMInterface,
    NetworkError,
    OverloadedError,
    RateLimitError,
    ServerError,
)
from servers import OPENAI_ANSWER, Request, Server, http

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

MODEL = "gpt-4o-mini"
PAGE = "<!doctype html><html><body><h1>502 Bad Gateway</h1></body></html>"
HALF = http(OPENAI_ANSWER)[:-40]


def hundred_megabytes(_: Request) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\n\r\n"
    for _piece in range(100):
        yield b" " * 1_048_576


def promised_gigabyte(_: Request) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n{"


def silent(_: Request) -> Iterator[bytes]:
    time.sleep(1.5)
    yield b""


def slow_body(_: Request) -> Iterator[bytes]:
    yield HALF
    time.sleep(1.5)


def says(pieces: bytes) -> Callable[[Request], bytes]:
    return lambda _: pieces


BAD: dict[str, tuple[Callable[[Request], Iterable[bytes] | bytes], type[CallError], str]] = {
    "nothing": (says(b""), NetworkError, "connection"),
    "no HTTP": (says(b"SSH-2.0-OpenSSH_9.6\r\n"), NetworkError, "connection"),
    "half a body": (says(HALF), NetworkError, "connection"),
    "half a head": (says(b"HTTP/1.1 200 OK\r\ncontent-ty"), NetworkError, "connection"),
    "silence": (silent, CallTimeoutError, "no answer in time"),
    "half a body and silence": (slow_body, CallTimeoutError, "no answer in time"),
    "a page": (says(http(PAGE, content_type="text/html")), ServerError, ""),
    "a page for an error": (says(http(PAGE, 502, content_type="text/html")), ServerError, "502"),
    "an empty body": (says(http("")), ServerError, ""),
    "null": (says(http("null")), ServerError, ""),
    "a list": (says(http("[]")), ServerError, ""),
    "no choices": (says(http('{"choices": []}')), ServerError, ""),
    "half of the JSON": (says(http(json.dumps(OPENAI_ANSWER)[:-30])), ServerError, ""),
    "no UTF-8": (says(http(b'{"choices": [{"message": {"content": "\xff\xfe"}}]}')), ServerError, ""),
    "deep nesting": (says(http("[" * 100_000)), ServerError, ""),
    "an error inside a 200": (
        says(http({"error": {"message": "The server is overloaded.", "code": "server_is_overloaded"}})),
        CallError,
        "overloaded",
    ),
    "a redirect": (says(http("", 302, location="http://127.0.0.1:1/elsewhere")), CallError, ""),
    "a hundred megabytes": (hundred_megabytes, ServerError, "more than 32 MiB"),
    "a promised gigabyte": (promised_gigabyte, ServerError, "more than 32 MiB"),
    "overloaded": (says(http("", 503)), OverloadedError, ""),
    "refused without a word": (says(http("", 429)), RateLimitError, ""),
}


@pytest.mark.parametrize("name", BAD)
def test_it_ends_in_one_typed_error_and_the_next_call_works(name: str, tmp_path: Path) -> None:
    answer, kind, words = BAD[name]
    good: list[bool] = []
    with (
        Server(lambda request: http(OPENAI_ANSWER) if good else answer(request)) as server,
        LLMInterface(
            {"timeouts": {"read": 1.0 if "silence" in name else 20.0}},
            keys={"openai": "sk-test-1"},
            base_urls={"openai": server.url},
            limits={"openai": {"rpd": 100}},
            state=tmp_path / "state.sqlite",
        ) as llm,
    ):
        with pytest.raises(kind) as caught:
            llm.send_prompt("Hi", model=MODEL, retry=False)
        error = caught.value
        assert words in str(error)
        assert error.message.startswith("openai/gpt-4o-mini: ")
        assert len(str(error)) < 1_000
        assert error.hint
        assert (error.provider, error.model) == ("openai", MODEL)
        [attempt] = error.attempts
        assert attempt.failure == error.failure
        [key] = [key for key in llm.status()["keys"] if key["provider"] == "openai"]
        assert key["in_flight"] == 0
        assert key["state"] in {"healthy", "degraded", "cooling"}
        good.append(True)
        llm.reset("openai")
        assert llm.send_prompt("Hi", model=MODEL) == "Paris"


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
@pytest.mark.parametrize("shape", ["reset", "half_body", "html", "empty", "error_in_200"])
def test_a_broken_answer_is_tried_again(
    make_llm: Callable[..., LLMInterface], simulated: Any, provider: str, shape: Any
) -> None:
    model = {"openai": MODEL, "anthropic": "claude-haiku-4-5", "gemini": "gemini-2.5-flash"}[provider]
    simulated.add_faults({"when": {"first": 1}, "do": shape})
    reply = make_llm().send_prompt("Hi", model=model, retry_delay=0.01)
    broken, whole = reply.attempts
    assert broken.failure in {"network", "server_error", "overloaded"}
    assert whole.succeeded


def test_a_closed_port_is_a_network_error_that_names_what_to_check() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    limits = {"openai": {"rpd": 10}}
    with LLMInterface(
        {}, keys={"openai": "sk-1"}, base_urls={"openai": url}, limits=limits, state="memory"
    ) as llm:
        with pytest.raises(NetworkError) as caught:
            llm.send_prompt("Hi", model=MODEL, max_retries=1, retry_delay=0.01)
        assert isinstance(caught.value, ConnectionError)
        assert [attempt.failure for attempt in caught.value.attempts] == ["network"] * 2
        assert "base_url" in str(caught.value)
        # It never left this machine, so nothing of the day was used.
        [key] = [key for key in llm.status()["keys"] if key["provider"] == "openai"]
        assert [limit["used"] for limit in key["limits"]] == [0]


def test_a_host_that_does_not_exist_is_a_network_error() -> None:
    urls = {"openai": "http://no-such-host.invalid/v1"}
    with (
        LLMInterface({}, keys={"openai": "sk-1"}, base_urls=urls, state="memory") as llm,
        pytest.raises(NetworkError),
    ):
        llm.send_prompt("Hi", model=MODEL, retry=False, timeout=10)


def test_a_redirect_is_not_followed_with_the_key() -> None:
    with Server(lambda _: http(OPENAI_ANSWER)) as elsewhere:
        moved = http("", 307, location=f"{elsewhere.url}/v1/chat/completions")
        with (
            Server(lambda _: moved) as server,
            LLMInterface(
                {}, keys={"openai": "sk-test-1"}, base_urls={"openai": server.url}, state="memory"
            ) as llm,
            pytest.raises(CallError),
        ):
            llm.send_prompt("Hi", model=MODEL, retry=False)
    assert elsewhere.asked == []


FILTERED: dict[str, dict[str, Any]] = {
    "openai": {"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]},
    "anthropic": {"type": "message", "content": [], "stop_reason": "refusal", "usage": {}},
    "gemini": {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}},
}


@pytest.mark.parametrize("provider", FILTERED)
def test_filtered_content_is_told_and_not_tried_again(provider: str) -> None:
    with (
        Server(lambda _: http(FILTERED[provider])) as server,
        LLMInterface({}, keys={provider: "test-1"}, base_urls={provider: server.url}, state="memory") as llm,
    ):
        try:
            reply = llm.send_prompt("Hi", provider=provider, model="m")
        except ContentFilteredError as error:
            assert error.hint  # noqa: PT017 - either is an answer
        else:
            assert reply.finish_reason == "content_filter"
    assert len(server.asked) == 1
