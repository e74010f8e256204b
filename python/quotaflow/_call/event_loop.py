"""The port through which answers reach the event loop of this thread."""

from __future__ import annotations

import threading
from asyncio import get_running_loop

from quotaflow._quotaflow import LoopPort

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop


class _Here(threading.local):
    """The loop this thread ran last, and its port; one thread runs one loop at a time."""

    loop: AbstractEventLoop | None = None
    port: LoopPort | None = None


_here = _Here()


def running_loop_and_port() -> tuple[AbstractEventLoop, LoopPort | None]:
    """Return the running loop and its port, made at first; no port when the loop cannot watch sockets.

    Raises:
        RuntimeError: no event loop runs in this thread.
    """
    loop = get_running_loop()
    if _here.loop is not loop:
        _here.loop, _here.port = loop, _port_of(loop)
    return loop, _here.port


def _port_of(loop: AbstractEventLoop) -> LoopPort | None:
    port = LoopPort()
    try:
        loop.add_reader(port.fileno(), port.drain)
    except NotImplementedError:
        return None
    return port
