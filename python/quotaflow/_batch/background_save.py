"""Saving of a batch's results while its driver is elsewhere."""

from __future__ import annotations

from threading import Event, Lock, Thread
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK_EACH = 0.05
# A driver that comes back within this time writes it down.
_PATIENCE = 0.2


class Keeper:
    """Does something now and then while the driver of a batch is elsewhere: in other code, for a long time.

    The driver has the batch alone, except in `with keeper:`.

    >>> kept = Event()
    >>> keeper = Keeper()
    >>> keeper.start(kept.set)
    >>> with keeper:
    ...     kept.wait(5)
    True
    >>> keeper.end()
    """

    __slots__ = ("_driven", "_keep", "_left_at", "_over", "_thread")

    def __init__(self) -> None:
        self._keep: Callable[[], object] | None = None
        self._driven = Lock()
        self._driven.acquire()
        self._left_at: float | None = None
        self._over = Event()
        self._thread: Thread | None = None

    def start(self, keep: Callable[[], object]) -> None:
        """Start a thread that calls `keep` from now on; what it raises, the driver meets as well."""
        self._keep = keep
        thread = Thread(target=self._watch, name="quotaflow-keeper", daemon=True)
        thread.start()
        # Not before: after a Ctrl-C in between its end could not be waited for.
        self._thread = thread

    def __enter__(self) -> None:
        self._left_at = monotonic()
        self._driven.release()

    def __exit__(self, *_: object) -> None:
        self._driven.acquire()
        self._left_at = None

    def end(self) -> None:
        """End the saving: the batch is over. Ending twice is fine."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        self._keep = None

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_EACH):
            left = self._left_at
            if left is None or monotonic() - left < _PATIENCE or not self._driven.acquire(blocking=False):
                continue
            try:
                if self._left_at is not None and self._keep is not None:
                    self._keep()
            except Exception:  # noqa: BLE001 - the driver does the same when it is back, and meets the same
                return
            finally:
                self._driven.release()
