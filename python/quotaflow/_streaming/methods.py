"""The stream methods of `LLMInterface`: `stream_prompt` and `astream_prompt`."""

from __future__ import annotations

from collections.abc import Mapping

from quotaflow._call.checks import optional_span, shown, wrong_type
from quotaflow._call.options import CallArguments, takes_a_shape
from quotaflow._call.prompt import encode_prompt
from quotaflow._streaming.stream import AsyncPromptStream, PromptStream
from quotaflow.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta
    from typing import Any, Literal

    from quotaflow._call.caller import Caller
    from quotaflow._quotaflow import Core, StreamCall
    from quotaflow._structured.repair import Wanted
    from quotaflow.records import Attempt
    from quotaflow.reply import Reply

    Prompt = str | Sequence[Any]

_RESUMES = ("restart", "continue", None)
_SAID_ANYWAY = frozenset({"stream", "stream_options"})
# What LangChain's verbs may be given and a prompt may not.
_ONLY_STREAMED = frozenset({"stream", "idle_timeout", "resume"})


class StreamingMethods:
    """`stream_prompt` and `astream_prompt` for an object that sends prompts."""

    __slots__ = ()

    if TYPE_CHECKING:
        _caller: Caller
        _core: Core

    def stream_prompt(
        self,
        prompt: Prompt,
        task_name: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        retry: bool = True,
        fallback: bool = True,
        max_retries: int | None = None,
        retry_delay: float | timedelta | None = None,
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
        """Send one prompt and give its answer piece by piece, as it arrives.

        Arguments are checked here; nothing is sent before the first piece is asked for, and pieces are read from
        the provider only as they are asked for. Until the first one arrives, it waits for quota, tries again and
        falls back as `send_prompt` does. If the answer breaks off after that, `StreamInterrupted` says how far it
        came, unless `resume` has another attempt go on.

        Args:
            prompt: as for `send_prompt`, and so are all others but the next ones.
            task_name: the task whose model the config names.
            provider: the provider to ask.
            model: the model to ask for.
            retry: whether to try again after a failure that may pass.
            fallback: whether to go on to the configured fallbacks.
            max_retries: how often a key that failed is tried again; `None` for what the config says (3).
            retry_delay: the first back-off; `None` for what the config says (1 s).
            system: instructions that come before the prompt.
            priority: who is served first when several wait: 9 before 0.
            timeout: the seconds the whole stream may take, counted from here, or a timedelta.
            deadline: the same as a moment.
            user: the user of the call; it stays here and is not sent.
            skip_rate_limit: whether to send without waiting for local quota.
            on_retry: called with each `Attempt` that another one follows.
            resume: what happens when the answer breaks off: `"restart"` asks again and what was said is void,
                `"continue"` shows the model what it said and asks it to go on. The seam arrives as an empty
                `Piece`. Tool calls that had begun are void after either, so no fragment ever comes twice. An
                answer that is to have a shape is restarted in any case: its second half alone has none.
            idle_timeout: the longest silence in seconds, or a timedelta, before the answer and between two of its
                pieces; comments that keep a connection alive count as life. `None` for `timeouts.read`. For how
                long such signs of life may do without a piece, `timeouts.piece` says (600 s).
            params: everything else goes to the provider. `response_format` is as for `send_prompt`, without a
                repair round, since the text was handed out; the answer is judged at its end. `stream` and
                `stream_options` ask for what is done anyway.

        Returns:
            An iterator over the text, with the whole `Reply` in `.reply` once it is over.

        Raises:
            InvalidPromptError: the prompt is empty or no prompt.
            InvalidArgumentError: another argument is wrong.
            DeadlineExceededError: the deadline has passed already; with `errors="text"` as well.
            NoKeyError: a provider is needed that has no key.
            ClosedError: the interface is closed.

        Iterating raises what `send_prompt` raises, and `StreamInterrupted`; an `AnswerError` comes after the last
        piece. Reading on after the stream was closed or its reader cancelled raises `ClosedError`. With
        `errors="text"` a call that said nothing at all gives its error as the only piece; one that broke off
        raises all the same.

        >>> for piece in llm.stream_prompt("Name a river.", model="gpt-4o-mini"):
        ...     print(end=piece and "")
        """
        params, resume, wanted = _streamed(params, resume)
        arguments = CallArguments(
            task_name, provider, model, retry, fallback, max_retries, retry_delay, system, priority, timeout,
            deadline, user, skip_rate_limit, on_retry, params,
        )  # fmt: skip
        call = self._stream_call(prompt, arguments, resume, idle_timeout)
        return PromptStream(call, self._caller.errors_as_text, wanted)

    def astream_prompt(
        self,
        prompt: Prompt,
        task_name: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        retry: bool = True,
        fallback: bool = True,
        max_retries: int | None = None,
        retry_delay: float | timedelta | None = None,
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
        """Send one prompt from asyncio and give its answer piece by piece; all else matches `stream_prompt`.

        >>> import asyncio
        >>> async def first():
        ...     async with llm.astream_prompt("Name a lake.", model="gpt-4o-mini") as stream:
        ...         return await anext(stream)
        >>> len(asyncio.run(first())) > 0
        True
        """
        params, resume, wanted = _streamed(params, resume)
        arguments = CallArguments(
            task_name, provider, model, retry, fallback, max_retries, retry_delay, system, priority, timeout,
            deadline, user, skip_rate_limit, on_retry, params,
        )  # fmt: skip
        call = self._stream_call(prompt, arguments, resume, idle_timeout)
        return AsyncPromptStream(call, self._caller.errors_as_text, wanted)

    def _stream_call(
        self, prompt: Prompt, arguments: CallArguments, resume: str | None, idle_timeout: object
    ) -> StreamCall:
        silence = optional_span("idle_timeout", idle_timeout)
        options = self._caller.options_for(arguments)
        return self._core.stream(encode_prompt(prompt), options, resume, silence)


def _streamed(params: dict[str, Any], resume: Any) -> tuple[dict[str, Any], Any, Wanted | None]:
    """Return the parameters for the provider, how to resume, and the shape of the answer if there is one."""
    if resume not in _RESUMES:
        raise InvalidArgumentError(f"resume is {shown(resume, str)}", hint="pass 'restart', 'continue' or None")
    if not _SAID_ANYWAY.isdisjoint(params):
        params = _without_what_is_said_anyway(params)
    if "response_format" not in params or not takes_a_shape(params["response_format"]):
        return params, resume, None
    from quotaflow._structured.repair import Wanted

    wanted = Wanted(params["response_format"])
    # The second half of a shape has none.
    resume = "restart" if resume and wanted.shape is not None else resume
    return params | {"response_format": wanted.param}, resume, wanted


def _without_what_is_said_anyway(params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters without `stream` and the wish for usage, which every stream has."""
    params = dict(params)
    stream, options = params.pop("stream", None), params.pop("stream_options", None)
    if stream is not None and type(stream) is not bool:
        raise wrong_type("stream", stream, "leave it out")
    if options is None:
        return params
    if not isinstance(options, Mapping):
        raise wrong_type("stream_options", options, "pass a dict, or leave it out")
    others = {name: value for name, value in options.items() if name != "include_usage"}
    if others:
        # It is put together with what we say ourselves.
        params["extra_body"] = {**(params.get("extra_body") or {}), "stream_options": others}
    return params


def whole_answer(llm: Any, prompt: object, arguments: dict[str, Any]) -> Reply:
    """Return what `send_prompt` gives; arguments that only a stream takes have it streamed and collected."""
    arguments, is_streamed = _whether_streamed(arguments)
    if not is_streamed:
        sent: Reply = llm.send_prompt(prompt, **arguments)
        return sent
    with llm.stream_prompt(prompt, **arguments) as stream:
        for _ in stream:
            pass
    reply: Reply = stream.reply
    return reply


async def awhole_answer(llm: Any, prompt: object, arguments: dict[str, Any]) -> Reply:
    """Do the same for asyncio."""
    arguments, is_streamed = _whether_streamed(arguments)
    if not is_streamed:
        sent: Reply = await llm.asend_prompt(prompt, **arguments)
        return sent
    async with llm.astream_prompt(prompt, **arguments) as stream:
        async for _ in stream:
            pass
    reply: Reply = stream.reply
    return reply


def _whether_streamed(arguments: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    if _ONLY_STREAMED.isdisjoint(arguments):
        return arguments, False
    others = {name: value for name, value in arguments.items() if name != "stream"}
    asked = arguments.get("stream")
    if asked is not None and type(asked) is not bool:
        return arguments, False  # wrong, and refused as such
    waits = others.get("idle_timeout") is not None or others.get("resume") is not None
    if asked or waits:
        return others, True
    return {name: value for name, value in others.items() if name not in _ONLY_STREAMED}, False
