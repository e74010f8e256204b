"""Streams of every dialect against the simulator, broken off and resumed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from quotaflow import Piece, StreamInterrupted
from quotaflow.testing import simulator

if TYPE_CHECKING:
    from collections.abc import Callable

    from quotaflow import LLMInterface
    from quotaflow.testing import SimulatedProviders

MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-haiku-4-5", "gemini": "gemini-2.5-flash"}
TEXT = "answer to: Name a river."
BREAKS: dict[str, tuple[Any, str]] = {
    "reset": ("reset", "network"),
    "end": ("end", "network"),
    "error": ("error", "overloaded"),
    "a quota": ({"error": 429}, "rate_limited"),
    "silence": ({"stall": 5}, "timeout"),
}


@pytest.mark.parametrize("provider", MODELS)
def test_it_streams(provider: str, make_llm: Callable[..., LLMInterface]) -> None:
    stream = make_llm().stream_prompt("Name a river.", provider=provider, model=MODELS[provider])
    pieces = list(stream)
    assert len(pieces) > 2
    assert "".join(pieces) == stream.reply == TEXT
    assert (stream.reply.provider, stream.reply.finish_reason) == (provider, "stop")
    whole = make_llm().send_prompt("Name a river.", provider=provider, model=MODELS[provider])
    assert stream.reply.usage == whole.usage


@pytest.mark.parametrize("provider", MODELS)
@pytest.mark.parametrize("how", BREAKS)
def test_a_break_is_told_and_can_be_resumed(
    provider: str, how: str, make_llm: Callable[..., LLMInterface]
) -> None:
    then, failure = BREAKS[how]
    if (provider, how) == ("gemini", "a quota"):
        failure = "overloaded"  # its 429 without details is a lack of capacity
    other = "anthropic" if provider != "anthropic" else "gemini"
    config = {
        "models": {
            "default": {"provider": provider, "model": MODELS[provider]},
            "fallback": [{"provider": other, "model": MODELS[other]}],
        }
    }
    fault = {"when": {"provider": provider}, "do": {"after": 2, "then": then}}
    with simulator(faults=[fault]) as world:
        llm = make_llm(config, keys=world.keys, base_urls=world.base_urls, state="memory")
        usual: dict[str, Any] = {"idle_timeout": 0.2, "retry_delay": 0.01}
        pieces: list[str] = []
        with pytest.raises(StreamInterrupted) as caught:
            pieces.extend(llm.stream_prompt("Name a river.", **usual))
        assert (len(pieces), caught.value.failure) == (2, failure)
        assert caught.value.text == "".join(pieces)
        assert TEXT.startswith(caught.value.text)
        stream = llm.stream_prompt("Name a river.", resume="restart", max_retries=0, **usual)
        pieces = list(stream)
        seams = [piece for piece in pieces if isinstance(piece, Piece)]
        assert stream.reply == TEXT
        assert stream.reply.provider == other
        # A target that was refused may be left alone from the start.
        assert [seam.provider for seam in seams] in ([other], [])
        assert not any(key["in_flight"] for key in llm.status()["keys"])


@pytest.mark.parametrize("provider", MODELS)
def test_to_continue_works_in_every_dialect(
    provider: str, make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders
) -> None:
    simulated.add_faults({"when": {"nth": [1]}, "do": {"after": 2, "then": "end"}})
    stream = make_llm().stream_prompt(
        "Name a river.", provider=provider, model=MODELS[provider], resume="continue", retry_delay=0.01
    )
    first = "".join(next(stream) for _ in range(2))
    rest = list(stream)
    assert isinstance(rest[0], Piece)
    assert not rest[0].restarts
    assert stream.reply == stream.text == first + "".join(rest)
    assert stream.reply.startswith(first)
    assert simulated.stats()["requests"] == 2
