"""What the pure-Python key manager understood and left behind."""

from __future__ import annotations

import json
import os
import re
import stat
from typing import TYPE_CHECKING

from quotaflow._call.logs import logger

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

# The words are asked when an error says nothing else: no status, no body, no delay. Each is found as whole words,
# so that an order number is no status and a made-up word no limit.
_APART = re.compile(r"[^a-z0-9]+")
_MOST_TEXT = 20_000

QUOTA = (
    "daily limit exceeded", "quota exceeded", "resourceexhausted",
    "generativelanguage.googleapis.com/generate_content_free_tier_requests",
    "generaterequestsperdayperprojectpermodel-freetier", "requests per day", "rpd", "daily quota",
    "free-models-per-day", "requests-per-day", "daily limit", "credit limit", "negative credit balance",
    "insufficient_quota", "you exceeded your current quota", "please check your plan and billing details",
    "billing details", "monthly spend limit", "spend limit", "credit limit exceeded", "monthly usage limit",
    "organization limit exceeded",
)  # fmt: skip

RATE = (
    "rate limit exceeded", "too many requests", "requests per minute", "rpm", "free-models-per-min",
    "requests-per-minute", "x-ratelimit-limit", "x-ratelimit-remaining", "rate limit reached", "ratelimiterror",
    "x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens", "tokens per minute", "tpm",
    "anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-tokens-remaining", "retry-after",
    "input tokens per minute", "output tokens per minute", "itpm", "otpm",
)  # fmt: skip

NAME = "api_key_state.json"
_LARGEST = 1_000_000  # bytes; the real ones have a few hundred


def words_of(text: str) -> str:
    """Return the text in small letters with one blank between words, before the first and after the last.

    >>> words_of("free-models-per-day!")
    ' free models per day '
    """
    return f" {_APART.sub(' ', text[:_MOST_TEXT].lower()).strip()} "


_QUOTA_WORDS = tuple(map(words_of, QUOTA))
_RATE_WORDS = tuple(map(words_of, RATE))


def kind_of_words(error: object) -> str | None:
    """Return `quota`, `rate`, or `None`, by what the error says.

    >>> kind_of_words(RuntimeError("Daily limit exceeded")), kind_of_words("3000 RPM"), kind_of_words("warpmap")
    ('quota', 'rate', None)
    """
    try:
        words = words_of(str(error))
    except Exception:  # noqa: BLE001 - an error that cannot say what it is must not become another one
        return None
    if any(found in words for found in _QUOTA_WORDS):
        return "quota"
    return "rate" if any(found in words for found in _RATE_WORDS) else None


def read_entries(path: Path) -> dict[str, Any] | None:
    """Return names and the days they were used up on (`YYYY-MM-DD`); `None` when nothing can be read.

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
    """Return the entries, or what is wrong."""
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        return "is no file"
    if facts.st_size > _LARGEST:
        return f"has {facts.st_size} bytes, which no such file has"
    found = json.loads(path.read_text(encoding="utf-8-sig"))
    entries = found.get("quota_exhausted_keys", {}) if isinstance(found, dict) else None
    return entries if isinstance(entries, dict) else "is JSON of another shape"


def put_aside(path: Path, left: dict[str, Any]) -> None:
    """Take what was taken over out of the file: `left` stays; with nothing left the file is renamed."""
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
