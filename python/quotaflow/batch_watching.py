"""How far is a batch, and who is told of it when?"""

from __future__ import annotations

import time

from quotaflow.batch_summaries import BatchProgress
from quotaflow.progress_bars import Pace, Silence, shown_to
from quotaflow.remaining_time import RemainingTime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from quotaflow._quotaflow import BatchRun
    from quotaflow.batch_summaries import Tally


class Watched:
    """One run of a batch as those see it who watch.

    Args:
        progress: who is shown it, as `shown_to` takes it.
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
    def by_anybody(self) -> bool:
        """Whether anybody is shown it."""
        return type(self._screen) is not Silence

    def is_due(self) -> bool:
        """Whether it is time to show it again."""
        return self._pace.is_due()

    def show(self, tally: Tally, total: int | None, run: BatchRun, *, finished: bool = False) -> None:
        """Shows how far it is."""
        under_way, waiting, obstacle, lost = run.reading()
        self.lost = dict(lost)
        if not self.by_anybody:
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
        """Shows how it ended."""
        self.show(tally, total, run, finished=True)
        self._screen.end()
