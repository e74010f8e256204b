"""`with_structured_output` of the chat model."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from probes import MODEL
from quotaflow import LLMInterface
from quotaflow.integrations.langchain import ChatQuotaflow
from scripted_core import ScriptedOutcome
from tool_server import tool_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scripted_core import ScriptedCore
    from servers import Server


class River(BaseModel):
    """A river."""

    name: str
    length: int


@pytest.fixture
def server() -> Iterator[Server]:
    with tool_server() as running:
        yield running


@pytest.fixture
def chat(server: Server) -> Iterator[ChatQuotaflow]:
    """A chat model before a server that calls tools."""
    keys, urls = {"openai": {"key": "sk-test-1", "label": "one"}}, {"openai": f"{server.url}/v1"}
    with LLMInterface({}, keys=keys, base_urls=urls, state="memory") as llm:
        yield ChatQuotaflow(llm=llm, model=MODEL)


@pytest.fixture
def doubled(scripted_llm: tuple[LLMInterface, ScriptedCore]) -> tuple[Callable[..., ChatQuotaflow], ScriptedCore]:
    """What makes chat models, and the double they all ask."""
    llm, core = scripted_llm
    return lambda **fields: ChatQuotaflow(llm=llm, **fields), core


@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode"])
def test_an_answer_has_the_shape_that_was_asked_for(chat: ChatQuotaflow, server: Server, method: Any) -> None:
    class Named(BaseModel):
        name: str

    assert chat.with_structured_output(Named, method=method).invoke("Give a 'name'.") == Named(
        name="a word" if method == "json_mode" else "name"
    )
    plain = chat.with_structured_output(Named.model_json_schema(), method=method)
    assert asyncio.run(plain.ainvoke("Give a 'name'.")).keys() == {"name"}
    asked = server.asked[0].json
    if method == "function_calling":
        assert asked["tool_choice"]["function"]["name"] == "Named"
    else:
        assert (
            asked["response_format"]["type"] == {"json_schema": "json_schema", "json_mode": "json_object"}[method]
        )


def test_strictness_is_the_providers_to_keep(chat: ChatQuotaflow, server: Server) -> None:
    chat.with_structured_output(River, method="json_schema", strict=True).invoke("Hi")
    form = server.asked[-1].json["response_format"]["json_schema"]
    assert (form["strict"], form["name"]) == (True, "River")
    assert form["schema"]["additionalProperties"] is False


@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
def test_what_does_not_fit_is_raised_or_told_beside_the_raw_message(doubled: Any, method: Any) -> None:
    make, core = doubled
    wrong = '{"name": "Po"}'
    call = {"id": "1", "type": "function", "function": {"name": "River", "arguments": wrong}}
    core.outcome = ScriptedOutcome(text=wrong, tool_calls=json.dumps([call]))
    with pytest.raises(Exception, match="length"):
        make().with_structured_output(River, method=method).invoke("Hi")
    told = make().with_structured_output(River, method=method, include_raw=True).invoke("Hi")
    assert told["parsed"] is None
    assert "length" in str(told["parsing_error"])
    assert told["raw"].response_metadata["key"] == "OPENAI_API_KEY"
    core.outcome = ScriptedOutcome(
        text='{"name": "Po", "length": 652}',
        tool_calls=json.dumps(
            [{**call, "function": {"name": "River", "arguments": '{"name": "Po", "length": 652}'}}]
        ),
    )
    told = make().with_structured_output(River, method=method, include_raw=True).invoke("Hi")
    assert (told["parsed"], told["parsing_error"]) == (River(name="Po", length=652), None)


def test_a_shape_that_cannot_be_asked_for_is_refused(doubled: Any) -> None:
    make, _ = doubled
    with pytest.raises(ValueError, match="method is 'guess'"):
        make().with_structured_output(River, method="guess")
    with pytest.raises(ValueError, match="needs a schema"):
        make().with_structured_output(None)
