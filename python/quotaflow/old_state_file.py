"""What did the pure-Python key manager leave behind, and what becomes of it?"""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

from quotaflow.logs import logger

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

NAME = "api_key_state.json"
_LARGEST = 1_000_000  # bytes; the real ones have a few hundred


def read_entries(path: Path) -> dict[str, Any] | None:
    """Names and the days they were used up on (`YYYY-MM-DD`, if all is well); `None` when nothing can be read.

    What is wrong with it is logged as a warning; the file stays as it is.
    """
    try:
        found = _read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except RecursionError:
        found = "is no JSON"
    except UnicodeDecodeError:
        found = "is no text"
    except json.JSONDecodeError:
        found = "is no JSON"
    except (OSError, ValueError) as error:
        found = f"cannot be read: {_why(error)}"
    if isinstance(found, str):
        logger().warning("%s %s: it is left as it is, and nothing of it is taken over", path, found)
        return None
    return found


def _read(path: Path) -> dict[str, Any] | str:
    """The entries, or what is wrong."""
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        return "is no file"
    if facts.st_size > _LARGEST:
        return f"has {facts.st_size} bytes, which no such file has"
    found = json.loads(path.read_text(encoding="utf-8-sig"))
    entries = found.get("quota_exhausted_keys", {}) if isinstance(found, dict) else None
    return entries if isinstance(entries, dict) else "is JSON of another shape"


def put_aside(path: Path, left: dict[str, Any]) -> None:
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


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
