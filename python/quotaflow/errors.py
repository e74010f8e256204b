"""The exceptions: what went wrong, whose fault it is, what to do next.

    QuotaflowError
    ├── ConfigError (ValueError)              the configuration is invalid
    │   └── NoKeyError                        no key for a provider the call needs
    ├── InvalidArgumentError (ValueError)     an argument is wrong
    │   └── InvalidPromptError                the prompt is wrong
    ├── StateError                            the remembered quotas cannot be read or written
    ├── ClosedError (RuntimeError)            the interface or the stream was closed
    ├── CheckpointError                       the file of a batch's results cannot be used
    ├── TemplateError (ValueError)            a template, or what it is given, is wrong
    └── CallError                             a call brought no answer
        ├── RateLimitError                    rate_limited
        ├── TokenLimitError                   token_limited
        ├── DailyQuotaError                   daily_quota
        ├── CreditExhaustedError              credit_exhausted
        ├── OverloadedError                   overloaded
        ├── ServerError                       server_error
        ├── CallTimeoutError (TimeoutError)   timeout
        ├── NetworkError (ConnectionError)    network
        ├── AuthError                         auth
        ├── PermissionDeniedError             permission
        ├── NotFoundError                     not_found
        ├── InvalidRequestError               invalid_request
        ├── ContextTooLongError               context_too_long
        ├── ContentFilteredError              content_filtered
        ├── DeadlineExceededError (TimeoutError)  the deadline came first
        ├── QueueFullError                    too many calls wait already
        ├── StreamInterrupted                 a stream broke off in the middle of its answer
        ├── QueueCleared                      taken out of the waiting line
        ├── UserLimitError                    a limit of its user is used up
        └── AnswerError (ValueError)          an answer came, but not in the shape that was asked for
            ├── ParseError                    there is no JSON in it, or not all of it
            └── ValidationError               its JSON has another shape

The word beside a `CallError` is its `failure`. Errors state facts: who was asked, what each attempt met, when
it makes sense to come back. They never hold a key or a prompt. All of them survive pickling.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from decimal import Decimal
    from typing import Any, ClassVar, Unpack

    from quotaflow.records import Attempt, Facts, Usage


class QuotaflowError(Exception):
    """Anything quotaflow raises on purpose; catch it to catch all of them."""

    hint: str | None
    """What to do about it, in one sentence, if that is known."""

    _facts: ClassVar[tuple[str, ...]] = ("hint",)

    def __init__(self, message: str = "", **facts: Unpack[Facts]) -> None:
        super().__init__(message)
        given: dict[str, Any] = dict(facts)
        for name in self._facts:
            setattr(self, name, given.pop(name, None))
        surplus = [name for name, value in given.items() if value is not None and value != []]
        if surplus:
            raise TypeError(f"{type(self).__name__} has no {' and no '.join(surplus)}")

    @property
    def message(self) -> str:
        """What went wrong, without the hint."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        return f"{self.message} — {self.hint}" if self.hint else self.message


class ConfigError(QuotaflowError, ValueError):
    """The configuration is invalid: correct the field at `path`; `hint` names the nearest valid one."""

    path: str | None
    """Where it stands, for instance `limits.openai.rpm` or a file name; `None` when it is nowhere."""

    _facts: ClassVar[tuple[str, ...]] = ("hint", "path")


class NoKeyError(ConfigError):
    """No key for a provider the call needs: set its environment variable or pass `keys=`.

    >>> try:
    ...     llm.send_prompt("Hello", provider="groq", model="llama-3.1-8b-instant")
    ... except NoKeyError as error:
    ...     print(f"a key for {error.provider} is missing")
    a key for groq is missing
    """

    provider: str | None
    """The provider without a key."""

    _facts = ("hint", "path", "provider")


class InvalidArgumentError(QuotaflowError, ValueError):
    """An argument has the wrong type or an impossible value: correct the call; nothing was sent.

    >>> try:
    ...     llm.send_prompt("Hello", priority=12)
    ... except InvalidArgumentError as error:
    ...     print(error)
    priority is 12 — pass a whole number from 0 to 9
    """


