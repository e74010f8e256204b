"""Callers for `how_fast.py`: one process for each way of calling a provider.

Run by `how_fast.py`, one process for each way. Reads jobs from stdin, one JSON object a line, and answers each
with one: `{"in_flight": n, "seconds": s}` (0 in flight: one call after the other, each timed), `{"hold": n,
"seconds": s}` (starts n calls and looks s seconds later), `{"prompts": n}` (sends n prompts at once and waits for
all), `{"batch": n}` (the same as one batch; with `"flat": 1` one after the other as they come, and how much memory
grew after the first tenth).
"""
# ruff: noqa: S101, S113 - a call that fails ends the measurement; a bare client has no limits on time

from __future__ import annotations

import asyncio
import http.client
import json
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PROMPT = "Say in one sentence why the sky is blue in the morning and red in the evening."
MODEL = "gpt-4o-mini"
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}]}
BODY = json.dumps(ASKED, separators=(",", ":"))
STREAM_BODY = json.dumps(
    ASKED | {"stream": True, "stream_options": {"include_usage": True}}, separators=(",", ":")
)


class Bare:
    """A bare client of another library: posts the bytes, reads the bytes, parses nothing."""

    def __init__(self, name: str, setup: dict[str, Any]) -> None:
        self.url = setup["base_url"] + "/chat/completions"
        self.headers = {"authorization": f"Bearer {setup['keys'][0]}", "content-type": "application/json"}
        self.body = BODY.encode()
        self.call: Callable[[], object] = getattr(self, name)()

    def http_client(self) -> Callable[[], object]:
        """Return the standard library."""
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.netloc)

        def call() -> None:
            connection.request("POST", address.path, self.body, self.headers)
            response = connection.getresponse()
            response.read()
            assert response.status == 200

        return call

    def httpx(self) -> Callable[[], object]:
        """Make httpx clients, with threads and with asyncio."""
        import httpx

        client = httpx.Client()

        def call() -> None:
            assert client.post(self.url, content=self.body, headers=self.headers).status_code == 200

        return call

    def aiohttp(self) -> Callable[[], object]:
        """Do nothing: aiohttp has no client for threads."""
        return lambda: None

    def acaller(self, name: str) -> Callable[[], Awaitable[object]]:
        """Do the same for asyncio; made while a loop runs."""
        if name == "httpx":
            import httpx

            many = httpx.Limits(max_connections=None, max_keepalive_connections=None)
            client = httpx.AsyncClient(limits=many, timeout=None)

            async def call() -> None:
                assert (await client.post(self.url, content=self.body, headers=self.headers)).status_code == 200

            return call
        import aiohttp

        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
        )

        async def acall() -> None:
            async with session.post(self.url, data=self.body, headers=self.headers) as response:
                await response.read()
                assert response.status == 200

        return acall


class Ours:
    """quotaflow, with limits too large to stand in the way unless given."""

    def __init__(self, setup: dict[str, Any]) -> None:
        from quotaflow import LLMInterface

        large = {"rpm": 60_000_000, "rpd": 4_000_000_000, "tpm": 4_000_000_000}
        self.llm = LLMInterface(
            {},
            keys={"openai": setup["keys"]},
            base_urls={"openai": setup["base_url"]},
            limits={"openai": setup.get("limits", large)},
            state=setup["state"],
        )
        self.pieces = setup.get("pieces")

    def call(self) -> object:
        """Send one call, blocking; as a stream when the number of its pieces is asked for."""
        if self.pieces is None:
            return self.llm.send_prompt(PROMPT, provider="openai", model=MODEL)
        pieces = sum(1 for _ in self.llm.stream_prompt(PROMPT, provider="openai", model=MODEL))
        assert pieces == self.pieces
        return pieces

    def batch(self, count: int) -> dict[str, float]:
        """Send so many different prompts as one batch, and keep all their replies."""
        began = time.perf_counter()
        batch = self.llm.send_batch(
            (f"{PROMPT} {number}" for number in range(count)), provider="openai", model=MODEL, progress=False
        )
        seconds = time.perf_counter() - began
        for item in batch.errors[:3]:
            sys.stderr.write(f"lost: {item.error!r}\n")
        lost = count - batch.summary.successful
        return {"per_second": count / seconds, "calls": count, "seconds": seconds, "lost": lost}

    def flat_batch(self, count: int) -> dict[str, float]:
        """Do the same as they come, none of them kept; by how many MB memory grew after the first tenth."""
        from resource import RUSAGE_SELF, getrusage

        began, before = time.perf_counter(), 0
        prompts = (f"{PROMPT} {number}" for number in range(count))
        for done, item in enumerate(self.llm.iter_batch(prompts, provider="openai", model=MODEL, progress=False)):
            assert item.ok
            if done == count // 10:
                before = getrusage(RUSAGE_SELF).ru_maxrss
        grown = (getrusage(RUSAGE_SELF).ru_maxrss - before) / 1024
        return {"per_second": count / (time.perf_counter() - began), "calls": count, "grown_mb": grown}

    def acaller(self, _name: str) -> Callable[[], Awaitable[object]]:
        """Send one call and await it."""
        return lambda: self.llm.asend_prompt(PROMPT, provider="openai", model=MODEL)


