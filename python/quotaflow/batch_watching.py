"""How far is a batch, and who is told of it when?"""

from __future__ import annotations

import time

from quotaflow.batch_summaries import BatchProgress
from quotaflow.errors import QuotaflowError
from quotaflow.progress_bars import Pace, shown_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from quotaflow._quotaflow import BatchRun
    from quotaflow.batch_summaries import Tally
    from quotaflow.remaining_time import RemainingTime


class Watched:
    """One run of a batch as those see it who watch.

    Args:
        progress: who is shown it, as `shown_to` takes it.
        remaining: how long the rest takes by the quotas.
    """

    __slots__ = ("_began", "_pace", "_remaining", "_screen", "lost")

    lost: dict[str, float]
    """The seconds it was held up so far, by what held it up."""

    def __init__(self, progress: object, remaining: RemainingTime) -> None:
        self._screen = shown_to(progress)
        self._pace = Pace(self._screen.each)
        self._remaining = remaining
        self._began = time.monotonic()
        self.lost = {}

    @property
    def seconds(self) -> float:
        """Since when it has been under way."""
        return time.monotonic() - self._began

    def is_due(self) -> bool:
        """Whether it is time to show it again."""
        return self._pace.is_due()

    def show(self, tally: Tally, total: int | None, run: BatchRun, *, finished: bool = False) -> None:
        """Shows how far it is."""
        under_way, waiting, obstacle, lost = run.reading()
        self.lost = dict(lost)
        seconds = self.seconds
        progress = BatchProgress(
            done=tally.done,
            total=total,
            failed=tally.failed,
            under_way=under_way,
            waiting=waiting,
            waiting_on=obstacle,
            input_tokens=tally.input_tokens,
            output_tokens=tally.output_tokens,
            cost=tally.cost,
            seconds=seconds,
            remaining_seconds=None if total is None else self._left(tally, total, seconds),
            finished=finished,
        )
        self._screen.show(progress)

    def end(self, tally: Tally, total: int | None, run: BatchRun) -> None:
        """Shows how it ended."""
        self.show(tally, total, run, finished=True)
        self._screen.end()

    def _left(self, tally: Tally, total: int, seconds: float) -> float | None:
        left = max(0, total - tally.done)
        sent = max(1, tally.successful - tally.duplicates)
        try:
            by_quota = self._remaining.seconds(left, (tally.input_tokens + tally.output_tokens) / sent)
        except QuotaflowError:
            by_quota = None
        if by_quota:
            return by_quota
        new = tally.done - tally.resumed
        return left * seconds / new if new else None
