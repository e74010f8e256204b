"""Errors that pass by themselves, and for how long they may last."""

from __future__ import annotations

from quotaflow._retry.classify import classify_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from quotaflow._quotaflow import Verdict

LONGEST_PAUSE = 300.0
"""The longest pause before a retry, in seconds; who asks for more is not asked again."""

# What passes by itself. The quota of a day does when it says that it comes back soon.
_PASSING = frozenset(
    {"rate_limited", "token_limited", "daily_quota", "overloaded", "server_error", "timeout", "network"}
)


def may_pass_later(error: BaseException, provider: str | None = None) -> bool:
    """Whether what raised this may succeed later, judged by what the error says.

    >>> may_pass_later(RuntimeError("503 Service Unavailable")), may_pass_later(RuntimeError("out of cheese"))
    (True, False)
    """
    return passes(classify_error(error, provider), LONGEST_PAUSE)


def passes(verdict: Verdict | None, cap: float) -> bool:
    """Whether a failure with this verdict passes within `cap` seconds, as far as that is known."""
    if verdict is None or verdict.never_here or verdict.failure not in _PASSING:
        return False
    if verdict.failure == "daily_quota":
        return verdict.retry_after is not None and verdict.retry_after <= cap
    return verdict.retry_after is None or verdict.retry_after <= cap
