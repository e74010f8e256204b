"""The core of an interface or a limiter, with hooks and options of earlier calls."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from quotaflow._call.hooks import Hooks
    from quotaflow._call.options import CallArguments
    from quotaflow._quotaflow import CallOptions, Core

_DEBUG = 10  # logging.DEBUG
_MOST_KEPT_OPTIONS = 256
# Equal and of the same type means the same for these, which lists and tuples cannot promise.
_PLAIN = frozenset({str, int, float, bool, type(None)})


class Caller:
    """What every call of one object needs.

    Args:
        core: what carries calls out.
        make: makes the options of a call, as `make_options` does.
        logs_at: whether records of a level are logged.
        errors_as_text: whether a call without an answer gives a text in place of an exception.
    """

    __slots__ = ("_known", "_logs_at", "_make", "core", "errors_as_text", "hooks")

    core: Core
    errors_as_text: bool
    hooks: Hooks | None
    """Those of the program, once there is one."""

    def __init__(
        self,
        core: Core,
        make: Callable[[CallArguments, bool], CallOptions],
        logs_at: Callable[[int], bool],
        errors_as_text: bool,
    ) -> None:
        self.core = core
        self.errors_as_text = errors_as_text
        self.hooks = None
        self._make = make
        self._logs_at = logs_at
        self._known: dict[tuple[object, ...], CallOptions] = {}

    def options_for(self, given: CallArguments) -> CallOptions:
        """Return checked options, remembered: most calls of a program differ in nothing but their prompt."""
        if self.hooks is not None:
            # A child of a fork inherits hooks and not the thread that calls them.
            self.hooks.ensure()
        debug = self._logs_at(_DEBUG)
        _, _, _, retry, fallback, retries, delay, _, priority, timeout, deadline, _, skips, hook, params = given
        kinds = tuple(map(type, params.values())) if params else ()
        if hook is not None or deadline is not None or not _PLAIN.issuperset(kinds):
            return self._make(given, debug)
        # Equal is not enough: True == 1 == 1.0, and one of them may be wrong where another is right. Types one by
        # one, for this runs once a call.
        known = (
            given[:-1], debug, type(retry), type(fallback), type(retries), type(delay), type(priority),
            type(timeout), type(skips), kinds, tuple(params.items()) if params else (),
        )  # fmt: skip
        try:
            options = self._known.get(known)
        except TypeError:  # not hashable, so it is a wrong argument, and the check says which
            return self._make(given, debug)
        if options is None:
            options = self._make(given, debug)
            if len(self._known) >= _MOST_KEPT_OPTIONS:
                self._known.clear()
            self._known[known] = options
        return options
