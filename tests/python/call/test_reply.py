"""The reply: a string that carries its facts."""

from __future__ import annotations

import copy
import json
import pickle
from decimal import Decimal
from typing import Any

import pytest

from quotaflow import Attempt, Reply, Usage
from quotaflow.reply import reply_from
from scripted_core import ATTEMPT, ScriptedOutcome

TOOLS = '[{"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}}]'


def facts(reply: Reply) -> dict[str, Any]:
    names = [name for name, member in vars(Reply).items() if isinstance(member, property)]
    assert len(names) == 15
    return {name: getattr(reply, name) for name in names}


def test_it_is_a_string() -> None:
    reply = reply_from(ScriptedOutcome())  # type: ignore[arg-type]
    assert reply == "Paris"
    assert {"Paris": 1}[reply] == 1
    assert f"{reply}!" == "Paris!"
    assert repr(reply) == "'Paris'"
    assert json.dumps([reply]) == '["Paris"]'
    assert type(reply.upper()) is str


def test_it_knows_how_it_came_about() -> None:
    outcome = ScriptedOutcome(tool_calls=TOOLS, first_token_latency=0.125)
    reply = reply_from(outcome)  # type: ignore[arg-type]
    assert facts(reply) == {
        "provider": "openai",
        "model": "gpt-4o-mini",
        "key": "OPENAI_API_KEY",
        "usage": Usage(
            input_tokens=30, output_tokens=12, cached_tokens=4, cache_write_tokens=2, reasoning_tokens=5
        ),
        "cost": Decimal("0.0000114"),
        "latency": 0.75,
        "first_token_latency": 0.125,
        "cached": False,
        "attempts": (Attempt(*ATTEMPT),),
        "error": None,
        "finish_reason": "stop",
        "tool_calls": json.loads(TOOLS),
        "raw": {"id": "chatcmpl-1"},
        "parsed": None,
        "repaired": False,
    }
    assert reply.attempts[0].waited_seconds == 0.5


def test_what_the_provider_did_not_say_is_none_or_empty() -> None:
    reply = reply_from(ScriptedOutcome(usage=None, finish_reason=None, raw=b""))  # type: ignore[arg-type]
    assert (reply.usage, reply.finish_reason, reply.tool_calls, reply.raw) == (None, None, [], None)


def test_a_list_taken_from_it_is_the_callers_own() -> None:
    reply = reply_from(ScriptedOutcome(tool_calls=TOOLS))  # type: ignore[arg-type]
    reply.tool_calls.clear()
    assert len(reply.tool_calls) == 1


@pytest.mark.parametrize("again", [lambda reply: pickle.loads(pickle.dumps(reply)), copy.copy, copy.deepcopy])
def test_everything_survives_pickling_and_copying(again: Any) -> None:
    reply = reply_from(ScriptedOutcome(tool_calls=TOOLS))  # type: ignore[arg-type]
    twin = again(reply)
    assert type(twin) is Reply
    assert twin == reply
    assert facts(twin) == facts(reply)
    assert facts(again(twin)) == facts(reply)


def test_it_can_be_made_by_hand() -> None:
    reply = Reply("Oslo", provider="anthropic", usage=(1, 2, 0, 0, 0))
    assert (reply, reply.provider, reply.usage) == ("Oslo", "anthropic", Usage(1, 2))
    assert (reply.key, reply.attempts, reply.raw) == ("", (), None)


def test_it_takes_no_further_attributes() -> None:
    with pytest.raises(AttributeError):
        Reply("Oslo").colour = "red"  # type: ignore[attr-defined]


def test_records_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Usage().input_tokens = 1  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Attempt(*ATTEMPT).key = "x"  # type: ignore[misc]
