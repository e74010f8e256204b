"""An interface as a LangChain runnable, with and without LangChain."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.output_parsers import JsonOutputParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnableParallel, RunnableSequence

from probes import MODEL, ONE_A_MINUTE, until, until_waiting, waiting
from quotaflow import InvalidArgumentError, InvalidPromptError, LLMInterface, RateLimitError, Reply
from servers import OPENAI_ANSWER, Server, http
from streaming_servers import HEAD, Held, end, interface, said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from quotaflow.testing import SimulatedProviders

DEFAULT = {"models": {"default": {"provider": "openai", "model": MODEL}}}
PROMPT = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "Name {what}.")])
NO_RETRY = {"retry": False, "fallback": False}


class Told(BaseCallbackHandler):
    """Remembers what a chat model's run tells."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.facts: dict[str, Any] = {}

    def on_chat_model_start(self, serialized: Any, messages: Any, **facts: Any) -> None:  # noqa: ARG002
        self.events.append("start")
        self.facts = {"messages": [message.type for message in messages[0]], **facts}

    def on_llm_end(self, response: Any, **_: Any) -> None:
        self.events.append(f"end {response.generations[0][0].text}")

    def on_llm_error(self, error: BaseException, **_: Any) -> None:
        self.events.append(f"error {type(error).__name__}")


class ToldAsync(AsyncCallbackHandler):
    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    async def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        self.threads.append(threading.current_thread())

    async def on_llm_end(self, *_: Any, **__: Any) -> None:
        self.threads.append(threading.current_thread())


@pytest.fixture
def llm(make_llm: Callable[..., LLMInterface]) -> LLMInterface:
    # Where no limit is known, few calls are in flight at first.
    return make_llm(DEFAULT, limits={"openai": {"rpm": 1_000_000}})


def test_it_is_a_runnable_and_still_itself(llm: Any) -> None:
    assert all(isinstance(llm, kind) for kind in (Runnable, LLMInterface))
    assert llm.__class__ is type(llm) is LLMInterface
    assert Runnable not in LLMInterface.__mro__


def test_a_prompt_goes_in_and_text_comes_out(llm: LLMInterface) -> None:
    chain = PROMPT | llm
    assert isinstance(chain, RunnableSequence)
    assert chain.last is cast("Any", llm)
    reply = chain.invoke({"what": "a river"})
    assert type(reply) is Reply
    assert reply == "answer to: Name a river."
    assert (reply.provider, reply.key, len(reply.attempts)) == ("openai", "OPENAI_API_KEY", 1)


def test_it_stands_anywhere_in_a_chain(llm: Any) -> None:
    assert (PROMPT | llm | StrOutputParser()).invoke({"what": "a lake"}) == "answer to: Name a lake."
    assert (llm | StrOutputParser()).invoke("Hi") == "answer to: Hi"
    assert (llm | str.upper).invoke("Hi") == "ANSWER TO: HI"
    assert ((lambda text: f"{text}!") | llm).invoke("Hi") == "answer to: Hi!"
    assert ({"what": RunnableLambda(str)} | PROMPT | llm).invoke("a sea") == "answer to: Name a sea."
    assert llm.pipe(str.upper, str.lower, name="loud").get_name() == "loud"
    assert RunnableParallel(one=llm, two=llm | len).invoke("Hi") == {"one": "answer to: Hi", "two": 13}
    assert RunnableLambda(lambda _: llm).invoke("Hi") == "answer to: Hi"


def test_a_chain_with_it_can_be_looked_at(llm: Any) -> None:
    chain = PROMPT | llm | StrOutputParser()
    assert chain.input_schema.model_json_schema()["required"] == ["what"]
    assert llm.get_output_jsonschema()["type"] == "string"
    assert "LLMInterface" in {node.name for node in chain.get_graph().nodes.values()}
    assert llm.get_name() == "LLMInterface"
    written = json.dumps(chain.to_json(), default=str)
    assert "sk-test" not in written


@pytest.mark.parametrize(
    "prompt",
    [
        "Name a river.",
        PROMPT.invoke({"what": "a river"}),
        [SystemMessage("Be brief."), HumanMessage("Name a river.")],
        [HumanMessage([{"type": "text", "text": "Name a river."}])],
        [("system", "Be brief."), ("human", "Name a river.")],
        [{"role": "user", "content": "Name a river."}],
    ],
)
def test_everything_langchain_calls_a_prompt_is_one(llm: LLMInterface, prompt: Any) -> None:
    assert llm.invoke(prompt) == "answer to: Name a river."


