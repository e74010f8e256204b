"""`retrying`: calls a function again after errors that pass by themselves."""

from __future__ import annotations

import functools
import inspect
import random
import time
from dataclasses import dataclass
from math import inf, isfinite

from quotaflow._call.checks import wrong, wrong_type
from quotaflow._retry.classify import classify_error
from quotaflow._retry.notes import note
from quotaflow._retry.retryable import LONGEST_PAUSE, passes
from quotaflow.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import timedelta
    from types import TracebackType
    from typing import Any, Self, TypeAlias, TypeVar

    from quotaflow._quotaflow import Verdict

    _F = TypeVar("_F", bound=Callable[..., Any])
    _RetryOn: TypeAlias = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]


@dataclass(frozen=True, slots=True)
class Retry:
    """What `on_retry` gets before each pause.

    >>> Retry(1, ValueError("no"), None, 1.25, 0.5).delay
    1.25
    """

    attempt: int
    """The number of the attempt that failed, from 1."""
    error: Exception
    """What it raised."""
    verdict: Verdict | None
    """What that means, if it is known."""
    delay: float
    """The seconds until the next attempt."""
    elapsed: float
    """The seconds since the first one began."""


def retrying(
    attempts: int | None = 3,
    base: float | timedelta = 1.0,
    cap: float | timedelta = LONGEST_PAUSE,
    multiplier: float = 2.0,
    jitter: float = 0.5,
    on_retry: Callable[[Retry], object] | None = None,
    total_time: float | timedelta | None = None,
    provider: str | None = None,
    retry_on: _RetryOn | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Any] | None = None,
    entropy: Callable[[], float] = random.random,
) -> Retrying:
    """Try something again after errors that may pass: as a decorator, or as a loop.

    What an error means is read from it (`classify_error`): status, headers, body, type, words. A wrong key, a bad
    request, an empty account or a filtered prompt is never tried again, and neither is what cannot be classified.
    When the error says how long to wait, that is the least; when that is longer than `cap`, it is raised at once.
    The last error is raised as it is, with a note. Sync and async functions and loops work alike, and so
    do functions that return something to be awaited, as methods of SDKs do; a pause ends with Ctrl-C or when the
    task is cancelled.

    Args:
        attempts: how many attempts are made at most, the first included; `None` for any number.
        base: the first pause in seconds, or a timedelta.
        cap: the longest pause, at most 300 s.
        multiplier: by how much each pause is longer than the one before; 1 or more.
        jitter: up to which share of it a pause is longer at random, never shorter; 0 for none.
        on_retry: called with a `Retry` before each pause; what it raises is logged and ignored. It may be async in
            async code.
        total_time: the seconds all attempts and pauses may take; a pause that would end later is not begun.
        provider: the provider that the errors come from, for instance `"openai"`; `None`: as they show.
        retry_on: only these: an exception type, some, or a function of the exception. What it names is tried again
            even if it cannot be classified, and still not when it is known that it cannot succeed.
        clock: what tells the time, in seconds.
        sleep: what waits, in seconds; in async code, what it returns is awaited if it can be.
        entropy: what draws from 0 to 1.

    Returns:
        A decorator that is also an iterable, for `for` and `async for`. Each loop starts anew.

    >>> @retrying(attempts=4, base=0.001)
    ... def ask():
    ...     answers.append("…")
    ...     if len(answers) < 3:
    ...         raise ConnectionError("reset by peer")
    ...     return len(answers)
    >>> answers = []
    >>> ask()
    3
    >>> for attempt in retrying(base=0.001):
    ...     with attempt:
    ...         if attempt.number < 2:
    ...             raise TimeoutError
    >>> attempt.number
    2
    """
    return Retrying(
        attempts, base, cap, multiplier, jitter, on_retry, total_time, provider, retry_on, clock, sleep, entropy
    )


