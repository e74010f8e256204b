"""Calls that wait, under threads, event loops of every kind and Ctrl-C."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from probes import MODEL, ONE_A_MINUTE, key_of, until, waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from quotaflow import (
        LLMInterface,
        Reply,
    )
    from quotaflow.testing import SimulatedProviders


def test_sixteen_threads_share_an_interface(
    make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders
) -> None:
    llm = make_llm(limits={"openai": {"rpd": 1_000}})
    with ThreadPoolExecutor(16) as threads:
        replies = list(threads.map(lambda n: llm.send_prompt(f"Number {n}.", model=MODEL), range(160)))
    assert all(f"Number {n}." in reply for n, reply in enumerate(replies))
    assert simulated.stats()["accepted"] == 160
    [limit] = [limit for limit in key_of(llm)["limits"] if limit["period"] == "day"]
    assert limit["used"] == 160
    assert key_of(llm)["in_flight"] == 0


@pytest.mark.quotaflow_simulator(latency=0.2)
def test_many_tasks_are_in_flight_at_once(
    make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders
) -> None:
    llm = make_llm(limits={"openai": {"rpm": 1_000_000}})

    async def send_all() -> list[Reply]:
        async with asyncio.TaskGroup() as tasks:
            sent = [tasks.create_task(llm.asend_prompt(f"Number {n}.", model=MODEL)) for n in range(64)]
        return [task.result() for task in sent]

    replies = asyncio.run(send_all())
    assert all(f"Number {n}." in reply for n, reply in enumerate(replies))
    assert simulated.stats()["largest_in_flight"] == 64


@pytest.mark.quotaflow_simulator(latency=0.02)
def test_where_no_limit_is_known_few_are_in_flight_at_first(
    make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders
) -> None:
    llm = make_llm()

    async def send(count: int) -> None:
        await asyncio.gather(*(llm.asend_prompt("Hi", model=MODEL) for _ in range(count)))

    asyncio.run(send(8))
    assert simulated.stats()["largest_in_flight"] <= 4
    asyncio.run(send(400))
    assert simulated.stats()["largest_in_flight"] > 20


def test_event_loops_come_and_go(make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders) -> None:
    llm = make_llm()

    async def send_some() -> int:
        return len(await asyncio.gather(*(llm.asend_prompt("Hi", model=MODEL) for _ in range(5))))

    assert [asyncio.run(send_some()) for _ in range(5)] == [5] * 5
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: asyncio.run(send_some()), range(12))) == [5] * 12
    assert simulated.stats()["accepted"] == 85


def test_two_loops_of_one_thread_take_turns(make_llm: Callable[..., LLMInterface]) -> None:
    llm = make_llm()
    with asyncio.Runner() as one, asyncio.Runner() as two:
        for runner in (one, two, one, two):
            assert runner.run(llm.asend_prompt("Hi", model=MODEL)).provider == "openai"


class Deaf(asyncio.SelectorEventLoop):
    """A loop that watches no sockets for others, as Windows' usual one."""

    def add_reader(self, *_: object) -> None:
        raise NotImplementedError


@pytest.mark.quotaflow_simulator(faults=[{"when": {"nth": [2]}, "do": {"status": 500}}])
def test_a_loop_that_watches_no_sockets_is_served_too(
    full: LLMInterface, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="quotaflow")
    seen: list[Any] = []
    with asyncio.Runner(loop_factory=Deaf) as runner:
        reply = runner.run(
            full.asend_prompt("Hi", model=MODEL, retry_delay=0.01, on_retry=seen.append, skip_rate_limit=True)
        )
        assert tuple(seen) == reply.attempts[:-1]
        assert len(seen) == 1
        assert "server_error" in caplog.text

        async def cancel_one() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(full.asend_prompt("Hi", model=MODEL), timeout=0.05)

        runner.run(cancel_one())
    until(lambda: waiting(full) == 0)


