"""How do LangChain's messages become a prompt, and a reply one of LangChain's messages?"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk, InvalidToolCall, ToolCall
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.messages.utils import convert_to_openai_messages
from langchain_core.output_parsers.openai_tools import make_invalid_tool_call, parse_tool_call
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk

from quotaflow.errors import InvalidPromptError
from quotaflow.reply import Reply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.messages import BaseMessage

    from quotaflow.records import Usage

_FIELDS = ("role", "content", "tool_calls", "tool_call_id", "name")
# What a model thought stays with the provider that wrote it: no other one takes it back.
_NOT_SENT = frozenset({"thinking", "reasoning", "redacted_thinking"})


class ReplyGeneration(ChatGeneration):
    """A generation that still has the reply it was made of, as long as nobody writes it down."""

    _reply: Reply | None = None


def openai_messages(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """The messages as `send_prompt` takes them, pictures and files in the OpenAI shape whatever theirs was.

    Raises:
        InvalidPromptError: a message holds what has no such shape; the text of it is not shown.

    >>> from langchain_core.messages import HumanMessage
    >>> openai_messages([HumanMessage("Hello")])
    [{'role': 'user', 'content': 'Hello'}]
    """
    try:
        made = convert_to_openai_messages(messages)
    except (ValueError, TypeError, KeyError):
        # From None: LangChain's words show the whole content.
        raise InvalidPromptError(
            "a message holds a part that cannot be sent",
            hint="parts are text, image, audio, file, tool_use and tool_result",
        ) from None
    return [
        {name: _sendable(message[name]) for name in _FIELDS if name in message}
        for message in (made if isinstance(made, list) else [made])
    ]


def _sendable(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [part for part in value if part.get("type") not in _NOT_SENT] or ""


def generation_from(reply: Reply) -> ReplyGeneration:
    """A reply as LangChain's generation, with the message in it."""
    calls: list[ToolCall] = []
    invalid: list[InvalidToolCall] = []
    for call in reply.tool_calls:
        try:
            parsed = parse_tool_call(call, return_id=True)
        except Exception as error:  # noqa: BLE001 - whatever a model writes there is shown as it is
            invalid.append(make_invalid_tool_call(call, str(error)))
            continue
        if parsed is not None:
            calls.append(ToolCall(name=parsed["name"], args=parsed["args"], id=parsed["id"], type="tool_call"))
    message = AIMessage(
        content=str(reply),
        tool_calls=calls,
        invalid_tool_calls=invalid,
        usage_metadata=usage_metadata(reply.usage),
        response_metadata=response_metadata(reply),
    )
    generation = ReplyGeneration(message=message, generation_info={"finish_reason": reply.finish_reason})
    generation._reply = reply
    return generation


def chunk_from(reply: Reply) -> ChatGenerationChunk:
    """A reply as the one and last piece of a stream."""
    calls = [
        tool_call_chunk(
            name=call["function"]["name"],
            args=call["function"]["arguments"],
            id=call.get("id"),
            index=index,
        )
        for index, call in enumerate(reply.tool_calls)
    ]
    message = AIMessageChunk(
        content=str(reply),
        tool_call_chunks=calls,
        usage_metadata=usage_metadata(reply.usage),
        response_metadata=response_metadata(reply),
        chunk_position="last",
    )
    return ChatGenerationChunk(message=message, generation_info={"finish_reason": reply.finish_reason})


def reply_of(generation: ChatGeneration) -> Reply:
    """The reply behind a generation; made of what the message knows, when it came from a cache or a stream."""
    if isinstance(generation, ReplyGeneration) and generation._reply is not None:
        return generation._reply
    message = generation.message
    known = message.response_metadata
    calls = [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": json.dumps(call["args"], ensure_ascii=False)},
        }
        for call in getattr(message, "tool_calls", ())
    ]
    return Reply(
        str(message.text),
        provider=known.get("provider", ""),
        model=known.get("model_name", ""),
        key=known.get("key", ""),
        usage=_counts(getattr(message, "usage_metadata", None)),
        latency=known.get("latency", 0.0),
        finish_reason=known.get("finish_reason"),
        tool_calls=json.dumps(calls) if calls else None,
        attempts=[tuple(attempt.values()) for attempt in known.get("attempts", ())],
    )


def response_metadata(reply: Reply) -> dict[str, Any]:
    """Where an answer came from and how, as plain values; the key is its label."""
    return {
        "model_name": reply.model,
        "provider": reply.provider,
        "finish_reason": reply.finish_reason,
        "key": reply.key,
        "latency": reply.latency,
        "attempts": [asdict(attempt) for attempt in reply.attempts],
    }


def usage_metadata(usage: Usage | None) -> UsageMetadata | None:
    """The tokens as LangChain counts them; a detail that is 0 may be unknown and is left out."""
    if usage is None:
        return None
    made = UsageMetadata(
        input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, total_tokens=usage.total_tokens
    )
    read = InputTokenDetails()
    if usage.cached_tokens:
        read["cache_read"] = usage.cached_tokens
    if usage.cache_write_tokens:
        read["cache_creation"] = usage.cache_write_tokens
    if read:
        made["input_token_details"] = read
    if usage.reasoning_tokens:
        made["output_token_details"] = OutputTokenDetails(reasoning=usage.reasoning_tokens)
    return made


def _counts(usage: UsageMetadata | None) -> tuple[int, int, int, int, int] | None:
    if usage is None:
        return None
    read, wrote = usage.get("input_token_details", {}), usage.get("output_token_details", {})
    return (
        usage["input_tokens"],
        usage["output_tokens"],
        read.get("cache_read", 0),
        read.get("cache_creation", 0),
        wrote.get("reasoning", 0),
    )
