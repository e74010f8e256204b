"""`Reply`: the text of an answer, and how it came about."""

from __future__ import annotations

from operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal
    from typing import Any, Self, SupportsIndex

    from quotaflow._quotaflow import Outcome
    from quotaflow.errors import CallError
    from quotaflow.records import Attempt, Usage


class _Facts:
    """The same facts without Rust: for replies that were unpickled, or made by hand in a test."""

    __slots__ = (
        "attempts",
        "cached",
        "cost",
        "error",
        "finish_reason",
        "first_token_latency",
        "key",
        "latency",
        "model",
        "parsed",
        "provider",
        "raw",
        "repaired",
        "tool_calls",
        "usage",
    )

    provider: str
    model: str
    key: str
    usage: tuple[int, int, int, int, int] | None
    latency: float
    first_token_latency: float | None
    cached: bool
    finish_reason: str | None
    tool_calls: str | None
    raw: bytes
    attempts: list[tuple[Any, ...]]
    error: CallError | None
    parsed: Any
    repaired: bool
    cost: Decimal | None


class Reply(str):
    """The text of an answer, and how it came about.

    It is a `str`: print it, slice it, store it, compare it. The rest stands in its attributes.

    >>> reply = Reply("Paris", provider="openai", model="gpt-4o-mini", key="OPENAI_API_KEY")
    >>> reply == "Paris", reply.upper(), reply.provider
    (True, 'PARIS', 'openai')

    Attributes that hold lists or parsed JSON are made anew at each access: keep what you use twice.
    """

    __slots__ = ("_outcome",)

    _outcome: Outcome | _Facts

    def __new__(
        cls,
        text: str = "",
        *,
        provider: str = "",
        model: str = "",
        key: str = "",
        usage: tuple[int, int, int, int, int] | None = None,
        latency: float = 0.0,
        finish_reason: str | None = None,
        tool_calls: str | None = None,
        raw: bytes = b"",
        attempts: list[tuple[Any, ...]] | None = None,
        error: CallError | None = None,
        parsed: Any = None,
        repaired: bool | None = False,
        cost: Decimal | None = None,
        first_token_latency: float | None = None,
        cached: bool | None = False,
    ) -> Self:
        """Return a reply made by hand, for instance to test code that takes one."""
        facts = _Facts()
        facts.provider = provider
        facts.model = model
        facts.key = key
        facts.usage = usage
        facts.latency = latency
        facts.first_token_latency = first_token_latency
        facts.cached = bool(cached)
        facts.finish_reason = finish_reason
        facts.tool_calls = tool_calls
        facts.raw = raw
        facts.attempts = [] if attempts is None else attempts
        facts.error = error
        facts.parsed = parsed
        facts.repaired = bool(repaired)
        facts.cost = cost
        self = str.__new__(cls, text)
        self._outcome = facts
        return self

    @property
    def provider(self) -> str:
        """The provider that answered; after a fallback not the one that was asked for."""
        return self._outcome.provider

    @property
    def model(self) -> str:
        """The model that answered, as the provider names it."""
        return self._outcome.model

    @property
    def key(self) -> str:
        """The label of the key that was used, never the key itself."""
        return self._outcome.key

    @property
    def usage(self) -> Usage | None:
        """The tokens that were billed, or `None` when the provider did not say.

        Those of a stream that broke off and went on elsewhere are among them, as far as they are known.
        """
        from quotaflow.records import Usage

        counts = self._outcome.usage
        return None if counts is None else Usage(*counts)

    @property
    def cost(self) -> Decimal | None:
        """The price of this answer in US dollars, exactly; `None` when it is not known.

        That is so while the price of the model is not known, which is warned of once, or when the provider did
        not say how many tokens were used. What the provider itself charged wins (OpenRouter), then the prices of
        the config, then published ones. Attempts that failed before are not billed and not counted here.

        >>> Reply("Paris", provider="openai", model="gpt-4o-mini", usage=(1_000_000, 0, 0, 0, 0)).cost
        Decimal('0.15')
        """
        from quotaflow._prices.cost import reply_cost

        return reply_cost(self._outcome)

    @property
    def latency(self) -> float:
        """Seconds from the call to the answer, waits and failed attempts included."""
        return self._outcome.latency

    @property
    def first_token_latency(self) -> float | None:
        """Seconds from the call to the first piece of a stream; `None` for an answer that came as a whole."""
        return self._outcome.first_token_latency

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every try, the first first; the last one succeeded, unless this stands for an `error`."""
        from quotaflow.records import Attempt

        return tuple(Attempt(*facts) for facts in self._outcome.attempts)

    @property
    def error(self) -> CallError | None:
        """Why there is no answer, when `LLMInterface(errors="text")` gave this text in its place; else `None`."""
        error: CallError | None = getattr(self._outcome, "error", None)
        return error

    @property
    def parsed(self) -> Any:
        """The answer as the object that `response_format` asked for; `None` when nothing was asked for."""
        return getattr(self._outcome, "parsed", None)

    @property
    def repaired(self) -> bool:
        """Whether the first answer had another shape and the model was asked again; `usage` is that of both."""
        return bool(getattr(self._outcome, "repaired", False))

    @property
    def cached(self) -> bool:
        """Whether it is an answer that was given before to the same question: it cost nothing now."""
        return self._outcome.cached

    @property
    def finish_reason(self) -> str | None:
        """Why the model stopped: `stop`, `length`, `tool_calls`, `content_filter`, or the provider's own word."""
        return self._outcome.finish_reason

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The tools the model wants called, in the OpenAI shape; empty when there are none."""
        import json

        text = self._outcome.tool_calls
        calls: list[dict[str, Any]] = [] if text is None else json.loads(text)
        return calls

    @property
    def raw(self) -> Any:
        """The provider's answer as parsed JSON, or `None` when there is none."""
        import json

        body = self._outcome.raw
        return json.loads(body) if body else None

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        outcome = self._outcome
        from quotaflow._prices.cost import reply_cost

        facts = {name: getattr(outcome, name, None) for name in _Facts.__slots__ if name != "cost"}
        # The reader may not have the prices of this config.
        facts["cost"] = reply_cost(outcome, warns=False)
        return (_restore, (type(self), str(self), facts))


