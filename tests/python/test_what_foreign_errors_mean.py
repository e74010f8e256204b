"""Is an error of somebody else's library read as what it is, and never a reason for another one?"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import random
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from email.message import Message
from http import HTTPStatus
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

FIXTURES = Path(__file__).parents[1] / "fixtures"
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
        httpx.get(scene.server.url).raise_for_status()
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
    with httpx.Client() as client, client.stream("GET", scene.server.url) as streamed:
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


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (TimeoutError(), "timeout"),
        (ConnectionRefusedError("no"), "network"),
        (ConnectionResetError(), "network"),
        (socket.gaierror(-2, "Name or service not known"), "network"),
        (urllib.error.URLError(TimeoutError("slow")), "timeout"),
        (RuntimeError("429 RESOURCE_EXHAUSTED. {'error': {'code': 429, 'status': 'X'}}"), "overloaded"),
        (RuntimeError(b"429 Too Many Requests"), "rate_limited"),
        ("HTTP 503", "overloaded"),
        (b"insufficient_quota", "credit_exhausted"),
        (ValueError("order 14290"), None),
        (ValueError("warpmap"), None),
        (KeyError("429 Too Many Requests"), None),
        (PermissionError(13, "Permission denied: model"), None),
        (OSError(122, "Disk quota exceeded"), None),
        (SystemExit(429), None),
        (KeyboardInterrupt(), None),
        (asyncio.CancelledError("timed out"), None),
        (None, None),
        ("", None),
        (429, "rate_limited"),
        (object(), None),
    ],
)  # fmt: skip
def test_builtin_errors_and_bare_texts(error: object, failure: str | None) -> None:
    verdict = classify_error(error)
    assert (verdict and verdict.failure) == failure


class ToldError(Exception):
    """An exception with fields, as SDKs have them."""

    def __init__(self, text: str = "", **fields: object) -> None:
        super().__init__(text)
        self.__dict__.update(fields)


def test_fields_count_more_than_words() -> None:
    for fields in (
        {"status_code": 503},
        {"status": 503},
        {"code": "503"},
        {"code": HTTPStatus.SERVICE_UNAVAILABLE},
        {"response": ToldError(status_code=503)},
        {"status_code": 503, "headers": Message()},
    ):
        verdict = classify_error(ToldError("429 Too Many Requests", **fields))
        assert verdict is not None
        assert (verdict.failure, verdict.status) == ("overloaded", 503)
    verdict = classify_error(ToldError("no", status_code=429, retry_after=7))
    assert verdict is not None
    assert (verdict.retry_after, verdict.is_word) == (7.0, True)
    verdict = classify_error(
        ToldError("no", body={"error": {"message": "m", "type": "insufficient_quota", "code": 429}})
    )
    assert verdict is not None
    assert (verdict.failure, verdict.status, verdict.scope) == ("credit_exhausted", 429, "group")


def behind(error: BaseException, cause: BaseException | None = None, context: BaseException | None = None) -> Any:
    error.__cause__, error.__context__ = cause, context
    error.__suppress_context__ = cause is not None
    return error


def test_what_stands_behind_an_error_counts() -> None:
    refused = ToldError("Slow down", status_code=429)
    attempt: concurrent.futures.Future[None] = concurrent.futures.Future()
    attempt.set_exception(refused)
    loop = behind(RuntimeError("a"), cause=(second := RuntimeError("b")))
    second.__cause__ = loop
    for error in (
        behind(RuntimeError("Request timed out."), cause=behind(ValueError("x"), cause=refused)),
        behind(RuntimeError("call failed"), context=refused),
        ExceptionGroup("several", [ValueError("x"), ExceptionGroup("more", [refused])]),
        ToldError("RetryError[<Future>]", last_attempt=attempt),
        RuntimeError(refused),
    ):
        verdict = classify_error(error)
        assert verdict is not None, error
        assert (verdict.failure, verdict.status) == ("rate_limited", 429), error
    assert classify_error(loop) is None
    # An attempt that is still running is not waited for.
    assert classify_error(ToldError("x", last_attempt=concurrent.futures.Future())) is None
    # What happened last is what happened; a mistake while handling a refusal is a mistake.
    last = classify_error(behind(TimeoutError(), context=refused))
    assert last is not None
    assert last.failure == "timeout"
    assert classify_error(behind(TypeError("x"), context=refused)) is None


def test_our_own_errors_keep_what_they_know() -> None:
    for name in ("rate_limited", "daily_quota", "credit_exhausted", "auth", "context_too_long"):
        error = quotaflow.CallError("m", failure=name, status=418, retry_after=12.5)
        for one in (error, behind(RuntimeError("503"), cause=error)):
            verdict = classify_error(one)
            assert verdict is not None
            assert (verdict.failure, verdict.status, verdict.retry_after) == (name, 418, 12.5)
    for silent in (quotaflow.DeadlineExceededError("late"), quotaflow.ConfigError("429"), quotaflow.ClosedError()):
        assert classify_error(silent) is None


def test_a_verdict_is_a_value() -> None:
    verdict = Verdict("rate_limited", status=429, message="key sk-test-123456 is slow")
    assert "sk-test" not in repr(verdict)
    assert (verdict.scope, verdict.until, verdict.limit, verdict.never_here) == ("group_model", None, None, False)
    assert verdict != Verdict("auth")
    with pytest.raises(ValueError, match='"odd" is no class'):
        Verdict("odd")
    told = classify_error(
        Exception("429 Rate limit reached on tokens per day (TPD): Limit 100, Used 99, Requested 5.")
    )
    assert told is not None
    assert told.limit == ("tokens", "day", 100, 5)


class MeanError(Exception):
    """Whatever is asked of it, it raises or gives something odd."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(chance.choice([b"\xff", "\ud800", 5, None, "429", "x" * 1_000_000]))
        object.__setattr__(self, "chance", chance)

    def __getattribute__(self, name: str) -> Any:
        if name in {"chance", "__class__"}:
            return object.__getattribute__(self, name)
        chance = object.__getattribute__(self, "chance")
        if chance.random() < 0.3:
            raise chance.choice([ValueError, RecursionError, OSError, AttributeError])("no")
        return chance.choice(ODD)

    def __str__(self) -> str:
        if self.chance.random() < 0.5:
            raise ValueError("no")
        return str(self.chance.choice(["429 \ud800", "{'error': {", "\x00" * 99, "(" * 5_000, "HTTP 503"]))


