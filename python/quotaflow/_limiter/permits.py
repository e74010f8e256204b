"""`Permit`: leave to send one request, and how it ends."""

from __future__ import annotations

from quotaflow._call.checks import optional_whole
from quotaflow.errors import ClosedError, InvalidArgumentError, QuotaflowError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Future
    from types import TracebackType
    from typing import NoReturn, TypeAlias

    from quotaflow._quotaflow import Core, GuardedCall, GuardOptions, Verdict

    Granted: TypeAlias = tuple[str, str | None, str, str | None, float, int]

_MOST_TOKENS = 10**12


class PermitKey:
    """The key a permit was given for; its secret is shown by nothing but `secret`.

    >>> key = PermitKey("OPENAI_API_KEY", "sk-test-1")
    >>> key, key.secret
    (<key OPENAI_API_KEY>, 'sk-test-1')
    """

    __slots__ = ("label", "secret")

    def __init__(self, label: str, secret: str | None) -> None:
        self.label = label
        """How the key is called: the variable it came from, or its name in the config."""
        self.secret = secret
        """The key itself; `None` when none is configured for the provider."""

    def __repr__(self) -> str:
        return f"<key {self.label}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not pickled")


class Permit:
    """Leave to send one request: it counts from now on, until it is settled or released.

    >>> from quotaflow import RateLimiter
    >>> with RateLimiter({}, limits={"scraper": {"rps": 5}}, state="memory") as limiter:
    ...     with limiter.acquire("scraper") as permit:
    ...         permit.provider, permit.model, permit.attempt
    ('scraper', None, 1)
    """

    __slots__ = ("_call", "attempt", "key", "model", "provider", "waited")

    def __init__(self, call: GuardedCall, granted: Granted) -> None:
        self._call = call
        self.provider, self.model, label, secret, self.waited, self.attempt = granted
        """The provider, the model if one was named, the seconds waited, and which attempt it is, from 1."""
        self.key = PermitKey(label, secret)
        """The key to send it with."""

    def settle(
        self, tokens: int | None = None, *, input_tokens: int | None = None, output_tokens: int | None = None
    ) -> None:
        """Settle a request that went well: what was used replaces the estimate. Later calls do nothing.

        Args:
            tokens: how many tokens it took altogether; they count as input.
            input_tokens: how many of the prompt, instead of `tokens`.
            output_tokens: how many of the answer.
        """
        if tokens is None and input_tokens is None and output_tokens is None:
            self._call.settle(None)
            return
        if tokens is not None and (input_tokens is not None or output_tokens is not None):
            raise InvalidArgumentError(
                "tokens are given altogether and apart", hint="pass tokens, or input_tokens and output_tokens"
            )
        used = _tokens("input_tokens", input_tokens) if tokens is None else _tokens("tokens", tokens)
        self._call.settle((used, _tokens("output_tokens", output_tokens)))

    def fail(self, error: BaseException) -> Verdict | None:
        """Settle a request that failed with `error`; what that closes is closed for all who share the state.

        Returns:
            What the error means; `None` when it cannot be classified: all of it stays counted, nothing is closed.
        """
        verdict = verdict_on(error, self.provider)
        if verdict is None:
            self._call.abandon()
        else:
            self._call.fail(verdict)
        return verdict

    def release(self) -> None:
        """Give all of it back: nothing was sent."""
        self._call.release()

    def ends_with(self, error: BaseException | None) -> None:
        """Settle what leaving the block means: the estimate without an error, else the error classified.

        What is no `Exception` (Ctrl-C, a cancelled task) says nothing about the request, which may be on its way:
        all of it stays counted.
        """
        if error is None:
            self._call.settle(None)
        elif isinstance(error, Exception):
            self.fail(error)
        else:
            self._call.abandon()

    def __repr__(self) -> str:
        model = f" {self.model}" if self.model else ""
        return f"<Permit {self.provider}{model} {self.key.label}>"


class Acquisition:
    """What `limiter.acquire(…)` gives: `with` and `async with` wait for a permit and end it."""

    __slots__ = ("_core", "_options", "_permit")

    def __init__(self, core: Core, options: GuardOptions) -> None:
        self._core = core
        self._options = options
        self._permit: Permit | None = None

    def _begin(self) -> GuardedCall:
        if self._permit is not None:
            raise RuntimeError("this permit is in use; call acquire() for each request")
        return self._core.guard(self._options)

    def __enter__(self) -> Permit:
        call = self._begin()
        self._permit = granted(call)
        return self._permit

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        permit, self._permit = self._permit, None
        if permit is not None:
            permit.ends_with(error)

    async def __aenter__(self) -> Permit:
        self._permit = await permitted(self._begin())
        return self._permit

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


def closed() -> ClosedError:
    """Return what is raised once the limiter was closed."""
    return ClosedError("this RateLimiter was closed", hint="make a new one")


def granted(call: GuardedCall) -> Permit:
    """Return the next permit of a call."""
    try:
        return Permit(call, call.permit())
    except ClosedError:
        raise closed() from None


async def permitted(call: GuardedCall) -> Permit:
    """Return the next permit of a call. Who is cancelled while it waits leaves nothing counted."""
    from quotaflow._call.event_loop import running_loop_and_port

    number: int | None = None
    try:
        loop, port = running_loop_and_port()
        future: Future[Granted] = loop.create_future()
        number = call.apermit(port, future)
        return Permit(call, await future)
    except ClosedError:
        raise closed() from None
    except BaseException:
        if number is not None:
            port.cancel(number)
        call.release()
        raise


def verdict_on(error: BaseException, provider: str) -> Verdict | None:
    """Return what an error of a guarded call says about its provider; errors of quotaflow say nothing."""
    if isinstance(error, QuotaflowError):
        return None
    # Most permits see no error, and never load what judges one.
    from quotaflow._retry.classify import classify_error

    return classify_error(error, provider)


def _tokens(name: str, value: object) -> int:
    return optional_whole(name, value, _MOST_TOKENS) or 0
