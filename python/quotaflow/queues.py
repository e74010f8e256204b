"""Who waits for what, when will it be their turn, and how is a waiting line emptied?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quotaflow._quotaflow import Core


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
    """On whose behalf it is sent."""
    position: int
    """Its place in the line of its provider and model, from 1."""
    waited: float
    """How long it has waited in this line, in seconds."""
    eta: float | None
    """In how many seconds it will be its turn if nobody comes or goes, judged by the quotas; `None`: unknown."""
    tokens: int
    """How many tokens it will take, estimated: its prompt and the answer it reserves."""
    obstacle: str | None
    """Which limit or block it waits for, in words."""


class QueueFace:
    """The waiting lines of an object with a `Core`."""

    __slots__ = ()

    if TYPE_CHECKING:
        _core: Core

    def queue(self) -> list[QueuedCall]:
        """Every call that waits in this process, line by line, in the order in which they will be served.

        Every tenth turn, which belongs to the one who waited longest, is left out of account.

        >>> llm.queue()
        []
        """
        import json

        return [QueuedCall(**call) for call in json.loads(self._core.queue())]

    def clear_queue(self, provider: str | None = None, below_priority: int | None = None) -> int:
        """Ends calls of this process that wait, and leaves alone what was sent; each raises `QueueCleared`.

        Args:
            provider: only those that wait for this provider; `None` for all.
            below_priority: only those of a lower priority than this, 0 to 10; `None` for all.

        Returns:
            How many were ended.

        Raises:
            InvalidArgumentError: there is no such provider, or no such priority.

        >>> llm.clear_queue(below_priority=5)
        0
        """
        from quotaflow.options import optional_name, optional_whole

        below = optional_whole("below_priority", below_priority, 10)
        return self._core.clear_queue(optional_name("provider", provider), below)
