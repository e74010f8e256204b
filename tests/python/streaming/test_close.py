"""Readers that leave a stream early: nothing stays behind."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from probes import key_of, until
from quotaflow import ClosedError, LLMInterface
from servers import Request, Server
from streaming_servers import HEAD, MODEL, Held, end, interface, said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from quotaflow import PromptStream
    from streaming_servers import Scene

LIMITS = {"openai": {"tpd": {"amount": 1_000_000, "refill": "rolling"}}}
# "Hi" is nine tokens as it is reckoned, and what was said here is a hundred.
FIRST = "x" * 400
# The prompt is estimated until the tokenizer's tables are loaded, and counted from then on.
USED = (108, 109)


def used(llm: LLMInterface) -> int:
    [count] = [limit["used"] for limit in key_of(llm)["limits"]]
    number: int = count
    return number


@pytest.fixture
def unfinished() -> Iterator[Scene]:
    """A stream of which a hundred tokens are sent, and no end."""
    with Held(HEAD + said(FIRST)) as held, interface(held.server, limits=LIMITS) as llm:
        yield held, llm


def let_go(held: Held, llm: LLMInterface) -> None:
    """The server is left, and what was used is booked."""
    assert held.gone.wait(5)
    until(lambda: key_of(llm)["in_flight"] == 0)
    assert used(llm) in USED


def closes(stream: PromptStream) -> None:
    stream.close()
    stream.close()


def leaves_its_block(stream: PromptStream) -> None:
    with stream:
        pass


def is_forgotten(stream: PromptStream) -> None:
    del stream
    gc.collect()


@pytest.mark.parametrize("leave", [closes, leaves_its_block])
def test_whoever_closes_a_stream_ends_the_request(
    leave: Callable[[PromptStream], None], unfinished: Scene
) -> None:
    held, llm = unfinished
    stream = llm.stream_prompt("Hi", model=MODEL, max_tokens=5_000)
    next(stream)
    leave(stream)
    # At once, without waiting for anybody.
    assert key_of(llm)["in_flight"] == 0
    assert used(llm) in USED
    assert held.gone.wait(5)
    for _ in range(2):
        with pytest.raises(ClosedError, match="closed before its end"):
            next(stream)


def test_a_stream_that_is_forgotten_is_closed(unfinished: Scene) -> None:
    held, llm = unfinished
    assert next(llm.stream_prompt("Hi", model=MODEL, max_tokens=5_000)) == FIRST
    let_go(held, llm)


def test_so_is_the_stream_behind_a_generator_that_is_forgotten(unfinished: Scene) -> None:
    held, llm = unfinished
    pieces = llm.stream("Hi", model=MODEL, max_tokens=5_000)
    assert next(pieces) == FIRST
    del pieces
    gc.collect()
    let_go(held, llm)


def test_a_loop_that_is_left_ends_it_too(unfinished: Scene) -> None:
    async def read(llm: LLMInterface) -> None:
        async with llm.astream_prompt("Hi", model=MODEL, max_tokens=5_000) as stream:
            async for _ in stream:
                break
        assert key_of(llm)["in_flight"] == 0
        assert used(llm) in USED

    held, llm = unfinished
    asyncio.run(read(llm))
    let_go(held, llm)


def test_a_task_that_is_cancelled_ends_it(unfinished: Scene) -> None:
    async def read(llm: LLMInterface) -> None:
        stream = llm.astream_prompt("Hi", model=MODEL, max_tokens=5_000)
        assert await anext(stream) == FIRST
        waits = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.02)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        with pytest.raises(ClosedError, match="cancelled"):
            await anext(stream)

    held, llm = unfinished
    asyncio.run(read(llm))
    let_go(held, llm)


def test_a_task_that_is_cancelled_before_the_answer_gives_up_its_place() -> None:
    async def read(llm: LLMInterface) -> None:
        stream = llm.astream_prompt("Hi", model=MODEL)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.05)

    limits = {"openai": {"concurrency": 1}}
    with Held(HEAD + said(FIRST)) as held, interface(held.server, limits=limits) as llm:
        first = llm.stream_prompt("Hi", model=MODEL)
        next(first)
        asyncio.run(read(llm))
        until(lambda: not any(line["waiting"] for line in llm.status()["waiting"]))
        assert len(held.server.asked) == 1


def test_another_thread_may_close_a_stream_that_waits() -> None:
    with Held(HEAD + said(FIRST), keeps_alive=False) as held, interface(held.server, limits=LIMITS) as llm:
        stream = llm.stream_prompt("Hi", model=MODEL, max_tokens=5_000)
        next(stream)
        threading.Timer(0.05, stream.close).start()
        with pytest.raises(ClosedError, match="this stream was closed"):
            next(stream)
        until(lambda: key_of(llm)["in_flight"] == 0)
        assert used(llm) in USED


def test_loops_that_watch_no_sockets_read_streams_too() -> None:
    class Deaf(asyncio.SelectorEventLoop):
        def add_reader(self, *_: object) -> None:
            raise NotImplementedError

    async def read(llm: LLMInterface) -> list[str]:
        async with llm.astream_prompt("Hi", model=MODEL) as stream:
            return [piece async for piece in stream]

    async def leave(llm: LLMInterface) -> None:
        async with llm.astream_prompt("Hi", model=MODEL, max_tokens=5_000) as stream:
            await anext(stream)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.05)

    with asyncio.Runner(loop_factory=Deaf) as runner:
        with Server(lambda _: HEAD + said("Par") + said("is") + end()) as server, interface(server) as llm:
            assert "".join(runner.run(read(llm))) == "Paris"
        with Held(HEAD + said(FIRST)) as held, interface(held.server, limits=LIMITS) as llm:
            runner.run(leave(llm))
            let_go(held, llm)


class Flood:
    """A server that says a gigabyte, and counts how much of it was taken."""

    def __init__(self) -> None:
        self.taken = 0
        self.gone = threading.Event()

    def answer(self, _: Request) -> Iterator[bytes]:
        try:
            yield HEAD
            piece = said("word " * 2_000) * 6  # some 60 kB
            for _piece in range(16_000):
                yield piece
                self.taken += len(piece)
            yield end()
        finally:
            self.gone.set()


def resident() -> int:
    """How much memory this process has, in bytes."""
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 - a file that is none
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("is_async", [False, True])
def test_a_consumer_that_stops_reading_stops_the_server(is_async: bool) -> None:
    flood = Flood()

    def settled() -> int:
        taken = -1
        while taken != flood.taken:
            taken = flood.taken
            time.sleep(0.05)
        return taken

    async def stop(llm: LLMInterface) -> int:
        async with llm.astream_prompt("Hi", model=MODEL) as stream:
            await anext(stream)
            return await asyncio.to_thread(settled)

    with Server(flood.answer) as server, interface(server) as llm:
        before = resident()
        if is_async:
            taken = asyncio.run(stop(llm))
        else:
            with llm.stream_prompt("Hi", model=MODEL) as stream:
                next(stream)
                taken = settled()
        # What fits into the buffers of two sockets, and no more.
        assert taken < 32_000_000
        assert resident() - before < 64_000_000
        assert flood.gone.wait(5)


def test_a_gigabyte_is_refused_before_it_is_kept() -> None:
    flood = Flood()
    with Server(flood.answer) as server, interface(server) as llm:
        before = resident()
        with pytest.raises(Exception, match="too large") as caught:
            for _ in llm.stream_prompt("Hi", model=MODEL):
                pass
        assert type(caught.value).__name__ == "StreamInterrupted"
        assert len(caught.value.text) < 34_000_000  # type: ignore[attr-defined]
        del caught
        assert resident() - before < 200_000_000
        assert flood.taken < 200_000_000


READ = """
import asyncio, json, sys, time
from quotaflow import LLMInterface
given = json.loads(sys.argv[1])
llm = LLMInterface({}, **given["arguments"])
async def read():
    async for piece in llm.astream_prompt("Hi", model="gpt-4o-mini"):
        print("reading", flush=True)
