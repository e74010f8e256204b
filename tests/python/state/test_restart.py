"""Counts and blocks that outlive a process and are shared with others."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from quotaflow import DailyQuotaError, LLMInterface

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from quotaflow.testing import SimulatedProviders

# What another process does: sends until it is told that the day is used up, or for ever.
SEND = """
import json, sys
from quotaflow import DailyQuotaError, LLMInterface
given = json.loads(sys.argv[1])
llm = LLMInterface({}, **given["arguments"])
sent = 0
print("ready", flush=True)
sys.stdin.readline()
try:
    while sent < given["most"]:
        llm.send_prompt("Hi", model="gpt-4o-mini")
        sent += 1
except DailyQuotaError as error:
    assert not error.attempts, error.attempts
print(sent)
"""

ONE_KEY = [{"key": "sk-test-1", "label": "OPENAI_API_KEY", "provider": "openai"}]
only_openai = pytest.mark.quotaflow_simulator(keys=ONE_KEY)


def a_day(amount: int) -> dict[str, Any]:
    """A limit that gives nothing back while a test runs, as a bucket would; all of it may be used by everybody."""
    return {"openai": {"rpd": {"amount": amount, "refill": "rolling"}, "pause_threshold": 1.0}}


class Sender:
    """Another process that sends prompts."""

    def __init__(self, simulated: SimulatedProviders, state: Path | str, rpd: int, most: int = 10**9) -> None:
        arguments = {
            "keys": simulated.keys,
            "base_urls": simulated.base_urls,
            "limits": a_day(rpd),
            "state": str(state),
        }
        command = [sys.executable, "-c", SEND, json.dumps({"arguments": arguments, "most": most})]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def start(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.close()

    def sent(self) -> int:
        count = int(self._line())
        self.end()
        assert self.process.returncode == 0
        return count

    def end(self) -> None:
        assert self.process.stdout is not None
        self.process.wait(timeout=10)
        self.process.stdout.close()


def key_of(llm: LLMInterface) -> dict[str, Any]:
    key: dict[str, Any]
    [key] = [key for key in llm.status()["keys"] if key["provider"] == "openai"]
    return key


def day(llm: LLMInterface) -> dict[str, Any]:
    limit: dict[str, Any]
    [limit] = [limit for limit in key_of(llm)["limits"] if limit["period"] == "day"]
    return limit


def openai(simulated: SimulatedProviders, state: Path | str, rpd: int) -> LLMInterface:
    return LLMInterface({}, keys=simulated.keys, base_urls=simulated.base_urls, limits=a_day(rpd), state=state)


@pytest.mark.quotaflow_simulator(keys=ONE_KEY, latency=0.005)
def test_two_processes_share_a_hundred_permits_exactly(simulated: SimulatedProviders, tmp_path: Path) -> None:
    state = tmp_path / "state.sqlite"
    senders = [Sender(simulated, state, rpd=100) for _ in range(2)]
    for sender in senders:
        sender.start()
    sent = [sender.sent() for sender in senders]
    assert sum(sent) == 100
    assert min(sent) > 0
    assert simulated.stats()["accepted"] == 100
    with openai(simulated, state, rpd=100) as llm:
        assert (day(llm)["used"], day(llm)["remaining"]) == (100, 0)
        with pytest.raises(DailyQuotaError) as caught:
            llm.send_prompt("Hi", model="gpt-4o-mini")
        assert caught.value.retry_after is not None
        assert caught.value.retry_after > 0
    assert simulated.stats()["requests"] == 100


@pytest.mark.quotaflow_simulator(keys=ONE_KEY)
def test_the_last_tenth_of_a_limit_is_for_calls_that_matter(simulated: SimulatedProviders, tmp_path: Path) -> None:
    a_hundred = {"openai": {"rpd": {"amount": 100, "refill": "rolling"}}}
    sent = {3: 0, 5: 0}
    for priority in sent:
        with LLMInterface(
            {},
            keys=simulated.keys,
            base_urls=simulated.base_urls,
            limits=a_hundred,
            state=tmp_path / "state.sqlite",
        ) as llm:
            try:
                while True:
                    llm.send_prompt("Hi", model="gpt-4o-mini", priority=priority)
                    sent[priority] += 1
            except DailyQuotaError as error:
                kept = "kept for calls of priority 5 and above" in str(error)
                assert kept == (priority == 3)
    assert sent == {3: 90, 5: 10}


@pytest.mark.quotaflow_simulator(keys=ONE_KEY, latency=0.002)
def test_nothing_is_under_counted_when_a_process_is_killed(simulated: SimulatedProviders, tmp_path: Path) -> None:
    state = tmp_path / "state.sqlite"
    for _ in range(3):
        sender = Sender(simulated, state, rpd=100_000)
        before = simulated.stats()["requests"]
        sender.start()
        while simulated.stats()["requests"] < before + 20:
            time.sleep(0.005)
        sender.process.send_signal(signal.SIGKILL)
        sender.end()
    with openai(simulated, state, rpd=100_000) as llm:
        seen = simulated.stats()["requests"]
        assert seen <= day(llm)["used"] <= seen + 3  # each process may have had one call on its way out
        assert key_of(llm)["in_flight"] == 0
        llm.send_prompt("Hi", model="gpt-4o-mini")


@pytest.mark.quotaflow_simulator(keys=[ONE_KEY[0] | {"limits": {"rpm": 600, "rpd": 3}}])
def test_a_new_process_still_knows_the_exhausted_key(simulated: SimulatedProviders, tmp_path: Path) -> None:
    state = tmp_path / "state.sqlite"
    with LLMInterface({}, keys=simulated.keys, base_urls=simulated.base_urls, state=state) as llm:
        for _ in range(3):
            llm.send_prompt("Hi", model="gpt-4o-mini")
        with pytest.raises(DailyQuotaError) as caught:
            llm.send_prompt("Hi", model="gpt-4o-mini")
        until = key_of(llm)["blocks"][0]["until"]
    assert len(caught.value.attempts) == 1
    requests = simulated.stats()["requests"]
    sender = Sender(simulated, state, rpd=100)
    sender.start()
    assert sender.sent() == 0
    assert simulated.stats()["requests"] == requests
    with LLMInterface({}, keys=simulated.keys, base_urls=simulated.base_urls, state=state) as llm:
        key = key_of(llm)
        assert (key["state"], key["sent"], key["refused"]) == ("exhausted", 4, 1)
        assert key["blocks"][0]["until"] == pytest.approx(until)


@only_openai
def test_memory_forgets(simulated: SimulatedProviders) -> None:
    for _ in range(2):
        with openai(simulated, "memory", rpd=1) as llm:
            llm.send_prompt("Hi", model="gpt-4o-mini")
            with pytest.raises(DailyQuotaError):
                llm.send_prompt("Hi", model="gpt-4o-mini")


@only_openai
def test_reset_gives_everything_back_for_every_process(simulated: SimulatedProviders, tmp_path: Path) -> None:
    state = tmp_path / "state.sqlite"
    with openai(simulated, state, rpd=1) as one, openai(simulated, state, rpd=1) as two:
        one.send_prompt("Hi", model="gpt-4o-mini")
        with pytest.raises(DailyQuotaError):
            two.send_prompt("Hi", model="gpt-4o-mini")
        assert one.reset() > 0
        two.send_prompt("Hi", model="gpt-4o-mini")
        assert day(one)["used"] == 1


def in_child(work: Callable[[], object]) -> int:
    """The exit code of a forked child that did some work: 0 when it raised nothing."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(10)
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@forks
@only_openai
@pytest.mark.parametrize("memory", [False, True])
def test_an_interface_works_in_a_forked_child_and_still_in_the_parent(
    simulated: SimulatedProviders, tmp_path: Path, memory: bool
) -> None:
    llm = openai(simulated, "memory" if memory else tmp_path / "state.sqlite", rpd=100)
    llm.send_prompt("Hi", model="gpt-4o-mini")

    def send() -> None:
        import asyncio

        assert llm.send_prompt("Hi", model="gpt-4o-mini").provider == "openai"
        assert asyncio.run(llm.asend_prompt("Hi", model="gpt-4o-mini")).provider == "openai"

    assert in_child(send) == 0
    llm.send_prompt("Hi", model="gpt-4o-mini")
    assert simulated.stats()["accepted"] == 4
    assert day(llm)["used"] == (2 if memory else 4)
    llm.close()


