"""What did the pure-Python key manager leave behind, and what becomes of it?"""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

from quotaflow.logs import logger

if TYPE_CHECKING:
    from pathlib import Path

NAME = "api_key_state.json"
_LARGEST = 1_000_000  # bytes; the real ones have a few hundred


def read_entries(path: Path) -> dict[str, str] | None:
    """Names and the days they were used up on (`YYYY-MM-DD`); `None` when there is no file that can be read.

    What is wrong with it is logged as a warning; the file stays as it is.
    """
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        return _left(path, f"cannot be read: {_why(error)}")
    if not stat.S_ISREG(facts.st_mode):
        return _left(path, "is no file")
    if facts.st_size > _LARGEST:
        return _left(path, f"has {facts.st_size} bytes, which no such file has")
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        return _left(path, f"cannot be read: {_why(error)}")
    except (ValueError, RecursionError):
        return _left(path, "is no JSON")
    entries = found.get("quota_exhausted_keys", {}) if isinstance(found, dict) else None
    if not isinstance(entries, dict):
        return _left(path, "is JSON of another shape")
    wrong = sum(not isinstance(date, str) for date in entries.values())
    if wrong:
        _left(path, f"has {wrong} entries that are no dates")
    return {name: date for name, date in entries.items() if isinstance(date, str)}


def put_aside(path: Path, left: dict[str, str]) -> None:
    """Takes what was taken over out of the file: `left` stays; with nothing left the file is renamed."""
    if left:
        taken = path.with_name(f"{path.name}.new-{os.getpid()}")
    else:
        taken, path = path, path.with_name(f"{path.name}.taken-over")
    try:
        if left:
            taken.write_text(json.dumps({"quota_exhausted_keys": left}, indent=2), encoding="utf-8")
        taken.replace(path)
    except OSError as error:
        logger().warning(
            "%s was taken over and cannot be changed (%s): after a reset it is taken over once more; delete it",
            path if left else taken,
            _why(error),
        )


def _left(path: Path, why: str) -> None:
    logger().warning("%s %s: it is left as it is, and nothing of it is taken over", path, why)


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