try:
    if given["is_async"]:
        asyncio.run(read())
    else:
        for piece in llm.stream_prompt("Hi", model="gpt-4o-mini"):
            print("reading", flush=True)
except KeyboardInterrupt:
    interrupted = time.monotonic()
    while any(key["in_flight"] for key in llm.status()["keys"]) and time.monotonic() < interrupted + 5:
        pass
    print(json.dumps([interrupted, sum(key["in_flight"] for key in llm.status()["keys"])]))
"""


@pytest.mark.quiet
@pytest.mark.parametrize("is_async", [False, True])
def test_ctrl_c_ends_a_stream(is_async: bool) -> None:
    with Held(HEAD + said(FIRST)) as held:
        arguments: dict[str, Any] = {
            "keys": {"openai": "sk-test-1"},
            "base_urls": {"openai": f"{held.server.url}/v1"},
            "state": "memory",
        }
        given = json.dumps({"arguments": arguments, "is_async": is_async})
        process = subprocess.Popen([sys.executable, "-c", READ, given], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "reading\n"
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=10)
        finally:
            process.kill()
            process.communicate()
        interrupted, in_flight = json.loads(output)
        assert interrupted - sent < 1
        assert (in_flight, process.returncode) == (0, 0)
        assert held.gone.wait(5)


FORK = """
import os, sys
from quotaflow import ClosedError, LLMInterface
llm = LLMInterface({}, keys={"openai": "sk-test-1"}, base_urls={"openai": sys.argv[1]}, state=sys.argv[2])
stream = llm.stream_prompt("Hi", model="gpt-4o-mini", timeout=30)
assert next(stream) == "Par"
child = os.fork()
if child == 0:
    try:
        next(stream)
    except ClosedError as error:
        assert "parent" in str(error)
        stream.close()
        del stream
        assert "".join(llm.stream_prompt("Hi", model="gpt-4o-mini", timeout=30)) == "Paris"
        os._exit(7)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert "".join(stream) == "is", stream.text
