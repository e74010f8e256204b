"""A server that calls tools and keeps to a schema."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from servers import Server, http
from streaming_servers import HEAD, event

if TYPE_CHECKING:
    from servers import Request

USAGE = {
    "prompt_tokens": 30,
    "completion_tokens": 12,
    "total_tokens": 42,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
QUOTED = re.compile(r"'(\w+)'")


def tool_server() -> Server:
    """Speaks OpenAI's dialect: calls a tool when it may and nobody answered one yet, else says `Paris`."""
    return Server(_answer)


def _answer(request: Request) -> bytes:
    asked = request.json
    tool = _tool_to_call(asked)
    if tool is None:
        message: dict[str, Any] = {"role": "assistant", "content": _text(asked)}
    else:
        arguments = _example(tool.get("parameters") or {}, _last_text(asked))
        function = {"name": tool["name"], "arguments": json.dumps(arguments)}
        message = {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": function}]}
    reason = "stop" if tool is None else "tool_calls"
    if asked.get("stream"):
        return _streamed(message, reason)
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return http({"id": "chatcmpl-1", "model": asked["model"], "choices": [choice], "usage": USAGE})


def _streamed(message: dict[str, Any], reason: str) -> bytes:
    """The message in pieces, arguments and text cut in the middle."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    for index, call in enumerate(message.get("tool_calls", ())):
        function = call["function"]
        begun = {"index": index, **call, "function": {**function, "arguments": ""}}
        halves = [{"index": index, "function": {"arguments": half}} for half in _halves(function["arguments"])]
        deltas += [{"tool_calls": [fragment]} for fragment in (begun, *halves)]
    deltas += [{"content": half} for half in _halves(message.get("content") or "")]
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    chunks.append({"choices": [], "usage": USAGE})
    return HEAD + b"".join(event({"id": "chatcmpl-1"} | chunk) for chunk in chunks) + event("[DONE]")


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def _tool_to_call(asked: dict[str, Any]) -> dict[str, Any] | None:
    tools: list[dict[str, Any]] = [tool["function"] for tool in asked.get("tools", ())]
    choice = asked.get("tool_choice", "auto")
    if isinstance(choice, dict):
        return next(tool for tool in tools if tool["name"] == choice["function"]["name"])
    may = choice == "required" or (choice == "auto" and asked["messages"][-1]["role"] == "user")
    return tools[0] if tools and may else None


def _text(asked: dict[str, Any]) -> str:
    form = asked.get("response_format", {})
    if form.get("type") == "json_schema":
        return json.dumps(_example(form["json_schema"]["schema"], _last_text(asked)))
    if form.get("type") == "json_object":
        return json.dumps(dict.fromkeys(QUOTED.findall(_last_text(asked)), "a word"))
    return "Paris"


def _last_text(asked: dict[str, Any]) -> str:
    content = asked["messages"][-1]["content"]
    return content if isinstance(content, str) else ""


def _example(schema: dict[str, Any], prompt: str) -> Any:
    """Something that fits a schema; text is what the prompt has in quotes."""
    if "anyOf" in schema:
        return _example(schema["anyOf"][0], prompt)
    if "properties" in schema:
        return {name: _example(inner, prompt) for name, inner in schema["properties"].items()}
    quoted = QUOTED.search(prompt)
    examples: dict[str, Any] = {"integer": 3, "string": quoted[1] if quoted else "a word", "object": {}}
    return examples[schema.get("type", "object")]
