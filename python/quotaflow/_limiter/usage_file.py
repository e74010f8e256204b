"""Saved usage: a JSON file of what was used and closed.

The file is JSON of version 1:

    {"format": "quotaflow usage", "version": 1, "saved_at": 1800000000.0, "keys": [
        {"provider": "openai", "label": "OPENAI_API_KEY",
         "limits": [{"model": "*", "resource": "requests", "period": "day", "limit": 200, "used": 12,
                     "reset": 1800040000.0, "source": "configured"}],
         "blocks": [{"model": "gpt-4o-mini", "reason": "rate_limited", "until": 1800000012.0,
                     "origin": "provider"}]}]}

Times are seconds since 1970-01-01T00:00:00Z, `reset` is when all of it is back, an `until` of null is "until it is
reconfigured", the model `*` is all models together. Keys appear by their label only.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from quotaflow.errors import InvalidArgumentError, StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_FORMAT = "quotaflow usage"
_VERSION = 1
_FIELDS = ("model", "resource", "period", "limit", "used", "reset", "source")
_IN_FLIGHT = "concurrency"


def save_usage(path: str | os.PathLike[str], status: Mapping[str, Any]) -> None:
    """Write what counts in `status` to `path`, at once or not at all; raise `StateError` when it cannot."""
    keys = [
        {
            "provider": key["provider"],
            "label": key["label"],
            "limits": [{name: limit[name] for name in _FIELDS} for limit in key["limits"] if _counts(limit)],
            "blocks": key["blocks"],
        }
        for key in status["keys"]
    ]
    kept = [key for key in keys if key["limits"] or key["blocks"]]
    content = {"format": _FORMAT, "version": _VERSION, "saved_at": status["at"], "keys": kept}
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    except OSError as error:
        raise _broken(target, "written", error) from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, ensure_ascii=False, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except OSError as error:
        raise _broken(target, "written", error) from None
    finally:
        Path(name).unlink(missing_ok=True)


def load_usage(path: str | os.PathLike[str], take_over: Callable[[str], int]) -> int:
    """Hand the keys of a file that `save_usage` wrote to `take_over`; raise `StateError` for any other file."""
    source = Path(path)
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise _broken(source, "read", error) from None
    except (ValueError, RecursionError):
        content = None
    if (
        not isinstance(content, dict)
        or content.get("format") != _FORMAT
        or not isinstance(content.get("keys"), list)
    ):
        message = f"{source} was not written by save_usage()"
        raise StateError(message, path=str(source), hint="nothing was loaded; pass another file")
    if content.get("version") != _VERSION:
        message = f"{source} has version {content.get('version')!r}, and this quotaflow reads version {_VERSION}"
        raise StateError(message, path=str(source), hint="save it again with this version")
    try:
        return take_over(json.dumps(content["keys"]))
    except InvalidArgumentError as error:
        raise StateError(f"{source}: {error.message}", path=str(source), hint=error.hint) from None


def _counts(limit: Mapping[str, Any]) -> bool:
    return bool(limit["used"] > 0 and limit["resource"] != _IN_FLIGHT)


def _broken(path: Path, done: str, error: OSError) -> StateError:
    hint = "choose another path, or correct the rights of the folder"
    return StateError(f"{path} cannot be {done}: {error.strerror}", path=str(path), hint=hint)
