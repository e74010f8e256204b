"""The response cache: asked once, charged once, only where it was asked for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from quotaflow import InvalidArgumentError, LLMInterface, Reply

NOTHING = Decimal(0)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from quotaflow.testing import SimulatedProviders

    MakesLLM = Callable[..., LLMInterface]

MODEL = "gpt-4o-mini"
ANOTHER_PROCESS = """
import json, sys
from quotaflow import LLMInterface
facts = json.loads(sys.argv[1])
with LLMInterface({}, keys=facts["keys"], base_urls=facts["base_urls"], state=facts["state"]) as llm:
    print(llm.send_prompt("Name a river.", model="gpt-4o-mini", cache=True).cached)
"""


def asked(simulated: SimulatedProviders) -> int:
    requests: int = simulated.stats()["requests"]
    return requests


def test_it_is_asked_once_and_costs_once(
    simulated: SimulatedProviders, make_llm: Callable[..., LLMInterface]
) -> None:
    llm = make_llm()
    first = llm.send_prompt("Name a river.", model=MODEL, cache=True)
    again = llm.send_prompt("Name a river.", model=MODEL, cache=timedelta(hours=1))
    assert (first.cached, again.cached, again == first, again.usage) == (False, True, True, first.usage)
    assert first.cost is not None
    assert first.cost > 0
    assert again.cost == NOTHING
    assert not again.attempts
    assert asked(simulated) == 1
    for other in ({}, {"cache": False}, {"cache": True, "temperature": 0.5}):
        assert not llm.send_prompt("Name a river.", model=MODEL, **other).cached
    assert asked(simulated) == 4


def test_another_process_has_it_too(simulated: SimulatedProviders, tmp_path: Path) -> None:
    import json

    state = str(tmp_path / "state.sqlite")
    with LLMInterface({}, keys=simulated.keys, base_urls=simulated.base_urls, state=state) as llm:
        llm.send_prompt("Name a river.", model=MODEL, cache=True)
    facts = json.dumps({"keys": simulated.keys, "base_urls": simulated.base_urls, "state": state})
    run = [sys.executable, "-c", ANOTHER_PROCESS, facts]
    assert subprocess.run(run, check=True, capture_output=True, text=True, timeout=60).stdout == "True\n"
    assert asked(simulated) == 1
    assert b"Name a river." not in (tmp_path / "state.sqlite").read_bytes()


@pytest.mark.quotaflow_simulator(latency=0.2)
def test_who_asks_together_asks_once(simulated: SimulatedProviders, make_llm: Callable[..., LLMInterface]) -> None:
    llm = make_llm()

    async def together() -> list[Reply]:
        calls = (llm.asend_prompt("Name a river.", model=MODEL, cache=True) for _ in range(20))
        return await asyncio.gather(*calls)

    replies = asyncio.run(together())
    assert (len(set(replies)), sum(reply.cached for reply in replies), asked(simulated)) == (1, 19, 1)


def test_a_stream_is_given_again_in_pieces(
    simulated: SimulatedProviders, make_llm: Callable[..., LLMInterface]
) -> None:
    llm = make_llm()
    whole = "".join(llm.stream_prompt("Name a river.", model=MODEL, cache=True))
    with llm.stream_prompt("Name a river.", model=MODEL, cache=True) as stream:
        pieces = list(stream)
    assert ("".join(pieces), stream.reply.cached, stream.reply.cost) == (whole, True, NOTHING)
    assert len(pieces) > 1
    assert llm.send_prompt("Name a river.", model=MODEL, cache=True).cached
    assert asked(simulated) == 1


def test_a_batch_takes_what_there_is(simulated: SimulatedProviders, make_llm: Callable[..., LLMInterface]) -> None:
    llm = make_llm()
    prompts = ["Name a river.", "Name a lake."]
    llm.send_batch(prompts, model=MODEL, cache=True, progress=False)
    again = llm.send_batch(prompts, model=MODEL, cache=True, progress=False)
    assert [item.reply is not None and item.reply.cached for item in again] == [True, True]
    assert asked(simulated) == 2


def test_the_config_may_keep_all(simulated: SimulatedProviders) -> None:
    config = {"answer_cache": {"always": True, "ttl": 60, "max_bytes": 10_000}}
    with LLMInterface(config, keys=simulated.keys, base_urls=simulated.base_urls, state="memory") as llm:
        assert [llm.send_prompt("Name a river.", model=MODEL).cached for _ in range(2)] == [False, True]


@pytest.mark.parametrize("wrong", [0, -5, "yes", float("nan"), timedelta(0), 10**12])
def test_wishes_that_cannot_be_meant(wrong: Any, make_llm: Callable[..., LLMInterface]) -> None:
    with pytest.raises(InvalidArgumentError, match="cache"):
        make_llm().send_prompt("Name a river.", model=MODEL, cache=wrong)


def test_an_answer_without_the_shape_is_not_given_again(simulated: SimulatedProviders, tmp_path: Path) -> None:
    from dataclasses import dataclass

    from quotaflow import ParseError

    @dataclass
    class City:
        name: str

    def ask(llm: LLMInterface) -> None:
        with pytest.raises(ParseError):
            llm.send_prompt("Name a city.", model=MODEL, cache=True, response_format=City)

    state = tmp_path / "state.sqlite"
    with LLMInterface({}, keys=simulated.keys, base_urls=simulated.base_urls, state=state) as llm:
        # The simulator never answers with JSON: each time the question and its repair are sent.
        ask(llm)
        ask(llm)
        assert asked(simulated) == 4
        [item] = llm.send_batch(["Name a city."], model=MODEL, cache=True, response_format=City, progress=False)
        assert isinstance(item.error, ParseError)
        with pytest.raises(ParseError):
            list(llm.stream_prompt("Name a city.", model=MODEL, cache=True, response_format=City))
        assert asked(simulated) == 7
        llm.send_prompt("Name a lake.", model=MODEL, cache=True)
        assert llm.clear_cache() == 1
        assert not llm.send_prompt("Name a lake.", model=MODEL, cache=True).cached
