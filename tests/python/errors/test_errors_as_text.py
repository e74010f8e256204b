"""`errors="text"`: a text in place of an exception, without an answer."""

from __future__ import annotations

import asyncio
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from quotaflow import (
    CallError,
    ConfigError,
    InvalidArgumentError,
    InvalidPromptError,
    LLMInterface,
    NoKeyError,
    RateLimitError,
    Reply,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from scripted_core import ScriptedCore

FAILED = ("openai", "gpt-4o-mini", "OPENAI_API_KEY", "rate_limited", 429, 1_700_000_000.0, 0.25, 0.5)


def no_answer() -> RateLimitError:
    return RateLimitError(
        "all 2 keys are used up", hint="wait", provider="openai", model="gpt-4o-mini", attempts=[FAILED]
    )


def asked_in_both_ways(llm: LLMInterface, prompt: Any = "Hi", **options: Any) -> list[Callable[[], Reply]]:
    return [
        lambda: llm.send_prompt(prompt, **options),
        lambda: asyncio.run(llm.asend_prompt(prompt, **options)),
    ]


@pytest.fixture
def texting(scripted: type[ScriptedCore]) -> tuple[LLMInterface, ScriptedCore]:
    return LLMInterface(state="memory", errors="text"), scripted.made[-1]


def test_a_call_without_an_answer_is_a_text_with_its_error(texting: tuple[LLMInterface, ScriptedCore]) -> None:
    llm, core = texting
    core.outcome = no_answer()
    for ask in asked_in_both_ways(llm):
        reply = ask()
        assert reply == "[LLM Error: all 2 keys are used up]"
        assert isinstance(reply, Reply)
        assert reply.error is core.outcome
        assert (reply.provider, reply.model, reply.key) == ("openai", "gpt-4o-mini", "")
        assert [attempt.failure for attempt in reply.attempts] == ["rate_limited"]
        assert (reply.latency, reply.usage, reply.raw, reply.tool_calls) == (0.75, None, None, [])
        copied = pickle.loads(pickle.dumps(reply))
        assert (copied, type(copied.error)) == (reply, RateLimitError)


def test_an_answer_has_no_error(texting: tuple[LLMInterface, ScriptedCore]) -> None:
    for ask in asked_in_both_ways(texting[0]):
        reply = ask()
        assert (reply, reply.error) == ("Paris", None)
        assert pickle.loads(pickle.dumps(reply)).error is None
    assert Reply("by hand").error is None


def test_by_default_it_is_raised(scripted_llm: tuple[LLMInterface, ScriptedCore]) -> None:
    llm, core = scripted_llm
    core.outcome = no_answer()
    for ask in asked_in_both_ways(llm):
        with pytest.raises(RateLimitError) as caught:
            ask()
        assert caught.value is core.outcome


def test_what_is_the_callers_mistake_is_raised_all_the_same(texting: tuple[LLMInterface, ScriptedCore]) -> None:
    llm, core = texting
    for prompt, options, error in [
        ("", {}, InvalidPromptError),
        ("Hi", {"priority": 12}, InvalidArgumentError),
        ("\ud800", {}, InvalidPromptError),
    ]:
        for ask in asked_in_both_ways(llm, prompt, **options):
            with pytest.raises(error):
                ask()
    core.outcome = NoKeyError("there is no key for openai", provider="openai")
    for ask in asked_in_both_ways(llm):
        with pytest.raises(NoKeyError):
            ask()


@pytest.mark.parametrize("errors", ["exceptions", "", None, True, ["text"]])
def test_no_other_way_is_known(errors: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        LLMInterface({}, state="memory", errors=errors)
    assert (caught.value.path, caught.value.hint) == ("errors", "pass 'raise' or 'text'")


@pytest.mark.quotaflow_simulator(faults=[{"when": {"provider": "openai"}, "do": {"status": 402}}])
def test_over_a_real_connection(make_llm: Callable[..., LLMInterface]) -> None:
    llm = make_llm(errors="text")
    for ask in asked_in_both_ways(llm, model="gpt-4o-mini", retry=False):
        reply = ask()
        assert reply.startswith("[LLM Error: openai/gpt-4o-mini: ")
        assert reply.endswith("]")
        assert isinstance(reply.error, CallError)
        assert reply.error.failure == "credit_exhausted"
