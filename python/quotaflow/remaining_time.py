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
        40.0
        """
        keys = [
            [(_is_long(limit), *prompts) for limit in key["limits"] if (prompts := _prompts(limit, tokens))]
            for key in self._status()["keys"]
            if (key["provider"] == self._provider if self._provider else key["sent"])
        ]
        times = [_seconds(left, keys, is_long) for is_long in (False, True)]
        return max((seconds for seconds in times if seconds is not None), default=None)


def _seconds(left: int, keys: list[list[tuple[bool, float, float]]], is_long: bool) -> float | None:
    """What the limits on days and longer, or those on less, make of it; `None` when a key has none."""
    there = by_second = 0.0
    for limits in keys:
        mine = [limit for limit in limits if limit[0] is is_long]
        if not mine:
            return None
        there += min(limit[1] for limit in mine)
        by_second += min(limit[2] for limit in mine)
    if left <= there:
        return 0.0
    # What is left of a minute may be more than may be taken at once: no more is gained by it than that minute.
    return (left - there * is_long) / by_second if by_second > 0 else None


def _is_long(limit: dict[str, Any]) -> bool:
    return limit["period"] in ("day", "month")


def _prompts(limit: dict[str, Any], tokens: float) -> tuple[float, float] | None:
    """How many prompts a limit lets through now, and by second; `None` when it does not count that way."""
    period = _SECONDS.get(limit["period"])
    each = 1.0 if limit["resource"] == "requests" else tokens
    if period is None or each <= 0 or limit["resource"] == "concurrency":
        return None
    return limit["remaining"] / each, limit["limit"] / each / period
