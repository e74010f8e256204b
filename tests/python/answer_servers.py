"""A server that gives scripted answers in the dialect it is asked in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quotaflow import LLMInterface
from servers import Server, http

if TYPE_CHECKING:
    from servers import Request

MODELS = {
    "openai": "gpt-4o-mini",
    "anthropic": "claude-haiku-4-5",
    "gemini": "gemini-2.5-flash",
    "deepseek": "deepseek-chat",
}


class Sayer:
    """Says one text after the other, in the dialect it is asked in; the last one for ever."""

    def __init__(self) -> None:
        self.texts: list[Any] = []
        self.server = Server(self._answer)

    def _answer(self, request: Request) -> bytes:
        said = self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]
        if isinstance(said, bytes):
            return said
        text, reason = said if isinstance(said, tuple) else (said, "stop")
        if request.path.endswith("/messages"):
            reasons = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
            usage = {"input_tokens": 10, "output_tokens": 5}
            content = [{"type": "text", "text": text}]
            return http({"type": "message", "content": content, "stop_reason": reasons[reason], "usage": usage})
        if "generateContent" in request.path:
            reasons = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}
            candidate = {"content": {"parts": [{"text": text}]}, "finishReason": reasons[reason]}
            return http(
                {
                    "candidates": [candidate],
                    "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15},
                }
            )
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": reason}
        return http({"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 5}})

    @property
    def bodies(self) -> list[Any]:
        return [request.json for request in self.server.asked]


def interface(sayer: Sayer, config: dict[str, Any] | None = None, **others: Any) -> LLMInterface:
    keys = {name: f"{name}-test-1" for name in MODELS}
    urls = dict.fromkeys(MODELS, sayer.server.url) | dict.fromkeys(
        ("openai", "deepseek"), f"{sayer.server.url}/v1"
    )
    return LLMInterface(config or {}, keys=keys, base_urls=urls, state="memory", **others)
