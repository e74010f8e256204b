"""How do I get an answer in pieces, as they arrive?"""

from __future__ import annotations

from quotaflow.options import optional_span
from quotaflow.prompts import encode_prompt, unencodable_prompt
from quotaflow.streams import AsyncPromptStream, PromptStream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta
    from typing import Any, Literal

    from quotaflow._quotaflow import CallOptions, Core, StreamCall
    from quotaflow.records import Attempt

    Prompt = str | Sequence[Any]

_RESUMES = ("restart", "continue", None)


class StreamingFace:
    """`stream_prompt` and `astream_prompt` for an object that sends prompts."""

    __slots__ = ()

    if TYPE_CHECKING:
        _core: Core
        _errors_as_text: bool
        _options_for: Callable[..., CallOptions]

    def stream_prompt(
        self,
        prompt: Prompt,
        task_name: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        retry: bool = True,
        fallback: bool = True,
        max_retries: int = 3,
        retry_delay: float | timedelta = 1.0,
        *,
        system: str | None = None,
        priority: int = 3,
        timeout: float | timedelta | None = None,
        deadline: datetime | float | None = None,
        user: str | None = None,
        skip_rate_limit: bool = False,
        on_retry: Callable[[Attempt], object] | None = None,
        resume: Literal["restart", "continue"] | None = None,
        idle_timeout: float | timedelta | None = None,
        **params: Any,
    ) -> PromptStream:
        """Sends one prompt and gives its answer piece by piece, as it arrives.

        Arguments are checked here; nothing is sent before the first piece is asked for, and nothing is read from
        the provider that nobody asks for. Until the first piece arrives, it waits for quota, tries again and falls
        back as `send_prompt` does. If the answer breaks off after that, `StreamInterrupted` says how far it came,
        unless `resume` has another attempt go on.

        Args:
            prompt: as for `send_prompt`, and so are all others but the next ones.
            task_name: the task whose model the config names.
            provider: the provider to ask.
            model: the model to ask for.
            retry: whether to try again after a failure that may pass.
            fallback: whether to go on to the configured fallbacks.
            max_retries: how often a key that failed is tried again.
            retry_delay: the first back-off.
            system: instructions that come before the prompt.
            priority: who is served first when several wait: 9 before 0.
            timeout: the seconds the whole stream may take, counted from here, or a timedelta.
            deadline: the same as a moment.
            user: on whose behalf; it stays here and is not sent.
            skip_rate_limit: whether to send without waiting for quota of ours.
            on_retry: called with each `Attempt` that another one follows.
            resume: what happens when the answer breaks off: `"restart"` asks again and what was said is void,
                `"continue"` shows the model what it said and asks it to go on. The seam arrives as an empty
                `Piece`. Tool calls that had begun are void after either, so no fragment ever comes twice.
            idle_timeout: the longest silence in seconds, or a timedelta, before the answer and between two of its
                pieces; comments that keep a connection alive count as life. `None` for `timeouts.read`.
            params: everything else goes to the provider.

        Returns:
            An iterator over the text, with the whole `Reply` in `.reply` once it is over.

        Raises:
            InvalidPromptError: the prompt is empty or no prompt.
            InvalidArgumentError: another argument is wrong.
            DeadlineExceededError: the deadline has passed already; with `errors="text"` as well.
            NoKeyError: a provider is needed that has no key.
            ClosedError: the interface is closed.

        Iterating raises what `send_prompt` raises, and `StreamInterrupted`. With `errors="text"` a call that said
        nothing at all gives its error as the only piece; one that broke off raises all the same.

        >>> for piece in llm.stream_prompt("Name a river.", model="gpt-4o-mini"):
        ...     print(end=piece and "")
        """
        call = self._stream_call(
            prompt, resume, idle_timeout, task_name, provider, model, retry, fallback, max_retries, retry_delay,
            system, priority, timeout, deadline, user, skip_rate_limit, params, on_retry,
        )  # fmt: skip
        return PromptStream(call, self._errors_as_text)

    def astream_prompt(
        self,
        prompt: Prompt,
        task_name: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        retry: bool = True,
        fallback: bool = True,
        max_retries: int = 3,
        retry_delay: float | timedelta = 1.0,
        *,
        system: str | None = None,
        priority: int = 3,
        timeout: float | timedelta | None = None,
        deadline: datetime | float | None = None,
        user: str | None = None,
        skip_rate_limit: bool = False,
        on_retry: Callable[[Attempt], object] | None = None,
        resume: Literal["restart", "continue"] | None = None,
        idle_timeout: float | timedelta | None = None,
        **params: Any,
    ) -> AsyncPromptStream:
        """Sends one prompt from asyncio and gives its answer piece by piece; all else matches `stream_prompt`.

        >>> import asyncio
        >>> async def first():
        ...     async with llm.astream_prompt("Name a lake.", model="gpt-4o-mini") as stream:
        ...         return await anext(stream)
        >>> len(asyncio.run(first())) > 0
        True
        """
        call = self._stream_call(
            prompt, resume, idle_timeout, task_name, provider, model, retry, fallback, max_retries, retry_delay,
            system, priority, timeout, deadline, user, skip_rate_limit, params, on_retry,
        )  # fmt: skip
        return AsyncPromptStream(call, self._errors_as_text)

    def _stream_call(self, prompt: Prompt, resume: object, idle_timeout: object, *asked: object) -> StreamCall:
        if resume not in _RESUMES:
            from quotaflow.errors import InvalidArgumentError

            shown = repr(resume) if isinstance(resume, str) else f"of type {type(resume).__name__}"
            raise InvalidArgumentError(f"resume is {shown}", hint="pass 'restart', 'continue' or None")
        silence = optional_span("idle_timeout", idle_timeout)
        options = self._options_for(*asked)
        if type(prompt) is str and prompt and not prompt.isspace():
            text, is_messages = prompt, False
        else:
            text, is_messages = encode_prompt(prompt)
        try:
            return self._core.stream(text, is_messages, options, resume, silence)
        except UnicodeEncodeError as error:
            raise unencodable_prompt(error) from None
