"""Any exception, classified by its fields and its words."""

from __future__ import annotations

import asyncio
import concurrent.futures
import random
import socket
import subprocess
import sys
import urllib.error
from email.message import Message
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest

import quotaflow
from quotaflow import Verdict, classify_error

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    with pytest.raises(ValueError, match='"odd" is not a failure class'):
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
