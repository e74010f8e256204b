"""`RateLimiter`: keeps calls that other code sends within their quotas."""

from __future__ import annotations

from quotaflow._call.base import Base
from quotaflow._call.options import guard_options
from quotaflow._limiter.accounting import Bookkeeping
from quotaflow.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime, timedelta
    from os import PathLike
    from typing import Any

    from quotaflow._call.config_manager import ConfigManager
    from quotaflow._limiter.permits import Acquisition
    from quotaflow._quotaflow import Core


class RateLimiter(Bookkeeping, Base):
    """Keeps calls of official SDKs, databases and scrapers within their quotas.

    It takes what `LLMInterface` takes, waits in the same way, and counts in the same place: with the same `state`
    and keys, what one sends the other knows, in this process and in all others. `limits` and `keys` may name
    things that are no provider, for instance `{"scraper": {"rps": 5}}`. One is enough for all threads and tasks.

    Args:
        config: a path, a dict, a config manager, or `None` to search, as for `LLMInterface`.
        keys: keys by provider.
        limits: limits by provider or by any other name.
        base_urls: where a provider is reached; only `LLMInterface` sends there.
        state: where quotas are remembered: a path, `"memory"`, or `None` for a file in the user's cache folder.

    Raises:
        ConfigError: the configuration is invalid; it names the field and the nearest valid one.

    >>> limiter = RateLimiter({}, limits={"scraper": {"rps": 5}}, state="memory")
    >>> with limiter.acquire("scraper") as permit:
    ...     page = "<html>"
    >>> limiter.run("scraper", lambda: page.upper())
    '<HTML>'
    """

    __slots__ = ("_closed",)

    _NAME = "a RateLimiter"

    def __init__(
        self,
        config: str | PathLike[str] | Mapping[str, Any] | ConfigManager | None = None,
        *,
        keys: Mapping[str, Any] | None = None,
        limits: Mapping[str, Any] | None = None,
        base_urls: Mapping[str, str] | None = None,
        state: str | PathLike[str] | None = None,
    ) -> None:
        self._closed = False
        super().__init__(config, keys, limits, base_urls, state, others=True)

    def acquire(
        self,
        provider: str,
        tokens: int = 0,
        *,
        key: str | None = None,
        model: str | None = None,
        priority: int = 3,
        timeout: float | timedelta | None = None,
        deadline: datetime | float | None = None,
    ) -> Acquisition:
        """Return a permit for one request, for `with` or `async with`, which wait until it may be sent.

        Leaving the block books what `permit.settle(…)` said, else the estimate. An exception that leaves it is
        classified and booked, which may close the key for all who share the state, and goes on. Of what is no
        `Exception` (Ctrl-C, a cancelled task) it is not known what was sent: the estimate stays counted, unless
        `permit.release()` was called. Who is cancelled while waiting leaves nothing counted.

        Args:
            provider: a provider, or any other name that has limits.
            tokens: how many tokens it will take, estimated; 0 for none or unknown.
            key: the label of the only key that may be used; `None` for whichever is best.
            model: the model, whose own limits then hold as well.
            priority: 0 to 9; 9 goes first. From 5 on, a call may use what `pause_threshold` keeps from others.
            timeout: the seconds to wait at most; 0 not to wait at all.
            deadline: the same as a moment: an aware datetime or seconds since 1970.

        Raises:
            InvalidArgumentError: an argument is wrong, or there is no such provider or key.
            DeadlineExceededError: it could not be met, or came while waiting.
            CallError: everything is used up or closed for longer than `max_wait`; the class says why.
            StateError: the remembered quotas cannot be read or written.
            ClosedError: the limiter is closed.

        >>> with limiter.acquire("openai", tokens=1000) as permit:
        ...     # OpenAI(api_key=permit.key.secret).responses.create(…)
        ...     permit.settle(tokens=740)
        """
        from quotaflow._limiter.permits import Acquisition

        options = guard_options(provider, tokens, key, model, priority, timeout=timeout, deadline=deadline)
        return Acquisition(self._listened(), options)

    def run(
        self,
        provider: str,
        fn: Callable[..., Any],
        tokens: int = 0,
        *args: Any,
        model: str | None = None,
        only_key: str | None = None,
        priority: int = 3,
        timeout: float | timedelta | None = None,
        deadline: datetime | float | None = None,
        retry: bool = True,
        max_retries: int | None = None,
        retry_delay: float | timedelta | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call `fn(*args, **kwargs)` when it may, and again when that makes sense.

        A parameter of `fn` called `api_key` gets the key, one called `permit` the permit, and one called `key` the
        key when there is one and `fn` has neither of them nor is built in; always by name, and only where your own
        arguments leave it open: none of them ever moves. `model` is handed on to an `fn` that takes it. What `fn`
        raises is classified: it is tried again after its block or a back-off, with
        another key, or not at all, as a prompt of `LLMInterface` would be. What cannot be classified is not tried
        again. The usage found on the result (of openai, anthropic, google.genai, LangChain, or a dict like theirs)
        is booked, else the estimate.

        Args:
            provider: a provider, or any other name that has limits.
            fn: a function that makes one request; for what must be awaited there is `arun`. No generator.
            tokens: how many tokens one try will take, estimated.
            args: for `fn`.
            model: the model, whose own limits then hold as well; `fn` gets it, too, if it takes `model`.
            only_key: the label of the only key that may be used.
            priority: as in `acquire`.
            timeout: the seconds that tries and waits may take together; a try under way is not cut off.
            deadline: the same as a moment.
            retry: whether to try again at all.
            max_retries: how often; `None` for what the config says (3).
            retry_delay: the first back-off; `None` for what the config says (1 s).
            kwargs: for `fn`. What this method itself takes (`timeout`, `max_retries`, …) is not handed on, except
                `model`: bind it with `functools.partial(fn, timeout=5)`.

        Returns:
            What `fn` returned.

        Raises:
            Exception: what `fn` raised last, with a note that tells what was tried. When nothing was tried:
                everything that `acquire` raises.

        >>> limiter.run("openai", lambda question, api_key: f"{question} {len(api_key) > 0}", 0, "Is there a key?")
        'Is there a key? True'
        """
        from inspect import iscoroutinefunction

        from quotaflow._limiter.arguments import Asked
        from quotaflow._limiter.run import run

        if iscoroutinefunction(fn):
            raise InvalidArgumentError("fn is a coroutine function", hint="await limiter.arun(…)")
        options = guard_options(
            provider, tokens, only_key, model, priority, timeout=timeout, deadline=deadline,
            retry=retry, max_retries=max_retries, retry_delay=retry_delay,
        )  # fmt: skip
        asked = Asked(fn, args, kwargs, model)
        return run(self._listened().guard(options), asked)

    async def arun(
        self,
        provider: str,
        fn: Callable[..., Any],
        tokens: int = 0,
        *args: Any,
        model: str | None = None,
        only_key: str | None = None,
        priority: int = 3,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109 - it ends waits before they begin
        deadline: datetime | float | None = None,
        retry: bool = True,
        max_retries: int | None = None,
        retry_delay: float | timedelta | None = None,
        **kwargs: Any,
    ) -> Any:
        """Do the same from asyncio: what `fn` returns is awaited; parameters, answer and errors match `run`.

        >>> import asyncio
        >>> async def ask(api_key):
        ...     return "an answer"
        >>> asyncio.run(limiter.arun("openai", ask, tokens=100))
        'an answer'
        """
        from quotaflow._limiter.arguments import Asked
        from quotaflow._limiter.run import arun

        options = guard_options(
            provider, tokens, only_key, model, priority, timeout=timeout, deadline=deadline,
            retry=retry, max_retries=max_retries, retry_delay=retry_delay,
        )  # fmt: skip
        asked = Asked(fn, args, kwargs, model)
        return await arun(self._listened().guard(options), asked)

    def close(self) -> None:
        """Close it: calls that wait raise `ClosedError`, and so does every later call that
        asks, counts or forgets. Closing twice is fine.

        >>> limiter.close()
        """
        self._closed = True
        super().close()

    def _listened(self) -> Core:
        """Return the core for a call; a child of a fork that inherited hooks listens from its first call on."""
        if self._caller.hooks is not None:
            self._caller.hooks.ensure()
        return self._open()
