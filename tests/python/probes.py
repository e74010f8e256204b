"""Reads of an interface's state, and waits until it has changed."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from quotaflow import LLMInterface
    from quotaflow.testing import SimulatedProviders

MODEL = "gpt-4o-mini"
# Calls in flight at once, and nothing else in the way.
WIDE = {"openai": {"concurrency": 64}}
# One call now, the next one in a minute.
ONE_A_MINUTE = {"openai": {"rpm": {"amount": 1, "burst": 1, "refill": "bucket"}}}


def key_of(llm: LLMInterface) -> dict[str, Any]:
    return next(key for key in llm.status()["keys"] if key["provider"] == "openai")


def used(llm: LLMInterface) -> int:
    [limit] = [limit for limit in key_of(llm)["limits"] if limit["period"] == "minute" and limit["model"] == "*"]
    count: int = limit["used"]
    return count


def waiting(llm: LLMInterface) -> int:
    return sum(line["waiting"] for line in llm.status()["waiting"])


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


async def until_waiting(llm: LLMInterface, count: int) -> None:
    """Lets the loop run until so many wait."""
    async with asyncio.timeout(10):
        while waiting(llm) < count:  # noqa: ASYNC110 - nothing tells when somebody joins a line
            await asyncio.sleep(0.005)


def prompts(count: int) -> list[str]:
    """So many prompts, no two of them the same."""
    return [f"prompt {number}" for number in range(count)]


def requests(world: SimulatedProviders) -> int:
    """How many reached the simulator."""
    count: int = world.stats()["requests"]
    return count
