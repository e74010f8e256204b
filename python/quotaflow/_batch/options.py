"""Is this a possible batch, and what is asked of each of its calls?"""

from __future__ import annotations

import time
from os import PathLike, fspath

from quotaflow._batch.source import CALL_OPTIONS, what_answers_depend_on
from quotaflow._structured.shapes import Shapes
from quotaflow.errors import DeadlineExceededError, InvalidArgumentError, QuotaflowError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from quotaflow._quotaflow import BatchRun, CallOptions
    from quotaflow._structured.repair import Rounds, Wanted
    from quotaflow.interface import LLMInterface

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
        llm: LLMInterface,
        prompts: object,
        concurrency: object,
        *,
        progress: object,
        checkpoint: object,
        stop_on_error: object,
        dedupe: object,
        ordered: object,
        deadline: object,
        on_retry: object,
        call: dict[str, Any],
        params: dict[str, Any],
    ) -> None:
        self.prompts = prompts
        self.progress = progress
        self.stop_on_error = _flag("stop_on_error", stop_on_error)
        self.dedupe = _flag("dedupe", dedupe)
        self.ordered = _flag("ordered", ordered)
        self.checkpoint = None if checkpoint is None else _path(checkpoint)
        self.render: Callable[[str, Any], object] | None = getattr(llm, "render", None)
        self.concurrency = _concurrency(concurrency)
        self._llm = llm
        self._call = call
        self._params = params
        self._deadline = deadline
        self._on_retry = on_retry
        self._shapes = Shapes()
        self.usual: CallOptions
        self.wanted: Wanted | None
        self.usual, self.wanted = self.with_own({}, {})
        # Whether answers may come from fallbacks, for prompts that do not say.
        self.falls_back = bool(call["fallback"])
        self._questions: dict[tuple[CallOptions, str], bytes] = {}
        self._over_at = _seconds(deadline)
        if self.is_over():
            raise DeadlineExceededError("the deadline has passed already", hint="pass a later one, or None")
        self.errors_as_text: bool = llm._errors_as_text

    @property
    def job(self) -> dict[str, object]:
        """What the answers depend on beside the prompts."""
        params, _ = self._shapes.handed_on(self._params)
        asked = what_answers_depend_on(self._call) | params
        asked.pop("cache", None)
        try:
            _, target = self._llm._core.asked(self.usual)
        except QuotaflowError:
            return asked  # each prompt says for itself, or says nothing that could be sent
        return asked | {"default model": target}

    def start(self) -> BatchRun:
        """The calls under way, none so far."""
        most = self.concurrency
        return self._llm._core.batch(self.usual, _most_sockets() if most is None else most)

    def with_own(self, call: dict[str, Any], params: dict[str, Any]) -> tuple[CallOptions, Wanted | None]:
        """The options of a prompt that says some for itself, and the shape that its answer is to have."""
        asked = self._call | {"deadline": self._deadline} | call
        params, wanted = self._shapes.handed_on(self._params | params)
        named = (asked[name] for name in CALL_OPTIONS)
        task, provider, model, retry, fallback, retries, delay, system, priority, timeout, user, end, skips = named
        options = self._llm._options_for(
            task, provider, model, retry, fallback, retries, delay, system, priority, timeout,
            _earlier(end, self._deadline), user, skips, params, self._on_retry,
        )  # fmt: skip
        return options, wanted

    def question(self, options: CallOptions, params: dict[str, Any]) -> bytes:
        """What a call with these options, and these parameters of its own, asks beside its prompt, as a digest."""
        asked = options, self._shapes.kind(self._params | params)
        known = self._questions.get(asked)
        if known is None:
            digest, _ = self._llm._core.asked(options)
            known = digest + asked[1].encode()
            if len(self._questions) >= _MOST_QUESTIONS:
                self._questions.clear()
            self._questions[asked] = known
        return known

    def rounds(self, prompt: object, wanted: Wanted, call: dict[str, Any]) -> Rounds:
        """The rounds of a prompt that begins now."""
        from quotaflow._structured.repair import Rounds

        timeout = (self._call | call)["timeout"]
        usual = self._llm._core.call_timeout
        deadline = _earlier(call.get("deadline"), self._deadline)
        return Rounds(prompt, wanted, usual if timeout is None else timeout, deadline)

    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return self._over_at is not None and time.time() >= self._over_at


def _flag(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise InvalidArgumentError(f"{name} is of type {type(value).__name__}", hint="pass True or False")


def _concurrency(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST_AT_ONCE:
        return value
    shown = repr(value) if isinstance(value, int | float) else f"of type {type(value).__name__}"
    hint = f"pass a whole number from 1 to {_MOST_AT_ONCE:,}, or None to leave it to the quotas"
    raise InvalidArgumentError(f"concurrency is {shown}", hint=hint)


def _path(checkpoint: object) -> str:
    if isinstance(checkpoint, str | PathLike):
        path = fspath(checkpoint)
        if isinstance(path, str) and path:
            return path
    kind = type(checkpoint).__name__
    raise InvalidArgumentError(f"checkpoint is of type {kind} or empty", hint="pass the path of a file")


def _earlier(own: object, deadline: object) -> object:
    """The deadline of a prompt, which is never later than that of the batch."""
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
    """No more calls at once than this process may open sockets for; `None` when that is no matter."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= 2_048:
        return None
    return max(8, (soft - _LEFT_FOR_OTHERS) * 3 // 4)
