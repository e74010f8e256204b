"""Event hooks, called on a thread of their own so that no call waits for one."""

from __future__ import annotations

import json
import os
import threading
import weakref
from functools import partial

from quotaflow._call.checks import wrong_type
from quotaflow._call.logs import logger
from quotaflow.errors import InvalidArgumentError, QuotaflowError
from quotaflow.events import KINDS, made

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from quotaflow._quotaflow import Core

# The thread looks this often whether the object it serves is still there.
_LOOKS_EVERY = 5.0
# A hook that hangs does not keep a program from ending.
_PATIENCE = 0.5


class Hooks:
    """The hooks of one object, and the thread that calls them; it starts with the first hook."""

    __slots__ = ("__weakref__", "_core", "_hooks", "_lock", "_process", "_stop", "_stopping", "_thread")

    def __init__(self, core: Core) -> None:
        self._core = core
        self._hooks: dict[str, tuple[Callable[[Any], object], ...]] = {}
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._stop: weakref.finalize[..., Hooks] | None = None

    def on(self, event: object, hook: Callable[[Any], object]) -> Callable[[], None]:
        """Add a hook; return what removes it."""
        if not isinstance(event, str) or event not in KINDS:
            raise InvalidArgumentError(f"there is no event {event!r}", hint=f"events are {', '.join(KINDS)}")
        if not callable(hook):
            raise wrong_type("the hook", hook, "pass a function")
        self._of_this_process()
        with self._lock:
            self._hooks[event] = (*self._hooks.get(event, ()), hook)
            self._core.listen([name for name, hooks in self._hooks.items() if hooks])
        self.ensure()
        return partial(self._off, event, hook)

    def _off(self, event: str, hook: Callable[[Any], object]) -> None:
        self._of_this_process()
        with self._lock:
            left = list(self._hooks.get(event, ()))
            if hook in left:
                left.remove(hook)
            self._hooks[event] = tuple(left)
            self._core.listen([name for name, hooks in self._hooks.items() if hooks])

    def _of_this_process(self) -> None:
        if self._process != os.getpid():
            # The thread stayed with the parent, and the lock may be held there.
            self._begin()

    def _runs(self) -> bool:
        # One that has ended because its object was closed is not begun again.
        return self._thread is not None and (self._thread.is_alive() or self._stopping.is_set())

    def ensure(self) -> None:
        """Start the thread in this process if need be: a fork takes no threads along."""
        self._of_this_process()
        if self._runs() or not any(self._hooks.values()):
            return
        with self._lock:
            if self._runs():
                return
            if self._stop is not None:
                self._stop.detach()
            stopping = self._stopping
            arguments = (self._core, weakref.ref(self), stopping)
            self._thread = threading.Thread(target=_serve, args=arguments, name="quotaflow hooks", daemon=True)
            # Before the interpreter goes: a thread in Rust cannot be ended with it.
            self._stop = weakref.finalize(self, _end, self._core, self._thread, stopping, self._process)
            self._thread.start()

    def close(self) -> None:
        """Wait a moment for the last events; the object is closed already."""
        thread = self._thread
        if thread is not None and self._process == os.getpid() and thread is not threading.current_thread():
            thread.join(_PATIENCE)

    def tell(self, facts: dict[str, Any]) -> None:
        """Call the hooks of one event."""
        name = facts.get("event", "")
        for hook in self._hooks.get(name, ()):
            try:
                hook(made(name, facts))
            except BaseException:  # noqa: BLE001 - reported: SystemExit here would end this thread, no program
                logger().exception("a hook for %r raised", name)


def _serve(core: Core, served: weakref.ref[Hooks], stopping: threading.Event) -> None:
    while not stopping.is_set() and served() is not None:
        try:
            events = core.next_events(_LOOKS_EVERY)
        except QuotaflowError as error:
            # It could not even begin; every call says so, too.
            logger().warning("no events: %s", error)
            stopping.set()
            return
        if events is None:
            stopping.set()
            return
        for text in events:
            hooks = served()
            if hooks is None:
                return
            hooks.tell(json.loads(text))
            del hooks


def _end(core: Core, thread: threading.Thread, stopping: threading.Event, process: int) -> None:
    stopping.set()
    if process != os.getpid():
        return
    core.listen([])
    if thread is not threading.current_thread():
        thread.join(_PATIENCE)
