"""A streaming endpoint whose client disconnects in the middle."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from probes import key_of, until
from quotaflow import StreamInterrupted
from streaming_servers import HEAD, MODEL, Held, end, in_turn, interface, said, whole

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from quotaflow import LLMInterface

LIMITS = {"openai": {"tpd": {"amount": 1_000_000, "refill": "rolling"}, "concurrency": 100}}


@contextmanager
def app(llm: LLMInterface) -> Iterator[str]:
    """A web app in a thread of its own whose only page streams an answer."""

    async def pieces() -> AsyncIterator[str]:
        async with llm.astream_prompt("Hi", model=MODEL, max_tokens=5_000) as stream:
            with suppress(StreamInterrupted):
                async for piece in stream:
                    yield piece

    made = FastAPI()

    @made.get("/")
    async def endpoint() -> StreamingResponse:
        return StreamingResponse(pieces(), media_type="text/plain")

    server = uvicorn.Server(uvicorn.Config(made, port=0, log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        [listening] = [each for one in server.servers for each in one.sockets]
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


def used(llm: LLMInterface) -> tuple[Any, Any]:
    key = key_of(llm)
    return next(limit["used"] for limit in key["limits"] if limit["resource"] == "tokens"), key["in_flight"]


def test_a_client_that_stays_gets_it_all() -> None:
    with in_turn(whole("Par", "is")) as server, interface(server, limits=LIMITS) as llm, app(llm) as url:
        assert httpx.get(url).text == "Paris"
        assert used(llm) == (12, 0)


def test_a_client_that_leaves_ends_the_request() -> None:
    first = "x" * 400
    with Held(HEAD + said(first)) as held, interface(held.server, limits=LIMITS) as llm, app(llm) as url:
        with httpx.stream("GET", url) as response:
            # Kept: httpx closes the connection when nobody holds the iterator any more.
            texts = response.iter_text()
            assert next(texts) == first
            assert used(llm)[1] == 1
        assert held.gone.wait(5)
        until(lambda: used(llm)[1] == 0)
        # The prompt is estimated until the tokenizer's tables are loaded, and counted from then on.
        assert used(llm) in {(108, 0), (109, 0)}


def test_of_many_clients_those_that_stay_are_served() -> None:
    async def ask(client: httpx.AsyncClient, url: str, stays: bool) -> str:
        async with client.stream("GET", url) as response:
            async for text in response.aiter_text():
                if not stays:
                    return text
                said_so_far.append(text)
        return "whole"

    async def ask_all(held: Held, url: str) -> list[str]:
        async with httpx.AsyncClient(timeout=20) as client:
            asking = [asyncio.ensure_future(ask(client, url, number % 2 == 0)) for number in range(20)]
            leaving = asking[1::2]
            left = await asyncio.gather(*leaving)
            held.go_on.set()
            return left + await asyncio.gather(*asking[::2])

    said_so_far: list[str] = []
    held = Held(HEAD + said("Par"), said("is") + end())
    with held, interface(held.server, limits=LIMITS) as llm, app(llm) as url:
        assert asyncio.run(ask_all(held, url)) == ["Par"] * 10 + ["whole"] * 10
        assert "".join(sorted(said_so_far)) == "Par" * 10 + "is" * 10
        until(lambda: used(llm)[1] == 0)
