"""Prompts: text, messages, and what LangChain makes, as text or JSON.

A prompt is a string, a list of `{"role", "content"}` mappings in the OpenAI shape, or what LangChain makes:
a list of message objects or a prompt value. LangChain is never imported; its objects are known by their
`type` and `content`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quotaflow._call.checks import wrong_type
from quotaflow.errors import InvalidPromptError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ROLES = ("system", "user", "assistant", "tool")
_FIELDS = ("role", "content", "tool_calls", "tool_call_id", "name")
# How LangChain calls the roles.
_ROLE_OF_TYPE = {
    "system": "system",
    "human": "user",
    "user": "user",
    "ai": "assistant",
    "assistant": "assistant",
    "tool": "tool",
}
_EXPECTED = "pass a string or a list of {'role': …, 'content': …} messages"


def encode_prompt(prompt: object) -> str | bytes:
    """Return the prompt as Rust takes it: text as `str`, messages as JSON in `bytes`.

    Raises `InvalidPromptError` when it is empty or something else; the message names the place, never the text.

    >>> encode_prompt("Hello")
    'Hello'
    >>> encode_prompt([{"role": "user", "content": "Hello"}])
    b'[{"role":"user","content":"Hello"}]'
    """
    if type(prompt) is str and prompt and not prompt.isspace():
        return prompt
    if isinstance(prompt, str):
        if not prompt or prompt.isspace():
            raise InvalidPromptError("the prompt is empty", hint=_EXPECTED)
        return str(prompt)
    as_messages = getattr(prompt, "to_messages", None)
    if callable(as_messages):
        prompt = as_messages()
    if not isinstance(prompt, Sequence) or isinstance(prompt, bytes | bytearray | memoryview):
        raise wrong_type("the prompt", prompt, _EXPECTED, InvalidPromptError)
    if not prompt:
        raise InvalidPromptError("the prompt has no messages", hint=_EXPECTED)
    messages = [_message(message, f"prompt[{index}]") for index, message in enumerate(prompt)]
    if not any(message.get("content") for message in messages):
        raise InvalidPromptError("no message of the prompt has content", hint=_EXPECTED)
    import json

    try:
        text = json.dumps(messages, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidPromptError(f"the prompt cannot be written as JSON: {error}") from error
    return encode_text(text)


def encode_text(text: str) -> bytes:
    """Return the text of a prompt in UTF-8.

    Raises `InvalidPromptError` when it has half a surrogate pair, which no provider could be sent.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidPromptError(
            f"the prompt or an argument has an unpaired surrogate at character {error.start}",
            hint="it was decoded wrongly: decode it again with errors='replace'",
        ) from None


def _message(message: object, place: str) -> dict[str, Any]:
    if isinstance(message, Mapping):
        return _from_mapping(message, place)
    kind = getattr(message, "type", None)
    if isinstance(kind, str) and hasattr(message, "content"):
        return _from_object(message, kind, place)
    raise wrong_type(place, message, _EXPECTED, InvalidPromptError)


def _from_mapping(message: Mapping[Any, Any], place: str) -> dict[str, Any]:
    for name in message:
        if name not in _FIELDS:
            raise InvalidPromptError(
                f"{place} has an unknown field {name!r}", hint=f"the fields are {', '.join(_FIELDS)}"
            )
    role = message.get("role")
    if role not in _ROLES:
        what = "has no role" if role is None else f"has the role {role!r}"
        raise InvalidPromptError(f"{place} {what}", hint=f"the roles are {', '.join(_ROLES)}")
    content = _content(message.get("content"), bool(message.get("tool_calls")), place)
    return {**message, "role": role, "content": content}


def _from_object(message: object, kind: str, place: str) -> dict[str, Any]:
    role = _ROLE_OF_TYPE.get(kind)
    if role is None:
        known = ", ".join(_ROLE_OF_TYPE)
        raise InvalidPromptError(f"{place} is a message of type {kind!r}", hint=f"the types are {known}")
    calls = [_tool_call(call, place) for call in getattr(message, "tool_calls", None) or ()]
    content = _content(message.content, bool(calls), place)  # type: ignore[attr-defined]
    made: dict[str, Any] = {"role": role, "content": content}
    if calls:
        made["tool_calls"] = calls
    for name in ("tool_call_id", "name"):
        value = getattr(message, name, None)
        if value is not None:
            made[name] = value
    return made


def _content(content: object, calls_tools: bool, place: str) -> object:
    if content is None and calls_tools:
        return None
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and not isinstance(content, bytes | bytearray | memoryview):
        return [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
    what = "no content" if content is None else f"content of type {type(content).__name__}"
    raise InvalidPromptError(f"{place} has {what}", hint="content is text or a list of parts")


def _tool_call(call: object, place: str) -> dict[str, Any]:
    """Return a tool call in the OpenAI shape, from LangChain's `{"name", "args", "id"}`."""
    if not isinstance(call, Mapping) or "name" not in call:
        raise InvalidPromptError(f"{place} has a tool call without a name")
    import json

    arguments = json.dumps(call.get("args") or {}, ensure_ascii=False)
    return {
        "id": call.get("id"),
        "type": "function",
        "function": {"name": call["name"], "arguments": arguments},
    }
