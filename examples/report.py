"""Terminal output of the demo: with rich where it is installed, else plain text."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

rich_progress: Any
try:
    from rich import progress as rich_progress
except ImportError:
    rich_progress = None

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self


class Progress:
    """A bar that says how many prompts are done and who answered them.

    Args:
        total: how many there are.
        quiet: whether to show nothing.
    """

    def __init__(self, total: int, *, quiet: bool = False) -> None:
        self._total, self._quiet, self._done = total, quiet, 0
        self._by_key: Counter[str] = Counter()
        self._began = time.monotonic()
        self._shown_at = 0.0
        self._bar: Any = None

    def __enter__(self) -> Self:
        if rich_progress is not None and not self._quiet and sys.stdout.isatty():
            self._bar = rich_progress.Progress(
                rich_progress.TextColumn("{task.completed:>3}/{task.total}"),
                rich_progress.BarColumn(bar_width=30),
                rich_progress.TimeElapsedColumn(),
                rich_progress.TextColumn("{task.description}"),
            )
            self._bar.start()
            self._bar.add_task("", total=self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif not self._quiet:
            sys.stdout.write("\n")

    def step(self, key: str) -> None:
        """Note that one more prompt is done; this key had it last."""
        self._done += 1
        self._by_key[key] += 1
        who = " ".join(
            f"{label.removesuffix('_API_KEY')}:{count}" for label, count in sorted(self._by_key.items())
        )
        who = who.replace("_API_KEY_", "_")
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done, description=who)
        elif not self._quiet:
            self._plain(who)

    def _plain(self, who: str) -> None:
        now = time.monotonic()
        terminal = sys.stdout.isatty()
        if self._done < self._total and now - self._shown_at < (0.1 if terminal else 2.0):
            return
        self._shown_at = now
        filled = 30 * self._done // self._total
        bar = "#" * filled + "." * (30 - filled)
        line = f"{self._done:>3}/{self._total} {bar} {now - self._began:5.1f} s  {who}"
        sys.stdout.write(f"\r{line:<110}" if terminal else f"{line}\n")
        sys.stdout.flush()


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a plain table; columns as wide as they need to be, numbers to the right.

    >>> print(table(("key", "sent"), [("one", "7"), ("another", "12")]))
    key      sent
    ───────  ────
    one         7
    another    12
    """
    widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.rjust(width) if cell.isdigit() else cell.ljust(width)
            for cell, width in zip(cells, widths, strict=True)
        ).rstrip()

    return "\n".join([line(heads), line(["─" * width for width in widths]), *(line(row) for row in rows)])