def test_cancelled_calls_leave_a_loop_without_sockets_awake(make_llm: Callable[..., LLMInterface]) -> None:
    llm = make_llm()

    async def ask() -> Reply:
        return await llm.asend_prompt("Hi", model=MODEL, cache=True)

    async def cancel_some(pauses: int) -> None:
        for _ in range(3):
            task = asyncio.ensure_future(ask())
            for _ in range(pauses):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.sleep(0)

    async def work() -> None:
        await ask()
        for pauses in range(100):
            await cancel_some(pauses % 4)
            # Its answer is there at once, if the loop is woken for it.
            assert (await asyncio.wait_for(ask(), timeout=5)).cached

    with asyncio.Runner(loop_factory=Deaf) as runner:
        runner.run(work())


def test_a_call_is_given_up_after_its_loop_without_sockets_was_closed(full: LLMInterface) -> None:
    async def until_it_waits() -> None:
        for _ in range(1_000):
            if waiting(full):
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the call does not wait")

    loop = Deaf()
    call = full.asend_prompt("Hi", model=MODEL)
    task = loop.create_task(call)
    loop.run_until_complete(until_it_waits())
    loop.close()
    call.close()
    assert not task.done()
    until(lambda: waiting(full) == 0)


def test_event_loops_leave_no_files_open(make_llm: Callable[..., LLMInterface]) -> None:
    import os

    llm = make_llm()

    def open_files() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only counted

    asyncio.run(llm.asend_prompt("Hi", model=MODEL))
    before = open_files()
    for _ in range(20):
        asyncio.run(llm.asend_prompt("Hi", model=MODEL))
    assert open_files() <= before + 4


WAIT = """
import asyncio, json, sys, time
from quotaflow import LLMInterface
given = json.loads(sys.argv[1])
llm = LLMInterface({}, **given["arguments"])
llm.send_prompt("Hi", model="gpt-4o-mini")
print("waiting", flush=True)
try:
    if given["is_async"]:
        asyncio.run(llm.asend_prompt("Hi", model="gpt-4o-mini"))
    else:
        llm.send_prompt("Hi", model="gpt-4o-mini")
except KeyboardInterrupt:
    interrupted = time.monotonic()
    status = llm.status()
    while status["waiting"] and time.monotonic() < interrupted + 5:
        status = llm.status()
    print(json.dumps([interrupted, status["waiting"], [key["in_flight"] for key in status["keys"]]]))
"""


@pytest.fixture
def waiting_process(
    simulated: SimulatedProviders,
) -> Iterator[Callable[[bool], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(is_async: bool) -> subprocess.Popen[str]:
        arguments = {
            "keys": simulated.keys,
            "base_urls": simulated.base_urls,
            "limits": ONE_A_MINUTE,
            "state": "memory",
        }
        given = json.dumps({"arguments": arguments, "is_async": is_async})
        process = subprocess.Popen([sys.executable, "-c", WAIT, given], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.quiet
@pytest.mark.parametrize("is_async", [False, True])
def test_ctrl_c_ends_a_wait_within_a_tenth_of_a_second(
    waiting_process: Callable[[bool], subprocess.Popen[str]], is_async: bool
) -> None:
    took = []
    for _ in range(5):
        process = waiting_process(is_async)
        time.sleep(0.05)  # it has said that it is about to wait
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=10)
        interrupted, lines, in_flight = json.loads(output)
        took.append(interrupted - sent)
        assert (lines, set(in_flight)) == ([], {0})
        assert process.returncode == 0
    assert statistics.median(took) < 0.1


def test_what_a_signal_handler_raises_ends_the_wait(full: LLMInterface) -> None:
    def handler(*_: object) -> None:
        raise LookupError("raised by a signal handler")

    def interrupt() -> None:
        until(lambda: waiting(full) == 1)
        time.sleep(0.03)  # not before the first look at the mailbox, for that is where it could get lost
        signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        threading.Thread(target=interrupt).start()
        with pytest.raises(LookupError, match="raised by a signal handler"):
            full.send_prompt("Hi", model=MODEL)
    finally:
        signal.signal(signal.SIGUSR1, before)
    until(lambda: waiting(full) == 0)
