"""Deferral of Ctrl-C while a batch counts what arrived."""

from __future__ import annotations

import signal
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Self


class Uninterrupted:
    """What stands in it is finished first: an answer is looked at and counted once, or not at all.

    On other threads, and where the program has a handler of its own for SIGINT, it does nothing: asyncio cancels
    the task, and others know what they do.

    Raises:
        KeyboardInterrupt: at its end, when Ctrl-C was pressed in between.

    >>> with Uninterrupted():
    ...     pass
    """

    __slots__ = ("_heard", "_is_mine")

    def __enter__(self) -> Self:
        self._heard = False
        self._is_mine = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._is_mine:
            signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_mine:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if self._heard:
                raise KeyboardInterrupt

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self._heard = True
