"""Are these arguments possible, and what do they ask of a call?"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from math import isfinite
from os import PathLike, fspath

from quotaflow._quotaflow import CallOptions, GuardOptions
from quotaflow.errors import ConfigError, InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from quotaflow._call.config_manager import ManagedConfig

    _T = TypeVar("_T")

_LONGEST_SPAN = 30 * 86_400.0
_OLDEST_ANSWER = 366 * 86_400.0
_MOST_RETRIES = 1_000
_HIGHEST_PRIORITY = 9
_MOST_TOKENS = 10**12
_NO_WAIT = 1e-6
# Earlier than this is nobody's deadline but a span that was taken for a moment: 2001-09-09.
_EARLIEST_DEADLINE = 1e9


def make_options(
    task_name: object,
    provider: object,
    model: object,
    retry: object,
    fallback: object,
    max_retries: object,
    retry_delay: object,
    system: object,
    priority: object,
    timeout: object,
    deadline: object,
    user: object,
    skip_rate_limit: object,
    params: Mapping[str, Any],
    on_retry: object,
    debug: bool,
) -> CallOptions:
    """What Rust is told about a call; raises `InvalidArgumentError` for the first wrong argument."""
    if params.get("stream"):
        raise InvalidArgumentError(
            "stream asks for an answer in pieces, and this call gives it whole",
            hint="call stream_prompt or astream_prompt, and leave stream out",
        )
    if params.get("stream_options") is not None:
        raise InvalidArgumentError("stream_options is for streams", hint="call stream_prompt or astream_prompt")
    for name in ("resume", "idle_timeout"):
        if name in params:
            raise InvalidArgumentError(f"{name} is for streams", hint="call stream_prompt or astream_prompt")
    cache = None
    if "cache" in params:
        cache = _cache(params["cache"])
        params = {name: value for name, value in params.items() if name != "cache"}
    return CallOptions(
        _name("task_name", task_name),
        _name("provider", provider),
        _name("model", model),
        _flag("retry", retry),
        _flag("fallback", fallback),
        # What was left at its default is for the config to say.
        _unless_default(3, _whole("max_retries", max_retries, _MOST_RETRIES)),
        _unless_default(1.0, _span("retry_delay", retry_delay)),
        _text("system", system),
        _whole("priority", priority, _HIGHEST_PRIORITY),
        None if timeout is None else _span("timeout", timeout),
        None if deadline is None else _moment("deadline", deadline),
        _name("user", user),
        _flag("skip_rate_limit", skip_rate_limit),
        _params(params) if params else None,
        cache,
        _hook("on_retry", on_retry),
        debug,
    )


class HandedOn(dict[str, object]):
    """A `response_format` that goes to Rust as it is: whoever made it reads the answer."""


def takes_a_shape(response_format: object) -> bool:
    """Whether the answer is to be held to a shape, which `quotaflow._structured.repair` sees to.

    >>> takes_a_shape({"type": "object"}), takes_a_shape(None)
    (True, False)
    """
    return response_format is not None and type(response_format) is not HandedOn


def guard_options(
    provider: object,
    tokens: object,
    key: object,
    model: object,
    priority: object = 3,
    *,
    timeout: object = None,
    deadline: object = None,
    retry: object = False,
    max_retries: object = None,
    retry_delay: object = None,
) -> GuardOptions:
    """What Rust is told about a call that somebody else sends; raises `InvalidArgumentError` as `make_options`."""
    # Not to wait at all is to wait for less than any wait takes.
    no_wait = isinstance(timeout, int | float) and not isinstance(timeout, bool) and timeout == 0
    return GuardOptions(
        required_name("provider", provider),
        _name("model", model),
        _name("key", key),
        _whole("tokens", tokens, _MOST_TOKENS),
        _whole("priority", priority, _HIGHEST_PRIORITY),
        _flag("retry", retry),
        None if max_retries is None else _whole("max_retries", max_retries, _MOST_RETRIES),
        None if retry_delay is None else _span("retry_delay", retry_delay),
        None if timeout is None else _NO_WAIT if no_wait else _span("timeout", timeout),
        None if deadline is None else _moment("deadline", deadline),
    )


def required_name(name: str, value: object) -> str:
    """A name that must be given; raises `InvalidArgumentError` when it is empty or no text."""
    if value is None:
        raise _wrong(name, value, "a string")
    return _name(name, value) or ""


def _unless_default(default: _T, value: _T) -> _T | None:
    return None if value == default else value


def config_source(config: object) -> tuple[str | None, bool]:
    """The config as JSON and `False`, or its path and `True`; `(None, False)` means: search for it.

    >>> config_source({"models": {}})
    ('{"models":{}}', False)
    >>> config_source("quotaflow.yaml")
    ('quotaflow.yaml', True)
    """
    if config is None:
        return None, False
    if isinstance(config, str | PathLike):
        return _path("config", config), True
    if isinstance(config, Mapping):
        return config_json("config", config), False
    kind = type(config).__name__
    raise ConfigError(f"config is of type {kind}", hint="pass a path, a dict, a config manager or None")


def managed_config(config: object) -> ManagedConfig | None:
    """What a program's own config manager says; `None` for every other config.

    >>> managed_config({"models": {}}) is None
    True
    """
    if config is None or not callable(getattr(config, "get_model_config", None)):
        return None
    from quotaflow._call.config_manager import ManagedConfig

    return ManagedConfig(config)


def wants_text_for_errors(errors: object) -> bool:
    """Whether `errors` asks for text in place of exceptions.

    >>> wants_text_for_errors("raise")
    False
    """
    if errors not in ("raise", "text"):
        shown = repr(errors) if isinstance(errors, str) else f"of type {type(errors).__name__}"
        raise ConfigError(f"errors is {shown}", path="errors", hint="pass 'raise' or 'text'")
    return errors == "text"


def config_json(name: str, value: object) -> str | None:
    """A mapping of the constructor as JSON; raises `ConfigError` with its name as the path."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        kind = type(value).__name__
        raise ConfigError(f"{name} is of type {kind}", path=name, hint="pass a dict with one entry per provider")
    import json

    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_plain)
        return text if text.isascii() else text.encode().decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name} cannot be written as JSON: {error}", path=name) from None


