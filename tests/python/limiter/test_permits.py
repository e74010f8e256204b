"""Permits of a `RateLimiter`: they wait, count and end as calls do."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import pickle
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from limiter_helpers import TEN_A_DAY, refused, used
from probes import MODEL
from quotaflow import (
    CallError,
    ClosedError,
    ConfigError,
    ContextTooLongError,
    DailyQuotaError,
    DeadlineExceededError,
    InvalidArgumentError,
    LLMInterface,
    RateLimiter,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from quotaflow.testing import SimulatedProviders

    Make = Callable[..., RateLimiter]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes limiters that forget; closes them at the end."""
    made = []

    def make(limits: dict[str, Any] | None = None, **arguments: Any) -> RateLimiter:
        limiter = RateLimiter({}, limits=limits, **({"state": "memory"} | arguments))
        made.append(limiter)
        return limiter

    yield make
    for limiter in made:
        limiter.close()


def test_ten_a_day_are_ten_and_the_last_tenth_is_for_those_that_matter(make: Make) -> None:
    limiter = make(TEN_A_DAY)
    for _ in range(9):
        with limiter.acquire("scraper") as permit:
            assert permit.waited < 1
    assert not limiter.can_request("scraper")
    assert limiter.can_request("scraper", priority=5)
    with pytest.raises(DailyQuotaError) as caught, limiter.acquire("scraper"):
        pytest.fail("one too many")
    assert caught.value.retry_after is not None
    assert 86_000 < caught.value.retry_after < 86_401
    with limiter.acquire("scraper", priority=9):
        pass
    with pytest.raises(DailyQuotaError), limiter.acquire("scraper", priority=9):
        pytest.fail("one too many")


def test_a_prompt_and_a_guarded_call_share_one_quota(
    simulated: SimulatedProviders, tmp_path: Path, make_llm: Callable[..., LLMInterface]
) -> None:
    state = tmp_path / "state.sqlite"
    limits = {"openai": {"rpd": {"amount": 3, "refill": "rolling"}}}
    llm = make_llm(limits=limits, state=state)
    with RateLimiter({}, keys=simulated.keys, limits=limits, state=state) as limiter:
        llm.send_prompt("Hi", model=MODEL)
        with limiter.acquire("openai") as permit:
            assert (permit.key.label, permit.key.secret) == ("OPENAI_API_KEY", "sk-test-1")
        llm.send_prompt("Hi", model=MODEL)
        with pytest.raises(DailyQuotaError), limiter.acquire("openai"):
            pytest.fail("one too many")
        with pytest.raises(DailyQuotaError):
            llm.send_prompt("Hi", model=MODEL)


def test_what_was_used_replaces_the_estimate(make: Make) -> None:
    limiter = make({"db": {"tpd": 100_000}})
    with limiter.acquire("db", tokens=1_000) as permit:
        assert used(limiter, "db", "tokens") == 1_000
        permit.settle(tokens=300)
        permit.settle(tokens=9_000)
    assert used(limiter, "db", "tokens") == 300
    with limiter.acquire("db", 1_000) as permit:
        permit.settle(input_tokens=100, output_tokens=50)
    assert used(limiter, "db", "tokens") == 450
    with limiter.acquire("db", 1_000):
        pass
    assert used(limiter, "db", "tokens") == 1_450
    with limiter.acquire("db", 1_000) as permit:
        permit.release()
    assert used(limiter, "db", "tokens") == 1_450
    with limiter.acquire("db", 1_000) as permit, pytest.raises(InvalidArgumentError):
        permit.settle(tokens=1, output_tokens=1)