class Retrying:
    """What `retrying(…)` gives."""

    __slots__ = (
        "_attempts", "_base", "_cap", "_clock", "_entropy", "_jitter", "_multiplier", "_on_retry", "_provider",
        "_retry_on", "_sleep", "_total_time",
    )  # fmt: skip

    def __init__(
        self,
        attempts: int | None,
        base: float | timedelta,
        cap: float | timedelta,
        multiplier: float,
        jitter: float,
        on_retry: Callable[[Retry], object] | None,
        total_time: float | timedelta | None,
        provider: str | None,
        retry_on: _RetryOn | None,
        clock: Callable[[], float],
        sleep: Callable[[float], Any] | None,
        entropy: Callable[[], float],
    ) -> None:
        self._attempts = None if attempts is None else count(attempts)
        self._base = number("base", base, 0.0, LONGEST_PAUSE)
        self._cap = number("cap", cap, 0.0, LONGEST_PAUSE)
        self._multiplier = number("multiplier", multiplier, 1.0, 100.0)
        self._jitter = number("jitter", jitter, 0.0, 10.0)
        self._total_time = None if total_time is None else number("total_time", total_time, 0.0, 30 * 86_400.0)
        check_callable("on_retry", on_retry, may_be_none=True)
        check_callable("sleep", sleep, may_be_none=True)
        check_callable("clock", clock)
        check_callable("entropy", entropy)
        check_provider(provider)
        check_retry_on(retry_on)
        self._on_retry, self._provider, self._retry_on = on_retry, provider, retry_on
        self._clock, self._sleep, self._entropy = clock, sleep, entropy

    def __call__(self, fn: _F) -> _F:
        """Decorate a function or a coroutine function; what it returns to be awaited is tried, too."""
        check_tried(fn)
        wrapped: Any
        if inspect.iscoroutinefunction(fn):

            @functools.wraps(fn)
            async def wrapped(*args: Any, **kwargs: Any) -> Any:
                async for attempt in self:
                    with attempt:
                        return await fn(*args, **kwargs)
                raise AssertionError  # the last attempt returns or raises

        else:

            @functools.wraps(fn)
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                attempts = Attempts(self)
                for attempt in attempts:
                    with attempt:
                        result = fn(*args, **kwargs)
                        if not inspect.isawaitable(result):
                            return result
                        # A method of an SDK that is async without saying so.
                        return self._awaited(attempts, attempt, result, functools.partial(fn, *args, **kwargs))
                raise AssertionError  # the last attempt returns or raises

        return wrapped  # type: ignore[no-any-return] # it takes and gives what fn does

    async def _awaited(
        self, attempts: Attempts, attempt: OneAttempt, result: Awaitable[Any], again: Callable[[], Any]
    ) -> Any:
        """Go on in a task with an attempt that was begun by calling a plain function."""
        with attempt:
            return await result
        async for following in attempts:
            with following:
                answer = again()
                return await answer if inspect.isawaitable(answer) else answer
        raise AssertionError  # the last attempt returns or raises

    def __iter__(self) -> Attempts:
        if inspect.iscoroutinefunction(self._on_retry):
            raise _async_on_retry()
        return Attempts(self)

    def __aiter__(self) -> Attempts:
        return Attempts(self)

    def now(self) -> float:
        """Return the time of this schedule's clock."""
        return self._clock()

    def sleep(self, seconds: float) -> None:
        """Pause a thread."""
        slept = (self._sleep or time.sleep)(seconds)
        if inspect.isawaitable(slept):
            if inspect.iscoroutine(slept):
                slept.close()
            raise InvalidArgumentError("sleep must be awaited", hint="pass one that blocks, or use async code")

    async def asleep(self, seconds: float) -> None:
        """Pause a task."""
        if self._sleep is None:
            import asyncio

            await asyncio.sleep(seconds)
            return
        slept = self._sleep(seconds)
        if inspect.isawaitable(slept):
            await slept

    def delay_after(
        self, error: Exception, number: int, elapsed: float
    ) -> tuple[float | None, Verdict | None, str]:
        """Return the pause after attempt `number`, or `None` and why there is no other; what the error means."""
        verdict = classify_error(error, self._provider)
        if not self._is_wanted(error, verdict):
            return None, verdict, "it would fail again" if verdict is not None else "it cannot be classified"
        if self._attempts is not None and number >= self._attempts:
            return None, verdict, "that was the last attempt"
        grown = self._base * self._multiplier ** min(number - 1, 64)
        spread = 1.0 + self._jitter * min(max(self._entropy(), 0.0), 1.0)
        pause = min(max(grown, 0.0) * spread, self._cap)
        said = verdict.retry_after if verdict is not None else None
        if said is not None:
            if said > self._cap:
                return None, verdict, f"it can be tried again in {said:.0f} s, which is longer than cap"
            # A little later than asked, and not all at once.
            pause = max(pause, min(said * spread, max(said, self._cap)))
        if self._total_time is not None and elapsed + pause > self._total_time:
            return None, verdict, f"the next attempt would come after total_time ({self._total_time:.0f} s)"
        return pause, verdict, ""

    def _is_wanted(self, error: Exception, verdict: Verdict | None) -> bool:
        if self._retry_on is None:
            return passes(verdict, inf)
        if isinstance(self._retry_on, type | tuple):
            wanted = isinstance(error, self._retry_on)
        else:
            wanted = bool(self._retry_on(error))
        return wanted and (verdict is None or passes(verdict, inf))

    def failed(self, error: Exception, number: int, began: float) -> tuple[float | None, Awaitable[object] | None]:
        """Note a failure; return the pause until the next attempt or `None`, and what `on_retry` left to await."""
        elapsed = self.now() - began
        delay, verdict, reason = self.delay_after(error, number, elapsed)
        if delay is None:
            if number > 1:
                text = f"quotaflow gave up after {number} attempts in {elapsed:.1f} s: {reason}"
                note(error, text, ("quotaflow gave up after ",))
            return None, None
        if self._on_retry is not None:
            try:
                told_later = self._on_retry(Retry(number, error, verdict, delay, elapsed))
                if inspect.isawaitable(told_later):
                    return delay, told_later
            except Exception:  # noqa: BLE001 - it is reported, and the call goes on
                _on_retry_raised()
        return delay, None


