"""LangChain's verbs of `LLMInterface`, with and without LangChain."""

from __future__ import annotations

import sys

from quotaflow._call.checks import wrong_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
    from types import ModuleType
    from typing import Any, Literal, Self, overload

    from langchain_core.runnables import Runnable

    from quotaflow._streaming.stream import AsyncPromptStream, PromptStream
    from quotaflow.reply import Reply

    Config = Mapping[str, Any]

# Where LangChain keeps `Runnable`: as long as this is not loaded, there is no chain and no callback.
_HOME = "langchain_core.runnables.base"
_MOST_THREADS = 32
# The type that was registered with LangChain; a list, for it changes once.
_registered: list[type] = []


class RunnableMethods:
    """LangChain's verbs for an object that has `send_prompt` and `asend_prompt`.

    Without LangChain they are plain calls. As soon as LangChain is loaded the object is one of its Runnables:
    it stands in chains, and callbacks, tags and metadata of a `RunnableConfig` take part in every call.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        send_prompt: Callable[..., Reply]
        asend_prompt: Callable[..., Awaitable[Reply]]
        stream_prompt: Callable[..., PromptStream]
        astream_prompt: Callable[..., AsyncPromptStream]

    # LangChain takes what `isinstance(thing, Runnable)` says into a chain as it is, and wraps anything callable as
    # a function, which hides it from callbacks and from views of the chain. Deriving from Runnable would
    # import LangChain for everyone, and registering with it needs a moment when it is loaded and not asked yet,
    # whichever was imported first. There is exactly one: the class of LangChain's is an ABC, and an ABC reads
    # `__class__` of what it is asked about before it looks at what was registered. So we register there, once.
    # The answer itself is the truth.
    @property  # type: ignore[misc]
    def __class__(self) -> type[Self]:
        if not _registered and _HOME in sys.modules:
            runnable = getattr(sys.modules[_HOME], "Runnable", None)
            if runnable is not None:  # None: it is being imported right now
                _registered.append(runnable.register(RunnableMethods))
        return type(self)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            """Take everything else of a Runnable from LangChain's class, once that is loaded."""
            side = None if name.startswith("__") else _langchain_side()
            if side is None:
                text = f"{type(self).__name__!r} object has no attribute {name!r}"
                raise AttributeError(text, name=name, obj=self)
            return side.borrowed(self, name)

    def invoke(self, input: object, config: Config | None = None, **kwargs: Any) -> Reply:  # noqa: A002
        """Send one prompt and give its text, as LangChain calls it.

        Args:
            input: text, messages, or a prompt value of LangChain.
            config: a `RunnableConfig`: callbacks, tags, metadata, run name. Without LangChain it says nothing.
            kwargs: whatever `send_prompt` takes besides the prompt: `model`, `task_name`, `temperature`, `stop`…
                With `stream=True`, `idle_timeout` or `resume` the answer is streamed and put together.

        Returns:
            The text as a `Reply`.

        Raises:
            QuotaflowError: whatever `send_prompt` raises, unchanged.

        >>> llm.invoke("Name a river.", model="gpt-4o-mini").provider
        'openai'
        """
        side = _langchain_side()
        if side is None:
            from quotaflow._streaming.methods import whole_answer

            return whole_answer(self, input, kwargs)
        reply: Reply = side.invoke(self, input, config, kwargs)
        return reply

    async def ainvoke(self, input: object, config: Config | None = None, **kwargs: Any) -> Reply:  # noqa: A002
        """Do the same as `invoke` for asyncio; it blocks no thread.

        >>> import asyncio
        >>> asyncio.run(llm.ainvoke("Name a lake.", model="gpt-4o-mini")).finish_reason
        'stop'
        """
        side = _langchain_side()
        if side is None:
            from quotaflow._streaming.methods import awhole_answer

            return await awhole_answer(self, input, kwargs)
        reply: Reply = await side.ainvoke(self, input, config, kwargs)
        return reply

    def stream(self, input: object, config: Config | None = None, **kwargs: Any) -> Iterator[str]:  # noqa: A002
        """Yield the text of the answer in pieces, as they arrive; `stream_prompt` has more facts.

        >>> "".join(llm.stream("Name a river.", model="gpt-4o-mini")) != ""
        True
        """
        side = _langchain_side()
        if side is not None:
            yield from side.stream(self, input, config, kwargs)
            return
        _is_not_resumed(kwargs)
        with self.stream_prompt(input, **kwargs) as stream:
            yield from stream

    async def astream(
        self,
        input: object,  # noqa: A002
        config: Config | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[str]:
        """Yield the text of the answer in pieces for asyncio, as they arrive; `astream_prompt` has more facts.

        >>> import asyncio
        >>> async def text():
        ...     return "".join([piece async for piece in llm.astream("Name a lake.", model="gpt-4o-mini")])
        >>> asyncio.run(text()) != ""
        True
        """
        side = _langchain_side()
        if side is not None:
            async for piece in side.astream(self, input, config, kwargs):
                yield piece
            return
        _is_not_resumed(kwargs)
        async with self.astream_prompt(input, **kwargs) as stream:
            async for piece in stream:
                yield piece

    if TYPE_CHECKING:

        @overload
        def batch(
            self,
            inputs: Sequence[object],
            config: Config | Sequence[Config] | None = None,
            *,
            return_exceptions: Literal[False] = False,
            **kwargs: Any,
        ) -> list[Reply]: ...

        @overload
        def batch(
            self,
            inputs: Sequence[object],
            config: Config | Sequence[Config] | None = None,
            *,
            return_exceptions: Literal[True],
            **kwargs: Any,
        ) -> list[Reply | Exception]: ...

    def batch(
        self,
        inputs: Sequence[object],
        config: Config | Sequence[Config] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Send many prompts at once from threads, and give the answers in the order of the prompts.

        Args:
            inputs: the prompts, each as `invoke` takes it.
            config: one `RunnableConfig` for all, or one for each; its `max_concurrency` bounds the threads.
            return_exceptions: whether an error stands in the place of its answer, or the first one is raised.
            kwargs: what `invoke` takes, for all of them.

        >>> [reply.provider for reply in llm.batch(["One?", "Two?"], {"max_concurrency": 2}, model="gpt-4o-mini")]
        ['openai', 'openai']
        """
        side = _langchain_side()
        if side is not None:
            return side.batch(self, inputs, config, return_exceptions, kwargs)
        if not inputs:
            return []
        from concurrent.futures import ThreadPoolExecutor

        from quotaflow._streaming.methods import whole_answer

        threads = _max_concurrency(config) or min(_MOST_THREADS, len(inputs))
        with ThreadPoolExecutor(threads, "quotaflow-batch") as pool:
            futures = [pool.submit(whole_answer, self, prompt, kwargs) for prompt in inputs]
            if return_exceptions:
                return [future.exception() or future.result() for future in futures]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    if TYPE_CHECKING:

        @overload
        async def abatch(
            self,
            inputs: Sequence[object],
            config: Config | Sequence[Config] | None = None,
            *,
            return_exceptions: Literal[False] = False,
            **kwargs: Any,
        ) -> list[Reply]: ...

        @overload
        async def abatch(
            self,
            inputs: Sequence[object],
            config: Config | Sequence[Config] | None = None,
            *,
            return_exceptions: Literal[True],
            **kwargs: Any,
        ) -> list[Reply | Exception]: ...

    async def abatch(
        self,
        inputs: Sequence[object],
        config: Config | Sequence[Config] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Do the same as `batch` for asyncio: all at once, or as many as `max_concurrency` says.

        >>> import asyncio
        >>> len(asyncio.run(llm.abatch(["One?", "Two?"], model="gpt-4o-mini")))
        2
        """
        side = _langchain_side()
        if side is not None:
            return await side.abatch(self, inputs, config, return_exceptions, kwargs)
        from asyncio import Semaphore, ensure_future, gather

        from quotaflow._streaming.methods import awhole_answer

        turn = Semaphore(_max_concurrency(config) or max(1, len(inputs)))

        async def one(prompt: object) -> Reply:
            async with turn:
                return await awhole_answer(self, prompt, kwargs)

        tasks = [ensure_future(one(prompt)) for prompt in inputs]
        try:
            return await gather(*tasks, return_exceptions=return_exceptions)
        except BaseException:
            # One failed or we were cancelled: what was not sent yet gives its quota back.
            for task in tasks:
                task.cancel()
            await gather(*tasks, return_exceptions=True)
            raise

    def __call__(self, input: object, config: Config | None = None, **kwargs: Any) -> Reply:  # noqa: A002
        """Do the same as `invoke`, for what takes a function."""
        return self.invoke(input, config, **kwargs)

    def __or__(self, other: Any) -> Runnable[Any, Any]:
        chain: Runnable[Any, Any] = _needed_langchain_side().sequence(self, other)
        return chain

    def __ror__(self, other: Any) -> Runnable[Any, Any]:
        chain: Runnable[Any, Any] = _needed_langchain_side().sequence(other, self)
        return chain

    def pipe(self, *others: Any, name: str | None = None) -> Runnable[Any, Any]:
        """Return a chain of this and the others, as `|` makes it."""
        chain: Runnable[Any, Any] = _needed_langchain_side().sequence(self, *others, name=name)
        return chain

    def with_config(self, config: Config | None = None, **kwargs: Any) -> Runnable[Any, str]:
        """Return a Runnable that calls this with a `RunnableConfig` of its own."""
        return self._bound("with_config", config, **kwargs)

    def bind(self, **kwargs: Any) -> Runnable[Any, str]:
        """Return a Runnable that calls this with these arguments of `send_prompt`, for instance `model=`."""
        return self._bound("bind", **kwargs)

    def with_retry(self, **kwargs: Any) -> Runnable[Any, str]:
        """Return a Runnable that tries again, after the retries of quotaflow itself."""
        return self._bound("with_retry", **kwargs)

    def with_fallbacks(self, fallbacks: Sequence[Any], **kwargs: Any) -> Runnable[Any, Any]:
        """Return a Runnable that goes on to other Runnables when this raises."""
        return self._bound("with_fallbacks", fallbacks, **kwargs)

    def _bound(self, name: str, *args: Any, **kwargs: Any) -> Runnable[Any, Any]:
        made: Runnable[Any, Any] = _needed_langchain_side().borrowed(self, name)(*args, **kwargs)
        return made


def _is_not_resumed(arguments: dict[str, Any]) -> None:
    """Refuse `resume`, with and without LangChain: joined pieces cannot be taken back."""
    if "resume" in arguments:
        from quotaflow.errors import InvalidArgumentError

        raise InvalidArgumentError(
            "resume cannot be used in stream and astream, where no piece can be taken back",
            hint="use stream_prompt",
        )


def _langchain_side() -> ModuleType | None:
    """Return what needs LangChain, if LangChain is loaded; it is not imported here."""
    return _needed_langchain_side() if _HOME in sys.modules else None


def _needed_langchain_side() -> ModuleType:
    from quotaflow.integrations import chains

    return chains


def _max_concurrency(config: Config | Sequence[Config] | None) -> int | None:
    """Return how many calls at once a config allows; `None` when it does not say."""
    from quotaflow.errors import InvalidArgumentError

    first = config[0] if isinstance(config, list | tuple) and config else config
    if not first:
        return None
    if not hasattr(first, "get"):
        raise wrong_type("config", first, "pass a RunnableConfig, a list of them, or None")
    most: object = first.get("max_concurrency")
    if most is None or (type(most) is int and most > 0):
        return most
    raise InvalidArgumentError("max_concurrency is no whole number from 1", hint="pass None for no bound")
