"""The arguments of a guarded function: the caller's, and those a permit fills."""

from __future__ import annotations

import functools
import inspect
import types

from quotaflow._call.checks import wrong_type
from quotaflow.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from quotaflow._limiter.permits import Permit

_IN_C = (
    types.BuiltinFunctionType, types.ClassMethodDescriptorType, types.MethodDescriptorType,
    types.MethodWrapperType, types.WrapperDescriptorType,
)  # fmt: skip
_GENERATOR_HINT = "consume it inside of fn and return what it gave, or loop inside of `with limiter.acquire(…)`"


class Asked:
    """A function, the arguments its caller gave, and those that a permit fills: only what the caller left open."""

    __slots__ = ("_args", "_fn", "_kwargs", "_open")

    def __init__(
        self, fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], model: str | None = None
    ) -> None:
        if not callable(fn):
            raise wrong_type("fn", fn, "pass a function that makes the call")
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            # Nothing of it runs until it is iterated over, and then its permit would be gone.
            raise InvalidArgumentError("fn is a generator function", hint=_GENERATOR_HINT)
        self._fn, self._args, self._kwargs = fn, args, dict(kwargs)
        self._open = self._prepared(model)

    def _prepared(self, model: str | None) -> dict[str, inspect.Parameter]:
        """Hand `model` on where it is taken; return the parameters that a permit fills."""
        try:
            signature = inspect.signature(self._fn)
            bound = set(signature.bind_partial(*self._args, **self._kwargs).arguments)
        except (TypeError, ValueError):
            # It shows no parameters, or the arguments do not fit them: then the function says so best.
            return {}
        inner = self._fn
        while isinstance(inner, functools.partial):
            bound.update(inner.keywords)
            inner = inner.func
        parameters = signature.parameters
        by_name = {
            name: parameter
            for name, parameter in parameters.items()
            if name not in bound and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        }
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        if model is not None and ("model" in by_name or (takes_any and "model" not in {*bound, *parameters})):
            self._kwargs["model"] = model
        names: tuple[str, ...] = ("permit", "api_key")
        filled = {name: by_name[name] for name in names if name in by_name}
        # `key` may be any key, of a cache for instance: it is filled where nothing else is, and never in C code.
        if not filled and "key" in by_name and not isinstance(inner, _IN_C):
            filled["key"] = by_name["key"]
        return filled

    def __call__(self, permit: Permit) -> Any:
        """Call the function with what this permit holds."""
        filled: dict[str, Any] = {}
        for name, parameter in self._open.items():
            if name == "permit":
                filled[name] = permit
            elif permit.key.secret is not None:
                filled[name] = permit.key.secret
            elif name == "api_key" and parameter.default is parameter.empty:
                filled[name] = None
        return self._fn(*self._args, **self._kwargs, **filled)


def refused_result(result: Any) -> InvalidArgumentError | None:
    """Return why this result is none: it would only begin after its permit has ended."""
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        return InvalidArgumentError("fn returned a generator", hint=_GENERATOR_HINT)
    return None


def refused_awaitable(result: Any) -> InvalidArgumentError | None:
    """Return why `run` cannot use this result; a coroutine is closed, since it is not awaited."""
    if not inspect.isawaitable(result):
        return None
    if inspect.iscoroutine(result):
        result.close()
    return InvalidArgumentError("fn returned something to be awaited", hint="await limiter.arun(…)")
