"""`LLMInterface.plan`: a forecast of a batch before any prompt is sent."""

from __future__ import annotations

from quotaflow._call.options import CallArguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime, timedelta
    from os import PathLike
    from typing import Any

    from quotaflow._call.caller import Caller
    from quotaflow._plan.plan import Plan
    from quotaflow._quotaflow import Core
    from quotaflow.records import Attempt


class PlanMethods:
    """`plan` for an object that sends prompts."""

    __slots__ = ()

    if TYPE_CHECKING:
        _caller: Caller
        _core: Core

    def plan(
        self,
        prompts: Iterable[Any] | str | PathLike[str] | None = None,
        *,
        count: int | None = None,
        tokens: int | None = None,
        output_tokens: int | None = None,
        latency: float | timedelta | None = None,
        concurrency: int | None = None,
        task_name: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        fallback: bool = True,
        system: str | None = None,
        priority: int = 2,
        user: str | None = None,
        skip_rate_limit: bool = False,
        dedupe: bool = True,
        checkpoint: str | PathLike[str] | None = None,
        retry: bool = True,
        max_retries: int | None = None,
        retry_delay: float | timedelta | None = None,
        timeout: float | timedelta | None = None,
        stop_on_error: bool = False,
        progress: bool | Callable[..., object] | None = None,
        on_retry: Callable[[Attempt], object] | None = None,
        deadline: datetime | float | None = None,
        **params: Any,
    ) -> Plan:
        """Forecast `send_batch`: when it finishes, what each key does, what it costs, which limit decides.

        The quotas are gone through in virtual time from what is used and closed now, by the code that decides for
        real calls; nothing is sent and nothing is counted. Ten thousand prompts take some tenths of a second.

        Args:
            prompts: what `send_batch` takes. A generator is used up by it; a file is not. What is no prompt, or
                cannot be sent the way it asks for, counts as refused.
            count: instead of prompts, how many there are.
            tokens: how many tokens each of the `count` prompts has; 100 when it is not said.
            output_tokens: how many tokens an answer has; `None` for what answers of the model had so far on
                average, at most `max_tokens`, and 256 before the first.
            latency: how long an answer takes, in seconds or as a timedelta; `None` for how long they took lately
                in this process, and a second before the first.
            concurrency: as for `send_batch`.
            task_name: as for `send_prompt`, like all that follow.
            provider: the provider to ask.
            model: the model to ask.
            fallback: whether calls may go on to the configured fallbacks.
            system: instructions that come before each prompt.
            priority: 5 and above may use the last tenth of every limit; calls that wait with less go after.
            deadline: as for `send_batch`: calls wait until then, for the quota of the next day for instance.
                Without one, none waits for more than `max_wait` of the config.
            user: the user of the calls; its own limits hold as well.
            skip_rate_limit: as for `send_batch`: limits are counted and not waited for.
            dedupe: whether prompts with the same content are sent once.
            checkpoint: the file of an earlier run: what it holds is not sent again. None is made.
            retry: changes nothing, like all that follow: they are taken so that a plan gets what the batch gets.
                No call of a plan fails, takes too long or is tried again.
            max_retries: as for `retry`.
            retry_delay: as for `retry`.
            timeout: as for `retry`.
            stop_on_error: as for `retry`.
            progress: as for `retry`.
            on_retry: as for `retry`.
            params: what else the calls get; `max_tokens`, `tools` and `response_format` are what matters here.

        Returns:
            The plan; `print` it.

        Raises:
            InvalidArgumentError: an argument is wrong, or neither prompts nor a count was given.
            CheckpointError: the checkpoint is another job's, in use, or no checkpoint.
            NoKeyError: there is no key for the provider.
            StateError: the remembered quotas cannot be read.

        >>> plan = llm.plan(count=30, tokens=200, model="gpt-4o-mini", latency=2)
        >>> plan.answered, plan.refused, plan.input_tokens, plan.seconds >= 2
        (30, 0, 6000, True)
        """
        # Not before it is needed: most programs plan nothing.
        from quotaflow._batch.options import BatchOptions
        from quotaflow._plan.plan import made_plan

        arguments = CallArguments(
            task_name, provider, model, retry, fallback, max_retries, retry_delay, system, priority, timeout,
            deadline, user, skip_rate_limit, on_retry, params,
        )  # fmt: skip
        options = BatchOptions(
            self._caller, getattr(self, "render", None), prompts, arguments, concurrency, progress=progress,
            checkpoint=checkpoint, stop_on_error=stop_on_error, dedupe=dedupe, ordered=False,
        )  # fmt: skip
        return made_plan(self._core, options, count, tokens, output_tokens, latency)
