"""The order of the waiting line, the limits of users, and emptying the line."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from probes import MODEL, key_of, until, until_waiting, waiting
from quotaflow import (
    BatchProgress,
    InvalidArgumentError,
    LLMInterface,
    QueueCleared,
    QueuedCall,
    RateLimiter,
    Reply,
    UserLimitError,
)
from servers import OPENAI_ANSWER, Server, http

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from quotaflow.testing import SimulatedProviders
    from servers import Request


def test_two_users_share_by_their_weights_whoever_came_first(make_llm: Callable[..., LLMInterface]) -> None:
    served: list[str] = []
    all_wait = threading.Event()

    def answer(_: Request) -> bytes:
        assert all_wait.wait(20)
        return http(OPENAI_ANSWER)

    async def one(llm: LLMInterface, user: str | None) -> None:
        await llm.asend_prompt("Hi", model=MODEL, user=user)
        served.append(user or "")

    async def run(llm: LLMInterface) -> None:
        tasks = [asyncio.create_task(one(llm, None))]
        while key_of(llm)["in_flight"] == 0:  # noqa: ASYNC110 - nothing tells when a call is sent
            await asyncio.sleep(0.005)
        for count, user in enumerate(["bob"] * 16 + ["alice"] * 16, start=1):
            tasks.append(asyncio.create_task(one(llm, user)))
            await until_waiting(llm, count)
        all_wait.set()
        await asyncio.gather(*tasks)

    users = {"users": {"alice": {"weight": 3}}}
    with Server(answer) as server:
        base_urls = {"openai": f"{server.url}/v1"}
        asyncio.run(run(make_llm(users, base_urls=base_urls, limits={"openai": {"concurrency": 1}})))
    # Of the first sixteen turns that both want, twelve are hers.
    both = [user for user in served if user][:20]
    assert 13 <= both.count("alice") <= 16, served


SPEND_ONE = """
import sys
from quotaflow import LLMInterface, UserLimitError
address, state, user = sys.argv[1:]
config = {"users": {"default": {"rpd": 2}, "boss": {"rpd": 100}}}
llm = LLMInterface(config, keys={"openai": ["sk-test-1"]}, base_urls={"openai": address}, state=state)
try:
    llm.send_prompt("Hi", model="gpt-4o-mini", user=user)
except UserLimitError as error:
    print(error.limit, error.used, error.amount, 86_000 < error.retry_after < 86_500)
else:
    print("sent")
