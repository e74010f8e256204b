"""How is somebody else's function called until it succeeds or nothing more can be done?"""

from __future__ import annotations

import inspect

from quotaflow.asked import refused_awaitable, refused_result
from quotaflow.errors import CallError, QuotaflowError
from quotaflow.notes import note
from quotaflow.permits import granted, permitted
from quotaflow.results import tokens_used

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any, NoReturn

    from quotaflow._quotaflow import GuardedCall
    from quotaflow.asked import Asked
    from quotaflow.permits import Permit


def run(call: GuardedCall, asked: Asked) -> Any:
    """Calls it with one permit after the other, as the kernel says."""
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
            # A coroutine has not begun; of a task or a future nobody knows.
            if inspect.iscoroutine(result):
                permit.release()
            else:
                permit.ends_with(refusal)
            raise refusal
        return _succeeded(permit, result)


async def arun(call: GuardedCall, asked: Asked) -> Any:
    """The same from asyncio; a result that can be awaited is."""
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
    """Books it; the error if it may be tried again, once the kernel agrees."""
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
    """What was tried and why no more is, in one line for the traceback of the caller's own exception."""
    if not isinstance(refusal, CallError) or not refusal.attempts:
        return f"quotaflow gave up: {refusal}"
    tries = [f"key {attempt.key} met {attempt.failure}" for attempt in refusal.attempts]
    times = "attempt" if len(tries) == 1 else "attempts"
    told = f"quotaflow gave up on {refusal.provider} after {len(tries)} {times}: {', '.join(tries)}"
    if refusal.retry_after is not None:
        told += f"; again possible in {refusal.retry_after:.1f} s"
    return told
