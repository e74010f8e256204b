"""How do I send a prompt?"""

from __future__ import annotations

from quotaflow._batch.methods import BatchFace
from quotaflow._call.base import QueueFace
from quotaflow._call.options import (
    config_json,
    config_source,
    make_options,
    managed_config,
    optional_name,
    state_address,
    takes_a_shape,
    wants_text_for_errors,
)
from quotaflow._call.prompt import encode_prompt, unencodable_prompt
from quotaflow._plan.methods import PlanFace
from quotaflow._prices.cost import CostsFace
from quotaflow._quotaflow import Core
from quotaflow._streaming.methods import StreamingFace
from quotaflow.errors import CallError
from quotaflow.integrations.runnable import RunnableFace
from quotaflow.reply import failed_reply, reply_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime, timedelta
    from os import PathLike
    from types import TracebackType
    from typing import Any, Literal, Self

    from quotaflow._call.config_manager import ConfigManager
    from quotaflow._call.hooks import Hooks
    from quotaflow._quotaflow import CallOptions, Outcome
    from quotaflow.events import EventName
    from quotaflow.records import Attempt
    from quotaflow.reply import Reply

    Prompt = str | Sequence[Any]

_DEBUG = 10  # logging.DEBUG
_MOST_KEPT_OPTIONS = 256
# Equal and of the same type means the same for these, which lists and tuples cannot promise.
_PLAIN = frozenset({str, int, float, bool, type(None)})