@pytest.mark.parametrize("prompt", ["", [], 3, None, b"bytes", [3], [("nobody", "Hi")], {"a": 1}])
def test_what_is_no_prompt_is_refused(llm: LLMInterface, prompt: Any) -> None:
    with pytest.raises(InvalidPromptError):
        llm.invoke(prompt)
    with pytest.raises(InvalidPromptError):
        asyncio.run(llm.ainvoke(prompt))


def test_arguments_of_send_prompt_go_along(llm: LLMInterface) -> None:
    assert llm.invoke("Hi", model="claude-haiku-4-5", max_tokens=5, stop=["you"]).provider == "anthropic"
    bound = PROMPT | llm.bind(model="gpt-4o") | (lambda reply: reply.model)
    assert bound.invoke({"what": "a river"}) == "gpt-4o"
    with pytest.raises(InvalidArgumentError, match="priority"):
        llm.invoke("Hi", priority=12)


def test_callbacks_tags_metadata_and_names_take_part(llm: LLMInterface) -> None:
    told = Told()
    config = {"callbacks": [told], "tags": ["a"], "metadata": {"b": 1}, "run_name": "asking"}
    llm.invoke(PROMPT.invoke({"what": "a river"}), config)
    assert told.events == ["start", "end answer to: Name a river."]
    assert told.facts["messages"] == ["system", "human"]
    assert (told.facts["tags"], told.facts["name"]) == (["a"], "asking")
    assert told.facts["metadata"]["b"] == 1
    assert told.facts["metadata"]["ls_model_type"] == "chat"


def test_a_config_of_the_chain_and_of_its_own_reach_it(llm: LLMInterface) -> None:
    told = Told()
    chain = PROMPT | llm.with_config(tags=["own"]) | StrOutputParser()
    chain.invoke({"what": "a river"}, {"callbacks": [told], "tags": ["chain"]})
    assert told.events == ["start", "end answer to: Name a river."]
    assert {"own", "chain"} <= set(told.facts["tags"])
    assert told.facts["name"] == "LLMInterface"
    assert told.facts["parent_run_id"] is not None


@pytest.mark.quotaflow_simulator(faults=[{"when": {"first": 1}, "do": {"status": 429}}])
def test_an_error_is_told_and_raised_unchanged(llm: LLMInterface) -> None:
    told = Told()
    with pytest.raises(RateLimitError) as caught:
        (PROMPT | llm.bind(**NO_RETRY)).invoke({"what": "x"}, {"callbacks": [told]})
    assert told.events == ["start", "error RateLimitError"]
    assert caught.value.attempts[0].status == 429


def test_asyncio_is_asyncio(llm: LLMInterface) -> None:
    told = ToldAsync()

    async def ask() -> tuple[str, int]:
        before = threading.active_count()
        reply = await (PROMPT | llm).ainvoke({"what": "a river"}, {"callbacks": [told]})
        return reply, threading.active_count() - before

    reply, more_threads = asyncio.run(ask())
    assert reply == "answer to: Name a river."
    assert told.threads == [threading.main_thread()] * 2
    # One is the engine's own.
    assert more_threads <= 1


def test_a_stream_comes_through_a_chain_in_pieces(llm: LLMInterface) -> None:
    chain = PROMPT | llm | StrOutputParser()

    async def collect() -> list[str]:
        return [piece async for piece in chain.astream({"what": "a lake"})]

    pieces = list(chain.stream({"what": "a river"}))
    assert len(pieces) > 2
    assert "".join(pieces) == "answer to: Name a river."
    assert "".join(asyncio.run(collect())) == "answer to: Name a lake."
    assert {type(piece) for piece in llm.stream("Hi")} == {str}


def test_a_chain_hands_on_what_arrives_before_the_rest_is_sent() -> None:
    with Held(HEAD + said("Par"), said("is") + end()) as held, interface(held.server, DEFAULT) as slow:
        pieces = (PROMPT | slow | StrOutputParser()).stream({"what": "a city"})
        assert next(pieces) == "Par"
        assert not held.go_on.is_set()
        held.go_on.set()
        assert "".join(pieces) == "is"


def test_events_of_a_chain_tell_of_a_chat_model(llm: LLMInterface) -> None:
    async def collect() -> list[str]:
        events = (PROMPT | llm).astream_events({"what": "a lake"}, version="v2")
        return [event["event"] async for event in events if event["name"] == "LLMInterface"]

    first, *pieces, last = asyncio.run(collect())
    assert (first, last) == ("on_chat_model_start", "on_chat_model_end")
    assert set(pieces) == {"on_chat_model_stream"}
    assert len(pieces) > 2


