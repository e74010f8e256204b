"""Which arguments does `retrying` take?"""

from __future__ import annotations

import inspect
from math import isfinite

from quotaflow.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def check_callable(name: str, given: Any, *, may_be_none: bool = False) -> None:
    """Refuses what cannot be called."""
    if not (callable(given) or (given is None and may_be_none)):
        raise InvalidArgumentError(f"{name} is of type {type(given).__name__}", hint="pass a function")


def check_provider(given: Any) -> None:
    """Refuses what is no name."""
    if given is not None and not isinstance(given, str):
        raise InvalidArgumentError(f"provider is of type {type(given).__name__}", hint="pass its name")


def check_tried(fn: Any) -> None:
    """Refuses what cannot be decorated."""
    if inspect.isclass(fn) or not callable(fn):
        what = f"the class {fn.__name__}" if inspect.isclass(fn) else f"something of type {type(fn).__name__}"
        raise InvalidArgumentError(f"{what} cannot be tried again", hint="decorate a function or a method")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise InvalidArgumentError("a generator cannot be tried again", hint="use the loop inside of it")


def check_retry_on(given: Any) -> None:
    """Refuses what names no errors."""
    types = given if isinstance(given, tuple) else (given,) if isinstance(given, type) else ()
    for one in types:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            shown = one.__name__ if isinstance(one, type) else f"of type {type(one).__name__}"
            raise InvalidArgumentError(f"retry_on names {shown}, no exception", hint="pass types of exceptions")
    if given is not None and not isinstance(given, tuple) and not callable(given):
        raise InvalidArgumentError(
            f"retry_on is of type {type(given).__name__}", hint="pass an exception type, a tuple or a function"
        )
    if inspect.iscoroutinefunction(given):
        raise InvalidArgumentError("retry_on is a coroutine function", hint="pass one that answers at once")


def number(name: str, value: Any, least: float, most: float) -> float:
    """A number or a timedelta between two bounds, in seconds."""
    seconds = value.total_seconds() if hasattr(value, "total_seconds") else value
    if (
        isinstance(seconds, int | float)
        and not isinstance(seconds, bool)
        and isfinite(seconds)
        and least <= seconds <= most
    ):
        return float(seconds)
    shown = repr(seconds) if isinstance(seconds, bool | int | float) else f"of type {type(seconds).__name__}"
    raise InvalidArgumentError(f"{name} is {shown}", hint=f"pass a number from {least:g} to {most:g}")


def count(value: Any) -> int:
    """A number of attempts."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    shown = repr(value) if isinstance(value, bool | int | float) else f"of type {type(value).__name__}"
    raise InvalidArgumentError(
        f"attempts is {shown}", hint="pass 1 or more, or None; write @retrying() with brackets"
    )
