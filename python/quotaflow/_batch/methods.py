"""The batch methods of `LLMInterface`: `send_batch`, `iter_batch` and their twins."""

from __future__ import annotations

from quotaflow._call.options import CallArguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator
    from datetime import datetime, timedelta
    from os import PathLike
    from typing import Any

    from quotaflow._batch.options import BatchOptions
    from quotaflow._batch.results import Batch, BatchItem
    from quotaflow._batch.run import BatchWork
    from quotaflow._batch.summary import BatchProgress
    from quotaflow._call.caller import Caller
    from quotaflow.records import Attempt

    Prompts = Iterable[Any] | str | PathLike[str]
    Progress = bool | Callable[[BatchProgress], object] | None


class BatchMethods:
    """Batches, for an object that sends prompts."""

    __slots__ = ()

    if TYPE_CHECKING:
        _caller: Caller

    def send_batch(
        self,
        prompts: Prompts,
        concurrency: int | None = None,
        *,
        progress: Progress = None,
        checkpoint: str | PathLike[str] | None = None,
        stop_on_error: bool = False,
        dedupe: bool = True,
        task_name: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        retry: bool = True,
        fallback: bool = True,
        max_retries: int | None = None,
        retry_delay: float | timedelta | None = None,
        system: str | None = None,
        priority: int = 2,
        timeout: float | timedelta | None = None,
        deadline: datetime | float | None = None,
        user: str | None = None,
        skip_rate_limit: bool = False,
        on_retry: Callable[[Attempt], object] | None = None,
        **params: Any,
    ) -> Batch:
        """Send many prompts as fast as the quotas allow, and wait for all answers.

        A prompt that gets no answer is an item with an `error`; the others go on. What is wrong with the
        arguments, a provider without a key for instance, is raised. Ctrl-C ends it within a second, and what was
        finished is in the `batch` of the `KeyboardInterrupt`; with `checkpoint` it is saved as well, and the same
        call again goes on from there.

        Args:
            prompts: a list, a generator, or the path of a `.jsonl` file, read as far as prompts are needed. Each
                is a text, a list of messages, or a dict: `{"prompt": …}`, `{"messages": […]}` or `{"template": …,
                "params": {…}}`, with an `id` if you like, with arguments of this call (`model`, `system`,
                `deadline`, `cache`, …), and everything else for the provider. A line that is no prompt is an item
                with an error that names it.
            concurrency: the most calls at once; `None` leaves it to the quotas and what the providers take.
            progress: `None` shows a bar in a terminal or a notebook (with `rich` installed, else a line now and
                then), `True` always, `False` never; a function is called with a `BatchProgress`, at
                most ten times a second and at the end. What it raises is logged once.
            checkpoint: a file that gets one line for each finished prompt. The same call with the same file sends
                what is missing or failed, judged by content; a file made with other arguments is refused.
            stop_on_error: whether the first prompt without an answer ends it: what was sent is waited for, and its
                error is raised, with everything finished in `error.batch`.
            dedupe: whether prompts with the same content are sent once.
            task_name: as for `send_prompt`, like all that are not explained here.
            provider: as for `send_prompt`.
            model: as for `send_prompt`.
            retry: as for `send_prompt`.
            fallback: as for `send_prompt`.
            max_retries: as for `send_prompt`.
            retry_delay: as for `send_prompt`.
            system: as for `send_prompt`.
            priority: as for `send_prompt`; 2, so that people who wait go first.
            timeout: the seconds each call may take once it has left the waiting line, what is tried again
                included. Prompts of a batch are there to wait for quota: that takes as long as it takes.
            deadline: when the whole batch ends; prompts without an answer then have a `DeadlineExceededError`.
                Calls may wait until then, for the quota of the next day for instance; without a deadline none
                waits for more than `max_wait` of the config. A prompt may have an earlier one of its own.
            user: as for `send_prompt`.
            skip_rate_limit: as for `send_prompt`.
            on_retry: as for `send_prompt`.
            params: everything else goes to the provider. With `response_format`, as for `send_prompt`, every
                answer is held to a shape: `item.reply.parsed` is the object, and an answer that has another one
                after its repair round is the `error` of its item.

        Returns:
            One item for each prompt, in their order, and a summary.

        Raises:
            InvalidArgumentError: an argument is wrong; nothing was sent.
            DeadlineExceededError: the deadline has passed already; nothing was sent.
            CheckpointError: the checkpoint is another job's, in use, no checkpoint, or cannot be written.
            ClosedError: the interface was closed.
            StateError: the remembered quotas cannot be read or written.
            Exception: what a generator raised, after what was read before is finished; that is in `error.batch`.

        >>> batch = llm.send_batch(["Name a river.", "Name a lake."], model="gpt-4o-mini")
        >>> [item.reply.provider for item in batch], batch.summary.successful
        (['openai', 'openai'], 2)
        """
        arguments = CallArguments(
            task_name, provider, model, retry, fallback, max_retries, retry_delay, system, priority, timeout,
            deadline, user, skip_rate_limit, on_retry, params,
        )  # fmt: skip
        options = self._batch_options(
            prompts, arguments, concurrency, progress, checkpoint, stop_on_error, dedupe, False
        )
        return _work(options, keeps_all=True).carried_out()

    async def asend_batch(
        self,
        prompts: Prompts,
        concurrency: int | None = None,
        *,
        progress: Progress = None,
        checkpoint: str | PathLike[str] | None = None,
        stop_on_error: bool = False,
        dedupe: bool = True,
        task_name: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        retry: bool = True,
        fallback: bool = True,
        max_retries: int | None = None,
        retry_delay: float | timedelta | None = None,
        system: str | None = None,
        priority: int = 2,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109 - it is for each call
        deadline: datetime | float | None = None,
        user: str | None = None,
        skip_rate_limit: bool = False,
        on_retry: Callable[[Attempt], object] | None = None,
        **params: Any,
    ) -> Batch:
        """Send many prompts from asyncio; parameters, result and errors match `send_batch`.

        Prompts are read on the loop: a generator that blocks blocks it. When the task is cancelled, what was
        finished is in the `batch` of the `CancelledError`; what `asyncio.run` and `wait_for` raise in its place
        has that as its `__context__`.

        >>> import asyncio
        >>> len(asyncio.run(llm.asend_batch(["Name a river.", "Name a lake."], model="gpt-4o-mini")))
        2
        """
        arguments = CallArguments(
            task_name, provider, model, retry, fallback, max_retries, retry_delay, system, priority, timeout,
            deadline, user, skip_rate_limit, on_retry, params,
        )  # fmt: skip
        options = self._batch_options(
            prompts, arguments, concurrency, progress, checkpoint, stop_on_error, dedupe, False
        )
        return await _work(options, keeps_all=True).acarried_out()

    def iter_batch(
        self,
        prompts: Prompts,
        concurrency: int | None = None,
        *,
        ordered: bool = False,
        progress: Progress = None,
        checkpoint: str | PathLike[str] | None = None,
        stop_on_error: bool = False,
        dedupe: bool = True,
        task_name: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        retry: bool = True,
        fallback: bool = True,
        max_retries: int | None = None,
        retry_delay: float | timedelta | None = None,
        system: str | None = None,
        priority: int = 2,
        timeout: float | timedelta | None = None,
        deadline: datetime | float | None = None,
        user: str | None = None,
        skip_rate_limit: bool = False,
        on_retry: Callable[[Attempt], object] | None = None,
        **params: Any,
    ) -> Iterator[BatchItem]:
        """Send many prompts and give each item when it is finished; parameters and errors match `send_batch`.

        Memory does not grow with the number of prompts. While the next item is not asked for no more prompts are
        begun; what is begun goes on, and is written to the checkpoint. Leaving the loop ends the batch. Without a
        checkpoint, `dedupe` remembers the last 10,000 answers.

        With `ordered` items come in the order of the prompts, else each when it is there.

        >>> for item in llm.iter_batch(["Name a river."], model="gpt-4o-mini"):
        ...     item.index, item.ok
        (0, True)
        """
        arguments = CallArguments(
            task_name, provider, model, retry, fallback, max_retries, retry_delay, system, priority, timeout,
            deadline, user, skip_rate_limit, on_retry, params,
        )  # fmt: skip
        options = self._batch_options(
            prompts, arguments, concurrency, progress, checkpoint, stop_on_error, dedupe, ordered
        )
        return _flat(_work(options, keeps_all=False))

    def aiter_batch(
        self,
        prompts: Prompts,
        concurrency: int | None = None,
        *,
        ordered: bool = False,
        progress: Progress = None,
        checkpoint: str | PathLike[str] | None = None,
        stop_on_error: bool = False,
        dedupe: bool = True,
        task_name: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        retry: bool = True,
        fallback: bool = True,
        max_retries: int | None = None,
        retry_delay: float | timedelta | None = None,
        system: str | None = None,
        priority: int = 2,
        timeout: float | timedelta | None = None,
        deadline: datetime | float | None = None,
        user: str | None = None,
        skip_rate_limit: bool = False,
        on_retry: Callable[[Attempt], object] | None = None,
        **params: Any,
    ) -> AsyncIterator[BatchItem]:
        """Do the same as `iter_batch` for asyncio.

        >>> import asyncio
        >>> async def places():
        ...     return [
        ...         item.index async for item in llm.aiter_batch(["One?", "Two?"], ordered=True, model="gpt-4o")
        ...     ]
        >>> asyncio.run(places())
        [0, 1]
        """
        arguments = CallArguments(
            task_name, provider, model, retry, fallback, max_retries, retry_delay, system, priority, timeout,
            deadline, user, skip_rate_limit, on_retry, params,
        )  # fmt: skip
        options = self._batch_options(
            prompts, arguments, concurrency, progress, checkpoint, stop_on_error, dedupe, ordered
        )
        return _aflat(_work(options, keeps_all=False))

    def _batch_options(
        self,
        prompts: object,
        arguments: CallArguments,
        concurrency: object,
        progress: object,
        checkpoint: object,
        stop_on_error: object,
        dedupe: object,
        ordered: object,
    ) -> BatchOptions:
        # Not before it is needed: most programs send no batch.
        from quotaflow._batch.options import BatchOptions

        return BatchOptions(
            self._caller, getattr(self, "render", None), prompts, arguments, concurrency, progress=progress,
            checkpoint=checkpoint, stop_on_error=stop_on_error, dedupe=dedupe, ordered=ordered,
        )  # fmt: skip


def _work(options: BatchOptions, *, keeps_all: bool) -> BatchWork:
    from quotaflow._batch.run import BatchWork

    return BatchWork(options, keeps_all)


def _flat(work: BatchWork) -> Iterator[BatchItem]:
    finished = work.finished()
    try:
        for items in finished:
            yield from items
    finally:
        finished.close()  # type: ignore[attr-defined]


async def _aflat(work: BatchWork) -> AsyncIterator[BatchItem]:
    finished = work.afinished()
    try:
        async for items in finished:
            for item in items:
                yield item
    finally:
        await finished.aclose()  # type: ignore[attr-defined]
