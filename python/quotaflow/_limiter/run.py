"""Guarded runs: a function is called with permits until it succeeds or ends."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from quotaflow._limiter.arguments import refused_awaitable, refused_result
from quotaflow._limiter.permits import granted, permitted
from quotaflow._retry.notes import note
from quotaflow.errors import CallError, QuotaflowError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any, NoReturn

    from quotaflow._limiter.arguments import Asked
    from quotaflow._limiter.permits import Permit
    from quotaflow._quotaflow import GuardedCall

# Where libraries put it: openai, anthropic and most others; google.genai and LangChain; LangChain's older field.
_PLACES = ("usage", "usage_metadata", "usageMetadata")
_INPUT = ("input_tokens", "prompt_tokens", "prompt_token_count", "promptTokenCount")
_OUTPUT = ("output_tokens", "completion_tokens", "candidates_token_count", "candidatesTokenCount")
_TOTAL = ("total_tokens", "total_token_count", "totalTokenCount")


def run(call: GuardedCall, asked: Asked) -> Any:
    """Call it with one permit after the other, as the kernel says."""
    last: Exception | None = None
    while True:
        try:
            permit = granted(call)
        except QuotaflowError as nothing_more:
            if last is None:
                raise
            _give_up(last, nothing_more)
        try:
            result = asked(permit)
        except BaseException as error:
            last = _failed(permit, error)
            if last is None:
                raise
            continue
        refusal = refused_awaitable(result)
        if refusal is not None:
            # A coroutine has not begun; a task or a future may have.
            if inspect.iscoroutine(result):
                permit.release()
            else:
                permit.ends_with(refusal)
            raise refusal
        return _succeeded(permit, result)


async def arun(call: GuardedCall, asked: Asked) -> Any:
    """Do the same from asyncio; a result that can be awaited is."""
    last: Exception | None = None
    while True:
        try:
            permit = await permitted(call)
        except QuotaflowError as nothing_more:
            if last is None:
                raise
            _give_up(last, nothing_more)
        try:
            result = asked(permit)
            if inspect.isawaitable(result):
                result = await _awaited(result)
        except BaseException as error:
            last = _failed(permit, error)
            if last is None:
                raise
            continue
        return _succeeded(permit, result)


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result


def _failed(permit: Permit, error: BaseException) -> Exception | None:
    """Book the failure; return the error if the call may be tried again."""
    if not isinstance(error, Exception):
        permit.ends_with(error)
        return None
    return error if permit.fail(error) is not None else None


def _succeeded(permit: Permit, result: Any) -> Any:
    refusal = refused_result(result)
    if refusal is not None:
        permit.ends_with(refusal)
        raise refusal
    used = tokens_used(result)
    if used is None:
        permit.settle()
    else:
        permit.settle(input_tokens=used[0], output_tokens=used[1])
    return result


def _give_up(last: Exception, refusal: QuotaflowError) -> NoReturn:
    note(last, _told(refusal), ("quotaflow gave up on ", "quotaflow gave up: "))
    try:
        raise last
    finally:
        # A frame that holds its own exception lives until the next garbage collection.
        del last, refusal


def _told(refusal: QuotaflowError) -> str:
    """Return what was tried and why it ended, in one line for the traceback of the caller's exception."""
    if not isinstance(refusal, CallError) or not refusal.attempts:
        return f"quotaflow gave up: {refusal}"
    tries = [f"key {attempt.key} met {attempt.failure}" for attempt in refusal.attempts]
    times = "attempt" if len(tries) == 1 else "attempts"
    text = f"quotaflow gave up on {refusal.provider} after {len(tries)} {times}: {', '.join(tries)}"
    if refusal.retry_after is not None:
        text += f"; again possible in {refusal.retry_after:.1f} s"
    return text


def tokens_used(result: object) -> tuple[int, int] | None:
    """Return the tokens of the prompt and of the answer, or `None` when the result does not say.

    Where only the sum is stated it counts as input. What a sum has beyond the parts (thinking) counts as output.

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
    except Exception:  # noqa: BLE001 - a result may be any object; a call that succeeded stays one
        return None
