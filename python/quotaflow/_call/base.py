"""Who waits for what, when will it be their turn, and how is a waiting line emptied?"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from quotaflow._quotaflow import Core
    from quotaflow.records import QueuedCall


class QueueFace:
    """The waiting lines of an object with a `Core`."""

    __slots__ = ()

    if TYPE_CHECKING:
        _core: Core

    def queue(self) -> list[QueuedCall]:
        """Every call that waits in this process, line by line, in the order in which they will be served.

        Behind them stand those that pause after a failure, by the end of their pause. Every tenth turn, which
        belongs to the one who waited longest, is left out of account.

        >>> llm.queue()
        []
        """
        import json

        from quotaflow.records import QueuedCall

        return [QueuedCall(**call) for call in json.loads(self._core.queue())]

    def clear_queue(self, provider: str | None = None, below_priority: int | None = None) -> int:
        """Ends calls of this process that wait or pause, not what was sent; each raises `QueueCleared`.

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
        from quotaflow._call.options import optional_name, optional_whole

        below = optional_whole("below_priority", below_priority, 10)
        return self._core.clear_queue(optional_name("provider", provider), below)
