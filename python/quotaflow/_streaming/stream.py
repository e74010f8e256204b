"""`PromptStream` and `AsyncPromptStream`: an answer read piece by piece."""

from __future__ import annotations

from _thread import allocate_lock

from quotaflow._streaming.piece import piece_from
from quotaflow.errors import CallError, ClosedError, InvalidArgumentError, QuotaflowError, StreamInterrupted
from quotaflow.reply import failed_reply, reply_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from types import TracebackType
    from typing import Any, Self

    from quotaflow._quotaflow import StreamCall
    from quotaflow._streaming.piece import Piece
    from quotaflow._structured.repair import Wanted
    from quotaflow.reply import Reply

    Item = str | tuple[Any, ...]

# Ends of a stream that were reported; the others are raised again when it is read on.
_TOLD = ("complete", "failed")
_CLOSED = "this stream was closed before its end", "begin a new one"
_CUT_OFF = (
    "this stream was ended when the wait for its next piece was cancelled or interrupted",
    "begin a new one; to wait in steps, keep the task of anext() and give it to asyncio.wait()",
)


class _Stream:
    """What both kinds of stream know."""

    __slots__ = (
        "__weakref__", "_call", "_ended", "_errors_as_text", "_items", "_reply", "_said", "_spoke", "_turn",
        "_wanted",
    )  # fmt: skip

    def __init__(self, call: StreamCall, errors_as_text: bool, wanted: Wanted | None = None) -> None:
        self._call = call
        self._errors_as_text = errors_as_text
        # What the answer is held to, when it is to have a shape.
        self._wanted = wanted
        # What arrived and was not handed out yet, the last first.
        self._items: list[Item] = []
        self._said: list[str] = []
        self._spoke = False
        # How it ended: complete, failed, closed or cut off.
        self._ended: str | None = None
        self._reply: Reply | None = None
        # Held while a reader waits for more.
        self._turn = allocate_lock()

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
        """Return the piece for an item; what it says of the text is kept."""
        piece = piece_from(item)
        if piece.kind == "text":
            self._said.append(str(piece))
        elif piece.restarts:
            self._said.clear()
        return piece

    def _take_turn(self) -> None:
        if not self._turn.acquire(blocking=False):
            raise InvalidArgumentError(
                "another reader waits for the next piece of this stream", hint="read it from one place"
            )

    def _is_there(self) -> bool | None:
        """Whether there is something to hand out without asking; `None` when it has to be asked for."""
        if self._items:
            return True
        if self._ended is None:
            return None
        if self._ended in _TOLD:
            return False
        message, hint = _CLOSED if self._ended == "closed" else _CUT_OFF
        raise ClosedError(message, hint=hint)

    def _took(self, items: list[Item]) -> bool:
        """Whether there is something to hand out; if not, the answer is complete."""
        if self._ended is not None:
            # It was closed while this arrived.
            return bool(self._is_there())
        if items:
            self._spoke = True
            items.reverse()
            self._items = items
            return True
        self._ended = "complete"
        outcome = self._call.outcome()
        if outcome is not None:
            self._reply = reply_from(outcome)
            if self._wanted is not None:
                self._reply, wrong = self._wanted.judged(self._reply)
                if wrong is not None:
                    raise wrong
        return False

    def _failed(self, error: BaseException) -> bool:
        """Whether a text stands for the error, as `errors="text"` asks for; never in the middle of an answer."""
        if self._ended is None:
            self._ended = "failed" if isinstance(error, Exception) else "cut off"
        if self._spoke or not self._errors_as_text:
            return False
        if not isinstance(error, CallError) or isinstance(error, StreamInterrupted):
            return False
        self._reply = failed_reply(error)
        self._items = [str(self._reply)]
        return True

    def _end(self) -> None:
        if self._ended is None:
            self._ended = "closed"
        self._items = []
        self._call.close()

    def __repr__(self) -> str:
        state = "open" if self._ended is None else "over"
        return f"<{type(self).__name__} {state}, {sum(map(len, self._said))} characters so far>"


