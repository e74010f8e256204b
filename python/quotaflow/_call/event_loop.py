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


def running_loop_and_port() -> tuple[AbstractEventLoop, LoopPort]:
    """Return the running loop and its port, which is made at first.

    Raises:
        RuntimeError: no event loop runs in this thread.
    """
    loop = get_running_loop()
    port = _here.port
    if _here.loop is not loop or port is None:
        _here.port = port = _port_of(loop)
        _here.loop = loop
    return loop, port


def _port_of(loop: AbstractEventLoop) -> LoopPort:
    port = LoopPort()
    try:
        loop.add_reader(port.fileno(), port.drain)
    except NotImplementedError:
        # It is woken by call_soon_threadsafe instead, as Windows' proactor.
        return LoopPort(watches_sockets=False)
    return port
