"""`RateLimiter.run`: the right key, a retry where it helps, and only there."""

from __future__ import annotations

import asyncio
import functools
import gc
import math
import os
import traceback
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import openai
import pytest

from limiter_helpers import refused, used
from probes import MODEL
from quotaflow import DailyQuotaError, InvalidArgumentError, RateLimiter
from quotaflow._limiter.run import tokens_used

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from quotaflow import Permit
    from quotaflow.testing import SimulatedProviders

TWO_KEYS = {
    "groq": [{"key": "gsk-test-1", "label": "A"}, {"key": "gsk-test-2", "label": "B"}],
    "openai": "sk-test-1",
}
QUICK = {"base_delay": 0.001}
RATE = {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}


@pytest.fixture
def limiter() -> Iterator[RateLimiter]:
    limits = {"groq": {"rpd": 100, "tpd": 100_000, **QUICK}, "openai": QUICK, "scraper": {"rps": 100, **QUICK}}
    with RateLimiter({}, keys=TWO_KEYS, limits=limits, state="memory") as limiter:
        yield limiter


class Fails:
    """Raises these errors, one after the other, and then answers; keeps what it was called with."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.seen: list[Any] = []

    def __call__(self, key: str | None = None) -> str:
        self.seen.append(key)
        if self.errors:
            raise self.errors.pop(0)
        return "fine"

    async def later(self, key: str | None = None) -> str:
        await asyncio.sleep(0)
        return self(key)


Runs = pytest.mark.parametrize("is_async", [False, True], ids=["run", "arun"])


def run(limiter: RateLimiter, is_async: bool, provider: str, fails: Fails, tokens: int = 0, **options: Any) -> Any:
    if is_async:
        return asyncio.run(limiter.arun(provider, fails.later, tokens, **options))
    return limiter.run(provider, fails, tokens, **options)


@Runs
def test_a_refusal_rotates_to_the_other_key(limiter: RateLimiter, is_async: bool) -> None:
    fails = Fails(refused(429, {"retry-after": "600"}, **RATE))
    assert run(limiter, is_async, "groq", fails, 500) == "fine"
    assert sorted(fails.seen) == ["gsk-test-1", "gsk-test-2"]
    first, second = ("A", "B") if fails.seen[0] == "gsk-test-1" else ("B", "A")
    assert 598 < limiter.wait_time("groq", key=first) <= 601
    assert limiter.wait_time("groq", key=second) == 0.0
    assert (used(limiter, "groq"), used(limiter, "groq", "tokens")) == (2, 500)


@Runs
def test_a_broken_server_is_tried_four_times_and_the_original_error_comes_out(
    limiter: RateLimiter, is_async: bool
) -> None:
    errors = [refused(500, message="oops") for _ in range(9)]
    fails = Fails(*errors)
    with pytest.raises(type(errors[0])) as caught:
        run(limiter, is_async, "openai", fails)
    assert caught.value is errors[3]
    assert len(fails.seen) == 4
    [note] = caught.value.__notes__
    assert note.startswith("quotaflow gave up on openai after 4 attempts: key ")
    assert note.count("server_error") == 4
    assert "sk-test-1" not in "".join(traceback.format_exception(caught.value))


@Runs
@pytest.mark.parametrize(
    "error",
    [refused(401, message="Invalid API key"), refused(400, message="bad"), ValueError("mine"), KeyError("x")],
)
def test_what_cannot_succeed_is_not_tried_again(limiter: RateLimiter, is_async: bool, error: Exception) -> None:
    fails = Fails(error)
    with pytest.raises(type(error)) as caught:
        run(limiter, is_async, "openai", fails)
    assert caught.value is error
    assert len(fails.seen) == 1
    assert limiter.can_request("groq")


def test_a_wrong_key_is_closed_and_the_other_one_used(limiter: RateLimiter) -> None:
    fails = Fails(refused(401, message="Invalid API Key", code="invalid_api_key"))
    assert limiter.run("groq", fails) == "fine"
    assert len(set(fails.seen)) == 2
    states = sorted(key["state"] for key in limiter.status()["keys"] if key["provider"] == "groq")
    assert states == ["disabled", "healthy"]


@Runs
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError()])
def test_what_ends_a_program_ends_it(limiter: RateLimiter, is_async: bool, error: BaseException) -> None:
    fails = Fails(error)
    with pytest.raises(type(error)):
        run(limiter, is_async, "groq", fails, 100)
    assert len(fails.seen) == 1
    assert used(limiter, "groq", "tokens") == 100
    assert [key["in_flight"] for key in limiter.status()["keys"]].count(0) == len(limiter.status()["keys"])


@Runs
def test_without_retry_there_is_one_attempt(limiter: RateLimiter, is_async: bool) -> None:
    fails = Fails(refused(503, message="busy"), refused(503, message="busy"))
    with pytest.raises(Exception, match="HTTP 503"):
        run(limiter, is_async, "openai", fails, retry=False)
    with pytest.raises(Exception, match="HTTP 503"):
        run(limiter, is_async, "openai", fails, max_retries=0)
    assert len(fails.seen) == 2


@Runs
def test_a_wait_beyond_the_time_there_is_ends_it_with_the_original_error(
    limiter: RateLimiter, is_async: bool
) -> None:
    fails = Fails(refused(429, {"retry-after": "600"}, **RATE))
    with pytest.raises(Exception, match="HTTP 429") as caught:
        run(limiter, is_async, "openai", fails, timeout=5)
    assert (
        "again possible in 600" in caught.value.__notes__[0]
        or "again possible in 599" in caught.value.__notes__[0]
    )
    with pytest.raises(Exception, match="used up or closed") as refusal:
        run(limiter, is_async, "openai", Fails(), timeout=5)
    assert isinstance(refusal.value, TimeoutError)


def test_the_parameter_that_takes_a_key_gets_it_and_the_others_their_arguments(limiter: RateLimiter) -> None:
    secret = "sk-test-1"

    def leading(key: str, prompt: str, n: int = 1) -> tuple[Any, ...]:
        return key, prompt, n

    def by_name(prompt: str, *, api_key: str) -> tuple[Any, ...]:
        return api_key, prompt

    def in_between(prompt: str, api_key: str, n: int) -> tuple[Any, ...]:
        return api_key, prompt, n

    def with_permit(prompt: str, permit: Permit, api_key: str = "") -> tuple[Any, ...]:
        return permit.key.secret, prompt, api_key

    def with_both(key: str = "of the cache", *, api_key: str) -> tuple[Any, ...]:
        return key, api_key

    assert limiter.run("openai", leading, 0, prompt="hi") == (secret, "hi", 1)
    assert limiter.run("openai", leading, 0, key="mine", prompt="hi") == ("mine", "hi", 1)
    assert limiter.run("openai", by_name, 0, "hi") == (secret, "hi")
    assert limiter.run("openai", in_between, 0, "hi", n=3) == (secret, "hi", 3)
    assert limiter.run("openai", with_permit, 0, "hi") == (secret, "hi", secret)
    assert limiter.run("openai", with_both) == ("of the cache", secret)
    assert limiter.run("openai", functools.partial(leading, n=7), 0, prompt="hi") == (secret, "hi", 7)
    assert limiter.run("openai", dict, 0, a=1) == {"a": 1}
    assert limiter.run("openai", lambda **given: given) == {}
    assert limiter.run("openai", "{}-{}".format, 0, 1, 2) == "1-2"


def test_no_argument_of_the_caller_is_displaced(limiter: RateLimiter) -> None:
    class Cache(dict[str, int]):
        def put(self, key: str, value: int) -> tuple[str, int]:
            return key, value

    def between(prompt: str, api_key: str, n: int = 1) -> tuple[Any, ...]:
        return prompt, api_key, n

    for provider in ("openai", "scraper"):
        assert limiter.run(provider, {"user:1": "Ada"}.get, 0, "user:1") == "Ada"
        assert limiter.run(provider, Cache().put, 0, "user:1", 5) == ("user:1", 5)
        assert limiter.run(provider, os.environ.get, 0, "PATH") == os.environ["PATH"]
        assert limiter.run(provider, between, 0, "hi", "mine", 3) == ("hi", "mine", 3)
        assert limiter.run(provider, functools.partial(Cache().put, key="k"), 0, value=1) == ("k", 1)
        # Built-in functions mean another key.
        assert limiter.run(provider, sorted, 0, [2, 1]) == [1, 2]
        assert limiter.run(provider, functools.partial(sorted, reverse=True), 0, [1, 2]) == [2, 1]
        assert limiter.run(provider, [2, 1].sort) is None


def test_a_lane_without_a_key_fills_none(limiter: RateLimiter) -> None:
    assert limiter.run("scraper", lambda key="default": key) == "default"
    assert limiter.run("scraper", lambda api_key="default": api_key) == "default"
    assert limiter.run("scraper", lambda api_key: api_key) is None
    assert limiter.run("scraper", lambda permit: permit.key.label) == "no key"
    with pytest.raises(TypeError, match="key"):
        limiter.run("scraper", lambda key: key)


@pytest.mark.parametrize("is_async", [False, True], ids=["run", "arun"])
def test_a_model_reaches_a_function_that_takes_it(limiter: RateLimiter, is_async: bool) -> None:
    def create(*, messages: list[str], model: str, timeout: float = 60.0) -> tuple[Any, ...]:
        return model, messages, timeout

    def call(fn: Any, *args: Any, **options: Any) -> Any:
        if is_async:
            return asyncio.run(limiter.arun("openai", fn, 10, *args, **options))
        return limiter.run("openai", fn, 10, *args, **options)

    assert call(create, model="small", messages=["hi"]) == ("small", ["hi"], 60.0)
    assert call(create, model="small", messages=[], timeout=9, max_retries=0, priority=5) == ("small", [], 60.0)
    assert call(functools.partial(create, timeout=5), model="small", messages=[]) == ("small", [], 5)
    assert call(functools.partial(create, model="mine"), model="small", messages=[]) == ("mine", [], 60.0)
    assert call(lambda **given: given, model="small", n=1) == {"model": "small", "n": 1}
    assert call(lambda model, n: (model, n), "mine", 2, model="small") == ("mine", 2)
    assert call(lambda prompt: prompt, "hi", model="small") == "hi"
    assert call(len, "hi", model="small") == 2


class Client:
    """Its method is no coroutine function, and what it returns is awaited, as in many libraries."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def create(self) -> Any:
        return self._create()

    async def _create(self) -> str:
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        return "fine"


