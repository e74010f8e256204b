"""What would come of sending these prompts, before any is sent?"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime, timedelta
    from os import PathLike
    from typing import Any

    from quotaflow._quotaflow import CallOptions, Core
    from quotaflow.plans import Plan


class PlanFace:
    """`plan` for an object that sends prompts."""

    __slots__ = ()

    if TYPE_CHECKING:
        _core: Core
        _options_for: Callable[..., CallOptions]

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
        deadline: datetime | float | None = None,
        **params: Any,
    ) -> Plan:
        """When `send_batch` would finish, what each key would do, what it costs, and which limit decides that.

        The quotas are gone through in virtual time from what is used and closed now, by the code that decides for
        real calls; nothing is sent and nothing is counted. Ten thousand prompts take some tenths of a second.

        Args:
            prompts: what `send_batch` takes. A generator is used up by it; a file is not. Prompts that say a model
                or options for themselves are planned beside the others, as if nobody shared a quota with them.
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
            priority: 5 and above may use the last tenth of every limit.
            deadline: as for `send_batch`: calls wait until then, for the quota of the next day for instance.
                Without one, none waits for more than `max_wait` of the config.
            params: what else the calls get; `max_tokens`, `tools` and `response_format` are what matters here.

        Returns:
            The plan; `print` it.

        Raises:
            InvalidArgumentError: an argument is wrong, or neither prompts nor a count was given.
            InvalidPromptError: one of the prompts is none.
            NoKeyError: there is no key for the provider.
            StateError: the remembered quotas cannot be read.

        >>> plan = llm.plan(count=30, tokens=200, model="gpt-4o-mini", latency=2)
        >>> plan.answered, plan.refused, plan.input_tokens, plan.seconds >= 2
        (30, 0, 6000, True)
        """
        # Not before it is needed: most programs plan nothing.
        from quotaflow.plans import made_plan

        call = {
            "task_name": task_name, "provider": provider, "model": model, "fallback": fallback, "system": system,
            "priority": priority, "deadline": deadline,
        }  # fmt: skip
        guesses = {"output_tokens": output_tokens, "latency": latency, "concurrency": concurrency}
        return made_plan(self._core, self._options_for, prompts, count, tokens, guesses, call, params)
