"""How long will the rest of a batch take, judged by the quotas?"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "month": 30 * 86_400}


class RemainingTime:
    """Answers it from a status: what all keys together let through now, and by second after that.

    Args:
        status: what `LLMInterface.status` gives.
        provider: only keys of this provider; `None` for all that were used.
    """

    __slots__ = ("_provider", "_status")

    def __init__(self, status: Callable[[], dict[str, Any]], provider: str | None) -> None:
        self._status = status
        self._provider = provider

    def seconds(self, left: int, tokens: float) -> float | None:
        """For so many prompts of so many tokens each, answers included; `None` when no limit is known.

        >>> minute = {"period": "minute", "resource": "requests", "limit": 60, "remaining": 10}
        >>> status = {"keys": [{"provider": "openai", "sent": 1, "limits": [minute]}]}
        >>> RemainingTime(lambda: status, None).seconds(40, 0.0)
        30.0
        """
        now = rate = 0.0
        for key in self._status()["keys"]:
            if key["provider"] != self._provider if self._provider else not key["sent"]:
                continue
            allowed = [prompts for prompts in (_prompts(limit, tokens) for limit in key["limits"]) if prompts]
            if not allowed:
                return None
            now += min(there for there, _ in allowed)
            rate += min(by_second for _, by_second in allowed)
        return None if rate <= 0 else max(0.0, left - now) / rate


def _prompts(limit: dict[str, Any], tokens: float) -> tuple[float, float] | None:
    """How many prompts a limit lets through now, and by second; `None` when it does not count that way."""
    period = _SECONDS.get(limit["period"])
    each = 1.0 if limit["resource"] == "requests" else tokens
    if period is None or each <= 0 or limit["resource"] == "concurrency":
        return None
    return limit["remaining"] / each, limit["limit"] / each / period
