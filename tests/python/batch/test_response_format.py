"""`response_format` of a batch: sent, resumed and planned."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, field_validator

from answer_servers import Sayer, interface
from probes import until
from quotaflow import (
    CheckpointError,
    InvalidArgumentError,
    InvalidRequestError,
    LLMInterface,
    ParseError,
    ResponseFormat,
    ValidationError,
)
from servers import http

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from quotaflow._batch.results import BatchItem
    from servers import Request

MODEL = "gpt-4o-mini"
ROME = '{"name": "Rome", "people": 3}'
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
WRONG = http({"error": {"message": "wrong", "type": "invalid_request_error"}}, 400)


@dataclass
class Town:
    name: str
    people: int


class City(BaseModel):
    name: str
    people: int


class Teller(Sayer):
    """Says to each prompt what the test wants, one text after the other; `ROME` to all others."""

    def __init__(self) -> None:
        super().__init__()
        self.says: dict[str, list[Any]] = {}

    def _answer(self, request: Request) -> bytes:
        prompt = next(message["content"] for message in request.json["messages"] if message["role"] == "user")
        texts = self.says.get(prompt, [ROME])
        said = texts.pop(0) if len(texts) > 1 else texts[0]
        if callable(said):
            said = said()
        if isinstance(said, bytes):
            return said
        text, reason = said if isinstance(said, tuple) else (said, "stop")
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": reason}
        return http({"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 5}})


@pytest.fixture
def teller() -> Iterator[Teller]:
    made = Teller()
    with made.server:
        yield made


@pytest.fixture
def llm(teller: Teller) -> Iterator[LLMInterface]:
    with interface(teller) as made:
        yield made


def _asend(llm: LLMInterface, prompts: Any, **arguments: Any) -> list[BatchItem]:
    return list(asyncio.run(llm.asend_batch(prompts, **arguments)))


def _aiter(llm: LLMInterface, prompts: Any, **arguments: Any) -> list[BatchItem]:
    async def items() -> list[BatchItem]:
        return [item async for item in llm.aiter_batch(prompts, ordered=True, **arguments)]

    return asyncio.run(items())


WAYS: list[Callable[..., list[BatchItem]]] = [
    lambda llm, prompts, **arguments: list(llm.send_batch(prompts, **arguments)),
    lambda llm, prompts, **arguments: list(llm.iter_batch(prompts, ordered=True, **arguments)),
    _asend,
    _aiter,
]


def parsed(items: list[BatchItem]) -> list[Any]:
    return [None if item.reply is None else item.reply.parsed for item in items]


@pytest.mark.parametrize("send", WAYS)
def test_every_shape_is_read_for_all_and_for_one(
    llm: LLMInterface, teller: Teller, send: Callable[..., list[BatchItem]]
) -> None:
    for shape, right in ((Town, Town("Rome", 3)), (City, City(name="Rome", people=3)), (SCHEMA, json.loads(ROME))):
        items = send(llm, ["a", [{"role": "user", "content": "b"}]], model=MODEL, response_format=shape)
        assert parsed(items) == [right, right]
        assert [type(item.reply and item.reply.parsed) for item in items] == [type(right)] * 2
        assert teller.bodies[-1]["response_format"]["type"] == "json_schema"
    given = [
        {"prompt": "c", "response_format": Town},
        {"prompt": "d", "response_format": ResponseFormat(City, name="place")},
        {"prompt": "e", "response_format": SCHEMA},
        {"prompt": "f"},
        {"template": "$letter", "params": {"letter": "g"}, "response_format": Town},
    ]
    assert parsed(send(llm, given, model=MODEL)) == [
        Town("Rome", 3), City(name="Rome", people=3), json.loads(ROME), None, Town("Rome", 3)
    ]  # fmt: skip
    # What one says for itself takes the place of what holds for all.
    given = [{"prompt": "h"}, {"prompt": "i", "response_format": SCHEMA}, {"prompt": "j", "response_format": None}]
    assert parsed(send(llm, given, model=MODEL, response_format=Town)) == [Town("Rome", 3), json.loads(ROME), None]


@pytest.mark.parametrize("send", WAYS)
def test_a_wrong_answer_is_repaired_once(
    llm: LLMInterface, teller: Teller, send: Callable[..., list[BatchItem]]
) -> None:
    teller.says = {"b": ["Rome.", ROME]}
    items = send(llm, ["a", "b", "c", "b"], model=MODEL, response_format=Town, temperature=0.5, system="Be brief.")
    assert parsed(items) == [Town("Rome", 3)] * 4
    assert [item.reply is not None and item.reply.repaired for item in items] == [False, True, False, True]
    reply, plain = items[1].reply, items[0].reply
    assert reply is not None
    assert plain is not None
    assert (len(reply.attempts), items[1].attempts, items[3].attempts) == (2, 2, 0)
    assert (reply.usage and reply.usage.input_tokens, plain.usage and plain.usage.input_tokens) == (20, 10)
    assert reply.cost is not None
    assert reply.cost == 2 * (plain.cost or 0)
    [second] = [body for body in teller.bodies if len(body["messages"]) == 4]
    assert second["temperature"] == 0.5
    assert [message["role"] for message in second["messages"]] == ["system", "user", "assistant", "user"]
    assert "there is no JSON in the answer" in second["messages"][-1]["content"]


def test_what_is_said_for_one_holds_in_its_repair_round(llm: LLMInterface, teller: Teller) -> None:
    teller.says = {"a": ["Rome.", ROME]}
    own = {"prompt": "a", "response_format": Town, "model": "gpt-4o", "system": "Be brief.", "max_tokens": 50}
    [item] = llm.send_batch([own], model=MODEL)
    assert item.reply is not None
    assert item.reply.repaired
    for body in teller.bodies:
        assert (body["model"], body["messages"][0]["content"]) == ("gpt-4o", "Be brief.")
        assert 50 in body.values()
        assert body["response_format"]["json_schema"]["name"] == "Town"


def test_what_stays_wrong_is_an_error_of_its_item(llm: LLMInterface, teller: Teller) -> None:
    teller.says = {
        "no json": ["Rome."],
        "wrong": ['{"name": 1}', "[1]"],
        "cut": [('{"name": "Ro', "length")],
        "once": ["Rome.", ROME],
        "refused": ["Rome.", WRONG],
    }
    given: list[Any] = ["no json", "wrong", "cut", "refused", "fine"]
    given.append({"prompt": "once", "response_format": ResponseFormat(Town, repair=False)})
    batch = llm.send_batch(given, model=MODEL, response_format=Town)
    errors: list[Any] = [item.error for item in batch]
    kinds = [ParseError, ValidationError, ParseError, ParseError, type(None), ParseError]
    assert [type(error) for error in errors] == kinds
    assert [item.attempts for item in batch] == [2, 2, 1, 2, 1, 1]
    assert [item.reply is None for item in batch] == [True, True, True, True, False, True]
    assert (errors[1].text, errors[1].errors) == ("[1]", ("is a list, not an object",))
    assert (errors[1].usage.total_tokens, errors[2].finish_reason) == (30, "length")
    assert isinstance(errors[3].__cause__, InvalidRequestError)
    assert [attempt.status for attempt in errors[3].attempts] == [200, 400]
    summary = batch.summary
    assert (summary.successful, summary.failed, summary.unfit, summary.retried) == (1, 5, 5, 3)
    # Answers that nobody can use are paid all the same.
    assert (summary.input_tokens, summary.output_tokens) == (80, 40)
    assert summary.cost is not None
    assert "5 failed (5 in another shape)" in str(summary)


def test_errors_as_text_are_replies(teller: Teller) -> None:
    teller.says = {"a": ["Rome."]}
    with interface(teller, errors="text") as llm:
        first, second = llm.send_batch(["a", "b"], model=MODEL, response_format=Town)
    assert first.reply == "[LLM Error: there is no JSON in the answer]"
    assert isinstance(first.error, ParseError)
    assert second.reply is not None
    assert second.reply.parsed == Town("Rome", 3)


def test_openais_own_words_are_a_parameter_here_too(llm: LLMInterface, teller: Teller) -> None:
    teller.says = {"b": ["Rome."]}
    form = {"type": "json_object"}
    items = list(llm.send_batch(["a", "b"], model=MODEL, response_format=form))
    assert parsed(items) == [json.loads(ROME), None]
    assert [item.ok for item in items] == [True, True]
    assert [body["response_format"] for body in teller.bodies] == [form, form]


def test_what_is_no_shape_is_refused_for_all_or_for_its_item(llm: LLMInterface, teller: Teller) -> None:
    with pytest.raises(InvalidArgumentError, match="which is no shape"):
        llm.send_batch(["a"], model=MODEL, response_format=int)
    assert teller.bodies == []
    given = [{"prompt": "a", "response_format": int}, {"prompt": "b", "response_format": {"x": object()}}, "c"]
    batch = llm.send_batch(given, model=MODEL, response_format=Town)
    assert [type(item.error) for item in batch] == [InvalidArgumentError, InvalidArgumentError, type(None)]
    assert parsed([batch[2]]) == [Town("Rome", 3)]


def test_the_first_answer_of_another_shape_ends_it_when_asked(llm: LLMInterface, teller: Teller) -> None:
    teller.says = {"b": ["Rome."]}
    with pytest.raises(ParseError) as caught:
        llm.send_batch(["a", "b", "c", "d"], 1, model=MODEL, response_format=Town, stop_on_error=True)
    batch = caught.value.batch  # type: ignore[attr-defined]
    assert [item.ok for item in batch] == [True, False]
    assert len(teller.bodies) == 3
    teller.says = {"b": ["Rome.", ROME]}
    batch = llm.send_batch(["a", "b", "c"], 1, model=MODEL, response_format=Town, stop_on_error=True)
    assert (batch.summary.successful, len(batch.errors)) == (3, 0)


def test_a_repair_round_that_waits_when_it_ends_leaves_its_first_error(teller: Teller) -> None:
    waits = threading.Event()

    def late() -> bytes:
        waits.wait(10)
        return WRONG

    teller.says = {"a": ["Rome.", ROME], "b": [late]}
    limits = {"openai": {"rpm": {"amount": 2, "refill": "rolling"}}}
    caught: list[Any] = []

    def run() -> None:
        try:
            narrow.send_batch(
                ["a", "b", "c"], 2, model=MODEL, response_format=Town, stop_on_error=True, priority=5, retry=False
            )
        except InvalidRequestError as error:
            caught.append(error)

    with interface(teller, limits=limits) as narrow:
        thread = threading.Thread(target=run)
        thread.start()
        until(lambda: len(narrow.queue()) == 1)
        waits.set()
        thread.join(10)
    [error] = caught
    assert [(item.index, type(item.error)) for item in error.batch] == [(0, ParseError), (1, InvalidRequestError)]
    assert error.batch.summary.unfit == 1
    assert len(teller.bodies) == 2


def test_both_rounds_have_the_time_of_one_call(
    llm: LLMInterface, teller: Teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([100.0, 161.0, 200.0, 261.0, 300.0, 301.0])
    monkeypatch.setattr("quotaflow._structured.repair.monotonic", lambda: next(clock))
    teller.says = {"a": ["Rome."]}
    [item] = llm.send_batch(["a"], model=MODEL, response_format=Town, timeout=60)
    assert item.attempts == 1
    with interface(teller, {"timeouts": {"call": 60}}) as other:
        [item] = other.send_batch(["a"], model=MODEL, response_format=Town)
        assert item.attempts == 1
        [item] = other.send_batch(["a"], model=MODEL, response_format=Town)
        assert item.attempts == 2


def test_what_is_resumed_is_the_same_object(llm: LLMInterface, teller: Teller, tmp_path: Path) -> None:
    path = tmp_path / "done.jsonl"
    teller.says = {"b": ["Rome.", ROME], "c": ["Rome."], "e": ["Rome.", ROME]}
    given: list[Any] = ["a", "b", "c", {"prompt": "d", "response_format": City, "id": "d"}]
    given += [{"prompt": "e", "response_format": City}, {"prompt": "d", "response_format": City}]
    first = llm.send_batch(given, 1, model=MODEL, response_format=Town, checkpoint=path)
    rome, city = Town("Rome", 3), City(name="Rome", people=3)
    assert parsed(list(first)) == [rome, rome, None, city, city, city]
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    [wrong] = [line["error"] for line in lines if "error" in line]
    assert (wrong["type"], wrong["text"], wrong["usage"][:2]) == ("ParseError", "Rome.", [20, 10])
    told = first[2].error
    assert isinstance(told, ParseError)
    assert (told.text, told.usage and told.usage.total_tokens, len(told.attempts)) == ("Rome.", 30, 2)
    asked = len(teller.bodies)
    teller.says = {}
    again = llm.send_batch(given, 1, model=MODEL, response_format=Town, checkpoint=path)
    assert parsed(list(again)) == [rome, rome, rome, city, city, city]
    assert (len(teller.bodies) - asked, again.summary.resumed) == (1, 4)
    for one, other in ((first[1], again[1]), (first[4], again[4])):
        assert one.reply is not None
        assert other.reply is not None
        assert (other.reply.repaired, other.attempts, other.reply.usage) == (True, 2, one.reply.usage)
        assert other.reply.cost == one.reply.cost is not None
    assert again.summary.cost is not None
    items = llm.iter_batch(given, model=MODEL, response_format=Town, checkpoint=path, ordered=True)
    assert parsed(list(items)) == [rome, rome, rome, city, city, city]
    assert len(teller.bodies) - asked == 1


def test_a_job_with_another_schema_is_another_job(llm: LLMInterface, teller: Teller, tmp_path: Path) -> None:
    path = tmp_path / "done.jsonl"
    llm.send_batch(["a"], model=MODEL, response_format=Town, checkpoint=path)
    for shape in (SCHEMA, list[Town], None):
        with pytest.raises(CheckpointError, match="made with another response_format"):
            llm.send_batch(["a"], model=MODEL, response_format=shape, checkpoint=path)
    same = ResponseFormat(Town, repair=False)
    assert llm.send_batch(["a"], model=MODEL, response_format=same, checkpoint=path).summary.resumed == 1
    assert len(teller.bodies) == 1


def test_what_does_not_fit_any_more_is_sent_again(llm: LLMInterface, teller: Teller, tmp_path: Path) -> None:
    strict: list[bool] = []

    class Checked(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def _known(cls, name: str) -> str:
            if strict and name == "Rome":
                raise ValueError("not Rome")
            return name

    path = tmp_path / "done.jsonl"
    llm.send_batch(["a", {"prompt": "b", "id": 7}], model=MODEL, response_format=Checked, checkpoint=path)
    strict.append(True)
    teller.says = {"a": ['{"name": "Oslo"}'], "b": ['{"name": "Oslo"}']}
    batch = llm.send_batch(["a", {"prompt": "b", "id": 7}], model=MODEL, response_format=Checked, checkpoint=path)
    assert parsed(list(batch)) == [Checked(name="Oslo")] * 2
    assert [item.id for item in batch] == [None, 7]
    assert batch.summary.resumed == 0


def test_another_shape_makes_another_prompt(llm: LLMInterface, teller: Teller) -> None:
    def town() -> type:
        @dataclass
        class Town:
            name: str
            people: int

        return Town

    shapes: list[Any] = [Town, Town, City, City.model_json_schema(), SCHEMA, dict(SCHEMA), None, town()]
    batch = llm.send_batch([{"prompt": "a", "response_format": shape} for shape in shapes], 1, model=MODEL)
    assert [item.duplicate_of for item in batch] == [None, 0, None, None, None, 4, None, None]
    assert len(teller.bodies) == 6
    assert [type(value).__qualname__ for value in parsed(list(batch))][-1].endswith("<locals>.Town")


def test_a_shape_is_part_of_what_is_counted_and_planned(llm: LLMInterface, teller: Teller) -> None:
    bare = llm.count_tokens([{"role": "user", "content": "a"}], model=MODEL)
    for shape in (Town, City, SCHEMA, ResponseFormat(Town), {"type": "json_object"}):
        assert llm.count_tokens("a", model=MODEL, response_format=shape) > bare
        estimate = llm.estimate_cost("a", model=MODEL, max_tokens=10, response_format=shape)
        assert estimate is not None
        assert estimate.input_tokens > bare
        plan = llm.plan(["a", {"prompt": "b", "response_format": Town}], model=MODEL, response_format=shape)
        assert plan.answered == 2
        assert plan.input_tokens > 2 * bare
    for asked in (llm.count_tokens, llm.estimate_cost):
        with pytest.raises(InvalidArgumentError, match="which is no shape"):
            asked("a", model=MODEL, response_format=int)
    with pytest.raises(InvalidArgumentError, match="which is no shape"):
        llm.plan(count=3, model=MODEL, response_format=int)
    assert teller.bodies == []


def test_langchains_batches_have_shapes_too(llm: LLMInterface, teller: Teller) -> None:
    from quotaflow.integrations.langchain import ChatQuotaflow

    teller.says = {"b": ["Rome.", ROME]}
    replies = llm.batch(["a", "b"], model=MODEL, response_format=Town)
    assert [(reply.parsed, reply.repaired) for reply in replies] == [
        (Town("Rome", 3), False), (Town("Rome", 3), True)
    ]  # fmt: skip
    chat = ChatQuotaflow(llm=llm, model=MODEL).with_structured_output(City, method="json_schema")
    assert chat.batch(["a", "c"]) == [City(name="Rome", people=3)] * 2
    assert asyncio.run(chat.abatch(["a", "c"])) == [City(name="Rome", people=3)] * 2
