"""How is somebody else's function called until it succeeds or nothing more can be done?"""

from __future__ import annotations

import inspect

from quotaflow.errors import CallError, InvalidArgumentError, QuotaflowError
from quotaflow.permits import Permit, permitted
from quotaflow.results import tokens_used

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any, NoReturn

    from quotaflow._quotaflow import GuardedCall

_TAKES_SECRET = ("key", "api_key")


class Asked:
    """A function, the arguments its caller gave, and the one that the permit fills."""

    __slots__ = ("_args", "_at", "_fn", "_kwargs", "_name")

    def __init__(self, fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if not callable(fn):
            kind = type(fn).__name__
            raise InvalidArgumentError(f"fn is of type {kind}", hint="pass a function that makes the call")
        self._fn, self._args, self._kwargs = fn, args, kwargs
        self._name, self._at = _filled_by_permit(fn, args, kwargs)

    def __call__(self, permit: Permit) -> Any:
        """Calls the function with what this permit is worth."""
        if self._name is None:
            return self._fn(*self._args, **self._kwargs)
        value = permit if self._name == "permit" else permit.key.secret
        if self._at is None:
            return self._fn(*self._args, **self._kwargs, **{self._name: value})
        return self._fn(*self._args[: self._at], value, *self._args[self._at :], **self._kwargs)


def _filled_by_permit(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[str | None, int | None]:
    """The parameter a permit fills, and its place if the caller's arguments reach beyond it."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return None, None
    for name in ("permit", *_TAKES_SECRET):
        for place, parameter in enumerate(parameters):
            if parameter.name != name or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            if name in kwargs:
                return None, None
            by_place = parameter.kind is not parameter.KEYWORD_ONLY
            only_by_place = parameter.kind is parameter.POSITIONAL_ONLY
            return name, place if by_place and (len(args) > place or only_by_place) else None
    return None, None


def run(call: GuardedCall, asked: Asked) -> Any:
    """Calls it with one permit after the other, as the kernel says."""
    last: Exception | None = None
    while True:
        try:
            permit = Permit(call, call.permit())
        except QuotaflowError as refusal:
            if last is None:
                raise
            _give_up(last, refusal)
        try:
            result = asked(permit)
        except BaseException as error:
            last = _failed(permit, error)
            if last is None:
                raise
            continue
        return _succeeded(permit, result)


async def arun(call: GuardedCall, asked: Asked) -> Any:
    """The same from asyncio; a result that can be awaited is."""
    last: Exception | None = None
    while True:
        try:
            permit = await permitted(call)
        except QuotaflowError as refusal:
            if last is None:
                raise
            _give_up(last, refusal)
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
    used = tokens_used(result)
    if used is None:
        permit.settle()
    else:
        permit.settle(input_tokens=used[0], output_tokens=used[1])
    return result


def _give_up(last: Exception, refusal: QuotaflowError) -> NoReturn:
    last.add_note(_told(refusal))
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
    note = f"quotaflow gave up on {refusal.provider} after {len(tries)} {times}: {', '.join(tries)}"
    if refusal.retry_after is not None:
        note += f"; again possible in {refusal.retry_after:.1f} s"
    return note
