"""What does one attempt look like, what was used for one answer, and what may an error be told?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable


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


class Facts(TypedDict, total=False):
    """Everything an error may be told when it is made; each class keeps what it has an attribute for."""

    hint: str | None
    path: str | None
    failure: str | None
    status: int | None
    retry_after: float | None
    provider: str | None
    model: str | None
    key: str | None
    text: str | None
    attempts: Iterable[Attempt | tuple[Any, ...]]