"""


@pytest.mark.quotaflow_simulator
def test_a_users_limit_holds_in_all_processes_together(
    make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders, tmp_path: Path
) -> None:
    def elsewhere(user: str) -> str:
        arguments = [simulated.base_urls["openai"], str(tmp_path / "state.sqlite"), user]
        ran = subprocess.run(
            [sys.executable, "-c", SPEND_ONE, *arguments], capture_output=True, text=True, timeout=20, check=True
        )
        return ran.stdout.strip()

    llm = make_llm({"users": {"default": {"rpd": 2}, "boss": {"rpd": 100}}})
    llm.send_prompt("Hi", model=MODEL, user="alice")
    assert elsewhere("alice") == "sent"
    assert elsewhere("alice") == "rpd 2 2 True"
    with pytest.raises(UserLimitError, match="this user has used 2 of 2 requests per day") as raised:
        llm.send_prompt("Hi", model=MODEL, user="alice")
    assert (raised.value.limit, raised.value.used, raised.value.amount) == ("rpd", 2, 2)
    assert raised.value.attempts == ()
    assert elsewhere("bob") == elsewhere("boss") == elsewhere("boss") == elsewhere("boss") == "sent"
    llm.send_prompt("Hi", model=MODEL)
    assert b"alice" not in (tmp_path / "state.sqlite").read_bytes()
    assert simulated.stats()["requests"] == 7


@pytest.mark.quotaflow_simulator(latency=0.05)
def test_money_bounds_what_calls_at_the_same_time_cost(make_llm: Callable[..., LLMInterface]) -> None:
    users = {"default": {"cost_per_day": 0.01}}
    llm = make_llm({"users": users}, limits={"openai": {"concurrency": 100}})

    async def run() -> list[Reply | BaseException]:
        calls = (llm.asend_prompt("word " * 2_000, model="gpt-4o", max_tokens=50, user="alice") for _ in range(20))
        return await asyncio.gather(*calls, return_exceptions=True)

    results = asyncio.run(run())
    answered = [result for result in results if isinstance(result, Reply)]
    assert answered
    assert sum(reply.cost or 1 for reply in answered) <= Decimal("0.01")
    refused = [result for result in results if not isinstance(result, Reply)]
    assert {type(error) for error in refused} == {UserLimitError}
    assert {error.limit for error in refused if isinstance(error, UserLimitError)} == {"cost_per_day"}


@pytest.mark.quotaflow_simulator
def test_a_batch_names_the_limit_of_its_user(make_llm: Callable[..., LLMInterface]) -> None:
    llm = make_llm({"users": {"alice": {"rpm": {"amount": 60, "burst": 1, "refill": "bucket"}}}})
    told: list[BatchProgress] = []
    batch = llm.send_batch(["One", "Two", "Three"], model=MODEL, user="alice", progress=told.append)
    assert list(batch.summary.waited) == ["requests per minute of its user"]
    assert {progress.waiting_on for progress in told if progress.waiting} == {"requests per minute of its user"}


@pytest.mark.quotaflow_simulator
def test_who_waits_for_a_minute_of_their_own_holds_up_nobody(make_llm: Callable[..., LLMInterface]) -> None:
    llm = make_llm({"users": {"alice": {"rpm": 1}}})

    async def run() -> None:
        await llm.asend_prompt("Hi", model=MODEL, user="alice")
        second = asyncio.create_task(llm.asend_prompt("Hi", model=MODEL, user="alice"))
        await until_waiting(llm, 1)
        async with asyncio.timeout(5):
            await asyncio.gather(*(llm.asend_prompt("Hi", model=MODEL, user="bob") for _ in range(5)))
        [call] = llm.queue()
        assert (call.user, call.position) == ("alice", 1)
        assert call.obstacle is not None
        assert call.obstacle.startswith("of its user: 1 request per minute used up until")
        assert call.eta is not None
        assert 50 < call.eta < 62
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second

    asyncio.run(run())


def test_the_queue_lists_who_waits(full: LLMInterface) -> None:
    async def run() -> None:
        ways: list[dict[str, Any]] = [{"priority": 2}, {"user": "ann"}]
        tasks = [asyncio.create_task(full.asend_prompt("Hi", model=MODEL, **way)) for way in ways]
        await until_waiting(full, 2)
        person, batch = full.queue()
        assert isinstance(person, QueuedCall)
        assert (person.provider, person.model, person.priority, person.user) == ("openai", MODEL, 3, "ann")
        assert (person.position, batch.position, batch.user, batch.priority) == (1, 2, None, 2)
        assert 0 <= person.waited < 5
        assert person.tokens > 0
        assert person.obstacle is not None
        assert "1 request per minute used up until" in person.obstacle
        assert person.eta is not None
        assert batch.eta is not None
        assert 50 < person.eta < 62
        assert person.eta + 50 < batch.eta < person.eta + 70
        assert full.clear_queue(below_priority=3) == 1
        with pytest.raises(QueueCleared, match="taken out of the waiting line") as raised:
            await tasks[0]
        assert (raised.value.provider, raised.value.model) == ("openai", MODEL)
        assert [call.priority for call in full.queue()] == [3]
        assert (full.clear_queue("groq"), full.clear_queue("openai")) == (0, 1)
        with pytest.raises(QueueCleared):
            await tasks[1]
        assert full.queue() == []

    asyncio.run(run())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"provider": "opnai"}, "there is no provider"),
        ({"provider": ""}, "provider is empty"),
        ({"provider": "\ud800"}, "provider has an unpaired surrogate"),
        ({"below_priority": "high"}, "below_priority is of type str"),
        ({"below_priority": 11}, "below_priority is 11"),
        ({"below_priority": True}, "below_priority is True"),
    ],
)
def test_what_cannot_be_cleared_is_said(full: LLMInterface, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        full.clear_queue(**arguments)


@pytest.mark.quiet
def test_ten_thousand_who_wait_are_sent_home_in_seconds(full: LLMInterface) -> None:
    async def run() -> float:
        tasks = [asyncio.create_task(full.asend_prompt("Hi", model=MODEL, user=f"{n % 9}")) for n in range(10_000)]
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            while waiting(full) < len(tasks):  # noqa: ASYNC110 - nothing tells when somebody joins a line
                await asyncio.sleep(0.05)
        began = time.monotonic()
        assert full.clear_queue() == len(tasks)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} == {QueueCleared}
        return time.monotonic() - began

    assert asyncio.run(run()) < 10
    until(lambda: waiting(full) == 0)


def test_a_limiter_has_lines_too() -> None:
    with RateLimiter({}, limits={"scraper": {"rpm": 1}}, state="memory") as limiter:

        async def run() -> None:
            async with limiter.acquire("scraper"):
                pass

            async def second() -> None:
                async with limiter.acquire("scraper"):
                    raise AssertionError

            task = asyncio.create_task(second())
            async with asyncio.timeout(5):
                while not limiter.queue():  # noqa: ASYNC110 - nothing tells when somebody joins a line
                    await asyncio.sleep(0.005)
            [call] = limiter.queue()
            assert (call.provider, call.model) == ("scraper", None)
            assert limiter.clear_queue() == 1
            with pytest.raises(QueueCleared):
                await task

        asyncio.run(run())


def test_users_that_cannot_be_meant_are_named_with_their_place() -> None:
    from quotaflow import ConfigError

    with pytest.raises(ConfigError, match=r"did you mean `weight`\?") as raised:
        LLMInterface({"users": {"alice": {"wieght": 3}}}, state="memory")
    assert raised.value.path == "users.alice.wieght"


def test_a_call_larger_than_the_limit_of_its_user_is_not_told_to_wait(
    make_llm: Callable[..., LLMInterface],
) -> None:
    llm = make_llm({"users": {"bob": {"tpm": 100}}})
    with pytest.raises(UserLimitError, match="at most 100 that its user has") as raised:
        llm.send_prompt("word " * 500, model=MODEL, user="bob")
    assert raised.value.retry_after is None
    assert raised.value.hint == "shorten the prompt, lower max_tokens, or raise tpm of the user in the config"


@pytest.mark.quiet
@pytest.mark.quotaflow_simulator(latency=0.05)
def test_what_is_given_back_is_used_at_once_however_many_users_wait(make_llm: Callable[..., LLMInterface]) -> None:
    """Each user's limit has room for one call at a time, as long as nobody knows how short its answer is."""
    llm = make_llm({"users": {"default": {"tpm": 2_000}}}, limits={"openai": {"concurrency": 500}}, state="memory")

    async def run() -> float:
        began = time.monotonic()
        users = [f"user {number}" for number in range(120)] * 4
        calls = (
            llm.asend_prompt(f"{place}", model=MODEL, user=user, max_tokens=1_500)
            for place, user in enumerate(users)
        )
        await asyncio.gather(*calls)
        return time.monotonic() - began

    assert asyncio.run(run()) < 2.5
