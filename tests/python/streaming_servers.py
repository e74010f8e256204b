"""Servers that stream exactly what a test wants."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from quotaflow import LLMInterface
from servers import Request, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEAD = b"HTTP/1.1 200 Words\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
MODEL = "gpt-4o-mini"
CLAUDE = "claude-haiku-4-5"
KEEP_ALIVE = b": still here\n\n"


def event(data: dict[str, Any] | str, name: str | None = None) -> bytes:
    """One server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def said(text: str) -> bytes:
    """A piece of text in OpenAI's words."""
    return event({"id": "c1", "model": "m", "choices": [{"index": 0, "delta": {"content": text}}]})


def called(arguments: str, number: str | None = None, name: str | None = None) -> bytes:
    """A fragment of a tool call in OpenAI's words."""
    function = {"arguments": arguments} | ({"name": name} if name else {})
    call = {"index": 0, "function": function} | ({"id": number, "type": "function"} if number else {})
    return event({"id": "c1", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})


def end(prompt: int = 9, completion: int = 3, reason: str = "stop") -> bytes:
    """The end of an answer in OpenAI's words."""
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return (
        event({"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        + event({"id": "c1", "choices": [], "usage": usage})
        + event("[DONE]")
    )


def whole(*texts: str, completion: int = 3) -> bytes:
    """A whole stream of OpenAI's."""
    return HEAD + b"".join(map(said, texts)) + end(completion=completion)


def claude_said(*texts: str) -> bytes:
    """The beginning of a message of Anthropic's, up to the end of its text."""
    usage = {"input_tokens": 11, "output_tokens": 1}
    message = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    block: dict[str, Any] = {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": ""},
    }
    deltas: list[dict[str, Any]] = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        for text in texts
    ]
    events = [{"type": "message_start", "message": message}, block, *deltas]
    return b"".join(event(each, str(each["type"])) for each in events)


def claude_end() -> bytes:
    """The end of a message of Anthropic's."""
    events: list[dict[str, Any]] = [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    return b"".join(event(each, each["type"]) for each in events)


def interface(server: Server, config: dict[str, Any] | None = None, **arguments: Any) -> LLMInterface:
    """An interface whose OpenAI and Anthropic are this server."""
    usual: dict[str, Any] = {
        "keys": {"openai": ["sk-test-1"], "anthropic": ["sk-ant-test-1"]},
        "base_urls": {"openai": f"{server.url}/v1", "anthropic": server.url},
        "state": "memory",
    }
    return LLMInterface({} if config is None else config, **(usual | arguments))


class Held:
    """A server that says what it is told and holds the rest back until it may go on, or until nobody listens."""

    def __init__(self, before: bytes, after: bytes = b"", *, keeps_alive: bool = True) -> None:
        self.go_on, self.gone = threading.Event(), threading.Event()
        self._before, self._after, self._keeps_alive = before, after, keeps_alive
        self.server = Server(self._answer)

    def _answer(self, _: Request) -> Iterator[bytes]:
        try:
            yield self._before
            give_up = time.monotonic() + 10
            while not self.go_on.wait(0.01) and time.monotonic() < give_up:
                # Whoever has left is noticed by writing to them.
                yield KEEP_ALIVE if self._keeps_alive else b""
            yield self._after
        finally:
            self.gone.set()

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self.server.__exit__()


# A server that stops in the middle of an answer, and an interface to it.
Scene = tuple[Held, LLMInterface]


def in_turn(*answers: bytes | Callable[[Request], Iterator[bytes] | bytes]) -> Server:
    """A server that gives these answers one after the other, and the last one ever after."""
    left = list(answers)

    def answer(request: Request) -> Iterator[bytes] | bytes:
        now = left.pop(0) if len(left) > 1 else left[0]
        return now(request) if callable(now) else now

    return Server(answer)