def test_what_must_be_awaited_is_refused_by_run_and_counts_nothing(limiter: RateLimiter) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InvalidArgumentError, match="arun"):
            limiter.run("groq", Client().create, 500)
        gc.collect()
    assert (used(limiter, "groq"), used(limiter, "groq", "tokens")) == (0, 0)

    async def main() -> None:
        task = asyncio.ensure_future(asyncio.sleep(0))
        with pytest.raises(InvalidArgumentError, match="arun"):
            limiter.run("groq", lambda: task, 500)
        await task

    asyncio.run(main())
    # Of a task nobody knows how far it is.
    assert (used(limiter, "groq"), used(limiter, "groq", "tokens")) == (1, 500)
    assert {key["in_flight"] for key in limiter.status()["keys"]} == {0}


def test_arun_awaits_whatever_can_be(limiter: RateLimiter) -> None:
    client = Client(refused(503, message="busy"))
    assert asyncio.run(limiter.arun("openai", client.create)) == "fine"
    assert client.errors == []


@Runs
def test_generators_are_refused(limiter: RateLimiter, is_async: bool) -> None:
    def numbers() -> Iterator[int]:
        yield 1

    async def later() -> AsyncIterator[int]:
        yield 1

    def call(fn: Any) -> Any:
        return asyncio.run(limiter.arun("groq", fn)) if is_async else limiter.run("groq", fn)

    for fn in (numbers, later, functools.partial(numbers)):
        with pytest.raises(InvalidArgumentError, match="fn is a generator function"):
            call(fn)
    assert used(limiter, "groq") == 0
    hidden: list[Callable[[], Any]] = [lambda: numbers(), lambda: later()]  # noqa: PLW0108 - they hide what they call
    for fn in hidden:
        with pytest.raises(InvalidArgumentError, match="fn returned a generator"):
            call(fn)
    assert {key["in_flight"] for key in limiter.status()["keys"]} == {0}
    assert call(lambda: [*numbers()]) == [1]


