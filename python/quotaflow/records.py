"""Records of calls: attempts, usage, cost estimates, queued calls, error facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to get an answer, in the order of `Reply.attempts` and `CallError.attempts`.

    >>> first = Attempt("openai", "gpt-4o-mini", "OPENAI_API_KEY", "rate_limited", 429, 0.0, 0.2, 0.0)
    >>> first.failure, first.succeeded
    ('rate_limited', False)
    """

    provider: str
    """The provider that was asked, for instance `openai`."""
    model: str
    """The model that was asked for."""
    key: str
    """The label of the key, never the key itself."""
    failure: str | None
    """The class of the failure in snake case, or `None` when the attempt succeeded."""
    status: int | None
    """The HTTP status, or `None` when there was no answer."""
    started_unix: float
    """When it was sent, in seconds since 1970-01-01T00:00:00Z."""
    seconds: float
    """How long it took from being sent to its end, in seconds."""
    waited_seconds: float
    """How long the call waited before this attempt was sent, in seconds."""

    @property
    def succeeded(self) -> bool:
        """Whether this attempt brought the answer."""
        return self.failure is None


@dataclass(frozen=True, slots=True)
class Usage:
    """What the provider billed for one answer, in tokens.

    >>> Usage(input_tokens=30, output_tokens=12).total_tokens
    42
    """

    input_tokens: int = 0
    """The whole input, cached tokens included."""
    output_tokens: int = 0
    """Everything the model produced, thinking included."""
    cached_tokens: int = 0
    """The part of the input that came from the provider's prompt cache."""
    cache_write_tokens: int = 0
    """The part of the input that was written to the provider's prompt cache."""
    reasoning_tokens: int = 0
    """The part of the output that was thinking."""

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What a call will cost, in US dollars, as `LLMInterface.estimate_cost` knows it before it is sent."""

    provider: str
    """The provider it would go to."""
    model: str
    """The model it would ask."""
    input_tokens: int
    """The prompt: counted, or estimated as earlier bills of the model suggest."""
    max_input_tokens: int
    """The prompt is no more than this 95 times of 100; the same as `input_tokens` when they were counted."""
    is_exact: bool
    """Whether the prompt was counted with the model's own tokenizer."""
    output_tokens: int
    """The answer: the median of those before, 256 while too few are known, never more than `max_tokens`."""
    max_output_tokens: int | None
    """The longest answer the call allows (`max_tokens`), or `None`."""
    low: Decimal
    """The cost of the prompt with an answer of no length."""
    expected: Decimal
    """The cost of `input_tokens` and `output_tokens`."""
    high: Decimal | None
    """The cost of `max_input_tokens` and `max_output_tokens`; `None` when nothing bounds the answer."""


@dataclass(frozen=True, slots=True)
class QueuedCall:
    """One call that waits for quota.

    >>> call = QueuedCall("openai", "gpt-4o-mini", 3, None, 1, 0.5, 12.0, 300, "10 requests per minute used up")
    >>> call.position, call.eta
    (1, 12.0)
    """

    provider: str
    """The provider it waits for."""
    model: str | None
    """The model; `None` for a guarded call that named none."""
    priority: int
    """0 to 9; higher goes first."""
    user: str | None
    """The user it is sent for."""
    position: int
    """Its place in the line of its provider and model, from 1; those that pause after a failure come last."""
    waited: float
    """How long it has waited in this line, in seconds."""
    eta: float | None
    """The seconds until its turn if no call comes or goes, judged by the quotas, or until its pause is over;
    `None`: unknown."""
    tokens: int
    """How many tokens it will take, estimated: its prompt and the answer it reserves."""
    obstacle: str | None
    """Which limit or block it waits for, or a pause after a failure, in words."""


class Facts(TypedDict, total=False):
    """Everything an error may hold; each class keeps what it has an attribute for."""

    hint: str | None
    path: str | None
    failure: str | None
    status: int | None
    retry_after: float | None
    provider: str | None
    model: str | None
    key: str | None
    limit: str | None
    used: float | None
    amount: float | None
    attempts: Iterable[Attempt | tuple[Any, ...]]
    text: str | None
    errors: Iterable[str]
    finish_reason: str | None
    usage: Usage | None
    cost: Decimal | None
