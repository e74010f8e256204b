"""Errors of other libraries, classified as our own call's would be."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import anthropic
import httpx
import openai
import pytest
import requests
from google import genai

import quotaflow
from quotaflow import LLMInterface, Verdict, classify_error
from servers import Request, Server, http

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIXTURES = Path(__file__).parents[2] / "fixtures"
RATE = {"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}}


def refusals(*providers: str) -> list[Any]:
    """Every refusal the tables know, as `(provider, status, headers, body)`."""
    found = []
    for provider in providers:
        for file in sorted((FIXTURES / provider).glob("*.json")):
            answer = json.loads(file.read_text(encoding="utf-8"))
            # Official clients follow redirects and take whatever is in a 200.
            if answer["status"] >= 400 and answer["expect"].get("failure"):
                body = answer["body"]
                body = body if isinstance(body, str) else json.dumps(body)
                facts = (provider, answer["status"], answer["headers"], body)
                found.append(pytest.param(*facts, id=f"{provider}-{file.stem}"))
    return found


class Scene:
    """A server that refuses as it is told, and whoever may ask it."""

    def __init__(self) -> None:
        self.answer = http("")
        self.server = Server(self._answer)
        self.openai = openai.OpenAI(api_key="sk-test-1", base_url=f"{self.server.url}/v1", max_retries=0)
        self.anthropic = anthropic.Anthropic(api_key="sk-ant-test-1", base_url=self.server.url, max_retries=0)
        options = genai.types.HttpOptions(base_url=self.server.url)
        self.httpx = httpx.Client()
        self.gemini = genai.Client(api_key="gemini-test-1", http_options=options)

    def _answer(self, _request: Request) -> bytes:
        return self.answer

    def refuses(self, status: int, headers: dict[str, str], body: str) -> None:
        self.answer = http(body, status, **headers)

    def sdk(self, provider: str) -> Exception:
        """What the official client of a provider raises."""
        messages: Any = [{"role": "user", "content": "Hi"}]
        try:
            if provider == "anthropic":
                self.anthropic.messages.create(model="m", max_tokens=9, messages=messages)
            elif provider == "gemini":
                self.gemini.models.generate_content(model="m", contents="Hi")
            else:
                self.openai.chat.completions.create(model="m", messages=messages)
        except Exception as error:  # noqa: BLE001 - which class it is, is the library's affair
            return error
        raise AssertionError("the client took a refusal for an answer")

    def ours(self, provider: str) -> quotaflow.CallError:
        """What our own interface raises for the same answer."""
        base = self.server.url + ("/v1" if provider not in {"anthropic", "gemini"} else "")
        keys, urls = {provider: ["sk-test-1"]}, {provider: base}
        with (
            LLMInterface({}, keys=keys, base_urls=urls, state="memory") as llm,
            pytest.raises(quotaflow.CallError) as raised,
        ):
            llm.send_prompt("Hi", provider=provider, model="m", retry=False, fallback=False)
        return raised.value


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    scene = Scene()
    with scene.server:
        yield scene
    scene.openai.close()
    scene.anthropic.close()
    scene.gemini.close()
    scene.httpx.close()


def agree(verdict: Verdict | None, ours: quotaflow.CallError) -> None:
    assert verdict is not None
    assert (verdict.failure, verdict.status) == (ours.failure, ours.status)
    if verdict.is_word and ours.retry_after is not None:
        assert verdict.retry_after == pytest.approx(ours.retry_after, abs=5)
    assert verdict.message in str(ours.message)


@pytest.mark.parametrize(("provider", "status", "headers", "body"), refusals("openai", "anthropic", "gemini"))
def test_official_clients_are_read_as_our_own_call(
    scene: Scene, provider: str, status: int, headers: dict[str, str], body: str
) -> None:
    scene.refuses(status, headers, body)
    agree(classify_error(scene.sdk(provider)), scene.ours(provider))


@pytest.mark.parametrize(("provider", "status", "headers", "body"), refusals("groq", "openrouter", "ollama"))
def test_a_client_that_is_used_for_another_provider_is_read_as_that(
    scene: Scene, provider: str, status: int, headers: dict[str, str], body: str
) -> None:
    scene.refuses(status, headers, body)
    agree(classify_error(scene.sdk(provider), provider), scene.ours(provider))


@pytest.mark.parametrize(("provider", "status", "headers", "body"), refusals("openai")[:12])
def test_plain_http_clients_tell_as_much(
    scene: Scene, provider: str, status: int, headers: dict[str, str], body: str
) -> None:
    scene.refuses(status, headers, body)
    ours = scene.ours(provider)
    with pytest.raises(requests.HTTPError) as by_requests:
        requests.get(scene.server.url, timeout=5).raise_for_status()
    agree(classify_error(by_requests.value, provider), ours)
    with pytest.raises(httpx.HTTPStatusError) as by_httpx:
        scene.httpx.get(scene.server.url).raise_for_status()
    agree(classify_error(by_httpx.value, provider), ours)


def test_clients_that_keep_no_body_tell_by_status_and_headers(scene: Scene) -> None:
    scene.refuses(429, {"retry-after": "36"}, json.dumps(RATE))

    async def ask() -> None:
        async with aiohttp.ClientSession() as session, session.get(scene.server.url) as response:
            response.raise_for_status()

    with pytest.raises(aiohttp.ClientResponseError) as by_aiohttp:
        asyncio.run(ask())
    with pytest.raises(urllib.error.HTTPError) as by_urllib:
        urllib.request.urlopen(scene.server.url)
    with by_urllib.value:
        for error in (by_aiohttp.value, by_urllib.value):
            verdict = classify_error(error)
            assert verdict is not None
            assert (verdict.failure, verdict.status, verdict.retry_after) == ("rate_limited", 429, 36.0)
        # The body of the answer is still there for whoever wants to read it.
        assert json.loads(by_urllib.value.read()) == RATE


def test_a_body_that_was_not_read_stays_unread(scene: Scene) -> None:
    scene.refuses(429, {}, json.dumps(RATE))
    with requests.get(scene.server.url, stream=True, timeout=5) as response:
        with pytest.raises(requests.HTTPError) as raised:
            response.raise_for_status()
        verdict = classify_error(raised.value)
        assert verdict is not None
        assert verdict.failure == "rate_limited"
        assert response.raw.tell() == 0
        assert response.json() == RATE
    with scene.httpx.stream("GET", scene.server.url) as streamed:
        with pytest.raises(httpx.HTTPStatusError) as streaming:
            streamed.raise_for_status()
        assert classify_error(streaming.value) is not None
        assert not streamed.is_stream_consumed
        assert json.loads(streamed.read()) == RATE


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def test_nobody_who_listens_is_a_network_failure_that_was_never_sent() -> None:
    url = closed_port()
    messages: Any = [{"role": "user", "content": "Hi"}]
    asking: list[Callable[[], object]] = [
        lambda: requests.get(url, timeout=5),
        lambda: httpx.get(url),
        lambda: urllib.request.urlopen(url),
        lambda: socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))),
        openai.OpenAI(api_key="sk-test-1", base_url=url, max_retries=0).models.list,
        lambda: anthropic.Anthropic(api_key="sk-test-1", base_url=url, max_retries=0).messages.create(
            model="m", max_tokens=1, messages=messages
        ),
    ]
    for ask in asking:
        with pytest.raises(Exception) as raised:  # noqa: PT011 - each library has a class of its own
            ask()
        verdict = classify_error(raised.value)
        assert verdict is not None, raised.value
        assert (verdict.failure, verdict.status, verdict.never_sent) == ("network", None, True), raised.value


def test_silence_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        client = openai.OpenAI(api_key="sk-test-1", base_url=url, max_retries=0, timeout=0.05)
        asking: list[Callable[[], object]] = [
            lambda: requests.get(url, timeout=0.05),
            lambda: httpx.get(url, timeout=0.05),
            lambda: urllib.request.urlopen(url, timeout=0.05),
            client.models.list,
        ]
        for ask in asking:
            with pytest.raises(Exception) as raised:  # noqa: PT011 - each library has a class of its own
                ask()
            verdict = classify_error(raised.value)
            assert verdict is not None, raised.value
            assert (verdict.failure, verdict.scope) == ("timeout", "call"), raised.value
