"""`ChatQuotaflow`: messages, chunks, tools, secrets, and errors."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumps, load
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    trim_messages,
)
from langchain_core.outputs import ChatGeneration
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from pydantic import BaseModel, ValidationError

from probes import MODEL
from quotaflow import (
    ConfigError,
    InvalidArgumentError,
    InvalidPromptError,
    LLMInterface,
    RateLimitError,
    Reply,
)
from quotaflow.integrations.langchain import ChatQuotaflow
from quotaflow.integrations.messages import generation_from, reply_of
from scripted_core import ATTEMPT, ScriptedOutcome
from servers import Server, http
from tool_server import tool_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scripted_core import ScriptedCore
    from servers import Request


class River(BaseModel):
    """A river."""

    name: str
    length: int


@tool
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


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


# What comes back.


def test_a_message_knows_how_it_came_about(chat: ChatQuotaflow) -> None:
    message = chat.invoke("Name a city.")
    assert message.text == "Paris"
    assert message.usage_metadata == {
        "input_tokens": 30,
        "output_tokens": 12,
        "total_tokens": 42,
        "input_token_details": {"cache_read": 4},
        "output_token_details": {"reasoning": 5},
    }
    told = dict(message.response_metadata)
    [attempt] = told.pop("attempts")
    assert told.pop("latency") > 0
    assert told == {
        "model_name": MODEL,
        "provider": "openai",
        "finish_reason": "stop",
        "key": "one",
        "first_token_latency": None,
        "cost": 0.0000114,
        "cached": False,
    }
    assert (attempt["key"], attempt["failure"], attempt["status"]) == ("one", None, 200)
    json.dumps(message.response_metadata)


def test_asyncio_brings_the_same(chat: ChatQuotaflow) -> None:
    one, other = chat.invoke("Hi"), asyncio.run(chat.ainvoke("Hi"))
    assert (one.content, one.usage_metadata) == (other.content, other.usage_metadata)


def test_tool_calls_are_langchains(chat: ChatQuotaflow) -> None:
    message = chat.bind_tools([add]).invoke("Add 3 and 3.")
    assert message.tool_calls == [{"name": "add", "args": {"a": 3, "b": 3}, "id": "call_1", "type": "tool_call"}]
    assert message.response_metadata["finish_reason"] == "tool_calls"
    assert add.invoke(message.tool_calls[0]).content == "6"


class Told(BaseCallbackHandler):
    def __init__(self) -> None:
        self.tokens: list[str] = []

    def on_llm_new_token(self, token: Any, **_: Any) -> None:
        self.tokens.append(token)


def test_a_stream_comes_in_chunks_and_the_last_knows_all(chat: ChatQuotaflow) -> None:
    told = Told()
    chunks = list(chat.stream("Hi", {"callbacks": [told]}))
    assert [chunk.text for chunk in chunks] == ["Pa", "ris", ""]
    assert told.tokens == ["Pa", "ris", ""]
    last = chunks[-1]
    assert last.chunk_position == "last"
    assert last.usage_metadata is not None
    assert last.response_metadata["key"] == "one"


def test_a_stream_of_tool_calls_adds_up(chat: ChatQuotaflow) -> None:
    chunks: list[Any] = list(chat.bind_tools([add]).stream("Add."))
    fragments = [chunk.tool_call_chunks[0]["args"] for chunk in chunks if chunk.tool_call_chunks]
    assert fragments == ["", '{"a": 3,', ' "b": 3}']
    whole = sum(chunks[1:], chunks[0])
    assert [(call["id"], call["name"], call["args"]) for call in whole.tool_calls] == [
        ("call_1", "add", {"a": 3, "b": 3})
    ]


def test_so_does_one_under_asyncio(chat: ChatQuotaflow) -> None:
    told = Told()

    async def read() -> list[Any]:
        return [chunk async for chunk in chat.astream("Hi", {"callbacks": [told]})]

    assert [chunk.text for chunk in asyncio.run(read())] == ["Pa", "ris", ""]
    assert told.tokens == ["Pa", "ris", ""]


def test_to_invoke_may_be_to_stream(chat: ChatQuotaflow) -> None:
    told = Told()
    streaming = ChatQuotaflow(llm=chat.llm, model=chat.model, streaming=True)
    message = streaming.invoke("Hi", {"callbacks": [told]})
    assert (message.content, told.tokens) == ("Paris", ["Pa", "ris", ""])
    assert message.usage_metadata is not None


def test_what_was_given_to_langchain_cannot_be_taken_back(chat: ChatQuotaflow) -> None:
    with pytest.raises(InvalidArgumentError, match="resume cannot be used in LangChain"):
        next(chat.stream("Hi", resume="restart"))


def test_what_a_model_thinks_stays_out_of_messages(doubled: Any) -> None:
    make, core = doubled
    core.pieces = [[("reasoning", "Hm.")], ["Pa", "ris"]]
    assert [chunk.text for chunk in make().stream("Hi")] == ["Pa", "ris", ""]


def test_calls_of_servers_that_leave_things_out_are_read(doubled: Any) -> None:
    make, core = doubled
    calls = [{"function": {"name": "add", "arguments": {"a": 1}}}, {"id": "2", "function": {"name": "add"}}, {}]
    core.outcome = ScriptedOutcome(text="", tool_calls=json.dumps(calls))
    message = make().invoke("Hi")
    assert [(call["id"], call["args"]) for call in message.tool_calls] == [(None, {"a": 1}), ("2", {})]
    assert [call["error"] for call in message.invalid_tool_calls] == ["the call names no tool"]


@pytest.mark.parametrize("arguments", ["{", "[1]", "nothing"])
def test_arguments_a_model_got_wrong_are_shown_and_not_raised(doubled: Any, arguments: str) -> None:
    make, core = doubled
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": arguments}}
    core.outcome = ScriptedOutcome(text="", tool_calls=json.dumps([call]))
    message = make().invoke("Hi")
    assert message.tool_calls == []
    [invalid] = message.invalid_tool_calls
    assert (invalid["name"], invalid["args"], invalid["id"]) == ("add", arguments, "1")


def test_what_the_provider_did_not_say_is_not_made_up(doubled: Any) -> None:
    make, core = doubled
    core.outcome = ScriptedOutcome(usage=None, finish_reason=None)
    assert make().invoke("Hi").usage_metadata is None
    core.outcome = ScriptedOutcome(usage=(3, 2, 0, 1, 0))
    assert make().invoke("Hi").usage_metadata == {
        "input_tokens": 3,
        "output_tokens": 2,
        "total_tokens": 5,
        "input_token_details": {"cache_creation": 1},
    }


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_a_message_can_become_a_reply_again() -> None:
    calls = '[{"id": "1", "type": "function", "function": {"name": "add", "arguments": "{\\"a\\": 1}"}}]'
    reply = Reply(
        "Oslo",
        provider="openai",
        model=MODEL,
        key="one",
        usage=(9, 3, 1, 2, 3),
        latency=0.5,
        finish_reason="stop",
        tool_calls=calls,
        attempts=[ATTEMPT],
    )
    generation = generation_from(reply)
    assert reply_of(generation) is reply
    [written] = load([json.loads(dumps(generation))], allowed_objects="core")
    assert type(written) is ChatGeneration
    again = reply_of(written)
    assert (again, again.usage, again.attempts) == (reply, reply.usage, reply.attempts)
    assert (again.provider, again.model, again.key, again.latency) == ("openai", MODEL, "one", 0.5)
    assert (again.finish_reason, again.tool_calls) == ("stop", reply.tool_calls)


# What goes in.


def test_fields_and_calls_say_what_is_asked(doubled: Any) -> None:
    make, core = doubled
    chat = make(
        model="gpt-4o", provider="openai", task_name="letters", temperature=0, max_tokens=9, stop=["END"],
        system="Hm", priority=7, timeout=timedelta(seconds=9), retry=False, max_retries=1, retry_delay=2,
        fallback=False, user="ann", params={"seed": 4},
    )  # fmt: skip
    chat.invoke("Hi")
    _, options = core.calls[-1]
    known = {name: value for name, value in options.facts.items() if name not in {"params_json", "debug"}}
    assert known == {
        "task_name": "letters", "provider": "openai", "model": "gpt-4o", "retry": False, "fallback": False,
        "max_retries": 1, "retry_delay": 2.0, "system": "Hm", "priority": 7, "timeout": 9.0, "deadline": None,
        "user": "ann", "skip_rate_limit": False, "cache": None, "on_retry": None,
    }  # fmt: skip
    assert json.loads(options["params_json"]) == {"temperature": 0, "max_tokens": 9, "stop": ["END"], "seed": 4}
    chat.invoke("Hi", stop=["."], model="gpt-5", seed=5, skip_rate_limit=True)
    _, options = core.calls[-1]
    assert (options["model"], options["skip_rate_limit"]) == ("gpt-5", True)
    assert json.loads(options["params_json"]) == {"temperature": 0, "max_tokens": 9, "stop": ["."], "seed": 5}


def test_left_alone_it_asks_for_nothing_in_particular(doubled: Any) -> None:
    make, core = doubled
    make().invoke("Hi")
    messages, options = core.calls[-1]
    assert isinstance(messages, bytes)
    assert json.loads(messages) == [{"role": "user", "content": "Hi"}]
    assert {name for name, value in options.facts.items() if value is not None} == {
        "retry", "fallback", "priority", "skip_rate_limit", "debug",
    }  # fmt: skip


def test_what_cannot_be_sent_is_said_without_its_text(chat: ChatQuotaflow) -> None:
    with pytest.raises(InvalidPromptError) as caught:
        chat.invoke([HumanMessage([{"type": "image", "secret": "sesame"}])])
    assert "sesame" not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(InvalidPromptError):
        chat.invoke("")


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, None),
        ("auto", "auto"),
        ("none", "none"),
        (False, None),
        ("any", "required"),
        ("required", "required"),
        (True, "required"),
        ("add", {"type": "function", "function": {"name": "add"}}),
        ({"type": "function", "function": {"name": "add"}}, {"type": "function", "function": {"name": "add"}}),
    ],
)
def test_a_tool_choice_is_sent_in_openais_words(
    chat: ChatQuotaflow, server: Server, choice: Any, sent: object
) -> None:
    chat.bind_tools([add, River], tool_choice=choice, parallel_tool_calls=False, strict=True).invoke("Hi")
    asked = server.asked[-1].json
    assert asked.get("tool_choice") == sent
    assert [entry["function"]["name"] for entry in asked["tools"]] == ["add", "River"]
    assert all(entry["function"]["strict"] for entry in asked["tools"])
    assert asked["parallel_tool_calls"] is False


def test_tools_work_with_a_provider_of_another_dialect() -> None:
    used = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1, "b": 2}}

    def answer(request: Request) -> bytes:
        done = "tool_result" in request.body.decode()
        content = {"type": "text", "text": "3"} if done else used
        usage = {"input_tokens": 9, "output_tokens": 3}
        reason = "end_turn" if done else "tool_use"
        return http({"type": "message", "content": [content], "stop_reason": reason, "usage": usage})

    with Server(answer) as server:
        keys, urls = {"anthropic": "sk-ant-test-1"}, {"anthropic": server.url}
        alone = ChatQuotaflow(config={}, keys=keys, base_urls=urls, state="memory", model="claude-haiku-4-5")
        chat = alone.bind_tools([add])
        said: list[BaseMessage] = [HumanMessage("Add 1 and 2.")]
        said.append(chat.invoke(said))
        assert isinstance(said[-1], AIMessage)
        said.append(add.invoke(said[-1].tool_calls[0]))
        assert chat.invoke(said).text == "3"
    assert server.asked[0].json["tools"][0]["name"] == "add"


# Errors, and what is kept to itself.


@pytest.mark.quotaflow_simulator(faults=[{"when": {"every": 1}, "do": {"status": 429}}])
def test_errors_pass_through_unchanged(make_llm: Callable[..., LLMInterface]) -> None:
    chat = ChatQuotaflow(llm=make_llm(), model=MODEL, retry=False, fallback=False)
    chain = ChatPromptTemplate.from_template("{x}") | chat
    for call in (
        lambda: chain.invoke({"x": "Hi"}),
        lambda: asyncio.run(chain.ainvoke({"x": "Hi"})),
        lambda: list(chain.stream({"x": "Hi"})),
    ):
        with pytest.raises(RateLimitError) as caught:
            call()
        assert type(caught.value) is RateLimitError
    with pytest.raises(InvalidArgumentError, match="priority"):
        chat.invoke("Hi", priority=12)


def test_a_wrong_configuration_is_a_config_error() -> None:
    with pytest.raises(ConfigError) as caught:
        ChatQuotaflow(config={}, limits={"openai": {"rpn": 3}}, state="memory")
    assert type(caught.value) is ConfigError
    assert "rpm" in str(caught.value)


def test_a_field_that_does_not_exist_is_refused(doubled: Any) -> None:
    make, _ = doubled
    with pytest.raises(ValidationError, match="temprature"):
        make(temprature=1)
    with pytest.raises(TypeError, match="llm= brings its own keys, state"):
        make(keys={"openai": "sk-test-1"}, state="memory")
    with pytest.raises(ValidationError, match="LLMInterface"):
        ChatQuotaflow(llm="gpt-4o")  # type: ignore[arg-type]


def test_it_keeps_its_secrets() -> None:
    secret = "sk-test-sesame"
    chat = ChatQuotaflow(
        config={"providers": {"groq": {"keys": [secret]}}}, keys={"openai": secret}, state="memory", model=MODEL
    )
    chain = ChatPromptTemplate.from_template("{x}") | chat.bind_tools([add])
    shown = [
        repr(chat),
        str(chat),
        repr(chain),
        dumps(chat),
        dumps(chain),
        str(chat.model_dump()),
        str(chat.asdict()),
    ]
    shown += [str(chat._get_ls_params()), str(vars(chat)), str(chat._identifying_params)]
    assert all("sesame" not in text for text in shown)
    assert all(MODEL in text for text in shown)


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_it_can_be_written_down_and_read_again(make_llm: Callable[..., LLMInterface]) -> None:
    chat = ChatQuotaflow(llm=make_llm(), model=MODEL, temperature=0.5, timeout=timedelta(minutes=1))
    again = load(json.loads(dumps(chat)), allowed_objects=[ChatQuotaflow], valid_namespaces=["quotaflow"])
    assert type(again) is ChatQuotaflow
    assert (again.model, again.temperature, again.timeout) == (MODEL, 0.5, 60.0)
    assert again.llm is not chat.llm


def test_traces_are_told_who_was_asked(doubled: Any) -> None:
    make, _ = doubled
    params = make(model=MODEL, provider="openai", temperature=0.5, max_tokens=9, stop=["."])._get_ls_params()
    assert params == {
        "ls_provider": "openai",
        "ls_model_name": MODEL,
        "ls_model_type": "chat",
        "ls_temperature": 0.5,
        "ls_max_tokens": 9,
        "ls_stop": ["."],
    }
    assert make(task_name="letters")._get_ls_params()["ls_model_name"] == "letters"
    nobody = make()._get_ls_params()
    assert (nobody["ls_provider"], nobody["ls_model_name"]) == ("quotaflow", "default")


def test_a_field_can_be_left_to_the_config_of_a_call(doubled: Any) -> None:
    from langchain_core.runnables import ConfigurableField

    make, core = doubled
    chat = make(model=MODEL).configurable_fields(model=ConfigurableField(id="model"))
    chat.invoke("Hi", {"configurable": {"model": "gpt-5"}})
    assert core.calls[-1][1]["model"] == "gpt-5"
    assert len(core.made) == 1


def test_tokens_are_reckoned_without_a_tokenizer(doubled: Any) -> None:
    make, _ = doubled
    assert [make().get_num_tokens(text) for text in ("", "a" * 40, "河" * 10)] == [0, 11, 11]
    assert make(custom_get_token_ids=lambda text: [1] * len(text)).get_num_tokens("abc") == 3
    said = [HumanMessage("a" * 400), AIMessage("b" * 40), HumanMessage("c" * 40)]
    assert trim_messages(said, max_tokens=40, token_counter=make(), strategy="last") == said[1:]


def test_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['langchain_core'] = None; import quotaflow.integrations.langchain"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: this needs LangChain: pip install 'quotaflow[langchain]'" in ran.stderr
