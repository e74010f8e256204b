"""Displays of progress: a bar, a line now and then, a function, or none."""

from __future__ import annotations

import os
import sys
import time

from quotaflow._call.checks import wrong_type
from quotaflow._call.logs import logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console, ConsoleOptions, RenderableType

    from quotaflow._batch.summary import BatchProgress

_LINE_EACH = 5.0
# In columns. A narrower bar says nothing.
_NARROWEST_BAR = 8
_WIDEST_BAR = 60


class Silence:
    """Shows nothing."""

    each = float("inf")
    """How many seconds pass between two looks."""

    def show(self, progress: BatchProgress) -> None:
        """Show the progress."""

    def end(self) -> None:
        """Leave what was shown last."""


class Told(Silence):
    """Calls a function; what it raises is logged once."""

    each = 0.1

    def __init__(self, hook: Callable[[BatchProgress], object]) -> None:
        self._hook = hook
        self._raised = False

    def show(self, progress: BatchProgress) -> None:
        """Call the function."""
        try:
            self._hook(progress)
        except Exception:  # noqa: BLE001 - the function may raise anything; it is logged
            if not self._raised:
                logger().warning("what progress= calls raised; the batch goes on", exc_info=True)
            self._raised = True


class Line(Silence):
    """A line on stderr every few seconds: in a file, a notebook without widgets, or where `rich` is missing."""

    each = _LINE_EACH

    def show(self, progress: BatchProgress) -> None:
        """Print a line."""
        try:
            sys.stderr.write(in_words(progress) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):
            return


class Bar(Silence):
    """Two lines that are drawn again and again, by `rich`, in a terminal or a notebook."""

    each = 0.2

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        # What a program prints for others to read stays where it is.
        to_terminal = _is_terminal(sys.stdout)
        self._live = Live(console=Console(stderr=True), auto_refresh=False, redirect_stdout=to_terminal)
        self._is_shown = False

    def show(self, progress: BatchProgress) -> None:
        """Draw it."""
        if not self._is_shown:
            self._is_shown = True
            self._live.start()
        self._live.update(_Drawn(progress), refresh=True)

    def end(self) -> None:
        """Leave the bar as it is."""
        if self._is_shown:
            self._live.stop()


class _Drawn:
    """A bar with the numbers that are looked at most, and a line with the others."""

    def __init__(self, progress: BatchProgress) -> None:
        self._progress = progress

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        progress = self._progress
        first, second = (Text(part, no_wrap=True, overflow="ellipsis") for part in _in_two(progress))
        room = min(_WIDEST_BAR, options.max_width - first.cell_len - 1)
        if room >= _NARROWEST_BAR:
            total = progress.total
            bar = ProgressBar(total, progress.done, width=room, pulse=total is None and not progress.finished)
            row = Table.grid(padding=(0, 1))
            row.add_row(bar, first)
            yield row
        else:
            yield first
        yield second


def shown_to(progress: object) -> Silence:
    """Return the display for `progress=`.

    Raises:
        InvalidArgumentError: it is none of `None`, `True`, `False` or a function.
    """
    if progress is False or (progress is None and not _is_interactive()):
        return Silence()
    if progress is None or progress is True:
        return Bar() if _can_draw() else Line()
    if callable(progress):
        return Told(progress)
    raise wrong_type("progress", progress, "pass True, False, None or a function")


def in_words(progress: BatchProgress) -> str:
    """Return one line with everything in it.

    >>> from quotaflow import BatchProgress
    >>> in_words(BatchProgress(done=40, total=100, failed=2, seconds=10.0, remaining_seconds=75.0))
    '40/100 · 2 failed · 4.0/s · 1:15 left · 0 tokens'
    """
    return " · ".join(_in_two(progress))


def _in_two(progress: BatchProgress) -> tuple[str, str]:
    """Return the short numbers, and what is longer: what it waits for comes last."""
    parts = [f"{progress.done:,}" if progress.total is None else f"{progress.done:,}/{progress.total:,}"]
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    parts.append(f"{progress.per_second:,.1f}/s")
    if progress.remaining_seconds is not None and not progress.finished:
        minutes, seconds = divmod(round(progress.remaining_seconds), 60)
        hours, minutes = divmod(minutes, 60)
        parts.append(f"{hours:,}:{minutes:02}:{seconds:02} left" if hours else f"{minutes}:{seconds:02} left")
    more = [f"{progress.input_tokens + progress.output_tokens:,} tokens"]
    if progress.cost is not None:
        more.append(f"${progress.cost:.4f}")
    if progress.waiting_on is not None and not progress.finished:
        more.append(f"{progress.waiting:,} wait: {progress.waiting_on}")
    return " · ".join(parts), " · ".join(more)


class Pace:
    """Decides when progress is shown again."""

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


def _is_interactive() -> bool:
    """Whether stderr is a terminal, or this is a notebook."""
    return _is_notebook() or _is_terminal(sys.stderr)


def _can_draw() -> bool:
    """Whether what is drawn is seen as it is meant: there is `rich`, and what it needs."""
    from importlib.util import find_spec

    try:
        import rich.live  # noqa: F401
    except ImportError:
        return False
    if _is_notebook():
        return find_spec("ipywidgets") is not None
    return _is_terminal(sys.stderr) and os.environ.get("TERM", "") not in ("dumb", "unknown")


def _is_notebook() -> bool:
    get = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get is not None and type(get()).__name__ == "ZMQInteractiveShell"


def _is_terminal(stream: object) -> bool:
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, ValueError):
        return False