def test_a_reply_out_of_langchains_cache_says_what_the_first_one_said(llm: LLMInterface) -> None:
    from langchain_core.caches import InMemoryCache
    from langchain_core.globals import set_llm_cache

    set_llm_cache(InMemoryCache())
    try:
        first, again = llm.invoke("Hi"), llm.invoke("Hi")
    finally:
        set_llm_cache(None)
    assert again == first
    assert (again.provider, again.model, again.attempts) == (first.provider, first.model, first.attempts)


@pytest.mark.quotaflow_simulator(latency=0.05)
def test_a_batch_keeps_order_and_its_bound(llm: Any, simulated: SimulatedProviders) -> None:
    prompts = [f"Number {n}." for n in range(9)]
    expected = [f"answer to: Number {n}." for n in range(9)]
    assert llm.batch(prompts, {"max_concurrency": 3}) == expected
    assert asyncio.run(llm.abatch(prompts, {"max_concurrency": 3})) == expected
    assert simulated.stats()["largest_in_flight"] == 3
    assert asyncio.run(llm.abatch(prompts)) == expected
    assert simulated.stats()["largest_in_flight"] == 9
    assert [index for index, _ in sorted(llm.batch_as_completed(prompts))] == list(range(9))


def test_errors_of_a_batch_stand_in_their_place(llm: LLMInterface) -> None:
    configs = [{"tags": ["a"]}, {"tags": ["b"]}]
    for replies in (
        llm.batch(["", "Hi"], configs, return_exceptions=True),
        asyncio.run(llm.abatch(["", "Hi"], configs, return_exceptions=True)),
    ):
        assert isinstance(replies[0], InvalidPromptError)
        assert replies[1] == "answer to: Hi"
    with pytest.raises(InvalidPromptError):
        llm.batch(["Hi", ""])
    with pytest.raises(InvalidPromptError):
        asyncio.run(llm.abatch(["Hi", ""]))
    assert llm.batch([]) == asyncio.run(llm.abatch([])) == []


def test_it_falls_back_to_what_langchain_has(llm: LLMInterface) -> None:
    safe = llm.with_fallbacks([RunnableLambda(lambda _: "nothing")])
    assert safe.invoke("") == "nothing"
    assert llm.with_retry(stop_after_attempt=2).invoke("Hi") == "answer to: Hi"


def test_tools_asked_for_reach_the_provider_and_json_comes_back() -> None:
    answer = json.loads(json.dumps(OPENAI_ANSWER))
    answer["choices"][0]["message"]["content"] = '{"river": "Po"}'
    with (
        Server(lambda _: http(answer)) as server,
        LLMInterface(
            DEFAULT, keys={"openai": "sk-test-1"}, base_urls={"openai": f"{server.url}/v1"}, state="memory"
        ) as llm,
    ):
        chain = PROMPT | llm.bind(response_format={"type": "json_object"}) | JsonOutputParser()
        assert chain.invoke({"what": "a river"}) == {"river": "Po"}
    assert server.asked[0].json["response_format"] == {"type": "json_object"}
    assert [message["role"] for message in server.asked[0].json["messages"]] == ["system", "user"]


def test_a_conversation_goes_through(llm: LLMInterface) -> None:
    said = [HumanMessage("Hi"), AIMessage("Hello"), HumanMessage("Name a river.")]
    assert llm.invoke(said) == "answer to: Name a river."


def test_what_it_does_not_have_it_does_not_have(llm: LLMInterface) -> None:
    with pytest.raises(AttributeError, match="'LLMInterface' object has no attribute 'send_promt'"):
        llm.send_promt  # type: ignore[attr-defined] # noqa: B018
    with pytest.raises(InvalidArgumentError, match="config is of type str"):
        llm.invoke("Hi", "not a config")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unsupported type"):
        llm | 3