@Runs
def test_an_exception_that_takes_no_note_comes_out_all_the_same(limiter: RateLimiter, is_async: bool) -> None:
    class FrozenError(ConnectionError):
        def add_note(self, _note: str) -> None:
            raise AttributeError("frozen")

    error = FrozenError("reset by peer")
    with pytest.raises(FrozenError) as caught:
        run(limiter, is_async, "openai", Fails(*[error] * 9), max_retries=1)
    assert caught.value is error


@Runs
def test_notes_do_not_pile_up_on_one_exception(limiter: RateLimiter, is_async: bool) -> None:
    error = ConnectionError("reset by peer")
    error.add_note("mine")
    for _ in range(3):
        with pytest.raises(ConnectionError):
            run(limiter, is_async, "openai", Fails(*[error] * 9), max_retries=1)
    mine, ours = error.__notes__
    assert mine == "mine"
    assert ours.startswith("quotaflow gave up on openai after 2 attempts")


def test_what_cannot_be_run_is_refused(limiter: RateLimiter) -> None:
    async def later() -> None: ...

    with pytest.raises(InvalidArgumentError, match="coroutine"):
        limiter.run("openai", later)
    with pytest.raises(InvalidArgumentError, match="of type str"):
        limiter.run("openai", "later")  # type: ignore[arg-type]
    assert asyncio.run(limiter.arun("openai", lambda: 5)) == 5


