"""Arguments given and not given: an explicit default value is not "unset"."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from probes import MODEL
from quotaflow import CallError, LLMInterface, RateLimiter
from quotaflow.integrations.langchain import ChatQuotaflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from quotaflow.testing import SimulatedProviders
    from scripted_core import ScriptedCore

ONE_KEY = [{"key": "sk-test-1", "label": "OPENAI_API_KEY", "provider": "openai"}]
CONFIG = {"retry": {"max_retries": 7, "retry_delay": 0.001}}
# Every key of every provider is overloaded, for ever.
overloaded = pytest.mark.quotaflow_simulator(keys=ONE_KEY, faults=[{"when": {}, "do": {"status": 500}}])


def send(llm: LLMInterface, **given: Any) -> Any:
    return llm.send_prompt("Hi", model=MODEL, **given)


def asend(llm: LLMInterface, **given: Any) -> Any:
    return asyncio.run(llm.asend_prompt("Hi", model=MODEL, **given))


def stream(llm: LLMInterface, **given: Any) -> Any:
    return list(llm.stream_prompt("Hi", model=MODEL, **given))


def astream(llm: LLMInterface, **given: Any) -> Any:
    async def read() -> list[Any]:
        return [piece async for piece in llm.astream_prompt("Hi", model=MODEL, **given)]

    return asyncio.run(read())


def in_a_shape(llm: LLMInterface, **given: Any) -> Any:
    return llm.send_prompt("Hi", model=MODEL, response_format={"type": "integer"}, **given)


def batch(llm: LLMInterface, **given: Any) -> Any:
    raise llm.send_batch(["Hi"], model=MODEL, progress=False, **given)[0].error  # type: ignore[misc]


def abatch(llm: LLMInterface, **given: Any) -> Any:
    items = asyncio.run(llm.asend_batch(["Hi"], model=MODEL, progress=False, **given))
    raise items[0].error  # type: ignore[misc]


def one_by_one(llm: LLMInterface, **given: Any) -> Any:
    raise next(iter(llm.iter_batch(["Hi"], model=MODEL, progress=False, **given))).error  # type: ignore[misc]


def aone_by_one(llm: LLMInterface, **given: Any) -> Any:
    async def first() -> Any:
        [item] = [item async for item in llm.aiter_batch(["Hi"], model=MODEL, progress=False, **given)]
        return item

    raise asyncio.run(first()).error


def in_the_prompt(llm: LLMInterface, **given: Any) -> Any:
    prompts = [{"prompt": "Hi", **given}]
    raise llm.send_batch(prompts, model=MODEL, progress=False, max_retries=5)[0].error  # type: ignore[misc]


def chat(llm: LLMInterface, **given: Any) -> Any:
    return ChatQuotaflow(llm=llm, model=MODEL, **given).invoke("Hi")


WAYS = [send, asend, stream, astream, in_a_shape, batch, abatch, one_by_one, aone_by_one, chat]


@overloaded
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("given", "attempts"), [({}, 8), ({"max_retries": 3}, 4), ({"max_retries": 0}, 1), ({"max_retries": None}, 8)]
)
def test_retries_are_the_calls_else_the_configs(
    make_llm: Callable[..., LLMInterface], way: Callable[..., Any], given: dict[str, Any], attempts: int
) -> None:
    with pytest.raises(CallError) as caught:
        way(make_llm(CONFIG), **given)
    assert len(caught.value.attempts) == attempts


@overloaded
@pytest.mark.parametrize(("given", "attempts"), [({}, 6), ({"max_retries": 3}, 4), ({"max_retries": None}, 8)])
def test_a_prompt_of_a_batch_has_the_last_word(
    make_llm: Callable[..., LLMInterface], given: dict[str, Any], attempts: int
) -> None:
    with pytest.raises(CallError) as caught:
        in_the_prompt(make_llm(CONFIG), **given)
    assert len(caught.value.attempts) == attempts


@overloaded
@pytest.mark.parametrize(("given", "attempts"), [({}, 8), ({"max_retries": 3}, 4)])
def test_so_it_is_with_a_limiter(simulated: SimulatedProviders, given: dict[str, Any], attempts: int) -> None:
    calls = []

    def fail() -> None:
        calls.append(1)
        raise RuntimeError("HTTP 503 Service Unavailable")

    with (
        RateLimiter(CONFIG, keys=simulated.keys, state="memory") as limiter,
        pytest.raises(RuntimeError, match="503"),
    ):
        limiter.run("openai", fail, **given)
    assert len(calls) == attempts


@pytest.mark.parametrize("method", ["send_prompt", "stream_prompt"])
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, (None, None)),
        ({"max_retries": None, "retry_delay": None}, (None, None)),
        ({"max_retries": 3, "retry_delay": 1.0}, (3, 1.0)),
        ({"max_retries": 3, "retry_delay": 1}, (3, 1.0)),
        ({"max_retries": 7, "retry_delay": timedelta(seconds=1)}, (7, 1.0)),
    ],
)
def test_what_is_given_crosses_the_border_and_nothing_else(
    scripted_llm: tuple[LLMInterface, ScriptedCore],
    method: str,
    given: dict[str, Any],
    told: tuple[int | None, float | None],
) -> None:
    llm, core = scripted_llm
    getattr(llm, method)("Hi", **given)
    _, options = core.calls[-1]
    assert (options["max_retries"], options["retry_delay"]) == told


@pytest.mark.quotaflow_simulator(keys=ONE_KEY, faults=[{"when": {"first": 1}, "do": {"status": 500}}])
@pytest.mark.parametrize(("given", "least", "most"), [({}, 0.001, 0.1), ({"retry_delay": 1.0}, 1.0, 10)])
def test_a_delay_that_is_given_is_waited(
    make_llm: Callable[..., LLMInterface], given: dict[str, Any], least: float, most: float
) -> None:
    llm = make_llm(CONFIG)
    events: list[Any] = []
    llm.on("retry", events.append)
    llm.send_prompt("Hi", model=MODEL, **given)
    llm.close()
    assert least <= events[0].delay < most
