"""Calls in the background of a test: under way or waiting."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self

    from quotaflow import LLMInterface


class Crowd:
    """Calls that are under way or wait, until it is left: then they are cancelled."""

    def __init__(self, llm: LLMInterface, world: Any, calls: int, **more: Any) -> None:
        self._llm, self._world, self._calls, self._more = llm, world, calls, more
        self._before: int = world.stats()["requests"]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        patience = time.monotonic() + 10
        while self._under_way() < self._calls:
            assert time.monotonic() < patience
        return self

    async def _start(self) -> None:
        send = self._llm.asend_prompt
        calls = (send(f"Call {number}", **self._more) for number in range(self._calls))
        self._tasks = [asyncio.create_task(call) for call in calls]

    def _under_way(self) -> int:
        sent: int = self._world.stats()["requests"] - self._before
        return len(self._llm.queue()) + sent

    def __exit__(self, *_: object) -> None:
        async def stop() -> None:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