# The slot of a reply, for the functions here that make replies, once a call.
_set_outcome: Callable[[Reply, Outcome | _Facts], None] = Reply.__dict__["_outcome"].__set__
_outcome_of: Callable[[Reply], Any] = attrgetter("_outcome")


def _restore(cls: type[Reply], text: str, facts: dict[str, Any]) -> Reply:
    return cls(text, **facts)


def reply_from(outcome: Outcome) -> Reply:
    """Return the reply for what Rust hands over; past `Reply.__new__`, for this runs once a call."""
    reply = str.__new__(Reply, outcome.text)
    _set_outcome(reply, outcome)
    return reply


def quiet_cost(reply: Reply) -> Decimal | None:
    """Return what a reply cost, without a warning when the price of its model is not known.

    >>> quiet_cost(Reply("Paris", provider="openai", model="no-such-model", usage=(1, 1, 0, 0, 0))) is None
    True
    """
    from quotaflow._prices.cost import reply_cost

    return reply_cost(_outcome_of(reply), warns=False)


def shaped_reply(reply: Reply, parsed: Any, first: Reply | None = None) -> Reply:
    """Return the same reply with the object it holds; `first` is the repaired answer, and counts too."""
    facts: dict[str, Any] = {name: getattr(_outcome_of(reply), name, None) for name in _Facts.__slots__}
    facts |= {"parsed": parsed, "repaired": first is not None or reply.repaired}
    if first is not None:
        facts["usage"] = _sum_of_usage(_outcome_of(first).usage, _outcome_of(reply).usage)
        facts["latency"] = first.latency + reply.latency
        facts["attempts"] = [*_outcome_of(first).attempts, *_outcome_of(reply).attempts]
        costs = (first.cost, reply.cost)
        facts["cost"] = None if None in costs else sum(cost for cost in costs if cost is not None)
    return Reply(str(reply), **facts)


def forget(reply: Reply) -> None:
    """Drop an answer of another shape from the answer cache.

    >>> forget(Reply("Rome"))
    """
    outcome: Any = _outcome_of(reply)
    if hasattr(outcome, "forget"):
        outcome.forget()


def _sum_of_usage(
    one: tuple[int, int, int, int, int] | None, other: tuple[int, int, int, int, int] | None
) -> tuple[int, int, int, int, int] | None:
    if one is None or other is None:
        return one or other
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3], one[4] + other[4])


def numbers_of(reply: Reply) -> tuple[float, int, int, int]:
    """Return seconds, tokens of the prompt, tokens of the answer and attempts, of all rounds together.

    >>> numbers_of(Reply("3", usage=(10, 5, 0, 0, 0), latency=0.5))
    (0.5, 10, 5, 0)
    """
    counts = _outcome_of(reply).usage
    return reply.latency, *((0, 0) if counts is None else counts[:2]), len(_outcome_of(reply).attempts)


def json_of(reply: Reply) -> str:
    """Return the facts of a reply that is made of two answers, as `Outcome.to_json` names them, with costs."""
    import json

    outcome = _outcome_of(reply)
    names = ("provider", "model", "key", "usage", "latency", "finish_reason", "tool_calls", "attempts")
    facts: dict[str, Any] = {"text": str(reply), **{name: getattr(outcome, name) for name in names}}
    cost = reply.cost
    return json.dumps(
        {
            **facts,
            "raw": outcome.raw.decode(errors="replace"),
            "repaired": reply.repaired,
            "cached": reply.cached,
            "cost": None if cost is None else str(cost),
        },
        separators=(",", ":"),
    )


def failed_reply(error: CallError) -> Reply:
    """Return the text that stands for an error, for `errors="text"`.

    >>> from quotaflow import RateLimitError
    >>> reply = failed_reply(RateLimitError("all keys are used up", provider="openai"))
    >>> reply, reply.error.failure
    ('[LLM Error: all keys are used up]', 'rate_limited')
    """
    attempts = [tuple(getattr(attempt, name) for name in attempt.__slots__) for attempt in error.attempts]
    usage = getattr(error, "usage", None)
    return Reply(
        f"[LLM Error: {error.message}]",
        provider=error.provider or "",
        model=error.model or "",
        key=error.key or "",
        usage=None if usage is None else tuple(getattr(usage, name) for name in usage.__slots__),
        cost=getattr(error, "cost", None),
        latency=sum(attempt.waited_seconds + attempt.seconds for attempt in error.attempts),
        attempts=attempts,
        error=error,
    )