def endless() -> Iterator[tuple[str, str]]:
    while True:
        yield "retry-after", "1"


ODD: list[Any] = [
    None, True, -1, 429, 10**30, float("nan"), "429", "\ud800", b"\xff\xfe", {}, {"error": {"code": "\ud800"}}, [],
    {1: object()}, object(), lambda: 1 / 0, endless, type, {"retry-after": "1e999"}, HTTPStatus.OK,
    [ValueError("x")] * 99, RuntimeError("429 Too Many Requests"), "x" * 300_000, {"items": None},
]  # fmt: skip


def test_no_error_is_a_reason_for_another_one() -> None:
    for seed in range(400):
        chance = random.Random(seed)
        verdict = classify_error(MeanError(chance), chance.choice([None, "gemini", "nobody", "\ud800"]))
        assert verdict is None or isinstance(verdict, Verdict)
        fields = {
            name: chance.choice(ODD) for name in ("status_code", "code", "headers", "response", "body", "args")
        }
        fields |= {name: chance.choice(ODD) for name in ("last_attempt", "request", "retry_after", "details")}
        fields["response"] = ToldError(
            **{name: chance.choice(ODD) for name in ("status", "headers", "content", "url")}
        )
        error = Exception("x")
        error.__dict__.update(fields)
        verdict = classify_error(error, chance.choice(ODD))
        assert verdict is None or isinstance(verdict, Verdict)
    for odd in ODD:
        assert classify_error(odd) is None or isinstance(classify_error(odd), Verdict)


def test_no_library_is_imported_to_look() -> None:
    code = (
        "import sys, quotaflow\n"
        "quotaflow.classify_error(Exception('429'))\n"
        "names = {'openai', 'anthropic', 'google', 'requests', 'httpx', 'aiohttp', 'langchain'}\n"
        "print(sorted(names & set(sys.modules)))\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
