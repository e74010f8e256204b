"""A stream that breaks off: the error, a restart, a continuation."""

from __future__ import annotations

import asyncio
import pickle
import time
from typing import TYPE_CHECKING, Any

import pytest

from probes import key_of
from quotaflow import LLMInterface, Piece, Reply, StreamInterrupted
from servers import Request, http
from streaming_servers import (
    CLAUDE,
    HEAD,
    KEEP_ALIVE,
    MODEL,
    Held,
    called,
    claude_end,
    claude_said,
    end,
    event,
    in_turn,
    interface,
    said,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quotaflow import PromptStream

LIMITS = {"openai": {"tpd": {"amount": 1_000_000, "refill": "rolling"}}}
BEGUN = HEAD + said("Once upon ") + said("a ti")
ROUTE = {
    "models": {
        "default": {"provider": "openai", "model": MODEL},
        "fallback": [{"provider": "anthropic", "model": CLAUDE}],
    }
}
ERROR = event({"error": {"message": "The server had an error.", "type": "server_error"}})
OVERLOADED = event({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error")


def silent(_: Request) -> Iterator[bytes]:
    yield BEGUN
    time.sleep(0.5)


def reset(_: Request) -> Iterator[bytes]:
    yield BEGUN.replace(b"connection: close", b"content-length: 100000")


BREAKS: dict[str, tuple[Any, str, str]] = {
    "no terminal event": (BEGUN, "network", "without its terminal event"),
    "a finish reason and no end": (
        BEGUN + event({"choices": [{"index": 0, "delta": {}, "finish_reason": None}]}),
        "network",
        "without its terminal event",
    ),
    "half an event": (BEGUN + said("lost")[:-9], "network", "without its terminal event"),
    "a connection that breaks": (reset, "network", "the connection broke"),
    "an error event": (BEGUN + ERROR, "server_error", "The server had an error"),
    "a named error event": (BEGUN + OVERLOADED, "overloaded", "Overloaded"),
    "silence": (silent, "timeout", "nothing for 0.2 s"),
}


def read(stream: PromptStream) -> tuple[list[str], StreamInterrupted]:
    pieces: list[str] = []
    with pytest.raises(StreamInterrupted) as caught:
        pieces.extend(stream)
    return pieces, caught.value


@pytest.mark.parametrize("how", BREAKS)
def test_a_break_says_how_far_it_came_and_what_it_used(how: str) -> None:
    answer, failure, words = BREAKS[how]
    with in_turn(answer) as server, interface(server, limits=LIMITS) as llm:
        stream = llm.stream_prompt("Tell me a story.", model=MODEL, idle_timeout=0.2, max_tokens=5_000)
        pieces, error = read(stream)
        assert pieces == ["Once upon ", "a ti"]
        assert error.text == stream.text == "Once upon a ti"
        assert error.failure == failure
        assert words in error.message
        assert (error.provider, error.model, error.key) == ("openai", MODEL, "openai key 1")
        assert [attempt.failure for attempt in error.attempts] == [failure]
        assert error.hint is not None
        assert "resume=" in error.hint
        assert list(stream) == []
        assert len(server.asked) == 1
        # The prompt as it was reckoned, and four tokens for the fourteen bytes that came: not 5,000.
        [used] = [limit["used"] for limit in key_of(llm)["limits"]]
        assert 4 < used < 40
        assert error.usage is not None
        assert (error.usage.input_tokens + error.usage.output_tokens, error.usage.output_tokens) == (used, 4)
        again = pickle.loads(pickle.dumps(error))
        assert (again.usage, again.cost) == (error.usage, error.cost)
        assert error.cost == Reply("", provider="openai", model=MODEL, usage=(used - 4, 4, 0, 0, 0)).cost
        assert key_of(llm)["in_flight"] == 0


def test_so_it_is_under_asyncio() -> None:
    async def read(llm: LLMInterface) -> StreamInterrupted:
        stream = llm.astream_prompt("Tell me a story.", model=MODEL)
        with pytest.raises(StreamInterrupted) as caught:
            async for _ in stream:
                pass
        assert [piece async for piece in stream] == []
        return caught.value

    with in_turn(BEGUN) as server, interface(server) as llm:
        assert asyncio.run(read(llm)).text == "Once upon a ti"


def test_usage_that_was_told_before_a_break_is_what_counts() -> None:
    answer = HEAD + claude_said("Once")
    limits = {"anthropic": {"tpd": {"amount": 1_000_000, "refill": "rolling"}}}
    with in_turn(answer) as server, interface(server, limits=limits) as llm:
        with pytest.raises(StreamInterrupted, match="terminal event"):
            list(llm.stream_prompt("Tell me a story, " * 40, model=CLAUDE))
        [key] = [key for key in llm.status()["keys"] if key["provider"] == "anthropic"]
        assert [limit["used"] for limit in key["limits"]] == [12]


def test_errors_as_text_do_not_hide_a_break() -> None:
    with in_turn(BEGUN) as server, interface(server, errors="text") as llm:
        assert read(llm.stream_prompt("Hi", model=MODEL))[1].text == "Once upon a ti"


def test_comments_that_keep_a_connection_alive_are_life() -> None:
    def slow(_: Request) -> Iterator[bytes]:
        yield HEAD
        for _comment in range(8):
            time.sleep(0.05)
            yield KEEP_ALIVE
        yield said("Paris") + end()

    with in_turn(slow) as server, interface(server) as llm:
        assert list(llm.stream_prompt("Hi", model=MODEL, idle_timeout=0.25, retry=False)) == ["Paris"]


def test_a_restart_goes_to_another_provider_and_what_was_said_is_void() -> None:
    answers = in_turn(BEGUN + ERROR, http("", 500), HEAD + claude_said("There ", "was") + claude_end())
    with answers as server, interface(server, ROUTE) as llm:
        stream = llm.stream_prompt("Tell me a story.", resume="restart", retry_delay=0.001)
        pieces = list(stream)
        assert pieces == ["Once upon ", "a ti", "", "There ", "was"]
        seam = pieces[2]
        assert isinstance(seam, Piece)
        assert (seam.kind, seam.restarts) == ("seam", True)
        assert (seam.provider, seam.model) == ("anthropic", CLAUDE)
        assert seam.key is not None
        assert seam.key.startswith("anthropic")
        assert seam.broken is not None
        assert (seam.broken.provider, seam.broken.failure) == ("openai", "server_error")
        assert seam.message is not None
        assert "The server had an error" in seam.message
        assert stream.text == stream.reply == "There was"
        assert [attempt.failure for attempt in stream.reply.attempts] == ["server_error", "server_error", None]
        first, *_, last = [request.json["messages"] for request in server.asked]
        assert first == last == [{"role": "user", "content": "Tell me a story."}]


def test_to_continue_shows_the_other_model_what_was_said() -> None:
    answers = in_turn(BEGUN + ERROR, http("", 500), HEAD + claude_said("me there ", "was") + claude_end())
    with answers as server, interface(server, ROUTE) as llm:
        stream = llm.stream_prompt("Tell me a story.", resume="continue", retry_delay=0.001)
        pieces = list(stream)
        assert pieces == ["Once upon ", "a ti", "", "me there ", "was"]
        assert isinstance(pieces[2], Piece)
        assert not pieces[2].restarts
        assert stream.text == stream.reply == "".join(pieces) == "Once upon a time there was"
        assert stream.reply.usage is not None
        # Five at the second, and four for the fourteen bytes of the first.
        assert stream.reply.usage.output_tokens == 5 + 4
        used = stream.reply.usage.input_tokens - 11
        parts = [
            Reply("", provider="openai", model=MODEL, usage=(used, 4, 0, 0, 0)).cost,
            Reply("", provider="anthropic", model=CLAUDE, usage=(11, 5, 0, 0, 0)).cost,
        ]
        assert stream.reply.cost == sum(part for part in parts if part is not None) > max(filter(None, parts))
        question, answer, wish = server.asked[-1].json["messages"]
        assert question == {"role": "user", "content": "Tell me a story."}
        assert (answer["role"], answer["content"]) == ("assistant", "Once upon a ti")
        assert wish["role"] == "user"
        assert "Go on exactly where it stops" in str(wish["content"])


def test_it_can_break_and_continue_more_than_once() -> None:
    with in_turn(BEGUN, HEAD + said("me the"), whole("re was")) as server, interface(server) as llm:
        stream = llm.stream_prompt("Tell me a story.", model=MODEL, resume="continue", retry_delay=0.001)
        assert "".join(stream) == stream.reply == "Once upon a time there was"
        assert [len(request.json["messages"]) for request in server.asked] == [1, 3, 3]
        assert server.asked[-1].json["messages"][1]["content"] == "Once upon a time the"


def test_who_said_nothing_yet_starts_again() -> None:
    thinks = event({"id": "c1", "choices": [{"index": 0, "delta": {"reasoning_content": "Hm."}}]})
    with in_turn(HEAD + thinks, whole("Paris")) as server, interface(server) as llm:
        stream = llm.stream_prompt("Hi", model=MODEL, resume="continue", retry_delay=0.001)
        assert [(piece.kind, piece.restarts) for piece in stream.events()] == [
            ("reasoning", False),
            ("seam", True),
            ("text", False),
        ]
        assert [len(request.json["messages"]) for request in server.asked] == [1, 1]


@pytest.mark.parametrize("resume", ["restart", "continue"])
def test_no_fragment_of_a_tool_call_comes_twice(resume: Any) -> None:
    broken = HEAD + said("I look.") + called("", "call_1", "search") + called('{"q": "riv')
    again = HEAD + called("", "call_2", "search") + called('{"q": "rivers"}') + end(reason="tool_calls")
    with in_turn(broken, again) as server, interface(server) as llm:
        stream = llm.stream_prompt("Hi", model=MODEL, resume=resume, retry_delay=0.001)
        arguments: dict[str, str] = {}
        for piece in stream.events():
            if piece.kind == "seam":
                arguments.clear()
            if piece.kind == "tool_call":
                number = piece.call_id or next(iter(arguments))
                arguments[number] = arguments.get(number, "") + piece
        assert arguments == {"call_2": '{"q": "rivers"}'}
        assert [call["id"] for call in stream.reply.tool_calls] == ["call_2"]
        assert stream.reply == ("" if resume == "restart" else "I look.")
        assert "tool_calls" not in server.asked[-1].json["messages"][-1]


def test_when_nobody_can_go_on_the_break_is_what_is_told() -> None:
    config = {"providers": {"openai": {"keys": ["sk-test-1"]}}}
    with in_turn(BEGUN, http("", 500)) as server, interface(server, config) as llm:
        stream = llm.stream_prompt("Hi", model=MODEL, resume="restart", max_retries=2, retry_delay=0.001)
        pieces, error = read(stream)
        assert pieces == ["Once upon ", "a ti"]
        assert error.text == stream.text == "Once upon a ti"
        assert error.failure == "server_error"
        assert [attempt.failure for attempt in error.attempts] == ["network", "server_error", "server_error"]


def test_what_would_be_refused_again_is_not_asked_again() -> None:
    filtered = event({"error": {"message": "Content filtered.", "code": "content_filter"}})
    with in_turn(BEGUN + filtered) as server, interface(server, ROUTE) as llm:
        _, error = read(llm.stream_prompt("Hi", resume="restart"))
        assert error.failure == "content_filtered"
        assert len(server.asked) == 1


def test_a_quota_that_ends_in_the_middle_leads_to_another_key() -> None:
    refused = event({"error": {"message": "Rate limit reached.", "code": "rate_limit_exceeded"}})
    keys = {"openai": [{"key": f"sk-test-{n}", "label": f"openai {n}"} for n in (1, 2)]}
    with in_turn(BEGUN + refused, whole("Paris")) as server, interface(server, keys=keys) as llm:
        stream = llm.stream_prompt("Hi", model=MODEL, resume="restart")
        assert list(stream)[-1] == stream.reply == "Paris"
        assert [(attempt.key, attempt.failure) for attempt in stream.reply.attempts] == [
            ("openai 1", "rate_limited"),
            ("openai 2", None),
        ]
        assert key_of(llm)["state"] == "cooling"


def test_a_seam_is_told_to_loops_and_hooks_too() -> None:
    seen: list[Any] = []

    async def read(llm: LLMInterface) -> list[str]:
        stream = llm.astream_prompt("Hi", model=MODEL, resume="continue", retry_delay=0.001, on_retry=seen.append)
        return [piece async for piece in stream]

    with in_turn(BEGUN, whole("me")) as server, interface(server) as llm:
        assert asyncio.run(read(llm)) == ["Once upon ", "a ti", "", "me"]
        assert [attempt.failure for attempt in seen] == ["network"]


def test_a_model_that_streams_nothing_is_left() -> None:
    with Held(HEAD, keeps_alive=False) as held, interface(held.server) as llm:
        stream = llm.stream_prompt("Hi", model=MODEL, idle_timeout=0.1, retry=False)
        with pytest.raises(TimeoutError):
            next(stream)
        assert list(stream) == []
