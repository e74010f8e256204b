"""Ways to ask for a stream: `stream=True`, `stream_options`, LangChain."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler

from quotaflow import CallError, CallTimeoutError, InvalidArgumentError, StreamInterrupted
from quotaflow.integrations.langchain import ChatQuotaflow
from streaming_servers import HEAD, KEEP_ALIVE, MODEL, Held, in_turn, interface, said, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quotaflow import LLMInterface
    from servers import Server


@dataclass
class Town:
    name: str


class Tokens(BaseCallbackHandler):
    """Keeps what callbacks are told of."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_llm_new_token(self, token: Any, **_: Any) -> None:
        self.told.append(token)


@pytest.fixture
def server() -> Iterator[Server]:
    with in_turn(whole("Par", "is")) as running:
        yield running


@pytest.fixture
def llm(server: Server) -> Iterator[LLMInterface]:
    with interface(server) as made:
        yield made


def test_a_stream_may_be_asked_to_stream(llm: LLMInterface, server: Server) -> None:
    async def read(**arguments: Any) -> list[str]:
        return [piece async for piece in llm.astream_prompt("Hi", model=MODEL, **arguments)]

    usage = {"include_usage": False}
    for arguments in ({"stream": True}, {"stream_options": usage}, {"stream": True, "stream_options": None}):
        stream = llm.stream_prompt("Hi", model=MODEL, **arguments)
        assert list(stream) == asyncio.run(read(**arguments)) == ["Par", "is"]
        assert stream.reply.usage is not None
    for request in server.asked:
        assert (request.json["stream"], request.json["stream_options"]) == (True, {"include_usage": True})
    list(llm.stream_prompt("Hi", model=MODEL, stream_options={"include_obfuscation": False}))
    told = {"include_usage": True, "include_obfuscation": False}
    assert server.asked[-1].json["stream_options"] == told


@pytest.mark.parametrize("wrong", [{"stream": "yes"}, {"stream_options": 3}])
def test_but_not_in_just_any_words(wrong: Any, llm: LLMInterface) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
        llm.stream_prompt("Hi", model=MODEL, **wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"stream": True}, {"stream_options": {"include_usage": True}}, {"resume": "restart"}, {"idle_timeout": 3}],
)
def test_a_prompt_says_what_to_call_instead(wrong: Any, llm: LLMInterface, server: Server) -> None:
    with pytest.raises(InvalidArgumentError, match="stream_prompt"):
        llm.send_prompt("Hi", model=MODEL, **wrong)
    with pytest.raises(InvalidArgumentError, match="stream_prompt"):
        asyncio.run(llm.asend_prompt("Hi", model=MODEL, **wrong))
    assert server.asked == []


@pytest.mark.parametrize("how", ["invoke", "ainvoke", "bind", "false"])
def test_a_chat_model_streams_when_it_is_asked_to(how: str, llm: LLMInterface, server: Server) -> None:
    chat, tokens = ChatQuotaflow(llm=llm, model=MODEL), Tokens()
    config: Any = {"callbacks": [tokens]}
    if how == "invoke":
        message = chat.invoke("Hi", config, stream=True)
    elif how == "ainvoke":
        message = asyncio.run(chat.ainvoke("Hi", config, stream=True))
    elif how == "bind":
        message = chat.bind(stream=True).invoke("Hi", config)
    else:
        chat = ChatQuotaflow(llm=llm, model=MODEL, streaming=False)
        message = chat.invoke("Hi", config, stream=True)
    assert message.text == "Paris"
    assert [token for token in tokens.told if token] == ([] if how == "false" else ["Par", "is"])
    assert server.asked[0].json["stream"] is True
    assert message.response_metadata["first_token_latency"] > 0
    # LangChain takes `streaming=False` for the last word.
    chunks = [chunk.text for chunk in chat.stream("Hi", stream=True)]
    assert [text for text in chunks if text] == (["Paris"] if how == "false" else ["Par", "is"])


