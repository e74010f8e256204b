"""How is an answer read that comes in pieces?"""

from __future__ import annotations

from quotaflow.errors import CallError, QuotaflowError, StreamInterrupted
from quotaflow.pieces import piece_from
from quotaflow.reply import failed_reply, reply_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import AsyncIterator, Iterator
    from types import TracebackType
    from typing import Any, Self

    from quotaflow._quotaflow import StreamCall
    from quotaflow.pieces import Piece
    from quotaflow.reply import Reply

    Item = str | tuple[Any, ...]


class _Stream:
    """What both kinds of stream know."""

    __slots__ = ("__weakref__", "_call", "_errors_as_text", "_items", "_over", "_reply", "_said", "_spoke")

    def __init__(self, call: StreamCall, errors_as_text: bool) -> None:
        self._call = call
        self._errors_as_text = errors_as_text
        # What arrived and was not handed out yet.
        self._items: Iterator[Item] = iter(())
        self._said: list[str] = []
        self._spoke = False
        self._over = False
        self._reply: Reply | None = None

    @property
    def text(self) -> str:
        """The text that was handed out so far; after a restart, that of the last attempt."""
        return "".join(self._said)

    @property
    def reply(self) -> Reply:
        """The whole answer with its usage, latencies and attempts, once the stream is over.

        After `resume="continue"` its text is what all attempts said together; usage is that of the last one.

        Raises:
            QuotaflowError: the stream is not over, was closed before its end, or broke off.
        """
        if self._reply is None:
            raise QuotaflowError("there is no reply before the end of the stream", hint="read it to its end")
        return self._reply

    def _noted(self, item: Item) -> Piece:
        """The piece for an item; what it says of the text is kept."""
        piece = piece_from(item)
        if piece.kind == "text":
            self._said.append(str(piece))
        elif piece.restarts:
            self._said.clear()
        return piece

    def _took(self, items: list[Item]) -> bool:
        """Whether there is something to hand out; if not, the answer is complete."""
        if items:
            self._spoke = True
            self._items = iter(items)
            return True
        self._over = True
        outcome = self._call.outcome()
        if outcome is not None:
            self._reply = reply_from(outcome)
        return False

    def _failed(self, error: BaseException) -> bool:
        """Whether a text stands for the error, as `errors="text"` asks for; never in the middle of an answer."""
        self._over = True
        if self._spoke or not self._errors_as_text:
            return False
        if not isinstance(error, CallError) or isinstance(error, StreamInterrupted):
            return False
        self._reply = failed_reply(error)
        self._items = iter((str(self._reply),))
        return True

    def _end(self) -> None:
        self._over = True
        self._items = iter(())
        self._call.close()

    def __repr__(self) -> str:
        state = "over" if self._over else "open"
        return f"<{type(self).__name__} {state}, {sum(map(len, self._said))} characters so far>"


class PromptStream(_Stream):
    """An answer in pieces; iterate it once, from one thread at a time.

    Iterating gives the text as `str`, piece by piece. Where an attempt broke off and `resume=` had another one go
    on, it gives an empty `Piece` of kind `"seam"`. `events()` gives everything, thinking and tool calls, too.
    Whoever stops early closes it, by `close()`, by leaving its `with` block or by forgetting it: the request ends,
    and what was used until then is counted.

    >>> with llm.stream_prompt("Name a river.", model="gpt-4o-mini") as stream:
    ...     text = "".join(stream)
    >>> stream.reply == text == stream.text, stream.reply.first_token_latency is not None
    (True, True)
    """

    __slots__ = ()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        while True:
            for item in self._items:
                if type(item) is str:
                    self._said.append(item)
                    return item
                piece = self._noted(item)
                if piece.kind == "seam":
                    return piece
            if not self._fetch():
                raise StopIteration

    def events(self) -> Iterator[Piece]:
        """Everything that arrives, as `Piece`s; what was iterated before is not given again.

        >>> stream = llm.stream_prompt("Name a river.", model="gpt-4o-mini")
        >>> {piece.kind for piece in stream.events()}
        {'text'}
        """
        while True:
            for item in self._items:
                yield self._noted(item)
            if not self._fetch():
                return

    def _fetch(self) -> bool:
        if self._over:
            return False
        try:
            items = self._call.next()
        except BaseException as error:
            if self._failed(error):
                return True
            raise
        return self._took(items)

    def close(self) -> None:
        """Ends the request, if one is under way, and counts what was used; closing twice is fine.

        >>> stream = llm.stream_prompt("Name a river.", model="gpt-4o-mini")
        >>> stream.close()
        >>> list(stream)
        []
        """
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()


class AsyncPromptStream(_Stream):
    """The same for asyncio: `async for`, `async with`, `aclose()`.

    Cancelling the task that waits for a piece ends the stream.

    >>> import asyncio
    >>> async def text():
    ...     async with llm.astream_prompt("Name a lake.", model="gpt-4o-mini") as stream:
    ...         return "".join([piece async for piece in stream]) == stream.reply
    >>> asyncio.run(text())
    True
    """

    __slots__ = ()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while True:
            for item in self._items:
                if type(item) is str:
                    self._said.append(item)
                    return item
                piece = self._noted(item)
                if piece.kind == "seam":
                    return piece
            if not await self._fetch():
                raise StopAsyncIteration

    async def events(self) -> AsyncIterator[Piece]:
        """Everything that arrives, as `Piece`s; what was iterated before is not given again.

        >>> import asyncio
        >>> async def kinds():
        ...     stream = llm.astream_prompt("Name a lake.", model="gpt-4o-mini")
        ...     return {piece.kind async for piece in stream.events()}
        >>> asyncio.run(kinds())
        {'text'}
        """
        while True:
            for item in self._items:
                yield self._noted(item)
            if not await self._fetch():
                return

    async def _fetch(self) -> bool:
        if self._over:
            return False
        from quotaflow.event_loops import running_loop_and_port

        loop, port = running_loop_and_port()
        try:
            if port is None:
                items = await self._call.anext_anywhere()
            else:
                future: Future[list[Item]] = loop.create_future()
                number = self._call.anext(port, future)
                try:
                    items = await future
                except BaseException:
                    port.cancel(number)
                    raise
        except BaseException as error:
            if self._failed(error):
                return True
            self._call.close()
            raise
        return self._took(items)

    async def aclose(self) -> None:
        """Ends the request, if one is under way, and counts what was used; closing twice is fine.

        >>> import asyncio
        >>> asyncio.run(llm.astream_prompt("Name a lake.", model="gpt-4o-mini").aclose())
        """
        self._end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
