"""Which words did the pure-Python key manager take for a used-up quota, and which for a rate limit?

They are asked when an error says nothing else: no status, no body, no delay. Each is found as whole words, so that
an order number is no status and a made-up word no limit.
"""

from __future__ import annotations

import re

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


def words_of(text: str) -> str:
    """The text in small letters with one blank between words, before the first and after the last.

    >>> words_of("free-models-per-day!")
    ' free models per day '
    """
    return f" {_APART.sub(' ', text[:_MOST_TEXT].lower()).strip()} "


_QUOTA_WORDS = tuple(map(words_of, QUOTA))
_RATE_WORDS = tuple(map(words_of, RATE))


def kind_of_words(error: object) -> str | None:
    """`quota`, `rate`, or `None`, by what the error says.

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
