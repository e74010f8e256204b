"""Invalid arguments: refused before anything is sent, with a hint."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from math import inf, nan
from typing import TYPE_CHECKING, Any

import pytest

from quotaflow import ConfigError, InvalidArgumentError, InvalidPromptError, LLMInterface

if TYPE_CHECKING:
    from pathlib import Path

    from scripted_core import ScriptedCore

SECRET = "sk-test-planted"

WRONG: list[tuple[str, Any, str]] = [
    ("task_name", 7, "task_name is 7"),
    ("task_name", " ", "task_name is empty"),
    ("provider", b"openai", "provider is of type bytes"),
    ("provider", "", "provider is empty"),
    ("provider", ["openai"], "provider is of type list"),
    ("model", "", "model is empty"),
    ("model", 4, "model is 4"),
    ("retry", 1, "retry is 1"),
    ("retry", "no", "retry is of type str"),
    ("fallback", None, "fallback is of type NoneType"),
    ("max_retries", -1, "max_retries is -1"),
    ("max_retries", 3.0, "max_retries is 3.0"),
    ("max_retries", True, "max_retries is True"),
    ("max_retries", 10**9, "max_retries is 1000000000"),
    ("max_retries", {}, "max_retries is of type dict"),
    ("retry_delay", 0, "retry_delay is 0"),
    ("retry_delay", -2.0, "retry_delay is -2.0"),
    ("retry_delay", nan, "retry_delay is nan"),
    ("retry_delay", inf, "retry_delay is inf"),
    ("retry_delay", 1e12, "retry_delay is 1000000000000.0"),
    ("retry_delay", timedelta(seconds=-1), "retry_delay is -1.0"),
    ("retry_delay", "1", "retry_delay is of type str"),
    ("retry_delay", True, "retry_delay is True"),
    ("system", 3, "system is 3"),
    ("priority", 10, "priority is 10"),
    ("priority", -1, "priority is -1"),
    ("priority", 3.0, "priority is 3.0"),
    ("priority", True, "priority is True"),
    ("priority", "high", "priority is of type str"),
    ("timeout", 0, "timeout is 0"),
    ("timeout", nan, "timeout is nan"),
    ("timeout", timedelta(0), "timeout is 0.0"),
    ("timeout", timedelta(days=365), "timeout is 31536000.0"),
    ("deadline", 30.0, "deadline is 30.0, a moment before 2001"),
    ("deadline", datetime(2030, 1, 1), "deadline has no time zone"),  # noqa: DTZ001 - that is what is wrong
    ("deadline", nan, "deadline is nan"),
    ("deadline", "tomorrow", "deadline is of type str"),
    ("user", 12, "user is 12"),
    ("user", "a\ud800", "user has an unpaired surrogate at character 1"),
    ("task_name", "\ud800", "task_name has an unpaired surrogate"),
    ("provider", "\udfff", "provider has an unpaired surrogate"),
    ("model", "\ud800", "model has an unpaired surrogate"),
    ("system", "\ud800", "system has an unpaired surrogate"),
    ("stop", ["\ud800"], "stop cannot be written as JSON"),
    ("skip_rate_limit", 1, "skip_rate_limit is 1"),
    ("on_retry", "print", "on_retry is of type str"),
    ("temperature", nan, "temperature cannot be written as JSON"),
    ("tools", {1, 2}, "tools cannot be written as JSON"),
    ("metadata", {"when": UTC}, "metadata cannot be written as JSON"),
]


@pytest.mark.parametrize(("name", "value", "words"), WRONG, ids=[f"{name}={value!r}" for name, value, _ in WRONG])
def test_a_wrong_argument_is_named_and_nothing_is_sent(
    scripted_llm: tuple[LLMInterface, ScriptedCore], name: str, value: Any, words: str
) -> None:
    llm, core = scripted_llm
    llm.send_prompt("Hello")  # so that options equal to the wrong ones may be remembered
    for send in (llm.send_prompt, lambda *args, **named: asyncio.run(llm.asend_prompt(*args, **named))):
        with pytest.raises(InvalidArgumentError) as caught:
            send("Hello", **{name: value})
        assert str(caught.value).startswith(words)
        assert caught.value.hint
    assert len(core.calls) == 1


class Message:
    """What LangChain's messages look like from outside."""

    def __init__(self, kind: Any, content: Any) -> None:
        self.type, self.content = kind, content