@pytest.mark.parametrize(
    ("error", "tokens"),
    [
        (ValueError("mine"), 1_000),
        (KeyboardInterrupt(), 1_000),
        (asyncio.CancelledError(), 1_000),
        (refused(429, {"retry-after": "0"}, message="Rate limit reached"), 0),
        (ConnectionRefusedError("refused"), 0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_leaves_the_block_as_it_is_and_counts_what_may_have_been_used(
    make: Make, error: BaseException, tokens: int
) -> None:
    limiter = make({"openai": {"tpd": 100_000}})
    with pytest.raises(type(error)) as caught, limiter.acquire("openai", 1_000):
        raise error
    assert caught.value is error
    assert used(limiter, "openai", "tokens") == tokens
    [key] = [key for key in limiter.status()["keys"] if key["provider"] == "openai"]
    assert key["in_flight"] == 0


def test_a_refusal_in_the_block_closes_the_key_for_everybody(make: Make, tmp_path: Path) -> None:
    state = tmp_path / "state.sqlite"
    keys = {"groq": [{"key": "gsk-test-1", "label": "A"}, {"key": "gsk-test-2", "label": "B"}]}
    limiter, other = (make({}, keys=keys, state=state) for _ in range(2))
    with pytest.raises(Exception, match="HTTP 429"), limiter.acquire("groq", key="A"):
        raise refused(429, {"retry-after": "100"}, message="Rate limit reached", type="requests")
    assert 99 <= other.wait_time("groq", key="A") <= 101
    assert other.wait_time("groq") == 0.0
    with other.acquire("groq") as permit:
        assert permit.key.label == "B"


def test_what_is_missing_on_a_page_closes_nothing(make: Make) -> None:
    limiter = make({"scraper": {"rps": 100}, "openai": {"rpm": 100}})
    for provider in ("scraper", "openai"):
        for status in (404, 403):
            with pytest.raises(Exception, match=f"HTTP {status}"), limiter.acquire(provider):
                raise refused(status, message="no")
        assert limiter.can_request(provider)


def test_a_key_shows_its_secret_only_when_asked(make: Make) -> None:
    limiter = make({}, keys={"openai": "sk-test-1"})
    with limiter.acquire("openai", model="m") as permit:
        shown = f"{permit!r} {permit} {permit.key!r} {permit.key} {limiter!r}"
        assert "sk-test-1" not in shown
        assert permit.key.secret == "sk-test-1"
        assert permit.model == "m"
        for holder in (permit.key, limiter):
            with pytest.raises(TypeError):
                pickle.dumps(holder)


def test_threads_share_the_quota_and_nobody_gets_more(make: Make) -> None:
    limiter = make(
        {"scraper": {"rpd": {"amount": 40, "refill": "rolling"}, "concurrency": 4, "pause_threshold": 1}}
    )
    lock = threading.Lock()
    now, most, passed, refusals = 0, 0, 0, 0

    def work() -> None:
        nonlocal now, most, passed, refusals
        for _ in range(10):
            try:
                with limiter.acquire("scraper"):
                    with lock:
                        now += 1
                        most = max(most, now)
                        passed += 1
                    time.sleep(0.001)
                    with lock:
                        now -= 1
            except DailyQuotaError:
                with lock:
                    refusals += 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (passed, refusals) == (40, 40)
    assert most <= 4


async def until_in_line(limiter: RateLimiter, count: int) -> None:
    """Lets the loop run until so many wait."""
    async with asyncio.timeout(10):
        while len(limiter.queue()) < count:  # noqa: ASYNC110 - nothing tells when a call joins the line
            await asyncio.sleep(0.005)


def test_tasks_wait_their_turn_and_who_is_cancelled_gives_the_place_up(make: Make) -> None:
    limiter = make({"scraper": {"concurrency": 1, "rpd": {"amount": 100, "refill": "rolling"}}})
    order = []

    async def one(name: str, priority: int) -> None:
        async with limiter.acquire("scraper", priority=priority) as permit:
            order.append(name)
            await asyncio.sleep(0.01)
            assert permit.attempt == 1

    async def main() -> None:
        async with limiter.acquire("scraper"):
            late = asyncio.create_task(one("late", 3))
            await until_in_line(limiter, 1)
            gone = asyncio.create_task(one("gone", 9))
            urgent = asyncio.create_task(one("urgent", 5))
            await until_in_line(limiter, 3)
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
        await asyncio.gather(late, urgent)

    asyncio.run(main())
    assert order == ["urgent", "late"]
    assert used(limiter, "scraper") == 3


def test_a_task_cancelled_in_its_block_counts_and_frees_its_place(make: Make) -> None:
    limiter = make({"scraper": {"concurrency": 1, "rpd": 100}})

    async def main() -> None:
        entered = asyncio.Event()

        async def hold() -> None:
            async with limiter.acquire("scraper"):
                entered.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(hold())
        await entered.wait()
        assert not limiter.can_request("scraper")
        assert limiter.wait_time("scraper") == 0.05
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert limiter.can_request("scraper")

    asyncio.run(main())
    assert used(limiter, "scraper") == 1


def test_many_cancelled_at_the_moment_they_are_let_in_leave_nothing_in_flight(make: Make) -> None:
    limiter = make({"scraper": {"concurrency": 2}})

    async def one() -> None:
        async with limiter.acquire("scraper"):
            await asyncio.sleep(0)

    async def main() -> None:
        for _ in range(20):
            tasks = [asyncio.create_task(one()) for _ in range(10)]
            await asyncio.sleep(0.002)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    gc.collect()
    end = time.monotonic() + 10
    while not limiter.can_request("scraper") and time.monotonic() < end:
        time.sleep(0.01)
    [key] = limiter.status()["keys"]
    assert key["in_flight"] == 0


def _take(state: str, results: Any) -> None:
    with RateLimiter({}, limits=TEN_A_DAY, state=state) as limiter:
        taken = 0
        try:
            for _ in range(10):
                with limiter.acquire("scraper", priority=5):
                    taken += 1
        except DailyQuotaError:
            pass
        results.put(taken)


def test_processes_share_one_state_and_take_ten_together(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    processes = [context.Process(target=_take, args=(str(tmp_path / "s.sqlite"), results)) for _ in range(3)]
    for process in processes:
        process.start()
    taken = [results.get(timeout=25) for _ in processes]
    for process in processes:
        process.join()
    assert sum(taken) == 10


@pytest.mark.quiet
def test_a_second_wait_is_as_long_as_the_limit_says(make: Make) -> None:
    limiter = make({"scraper": {"rps": {"amount": 5, "burst": 1, "refill": "bucket"}}})
    began = time.monotonic()
    for _ in range(2):
        with limiter.acquire("scraper") as permit:
            pass
    assert 0.15 < time.monotonic() - began < 2
    assert 0.1 < permit.waited < 2


@pytest.mark.parametrize(
    "patience",
    [
        {"timeout": 0},
        {"timeout": 0.02},
        {"timeout": timedelta(seconds=0.02)},
        {"deadline": lambda: time.time() + 0.02},
        {"deadline": lambda: datetime.now(UTC) + timedelta(seconds=0.02)},
    ],
)
def test_who_has_no_time_is_told_at_once(make: Make, patience: dict[str, Any]) -> None:
    limiter = make({"scraper": {"rpm": {"amount": 1, "burst": 1, "refill": "bucket"}}})
    with limiter.acquire("scraper"):
        pass
    patience = {name: value() if callable(value) else value for name, value in patience.items()}
    with pytest.raises(DeadlineExceededError) as caught, limiter.acquire("scraper", **patience):
        pytest.fail("no permit in no time")
    assert isinstance(caught.value, TimeoutError)


def test_what_is_larger_than_a_call_may_be_is_refused(make: Make) -> None:
    limiter = make(
        {"groq": {"max_tokens_per_request": 6_000, "models": {"small": {"max_tokens_per_request": 100}}}}
    )
    with (
        pytest.raises(ContextTooLongError, match="max_tokens_per_request is 6000"),
        limiter.acquire("groq", 6_001),
    ):
        pytest.fail("too large")
    with pytest.raises(ContextTooLongError), limiter.acquire("groq", 101, model="small"):
        pytest.fail("too large")
    assert limiter.wait_time("groq", tokens=6_001) == float("inf")
    with limiter.acquire("groq", 6_000):
        pass


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("",), "provider is empty"),
        ((None,), "provider is of type NoneType"),
        (("opnai",), "did you mean"),
        (("openai", -1), "tokens is -1"),
        (("openai", 1.5), "tokens is 1.5"),
        (("openai", True), "tokens is True"),
    ],
)
def test_wrong_arguments_are_named(make: Make, arguments: tuple[Any, ...], words: str) -> None:
    limiter = make({"openai": {"rpm": 5}})
    with pytest.raises(InvalidArgumentError, match=words), limiter.acquire(*arguments):
        pytest.fail("no permit")


def test_a_deadline_that_has_passed_ends_it_at_once(make: Make) -> None:
    limiter = make({}, keys={"openai": "sk-test-1"})
    with pytest.raises(DeadlineExceededError, match="passed"), limiter.acquire("openai", deadline=time.time() - 1):
        pytest.fail("no permit")


@pytest.mark.parametrize(
    "wrong", [{"priority": 10}, {"key": "unknown"}, {"model": " "}, {"timeout": -1}, {"deadline": 5}, {"key": ""}]
)
def test_wrong_choices_are_refused(make: Make, wrong: dict[str, Any]) -> None:
    limiter = make({}, keys={"openai": "sk-test-1"})
    with pytest.raises(InvalidArgumentError), limiter.acquire("openai", **wrong):
        pytest.fail("no permit")


def test_a_closed_limiter_lets_nobody_in_and_sends_those_who_wait_home(make: Make) -> None:
    limiter = make({"scraper": {"concurrency": 1}})
    met: list[Exception] = []

    def wait() -> None:
        try:
            with limiter.acquire("scraper"):
                pytest.fail("it was closed")
        except ClosedError as error:
            met.append(error)

    with limiter.acquire("scraper"):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.05)
        limiter.close()
        thread.join()
    assert [str(error) for error in met] == ["this RateLimiter was closed — make a new one"]
    with pytest.raises(ClosedError), limiter.acquire("scraper"):
        pytest.fail("it is closed")
    limiter.close()


