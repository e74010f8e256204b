"""Hooks: what they are called with, and that they never disturb a call."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from limiter_helpers import refused
from probes import MODEL, until
from quotaflow import (
    BlockedEvent,
    ClosedError,
    ExhaustedEvent,
    InvalidArgumentError,
    LLMInterface,
    RateLimiter,
    RetryEvent,
    RotateEvent,
    SettledEvent,
    WaitEvent,
)
from quotaflow.events import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEYS = {"groq": [{"key": "gsk-test-1", "label": "A"}, {"key": "gsk-test-2", "label": "B"}]}
RATE = {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}


@pytest.fixture
def limiter() -> Iterator[RateLimiter]:
    limits = {"groq": {"base_delay": 0.001}, "scraper": {"concurrency": 1}}
    with RateLimiter({}, keys=KEYS, limits=limits, state="memory") as limiter:
        yield limiter


def heard(listener: RateLimiter | LLMInterface, *names: str) -> list[Any]:
    """Everything that is told from now on, in order."""
    events: list[Any] = []
    for name in names or KINDS:
        listener.on(name, events.append)  # type: ignore[arg-type] # a name is a name
    return events


def threads() -> int:
    return sum(thread.name == "quotaflow hooks" for thread in threading.enumerate())


def once(*errors: Exception) -> Callable[[], str]:
    left = list(errors)

    def call() -> str:
        if left:
            raise left.pop(0)
        return "fine"

    return call


def test_a_rotation_is_told_from_its_block_to_its_settlement(limiter: RateLimiter) -> None:
    events = heard(limiter)
    limiter.run("groq", once(refused(429, {"retry-after": "600"}, **RATE)), model="m")
    until(lambda: any(isinstance(event, SettledEvent) for event in events))
    assert [type(event) for event in events] == [BlockedEvent, RotateEvent, RetryEvent, SettledEvent]
    blocked, rotated, tried, settled = events
    assert (blocked.provider, blocked.model, blocked.failure, blocked.origin) == (
        "groq", "m", "rate_limited", "provider",
    )  # fmt: skip
    assert 595 < blocked.until - time.time() < 601
    assert (rotated.from_key, rotated.failure) == (blocked.key, "rate_limited")
    assert rotated.to_key == settled.key != blocked.key
    assert (tried.key, tried.attempt, tried.status, tried.failure) == (blocked.key, 2, 429, "rate_limited")
    assert settled.input_tokens is None
    assert "gsk-test" not in repr(events)


def test_waits_recoveries_and_used_up_days_are_told(limiter: RateLimiter) -> None:
    waits, exhausted, blocked = (heard(limiter, name) for name in ("wait", "exhausted", "blocked"))
    with limiter.acquire("scraper"):
        thread = threading.Thread(target=limiter.run, args=("scraper", once()))
        thread.start()
        until(lambda: waits)
    thread.join()
    assert isinstance(waits[0], WaitEvent)
    assert (waits[0].provider, waits[0].until) == ("scraper", None)
    day = refused(429, message="Rate limit reached for model on requests per day (RPD): Limit 10", type="requests")
    with pytest.raises(Exception, match="HTTP 429"), limiter.acquire("groq", key="A"):
        raise day
    until(lambda: blocked and exhausted)
    assert isinstance(exhausted[0], ExhaustedEvent)
    assert exhausted[0].key == blocked[0].key == "A"


def test_an_interface_tells_as_well(make_llm: Callable[..., LLMInterface]) -> None:
    llm = make_llm()
    events = heard(llm, "settled")
    reply = llm.send_prompt("Hi", model=MODEL)
    asyncio.run(llm.asend_prompt("Hi", model=MODEL))
    until(lambda: len(events) == 2)
    assert reply.usage is not None
    assert events[0].input_tokens == reply.usage.input_tokens
    assert (events[0].provider, events[0].model, events[0].key) == ("openai", MODEL, "OPENAI_API_KEY")


def test_a_hook_that_raises_is_reported_and_the_next_one_called(
    limiter: RateLimiter, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Any] = []

    def raises(_event: Any) -> None:
        raise LookupError("a hook of a program")

    with caplog.at_level(logging.ERROR, "quotaflow"):
        limiter.on("settled", raises)
        limiter.on("settled", events.append)
        for _ in range(2):
            limiter.run("groq", once())
        until(lambda: len(events) == 2)
    assert [record.message for record in caplog.records] == ["a hook for 'settled' raised"] * 2


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_a_hook_that_wants_to_end_the_program_ends_nothing(
    limiter: RateLimiter, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    events: list[Any] = []

    def ends(_event: Any) -> None:
        raise error

    with caplog.at_level(logging.ERROR, "quotaflow"):
        limiter.on("settled", ends)
        limiter.on("settled", events.append)
        for _ in range(2):
            limiter.run("groq", once())
        until(lambda: len(events) == 2)
    assert [record.message for record in caplog.records] == ["a hook for 'settled' raised"] * 2


def test_a_thread_that_died_is_begun_anew_and_one_that_ended_is_not(
    limiter: RateLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quotaflow._call.hooks._serve", lambda *_: None)
    events = heard(limiter, "settled")
    until(lambda: threads() == 0)
    monkeypatch.undo()
    limiter.run("groq", once())
    until(lambda: events)
    limiter.close()
    until(lambda: threads() == 0)
    with pytest.raises(ClosedError):
        limiter.run("groq", once())
    assert threads() == 0


@pytest.mark.quiet
def test_a_hook_that_hangs_holds_nobody_up(limiter: RateLimiter) -> None:
    hangs, lets_go = threading.Event(), threading.Event()

    def hang(_event: Any) -> None:
        hangs.set()
        lets_go.wait(20)

    limiter.on("settled", hang)
    limiter.run("groq", once())
    assert hangs.wait(5)
    began = time.monotonic()
    for _ in range(200):
        limiter.run("groq", once())
    assert time.monotonic() - began < 5
    began = time.monotonic()
    limiter.close()
    assert time.monotonic() - began < 5
    lets_go.set()


def test_what_was_removed_is_not_called(limiter: RateLimiter) -> None:
    kept: list[Any] = []
    removed: list[Any] = []
    off = limiter.on("settled", removed.append)
    limiter.on("settled", kept.append)
    off()
    off()
    limiter.run("groq", once())
    until(lambda: kept)
    assert removed == []


def test_events_are_frozen_records(limiter: RateLimiter) -> None:
    events = heard(limiter, "settled")
    limiter.run("groq", once())
    until(lambda: events)
    with pytest.raises(dataclasses.FrozenInstanceError):
        events[0].key = "other"
    assert not hasattr(events[0], "__dict__")


@pytest.mark.parametrize("name", ["retries", "", None, 7, ["retry"]])
def test_unknown_events_are_refused(limiter: RateLimiter, name: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="there is no event"):
        limiter.on(name, print)
    with pytest.raises(InvalidArgumentError, match="the hook is of type str"):
        limiter.on("retry", "print")  # type: ignore[arg-type]
    assert threads() == 0


def test_one_thread_calls_all_hooks_and_ends_with_its_object() -> None:
    before = threads()
    limiter = RateLimiter({}, keys=KEYS, state="memory")
    events = heard(limiter)
    assert threads() == before + 1
    limiter.run("groq", once())
    limiter.close()
    # What happened before it was closed is told.
    assert len(events) == 1
    until(lambda: threads() == before)
    forgotten = RateLimiter({}, keys=KEYS, state="memory")
    heard(forgotten)
    assert threads() == before + 1
    del forgotten
    gc.collect()
    until(lambda: threads() == before)


def test_a_child_of_a_fork_hears_its_own_calls(limiter: RateLimiter) -> None:
    events = heard(limiter, "settled")
    limiter.run("groq", once())
    until(lambda: events)
    events.clear()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        told = b"nothing"
        try:
            limiter.run("groq", once())
            until(lambda: events)
            told = type(events[0]).__name__.encode()
        finally:
            os.write(writing, told)
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"SettledEvent"
    os.waitpid(child, 0)
    assert events == []


@pytest.mark.quiet
def test_a_program_with_hooks_ends_at_once_and_in_peace() -> None:
    program = """
import time
from quotaflow import RateLimiter
limiter = RateLimiter({}, limits={"scraper": {"rps": 50}}, state="memory")
for name in ("settled", "wait", "blocked"):
    limiter.on(name, lambda event: print(type(event).__name__))
limiter.run("scraper", lambda: 1)
end = time.monotonic() + 5
time.sleep(0.05)
"""
    began = time.monotonic()
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)
    assert (ran.returncode, ran.stderr, ran.stdout) == (0, "", "SettledEvent\n")
    assert time.monotonic() - began < 10