WRONG_PROMPTS: list[tuple[Any, str]] = [
    ("", "the prompt is empty"),
    (" \n\t", "the prompt is empty"),
    (None, "the prompt is of type NoneType"),
    (42, "the prompt is of type int"),
    (b"Hello", "the prompt is of type bytes"),
    ({"role": "user", "content": "Hello"}, "the prompt is of type dict"),
    (iter(["Hello"]), "the prompt is of type list_iterator"),
    ([], "the prompt has no messages"),
    (["Hello"], "prompt[0] is of type str"),
    ([{"content": "Hello"}], "prompt[0] has no role"),
    ([{"role": "boss", "content": "Hello"}], "prompt[0] has the role 'boss'"),
    ([{"role": ["user"], "content": "Hello"}], "prompt[0] has the role ['user']"),
    ([{"role": "user", "text": "Hello"}], "prompt[0] has an unknown field 'text'"),
    ([{"role": "user"}], "prompt[0] has no content"),
    ([{"role": "user", "content": 5}], "prompt[0] has content of type int"),
    ([{"role": "user", "content": ""}], "no message of the prompt has content"),
    ([{"role": "user", "content": "a"}, {"role": "user", "content": b"b"}], "prompt[1] has content of type bytes"),
    ([{"role": "user", "content": [{"a": {1}}]}], "the prompt cannot be written as JSON"),
    ([Message("robot", "Hello")], "prompt[0] is a message of type 'robot'"),
    ([Message("human", None)], "prompt[0] has no content"),
    ([Message(5, "Hello")], "prompt[0] is of type Message"),
    ("half of a pair: \ud83d", "the prompt or an argument has an unpaired surrogate at character 16"),
    ([{"role": "user", "content": "\ud83d"}], "the prompt or an argument has an unpaired surrogate"),
]


@pytest.mark.parametrize(("prompt", "words"), WRONG_PROMPTS, ids=[words for _, words in WRONG_PROMPTS])
def test_a_wrong_prompt_is_described(
    scripted_llm: tuple[LLMInterface, ScriptedCore], prompt: Any, words: str
) -> None:
    llm, _ = scripted_llm
    with pytest.raises(InvalidPromptError) as caught:
        llm.send_prompt(prompt)
    assert str(caught.value).startswith(words)
    with pytest.raises(InvalidPromptError):
        asyncio.run(llm.asend_prompt(prompt))


def test_a_message_that_contains_itself_is_refused(scripted_llm: tuple[LLMInterface, ScriptedCore]) -> None:
    part: dict[str, Any] = {}
    part["part"] = part
    with pytest.raises(InvalidPromptError, match="cannot be written as JSON"):
        scripted_llm[0].send_prompt([{"role": "user", "content": [part]}])


WRONG_CONSTRUCTION: list[tuple[dict[str, Any], str]] = [
    ({"config": 5}, "config is of type int"),
    ({"config": ""}, "the path of config is empty"),
    ({"config": {"timeouts": {"read": nan}}}, "config cannot be written as JSON"),
    ({"keys": [SECRET]}, "keys is of type list"),
    ({"keys": {"openai": object()}}, "keys cannot be written as JSON: a value of type object"),
    ({"keys": {"openai": SECRET.encode()}}, "keys cannot be written as JSON: a value of type bytes"),
    ({"limits": {"openai": {"rpm": inf}}}, "limits cannot be written as JSON"),
    ({"base_urls": "http://127.0.0.1"}, "base_urls is of type str"),
    ({"state": ""}, "the path of state is empty"),
    ({"state": 3}, "state is of type int"),
]


@pytest.mark.parametrize(
    ("arguments", "words"), WRONG_CONSTRUCTION, ids=[words for _, words in WRONG_CONSTRUCTION]
)
def test_a_wrong_construction_is_a_config_error_without_secrets(
    scripted: type[ScriptedCore], arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        LLMInterface(**arguments)
    assert str(caught.value).startswith(words)
    assert SECRET not in str(caught.value)
    assert not scripted.made


def test_only_names_are_reset(scripted_llm: tuple[LLMInterface, ScriptedCore]) -> None:
    llm, core = scripted_llm
    for wrong in ("", 5):
        with pytest.raises(InvalidArgumentError):
            llm.reset(provider=wrong)  # type: ignore[arg-type]
    assert not core.resets


def test_paths_are_text_for_rust(scripted: type[ScriptedCore], tmp_path: Path) -> None:
    LLMInterface(tmp_path / "quotaflow.toml", state=tmp_path / "state.sqlite")
    assert scripted.made[0].arguments == (
        str(tmp_path / "quotaflow.toml"),
        True,
        None,
        None,
        None,
        str(tmp_path / "state.sqlite"),
    )
