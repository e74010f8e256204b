"""LangChain's messages in the OpenAI shape."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from quotaflow.integrations.messages import openai_messages

CALL = {"name": "add", "args": {"a": 1}, "id": "1", "type": "tool_call"}
SENT_CALL = {"type": "function", "id": "1", "function": {"name": "add", "arguments": '{"a": 1}'}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}}


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        (SystemMessage("Be brief."), {"role": "system", "content": "Be brief."}),
        (HumanMessage("Hi", name="ann"), {"role": "user", "content": "Hi", "name": "ann"}),
        (AIMessage("", tool_calls=[CALL]), {"role": "assistant", "content": "", "tool_calls": [SENT_CALL]}),
        (
            AIMessage([{"type": "tool_use", "id": "1", "name": "add", "input": {"a": 1}}]),
            {"role": "assistant", "content": "", "tool_calls": [SENT_CALL]},
        ),
        (
            AIMessage([{"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": "Hi"}]),
            {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]},
        ),
        (
            AIMessage([{"type": "reasoning", "reasoning": "Hm"}, CALL], tool_calls=[CALL]),
            {"role": "assistant", "content": "", "tool_calls": [SENT_CALL]},
        ),
        (ToolMessage("6", tool_call_id="1"), {"role": "tool", "content": "6", "tool_call_id": "1"}),
        (
            ToolMessage("no", tool_call_id="1", status="error"),
            {"role": "tool", "content": "no", "tool_call_id": "1"},
        ),
        (
            HumanMessage([{"type": "tool_result", "tool_use_id": "1", "content": "6"}]),
            {"role": "tool", "content": "6", "tool_call_id": "1"},
        ),
        (HumanMessage([IMAGE]), {"role": "user", "content": [IMAGE]}),
        (
            HumanMessage([{"type": "image", "base64": "QQ==", "mime_type": "image/png"}]),
            {"role": "user", "content": [IMAGE]},
        ),
        (
            HumanMessage(
                [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QQ=="}}]
            ),
            {"role": "user", "content": [IMAGE]},
        ),
    ],
)
def test_a_message_of_any_shape_is_sent_in_openais(message: BaseMessage, sent: dict[str, Any]) -> None:
    assert openai_messages([message]) == [sent]
