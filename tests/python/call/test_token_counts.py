"""Token counts: the provider's own way, estimates corrected by its usage."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from quotaflow import InvalidArgumentError, InvalidPromptError, LLMInterface
from servers import OPENAI_ANSWER, Server, http

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def llm() -> LLMInterface:
    """An interface without a single key."""
    return LLMInterface({}, state="memory")


@pytest.mark.parametrize(
    ("text", "model", "tokens"),
    [
        ("", "gpt-4o", 0),
        ("hello world", "gpt-4o", 2),
        ("tiktoken is great!", "gpt-4", 6),
        ("お誕生日おめでとう", "gpt-4", 9),
        ("お誕生日おめでとう", "gpt-5-mini", 8),
        ("<|endoftext|>", "gpt-4o", 7),
    ],
)
def test_openais_models_are_counted_with_their_tokenizer(
    llm: LLMInterface, text: str, model: str, tokens: int
) -> None:
    assert llm.count_tokens(text, model) == tokens


def test_messages_have_a_frame(llm: LLMInterface) -> None:
    assert llm.count_tokens([{"role": "user", "content": "hello world"}], "gpt-4o") == 2 + 1 + 3 + 3
    assert llm.count_tokens("hello world", "gpt-4o", system="hello world") == 2 * (2 + 1 + 3) + 3
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert llm.count_tokens("hello world", "gpt-4o", tools=tools) > 9


def test_the_provider_is_found_as_for_a_prompt(llm: LLMInterface) -> None:
    assert llm.count_tokens("hello world", "openai/gpt-4o") == 2
    assert llm.count_tokens("hello world", "llama3", provider="ollama") == 4
    with LLMInterface(
        {"models": {"default": {"provider": "openai", "model": "gpt-4o"}}}, state="memory"
    ) as planned:
        assert planned.count_tokens("hello world") == 2


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("hello", {}),
        ("hello", {"model": "llama3"}),
        ("hello", {"model": ""}),
        ("hello", {"model": "gpt-4o", "provider": "opnai"}),
        ("hello", {"model": 3}),
        ([], {"model": "gpt-4o"}),
        (None, {"model": "gpt-4o"}),
        ("\ud800", {"model": "gpt-4o"}),
    ],
)
def test_what_cannot_be_counted_is_refused(llm: LLMInterface, prompt: Any, asked: dict[str, Any]) -> None:
    with pytest.raises((InvalidArgumentError, InvalidPromptError)):
        llm.count_tokens(prompt, **asked)


def test_a_million_characters_are_counted_in_a_moment(llm: LLMInterface) -> None:
    assert llm.count_tokens("hello world " * 80_000, "gpt-4o") == 160_001
    assert llm.count_tokens("a" * 1_000_000, "gpt-4o") > 100_000


def test_bills_correct_estimates_for_every_later_process(tmp_path: Path) -> None:
    prompt = "word " * 200
    body = OPENAI_ANSWER | {"usage": {"prompt_tokens": 600, "completion_tokens": 2}}
    state = tmp_path / "state.sqlite"
    with Server(lambda _: http(body)) as server:
        keys, base_urls = {"mistral": "m-test-1"}, {"mistral": server.url}
        with LLMInterface({}, keys=keys, base_urls=base_urls, state=state) as llm:
            messages = [{"role": "user", "content": prompt}]
            asked: dict[str, Any] = {"provider": "mistral", "model": "mistral-small-latest"}
            before = llm.count_tokens(messages, **asked)
            for _ in range(30):
                llm.send_prompt(prompt, **asked)
            assert before < 300
            assert llm.count_tokens(messages, **asked) == 600
    with LLMInterface({}, keys=keys, state=state) as later:
        assert later.count_tokens(messages, **asked) == 600


NOTHING_LOADED = """
import sys, threading
from quotaflow import LLMInterface
with LLMInterface({}, keys={"openai": "sk-test-1"}, base_urls={"openai": sys.argv[1]}, state="memory") as llm:
    for n in range(20):
        llm.send_prompt("Name a river.", model="gpt-4o-mini")
import os
print({open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")})
heavy = ("decimal", "quotaflow._prices.genai_prices", "importlib.metadata")
print([name for name in heavy if name in sys.modules])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS")))
"""


def test_calls_without_token_limits_load_neither_tables_nor_prices() -> None:
    with Server(lambda _: http(OPENAI_ANSWER)) as server:
        command = [sys.executable, "-c", NOTHING_LOADED, server.url]
        done = subprocess.run(command, capture_output=True, check=True, text=True)
    threads, modules, kilobytes = done.stdout.splitlines()
    assert "quotaflow-tokens" not in threads
    assert modules == "[]"
    assert int(kilobytes) < 60_000
