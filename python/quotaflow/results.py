"""How many tokens did a result of somebody else's library use?"""

from __future__ import annotations

from collections.abc import Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Where libraries put it: openai, anthropic and most others; google.genai and LangChain; LangChain's older field.
_PLACES = ("usage", "usage_metadata", "usageMetadata")
_INPUT = ("input_tokens", "prompt_tokens", "prompt_token_count", "promptTokenCount")
_OUTPUT = ("output_tokens", "completion_tokens", "candidates_token_count", "candidatesTokenCount")
_TOTAL = ("total_tokens", "total_token_count", "totalTokenCount")


def tokens_used(result: object) -> tuple[int, int] | None:
    """The tokens of the prompt and of the answer, or `None` when the result does not say.

    Where only the sum is told it counts as input. What a sum has beyond the parts (thinking) counts as output.

    >>> tokens_used({"usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}})
    (9, 3)
    >>> tokens_used({"usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 30}})
    (9, 21)
    >>> tokens_used("text") is None
    True
    """
    for place in _PLACES:
        usage = _field(result, place)
        if usage is None:
            continue
        input_tokens, output_tokens, total = (_first(usage, names) for names in (_INPUT, _OUTPUT, _TOTAL))
        if input_tokens is None and output_tokens is None:
            if total is not None:
                return total, 0
            continue
        used = input_tokens or 0, output_tokens or 0
        return used[0], max(used[1], (total or 0) - used[0])
    return None


def _first(usage: object, names: tuple[str, ...]) -> int | None:
    for name in names:
        value = _field(usage, name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12:
            return value
    return None


def _field(thing: Any, name: str) -> object:
    try:
        return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)
    except Exception:  # noqa: BLE001 - a result is anybody's object; a call that succeeded stays one
        return None