class InvalidPromptError(InvalidArgumentError):
    """The prompt is empty or not text or messages: give it a string or `{"role", "content"}` mappings."""


class StateError(QuotaflowError):
    """The remembered quotas cannot be read or written: free the disk, correct its rights, or pass `state=`.

    Day quotas are not spent blindly while this lasts; nothing was sent.
    """

    path: str | None
    """The file or address of the state."""

    _facts = ("hint", "path")


class CheckpointError(QuotaflowError):
    """A batch's checkpoint cannot be used: it is another job's, in use, no checkpoint, or the disk is full."""

    path: str | None
    """The file."""
    unsaved: tuple[Any, ...] = ()
    """What was finished and could not be written down."""

    _facts: ClassVar[tuple[str, ...]] = ("hint", "path")


class ClosedError(QuotaflowError, RuntimeError):
    """The interface was closed, perhaps while this call waited, or the stream was: make a new one of it.

    Reading on in a stream after `close()`, or after the wait for its next piece was cancelled, raises this, so
    that half an answer does not look like a whole one.

    >>> llm.close()
    >>> try:
    ...     llm.send_prompt("Hello")
    ... except ClosedError:
    ...     print("closed")
    closed
    """


class TemplateError(QuotaflowError, ValueError):
    """A template, or what it is given, is wrong: correct what the message names; nothing was sent.

    >>> try:
    ...     llm.render("Name a $what.", {"waht": "river"})
    ... except TemplateError as error:
    ...     print(error)
    the template needs $what, which is missing — did you mean it by waht?
    """


class CallError(QuotaflowError):
    """A call brought no answer; `attempts` says what each try met."""

    failure: str | None = None
    """The class of the last failure in snake case, as drawn above; `None` when nothing was tried."""
    status: int | None
    """The HTTP status of the last attempt, or `None` when there was no answer."""
    retry_after: float | None
    """In how many seconds it makes sense to try again, or `None` when that is unknown or never."""
    provider: str | None
    """The provider of the last attempt."""
    model: str | None
    """The model of the last attempt."""
    key: str | None
    """The label of the last key, never the key."""
    attempts: tuple[Attempt, ...]
    """Every try, the first first."""

    _facts: ClassVar[tuple[str, ...]] = ("hint", "status", "retry_after", "provider", "model", "key")

    def __init__(self, message: str = "", **facts: Unpack[Facts]) -> None:
        from quotaflow.records import Attempt

        attempts = facts.pop("attempts", None) or ()
        failure = facts.pop("failure", None)
        super().__init__(message, **facts)
        if failure is not None:
            self.failure = failure
        self.attempts = tuple(a if isinstance(a, Attempt) else Attempt(*a) for a in attempts)


class RateLimitError(CallError):
    """Too many requests for a short window, on every lane: send slower, wait, or add a quota group."""

    failure = "rate_limited"


class TokenLimitError(CallError):
    """Too many tokens for a short window, or one prompt larger than it: wait `retry_after`; if `None`, shorten."""

    failure = "token_limited"


class DailyQuotaError(CallError):
    """The quota of a day is used up on every key: come back after `retry_after`, or add a key or provider."""

    failure = "daily_quota"


class CreditExhaustedError(CallError):
    """The account has no money or met its spend cap: pay or raise the cap, then `llm.reset(provider)`."""

    failure = "credit_exhausted"


class OverloadedError(CallError):
    """The provider has no capacity now, whatever the key: come back later or configure a fallback."""

    failure = "overloaded"


class ServerError(CallError):
    """The provider broke: come back later or configure a fallback; its support wants the message."""

    failure = "server_error"


class CallTimeoutError(CallError, TimeoutError):
    """The provider was silent for longer than `timeouts.read`, or gave up itself: allow more, or ask for less.

    So is a stream without a piece for `timeouts.piece`, however alive it is kept. The answer may still be billed.
    What `timeout=` ends is a `DeadlineExceededError`.
    """

    failure = "timeout"