def test_one_acquisition_is_one_request_at_a_time(make: Make) -> None:
    limiter = make(TEN_A_DAY)
    acquisition = limiter.acquire("scraper")
    with acquisition, pytest.raises(RuntimeError, match="acquire"), acquisition:
        pytest.fail("it is in use")
    with acquisition:
        pass
    assert used(limiter, "scraper") == 2


def test_a_permit_that_is_lost_stays_counted(make: Make) -> None:
    limiter = make(TEN_A_DAY)
    acquisition = limiter.acquire("scraper")
    acquisition.__enter__()
    del acquisition
    gc.collect()
    assert used(limiter, "scraper") == 1
    [key] = limiter.status()["keys"]
    assert key["in_flight"] == 0


def test_what_is_no_provider_needs_limits_or_keys() -> None:
    with RateLimiter({"limits": {"db": {"rps": 5}}}, state="memory") as limiter, limiter.acquire("db") as permit:
        assert permit.key.secret is None
    with (
        RateLimiter({}, keys={"maps": ["maps-test-1"]}, state="memory") as limiter,
        limiter.acquire("maps") as permit,
    ):
        assert permit.key.secret == "maps-test-1"
    with pytest.raises(ConfigError, match="rpz"):
        RateLimiter({}, limits={"db": {"rpz": 5}}, state="memory")
    with pytest.raises(ConfigError):
        LLMInterface({}, limits={"db": {"rps": 5}}, state="memory")


def test_errors_that_pass_through_a_guard_from_another_call_of_ours_close_nothing(make: Make) -> None:
    limiter = make({"groq": {"rpd": 100}})
    with pytest.raises(CallError), limiter.acquire("groq"):
        raise DailyQuotaError("elsewhere", provider="openai", retry_after=1_000.0)
    assert limiter.can_request("groq")
