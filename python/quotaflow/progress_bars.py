"""Who is shown how far a batch is: a bar, a line now and then, a function, or nobody?"""

from __future__ import annotations

import sys
import time

from quotaflow.errors import InvalidArgumentError
from quotaflow.logs import logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from quotaflow.batch_summaries import BatchProgress

_LINE_EACH = 5.0


class Silence:
    """Nobody is shown anything."""

    each = float("inf")
    """How many seconds pass between two looks."""

    def show(self, progress: BatchProgress) -> None:
        """Shows how far it is."""

    def end(self) -> None:
        """Leaves what was shown last."""


class Told(Silence):
    """A function is told; what it raises is logged once."""

    each = 0.1

    def __init__(self, hook: Callable[[BatchProgress], object]) -> None:
        self._hook = hook
        self._raised = False

    def show(self, progress: BatchProgress) -> None:
        """Calls it."""
        try:
            self._hook(progress)
        except Exception:  # noqa: BLE001 - it is not ours, and it is logged
            if not self._raised:
                logger().warning("what progress= calls raised; the batch goes on", exc_info=True)
            self._raised = True


class Line(Silence):
    """A line on stderr every few seconds, where `rich` is not installed."""

    each = _LINE_EACH

    def show(self, progress: BatchProgress) -> None:
        """Prints it."""
        try:
            sys.stderr.write(in_words(progress) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):
            return


class Bar(Silence):
    """A bar of `rich`, in a terminal or a notebook."""

    each = 0.2

    def __init__(self, rich: Any) -> None:
        from rich.console import Console

        columns = rich
        self._bar: Any = columns.Progress(
            columns.BarColumn(),
            columns.TextColumn("{task.fields[words]}"),
            console=Console(stderr=True),
            auto_refresh=False,
        )
        self._task: Any = None

    def show(self, progress: BatchProgress) -> None:
        """Draws it."""
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task("", total=progress.total, words="")
        self._bar.update(
            self._task, completed=progress.done, total=progress.total, words=in_words(progress), refresh=True
        )

    def end(self) -> None:
        """Leaves the bar as it is."""
        if self._task is not None:
            self._bar.stop()


def shown_to(progress: object) -> Silence:
    """Who is shown it, for `progress=`.

    Raises:
        InvalidArgumentError: it is none of `None`, `True`, `False` or a function.
    """
    if progress is False or (progress is None and not _somebody_looks()):
        return Silence()
    if progress is None or progress is True:
        try:
            import rich.progress
        except ImportError:
            return Line()
        return Bar(rich.progress)
    if callable(progress):
        return Told(progress)
    kind = type(progress).__name__
    raise InvalidArgumentError(f"progress is of type {kind}", hint="pass True, False, None or a function")


def in_words(progress: BatchProgress) -> str:
    """One line with everything in it.

    >>> from quotaflow import BatchProgress
    >>> in_words(BatchProgress(done=40, total=100, failed=2, seconds=10.0, remaining_seconds=75.0))
    '40/100 · 2 failed · 0 tokens · 4.0/s · 1:15 left'
    """
    parts = [f"{progress.done:,}" if progress.total is None else f"{progress.done:,}/{progress.total:,}"]
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    if progress.waiting_on is not None and not progress.finished:
        parts.append(f"{progress.waiting:,} wait: {progress.waiting_on}")
    parts.append(f"{progress.input_tokens + progress.output_tokens:,} tokens")
    if progress.cost is not None:
        parts.append(f"${progress.cost:.4f}")
    parts.append(f"{progress.per_second:,.1f}/s")
    if progress.remaining_seconds is not None and not progress.finished:
        minutes, seconds = divmod(round(progress.remaining_seconds), 60)
        hours, minutes = divmod(minutes, 60)
        parts.append(f"{hours}:{minutes:02}:{seconds:02} left" if hours else f"{minutes}:{seconds:02} left")
    return " · ".join(parts)


class Pace:
    """When is it time to show it again?"""

    __slots__ = ("_at", "each")

    def __init__(self, each: float) -> None:
        self.each = each
        self._at = 0.0

    def is_due(self) -> bool:
        """Whether so many seconds passed since it was last."""
        now = time.monotonic()
        if now - self._at < self.each:
            return False
        self._at = now
        return True


def _somebody_looks() -> bool:
    """Whether stderr is a terminal, or this is a notebook."""
    shell = sys.modules.get("IPython")
    if shell is not None:
        get = getattr(shell, "get_ipython", None)
        if get is not None and type(get()).__name__ == "ZMQInteractiveShell":
            return True
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False