@pytest.mark.parametrize(
    ("result", "tokens"),
    [
        (SimpleNamespace(usage=SimpleNamespace(prompt_tokens=9, completion_tokens=3, total_tokens=12)), (9, 3)),
        (SimpleNamespace(usage=SimpleNamespace(input_tokens=20, output_tokens=5)), (20, 5)),
        (SimpleNamespace(usage=SimpleNamespace(total_tokens=12)), (12, 0)),
        (
            SimpleNamespace(
                usage_metadata=SimpleNamespace(
                    prompt_token_count=10, candidates_token_count=None, total_token_count=35
                )
            ),
            (10, 25),
        ),
        (SimpleNamespace(usage_metadata={"input_tokens": 7, "output_tokens": 2, "total_tokens": 9}), (7, 2)),
        ({"usage": {"prompt_tokens": 9, "completion_tokens": 3}}, (9, 3)),
        ({"usageMetadata": {"totalTokenCount": 30}}, (30, 0)),
        ({"usage": {"prompt_tokens": -9, "completion_tokens": math.nan, "total_tokens": True}}, None),
        ({"usage": None}, None),
        ({"usage": "12"}, None),
        ("text", None),
        (None, None),
    ],
)
def test_usage_is_found_where_libraries_put_it(result: Any, tokens: tuple[int, int] | None) -> None:
    assert tokens_used(result) == tokens


def test_a_result_that_breaks_when_looked_at_is_a_result() -> None:
    class Broken:
        @property
        def usage(self) -> None:
            raise RuntimeError("no")

    assert tokens_used(Broken()) is None


def test_usage_found_on_the_result_is_booked_and_what_the_function_settled_stays(limiter: RateLimiter) -> None:
    answer = {"usage": {"prompt_tokens": 30, "completion_tokens": 12}}
    assert limiter.run("groq", lambda: answer, 5_000) is answer
    assert used(limiter, "groq", "tokens") == 42

    def settles(permit: Permit) -> Any:
        permit.settle(tokens=8)
        return answer

    limiter.run("groq", settles, 5_000)
    assert used(limiter, "groq", "tokens") == 50