@forks
@only_openai
def test_multiprocessing_children_share_the_day(simulated: SimulatedProviders, tmp_path: Path) -> None:
    llm = openai(simulated, tmp_path / "state.sqlite", rpd=30)
    llm.send_prompt("Hi", model="gpt-4o-mini")
    context = multiprocessing.get_context("fork")
    counts = context.SimpleQueue()

    def send() -> None:
        sent = 0
        try:
            while True:
                llm.send_prompt("Hi", model="gpt-4o-mini")
                sent += 1
        except DailyQuotaError:
            counts.put(sent)

    children = [context.Process(target=send) for _ in range(3)]
    for child in children:
        child.start()
    mine = 0
    try:
        while True:
            llm.send_prompt("Hi", model="gpt-4o-mini")
            mine += 1
    except DailyQuotaError:
        pass
    sent = [counts.get() for _ in children]
    for child in children:
        child.join(timeout=10)
        assert child.exitcode == 0
    assert mine + sum(sent) == 29
    assert simulated.stats()["accepted"] == 30
    llm.close()


@forks
@only_openai
def test_a_child_counts_on_after_its_parent_closed(simulated: SimulatedProviders, tmp_path: Path) -> None:
    """The last connection of a process takes the write-ahead log away; a child must not go on writing there."""
    state = tmp_path / "state.sqlite"
    ready, go = os.pipe(), os.pipe()
    parent_script = os.fork()
    if parent_script == 0:
        code = 1
        try:
            signal.alarm(15)
            llm = openai(simulated, state, rpd=100)
            llm.send_prompt("Hi", model="gpt-4o-mini")
            child = os.fork()
            if child == 0:
                llm.send_prompt("Hi", model="gpt-4o-mini")
                os.write(ready[1], b"x")
                os.read(go[0], 1)
                for _ in range(5):
                    llm.send_prompt("Hi", model="gpt-4o-mini")
                os._exit(0)
            os.read(ready[0], 1)
            llm.close()
            del llm
            os.write(go[1], b"x")
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(parent_script, 0)[1]) == 0
    for end in (*ready, *go):
        os.close(end)
    with openai(simulated, state, rpd=100) as llm:
        assert simulated.stats()["accepted"] == 7
        assert day(llm)["used"] == 7


@forks
@only_openai
def test_forks_while_other_threads_send_lose_nothing(simulated: SimulatedProviders, tmp_path: Path) -> None:
    llm = openai(simulated, tmp_path / "state.sqlite", rpd=100_000)
    over = threading.Event()

    def send() -> int:
        sent = 0
        while not over.is_set():
            llm.send_prompt("Hi", model="gpt-4o-mini")
            sent += 1
        return sent

    def send_three() -> None:
        for _ in range(3):
            llm.send_prompt("Hi", model="gpt-4o-mini")

    with ThreadPoolExecutor(4) as threads:
        sending = [threads.submit(send) for _ in range(4)]
        codes = [in_child(send_three) for _ in range(5)]
        over.set()
        sent = sum(thread.result() for thread in sending)
    assert codes == [0] * 5
    assert simulated.stats()["accepted"] == sent + 15
    assert (day(llm)["used"], key_of(llm)["in_flight"]) == (sent + 15, 0)
    llm.close()
