"""How long does the rest of a batch take, when does that have to be found out anew?"""

from __future__ import annotations

import time

from quotaflow.errors import QuotaflowError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from quotaflow._quotaflow import BatchRun
    from quotaflow.batch_summaries import Tally

# It is found out anew after so many seconds at the earliest, and so that it takes this share of the time at most.
_EACH = 2.0
_SHARE = 0.02


class RemainingTime:
    """Asks the run now and then, which goes through the quotas as they are; in between it counts down."""

    __slots__ = ("_again_at", "_asked_at", "_asked_of", "_left", "_resumed")

    def __init__(self) -> None:
        self._again_at = self._asked_at = 0.0
        self._left: float | None = None
        self._asked_of = self._resumed = 0

    def seconds(self, tally: Tally, total: int | None, run: BatchRun | None) -> float | None:
        """How long the rest takes, in seconds; `None` when nobody knows how much it is, or what it waits for.

        Args:
            tally: what is done.
            total: how many there are.
            run: who may be asked; `None`: nobody any more.
        """
        if total is None:
            return None
        if tally.done >= total:
            return 0.0
        now = time.monotonic()
        if now >= self._again_at and run is not None:
            self._ask(tally, total, run, now)
        if self._left is None:
            return None
        # What an earlier run finished turns out while prompts are read, and takes no time.
        sent = 1 - (tally.resumed - self._resumed) / self._asked_of
        return max(0.0, self._left * sent - (now - self._asked_at))

    def _ask(self, tally: Tally, total: int, run: BatchRun, now: float) -> None:
        sent = tally.sent
        size = (round(tally.input_tokens / sent), round(tally.output_tokens / sent)) if sent > 0 else None
        self._asked_of, self._resumed = total - tally.done, tally.resumed
        try:
            self._left = run.time_left(self._asked_of, size)
        except QuotaflowError:
            self._left = None
        self._asked_at = now
        self._again_at = now + max(_EACH, (time.monotonic() - now) / _SHARE)
