"""LangChain's messages as prompts, and replies as LangChain's messages."""

from __future__ import annotations

import json
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk, InvalidToolCall, ToolCall
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.messages.utils import convert_to_openai_messages
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk
from pydantic import Field

from quotaflow.errors import InvalidPromptError
from quotaflow.reply import Reply, quiet_cost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.messages import BaseMessage

    from quotaflow._streaming.piece import Piece
    from quotaflow.records import Usage

_FIELDS = ("role", "content", "tool_calls", "tool_call_id", "name")
# What a model thought stays with the provider that wrote it, and its tool calls stand beside the content.
_NOT_SENT = frozenset(
    {
        "function_call",
        "invalid_tool_call",
        "non_standard",
        "reasoning",
        "redacted_thinking",
        "server_tool_call",
        "server_tool_result",
        "thinking",
        "tool_call",
    }
)


class ReplyGeneration(ChatGeneration):
    """A generation that still has the reply it was made of, as long as it is not serialised."""

    reply: Any = Field(default=None, exclude=True, repr=False)
    """The `Reply`."""

    @classmethod
    def lc_id(cls) -> list[str]:
        """Return the class it is read back as: caches outside the process know LangChain's own class only."""
        return ChatGeneration.lc_id()


def openai_messages(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Return the messages as `send_prompt` takes them, pictures and files in the OpenAI shape whatever theirs was.

    Raises:
        InvalidPromptError: a message holds what has no such shape; the text of it is not shown.

    >>> from langchain_core.messages import HumanMessage
    >>> openai_messages([HumanMessage("Hello")])
    [{'role': 'user', 'content': 'Hello'}]
    """
    try:
        made: list[dict[str, Any]] = convert_to_openai_messages(messages)
    except (ValueError, TypeError, KeyError):
        # From None: LangChain's words show the whole content.
        raise InvalidPromptError(
            "a message holds a part that cannot be sent",
            hint="parts are text, image, audio, file, tool_use and tool_result",
        ) from None
    return [{name: _sendable(message[name]) for name in _FIELDS if name in message} for message in made]


def _sendable(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [part for part in value if part.get("type") not in _NOT_SENT] or ""


def generation_from(reply: Reply) -> ReplyGeneration:
    """Return a reply as LangChain's generation, with the message in it."""
    calls = [_tool_call(call) for call in reply.tool_calls]
    message = AIMessage(
        content=str(reply),
        tool_calls=[call for call in calls if call["type"] == "tool_call"],
        invalid_tool_calls=[call for call in calls if call["type"] == "invalid_tool_call"],
        usage_metadata=usage_metadata(reply.usage),
        response_metadata=response_metadata(reply),
    )
    info = {"finish_reason": reply.finish_reason}
    return ReplyGeneration(message=message, generation_info=info, reply=reply)


def chunk_from(piece: Piece) -> ChatGenerationChunk | None:
    """Return a piece of a stream as LangChain's; `None` for what the model thinks, which stays out of messages."""
    if piece.kind == "text":
        return ChatGenerationChunk(message=AIMessageChunk(content=str(piece)))
    if piece.kind == "tool_call":
        call = tool_call_chunk(name=piece.tool_name, args=str(piece), id=piece.call_id, index=piece.call_index)
        return ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[call]))
    return None


def last_chunk_from(reply: Reply) -> ChatGenerationChunk:
    """Return what is known at the end of a stream, as its last chunk, without text."""
    message = AIMessageChunk(
        content="",
        usage_metadata=usage_metadata(reply.usage),
        response_metadata=response_metadata(reply),
        chunk_position="last",
    )
    return ChatGenerationChunk(message=message, generation_info={"finish_reason": reply.finish_reason})


def _tool_call(call: dict[str, Any]) -> ToolCall | InvalidToolCall:
    """Return a tool call as LangChain has it; invalid arguments are shown as the model wrote them."""
    number, name, text = _parts(call)
    try:
        arguments = json.loads(text or "{}")
    except ValueError as error:
        return InvalidToolCall(name=name, args=text, id=number, error=str(error), type="invalid_tool_call")
    if name and isinstance(arguments, dict):
        return ToolCall(name=name, args=arguments, id=number, type="tool_call")
    wrong = "the arguments are no JSON object" if name else "the call names no tool"
    return InvalidToolCall(name=name, args=text, id=number, error=wrong, type="invalid_tool_call")


def _parts(call: dict[str, Any]) -> tuple[str | None, str | None, str]:
    """Return id, name and arguments of a call in the OpenAI shape; some servers leave things out."""
    function = call.get("function") or {}
    arguments = function.get("arguments") or ""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return call.get("id"), function.get("name"), text


def reply_of(generation: ChatGeneration) -> Reply:
    """Return the reply behind a generation; made from the message when it came from a cache or a stream."""
    if isinstance(generation, ReplyGeneration) and isinstance(generation.reply, Reply):
        return generation.reply
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
        first_token_latency=known.get("first_token_latency"),
        cost=None if known.get("cost") is None else Decimal(repr(known["cost"])),
        cached=known.get("cached"),
        finish_reason=known.get("finish_reason"),
        tool_calls=json.dumps(calls) if calls else None,
        attempts=[tuple(attempt.values()) for attempt in known.get("attempts", ())],
    )


def response_metadata(reply: Reply) -> dict[str, Any]:
    """Return where an answer came from and how, as plain values; the key is its label."""
    return {
        "model_name": reply.model,
        "provider": reply.provider,
        "finish_reason": reply.finish_reason,
        "key": reply.key,
        "latency": reply.latency,
        "first_token_latency": reply.first_token_latency,
        # An unknown price is warned of where it is asked for.
        "cost": None if (cost := quiet_cost(reply)) is None else float(cost),
        "cached": reply.cached,
        "attempts": [asdict(attempt) for attempt in reply.attempts],
    }


def usage_metadata(usage: Usage | None) -> UsageMetadata | None:
    """Return the tokens as LangChain counts them; a detail that is 0 may be unknown and is left out."""
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