@pytest.mark.quotaflow_simulator(
    keys=[
        {"key": "sk-test-1", "label": "A", "provider": "openai", "limits": {"rpd": 2}},
        {"key": "sk-test-2", "label": "B", "provider": "openai", "limits": {"rpd": 3}},
    ]
)
def test_the_official_sdk_over_two_keys_until_both_are_used_up(simulated: SimulatedProviders) -> None:
    def ask(prompt: str, api_key: str) -> Any:
        with openai.OpenAI(api_key=api_key, base_url=simulated.base_urls["openai"], max_retries=0) as client:
            return client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": prompt}])

    limits = {"openai": {"tpd": {"amount": 1_000_000, "refill": "rolling"}}}
    with RateLimiter({}, keys=simulated.keys, limits=limits, state="memory") as limiter:
        answers = [limiter.run("openai", ask, 100, f"River {n}?", model=MODEL) for n in range(5)]
        assert all(answer.choices[0].message.content for answer in answers)
        assert used(limiter, "openai", "tokens") == sum(answer.usage.total_tokens for answer in answers)
        with pytest.raises((openai.RateLimitError, DailyQuotaError)):
            limiter.run("openai", ask, 100, "One more?", model=MODEL)
        with pytest.raises(DailyQuotaError):
            limiter.run("openai", ask, 100, "One more?", model=MODEL)
    stats = simulated.stats()
    # Each key was refused once, and nobody asked again.
    assert (stats["accepted"], stats["requests"]) == (5, 7)


@pytest.mark.quotaflow_simulator(
    keys=[{"key": "sk-test-1", "label": "A", "provider": "openai"}],
    faults=[{"when": {"first": 1}, "do": {"status": 503}}],
)
def test_the_official_async_sdk_is_tried_again(simulated: SimulatedProviders) -> None:
    async def main(limiter: RateLimiter) -> list[str]:
        async with openai.AsyncOpenAI(
            api_key=simulated.keys["openai"][0]["key"], base_url=simulated.base_urls["openai"], max_retries=0
        ) as client:

            async def ask(prompt: str) -> Any:
                return await client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": prompt}]
                )

            answers = await asyncio.gather(
                *(limiter.arun("openai", ask, 100, f"Lake {n}?", retry_delay=0.01) for n in range(5))
            )
        return [answer.choices[0].message.content for answer in answers]

    with RateLimiter({}, keys=simulated.keys, state="memory") as limiter:
        assert len([text for text in asyncio.run(main(limiter)) if text]) == 5


@pytest.mark.quotaflow_simulator(keys=[{"key": "sk-test-1", "label": "A", "provider": "openai"}])
def test_methods_of_the_official_sdks_are_run_as_they_are(simulated: SimulatedProviders) -> None:
    url = simulated.base_urls["openai"]
    messages = [{"role": "user", "content": "Which river?"}]
    client = openai.OpenAI(api_key="sk-test-1", base_url=url, max_retries=0)

    async def later(limiter: RateLimiter) -> Any:
        async with openai.AsyncOpenAI(api_key="sk-test-1", base_url=url, max_retries=0) as client:
            return await limiter.arun("openai", client.chat.completions.create, 10, model=MODEL, messages=messages)

    with client, RateLimiter({}, keys=simulated.keys, state="memory") as limiter:
        now = limiter.run("openai", client.chat.completions.create, 10, model=MODEL, messages=messages)
        assert now.choices[0].message.content
        assert asyncio.run(later(limiter)).choices[0].message.content


def test_two_providers_know_nothing_of_each_other(limiter: RateLimiter) -> None:
    closes: list[Callable[[], Exception]] = [lambda: refused(429, {"retry-after": "600"}, **RATE)]
    with pytest.raises(Exception, match="HTTP 429"):
        limiter.run("openai", Fails(closes[0]()), timeout=1)
    assert not limiter.can_request("openai")
    assert limiter.run("groq", Fails()) == "fine"
    assert limiter.choose_provider(100, ["openai", "groq"]) == ("groq", 0.0)
