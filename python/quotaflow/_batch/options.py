"""The checked arguments of a batch, and the options of each of its calls."""

from __future__ import annotations

import time
from os import PathLike, fspath

from quotaflow._batch.source import what_answers_depend_on
from quotaflow._call.checks import wrong, wrong_type
from quotaflow._structured.shapes import Shapes
from quotaflow.errors import DeadlineExceededError, InvalidArgumentError, QuotaflowError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from quotaflow._call.caller import Caller
    from quotaflow._call.options import CallArguments
    from quotaflow._quotaflow import BatchRun, CallOptions
    from quotaflow._structured.repair import Rounds, Wanted

_MOST_AT_ONCE = 100_000
# Of the files a process may open, some are left to the rest of the program.
_LEFT_FOR_OTHERS = 128
_MOST_QUESTIONS = 256


class BatchOptions:
    """The checked arguments of a batch.

    Raises:
        InvalidArgumentError: one of them is wrong; nothing was sent.
        DeadlineExceededError: the deadline has passed already; nothing was sent.
    """

    def __init__(
        self,
        caller: Caller,
        render: Callable[[str, Any], object] | None,
        prompts: object,
        arguments: CallArguments,
        concurrency: object,
        *,
        progress: object,
        checkpoint: object,
        stop_on_error: object,
        dedupe: object,
        ordered: object,
    ) -> None:
        self.prompts = prompts
        self.progress = progress
        self.stop_on_error = _flag("stop_on_error", stop_on_error)
        self.dedupe = _flag("dedupe", dedupe)
        self.ordered = _flag("ordered", ordered)
        self.checkpoint = None if checkpoint is None else _path(checkpoint)
        self.render = render
        self.concurrency = _concurrency(concurrency)
        self._caller = caller
        self._arguments = arguments
        self._shapes = Shapes()
        self.usual: CallOptions
        self.wanted: Wanted | None
        self.usual, self.wanted = self.with_own({}, {})
        # Whether answers may come from fallbacks, for prompts that do not say.
        self.falls_back = bool(arguments.fallback)
        self._questions: dict[tuple[CallOptions, str], bytes] = {}
        self._over_at = _seconds(arguments.deadline)
        if self.is_over():
            raise DeadlineExceededError("the deadline has passed already", hint="pass a later one, or None")
        self.errors_as_text = caller.errors_as_text

    @property
    def job(self) -> dict[str, object]:
        """What the answers depend on beside the prompts."""
        params, _ = self._shapes.handed_on(self._arguments.params)
        asked = what_answers_depend_on(self._arguments._asdict()) | params
        asked.pop("cache", None)
        try:
            _, target = self._caller.core.asked(self.usual)
        except QuotaflowError:
            return asked  # each prompt has its own options, or none that could be sent
        return asked | {"default model": target}

    def start(self) -> BatchRun:
        """Return the calls under way, none so far."""
        most = self.concurrency
        return self._caller.core.batch(self.usual, _most_sockets() if most is None else most)

    def with_own(self, call: dict[str, Any], params: dict[str, Any]) -> tuple[CallOptions, Wanted | None]:
        """Return the options of a prompt with its own arguments, and the shape of its answer."""
        params, wanted = self._shapes.handed_on(self._arguments.params | params)
        asked = self._arguments._replace(**call, params=params)
        deadline = _earlier(asked.deadline, self._arguments.deadline)
        return self._caller.options_for(asked._replace(deadline=deadline)), wanted

    def question(self, options: CallOptions, params: dict[str, Any]) -> bytes:
        """Return the digest of what a call asks beside its prompt, with these options and own parameters."""
        asked = options, self._shapes.kind(self._arguments.params | params)
        known = self._questions.get(asked)
        if known is None:
            digest, _ = self._caller.core.asked(options)
            known = digest + asked[1].encode()
            if len(self._questions) >= _MOST_QUESTIONS:
                self._questions.clear()
            self._questions[asked] = known
        return known

    def rounds(self, prompt: object, wanted: Wanted, call: dict[str, Any]) -> Rounds:
        """Return the rounds of a prompt that begins now."""
        from quotaflow._structured.repair import Rounds

        asked = self._arguments._replace(**call)
        timeout = self._caller.core.call_timeout if asked.timeout is None else asked.timeout
        return Rounds(prompt, wanted, timeout, _earlier(call.get("deadline"), self._arguments.deadline))

    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return self._over_at is not None and time.time() >= self._over_at


def _flag(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise wrong_type(name, value, "pass True or False")


def _concurrency(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST_AT_ONCE:
        return value
    raise wrong(
        "concurrency", value, f"a whole number from 1 to {_MOST_AT_ONCE:,}, or None to leave it to the quotas"
    )


def _path(checkpoint: object) -> str:
    if isinstance(checkpoint, str | PathLike):
        path = fspath(checkpoint)
        if isinstance(path, str) and path:
            return path
    kind = type(checkpoint).__name__
    raise InvalidArgumentError(f"checkpoint is of type {kind} or empty", hint="pass the path of a file")


def _earlier(own: object, deadline: object) -> object:
    """Return the deadline of a prompt, which is never later than that of the batch."""
    if own is None or deadline is None or own is deadline:
        return deadline if own is None else own
    try:
        # What is no moment at all (NaN) is neither, and is refused as such.
        return deadline if _seconds(own) > _seconds(deadline) else own  # type: ignore[operator]
    except TypeError:
        return own  # it is no deadline, and is refused as such


def _seconds(deadline: object) -> float | None:
    if deadline is None:
        return None
    at: float = deadline.timestamp() if hasattr(deadline, "timestamp") else deadline  # type: ignore[assignment]
    return at


def _most_sockets() -> int | None:
    """Return no more calls at once than this process may open sockets for; `None` when that is no matter."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= 2_048:
        return None
    return max(8, (soft - _LEFT_FOR_OTHERS) * 3 // 4)
