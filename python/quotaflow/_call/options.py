"""The arguments of a call, checked, in the form that Rust takes."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping
from datetime import timedelta
from os import PathLike, fspath

from quotaflow._call.checks import (
    flag,
    optional_moment,
    optional_name,
    optional_span,
    optional_whole,
    required_name,
    shown,
    text,
    whole,
    whole_characters,
    wrong,
    wrong_type,
)
from quotaflow._quotaflow import CallOptions, GuardOptions
from quotaflow.errors import ConfigError, InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_OLDEST_ANSWER = 366 * 86_400.0
_MOST_RETRIES = 1_000
_HIGHEST_PRIORITY = 9
_MOST_TOKENS = 10**12
_NO_WAIT = 1e-6

_Fields = namedtuple(  # noqa: PYI024 - a typed one would load typing
    "_Fields",
    [
        "task_name", "provider", "model", "retry", "fallback", "max_retries", "retry_delay", "system", "priority",
        "timeout", "deadline", "user", "skip_rate_limit", "on_retry", "params",
    ],
)  # fmt: skip


class CallArguments(_Fields):
    """What a caller gave beside the prompt, unchecked, by the names of `LLMInterface.send_prompt`.

    `params` is the dict of everything that goes to the provider.

    >>> asked = CallArguments(None, None, "gpt-4o", True, True, None, None, None, 3, *[None] * 3, False, None, {})
    >>> asked.model, asked._replace(timeout=5).timeout
    ('gpt-4o', 5)
    """

    __slots__ = ()


def make_options(given: CallArguments, debug: bool) -> CallOptions:
    """Return the options of a call for Rust; raise `InvalidArgumentError` for the first wrong argument."""
    params = given.params
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
        optional_name("task_name", given.task_name),
        optional_name("provider", given.provider),
        optional_name("model", given.model),
        flag("retry", given.retry),
        flag("fallback", given.fallback),
        optional_whole("max_retries", given.max_retries, _MOST_RETRIES),
        optional_span("retry_delay", given.retry_delay),
        text("system", given.system),
        whole("priority", given.priority, _HIGHEST_PRIORITY),
        optional_span("timeout", given.timeout),
        optional_moment("deadline", given.deadline),
        optional_name("user", given.user),
        flag("skip_rate_limit", given.skip_rate_limit),
        _params(params) if params else None,
        cache,
        _hook("on_retry", given.on_retry),
        debug,
    )


class HandedOn(dict[str, object]):
    """A `response_format` that goes to Rust as it is: its maker reads the answer."""


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
    """Return the options of a guarded call for Rust; raise `InvalidArgumentError` as `make_options` does."""
    # Not to wait at all is to wait for less than any wait takes.
    no_wait = isinstance(timeout, int | float) and not isinstance(timeout, bool) and timeout == 0
    return GuardOptions(
        required_name("provider", provider),
        optional_name("model", model),
        optional_name("key", key),
        whole("tokens", tokens, _MOST_TOKENS),
        whole("priority", priority, _HIGHEST_PRIORITY),
        flag("retry", retry),
        optional_whole("max_retries", max_retries, _MOST_RETRIES),
        optional_span("retry_delay", retry_delay),
        _NO_WAIT if no_wait else optional_span("timeout", timeout),
        optional_moment("deadline", deadline),
    )


def config_source(config: object) -> tuple[str | None, bool]:
    """Return the config as JSON and `False`, or its path and `True`; `(None, False)` means: search for it.

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
    raise wrong_type("config", config, "pass a path, a dict, a config manager or None", ConfigError)


def wants_text_for_errors(errors: object) -> bool:
    """Whether `errors` asks for text in place of exceptions.

    >>> wants_text_for_errors("raise")
    False
    """
    if errors not in ("raise", "text"):
        raise ConfigError(f"errors is {shown(errors, str)}", path="errors", hint="pass 'raise' or 'text'")
    return errors == "text"


def config_json(name: str, value: object) -> str | None:
    """Return a mapping of the constructor as JSON; raise `ConfigError` with its name as the path."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise wrong_type(name, value, "pass a dict with one entry per provider", ConfigError, path=name)
    import json

    try:
        written = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_plain)
        return written if written.isascii() else written.encode().decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name} cannot be written as JSON: {error}", path=name) from None


def state_address(state: object) -> str | None:
    """Return where quotas are remembered: `memory`, a path or an address, as text."""
    if state is None:
        return None
    if isinstance(state, str | PathLike):
        return _path("state", state)
    hint = "pass 'memory', a path, or None for the user's cache folder"
    raise wrong_type("state", state, hint, ConfigError, path="state")


def _path(name: str, value: str | PathLike[Any]) -> str:
    path = fspath(value)
    if not isinstance(path, str) or not path:
        raise ConfigError(f"the path of {name} is empty or no text", path=name, hint="pass None for the usual one")
    return whole_characters(name, path, ConfigError)


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


def _cache(value: object) -> tuple[bool, float | None] | None:
    """Whether an answer that was given before will do, and how old it may be."""
    if value is None:
        return None
    if isinstance(value, bool):
        return value, None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, int | float) and 0 < seconds <= _OLDEST_ANSWER:
        return True, float(seconds)
    raise wrong("cache", seconds, "True, False, or how old an answer may be, in seconds or as a timedelta")


def _params(params: Mapping[str, Any]) -> str:
    import json

    try:
        written = json.dumps(params, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        return written if written.isascii() else written.encode().decode()
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
        raise wrong(name, hook, "a function that takes an Attempt")
    from quotaflow.records import Attempt

    return lambda facts: hook(Attempt(*facts))