def state_address(state: object) -> str | None:
    """Where quotas are remembered: `memory`, a path or an address, as text."""
    if state is None:
        return None
    if isinstance(state, str | PathLike):
        return _path("state", state)
    hint = "pass 'memory', a path, or None for the user's cache folder"
    raise ConfigError(f"state is of type {type(state).__name__}", path="state", hint=hint)


def optional_name(name: str, value: object) -> str | None:
    """A name such as a provider's or a key's label; raises `InvalidArgumentError` when it is empty or no text."""
    return _name(name, value)


def optional_whole(name: str, value: object, most: int) -> int | None:
    """A whole number from 0 to `most`, or `None`; raises `InvalidArgumentError` for anything else."""
    return None if value is None else _whole(name, value, most)


def optional_span(name: str, value: object) -> float | None:
    """Seconds or a timedelta, as seconds; raises `InvalidArgumentError` when it is no span."""
    return None if value is None else _span(name, value)


def _path(name: str, value: str | PathLike[Any]) -> str:
    path = fspath(value)
    if not isinstance(path, str) or not path:
        raise ConfigError(f"the path of {name} is empty or no text", path=name, hint="pass None for the usual one")
    return _whole_characters(name, path, ConfigError)


def _plain(value: object) -> object:
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    # Only the type: the value may be a secret.
    raise TypeError(f"a value of type {type(value).__name__}")


def _wrong(name: str, value: object, expected: str) -> InvalidArgumentError:
    shown = repr(value) if isinstance(value, bool | int | float) else f"of type {type(value).__name__}"
    return InvalidArgumentError(f"{name} is {shown}", hint=f"pass {expected}")


def _text(name: str, value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return _whole_characters(name, value if type(value) is str else str(value))
    raise _wrong(name, value, "a string or None")


def _whole_characters(
    name: str, text: str, error: type[InvalidArgumentError | ConfigError] = InvalidArgumentError
) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as wrong:
            raise error(
                f"{name} has an unpaired surrogate at character {wrong.start}",
                hint='it was decoded wrongly: decode it again with errors="replace"',
            ) from None
    return text


def _name(name: str, value: object) -> str | None:
    text = _text(name, value)
    if text is not None and (not text or text.isspace()):
        raise InvalidArgumentError(f"{name} is empty", hint="pass None to leave it out")
    return text


def _flag(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise _wrong(name, value, "True or False")


def _whole(name: str, value: object, most: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most:
        return value
    raise _wrong(name, value, f"a whole number from 0 to {most}")


def _span(name: str, value: object) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds <= _LONGEST_SPAN:
        return float(seconds)
    raise _wrong(name, seconds, "seconds (more than 0, at most 30 days) or a timedelta")


def _moment(name: str, value: object) -> float:
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
    raise _wrong(name, value, "an aware datetime or seconds since 1970 as time.time() gives them")


def _cache(value: object) -> tuple[bool, float | None] | None:
    """Whether an answer that was given before will do, and how old it may be."""
    if value is None:
        return None
    if isinstance(value, bool):
        return value, None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, int | float) and 0 < seconds <= _OLDEST_ANSWER:
        return True, float(seconds)
    raise _wrong("cache", seconds, "True, False, or how old an answer may be, in seconds or as a timedelta")


def _params(params: Mapping[str, Any]) -> str:
    import json

    try:
        text = json.dumps(params, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        return text if text.isascii() else text.encode().decode()
    except (TypeError, ValueError, RecursionError) as error:
        culprit = next((name for name, value in params.items() if not _is_json(value)), "a parameter")
        raise InvalidArgumentError(
            f"{culprit} cannot be written as JSON: {error}", hint="pass plain values, lists and dicts"
        ) from None


def _is_json(value: object) -> bool:
    import json

    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _hook(name: str, hook: object) -> Callable[[tuple[Any, ...]], object] | None:
    if hook is None:
        return None
    if not callable(hook):
        raise _wrong(name, hook, "a function that takes an Attempt")
    from quotaflow.records import Attempt

    return lambda facts: hook(Attempt(*facts))
