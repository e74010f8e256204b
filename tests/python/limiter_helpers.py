"""What tests of guarded calls share: a limit, its use, a refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from quotaflow import RateLimiter

# All that passes are ten in a day: nothing comes back while a test runs.
TEN_A_DAY = {"scraper": {"rpd": {"amount": 10, "refill": "rolling"}}}


def used(limiter: RateLimiter, provider: str, resource: str = "requests", period: str = "day") -> int:
    """How much of a limit is used, over all keys of a provider."""
    return sum(
        limit["used"]
        for key in limiter.status()["keys"]
        if key["provider"] == provider
        for limit in key["limits"]
        if (limit["resource"], limit["period"], limit["model"]) == (resource, period, "*")
    )


def refused(status: int, headers: dict[str, str] | None = None, **error: Any) -> httpx.HTTPStatusError:
    """What a client of somebody else raises for a refusal."""
    request = httpx.Request("POST", "http://127.0.0.1/v1/chat/completions")
    response = httpx.Response(status, headers=headers, json={"error": error}, request=request)
    return httpx.HTTPStatusError(f"HTTP {status}", request=request, response=response)