class PromptStream(_Stream):
    """An answer in pieces; iterate it once, from one thread at a time.

    Iterating gives the text as `str`, piece by piece. Where an attempt broke off and `resume=` had another one go
    on, it gives an empty `Piece` of kind `"seam"`. `events()` gives everything, thinking and tool calls, too.
    It is closed early by `close()`, by leaving its `with` block or by dropping it: the request ends, and what was
    used until then is counted. Reading on after that raises a `ClosedError`.

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
            item = self._next()
            if type(item) is str:
                self._said.append(item)
                return item
            piece = self._noted(item)
            if piece.kind == "seam":
                return piece

    def events(self) -> Iterator[Piece]:
        """Return everything that arrives, as `Piece`s; what was iterated before is not given again.

        >>> stream = llm.stream_prompt("Name a river.", model="gpt-4o-mini")
        >>> {piece.kind for piece in stream.events()}
        {'text'}
        """
        return _Events(self._next, self._noted)

    def _next(self) -> Item:
        while True:
            try:
                return self._items.pop()
            except IndexError:
                pass
            if not self._fetch():
                raise StopIteration

    def _fetch(self) -> bool:
        self._take_turn()
        try:
            is_there = self._is_there()
            if is_there is not None:
                return is_there
            try:
                return self._took(self._call.next())
            except BaseException as error:
                if self._failed(error):
                    return True
                raise
        finally:
            self._turn.release()

    def close(self) -> None:
        """End the request, if one is under way, and count what was used; closing twice is fine.

        >>> stream = llm.stream_prompt("Name a river.", model="gpt-4o-mini")
        >>> stream.close()
        >>> next(stream)
        Traceback (most recent call last):
        quotaflow.errors.ClosedError: this stream was closed before its end — begin a new one
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

    Cancelling the task that waits for a piece ends the stream, and so does `asyncio.wait_for` around it; reading
    on raises a `ClosedError`.

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
            item = await self._next()
            if type(item) is str:
                self._said.append(item)
                return item
            piece = self._noted(item)
            if piece.kind == "seam":
                return piece

    def events(self) -> AsyncIterator[Piece]:
        """Return everything that arrives, as `Piece`s; what was iterated before is not given again.

        >>> import asyncio
        >>> async def kinds():
        ...     stream = llm.astream_prompt("Name a lake.", model="gpt-4o-mini")
        ...     return {piece.kind async for piece in stream.events()}
        >>> asyncio.run(kinds())
        {'text'}
        """
        return _AsyncEvents(self._next, self._noted)

    async def _next(self) -> Item:
        while True:
            try:
                return self._items.pop()
            except IndexError:
                pass
            if not await self._fetch():
                raise StopAsyncIteration

    async def _fetch(self) -> bool:
        self._take_turn()
        try:
            is_there = self._is_there()
            if is_there is not None:
                return is_there
            try:
                return self._took(await self._arrived())
            except BaseException as error:
                if self._failed(error):
                    return True
                self._call.close()
                raise
        finally:
            self._turn.release()

    async def _arrived(self) -> list[Item]:
        from quotaflow._call.event_loop import running_loop_and_port

        loop, port = running_loop_and_port()
        future: Future[list[Item]] = loop.create_future()
        number = self._call.anext(port, future)
        try:
            return await future
        except BaseException:
            port.cancel(number)
            raise

    async def aclose(self) -> None:
        """End the request, if one is under way, and count what was used; closing twice is fine.

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


class _Events:
    """Everything that arrives in a stream; a wait that is interrupted does not make it look complete."""

    __slots__ = ("_next", "_noted")

    def __init__(self, arrives: Callable[[], Item], noted: Callable[[Item], Piece]) -> None:
        self._next, self._noted = arrives, noted

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Piece:
        return self._noted(self._next())


class _AsyncEvents:
    """The same for asyncio."""

    __slots__ = ("_next", "_noted")

    def __init__(self, arrives: Callable[[], Awaitable[Item]], noted: Callable[[Item], Piece]) -> None:
        self._next, self._noted = arrives, noted

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        return self._noted(await self._next())
