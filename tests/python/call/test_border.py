"""What crosses into Rust: each argument in its place, in one crossing."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from quotaflow import Attempt, LLMInterface, RateLimitError, Reply
from scripted_core import ATTEMPT, ScriptedCore

if TYPE_CHECKING:
    Scripted = tuple[LLMInterface, ScriptedCore]


def test_a_plain_prompt_crosses_with_the_documented_defaults(scripted_llm: Scripted) -> None:
    llm, core = scripted_llm
    reply = llm.send_prompt("Capital of France?")
    assert type(reply) is Reply
    assert reply == "Paris"
    [(prompt, options)] = core.calls
    assert prompt == "Capital of France?"
    assert options.facts == {
        "task_name": None,
        "provider": None,
        "model": None,
        "retry": True,
        "fallback": True,
        # What was left at its default is for the config to say.
        "max_retries": None,
        "retry_delay": None,
        "system": None,
        "priority": 3,
        "timeout": None,
        "deadline": None,
        "user": None,
        "skip_rate_limit": False,
        "params_json": None,
        "cache": None,
        "on_retry": None,
        "debug": False,
    }


def test_each_argument_arrives_in_its_place(scripted_llm: Scripted) -> None:
    llm, core = scripted_llm
    asked = {
        "task_name": "summary",
        "provider": "anthropic",
        "model": "claude-x",
        "retry": False,
        "fallback": False,
        "max_retries": 0,
        "retry_delay": 2.5,
        "system": "Be brief.",
        "priority": 0,
        "timeout": 7.0,
        "deadline": 1_900_000_000.0,
        "user": "ada",
        "skip_rate_limit": True,
    }
    llm.send_prompt("Hi", **asked, temperature=0.2, stop=["é"])  # type: ignore[arg-type]
    asyncio.run(llm.asend_prompt("Hi", **asked, temperature=0.2, stop=["é"]))  # type: ignore[arg-type]
    for _, options in core.calls:
        assert {name: options[name] for name in asked} == asked
        assert options["params_json"] == '{"temperature":0.2,"stop":["é"]}'


def test_the_first_eight_may_be_given_by_position(scripted_llm: Scripted) -> None:
    llm, core = scripted_llm
    llm.send_prompt("Hi", "task", "openai", "gpt-4o-mini", False, False, 5, 0.5)
    options = core.calls[0][1]
    assert list(options.facts.values())[:7] == ["task", "openai", "gpt-4o-mini", False, False, 5, 0.5]


def test_spans_and_moments_may_be_objects(scripted_llm: Scripted) -> None:
    llm, core = scripted_llm
    moment = datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    llm.send_prompt("Hi", timeout=timedelta(minutes=1), retry_delay=timedelta(milliseconds=250), deadline=moment)
    options = core.calls[0][1]
    assert (options["timeout"], options["retry_delay"]) == (60.0, 0.25)
    assert options["deadline"] == moment.timestamp() == 1_893_448_800.0


def test_equal_options_are_made_once_and_different_ones_are_not_mixed_up(scripted_llm: Scripted) -> None:
    llm, core = scripted_llm
    for arguments in ({}, {"priority": 4}, {}, {"priority": 4}, {"retry_delay": 1}, {"system": "x"}, {}):
        llm.send_prompt("Hi", **arguments)
    used = [options for _, options in core.calls]
    assert used[0] is used[2] is used[6]
    assert used[1] is used[3]
    assert [options["priority"] for options in used] == [3, 4, 3, 4, 3, 3, 3]
    assert used[5]["system"] == "x"


def test_equal_parameters_of_other_types_are_not_mixed_up(scripted_llm: Scripted) -> None:
    llm, core = scripted_llm
    for value in (1, True, 1.0, 1, (1,), (True,), None):
        llm.send_prompt("Hi", n=value)
    expected = ['{"n":1}', '{"n":true}', '{"n":1.0}', '{"n":1}', '{"n":[1]}', '{"n":[true]}', '{"n":null}']
    assert [options["params_json"] for _, options in core.calls] == expected
    assert core.calls[0][1] is core.calls[3][1]


def test_remembered_options_are_bounded(scripted_llm: Scripted) -> None:
    llm, core = scripted_llm
    for number in range(1_000):
        llm.send_prompt("Hi", system=f"You are number {number}.")
    assert core.calls[-1][1]["system"] == "You are number 999."
    assert len(llm._caller._known) <= 256


def test_debug_follows_the_level_of_the_logger(scripted_llm: Scripted) -> None:
    llm, core = scripted_llm
    logger = logging.getLogger("quotaflow")
    before = logger.level
    try:
        for level in (logging.DEBUG, logging.INFO):
            logger.setLevel(level)
            llm.send_prompt("Hi")
    finally:
        logger.setLevel(before)
    assert [options["debug"] for _, options in core.calls] == [True, False]


@pytest.mark.usefixtures("scripted_llm")
def test_logging_is_left_to_the_user() -> None:
    LLMInterface()
    logger = logging.getLogger("quotaflow")
    assert [type(handler) for handler in logger.handlers] == [logging.NullHandler]
    assert logger.propagate
    assert logger.level == logging.NOTSET


class Message:
    def __init__(self, **facts: Any) -> None:
        self.__dict__.update(facts)


class PromptValue:
    def __init__(self, *messages: Message) -> None:
        self.messages = messages

    def to_messages(self) -> list[Message]:
        return list(self.messages)


def test_messages_cross_in_the_openai_shape(scripted_llm: Scripted) -> None:
    llm, core = scripted_llm
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    as_mappings = [
        {"role": "system", "content": "Réponds."},
        {"role": "user", "content": [{"type": "text", "text": "1 + 1"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "2", "tool_call_id": "call_1"},
    ]
    as_objects = [
        Message(type="system", content="Réponds."),
        Message(type="human", content=["1 + 1"], name=None),
        Message(type="ai", content=None, tool_calls=[{"name": "add", "args": {"a": 1}, "id": "call_1"}]),
        Message(type="tool", content="2", tool_call_id="call_1"),
    ]
    for prompt in (as_mappings, tuple(as_mappings), as_objects, PromptValue(*as_objects)):
        llm.send_prompt(prompt)  # type: ignore[arg-type]
    for messages, _ in core.calls:
        assert isinstance(messages, bytes)
        assert json.loads(messages) == as_mappings
    assert "Réponds.".encode() in core.calls[0][0]


def test_a_reply_can_be_the_next_prompt(scripted_llm: Scripted) -> None:
    llm, core = scripted_llm
    llm.send_prompt(llm.send_prompt("Hi"))
    text, _ = core.calls[1]
    assert (text, type(text)) == ("Paris", str)


def test_a_hook_is_given_an_attempt(scripted_llm: Scripted) -> None:
    llm, core = scripted_llm
    seen: list[Attempt] = []
    llm.send_prompt("Hi", on_retry=seen.append)
    core.calls[0][1]["on_retry"](ATTEMPT)
    assert seen == [Attempt(*ATTEMPT)]


def test_errors_of_rust_arrive_unchanged(scripted_llm: Scripted) -> None:
    llm, core = scripted_llm
    core.outcome = RateLimitError("too many", status=429)
    with pytest.raises(RateLimitError) as caught:
        llm.send_prompt("Hi")
    assert caught.value is core.outcome
    with pytest.raises(RateLimitError) as caught:
        asyncio.run(llm.asend_prompt("Hi"))
    assert caught.value is core.outcome


def test_construction_crosses_as_json(scripted: type[ScriptedCore]) -> None:
    LLMInterface(
        {"models": {"default": {"model": "gpt-4o-mini"}}},
        keys={"openai": ["sk-test-1"]},
        limits={"openai": {"rpm": 60}},
        base_urls={"openai": "http://127.0.0.1:1/v1"},
        state="memory",
    )
    LLMInterface()
    config, is_path, keys, limits, base_urls, state = scripted.made[0].arguments
    assert json.loads(str(config)) == {"models": {"default": {"model": "gpt-4o-mini"}}}
    assert (is_path, json.loads(str(keys)), json.loads(str(limits))) == (
        False,
        {"openai": ["sk-test-1"]},
        {"openai": {"rpm": 60}},
    )
    assert json.loads(str(base_urls)) == {"openai": "http://127.0.0.1:1/v1"}
    assert state == "memory"
    assert scripted.made[1].arguments == (None, False, None, None, None, None)


def test_status_reset_and_close_are_handed_on(scripted_llm: Scripted) -> None:
    llm, core = scripted_llm
    assert llm.status() == {"keys": []}
    assert llm.reset("openai", key="OPENAI_API_KEY") == 3
    assert core.resets == [("openai", "OPENAI_API_KEY")]

    async def in_asyncio() -> None:
        async with llm as same:
            assert same is llm

    with llm as same:
        assert same is llm
    asyncio.run(in_asyncio())
    assert core.closed == 2


@pytest.mark.usefixtures("scripted")
def test_an_interface_shows_and_pickles_no_key() -> None:
    llm = LLMInterface(keys={"openai": ["sk-test-planted"]}, state="memory")
    assert repr(llm) == "<LLMInterface state='memory'>"
    assert repr(LLMInterface()) == "<LLMInterface state='default'>"
    with pytest.raises(TypeError, match="make one in each process"):
        pickle.dumps(llm)