assert stream.reply == "Paris"
print("both")
"""


def test_a_stream_stays_with_the_process_that_began_it(tmp_path: Any) -> None:
    def answer(_: Request) -> Iterator[bytes]:
        yield HEAD + said("Par")
        time.sleep(0.2)
        yield said("is") + end()

    with Server(answer) as server:
        given = [f"{server.url}/v1", str(tmp_path / "state.sqlite")]
        arguments = [sys.executable, "-W", "ignore", "-c", FORK, *given]
        told = subprocess.run(arguments, capture_output=True, text=True, timeout=20, check=False)
        assert (told.stdout, told.stderr) == ("both\n", "")


EXIT = """
import sys
from quotaflow import LLMInterface
llm = LLMInterface({}, keys={"openai": "sk-test-1"}, base_urls={"openai": sys.argv[1]}, state="memory")
stream = llm.stream_prompt("Hi", model="gpt-4o-mini", timeout=3_600)
print(next(stream) == "Par", flush=True)
"""


def test_a_stream_that_is_open_when_the_interpreter_exits_holds_nothing_up() -> None:
    with Held(HEAD + said("Par")) as held:
        arguments = [sys.executable, "-c", EXIT, f"{held.server.url}/v1"]
        told = subprocess.run(arguments, capture_output=True, text=True, timeout=20, check=False)
        assert (told.returncode, told.stdout, told.stderr) == (0, "True\n", "")
        assert held.gone.wait(5)


def test_streams_that_are_read_to_their_end_leave_no_files_open() -> None:
    def open_files() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only counted

    with Server(lambda _: HEAD + said("Paris") + end()) as server, interface(server) as llm:
        list(llm.stream_prompt("Hi", model=MODEL))
        before = open_files()
        for _ in range(20):
            list(llm.stream_prompt("Hi", model=MODEL))
            with suppress(StopIteration), llm.stream_prompt("Hi", model=MODEL) as left:
                next(left)
        until(lambda: open_files() <= before + 3)
