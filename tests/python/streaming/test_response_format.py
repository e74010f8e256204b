"""`response_format` of a streamed answer, and answers that do not fit it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from quotaflow import CallError, ParseError, ResponseFormat, ValidationError
from streaming_servers import (
    CLAUDE,
    HEAD,
    MODEL,
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
    from quotaflow import LLMInterface


@dataclass
class Town:
    name: str
    people: int


ROME = ('{"name": "Rome", ', '"people": 3}')
GEMINI = "gemini-2.5-flash"


def gemini_said(*texts: str) -> bytes:
    """A whole answer in Gemini's words."""
    candidates: list[dict[str, Any]] = [
        {"content": {"role": "model", "parts": [{"text": text}]}} for text in texts
    ]
    candidates[-1]["finishReason"] = "STOP"
    return b"".join(event({"candidates": [candidate]}) for candidate in candidates)


DIALECTS = {
    "openai": (MODEL, whole(*ROME)),
    "anthropic": (CLAUDE, HEAD + claude_said(*ROME) + claude_end()),
    "gemini": (GEMINI, HEAD + gemini_said(*ROME)),
}


@pytest.mark.parametrize("provider", DIALECTS)
@pytest.mark.parametrize("wanted", [Town, {"type": "object", "required": ["name"]}])
def test_every_provider_is_asked_as_for_a_whole_answer(provider: str, wanted: Any) -> None:
    model, answer = DIALECTS[provider]
    with in_turn(answer) as server:
        keys = {name: ["k-test-1"] for name in DIALECTS}
        urls = {"openai": f"{server.url}/v1", "anthropic": server.url, "gemini": f"{server.url}/v1beta"}
        with interface(server, keys=keys, base_urls=urls) as llm:
            stream = llm.stream_prompt("Hi", provider=provider, model=model, response_format=wanted)
            assert tuple(stream) == ROME
            assert stream.reply == "".join(ROME)
            assert stream.reply.parsed == (Town("Rome", 3) if wanted is Town else {"name": "Rome", "people": 3})
            assert not stream.reply.repaired
            with suppress(CallError):
                llm.send_prompt("Hi", provider=provider, model=model, response_format=wanted, retry=False)
        streamed, sent = ({**request.json} for request in server.asked)
        for name in ("stream", "stream_options"):
            streamed.pop(name, None)
            sent.pop(name, None)
        assert streamed == sent
        assert "type" in str(sent)


@pytest.mark.parametrize(
    ("said_instead", "kind"),
    [(("Rome, ", "I think."), ParseError), (('{"name": ', '"Rome"}'), ValidationError), ((), ParseError)],
)
def test_another_shape_is_an_error_at_the_end_and_nothing_is_asked_again(
    said_instead: tuple[str, ...], kind: type[ParseError | ValidationError]
) -> None:
    with in_turn(whole(*said_instead)) as server, interface(server) as llm:
        stream = llm.stream_prompt("Hi", model=MODEL, response_format=ResponseFormat(Town))
        pieces: list[str] = []
        with pytest.raises(kind) as caught:
            pieces.extend(stream)
        assert tuple(pieces) == said_instead
        assert caught.value.text == stream.text == "".join(said_instead)
        assert caught.value.usage is not None
        assert caught.value.usage.output_tokens == 3
        assert len(caught.value.attempts) == len(server.asked) == 1
        # The answer itself is there.
        assert (stream.reply, stream.reply.parsed) == (caught.value.text, None)
        assert list(stream) == []


def test_so_it_is_under_asyncio_and_for_one_that_was_cut_off() -> None:
    async def read(llm: LLMInterface) -> tuple[ParseError, Any]:
        cut = llm.astream_prompt("Hi", model=MODEL, response_format=Town)
        with pytest.raises(ParseError, match="cut off by max_tokens") as caught:
            async for _ in cut:
                pass
        good = llm.astream_prompt("Hi", model=MODEL, response_format=Town)
        assert tuple([piece async for piece in good]) == ROME
        return caught.value, good.reply.parsed

    cut_off = HEAD + said(ROME[0]) + end(reason="length")
    with in_turn(cut_off, whole(*ROME)) as server, interface(server) as llm:
        error, parsed = asyncio.run(read(llm))
        assert (error.finish_reason, error.text, parsed) == ("length", ROME[0], Town("Rome", 3))


def test_errors_as_text_stand_for_an_answer_that_said_nothing() -> None:
    with in_turn(whole(), whole("Rome")) as server, interface(server, errors="text") as llm:
        stream = llm.stream_prompt("Hi", model=MODEL, response_format=Town)
        assert list(stream) == ["[LLM Error: the answer is empty]"]
        assert isinstance(stream.reply.error, ParseError)
        with pytest.raises(ParseError):
            list(llm.stream_prompt("Hi", model=MODEL, response_format=Town))


def test_the_second_half_of_a_shape_has_none_so_it_starts_again() -> None:
    with in_turn(HEAD + said(ROME[0]), whole(*ROME)) as server, interface(server) as llm:
        stream = llm.stream_prompt("Hi", model=MODEL, response_format=Town, resume="continue", retry_delay=0.001)
        assert list(stream) == [ROME[0], "", *ROME]
        assert stream.reply.parsed == Town("Rome", 3)
        assert [len(request.json["messages"]) for request in server.asked] == [1, 1]


def test_a_call_of_a_tool_and_openais_own_words_are_no_wrong_answer() -> None:
    calls = HEAD + called("{}", "call_1", "look") + end(reason="tool_calls")
    with in_turn(calls, whole("Rome"), whole(*ROME)) as server, interface(server) as llm:
        stream = llm.stream_prompt("Hi", model=MODEL, response_format=Town)
        assert [piece.kind for piece in stream.events()] == ["tool_call"]
        assert stream.reply.parsed is None
        wanted = {"type": "json_object"}
        for parsed in (None, {"name": "Rome", "people": 3}):
            stream = llm.stream_prompt("Hi", model=MODEL, response_format=wanted)
            list(stream)
            assert stream.reply.parsed == parsed
        assert server.asked[-1].json["response_format"] == wanted


def test_what_was_streamed_in_a_shape_is_given_again_in_it() -> None:
    with in_turn(whole(*ROME)) as server, interface(server) as llm:
        for _ in range(2):
            stream = llm.stream_prompt("Hi", model=MODEL, response_format=Town, cache=True)
            assert "".join(stream) == "".join(ROME)
            assert stream.reply.parsed == Town("Rome", 3)
        assert stream.reply.cached
        assert llm.send_prompt("Hi", model=MODEL, response_format=Town, cache=True).parsed == Town("Rome", 3)
        assert len(server.asked) == 1
