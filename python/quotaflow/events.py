"""The events of calls on their way: retries, waits, fallbacks, blocks.

    llm.on("blocked", lambda event: print(event.key, event.failure))

Each event is a frozen record. Keys appear by their label; a model of `*` is a call that named none. Moments are
seconds since 1970-01-01T00:00:00Z, spans are seconds.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal, TypeAlias

    EventName: TypeAlias = Literal[
        "retry", "wait", "rotate", "fallback", "exhausted", "blocked", "recovered", "settled"
    ]


@dataclass(frozen=True, slots=True)
class RetryEvent:
    """`retry`: a call tries again after an attempt that failed.

    >>> made("retry", {"provider": "openai", "model": "m", "key": "A", "failure": "timeout", "attempt": 2}).attempt
    2
    """

    provider: str
    """Where the attempt before went."""
    model: str
    """The model of it."""
    key: str
    """The label of its key."""
    failure: str
    """What it met, as in `CallError.failure`."""
    status: int | None
    """The HTTP status of that."""
    attempt: int
    """The number of the attempt that begins, from 2."""
    delay: float
    """The seconds since."""


@dataclass(frozen=True, slots=True)
class WaitEvent:
    """`wait`: a call has to wait for a limit, for a block, or behind others."""

    provider: str
    """Where it wants to go."""
    model: str
    """The model it wants."""
    key: str | None
    """The label of the key that will be free first; `None` behind others."""
    reason: str
    """What stands in the way, in words."""
    until: float | None
    """When that ends, if it is known."""


@dataclass(frozen=True, slots=True)
class RotateEvent:
    """`rotate`: a call goes on with another key."""

    provider: str
    """The provider."""
    model: str
    """The model."""
    from_key: str
    """The label of the key that refused."""
    to_key: str
    """The label of the key that takes over."""
    failure: str
    """What the refusal was, as in `CallError.failure`."""


@dataclass(frozen=True, slots=True)
class FallbackEvent:
    """`fallback`: a call goes on with another provider or model."""

    from_target: str
    """The target that is left, `provider/model`."""
    to_target: str
    """The target that takes over."""
    reason: str
    """Why, in words."""


@dataclass(frozen=True, slots=True)
class BlockedEvent:
    """`blocked`: a key, its quota group or its model is closed."""

    provider: str
    """The provider that refused."""
    model: str
    """The model that was asked for."""
    key: str
    """The label of the key."""
    failure: str
    """The class of the refusal, as in `CallError.failure`."""
    until: float | None
    """When it opens; `None`: when another key is configured."""
    origin: str
    """Who says until when: `provider` or `guess`."""
    message: str
    """The provider's words, without keys."""


@dataclass(frozen=True, slots=True)
class ExhaustedEvent(BlockedEvent):
    """`exhausted`: the quota of a day, or the credit, is used up. It is a `blocked` event, too."""


@dataclass(frozen=True, slots=True)
class RecoveredEvent:
    """`recovered`: what was closed is open again, for a call was answered there."""

    provider: str
    """The provider."""
    model: str
    """The model."""
    key: str
    """The label of the key."""


@dataclass(frozen=True, slots=True)
class SettledEvent:
    """`settled`: an attempt was answered and booked."""

    provider: str
    """The provider."""
    model: str
    """The model."""
    key: str
    """The label of the key."""
    input_tokens: int | None
    """What counts of the prompt; `None` when it is not known."""
    output_tokens: int | None
    """What counts of the answer; `None` when it is not known."""
    seconds: float
    """How long the answer took."""


Event = (
    RetryEvent
    | WaitEvent
    | RotateEvent
    | FallbackEvent
    | BlockedEvent
    | ExhaustedEvent
    | RecoveredEvent
    | SettledEvent
)

KINDS: dict[str, type[Any]] = {
    "retry": RetryEvent,
    "wait": WaitEvent,
    "rotate": RotateEvent,
    "fallback": FallbackEvent,
    "exhausted": ExhaustedEvent,
    "blocked": BlockedEvent,
    "recovered": RecoveredEvent,
    "settled": SettledEvent,
}
"""The record of each event, by its name."""


def made(name: str, facts: Mapping[str, Any]) -> Any:
    """Return the record of an event; missing facts are `None`, unknown ones are left out.

    >>> made("recovered", {"provider": "groq", "model": "m", "key": "A", "news": 1})
    RecoveredEvent(provider='groq', model='m', key='A')
    """
    kind = KINDS[name]
    return kind(**{field.name: facts.get(field.name) for field in dataclasses.fields(kind)})
