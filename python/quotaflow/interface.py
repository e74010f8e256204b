"""`LLMInterface`: sends prompts within the quotas of your keys."""

from __future__ import annotations

from quotaflow._batch.methods import BatchMethods
from quotaflow._call.base import Base
from quotaflow._call.checks import optional_name
from quotaflow._call.options import CallArguments, takes_a_shape, wants_text_for_errors
from quotaflow._call.prompt import encode_prompt
from quotaflow._plan.methods import PlanMethods
from quotaflow._streaming.methods import StreamingMethods
from quotaflow.errors import CallError
from quotaflow.integrations.runnable import RunnableMethods
from quotaflow.reply import failed_reply, reply_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime, timedelta
    from os import PathLike
    from typing import Any, Literal

    from quotaflow._call.config_manager import ConfigManager
    from quotaflow._quotaflow import CallOptions, Outcome
    from quotaflow.records import Attempt, CostEstimate
    from quotaflow.reply import Reply

    Prompt = str | Sequence[Any]


class LLMInterface(RunnableMethods, StreamingMethods, BatchMethods, PlanMethods, Base):
    """Sends prompts over your keys, models and providers as fast as their quotas allow.

    Making one is cheap, and starts nothing: the first call does. One is enough for all threads and tasks of a
    process; it also works in a child after a fork. Quotas are shared with every other process through `state`.
    For LangChain it is a Runnable: `prompt | llm | parser`, `invoke`, `batch` and the rest.

    Args:
        config: a path to YAML, TOML or JSON; a dict of the same shape; or `None` to search: `$QUOTAFLOW_CONFIG`,
            `./quotaflow.{yaml,toml,json}`, the user's config folder. Finding none is no error. A program's own
            config manager works, too: anything with `get_model_config(task_name=None, is_fallback=False)`.
        keys: keys by provider, `{"openai": ["…", "…"]}`; a provider named here takes no others, one that is not
            has those of the config, else those of the environment and `.env`.
        limits: limits by provider, for each quota group: `{"openai": {"rpm": 60, "tpm": 30000, "rpd": 200}}`.
        base_urls: where a provider is reached, by provider, as its official SDK takes it.
        state: where quotas are remembered: a path to an SQLite file, `"memory"` to forget, or `None` for a file
            in the user's cache folder.
        errors: `"text"` gives `"[LLM Error: …]"` as the reply of a call without an answer, with the exception in
            `reply.error`; what is wrong with the arguments, the config or the state is raised all the same.

    Raises:
        ConfigError: the configuration is invalid; it names the field and the nearest valid one.

    >>> from quotaflow.testing import simulator
    >>> with simulator() as world, LLMInterface(keys=world.keys, base_urls=world.base_urls, state="memory") as llm:
    ...     reply = llm.send_prompt("Name a river.", provider="openai", model="gpt-4o-mini")
    >>> reply.provider, reply.usage.output_tokens > 0
    ('openai', True)
    """

    __slots__ = ()

    _NAME = "an LLMInterface"

    def __init__(
        self,
        config: str | PathLike[str] | Mapping[str, Any] | ConfigManager | None = None,
        *,
        keys: Mapping[str, Any] | None = None,
        limits: Mapping[str, Any] | None = None,
        base_urls: Mapping[str, str] | None = None,
        state: str | PathLike[str] | None = None,
        errors: Literal["raise", "text"] = "raise",
    ) -> None:
        errors_as_text = wants_text_for_errors(errors)
        super().__init__(config, keys, limits, base_urls, state, errors_as_text=errors_as_text)
        if self._core.limits_money:
            # What calls cost must be known before the first one.
            from quotaflow._prices.genai_prices import look_once

            look_once()

    def send_prompt(
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
        **params: Any,
    ) -> Reply:
        """Send one prompt and wait for its answer, for quota too if need be. Safe in any number of threads.

        Args:
            prompt: text, a list of `{"role", "content"}` messages, or LangChain messages; not empty.
            task_name: the task whose model the config names (`models: <task>`); `None` for the default model.
            provider: the provider to ask, for instance `"openai"`; `None` leaves it to the model or the config.
            model: the model to ask for; its name chooses the provider when none is given.
            retry: whether to try again after a failure that may pass.
            fallback: whether to go on to the configured fallbacks when provider and model cannot answer.
            max_retries: how often a key that failed is tried again, 0 to 1000; the first try of each further key
                is free. `None` for what the config says: `max_retries` of the target's limits, else of `retry`,
                else 3.
            retry_delay: the first back-off in seconds, or a timedelta; it doubles up to 300 s, jitter upwards.
                `None` for what the config says: `base_delay` of the target's limits, else `retry.retry_delay`,
                else 1 s. When the provider says how long to wait, that is the least.
            system: instructions that come before the prompt.
            priority: who is served first when several wait: 9 before 0. Equals share by user, and those of one
                user go in order. Every tenth turn belongs to the priority of the one who waited longest.
            timeout: the seconds the whole call may take, waits included, or a timedelta; `None` for the configured
                one. A wait that is known to be longer fails at once.
            deadline: the same as a moment: an aware datetime or seconds since 1970; `None` for never.
            user: the user of the call: users share the waiting lines by weight and have the limits that `users` in
                the config states. It stays here and is not sent.
            skip_rate_limit: whether to send without waiting for local quota; what is sent is still counted.
            on_retry: called with each `Attempt` that another one follows, on the thread or loop that waits; what
                it raises is reported and ignored.
            params: everything else goes to the provider: `temperature`, `max_tokens`, `tools`… Of these,
                `response_format` takes a pydantic model, a dataclass, a JSON schema, or a `ResponseFormat`: the
                answer is held to it, and `reply.parsed` is the object. OpenAI's own `{"type": "json_schema", …}`
                goes out as it is. `cache` stays here: `True` takes an answer that was given before to the
                same question and keeps a new one; seconds or a timedelta say how old it may be; `False`: never.

        Returns:
            The text of the answer as a `Reply`, which is a `str` that knows how it came about.

        Raises:
            InvalidPromptError: the prompt is empty or no prompt; nothing was sent.
            InvalidArgumentError: another argument is wrong; nothing was sent.
            NoKeyError: a provider is needed that has no key.
            StateError: the remembered quotas cannot be read or written.
            DeadlineExceededError: the deadline came, or could not be met.
            UserLimitError: a limit of `user` is used up.
            QueueCleared: `clear_queue` ended it while it waited.
            CallError: no target answered; the class says why, `attempts` what each try met.
            AnswerError: there is an answer that does not have the shape that was asked for.
            ClosedError: the interface is closed.

        >>> reply = llm.send_prompt("Translate to French: bread", model="gpt-4o-mini", max_tokens=20)
        >>> reply.provider, reply.attempts[-1].succeeded
        ('openai', True)
        """
        arguments = CallArguments(
            task_name, provider, model, retry, fallback, max_retries, retry_delay, system, priority, timeout,
            deadline, user, skip_rate_limit, on_retry, params,
        )  # fmt: skip
        if "response_format" in params and takes_a_shape(params["response_format"]):
            from quotaflow._structured.repair import send_shaped

            return send_shaped(self._send, self._caller, prompt, arguments)
        return self._send(prompt, arguments)

    def _send(self, prompt: object, arguments: CallArguments) -> Reply:
        options = self._caller.options_for(arguments)
        try:
            return reply_from(self._core.send(encode_prompt(prompt), options))
        except CallError as error:
            if not self._caller.errors_as_text:
                raise
            return failed_reply(error)

    async def asend_prompt(
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
        timeout: float | timedelta | None = None,  # noqa: ASYNC109 - it ends waits before they begin
        deadline: datetime | float | None = None,
        user: str | None = None,
        skip_rate_limit: bool = False,
        on_retry: Callable[[Attempt], object] | None = None,
        **params: Any,
    ) -> Reply:
        """Send one prompt from asyncio; parameters, answer and errors match `send_prompt`.

        Cancelling the task gives back the quota of what was not sent yet.

        >>> import asyncio
        >>> asyncio.run(llm.asend_prompt("Name a lake.", model="gpt-4o-mini")).finish_reason
        'stop'
        """
        arguments = CallArguments(
            task_name, provider, model, retry, fallback, max_retries, retry_delay, system, priority, timeout,
            deadline, user, skip_rate_limit, on_retry, params,
        )  # fmt: skip
        if "response_format" in params and takes_a_shape(params["response_format"]):
            from quotaflow._structured.repair import asend_shaped

            return await asend_shaped(self._asend, self._caller, prompt, arguments)
        return await self._asend(prompt, arguments)

    async def _asend(self, prompt: object, arguments: CallArguments) -> Reply:
        options = self._caller.options_for(arguments)
        encoded = encode_prompt(prompt)
        # Not before it is needed: asyncio is half of what importing it all would cost.
        from quotaflow._call.event_loop import running_loop_and_port

        loop, port = running_loop_and_port()
        try:
            future: Future[Outcome] = loop.create_future()
            call = self._core.asend(encoded, options, port, future)
        except CallError as error:
            if not self._caller.errors_as_text:
                raise
            return failed_reply(error)
        try:
            return reply_from(await future)
        except BaseException as error:
            if self._caller.errors_as_text and isinstance(error, CallError):
                return failed_reply(error)
            port.cancel(call)
            raise

    def count_tokens(
        self,
        prompt: Prompt,
        model: str | None = None,
        *,
        provider: str | None = None,
        task_name: str | None = None,
        system: str | None = None,
        **params: Any,
    ) -> int:
        """Count the tokens of a prompt for a model. This sends nothing and needs no key.

        Models of OpenAI, and its open ones elsewhere, are counted with their own tokenizer; its tables take about
        0.2 s to load, once a process. All others are estimated, and corrected by what earlier answers of the model
        were billed.

        Args:
            prompt: text, which is counted as it is; or a list of messages as `send_prompt` takes them, which are
                counted with the frame that each gets.
            model: the model; with `provider` and `task_name` it is found as `send_prompt` finds it.
            provider: the provider, when the model's name does not show it.
            task_name: the task whose model the config names.
            system: instructions before the prompt; with them a text is counted as the message it becomes.
            params: `tools` and `response_format`, as `send_prompt` takes them, are part of what is read; others
                change nothing.

        >>> llm.count_tokens("hello world", model="gpt-4o-mini")
        2
        >>> llm.count_tokens([{"role": "user", "content": "hello world"}], model="gpt-4o-mini")
        9
        """
        options = self._options_of_what_is_read(task_name, provider, model, system, params)
        if type(prompt) is str and not prompt and system is None:
            return 0
        # A blank text has tokens, too.
        encoded = prompt if type(prompt) is str and prompt else encode_prompt(prompt)
        alone = isinstance(encoded, str) and system is None and not params
        return self._core.count_tokens(encoded, alone, options)

    def estimate_cost(
        self,
        prompt: Prompt,
        model: str | None = None,
        max_tokens: int | None = None,
        *,
        provider: str | None = None,
        task_name: str | None = None,
        system: str | None = None,
        **params: Any,
    ) -> CostEstimate | None:
        """Return what a call will cost in US dollars, or `None` when the price of its model is not known.

        Sends nothing and needs no key. Nothing is assumed to come from a prompt cache, and nothing to be tried
        twice.

        Args:
            prompt: text or messages, as `send_prompt` takes them.
            model: the model; with `provider` and `task_name` it is found as `send_prompt` finds it.
            max_tokens: the longest answer the call will allow; without one nothing bounds its cost.
            provider: the provider, when the model's name does not show it.
            task_name: the task whose model the config names.
            system: instructions before the prompt.
            params: what else the call gets, as `send_prompt` takes it; `tools` and `response_format` are part of
                what is read.

        >>> estimate = llm.estimate_cost("Name a river.", model="gpt-4o-mini", max_tokens=100)
        >>> estimate.low < estimate.expected <= estimate.high, estimate.max_output_tokens
        (True, 100)
        """
        from quotaflow._prices.cost import dollars, warn_once
        from quotaflow._prices.genai_prices import look_once
        from quotaflow.records import CostEstimate

        look_once()
        if max_tokens is not None:
            params["max_tokens"] = max_tokens
        options = self._options_of_what_is_read(task_name, provider, model, system, params)
        encoded = prompt if type(prompt) is str and prompt else encode_prompt(prompt)
        facts, provider_name, model_name = self._core.estimate_cost(encoded, options)
        if facts is None:
            warn_once(provider_name, model_name)
            return None
        provider_name, model_name, (tokens, at_most, is_exact), output, most_output, low, expected, high = facts
        return CostEstimate(
            provider_name, model_name, tokens, at_most, is_exact, output, most_output,
            dollars(low), dollars(expected), None if high is None else dollars(high),
        )  # fmt: skip

    def _options_of_what_is_read(
        self, task_name: object, provider: object, model: object, system: object, params: dict[str, Any]
    ) -> CallOptions:
        """Return the options of a call whose prompt is only read and never sent."""
        if "response_format" in params:
            from quotaflow._structured.shapes import handed_on

            params = handed_on(params)
        return self._caller.options_for(
            CallArguments(
                task_name,
                provider,
                model,
                True,
                True,
                None,
                None,
                system,
                3,
                None,
                None,
                None,
                False,
                None,
                params,
            )
        )

    def clear_cache(self) -> int:
        """Forget every answer that was kept for calls with `cache=`, for all processes that share the state.

        Returns:
            How many there were.

        Raises:
            StateError: the state cannot be written.

        >>> llm.clear_cache()
        0
        """
        return self._core.clear_cache()

    def prepare_prompt_with_context(self, template: str, data: Mapping[str, Any]) -> str:
        """Put `data` where `template` has `$name` or `${name}`; as `quotaflow.prepare_prompt_with_context`.

        >>> llm.prepare_prompt_with_context("Translate to $language: bread", {"language": "French"})
        'Translate to French: bread'
        """
        from quotaflow._templates.render import prepare_prompt_with_context

        return prepare_prompt_with_context(template, data)

    def render(
        self, template: str, params: Mapping[str, Any], *, engine: Literal["auto", "jinja2", "dollar"] = "auto"
    ) -> str:
        """Return a prompt from a template; as `quotaflow.render`.

        >>> llm.render("Translate to $language: $text", {"language": "French", "text": "bread"})
        'Translate to French: bread'
        """
        from quotaflow._templates.render import render

        return render(template, params, engine=engine)

    def status(self) -> dict[str, Any]:
        """Return every key with its health, limits, usage and blocks, and the waiting calls.

        A snapshot of plain values, made for reading and for JSON; it holds no key.

        >>> isinstance(llm.status(), dict)
        True
        """
        import json

        snapshot: dict[str, Any] = json.loads(self._core.status())
        return snapshot

    def reset(self, provider: str | None = None, key: str | None = None) -> int:
        """Forget blocks, exhaustion and used quota, for instance after credit was bought.

        Args:
            provider: only of this provider; `None` for all.
            key: only of the key with this label; `None` for all.

        Returns:
            How many blocks and ledgers were cleared.

        >>> llm.reset("openai") >= 0
        True
        """
        return self._core.reset(optional_name("provider", provider), optional_name("key", key))