# What follows runs where LangChain is not loaded, and partly where it is not installed.
ALONE = """
import asyncio, sys
{before}
from quotaflow import *
from quotaflow.testing import simulator
with simulator(latency=0.02) as world:
    wide = {{"openai": {{"rpm": 1_000_000}}}}
    llm = LLMInterface(keys=world.keys, base_urls=world.base_urls, limits=wide, state="memory")
    ask = dict(model="gpt-4o-mini")
    assert llm.send_prompt("Hi", **ask) == "answer to: Hi"
    {body}
    foreign = "langchain_core", "langsmith", "pydantic"
    print(*sorted(name for name in sys.modules if name.split(".")[0] in foreign))
"""
MISSING = "sys.modules['langchain_core'] = None"
VERBS = """
    assert llm.invoke("Hi", {"tags": ["a"]}, **ask) == llm("Hi", **ask) == "answer to: Hi"
    assert asyncio.run(llm.ainvoke([{"role": "user", "content": "Hi"}], **ask)).provider == "openai"
    assert "".join(llm.stream("Hi", **ask)) == "answer to: Hi"
    async def pieces(): return [piece async for piece in llm.astream("Hi", **ask)]
    assert "".join(asyncio.run(pieces())) == "answer to: Hi"
    prompts = [str(n) for n in range(8)]
    expected = [f"answer to: {n}" for n in range(8)]
    assert llm.batch(prompts, {"max_concurrency": 2}, **ask) == expected
    assert asyncio.run(llm.abatch(prompts, {"max_concurrency": 2}, **ask)) == expected
    assert world.stats()["largest_in_flight"] == 2
    assert asyncio.run(llm.abatch(prompts, **ask)) == llm.batch(prompts, [{}] * 8, **ask) == expected
    assert world.stats()["largest_in_flight"] == 8
    assert llm.batch([], **ask) == asyncio.run(llm.abatch([], **ask)) == []
    for got in llm.batch(["", "Hi"], return_exceptions=True, **ask), asyncio.run(
        llm.abatch(["", "Hi"], return_exceptions=True, **ask)
    ):
        assert isinstance(got[0], InvalidPromptError) and got[1] == "answer to: Hi"
    for wrong in ["", 3], [], None:
        try: llm.invoke(wrong, **ask)
        except InvalidPromptError: pass
        else: assert False
    for call in (lambda: llm.batch(["Hi", ""], **ask)), lambda: asyncio.run(llm.abatch(["Hi", ""], **ask)):
        try: call()
        except InvalidPromptError: pass
        else: assert False
    for bound in 0, -1, 1.5, "2", True:
        try: llm.batch(["Hi"], {"max_concurrency": bound}, **ask)
        except InvalidArgumentError: pass
        else: assert False
    assert not hasattr(llm, "get_graph") and not hasattr(llm, "nothing")
    assert isinstance(llm, LLMInterface) and llm.__class__ is LLMInterface
"""
NEEDS_IT = """
    for use in (lambda: llm | str), (lambda: str | llm), (lambda: llm.bind(a=1)), llm.with_config, llm.pipe:
        try: use()
        except ImportError as error: assert "quotaflow[langchain]" in str(error), error
        else: assert False
"""


def alone(body: str, before: str = "") -> str:
    code = ALONE.format(before=before, body=body.strip())
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_calls_never_load_langchain() -> None:
    assert alone(VERBS) == ""


def test_everything_but_chains_works_where_langchain_is_not_installed() -> None:
    assert alone(VERBS, MISSING) == "langchain_core"
    assert alone(NEEDS_IT, MISSING) == "langchain_core"


def test_an_interface_made_before_langchain_was_loaded_stands_in_chains() -> None:
    body = """
    from langchain_core.prompts import PromptTemplate
    assert (PromptTemplate.from_template("Name {x}") | llm.bind(**ask)).invoke({"x": "it"}) == "answer to: Name it"
    assert (PromptTemplate.from_template("Name {x}") | llm).last is llm
    """
    assert "langchain_core.runnables.base" in alone(body)


def test_using_what_only_langchain_has_loads_it() -> None:
    assert "langchain_core.runnables.base" in alone("assert (llm.bind(**ask) | len).invoke('Hi') == 13")


def test_a_cancelled_batch_cancels_its_calls(make_llm: Callable[..., LLMInterface]) -> None:
    """Without LangChain, whose own way of batching is taken otherwise."""
    llm = make_llm(DEFAULT, limits=ONE_A_MINUTE)
    llm.send_prompt("Hi")

    async def run() -> None:
        task = asyncio.create_task(llm.abatch(["One?", "Two?"]))
        await until_waiting(llm, 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with patch("quotaflow.integrations.runnable._langchain_side", lambda: None):
        asyncio.run(run())
    until(lambda: waiting(llm) == 0)


def test_no_stream_is_resumed_without_langchain_either(make_llm: Callable[..., LLMInterface]) -> None:
    llm = make_llm(DEFAULT)

    async def first() -> str:
        return await anext(llm.astream("Hi", resume="continue"))

    with patch("quotaflow.integrations.runnable._langchain_side", lambda: None):
        assert "".join(llm.stream("Hi")) == "answer to: Hi"
        with pytest.raises(InvalidArgumentError, match="resume cannot be used"):
            next(llm.stream("Hi", resume="restart"))
        with pytest.raises(InvalidArgumentError, match="resume cannot be used"):
            asyncio.run(first())


@pytest.fixture(autouse=True)
def no_cache() -> Iterator[None]:
    """No test leaves LangChain a cache of answers."""
    from langchain_core.globals import get_llm_cache

    yield
    assert get_llm_cache() is None
