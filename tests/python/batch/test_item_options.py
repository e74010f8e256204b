"""Options of one prompt of a batch, and its own errors."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from errno import ENOSPC
from typing import TYPE_CHECKING, Any

import pytest

from probes import MODEL, WIDE, requests
from quotaflow import (
    BatchItem,
    CheckpointError,
    DeadlineExceededError,
    InvalidArgumentError,
    InvalidPromptError,
    LLMInterface,
    NoKeyError,
)
from quotaflow.testing import SimulatedProviders, simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.mark.parametrize(
    ("provider", "model", "messages"),
    [
        ("openai", MODEL, [{"role": "tool", "content": "x"}]),
        ("openai", MODEL, [{"role": "user", "content": []}, {"role": "user", "content": "x"}]),
        ("anthropic", "claude-haiku-4-5", [{"role": "system", "content": "only"}]),
        ("gemini", "gemini-2.5-flash", [{"role": "system", "content": "only"}]),
        ("gemini", "gemini-2.5-flash", [{"role": "tool", "content": "x", "tool_call_id": "y"}]),
    ],
)
def test_a_conversation_that_is_wrong_is_one_item(
    make_llm: Callable[..., LLMInterface], tmp_path: Path, provider: str, model: str, messages: Any
) -> None:
    path = tmp_path / "done.jsonl"
    with simulator(keys=[{"key": f"sk-test-{provider}", "provider": provider}]) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, state="memory")
        with pytest.raises(InvalidPromptError):
            llm.send_prompt(messages, provider=provider, model=model)
        for resumed in (0, 2):
            batch = llm.send_batch(["a", messages, "b"], provider=provider, model=model, checkpoint=path)
            assert [item.ok for item in batch] == [True, False, True]
            assert isinstance(batch[1].error, InvalidPromptError)
            assert batch.summary.resumed == resumed


def test_whatever_reading_a_prompt_raises_is_its_own_error(llm: LLMInterface) -> None:
    class Odd(dict[str, Any]):
        def items(self) -> Any:
            raise ZeroDivisionError

    batch = llm.send_batch(["a", Odd(prompt="b", temperature=0), "c"], model=MODEL)
    assert [item.ok for item in batch] == [True, False, True]
    assert isinstance(batch[1].error, InvalidPromptError)
    assert "ZeroDivisionError" in str(batch[1].error)
    assert isinstance(batch[1].error.__cause__, ZeroDivisionError)


def test_each_may_say_how_old_an_answer_may_be(llm: LLMInterface, simulated: SimulatedProviders) -> None:
    given = ["a", {"prompt": "b", "cache": timedelta(hours=1)}, {"prompt": "c", "cache": True}]
    llm.send_batch(given, model=MODEL)
    batch = llm.send_batch(given, model=MODEL)
    assert requests(simulated) == 4
    assert [item.reply.cached for item in batch if item.reply is not None] == [False, True, True]


def test_each_may_have_its_own_deadline_and_go_ahead(
    make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders
) -> None:
    llm = make_llm(limits={"openai": {"rpm": {"amount": 60, "burst": 1, "refill": "bucket"}}}, state="memory")
    soon = datetime.now(UTC) + timedelta(seconds=2)
    given: list[Any] = [
        "first",
        {"prompt": "ahead", "skip_rate_limit": True},
        {"prompt": "past", "deadline": time.time() - 1},
        *({"prompt": f"soon {number}", "deadline": soon} for number in range(9)),
    ]
    began = time.monotonic()
    batch = llm.send_batch(given, model=MODEL, deadline=time.time() + 60)
    assert time.monotonic() - began < 5
    assert [item.ok for item in batch[:3]] == [True, True, False]
    late = [item.error for item in batch if not item.ok]
    assert len(late) >= 8
    assert all(isinstance(error, DeadlineExceededError) for error in late)
    assert requests(simulated) == 12 - len(late)
    assert all(item.ok for item in llm.send_batch(["a", "b", "c"], model=MODEL, skip_rate_limit=True))


@pytest.mark.parametrize("name", ["on_retry", "concurrency", "checkpoint", "dedupe", "progress", "ordered"])
def test_what_belongs_to_the_batch_is_refused(llm: LLMInterface, simulated: SimulatedProviders, name: str) -> None:
    batch = llm.send_batch([{"prompt": "a", name: print}, "b"], model=MODEL)
    assert [item.ok for item in batch] == [False, True]
    assert f"{name} belongs to the whole batch" in str(batch[0].error)
    assert requests(simulated) == 1


def test_a_line_that_cannot_be_asked_is_named(llm: LLMInterface, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    given: list[Any] = [
        "a",
        {"prompt": "b", "model": "nobodys-model"},
        {"prompt": "c", "provider": "mistral", "model": "m"},
        [{"role": "tool", "content": "x"}],
        {"prompt": "d", "provider": "nobody", "model": "m"},
    ]
    path.write_text("".join(json.dumps(one) + "\n" for one in given))
    batch = llm.send_batch(path, model=MODEL)
    assert [item.ok for item in batch] == [True, False, False, False, False]
    kinds = [type(item.error) for item in batch[1:4]]
    assert kinds == [InvalidArgumentError, NoKeyError, InvalidPromptError]
    for number, item in enumerate(batch[1:], start=2):
        assert str(item.error).startswith(f"line {number} of prompts.jsonl: ")


def test_the_same_in_other_words_is_sent_once(
    make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders
) -> None:
    config = {"models": {"default": {"provider": "openai", "model": MODEL}, "short": {"model": MODEL}}}
    config["models"]["short"] |= {"provider": "openai"}
    llm = make_llm(config, limits=WIDE, state="memory")
    given: list[Any] = [
        "s",
        {"prompt": "s"},
        {"prompt": "s", "model": MODEL},
        {"prompt": "s", "provider": "openai", "model": MODEL, "priority": 7, "user": "z"},
        {"prompt": "s", "task_name": "short"},
        [{"content": "s", "role": "user"}],
        {"messages": [{"role": "user", "content": "s"}], "params": {}},
        {"prompt": "s", "temperature": 0.5},
        {"prompt": "s", "params": {"temperature": 0.5}},
        {"prompt": "s", "system": "Be brief."},
    ]
    batch = llm.send_batch(given)
    assert [item.duplicate_of for item in batch] == [None, 0, 0, 0, 0, 0, 0, None, 7, None]
    assert requests(simulated) == 3


def test_a_full_line_fails_nobody(make_llm: Callable[..., LLMInterface]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with simulator(latency=0.005) as world:
        llm = make_llm(
            {"queue": {"max_size": 4}}, keys=world.keys, base_urls=world.base_urls, state="memory",
            limits={"openai": {"concurrency": 1}},
        )  # fmt: skip

        def send(number: int) -> int:
            batch = llm.send_batch((f"{number}: {place}" for place in range(30)), 8, model=MODEL)
            return batch.summary.successful

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(send, range(4))) == [30] * 4


def test_a_time_begins_when_a_call_leaves_the_line(make_llm: Callable[..., LLMInterface]) -> None:
    limits = {"openai": {"rpm": {"amount": 600, "burst": 1, "refill": "bucket"}}}
    with simulator(latency=0.01) as world:
        for config, timeout in (({}, 0.5), ({"timeouts": {"call": 0.5}}, None)):
            llm = make_llm(config, keys=world.keys, base_urls=world.base_urls, limits=limits, state="memory")
            batch = llm.send_batch([f"p{number}" for number in range(12)], model=MODEL, timeout=timeout)
            assert (batch.summary.successful, batch.summary.seconds > 1) == (12, True)
    with simulator(latency=5) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=WIDE, state="memory")
        [item] = llm.send_batch(["slow"], model=MODEL, timeout=0.2)
        assert isinstance(item.error, DeadlineExceededError)


def test_a_generator_of_odd_things_goes_on(llm: LLMInterface) -> None:
    def odd() -> Iterator[object]:
        yield "a"
        yield {"prompt": "b", "temperature": {1, 2}}
        yield {"prompt": "c", "cache": "soon"}
        yield "d"

    assert [item.ok for item in llm.send_batch(odd(), model=MODEL)] == [True, False, False, True]


@pytest.mark.parametrize("wrong", [float("nan"), 5, "soon"])
def test_a_deadline_that_is_none_is_refused_beside_that_of_the_batch(llm: LLMInterface, wrong: object) -> None:
    [item] = llm.send_batch([{"prompt": "a", "deadline": wrong}], model=MODEL, deadline=time.time() + 60)
    assert isinstance(item.error, InvalidArgumentError)
    assert str(item.error).startswith("deadline is ")


def test_what_becomes_of_one_is_not_what_becomes_of_another_user(make_llm: Callable[..., LLMInterface]) -> None:
    llm = make_llm({"users": {"x": {"rpd": 1}}}, limits=WIDE, state="memory")
    llm.send_prompt("Hi", model=MODEL, user="x")
    batch = llm.send_batch([{"prompt": "g", "user": "x"}, {"prompt": "g", "user": "y"}], model=MODEL)
    assert [item.ok for item in batch] == [False, True]


def test_of_those_that_wait_for_one_that_failed_one_is_sent(make_llm: Callable[..., LLMInterface]) -> None:
    hasty = {"prompt": "g", "timeout": 0.1}
    with simulator(latency=0.4) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=WIDE, state="memory")
        batch = llm.send_batch([hasty, "g", hasty, "g", {"prompt": "g", "priority": 4}], model=MODEL)
        assert requests(world) == 2
    assert [item.ok for item in batch] == [False, True, False, True, True]
    assert [item.duplicate_of for item in batch] == [None, None, 0, 1, 1]
    assert (batch.summary.successful, batch.summary.failed, batch.summary.duplicates) == (3, 2, 3)


def test_each_that_fails_by_itself_lets_the_next_one_try(make_llm: Callable[..., LLMInterface]) -> None:
    with simulator(latency=0.4) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=WIDE, state="memory")
        hasty = [{"prompt": "g", "timeout": 0.05 * n} for n in (1, 2, 1, 2)]
        batch = llm.send_batch([*hasty, "g", "g"], model=MODEL)
    assert [item.ok for item in batch] == [False, False, False, False, True, True]
    assert [item.duplicate_of for item in batch] == [None, None, 0, 1, None, 4]


@pytest.mark.parametrize(
    ("ends", "error", "ok"),
    [
        ("generator", LookupError, [False, True]),
        ("first error", DeadlineExceededError, [False, False]),
        ("full disk", CheckpointError, [False]),
    ],
)
def test_who_waits_for_one_that_failed_holds_no_end_up(
    make_llm: Callable[..., LLMInterface],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ends: str,
    error: type[Exception],
    ok: list[bool],
) -> None:
    def given() -> Iterator[object]:
        yield {"prompt": "g", "timeout": 0.2}
        yield "g"
        if ends == "generator":
            raise LookupError

    def full(*_: object) -> None:
        raise OSError(ENOSPC, "No space left on device")

    with simulator(latency=0.4) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=WIDE, state="memory")
        came = llm.iter_batch(
            given(), model=MODEL, stop_on_error=ends == "first error", checkpoint=tmp_path / "done.jsonl"
        )
        if ends == "full disk":
            monkeypatch.setattr("quotaflow._batch.checkpoint._write_at", full)
        items: list[BatchItem] = []
        with pytest.raises(error):
            items.extend(came)
        assert [item.ok for item in items] == ok
        assert requests(world) == (2 if ends == "generator" else 1)


def test_an_answer_of_a_fallback_is_none_to_who_wants_no_fallback(tmp_path: Path) -> None:
    config = {"models": {"fallback": [{"provider": "anthropic", "model": "claude-haiku-4-5"}]}}
    path = tmp_path / "done.jsonl"
    broken = {"when": {"provider": "openai"}, "do": {"status": 503}}
    with (
        simulator(faults=[broken]) as world,
        LLMInterface(config, keys=world.keys, base_urls=world.base_urls, state="memory") as llm,
    ):
        prompts = ["e", {"prompt": "e", "fallback": False}]
        batch = llm.send_batch(prompts, model=MODEL, provider="openai", retry_delay=0.01, checkpoint=path)
        assert [item.ok for item in batch] == [True, False]
        [reply] = batch.replies
        assert reply.provider == "anthropic"
        with pytest.raises(CheckpointError, match="another fallback"):
            llm.send_batch(["e"], model=MODEL, provider="openai", fallback=False, checkpoint=path)
