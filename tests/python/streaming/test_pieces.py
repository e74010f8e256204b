"""A streamed answer: its pieces as they arrive, its facts at the end."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from probes import key_of, until, waiting
from quotaflow import (
    ClosedError,
    DeadlineExceededError,
    InvalidArgumentError,
    InvalidPromptError,
    InvalidRequestError,
    LLMInterface,
    NoKeyError,
    Piece,
    QuotaflowError,
    Reply,
    ServerError,
)
from servers import OPENAI_ANSWER, Server, http
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
    from collections.abc import Callable

    from streaming_servers import Scene

LIMITS = {"openai": {"tpd": {"amount": 1_000_000, "refill": "rolling"}}}


def tokens(llm: LLMInterface) -> int:
    [used] = [limit["used"] for limit in key_of(llm)["limits"] if limit["resource"] == "tokens"]
    count: int = used
    return count


def test_a_piece_is_there_before_the_rest_was_sent(paused: Scene) -> None:
    held, llm = paused
    stream = llm.stream_prompt("Hi", model=MODEL)
    assert next(stream) == "Par"
    assert (stream.text, held.go_on.is_set()) == ("Par", False)
    held.go_on.set()
    assert list(stream) == ["is"]
    assert stream.text == stream.reply == "Paris"
    assert held.server.asked[0].json["stream"] is True
    assert held.server.asked[0].json["stream_options"] == {"include_usage": True}


def test_so_it_is_under_asyncio(paused: Scene) -> None:
    async def read(held: Held, llm: LLMInterface) -> list[str]:
        async with llm.astream_prompt("Hi", model=MODEL) as stream:
            pieces = [await anext(stream)]
            assert not held.go_on.is_set()
            held.go_on.set()
            pieces += [piece async for piece in stream]
            assert stream.text == stream.reply == "Paris"
            return pieces

    held, llm = paused
    assert asyncio.run(read(held, llm)) == ["Par", "is"]


def test_the_reply_knows_usage_latencies_and_the_only_attempt() -> None:
    with in_turn(whole("Par", "is")) as server, interface(server, limits=LIMITS) as llm:
        stream = llm.stream_prompt("Hi", model=MODEL, max_tokens=500)
        assert "".join(stream) == "Paris"
        reply = stream.reply
        assert type(reply) is Reply
        assert reply.usage is not None
        assert (reply.usage.input_tokens, reply.usage.output_tokens) == (9, 3)
        assert (reply.provider, reply.model, reply.finish_reason) == ("openai", MODEL, "stop")
        assert reply.first_token_latency is not None
        assert 0 < reply.first_token_latency <= reply.latency
        assert [attempt.succeeded for attempt in reply.attempts] == [True]
        assert reply.raw["choices"][0]["message"]["content"] == "Paris"
        assert tokens(llm) == 12
        assert key_of(llm)["in_flight"] == 0


def test_a_whole_answer_has_no_first_token() -> None:
    with in_turn(http(OPENAI_ANSWER)) as server, interface(server) as llm:
        assert llm.send_prompt("Hi", model=MODEL).first_token_latency is None


def test_a_server_that_streams_nothing_and_answers_is_understood() -> None:
    with in_turn(http(OPENAI_ANSWER)) as server, interface(server) as llm:
        stream = llm.stream_prompt("Hi", model=MODEL)
        assert list(stream) == ["Paris"]
        assert stream.reply.finish_reason == "stop"


def test_before_the_end_there_is_no_reply() -> None:
    with in_turn(whole("Paris")) as server, interface(server) as llm:
        stream = llm.stream_prompt("Hi", model=MODEL)
        with pytest.raises(QuotaflowError, match="no reply before the end"):
            stream.reply  # noqa: B018
        assert repr(stream) == "<PromptStream open, 0 characters so far>"
        list(stream)
        assert repr(stream) == "<PromptStream over, 5 characters so far>"
        assert list(stream) == []


def test_nothing_is_sent_before_a_piece_is_wanted() -> None:
    with in_turn(whole("Paris")) as server, interface(server) as llm:
        stream = llm.stream_prompt("Hi", model=MODEL)
        assert server.asked == []
        assert key_of(llm)["in_flight"] == 0
        next(stream)
        assert len(server.asked) == 1


def test_tool_calls_and_thinking_are_events() -> None:
    thinks = event({"id": "c1", "choices": [{"index": 0, "delta": {"reasoning_content": "Hm."}}]})
    answer = HEAD + thinks + said("I look.") + called("", "call_1", "search") + called('{"q"') + called(": 1}")
    with in_turn(answer + end(reason="tool_calls")) as server, interface(server) as llm:
        events = list(llm.stream_prompt("Hi", model=MODEL).events())
        assert [(piece.kind, str(piece)) for piece in events] == [
            ("reasoning", "Hm."),
            ("text", "I look."),
            ("tool_call", ""),
            ("tool_call", '{"q"'),
            ("tool_call", ": 1}"),
        ]
        assert [(piece.call_index, piece.call_id, piece.tool_name) for piece in events[2:]] == [
            (0, "call_1", "search"),
            (0, None, None),
            (0, None, None),
        ]
        stream = llm.stream_prompt("Hi", model=MODEL)
        assert list(stream) == ["I look."]
        [call] = stream.reply.tool_calls
        assert (call["id"], call["function"]) == ("call_1", {"name": "search", "arguments": '{"q": 1}'})


def test_pieces_and_events_take_from_one_stream() -> None:
    with in_turn(whole("a", "b", "c")) as server, interface(server) as llm:
        stream = llm.stream_prompt("Hi", model=MODEL)
        assert (next(stream), next(stream.events()), next(stream)) == ("a", "b", "c")
        assert list(stream.events()) == []
        assert stream.text == stream.reply == "abc"


REFUSED = http({"error": {"message": "Rate limit reached.", "type": "requests"}}, 429, retry_after="0")
FIRST_AN_ERROR = HEAD + event({"error": {"message": "Overloaded", "type": "server_error", "code": 503}})


@pytest.mark.parametrize(
    ("first", "failure", "status"),
    [
        (REFUSED, "rate_limited", 429),
        (FIRST_AN_ERROR, "overloaded", 503),
        (http("", 500), "server_error", 500),
        (HEAD, "network", 200),
        (b"", "network", None),
        (HEAD + KEEP_ALIVE + b"data: {", "network", 200),
    ],
)
def test_before_the_first_piece_it_is_tried_again(first: bytes, failure: str, status: int | None) -> None:
    seen: list[Any] = []
    with in_turn(first, whole("Paris")) as server, interface(server, limits=LIMITS) as llm:
        stream = llm.stream_prompt("Hi", model=MODEL, retry_delay=0.001, on_retry=seen.append)
        assert list(stream) == ["Paris"]
        attempts = stream.reply.attempts
        assert [attempt.failure for attempt in attempts] == [failure, None]
        assert attempts[0].status == status
        assert tuple(seen) == attempts[:1]


def test_before_the_first_piece_it_falls_back_to_another_dialect() -> None:
    fallback = [{"provider": "anthropic", "model": CLAUDE}]
    config = {"models": {"default": {"provider": "openai", "model": MODEL}, "fallback": fallback}}
    answers = in_turn(http("", 401), HEAD + claude_said("Bonjour", "!") + claude_end())
    with answers as server, interface(server, config) as llm:
        stream = llm.stream_prompt("Hi")
        assert list(stream) == ["Bonjour", "!"]
        assert stream.reply.provider == "anthropic"
        assert stream.reply.usage is not None
        assert (stream.reply.usage.input_tokens, stream.reply.usage.output_tokens) == (11, 5)
        assert [request.path for request in server.asked] == ["/v1/chat/completions", "/v1/messages"]


def test_what_is_refused_for_good_is_raised_as_for_any_call() -> None:
    refused = http({"error": {"message": "Bad temperature.", "type": "invalid_request_error"}}, 400)
    with in_turn(refused) as server, interface(server) as llm:
        stream = llm.stream_prompt("Hi", model=MODEL)
        with pytest.raises(InvalidRequestError, match="Bad temperature") as caught:
            next(stream)
        assert len(caught.value.attempts) == 1
        assert list(stream) == []


def test_with_errors_as_text_a_call_that_said_nothing_says_so() -> None:
    with in_turn(http("", 500)) as server, interface(server, errors="text") as llm:
        stream = llm.stream_prompt("Hi", model=MODEL, retry=False)
        [piece] = stream
        assert piece.startswith("[LLM Error: ")
        assert stream.reply == piece
        assert isinstance(stream.reply.error, ServerError)


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"priority": "high"}, InvalidArgumentError, "priority"),
    ({"resume": "again"}, InvalidArgumentError, "resume is 'again'"),
    ({"resume": True}, InvalidArgumentError, "resume is of type bool"),
    ({"idle_timeout": 0}, InvalidArgumentError, "idle_timeout is 0"),
    ({"idle_timeout": "long"}, InvalidArgumentError, "idle_timeout"),
    ({"deadline": 1_500_000_000.0}, DeadlineExceededError, "deadline has passed"),
    ({"prompt": ""}, InvalidPromptError, "empty"),
    ({"prompt": "\ud800"}, InvalidPromptError, "surrogate"),
    ({"provider": "groq"}, NoKeyError, "no key for groq"),
    ({"temperature": "hot"}, InvalidArgumentError, "temperature"),
    ({"tempratur": 1}, InvalidArgumentError, "tempratur"),
]


@pytest.mark.parametrize(("wrong", "error", "words"), WRONG)
@pytest.mark.parametrize("way", ["stream_prompt", "astream_prompt"])
def test_arguments_are_refused_at_the_call(
    way: str, wrong: dict[str, Any], error: type[Exception], words: str
) -> None:
    with in_turn(whole("Paris")) as server, interface(server) as llm:
        begin: Callable[..., object] = getattr(llm, way)
        with pytest.raises(error, match=words):
            begin(**({"prompt": "Hi", "model": MODEL} | wrong))
        assert server.asked == []


def test_a_closed_interface_begins_no_stream() -> None:
    with in_turn(whole("Paris")) as server, interface(server) as llm:
        begun = llm.stream_prompt("Hi", model=MODEL)
        llm.close()
        with pytest.raises(ClosedError):
            llm.stream_prompt("Hi", model=MODEL)
        with pytest.raises(ClosedError):
            next(begun)


def test_closing_the_interface_ends_a_stream_that_waits_for_a_piece() -> None:
    with Held(HEAD + said("Par"), keeps_alive=False) as held, interface(held.server) as llm:
        stream = llm.stream_prompt("Hi", model=MODEL)
        assert next(stream) == "Par"
        threading.Timer(0.05, llm.close).start()
        with pytest.raises(ClosedError):
            next(stream)
        assert stream.text == "Par"

    async def read(llm: LLMInterface) -> None:
        stream = llm.astream_prompt("Hi", model=MODEL)
        assert await anext(stream) == "Par"
        asyncio.get_running_loop().call_later(0.05, llm.close)
        with pytest.raises(ClosedError):
            await anext(stream)

    with Held(HEAD + said("Par"), keeps_alive=False) as held, interface(held.server) as llm:
        asyncio.run(read(llm))


def test_a_deadline_holds_in_the_middle_of_a_stream() -> None:
    with Held(HEAD + said("Par")) as held, interface(held.server, limits=LIMITS) as llm:
        stream = llm.stream_prompt("Hi", model=MODEL, timeout=0.15)
        assert next(stream) == "Par"
        with pytest.raises(DeadlineExceededError) as caught:
            next(stream)
        assert [attempt.failure for attempt in caught.value.attempts] == ["timeout"]
        assert stream.text == "Par"
        assert held.gone.wait(5)
        assert key_of(llm)["in_flight"] == 0


def test_a_stream_waits_for_quota_as_any_call() -> None:
    limits = {"openai": {"rpm": {"amount": 1, "burst": 1, "refill": "bucket"}}}
    with in_turn(whole("Paris")) as server, interface(server, limits=limits) as llm:
        list(llm.stream_prompt("Hi", model=MODEL))
        waits = llm.stream_prompt("Hi", model=MODEL)

        def leave() -> None:
            until(lambda: waiting(llm) == 1)
            llm.close()

        leaver = threading.Thread(target=leave)
        leaver.start()
        with pytest.raises(ClosedError):
            next(waits)
        leaver.join(5)
        assert len(server.asked) == 1


def test_pieces_can_be_pickled_and_made_by_hand() -> None:
    import pickle

    piece = Piece("{}", "tool_call", call_index=2, call_id="call_1", tool_name="search")
    again = pickle.loads(pickle.dumps(piece))
    assert (again, again.kind, again.call_index, again.call_id, again.tool_name) == (
        "{}",
        "tool_call",
        2,
        "call_1",
        "search",
    )
    assert (Piece("a").call_index, Piece("a").broken, Piece("a").restarts) == (None, None, False)


def test_sixty_four_streams_at_once() -> None:
    async def read(llm: LLMInterface, number: int) -> str:
        async with llm.astream_prompt(f"Number {number}", model=MODEL) as stream:
            return "".join([piece async for piece in stream])

    async def read_all(llm: LLMInterface) -> list[str]:
        return await asyncio.gather(*(read(llm, number) for number in range(64)))

    def answer(request: Any) -> bytes:
        prompt = request.json["messages"][0]["content"]
        return whole(*(f"{prompt}, piece {piece}. " for piece in range(20)))

    with Server(answer) as server, interface(server, limits={"openai": {"rpm": 100_000}}) as llm:
        texts = asyncio.run(read_all(llm))
        assert texts == ["".join(f"Number {n}, piece {p}. " for p in range(20)) for n in range(64)]
        assert key_of(llm)["in_flight"] == 0