class Attempts:
    """One loop: the next attempt comes when the one before has failed and its pause is over."""

    __slots__ = ("_began", "_last", "_retrying")

    def __init__(self, retrying: Retrying) -> None:
        self._retrying = retrying
        self._began = retrying.now()
        self._last: OneAttempt | None = None

    def __iter__(self) -> Attempts:
        return self

    def __aiter__(self) -> Attempts:
        return self

    def __next__(self) -> OneAttempt:
        if self._last is not None:
            if self._last.delay is None:
                raise StopIteration
            if self._last.told_later is not None:
                if inspect.iscoroutine(self._last.told_later):
                    self._last.told_later.close()
                raise _async_on_retry()
            self._retrying.sleep(self._last.delay)
        return self._following()

    async def __anext__(self) -> OneAttempt:
        if self._last is not None:
            if self._last.delay is None:
                raise StopAsyncIteration
            if self._last.told_later is not None:
                try:
                    await self._last.told_later
                except Exception:  # noqa: BLE001 - it is reported, and the call goes on
                    _on_retry_raised()
            await self._retrying.asleep(self._last.delay)
        return self._following()

    def _following(self) -> OneAttempt:
        number = 1 if self._last is None else self._last.number + 1
        waited = 0.0 if self._last is None else self._last.delay or 0.0
        self._last = OneAttempt(self._retrying, number, waited, self._began)
        return self._last


class OneAttempt:
    """One attempt of a loop: `with attempt:` around what is tried."""

    __slots__ = ("_began", "_retrying", "delay", "number", "told_later", "waited")

    def __init__(self, retrying: Retrying, number: int, waited: float, began: float) -> None:
        self._retrying, self._began = retrying, began
        self.number = number
        """Which one it is, from 1."""
        self.waited = waited
        """The seconds that were waited before it."""
        self.delay: float | None = None
        """The seconds until the next one, once this one has failed; `None` while there is none."""
        self.told_later: Awaitable[object] | None = None
        """What `on_retry` left to be awaited."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, Exception):
            self.delay, self.told_later = self._retrying.failed(error, self.number, self._began)
        return self.delay is not None

    def __repr__(self) -> str:
        return f"<attempt {self.number}>"


def _async_on_retry() -> InvalidArgumentError:
    return InvalidArgumentError("on_retry must be awaited", hint="pass a plain function, or use async code")


def _on_retry_raised() -> None:
    from quotaflow._call.logs import logger

    logger().exception("on_retry raised")


def check_callable(name: str, given: Any, *, may_be_none: bool = False) -> None:
    """Refuse what cannot be called."""
    if not (callable(given) or (given is None and may_be_none)):
        raise wrong_type(name, given, "pass a function")


def check_provider(given: Any) -> None:
    """Refuse what is no name."""
    if given is not None and not isinstance(given, str):
        raise wrong_type("provider", given, "pass its name")


def check_tried(fn: Any) -> None:
    """Refuse what cannot be decorated."""
    if inspect.isclass(fn) or not callable(fn):
        what = f"the class {fn.__name__}" if inspect.isclass(fn) else f"something of type {type(fn).__name__}"
        raise InvalidArgumentError(f"{what} cannot be tried again", hint="decorate a function or a method")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise InvalidArgumentError("a generator cannot be tried again", hint="use the loop inside of it")


def check_retry_on(given: Any) -> None:
    """Refuse what names no errors."""
    types = given if isinstance(given, tuple) else (given,) if isinstance(given, type) else ()
    for one in types:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            shown = one.__name__ if isinstance(one, type) else f"of type {type(one).__name__}"
            raise InvalidArgumentError(f"retry_on names {shown}, no exception", hint="pass types of exceptions")
    if given is not None and not isinstance(given, tuple) and not callable(given):
        raise wrong_type("retry_on", given, "pass an exception type, a tuple or a function")
    if inspect.iscoroutinefunction(given):
        raise InvalidArgumentError("retry_on is a coroutine function", hint="pass one that answers at once")


def number(name: str, value: Any, least: float, most: float) -> float:
    """Return a number or a timedelta between two bounds, in seconds."""
    seconds = value.total_seconds() if hasattr(value, "total_seconds") else value
    if (
        isinstance(seconds, int | float)
        and not isinstance(seconds, bool)
        and isfinite(seconds)
        and least <= seconds <= most
    ):
        return float(seconds)
    raise wrong(name, seconds, f"a number from {least:g} to {most:g}")


def count(value: Any) -> int:
    """Return a number of attempts."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise wrong("attempts", value, "1 or more, or None; write @retrying() with brackets")
