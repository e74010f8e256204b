"""`retrying` in virtual time: pauses, caps, deadlines, and final errors."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import warnings
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from limiter_helpers import refused
from quotaflow import InvalidArgumentError, RateLimitError, Retry, retrying

if TYPE_CHECKING:
    from collections.abc import Callable


class World:
    """A clock that only sleeping moves, and something that fails as often as it is told."""

    def __init__(self, *errors: Exception, takes: float = 0.0) -> None:
        self.errors = list(errors)
        self.takes = takes
        self.now = 0.0
        self.pauses: list[float] = []
        self.calls = 0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    async def asleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.sleep(seconds)

    def call(self) -> str:
        self.calls += 1
        self.now += self.takes
        if self.errors:
            raise self.errors.pop(0)
        return "fine"

    def retrying(self, *, is_async: bool = False, **chosen: Any) -> Any:
        usual: dict[str, Any] = {"clock": self.clock, "entropy": lambda: 0.0}
        return retrying(**({"sleep": self.asleep if is_async else self.sleep} | usual | chosen))

    def run(self, form: str, **chosen: Any) -> Any:
        return FORMS[form](self, chosen)


def decorated(world: World, chosen: dict[str, Any]) -> Any:
    return world.retrying(**chosen)(world.call)()


def looped(world: World, chosen: dict[str, Any]) -> Any:
    for attempt in world.retrying(**chosen):
        with attempt:
            answer = world.call()
    return answer


def decorated_async(world: World, chosen: dict[str, Any]) -> Any:
    async def once() -> str:
        return world.call()

    call = world.retrying(is_async=True, **chosen)(once)
    assert inspect.iscoroutinefunction(call)
    return asyncio.run(call())


def looped_async(world: World, chosen: dict[str, Any]) -> Any:
    async def main() -> str:
        async for attempt in world.retrying(is_async=True, **chosen):
            with attempt:
                answer = world.call()
        return answer

    return asyncio.run(main())


FORMS: dict[str, Callable[[World, dict[str, Any]], Any]] = {
    "decorator": decorated,
    "loop": looped,
    "async decorator": decorated_async,
    "async loop": looped_async,
}
EachForm = pytest.mark.parametrize("form", FORMS)


def broken(count: int) -> list[Exception]:
    return [refused(500, message="oops") for _ in range(count)]


@EachForm
def test_what_works_is_called_once(form: str) -> None:
    world = World()
    assert world.run(form) == "fine"
    assert (world.calls, world.pauses) == (1, [])


@EachForm
def test_what_breaks_twice_works_at_the_third_attempt(form: str) -> None:
    world = World(*broken(2))
    assert world.run(form) == "fine"
    assert world.pauses == [1.0, 2.0]


@EachForm
def test_the_last_error_comes_out_as_it_is_with_a_note(form: str) -> None:
    errors = broken(9)
    world = World(*errors)
    with pytest.raises(type(errors[0])) as caught:
        world.run(form)
    assert caught.value is errors[2]
    assert caught.value.__notes__ == ["quotaflow gave up after 3 attempts in 3.0 s: that was the last attempt"]
    assert world.pauses == [1.0, 2.0]


@EachForm
@pytest.mark.parametrize(
    "error",
    [
        refused(401, message="Invalid API key"),
        refused(400, message="bad request"),
        refused(404, message="no such model"),
        refused(429, message="You exceeded your current quota", code="insufficient_quota"),
        ValueError("mine"),
        RuntimeError("order 4290 is 429 days old"),
    ],
    ids=str,
)
def test_what_cannot_succeed_is_not_tried_again(form: str, error: Exception) -> None:
    world = World(error)
    with pytest.raises(type(error)) as caught:
        world.run(form, attempts=9)
    assert (world.calls, world.pauses) == (1, [])
    assert not hasattr(caught.value, "__notes__")


@EachForm
def test_what_the_error_says_is_the_least(form: str) -> None:
    world = World(refused(429, {"retry-after": "7"}, message="Rate limit reached"), *broken(1))
    assert world.run(form) == "fine"
    assert world.pauses == [pytest.approx(7.0, abs=0.01), 2.0]


def test_jitter_only_makes_it_longer() -> None:
    for entropy, first in ((0.0, 1.0), (0.5, 1.25), (1.0, 1.5)):
        world = World(*broken(1))
        world.run("loop", entropy=lambda entropy=entropy: entropy)
        assert world.pauses == [first]
    world = World(*broken(1))
    world.run("loop", entropy=lambda: 1.0, jitter=0)
    assert world.pauses == [1.0]
    world = World(refused(429, {"retry-after": "10"}, message="Rate limit reached"))
    world.run("loop", entropy=lambda: 1.0)
    assert world.pauses == [pytest.approx(15.0, abs=0.01)]


def test_pauses_grow_to_the_cap_and_no_further() -> None:
    world = World(*broken(12))
    world.run("loop", attempts=13)
    assert world.pauses[:9] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert set(world.pauses[9:]) == {300.0}
    world = World(*broken(4))
    world.run("loop", attempts=5, base=0.5, multiplier=10, cap=timedelta(seconds=20))
    assert world.pauses == [0.5, 5.0, 20.0, 20.0]
    world = World(*broken(200))
    world.run("loop", attempts=None, entropy=lambda: 1.0)
    assert (world.calls, max(world.pauses)) == (201, 300.0)


def test_who_asks_for_more_than_the_cap_is_not_asked_again() -> None:
    world = World(refused(429, {"retry-after": "301"}, message="Rate limit reached"))
    with pytest.raises(Exception, match="HTTP 429"):
        world.run("loop")
    assert world.pauses == []


def test_the_total_time_is_not_overrun() -> None:
    world = World(*broken(9), takes=1.0)
    with pytest.raises(Exception, match="HTTP 500") as caught:
        world.run("loop", attempts=None, total_time=10)
    # 1 + 1 + 1 + 2 + 1 are over, and 4 more would end at 10; after that, 8 would not.
    assert world.pauses == [1.0, 2.0, 4.0]
    assert "after total_time (10 s)" in caught.value.__notes__[0]


def test_only_what_is_named_is_tried_again_and_still_nothing_hopeless() -> None:
    world = World(KeyError("x"), KeyError("y"))
    assert world.run("loop", retry_on=KeyError) == "fine"
    world = World(*broken(1))
    with pytest.raises(Exception, match="HTTP 500"):
        world.run("loop", retry_on=(KeyError, OSError))
    world = World(refused(401, message="Invalid API key"))
    with pytest.raises(Exception, match="HTTP 401"):
        world.run("loop", retry_on=Exception)
    world = World(ValueError("again"), ValueError("never"))
    with pytest.raises(ValueError, match="never"):
        world.run("loop", retry_on=lambda error: "again" in str(error))
    assert world.calls == 2


def test_our_own_errors_are_understood() -> None:
    world = World(RateLimitError("slow down", retry_after=4.0))
    assert world.run("loop") == "fine"
    assert world.pauses == [pytest.approx(4.0, abs=0.01)]


@EachForm
def test_on_retry_is_told_and_may_fail(form: str, caplog: pytest.LogCaptureFixture) -> None:
    told: list[Retry] = []

    def on_retry(retry: Retry) -> None:
        told.append(retry)
        raise LookupError("a hook of a program")

    world = World(*broken(2), takes=0.5)
    with caplog.at_level(logging.ERROR, "quotaflow"):
        assert world.run(form, on_retry=on_retry) == "fine"
    assert [(retry.attempt, retry.delay, retry.elapsed) for retry in told] == [(1, 1.0, 0.5), (2, 2.0, 2.0)]
    assert told[0].verdict is not None
    assert told[0].verdict.failure == "server_error"
    assert [record.message for record in caplog.records] == ["on_retry raised"] * 2


def test_each_loop_and_each_call_starts_anew() -> None:
    world = World(*broken(2))
    call = world.retrying()(world.call)
    assert (call(), call()) == ("fine", "fine")
    schedule = world.retrying()
    for _ in range(2):
        world.errors = broken(2)
        for attempt in schedule:
            with attempt:
                world.call()
        assert attempt.number == 3


def test_an_attempt_knows_its_number_and_what_was_waited() -> None:
    world = World(*broken(2))
    seen = []
    for attempt in world.retrying():
        seen.append((attempt.number, attempt.waited, repr(attempt)))
        with attempt:
            world.call()
    assert seen == [(1, 0.0, "<attempt 1>"), (2, 1.0, "<attempt 2>"), (3, 2.0, "<attempt 3>")]


def test_a_loop_whose_body_ignores_the_attempt_runs_once() -> None:
    assert len(list(retrying())) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_what_ends_a_program_is_not_tried_again(error: type[BaseException]) -> None:
    calls = []

    @retrying(retry_on=lambda _: True)
    def call() -> None:
        calls.append(1)
        raise error

    with pytest.raises(error):
        call()
    assert len(calls) == 1


def test_a_pause_ends_when_the_task_is_cancelled() -> None:
    async def main() -> None:
        @retrying(base=60)
        async def call() -> None:
            raise ConnectionError("reset by peer")

        task = asyncio.create_task(call())
        await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"attempts": 0}, "attempts is 0"),
        ({"attempts": True}, "attempts is True"),
        ({"attempts": len}, "brackets"),
        ({"base": -1}, "base is -1"),
        ({"base": float("nan")}, "base is nan"),
        ({"cap": 301}, "cap is 301"),
        ({"multiplier": 0.5}, "multiplier is 0.5"),
        ({"jitter": "x"}, "jitter is of type str"),
        ({"total_time": float("inf")}, "total_time is inf"),
        ({"on_retry": "log"}, "on_retry is of type str"),
        ({"sleep": 3}, "sleep is of type int"),
        ({"clock": None}, "clock is of type NoneType"),
        ({"entropy": 0.5}, "entropy is of type float"),
        ({"provider": 7}, "provider is of type int"),
        ({"retry_on": "ValueError"}, "retry_on is of type str"),
        ({"retry_on": int}, "retry_on names int, no exception"),
        ({"retry_on": (ValueError, 429)}, "retry_on names of type int, no exception"),
        ({"retry_on": asyncio.sleep}, "retry_on is a coroutine function"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        retrying(**wrong)


def test_a_method_that_is_async_without_saying_so_is_tried_again() -> None:
    world = World(*broken(2))

    async def later() -> str:
        await asyncio.sleep(0)
        return world.call()

    call = world.retrying(is_async=True)(lambda: later())  # noqa: PLW0108 - it hides what it calls
    assert not inspect.iscoroutinefunction(call)
    assert asyncio.run(call()) == "fine"
    assert (world.calls, world.pauses) == (3, [1.0, 2.0])
    world = World(*broken(9))
    with pytest.raises(Exception, match="HTTP 500") as caught:
        asyncio.run(world.retrying(is_async=True)(lambda: later())())  # noqa: PLW0108
    assert (world.calls, len(caught.value.__notes__)) == (3, 1)


@pytest.mark.parametrize("form", ["async decorator", "async loop"])
def test_an_async_on_retry_is_awaited_and_may_fail(form: str, caplog: pytest.LogCaptureFixture) -> None:
    told: list[int] = []

    async def on_retry(retry: Retry) -> None:
        await asyncio.sleep(0)
        told.append(retry.attempt)
        raise LookupError("a hook of a program")

    world = World(*broken(2))
    with caplog.at_level(logging.ERROR, "quotaflow"):
        assert world.run(form, on_retry=on_retry) == "fine"
    assert told == [1, 2]
    assert [record.message for record in caplog.records] == ["on_retry raised"] * 2


@pytest.mark.parametrize("form", ["decorator", "loop"])
def test_what_must_be_awaited_is_refused_in_sync_code(form: str) -> None:
    async def on_retry(_retry: Retry) -> None: ...

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InvalidArgumentError, match="on_retry must be awaited"):
            World(*broken(1)).run(form, on_retry=on_retry)
        world = World(*broken(1))
        with pytest.raises(InvalidArgumentError, match="sleep must be awaited"):
            world.run(form, sleep=world.asleep)
        gc.collect()


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="the class World cannot be tried again"):
        retrying()(World)
    with pytest.raises(InvalidArgumentError, match="of type int cannot be tried again"):
        retrying()(7)  # type: ignore[type-var]


def test_notes_neither_replace_an_exception_nor_pile_up() -> None:
    class FrozenError(ConnectionError):
        def add_note(self, _note: str) -> None:
            raise AttributeError("frozen")

    error: Exception = FrozenError("reset by peer")
    with pytest.raises(FrozenError) as caught:
        World(*[error] * 3).run("loop")
    assert caught.value is error
    error = ConnectionError("reset by peer")
    for _ in range(3):
        with pytest.raises(ConnectionError):
            World(*[error] * 3).run("loop")
    assert len(error.__notes__) == 1


def test_generators_are_refused_and_names_are_kept() -> None:
    def numbers() -> Any:
        yield 1

    with pytest.raises(InvalidArgumentError, match="generator"):
        retrying()(numbers)

    @retrying()
    def documented(one: int, *, two: str = "") -> None:
        """Says what it does."""

    assert documented.__name__ == "documented"
    assert documented.__doc__ == "Says what it does."
    assert str(inspect.signature(documented)) == "(one: 'int', *, two: 'str' = '') -> 'None'"