def one_after_the_other(call: Callable[[], object], seconds: float) -> dict[str, float]:
    """Return the median of how long calls take, in microseconds."""
    clock, took = time.perf_counter_ns, []
    end = clock() + int(seconds * 1e9)
    before = clock()
    while before < end:
        call()
        after = clock()
        took.append(after - before)
        before = after
    return {"median_us": statistics.median(took) / 1000, "calls": len(took)}


async def at_once(call: Callable[[], Awaitable[object]], in_flight: int, seconds: float) -> dict[str, float]:
    """Call a second with so many always in flight."""
    began = time.perf_counter()
    end = began + seconds

    async def keep_calling() -> int:
        calls = 0
        while time.perf_counter() < end:
            await call()
            calls += 1
        return calls

    calls = sum(await asyncio.gather(*(keep_calling() for _ in range(in_flight))))
    return {"per_second": calls / (time.perf_counter() - began), "calls": calls}


async def all_answered(call: Callable[[], Awaitable[object]], count: int) -> dict[str, float]:
    """Return how long it takes until all are answered, and how many never were."""
    began = time.perf_counter()
    outcomes = await asyncio.gather(*(call() for _ in range(count)), return_exceptions=True)
    lost = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    for error in lost[:3]:
        sys.stderr.write(f"lost: {error!r}\n")
    return {"seconds": time.perf_counter() - began, "lost": len(lost)}


def main() -> int:
    """Answer jobs until there are none."""
    name, setup = sys.argv[1], json.loads(sys.argv[2])
    caller: Any = Ours(setup) if name == "quotaflow" else Bare(name, setup)
    held = []
    with asyncio.Runner() as runner:
        acalls: list[Callable[[], Awaitable[object]]] = []

        async def acall() -> Callable[[], Awaitable[object]]:
            if not acalls:
                acalls.append(caller.acaller(name))
            return acalls[0]

        async def work(job: dict[str, Any]) -> dict[str, float]:
            call = await acall()
            if "hold" in job:
                # Not all in one instant: a listening socket only queues so many.
                for _ in range(0, job["hold"], 100):
                    held.extend([asyncio.ensure_future(call()) for _ in range(100)])
                    await asyncio.sleep(0.02)
                # Long enough for all of them to leave; then nothing runs, and the answers never come.
                await asyncio.sleep(job["seconds"])
                return {"held": len(held), "over": sum(task.done() for task in held)}
            if "prompts" in job:
                return await all_answered(call, job["prompts"])
            return await at_once(call, job["in_flight"], job["seconds"])

        for line in sys.stdin:
            job = json.loads(line)
            if "batch" in job:
                answer = (caller.flat_batch if job.get("flat") else caller.batch)(job["batch"])
            elif job.get("in_flight") == 0:
                answer = one_after_the_other(caller.call, job["seconds"])
            else:
                answer = runner.run(work(job))
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
        # What is still held ends with the process.
        sys.stdout.close()
        import os

        os._exit(0)


if __name__ == "__main__":
    main()