class NetworkError(CallError, ConnectionError):
    """No connection to the provider, or it broke: look at the network, the proxy and `base_urls`."""

    failure = "network"


class AuthError(CallError):
    """The provider does not know this key: replace the one labelled `key`."""

    failure = "auth"


class PermissionDeniedError(CallError):
    """The key is right but may not do this: ask for access, or use another key, model or region."""

    failure = "permission"


class NotFoundError(CallError):
    """No such model for this key: correct `model`, or use a key that has it."""

    failure = "not_found"


class InvalidRequestError(CallError):
    """The provider says the request is wrong: correct it; sending it again would fail again."""

    failure = "invalid_request"


class ContextTooLongError(CallError):
    """The prompt does not fit the model's window: shorten it, or choose a model with a larger one."""

    failure = "context_too_long"


class ContentFilteredError(CallError):
    """The provider will not answer this content: rephrase it; other keys would not change that."""

    failure = "content_filtered"


class DeadlineExceededError(CallError, TimeoutError):
    """No quota or answer before `deadline`: allow more time; `retry_after` says when there would be quota."""


class QueueFullError(CallError):
    """Too many calls wait already: send fewer at once, or raise the bound of the waiting line in the config."""


class StreamInterrupted(CallError):  # noqa: N818 - it is what happened
    """A stream broke off after its first piece: use `text`, ask again, or pass `resume=` so that it goes on.

    `failure` says what broke it: `network` when the connection did or the answer had no end, `timeout` when the
    provider was silent for too long, or what the provider said.
    """

    text: str | None
    """The text that had arrived, without what a restart made void."""
    usage: Usage | None
    """The tokens of all attempts that had begun to answer: what the provider stated, or else the prompt as it was
    estimated and a token for each four bytes that had come."""
    cost: Decimal | None
    """What these tokens cost in US dollars, or `None` when that is not known."""

    _facts = ("hint", "status", "retry_after", "provider", "model", "key", "text", "usage", "cost")


class AnswerError(CallError, ValueError):
    """An answer came and was paid, but does not have its shape: read `text`, or ask in another way."""

    text: str
    """What the model said; after a repair round, what it said last."""
    errors: tuple[str, ...]
    """What is wrong with it, each with its place, for instance `places.2.name: is missing`."""
    finish_reason: str | None
    """Why the model stopped: `length` when `max_tokens` cut it off."""
    usage: Usage | None
    """The tokens of all answers of this call, or `None` when the provider did not say."""
    cost: Decimal | None
    """What all answers of this call cost in US dollars, or `None` when that is not known."""

    _facts = ("hint", "status", "retry_after", "provider", "model", "key", "finish_reason", "usage", "cost")

    def __init__(self, message: str = "", **facts: Unpack[Facts]) -> None:
        text, errors = facts.pop("text", None), facts.pop("errors", None)
        super().__init__(message, **facts)
        self.text = text or ""
        self.errors = tuple(errors or ())


class ParseError(AnswerError):
    """The answer holds no JSON, or not all of it: raise `max_tokens` if that cut it off, or ask more clearly."""


class ValidationError(AnswerError):
    """The answer is JSON of another shape, after the repair round too: ask more clearly, or ask for less."""


class QueueCleared(CallError):  # noqa: N818 - it tells of a deed, not of a fault
    """`clear_queue()` took the call out of the waiting line: nothing was sent; send it again if it is wanted."""


class UserLimitError(CallError):
    """A limit of the user in `user=` is used up: wait for `retry_after`; another key or model would not help."""

    limit: str | None
    """What the limit is called in the config, for instance `rpm` or `cost_per_day`."""
    used: float | None
    """How much of it is used: requests, tokens or US dollars."""
    amount: float | None
    """How much it allows."""

    _facts = ("hint", "status", "retry_after", "provider", "model", "key", "limit", "used", "amount")