class LLMInterface(CostsFace, RunnableFace, StreamingFace, BatchFace, PlanFace, QueueFace):
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
        ConfigError: for what cannot be meant; it names the field and the nearest right one.

    >>> from quotaflow.testing import simulator
    >>> with simulator() as world, LLMInterface(keys=world.keys, base_urls=world.base_urls, state="memory") as llm:
    ...     reply = llm.send_prompt("Name a river.", provider="openai", model="gpt-4o-mini")
    >>> reply.provider, reply.usage.output_tokens > 0
    ('openai', True)
    """

    __slots__ = (
        "__weakref__", "_core", "_errors_as_text", "_hooks", "_logs_at", "_make_options", "_options", "_state"
    )  # fmt: skip

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
        # Loaded now and not with the package: many programs import what they do not use.
        from quotaflow._call.logs import logger

        self._logs_at = logger().isEnabledFor
        self._errors_as_text = wants_text_for_errors(errors)
        managed = managed_config(config)
        source, is_path = config_source(config if managed is None else managed.config)
        self._state = state_address(managed.state if managed is not None and state is None else state)
        self._make_options: Callable[..., CallOptions] = make_options if managed is None else managed.make_options
        self._options: dict[tuple[object, ...], CallOptions] = {}
        self._hooks: Hooks | None = None
        self._core = Core(
            source,
            is_path,
            config_json("keys", keys),
            config_json("limits", limits),
            config_json("base_urls", base_urls),
            self._state,
        )
        if managed is not None:
            managed.knows_keys_by(self._core.status)
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
        **params: Any,
    ) -> Reply:
        """Sends one prompt and waits for its answer, for quota too if need be. Safe in any number of threads.

        Args:
            prompt: text, a list of `{"role", "content"}` messages, or LangChain messages; not empty.
            task_name: the task whose model the config names (`models: <task>`); `None` for the default model.
            provider: the provider to ask, for instance `"openai"`; `None` leaves it to the model or the config.
            model: the model to ask for; its name chooses the provider when none is given.
            retry: whether to try again after a failure that may pass.
            fallback: whether to go on to the configured fallbacks when provider and model cannot answer.
            max_retries: how often a key that failed is tried again, 0 to 1000; the first try of each further key
                is free. Left at 3, the config has the word: `max_retries` of the target's limits or of `retry`.
            retry_delay: the first back-off in seconds, or a timedelta; it doubles up to 300 s, jitter upwards.
                Left at 1.0, the config has the word: `base_delay` of the target's limits or `retry.retry_delay`.
                When the provider says how long to wait, that is the least.
            system: instructions that come before the prompt.
            priority: who is served first when several wait: 9 before 0. Equals share by user, and those of one
                user go in order. Every tenth turn belongs to the priority of the one who waited longest.
            timeout: the seconds the whole call may take, waits included, or a timedelta; `None` for the configured
                one. A wait that is known to be longer fails at once.
            deadline: the same as a moment: an aware datetime or seconds since 1970; `None` for never.
            user: on whose behalf: users share the waiting lines by weight and have the limits that `users` in the
                config states. It stays here and is not sent.
            skip_rate_limit: whether to send without waiting for quota of ours; what is sent is still counted.
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
        if "response_format" in params and takes_a_shape(params["response_format"]):
            from quotaflow._structured.repair import send_shaped

            return send_shaped(self.send_prompt, self._errors_as_text, self._core.call_timeout, prompt, params | {
                "task_name": task_name, "provider": provider, "model": model, "retry": retry,
                "fallback": fallback, "max_retries": max_retries, "retry_delay": retry_delay, "system": system,
                "priority": priority, "timeout": timeout, "deadline": deadline, "user": user,
                "skip_rate_limit": skip_rate_limit, "on_retry": on_retry,
            })  # fmt: skip
        options = self._options_for(
            task_name, provider, model, retry, fallback, max_retries, retry_delay, system, priority,
            timeout, deadline, user, skip_rate_limit, params, on_retry,
        )  # fmt: skip
        if type(prompt) is str and prompt and not prompt.isspace():
            text, is_messages = prompt, False
        else:
            text, is_messages = encode_prompt(prompt)
        try:
            return reply_from(self._core.send(text, is_messages, options))
        except CallError as error:
            if not self._errors_as_text:
                raise
            return failed_reply(error)
        except UnicodeEncodeError as error:
            raise unencodable_prompt(error) from None

    async def asend_prompt(
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
        timeout: float | timedelta | None = None,  # noqa: ASYNC109 - it ends waits before they begin
        deadline: datetime | float | None = None,
        user: str | None = None,
        skip_rate_limit: bool = False,
        on_retry: Callable[[Attempt], object] | None = None,
        **params: Any,
    ) -> Reply:
        """Sends one prompt from asyncio; parameters, answer and errors match `send_prompt`.

        Cancelling the task gives back the quota of what was not sent yet.

        >>> import asyncio
        >>> asyncio.run(llm.asend_prompt("Name a lake.", model="gpt-4o-mini")).finish_reason
        'stop'
        """
        if "response_format" in params and takes_a_shape(params["response_format"]):
            from quotaflow._structured.repair import asend_shaped

            send, usual = self.asend_prompt, self._core.call_timeout
            return await asend_shaped(send, self._errors_as_text, usual, prompt, params | {
                "task_name": task_name, "provider": provider, "model": model, "retry": retry,
                "fallback": fallback, "max_retries": max_retries, "retry_delay": retry_delay, "system": system,
                "priority": priority, "timeout": timeout, "deadline": deadline, "user": user,
                "skip_rate_limit": skip_rate_limit, "on_retry": on_retry,
            })  # fmt: skip
        options = self._options_for(
            task_name, provider, model, retry, fallback, max_retries, retry_delay, system, priority,
            timeout, deadline, user, skip_rate_limit, params, on_retry,
        )  # fmt: skip
        if type(prompt) is str and prompt and not prompt.isspace():
            text, is_messages = prompt, False
        else:
            text, is_messages = encode_prompt(prompt)
        # Not before it is needed: asyncio is half of what importing it all would cost.
        from quotaflow._call.event_loop import running_loop_and_port

        loop, port = running_loop_and_port()
        try:
            if port is None:
                return reply_from(await self._core.asend_anywhere(text, is_messages, options))
            future: Future[Outcome] = loop.create_future()
            call = self._core.asend(text, is_messages, options, port, future)
        except CallError as error:
            if not self._errors_as_text:
                raise
            return failed_reply(error)
        except UnicodeEncodeError as error:
            raise unencodable_prompt(error) from None
        try:
            return reply_from(await future)
        except BaseException as error:
            if self._errors_as_text and isinstance(error, CallError):
                return failed_reply(error)
            port.cancel(call)
            raise

    def clear_cache(self) -> int:
        """Forgets every answer that was kept for calls with `cache=`, for all processes that share the state.

        Returns:
            How many there were.

        Raises:
            StateError: the state cannot be written.

        >>> llm.clear_cache()
        0
        """
        return self._core.clear_cache()

    def prepare_prompt_with_context(self, template: str, data: Mapping[str, Any]) -> str:
        """Puts `data` where `template` has `$name` or `${name}`; as `quotaflow.prepare_prompt_with_context`.

        >>> llm.prepare_prompt_with_context("Translate to $language: bread", {"language": "French"})
        'Translate to French: bread'
        """
        from quotaflow._templates.render import prepare_prompt_with_context

        return prepare_prompt_with_context(template, data)

    def render(
        self, template: str, params: Mapping[str, Any], *, engine: Literal["auto", "jinja2", "dollar"] = "auto"
    ) -> str:
        """A prompt from a template; as `quotaflow.render`.

        >>> llm.render("Translate to $language: $text", {"language": "French", "text": "bread"})
        'Translate to French: bread'
        """
        from quotaflow._templates.render import render

        return render(template, params, engine=engine)

    def status(self) -> dict[str, Any]:
        """Every key with its health, limits, what is used and left, until when it is blocked, and who waits.

        A snapshot of plain values, made for reading and for JSON; it holds no key.

        >>> isinstance(llm.status(), dict)
        True
        """
        import json

        snapshot: dict[str, Any] = json.loads(self._core.status())
        return snapshot

    def reset(self, provider: str | None = None, key: str | None = None) -> int:
        """Forgets blocks, exhaustion and used quota, for instance after credit was bought.

        Args:
            provider: only of this provider; `None` for all.
            key: only of the key with this label; `None` for all.

        Returns:
            How many blocks and ledgers were cleared.

        >>> llm.reset("openai") >= 0
        True
        """
        return self._core.reset(optional_name("provider", provider), optional_name("key", key))

    def on(self, event: EventName, hook: Callable[[Any], object]) -> Callable[[], None]:
        """Calls `hook` with a record of each event of this object; see `quotaflow.events` for which there are.

        One thread of ours calls all hooks. What a hook raises is logged and ignored; while one hangs, calls go on
        and up to 10,000 events wait.

        Returns:
            A function that removes the hook.

        >>> off = llm.on("blocked", lambda event: print(event.key, event.failure))
        >>> off()
        """
        if self._hooks is None:
            from quotaflow._call.hooks import Hooks

            self._hooks = Hooks(self._core)
        return self._hooks.on(event, hook)

    def close(self) -> None:
        """Ends it: calls that wait and streams raise `ClosedError`, and so does every later call.

        Prompts that were sent come to their end. Closing twice is fine.

        >>> llm.close()
        """
        self._core.close()
        if self._hooks is not None:
            self._hooks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LLMInterface state={self._state or 'default'!r}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(
            "an LLMInterface holds keys and is not pickled: make one in each process, they share their state"
        )

    def _options_for(
        self,
        task_name: object,
        provider: object,
        model: object,
        retry: object,
        fallback: object,
        max_retries: object,
        retry_delay: object,
        system: object,
        priority: object,
        timeout: object,
        deadline: object,
        user: object,
        skip_rate_limit: object,
        params: dict[str, Any],
        on_retry: object,
    ) -> CallOptions:
        """Checked options, remembered: most calls of a program differ in nothing but their prompt."""
        if self._hooks is not None:
            # A child of a fork inherits hooks and not the thread that calls them.
            self._hooks.ensure()
        debug = self._logs_at(_DEBUG)
        asked = (
            task_name, provider, model, retry, fallback, max_retries, retry_delay, system, priority,
            timeout, deadline, user, skip_rate_limit,
        )  # fmt: skip
        kinds = tuple(map(type, params.values()))
        if on_retry is not None or deadline is not None or not _PLAIN.issuperset(kinds):
            return self._make_options(*asked, params, on_retry, debug)
        # Equal is not enough: True == 1 == 1.0, and one of them may be wrong where another is right.
        kinds += (*map(type, asked[3:7]), type(priority), type(timeout), type(skip_rate_limit))
        known = (asked, debug, kinds, tuple(params.items()))
        try:
            options = self._options.get(known)
        except TypeError:  # not hashable, so it is a wrong argument, and the check says which
            return self._make_options(*asked, params, on_retry, debug)
        if options is None:
            options = self._make_options(*asked, params, on_retry, debug)
            if len(self._options) >= _MOST_KEPT_OPTIONS:
                self._options.clear()
            self._options[known] = options
        return options
