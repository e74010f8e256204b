"""Progress of a running batch: what is done, what is left, for how long."""

from __future__ import annotations

import time

from quotaflow._batch.progress_display import Pace, Silence, shown_to
from quotaflow._batch.summary import BatchProgress
from quotaflow.errors import QuotaflowError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from quotaflow._batch.summary import Tally
    from quotaflow._quotaflow import BatchRun

# It is found out anew after so many seconds at the earliest, and so that it takes this share of the time at most.
_EACH = 2.0
_SHARE = 0.02


class Watched:
    """What is shown of one run of a batch.

    Args:
        progress: where it is shown, as `shown_to` takes it.
    """

    __slots__ = ("_began", "_pace", "_remaining", "_screen", "lost")

    lost: dict[str, float]
    """The seconds it was held up so far, by what held it up."""

    def __init__(self, progress: object) -> None:
        self._screen = shown_to(progress)
        self._pace = Pace(self._screen.each)
        self._remaining = RemainingTime()
        self._began = time.monotonic()
        self.lost = {}

    @property
    def seconds(self) -> float:
        """Since when it has been under way."""
        return time.monotonic() - self._began

    @property
    def is_shown(self) -> bool:
        """Whether it is shown anywhere."""
        return type(self._screen) is not Silence

    def is_due(self) -> bool:
        """Whether it is time to show it again."""
        return self._pace.is_due()

    def show(self, tally: Tally, total: int | None, run: BatchRun, *, finished: bool = False) -> None:
        """Show the progress."""
        under_way, waiting, obstacle, lost = run.reading()
        self.lost = dict(lost)
        if not self.is_shown:
            return
        progress = BatchProgress(
            done=tally.done,
            total=total,
            failed=tally.failed,
            resumed=tally.resumed,
            under_way=under_way,
            waiting=waiting,
            waiting_on=obstacle,
            input_tokens=tally.input_tokens,
            output_tokens=tally.output_tokens,
            cost=tally.cost,
            seconds=self.seconds,
            remaining_seconds=self._remaining.seconds(tally, total, None if finished else run),
            finished=finished,
        )
        self._screen.show(progress)

    def end(self, tally: Tally, total: int | None, run: BatchRun) -> None:
        """Show the end."""
        self.show(tally, total, run, finished=True)
        self._screen.end()


class RemainingTime:
    """Asks the run now and then, which goes through the quotas as they are; in between it counts down."""

    __slots__ = ("_again_at", "_asked_at", "_asked_of", "_left", "_resumed")

    def __init__(self) -> None:
        self._again_at = self._asked_at = 0.0
        self._left: float | None = None
        self._asked_of = self._resumed = 0

    def seconds(self, tally: Tally, total: int | None, run: BatchRun | None) -> float | None:
        """Return how long the rest takes, in seconds; `None` when that is not known.

        Args:
            tally: what is done.
            total: how many there are.
            run: the run to ask; `None` once it is over.
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
