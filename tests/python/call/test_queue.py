"""The end of a wait: its turn, a deadline, a cancel, Ctrl-C, a close."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from probes import MODEL, ONE_A_MINUTE, key_of, until, until_waiting, used, waiting
from quotaflow import (
    CallTimeoutError,
    ClosedError,
    DeadlineExceededError,
    LLMInterface,
    QueueFullError,
    Reply,
    TokenLimitError,
)
from servers import OPENAI_ANSWER, Server, http

if TYPE_CHECKING:
    from collections.abc import Callable

    from quotaflow.testing import SimulatedProviders
    from servers import Request


def test_a_cancelled_wait_gives_its_place_back(full: LLMInterface, simulated: SimulatedProviders) -> None:
    async def cancel_some() -> None:
        tasks = [asyncio.create_task(full.asend_prompt("Hi", model=MODEL)) for _ in range(10)]
        await until_waiting(full, 10)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)

    asyncio.run(cancel_some())
    until(lambda: waiting(full) == 0)
    assert (used(full), key_of(full)["in_flight"], key_of(full)["sent"]) == (1, 0, 1)
    assert simulated.stats()["requests"] == 1


@pytest.mark.quotaflow_simulator(latency=20)
def test_a_cancelled_call_that_was_sent_stays_counted(
    make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders
) -> None:
    llm = make_llm(limits={"openai": {"rpm": 100}})

    async def cancel_one() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(llm.asend_prompt("Hi", model=MODEL), timeout=0.3)

    asyncio.run(cancel_one())
    assert simulated.stats()["requests"] == 1
    until(lambda: key_of(llm)["in_flight"] == 0)
    assert key_of(llm)["sent"] == 1


@pytest.mark.quiet
def test_wait_for_ends_a_wait(full: LLMInterface) -> None:
    async def wait() -> float:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(full.asend_prompt("Hi", model=MODEL), timeout=0.05)
        return time.monotonic() - began

    assert asyncio.run(wait()) < 0.5
    until(lambda: waiting(full) == 0)


def test_a_task_group_takes_its_waiters_along(full: LLMInterface) -> None:
    async def fail() -> None:
        await until_waiting(full, 3)
        raise LookupError("one of them failed")

    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(full.asend_prompt("Hi", model=MODEL))
            tasks.create_task(fail())

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(run())
    assert [type(error) for error in caught.value.exceptions] == [LookupError]
    until(lambda: waiting(full) == 0)


def test_a_dropped_coroutine_leaves_the_line(full: LLMInterface) -> None:
    async def drop() -> None:
        coroutine = full.asend_prompt("Hi", model=MODEL)
        coroutine.send(None)
        until(lambda: waiting(full) == 1)
        del coroutine
        gc.collect()

    asyncio.run(drop())
    until(lambda: waiting(full) == 0)
    assert (used(full), key_of(full)["in_flight"]) == (1, 0)


def test_a_coroutine_that_never_ran_asks_nothing(full: LLMInterface) -> None:
    full.asend_prompt("Hi", model=MODEL).close()
    assert waiting(full) == 0


@pytest.mark.quiet
@pytest.mark.parametrize("is_async", [False, True])
def test_close_wakes_everybody_who_waits(full: LLMInterface, is_async: bool) -> None:
    met: list[BaseException] = []

    def wait() -> None:
        try:
            if is_async:
                asyncio.run(full.asend_prompt("Hi", model=MODEL))
            else:
                full.send_prompt("Hi", model=MODEL)
        except ClosedError as error:
            met.append(error)

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: waiting(full) == 4)
    began = time.monotonic()
    full.close()
    for thread in threads:
        thread.join(timeout=5)
    assert time.monotonic() - began < 0.5
    assert len(met) == 4
    with pytest.raises(ClosedError, match="make a new one"):
        full.send_prompt("Hi", model=MODEL)
    with pytest.raises(ClosedError):
        asyncio.run(full.asend_prompt("Hi", model=MODEL))
    full.close()


def test_a_closed_interface_that_never_sent_is_closed_too(make_llm: Callable[..., LLMInterface]) -> None:
    llm = make_llm()
    llm.close()
    for closed in (lambda: llm.send_prompt("Hi", model=MODEL), llm.status, llm.reset):
        with pytest.raises(ClosedError):
            closed()


def test_leaving_a_with_closes(simulated: SimulatedProviders) -> None:
    arguments: dict[str, Any] = {"keys": simulated.keys, "base_urls": simulated.base_urls, "state": "memory"}
    with LLMInterface({}, **arguments) as llm:
        llm.send_prompt("Hi", model=MODEL)
    with pytest.raises(ClosedError):
        llm.send_prompt("Hi", model=MODEL)

    async def in_asyncio() -> LLMInterface:
        async with LLMInterface({}, **arguments) as llm:
            await llm.asend_prompt("Hi", model=MODEL)
        return llm

    with pytest.raises(ClosedError):
        asyncio.run(in_asyncio()).send_prompt("Hi", model=MODEL)


@pytest.mark.quiet
@pytest.mark.parametrize("argument", ["timeout", "deadline"])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_wait_longer_than_the_deadline_is_refused_at_once(
    full: LLMInterface, argument: str, is_async: bool
) -> None:
    limit = {"timeout": 20.0} if argument == "timeout" else {"deadline": time.time() + 20}
    began = time.monotonic()

    def send() -> Reply:
        if is_async:
            return asyncio.run(full.asend_prompt("Hi", model=MODEL, **limit))  # type: ignore[arg-type]
        return full.send_prompt("Hi", model=MODEL, **limit)  # type: ignore[arg-type]

    with pytest.raises(DeadlineExceededError) as caught:
        send()
    assert time.monotonic() - began < 0.5
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert error.retry_after == pytest.approx(60, abs=2)
    assert (error.provider, error.model, error.key) == ("openai", MODEL, "OPENAI_API_KEY")
    assert error.attempts == ()
    assert waiting(full) == 0


@pytest.mark.quiet
@pytest.mark.quotaflow_simulator(faults=[{"do": "timeout"}])
def test_a_timeout_ends_a_call_that_was_sent(make_llm: Callable[..., LLMInterface]) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError) as caught:
        make_llm().send_prompt("Hi", model=MODEL, timeout=0.2)
    assert 0.15 < time.monotonic() - began < 2
    assert isinstance(caught.value, DeadlineExceededError | CallTimeoutError)
    [attempt] = caught.value.attempts
    assert attempt.failure == "timeout"
    assert attempt.seconds == pytest.approx(0.2, abs=0.1)


@pytest.mark.quotaflow_simulator(faults=[{"do": "timeout"}])
def test_a_silent_server_is_a_call_timeout(make_llm: Callable[..., LLMInterface]) -> None:
    llm = make_llm({"timeouts": {"read": 0.1}})
    with pytest.raises(CallTimeoutError) as caught:
        llm.send_prompt("Hi", model=MODEL, max_retries=1, retry_delay=0.01)
    assert [attempt.failure for attempt in caught.value.attempts] == ["timeout"] * 2
    assert caught.value.status is None


def test_a_deadline_that_has_passed_is_like_one_that_passes_on_the_way(
    make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders
) -> None:
    llm = make_llm()
    for deadline in (time.time() - 1, time.time() + 0.0001):
        with pytest.raises(DeadlineExceededError):
            llm.send_prompt("Hi", model=MODEL, deadline=deadline)
    assert simulated.stats()["requests"] == 0
    told = make_llm(errors="text").send_prompt("Hi", model=MODEL, deadline=time.time() - 1)
    assert told.startswith("[LLM Error: ")
    assert isinstance(told.error, DeadlineExceededError)


def test_a_prompt_larger_than_its_limit_fails_at_once(
    make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders
) -> None:
    llm = make_llm(limits={"openai": {"tpm": 100}})
    with pytest.raises(TokenLimitError) as caught:
        llm.send_prompt("word " * 1_000, model=MODEL)
    assert caught.value.retry_after is None
    assert "100" in str(caught.value)
    assert "shorten" in str(caught.value)
    assert simulated.stats()["requests"] == 0
    assert llm.send_prompt("Hi", model=MODEL, max_tokens=5)


@pytest.mark.quotaflow_simulator(
    keys=[{"key": "sk-test-1", "label": "OPENAI_API_KEY", "provider": "openai", "limits": {"tpm": 100}}]
)
def test_a_prompt_that_the_provider_calls_too_large_is_not_sent_again(
    make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders
) -> None:
    with pytest.raises(TokenLimitError) as caught:
        make_llm().send_prompt("word " * 1_000, model=MODEL)
    assert caught.value.retry_after is None
    assert simulated.stats()["requests"] == 1


def test_more_urgent_waiters_go_first_and_equals_in_order(
    make_llm: Callable[..., LLMInterface],
) -> None:
    served: list[int] = []
    all_wait = threading.Event()

    def answer(_: Request) -> bytes:
        assert all_wait.wait(20)
        return http(OPENAI_ANSWER)

    async def send(llm: LLMInterface, number: int, priority: int) -> None:
        await llm.asend_prompt("Hi", model=MODEL, priority=priority)
        served.append(number)

    async def run(llm: LLMInterface) -> None:
        tasks = [asyncio.create_task(send(llm, 0, 9))]
        while key_of(llm)["in_flight"] == 0:  # noqa: ASYNC110 - nothing tells when a call is sent
            await asyncio.sleep(0.005)
        for count, (number, priority) in enumerate(((1, 9), (2, 1), (3, 1), (4, 5), (5, 9)), start=1):
            tasks.append(asyncio.create_task(send(llm, number, priority)))
            await until_waiting(llm, count)
        all_wait.set()
        await asyncio.gather(*tasks)

    with Server(answer) as server:
        base_urls = {"openai": f"{server.url}/v1"}
        asyncio.run(run(make_llm(base_urls=base_urls, limits={"openai": {"concurrency": 1}})))
    assert served == [0, 1, 5, 4, 2, 3]


@pytest.mark.quotaflow_simulator
def test_a_full_line_takes_no_more(make_llm: Callable[..., LLMInterface]) -> None:
    llm = make_llm({"queue": {"max_size": 2}}, limits=ONE_A_MINUTE)
    llm.send_prompt("Hi", model=MODEL)

    async def run() -> None:
        tasks = [asyncio.create_task(llm.asend_prompt("Hi", model=MODEL)) for _ in range(2)]
        await until_waiting(llm, 2)
        with pytest.raises(QueueFullError, match=r"queue\.max_size"):
            await llm.asend_prompt("Hi", model=MODEL)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())


def test_skipping_the_limits_does_not_wait_and_is_counted(full: LLMInterface) -> None:
    full.send_prompt("Hi", model=MODEL, skip_rate_limit=True)
    assert key_of(full)["sent"] == 2


PACED = [
    {"key": f"sk-test-{n}", "label": f"key-{n}", "provider": "openai", "limits": {"rpm": 600, "burst": 5}}
    for n in (1, 2)
]


@pytest.mark.quiet
@pytest.mark.quotaflow_simulator(keys=PACED)
def test_no_server_ever_refuses_when_its_limits_are_known(
    make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders
) -> None:
    llm = make_llm(limits={"openai": {"rpm": {"amount": 600, "refill": "bucket", "burst": 5}}})

    async def send_all() -> list[Reply]:
        return await asyncio.gather(*(llm.asend_prompt(f"Number {n}.", model=MODEL) for n in range(40)))

    began = time.monotonic()
    replies = asyncio.run(send_all())
    took = time.monotonic() - began
    assert simulated.stats()["refused"] == {}
    assert simulated.stats()["accepted"] == len(replies) == 40
    # Ten at once, then one each 50 ms.
    assert took >= 1.4
    assert took < 1.5 * 1.5
