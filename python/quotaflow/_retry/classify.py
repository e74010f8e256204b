"""Classification of exceptions of any library: status, headers, body, text.

Everything is found by looking, never by importing: which attributes an exception has, what its class is called,
which exceptions stand behind it. What it all means is decided in Rust, by the tables for quotaflow's own calls.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from quotaflow._quotaflow import Verdict
from quotaflow._quotaflow import classify_error as _classified
from quotaflow.errors import CallError, QuotaflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_T = TypeVar("_T")

_MOST_ERRORS = 24  # of a chain or a group
_MOST_HEADERS = 64
_MOST_TEXT = 20_000
_MOST_BODY = 200_000

_STATUSES = ("status_code", "status", "code", "http_status", "http_status_code")
_RESPONSES = ("response", "raw_response", "http_response")
_BODIES = ("content", "text")
_DETAILS = ("body", "details", "http_body", "json_body")
_BEHIND = ("__cause__", "reason", "os_error", "original_exception", "inner_exception")

# What stands behind the name of a class, by whichever library.
_KINDS = {
    "refused": ("ConnectionRefusedError",),
    "name_not_found": ("gaierror", "NameResolutionError", "ClientConnectorDNSError"),
    "tls": ("SSLError", "SSLCertVerificationError", "ClientSSLError", "ClientConnectorCertificateError"),
    "connect_timeout": ("ConnectTimeout", "ConnectTimeoutError", "ConnectionTimeoutError"),
    "timeout": (
        "TimeoutError", "Timeout", "TimeoutException", "ReadTimeout", "ReadTimeoutError", "WriteTimeout",
        "PoolTimeout", "APITimeoutError", "ServerTimeoutError", "SocketTimeoutError", "DeadlineExceeded",
    ),
    "network": (
        "ConnectionError", "ConnectError", "NetworkError", "RemoteProtocolError", "ProtocolError", "ReadError",
        "WriteError", "CloseError", "ProxyError", "ChunkedEncodingError", "ClientConnectionError",
        "ClientPayloadError", "APIConnectionError", "NewConnectionError", "IncompleteRead", "HTTPConnectionError",
        "IncompleteReadError",
    ),
    "rate_limited": ("RateLimitError", "RateLimitExceeded", "TooManyRequests", "TooManyRequestsError",
                     "ResourceExhausted", "ThrottlingException"),
    "auth": ("AuthenticationError", "Unauthorized", "UnauthorizedError", "Unauthenticated"),
    "overloaded": ("OverloadedError", "ServiceUnavailable", "ServiceUnavailableError"),
    "server_error": ("InternalServerError",),
    "invalid_request": ("BadRequestError", "UnprocessableEntityError"),
    "context_too_long": ("ContextWindowExceededError", "ContextOverflowError"),
    "content_filtered": ("ContentFilterFinishReasonError", "ContentPolicyViolationError"),
    # Mistakes of a program or a machine; whatever they say, no provider said it.
    "own": (
        "TypeError", "AttributeError", "NameError", "SyntaxError", "ImportError", "LookupError",
        "AssertionError", "NotImplementedError", "ArithmeticError", "MemoryError", "RecursionError",
        "FileNotFoundError", "FileExistsError", "PermissionError", "IsADirectoryError", "NotADirectoryError",
        "ValidationError", "UnsupportedProtocol", "InvalidURL", "KeyboardInterrupt", "SystemExit",
        "GeneratorExit", "CancelledError", "StopIteration", "StopAsyncIteration",
    ),
}  # fmt: skip
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names}

# Of several kinds in one chain the one that tells most; the others tell equally much.
_TELLING = ("refused", "name_not_found", "tls", "connect_timeout", "timeout", "network")


class _Found(NamedTuple):
    """What one exception says about itself."""

    error: object
    status: int | None
    headers: list[tuple[str, str]]
    body: bytes | None
    kind: str | None
    host: str | None
    text: str


def classify_error(error: object, provider: str | None = None) -> Verdict | None:
    """Return what an exception means, whichever library raised it.

    The exception's own fields count first (status, headers, body), then the type, then its words; the exceptions
    behind it (`__cause__`, groups, a retry library's last attempt) count as much as itself. It never raises,
    reads no stream, and shows no key.

    Args:
        error: any exception; of anything else, only its text is read.
        provider: the provider that it comes from, for instance `openai`. Default: as the error shows.

    Returns:
        A `Verdict`: `failure`, `scope`, `retry_after`, `until`, `is_word`, `status`, `message`, `never_here`,
        `never_sent`, `limit`, `request_id`. `None` when it cannot be classified: take the call as failed, close
        nothing, and do not try again.

    >>> verdict = classify_error(RuntimeError("429 rate limit reached, please try again in 20s"))
    >>> verdict.failure, verdict.status, verdict.retry_after
    ('rate_limited', 429, 20.0)
    >>> classify_error(ValueError("no such order: 14290")) is None
    True
    """
    return _quietly(lambda: _verdict(error, _valid(provider) if isinstance(provider, str) else None))


def _verdict(error: object, asked: str | None) -> Verdict | None:
    if error is None:
        return None
    if not isinstance(error, BaseException):
        return _judged(_Found(error, None, [], None, None, None, _text(error)), asked)
    chain = list(_behind(error))
    verdict = _strongest(chain, asked)
    if verdict is not None or _kind(error) == "own":
        return verdict
    # What was being handled when it was raised says something only if nothing else does.
    context = None if _safe(error, "__suppress_context__") else _safe(error, "__context__")
    return _strongest(list(_behind(context)), asked) if isinstance(context, BaseException) else None


def _strongest(errors: list[BaseException], provider: str | None) -> Verdict | None:
    """Return the verdict on a chain of exceptions, the outermost first."""
    for error in errors:
        if isinstance(error, QuotaflowError):
            return _own(error)
    found = [_look(error) for error in errors]
    answered = [one for one in found if one.status is not None or one.body is not None]
    typed = sorted(
        (one for one in found if one.kind in _TELLING),
        key=lambda one: _TELLING.index(one.kind or ""),
    )
    named = [one for one in found if one.kind not in _TELLING and one.kind != "own"]
    for one in (*answered, *typed, *named):
        verdict = _judged(one, provider)
        if verdict is not None:
            return verdict
    return None


def _own(error: QuotaflowError) -> Verdict | None:
    """Return the verdict of a `CallError`; an exception of quotaflow without an attempt has none."""
    if not isinstance(error, CallError) or not isinstance(error.failure, str):
        return None
    try:
        return Verdict(error.failure, status=error.status, retry_after=error.retry_after, message=error.message)
    except Exception:  # noqa: BLE001 - a subclass may have put anything there
        return None


def _judged(found: _Found, provider: str | None) -> Verdict | None:
    kind = type(found.error)
    parts = str(_safe(kind, "__module__") or "").split(".")
    library = ".".join(parts[:2]) if parts[0] == "google" else parts[0]
    return _classified(
        provider,
        found.host,
        _valid(library),
        found.status,
        found.headers,
        found.body,
        found.kind,
        found.text,
    )


def _behind(error: BaseException) -> Iterator[BaseException]:
    """Return the exception and all that stand behind it, nearest first, each once."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _MOST_ERRORS:
        error = waiting.pop(0)
        if id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        if isinstance(error, QuotaflowError):
            continue
        behind: list[object] = [_safe(error, name) for name in _BEHIND]
        behind.append(_last_attempt(error))
        # A group tells each of its exceptions, urllib3 and requests hand theirs on as an argument.
        for several in (_safe(error, "exceptions"), _safe(error, "args")):
            if isinstance(several, (tuple, list)):
                behind.extend(several[:_MOST_ERRORS])
        waiting.extend(one for one in behind if isinstance(one, BaseException))


def _last_attempt(error: BaseException) -> object:
    """Return what a retry library met last: a future that is done."""
    attempt = _safe(error, "last_attempt")
    if attempt is None or _called(_safe(attempt, "done")) is not True:
        return None
    return _called(_safe(attempt, "exception"))


def _look(error: BaseException) -> _Found:
    """Return what one exception says about itself."""
    response = next((r for r in (_safe(error, name) for name in _RESPONSES) if r is not None), None)
    kind = _kind(error)
    status = None if kind == "own" else _status(error, response)
    return _Found(
        error=error,
        status=status,
        headers=_headers(error, response) if status is not None or kind is None else [],
        body=None if kind == "own" else _body(error, response),
        kind=kind,
        host=_host(error, response),
        text=_text(error),
    )


def _kind(error: BaseException) -> str | None:
    mro = type(error).__mro__
    return next((kind for kind in (_KIND_OF.get(cls.__name__) for cls in mro) if kind), None)


def _status(error: BaseException, response: object) -> int | None:
    for owner in (error, response):
        for name in _STATUSES:
            value = _safe(owner, name)
            if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
                value = int(value)
            # A status of HTTP is a number, also where it is an enum's.
            if isinstance(value, int) and not isinstance(value, bool) and 300 <= value < 600:
                return int(value)
    return None


def _headers(error: BaseException, response: object) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for owner in (response, error):
        headers = _safe(owner, "headers")
        items = _called(_safe(headers, "items"))
        found = _quietly(partial(_pairs, items)) or []
        if found:
            break
    wait = _safe(error, "retry_after")
    if isinstance(wait, (int, float)) and not isinstance(wait, bool):
        names = {name.lower() for name, _ in found}
        if "retry-after" not in names:
            found.append(("retry-after", str(wait)))
    return found


def _pairs(items: Iterable[Any]) -> list[tuple[str, str]]:
    """Return headers as text; at most so many, for `items` may be anything."""
    return [(_header(name), _header(value)) for name, value in islice(items, _MOST_HEADERS)]


def _header(part: object) -> str:
    return _valid(part.decode("latin-1") if isinstance(part, bytes) else str(part))


def _body(error: BaseException, response: object) -> bytes | None:
    # `requests` would read from the wire; its mark shows if that was done.
    unread = _safe(response, "_content") is False
    for name in () if unread or response is None else _BODIES:
        value = _safe(response, name)
        if isinstance(value, (str, bytes)) and value:
            return _bytes(value)
    for name in _DETAILS:
        value = _safe(error, name)
        if isinstance(value, (str, bytes)) and name != "details" and value:
            return _bytes(value)
        if isinstance(value, Mapping) and value:
            return _quietly(partial(_dumped, value))
    return None


def _dumped(value: Mapping[Any, Any]) -> bytes:
    return _bytes(json.dumps(dict(value), default=_text))


def _bytes(value: str | bytes) -> bytes:
    value = value[:_MOST_BODY]
    return value if isinstance(value, bytes) else value.encode(errors="replace")


def _host(error: BaseException, response: object) -> str | None:
    """Return the host that was asked, as libraries keep it."""
    request = _safe(error, "request") or _safe(error, "request_info") or _safe(response, "request")
    for owner in (request, response, error):
        url = _safe(owner, "url")
        host = _safe(url, "host")
        if host is None and isinstance(url, str):
            host = url[:2_000].partition("://")[2].partition("/")[0].rpartition("@")[2].partition(":")[0]
        if isinstance(host, str) and host:
            return _valid(host[:255])
    return None


def _text(error: object) -> str:
    """Return what it says, cut, as text that can be encoded; nothing when it cannot say it."""
    args = _safe(error, "args")
    if isinstance(args, tuple) and len(args) == 1:
        error = args[0] if isinstance(args[0], bytes) else error
    if isinstance(error, (bytes, bytearray)):
        return _valid(bytes(error[:_MOST_TEXT]).decode(errors="replace"))
    said = _quietly(lambda: str(error))
    return _valid(said[:_MOST_TEXT]) if isinstance(said, str) else ""


def _valid(text: str) -> str:
    """Return `text` without halves of characters, which nothing can encode."""
    return text if text.isascii() else str.encode(text, errors="replace").decode()


def _safe(owner: object, name: str) -> Any:
    """Return the attribute, or `None` when there is none or it cannot be had."""
    return None if owner is None else _quietly(lambda: getattr(owner, name, None))


def _called(function: object) -> Any:
    return _quietly(function) if callable(function) else None


def _quietly(function: Callable[[], _T]) -> _T | None:
    try:
        return function()
    except Exception:  # noqa: BLE001 - an error that cannot be asked must not become another one
        return None
