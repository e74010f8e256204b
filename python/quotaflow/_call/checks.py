"""Checks of arguments, each worded once: the checked value, or an error."""

from __future__ import annotations

from datetime import datetime, timedelta
from math import isfinite

from quotaflow.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from quotaflow.errors import QuotaflowError

_LONGEST_SPAN = 30 * 86_400.0
# An earlier deadline is a span that was taken for a moment: 2001-09-09.
_EARLIEST_DEADLINE = 1e9


def shown(value: object, *kinds: type) -> str:
    """Return a value for an error text: a number as it is, anything else by its type: it may be a secret.

    >>> shown(3), shown("sk-1"), shown("restrat", str)
    ('3', 'of type str', "'restrat'")
    """
    return repr(value) if isinstance(value, kinds or (int, float)) else f"of type {type(value).__name__}"


def wrong(name: str, value: object, expected: str) -> InvalidArgumentError:
    """Return the error for a value that an argument cannot have."""
    return InvalidArgumentError(f"{name} is {shown(value)}", hint=f"pass {expected}")


def wrong_type(
    name: str, value: object, hint: str, error: type[QuotaflowError] = InvalidArgumentError, **facts: Any
) -> QuotaflowError:
    """Return the error for a value of a type that an argument does not take."""
    return error(f"{name} is of type {type(value).__name__}", hint=hint, **facts)


def text(name: str, value: object) -> str | None:
    """Return a text or `None`."""
    if value is None:
        return None
    if isinstance(value, str):
        return whole_characters(name, value if type(value) is str else str(value))
    raise wrong(name, value, "a string or None")


def whole_characters(name: str, text: str, error: type[QuotaflowError] = InvalidArgumentError) -> str:
    """Return the text, unless it has half a surrogate pair, which cannot be written as UTF-8."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as half:
            raise error(
                f"{name} has an unpaired surrogate at character {half.start}",
                hint='it was decoded wrongly: decode it again with errors="replace"',
            ) from None
    return text


def optional_name(name: str, value: object) -> str | None:
    """Return a name such as a provider's or a key's label, or `None`; not an empty one."""
    given = text(name, value)
    if given is not None and (not given or given.isspace()):
        raise InvalidArgumentError(f"{name} is empty", hint="pass None to leave it out")
    return given


def required_name(name: str, value: object) -> str:
    """Return a name that must be given."""
    if value is None:
        raise wrong(name, value, "a string")
    return optional_name(name, value) or ""


def flag(name: str, value: object) -> bool:
    """Return the value if it is True or False."""
    if isinstance(value, bool):
        return value
    raise wrong(name, value, "True or False")


def whole(name: str, value: object, most: int) -> int:
    """Return a whole number from 0 to `most`."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most:
        return value
    raise wrong(name, value, f"a whole number from 0 to {most}")


def optional_whole(name: str, value: object, most: int) -> int | None:
    """Return a whole number from 0 to `most`, or `None`."""
    return None if value is None else whole(name, value, most)


def span(name: str, value: object) -> float:
    """Return seconds or a timedelta, as seconds."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds <= _LONGEST_SPAN:
        return float(seconds)
    raise wrong(name, seconds, "seconds (more than 0, at most 30 days) or a timedelta")


def optional_span(name: str, value: object) -> float | None:
    """Return seconds or a timedelta, as seconds, or `None`."""
    return None if value is None else span(name, value)


def optional_moment(name: str, value: object) -> float | None:
    """Return a moment as seconds since 1970, or `None`."""
    if value is None:
        return None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidArgumentError(
                f"{name} has no time zone", hint="pass an aware datetime, as datetime.now(timezone.utc) makes them"
            )
        value = value.timestamp()
    if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
        if value >= _EARLIEST_DEADLINE:
            return float(value)
        raise InvalidArgumentError(
            f"{name} is {value!r}, a moment before 2001", hint=f"for a span pass time.time() + {value!r}"
        )
    raise wrong(name, value, "an aware datetime or seconds since 1970 as time.time() gives them")
