"""Streams ended from outside: by a thread, a deadline, a cancel, a close."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from probes import key_of, until, waiting
from quotaflow import (
    ClosedError,
    DeadlineExceededError,
    InvalidArgumentError,
    LLMInterface,
    QueueCleared,
    StreamInterrupted,
    UserLimitError,
)
from streaming_servers import HEAD, MODEL, Held, end, event, in_turn, interface, said, whole

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from quotaflow import AsyncPromptStream, PromptStream
    from servers import Request
    from streaming_servers import Scene

ONE = {"openai": {"concurrency": 1}}
BROKEN = HEAD + said("Once ")


def test_a_second_thread_is_refused_and_the_first_one_reads_on(paused: Scene) -> None:
    held, llm = paused
    stream = llm.stream_prompt("Hi", model=MODEL)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.extend(stream))
    reader.start()
    until(lambda: stream._turn.locked() and read == ["Par"])
    for second in (stream, stream.events()):
        with pytest.raises(InvalidArgumentError, match="another reader waits"):
            next(second)
    held.go_on.set()
    reader.join(5)
    assert read == ["Par", "is"]
    assert stream.reply == stream.text == "Paris"


def test_so_is_a_second_task(paused: Scene) -> None:
    async def read(held: Held, llm: LLMInterface) -> list[str]:
        stream = llm.astream_prompt("Hi", model=MODEL)
        assert await anext(stream) == "Par"
        waits = asyncio.ensure_future(anext(stream))
        # It begins before this does.
        await asyncio.sleep(0)
        assert stream._turn.locked()
        with pytest.raises(InvalidArgumentError, match="another reader waits"):
            await anext(stream)
        held.go_on.set()
        assert await waits == "is"
        assert [piece async for piece in stream] == []
        assert stream.reply == "Paris"
        return [await waits]

    held, llm = paused
    assert asyncio.run(read(held, llm)) == ["is"]


def test_a_stream_that_another_thread_closed_does_not_look_complete(paused: Scene) -> None:
    _, llm = paused
    stream = llm.stream_prompt("Hi", model=MODEL)
    assert next(stream) == "Par"
    closer = threading.Thread(target=stream.close)
    closer.start()
    closer.join(5)
    for again in (stream, stream.events(), stream):
        with pytest.raises(ClosedError, match="closed before its end"):
            next(again)
    assert stream.text == "Par"


def test_one_that_is_over_stays_so_when_it_is_closed() -> None:
    with in_turn(whole("Par", "is"), BROKEN) as server, interface(server) as llm:
        with llm.stream_prompt("Hi", model=MODEL) as stream:
            assert list(stream) == ["Par", "is"]
        assert list(stream) == list(stream.events()) == []
        with llm.stream_prompt("Hi", model=MODEL) as stream, pytest.raises(StreamInterrupted):
            list(stream)
        assert list(stream) == []


@pytest.mark.parametrize("whole_pieces", [False, True])
def test_a_wait_that_was_given_up_does_not_look_like_the_end(whole_pieces: bool, paused: Scene) -> None:
    async def read(llm: LLMInterface) -> str:
        stream = llm.astream_prompt("Hi", model=MODEL)
        pieces: AsyncIterator[str] = stream.events() if whole_pieces else stream
        assert await anext(pieces) == "Par"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(pieces), 0.02)
        for _ in range(2):
            with pytest.raises(ClosedError, match="cancelled") as caught:
                await anext(pieces)
        assert "asyncio.wait()" in str(caught.value)
        return stream.text

    held, llm = paused
    assert asyncio.run(read(llm)) == "Par"
    assert held.gone.wait(5)
    until(lambda: key_of(llm)["in_flight"] == 0)


async def with_heartbeat(stream: AsyncPromptStream, seconds: float) -> AsyncIterator[str | None]:
    """The pattern of the guide: `None` where nothing came for that long."""
    async with stream:
        waits = asyncio.ensure_future(anext(stream))
        try:
            while True:
                done, _ = await asyncio.wait({waits}, timeout=seconds)
                if not done:
                    yield None
                    continue
                try:
                    piece = waits.result()
                except StopAsyncIteration:
                    return
                yield piece
                waits = asyncio.ensure_future(anext(stream))
        finally:
            waits.cancel()


def test_a_heartbeat_keeps_the_stream(paused: Scene) -> None:
    async def read(held: Held, llm: LLMInterface) -> list[str | None]:
        read: list[str | None] = []
        async for piece in with_heartbeat(llm.astream_prompt("Hi", model=MODEL), 0.01):
            read.append(piece)
            if read.count(None) == 3:
                held.go_on.set()
        return read

    held, llm = paused
    read_so_far = asyncio.run(read(held, llm))
    assert [piece for piece in read_so_far if piece] == ["Par", "is"]
    assert read_so_far.count(None) >= 3


def test_whoever_leaves_a_heartbeat_ends_the_request() -> None:
    async def leave(llm: LLMInterface) -> None:
        pieces = with_heartbeat(llm.astream_prompt("Hi", model=MODEL), 0.01)
        beats = asyncio.Event()

        async def go_on() -> None:
            read: list[str | None] = []
            async for piece in pieces:
                read.append(piece)
                if read[-1] is None and "Par" in read:
                    beats.set()

        task = asyncio.ensure_future(go_on())
        await beats.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert not [other for other in asyncio.all_tasks() if other is not asyncio.current_task()]

    with Held(HEAD + said("Par")) as held, interface(held.server) as llm:
        asyncio.run(leave(llm))
        assert held.gone.wait(5)
        until(lambda: key_of(llm)["in_flight"] == 0)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_time_that_is_over_ends_a_stream_that_nobody_reads(is_async: bool) -> None:
    def ended(held: Held, llm: LLMInterface) -> None:
        assert held.gone.wait(5)
        until(lambda: key_of(llm)["in_flight"] == 0)
        # Its place is free.
        with llm.stream_prompt("Hi", model=MODEL, timeout=5) as other:
            assert next(other) == "Par"

    async def read(held: Held, llm: LLMInterface) -> None:
        stream = llm.astream_prompt("Hi", model=MODEL, timeout=0.2)
        assert await anext(stream) == "Par"
        await asyncio.to_thread(ended, held, llm)
        with pytest.raises(DeadlineExceededError):
            await anext(stream)
        assert [piece async for piece in stream] == []

    with Held(HEAD + said("Par")) as held, interface(held.server, limits=ONE) as llm:
        if is_async:
            asyncio.run(read(held, llm))
            return
        stream = llm.stream_prompt("Hi", model=MODEL, timeout=0.2)
        assert next(stream) == "Par"
        ended(held, llm)
        with pytest.raises(DeadlineExceededError) as caught:
            next(stream)
        assert [attempt.failure for attempt in caught.value.attempts] == ["timeout"]
        assert (list(stream), stream.text) == ([], "Par")


def test_a_time_that_is_over_ends_a_stream_whose_interface_is_gone() -> None:
    with Held(HEAD + said("Par")) as held:
        stream = interface(held.server).stream_prompt("Hi", model=MODEL, timeout=0.2)
        assert next(stream) == "Par"
        gc.collect()
        assert held.gone.wait(5)
        with pytest.raises(DeadlineExceededError):
            next(stream)


def test_closing_the_interface_ends_a_stream_that_nobody_reads() -> None:
    with Held(HEAD + said("Par")) as held:
        llm = interface(held.server)
        stream = llm.stream_prompt("Hi", model=MODEL)
        assert next(stream) == "Par"
        llm.close()
        assert held.gone.wait(5)
        with pytest.raises(ClosedError, match="this LLMInterface was closed"):
            next(stream)
        assert list(stream) == []


def test_no_thread_is_left_for_streams_that_are_over() -> None:
    def watches() -> bool:
        names = []
        for thread in threads_of_this_process():
            with suppress(OSError), open(f"/proc/self/task/{thread}/comm", encoding="ascii") as name:  # noqa: PTH123
                names.append(name.read().strip())
        return "quotaflow-overd" in names

    def threads_of_this_process() -> list[str]:
        import os

        return os.listdir("/proc/self/task")  # noqa: PTH208

    with in_turn(whole("Paris")) as server, interface(server) as llm:
        until(lambda: not watches())
        assert list(llm.stream_prompt("Hi", model=MODEL)) == ["Paris"]
        assert not watches()
        assert list(llm.stream_prompt("Hi", model=MODEL, timeout=0.3)) == ["Paris"]
        until(lambda: not watches())


def resumed(llm: LLMInterface, **arguments: Any) -> PromptStream:
    return llm.stream_prompt("Hi", model=MODEL, resume="restart", retry_delay=0.001, **arguments)


def test_a_limit_of_its_user_stops_a_resume_and_the_text_is_there() -> None:
    # Enough for the first attempt, and not for the second one beside what that used.
    config = {"users": {"ann": {"tpd": 110}}}
    with in_turn(BROKEN) as server, interface(server, config) as llm:
        with pytest.raises(StreamInterrupted) as caught:
            list(resumed(llm, user="ann", max_tokens=100))
        assert len(server.asked) == 1
        assert (caught.value.text, caught.value.failure) == ("Once ", "network")


def test_a_time_that_is_over_stops_a_resume_and_the_text_is_there() -> None:
    def silent(_: Request) -> Iterator[bytes]:
        yield b""
        gone.wait(10)

    gone = threading.Event()
    with in_turn(BROKEN, silent) as server, interface(server) as llm:
        stream = resumed(llm, timeout=0.2)
        with pytest.raises(DeadlineExceededError) as caught:
            list(stream)
        gone.set()
        assert [attempt.failure for attempt in caught.value.attempts] == ["network", "timeout"]
        assert stream.text == "Once "


@pytest.mark.parametrize("is_resumed", [False, True])
def test_clear_queue_ends_a_stream_that_waits(is_resumed: bool) -> None:
    refused = event({"error": {"message": "Rate limit reached. Try again in 20s.", "code": "rate_limit_exceeded"}})
    cleared: list[int] = []

    def clear(llm: LLMInterface) -> None:
        until(lambda: waiting(llm) == 1)
        cleared.append(llm.clear_queue())

    with Held(BROKEN + refused) as held, interface(held.server, limits=ONE) as llm:
        first = llm.stream_prompt("Hi", model=MODEL)
        if not is_resumed:
            next(first)
        clearer = threading.Thread(target=clear, args=(llm,))
        clearer.start()
        stream = resumed(llm)
        with pytest.raises(QueueCleared):
            list(stream)
        clearer.join(5)
        assert (cleared, waiting(llm)) == ([1], 0)
        assert stream.text == ("Once " if is_resumed else "")
        first.close()
        assert key_of(llm)["in_flight"] == 0


@pytest.mark.parametrize("how", ["left", "broken", "whole"])
def test_what_a_stream_cost_counts_for_its_user(how: str) -> None:
    # Four hundred thousand bytes are a hundred thousand tokens, which cost six cents.
    words = HEAD + said("x" * 400_000)
    answer = words + end(9, 100_000) if how == "whole" else words
    config = {"users": {"ann": {"cost_per_day": 0.05}}}
    with Held(answer) as held, interface(held.server, config) as llm:
        stream = llm.stream_prompt("Hi", model=MODEL, user="ann", max_tokens=100)
        assert len(next(stream)) == 400_000
        if how == "left":
            stream.close()
        else:
            held.go_on.set()
            with suppress(StreamInterrupted):
                list(stream)
        with pytest.raises(UserLimitError) as caught:
            next(llm.stream_prompt("Hi", model=MODEL, user="ann", max_tokens=100))
        assert caught.value.limit == "cost_per_day"
        assert caught.value.used is not None
        assert caught.value.used > 0.05
        assert len(held.server.asked) == 1