def test_without_being_asked_to_it_does_not(llm: LLMInterface, server: Server) -> None:
    with pytest.raises(CallError):
        # The server can only stream.
        ChatQuotaflow(llm=llm, model=MODEL).invoke("Hi", stream=False, retry=False)
    assert not server.asked[0].json.get("stream")


def test_an_idle_timeout_streams_and_holds() -> None:
    with Held(HEAD, keeps_alive=False) as held, interface(held.server) as llm:
        chat = ChatQuotaflow(llm=llm, model=MODEL, retry=False)
        with pytest.raises(CallTimeoutError):
            chat.invoke("Hi", idle_timeout=0.05)
        with pytest.raises(CallTimeoutError):
            asyncio.run(chat.ainvoke("Hi", idle_timeout=0.05))


def test_the_interface_streams_for_langchain_too(llm: LLMInterface) -> None:
    tokens = Tokens()
    reply = llm.invoke("Hi", {"callbacks": [tokens]}, model=MODEL, stream=True)
    assert (reply, [token for token in tokens.told if token]) == ("Paris", ["Par", "is"])
    assert reply.first_token_latency is not None
    assert (reply.cost, reply.cached) == (Decimal("0.00000315"), False)
    assert asyncio.run(llm.ainvoke("Hi", model=MODEL, stream=True)) == "Paris"
    assert llm.batch(["Hi", "Ho"], model=MODEL, stream=True) == ["Paris", "Paris"]
    assert [piece for piece in llm.stream("Hi", model=MODEL, stream=True) if piece] == ["Par", "is"]


def test_a_shape_survives_langchains_chunks() -> None:
    with in_turn(whole('{"name": ', '"Rome"}')) as server, interface(server) as llm:
        reply = llm.invoke("Hi", model=MODEL, stream=True, response_format=Town)
        assert reply.parsed == Town("Rome")
        assert asyncio.run(llm.ainvoke("Hi", model=MODEL, stream=True, response_format=Town)).parsed == Town(
            "Rome"
        )


def test_the_last_chunk_knows_what_it_cost_and_whether_it_was_given_before(llm: LLMInterface) -> None:
    chat = ChatQuotaflow(llm=llm, model=MODEL, params={"cache": True})
    told = []
    for _ in range(2):
        *_, last = [chunk for chunk in chat.stream("Hi") if chunk.response_metadata]
        told.append(last.response_metadata)
        json.dumps(told[-1])
    assert [(each["cached"], each["cost"]) for each in told] == [(False, 0.00000315), (True, 0.0)]
    assert all(each["first_token_latency"] > 0 for each in told)


ALONE = """
import asyncio, sys
from quotaflow import LLMInterface
llm = LLMInterface({}, keys={"openai": "sk-test-1"}, base_urls={"openai": sys.argv[1]}, state="memory")
asked = {"model": "gpt-4o-mini", "stream": True}
print(llm.invoke("Hi", **asked), asyncio.run(llm.ainvoke("Hi", **asked)), *llm.batch(["Hi"], **asked))
print(llm.invoke("Hi", model="gpt-4o-mini", idle_timeout=5), *asyncio.run(llm.abatch(["Hi"], **asked)))
print("".join(llm.stream("Hi", **asked)), "langchain_core" in sys.modules)
"""


def test_so_it_does_without_langchain(server: Server) -> None:
    arguments = [sys.executable, "-c", ALONE, f"{server.url}/v1"]
    told = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=False)
    assert (told.stdout, told.stderr) == ("Paris Paris Paris\nParis Paris\nParis False\n", "")


def test_signs_of_life_are_not_enough_for_ever() -> None:
    def alive(_: Any) -> Iterator[bytes]:
        yield HEAD + said("Par")
        while True:
            yield KEEP_ALIVE

    config = {"timeouts": {"piece": 0.2}}
    words = r"no piece of the answer for 0\.2 s"
    with (
        in_turn(alive) as server,
        interface(server, config) as llm,
        pytest.raises(StreamInterrupted, match=words),
    ):
        list(llm.stream_prompt("Hi", model=MODEL))
