"""The methods of `RateLimiter` that send nothing: look, count, forget, save."""

from __future__ import annotations

from quotaflow._call.checks import optional_name, required_name
from quotaflow._call.options import guard_options
from quotaflow.errors import InvalidArgumentError, QuotaflowError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike
    from typing import Any, Literal

    from quotaflow._quotaflow import Core, Verdict

    Period = Literal["second", "minute", "hour", "day", "month"]

# How soon it is worth asking again when a call in flight must end first: its end is not known.
_A_MOMENT = 0.05


class Bookkeeping:
    """The part of `RateLimiter` that sends nothing: it looks, counts, forgets and remembers.

    >>> from quotaflow import RateLimiter
    >>> limiter = RateLimiter({}, limits={"scraper": {"rps": 5}, "openai": {"rpm": 60}}, state="memory")
    >>> isinstance(limiter, Bookkeeping)
    True
    """

    __slots__ = ()

    _core: Core
    _closed: bool

    def _open(self) -> Core:
        """Return the core; raise `ClosedError` when this was closed."""
        if self._closed:
            from quotaflow._limiter.permits import closed

            raise closed()
        return self._core

    def can_request(
        self,
        provider: str,
        tokens: int = 0,
        *,
        model: str | None = None,
        key: str | None = None,
        priority: int = 3,
    ) -> bool:
        """Whether a request could be sent now. Nothing is reserved: `acquire` decides, this only looks.

        >>> limiter.can_request("scraper")
        True
        """
        return self._open().outlook(guard_options(provider, tokens, key, model, priority), None) == 0.0

    def wait_time(
        self,
        provider: str,
        period: Period | None = None,
        tokens: int = 0,
        *,
        model: str | None = None,
        key: str | None = None,
        priority: int = 3,
    ) -> float:
        """Return the seconds until a request could be sent if no other goes before it.

        Args:
            provider: a provider, or any other name that has limits.
            period: judged only by the limits over `"second"`, `"minute"`, `"hour"`, `"day"` or `"month"`; `None`
                for all of them and for what is closed.
            tokens: how many tokens it would take.
            model: the model, whose own limits then hold as well.
            key: the label of the only key that may be used.
            priority: as in `acquire`.

        Returns:
            0.0 for now; infinity for never, when it asks for more than a limit can hold. When a call in flight
            must end first the time is not known: then it is 0.05, after which it is worth asking again.

        >>> limiter.wait_time("scraper", "minute")
        0.0
        """
        options = guard_options(provider, tokens, key, model, priority)
        wait = self._open().outlook(options, optional_name("period", period))
        if wait is None:
            return float("inf")
        return _A_MOMENT if wait < 0 else wait

    def choose_provider(self, tokens: int, preferred: Iterable[str], *, priority: int = 3) -> tuple[str, float]:
        """Return the first of these providers that could take the request now, else the one that will first.

        Returns:
            The provider and the seconds to wait; infinity when none of them ever could.

        >>> limiter.choose_provider(1000, ["openai", "scraper"])
        ('openai', 0.0)
        """
        names = [preferred] if isinstance(preferred, str) else list(preferred)
        if not names:
            raise InvalidArgumentError("preferred is empty", hint="name at least one provider")
        best: tuple[str, float] | None = None
        for name in names:
            wait = self.wait_time(name, tokens=tokens, priority=priority)
            if wait == 0.0:
                return name, 0.0
            if best is None or wait < best[1]:
                best = name, wait
        return best or (names[0], float("inf"))

    def record_request(
        self, provider: str, tokens: int = 0, *, model: str | None = None, key: str | None = None
    ) -> str:
        """Count a request that was sent without asking, and went well; return the label of its key.

        >>> limiter.record_request("scraper")
        'no key'
        """
        return self._open().record(guard_options(provider, tokens, key, model), None)

    def record_error(
        self,
        provider: str,
        error: BaseException,
        tokens: int = 0,
        *,
        model: str | None = None,
        key: str | None = None,
    ) -> Verdict | None:
        """Count a request that was sent without asking, and failed; close what the error says is closed.

        For each request call either this or `record_request`.

        Returns:
            What the error means; `None` when it cannot be classified, and nothing is closed.

        >>> limiter.record_error("openai", RuntimeError("HTTP 503 Service Unavailable")).failure
        'overloaded'
        """
        from quotaflow._limiter.permits import verdict_on
        from quotaflow._quotaflow import Verdict

        verdict = verdict_on(error, provider)
        # As after a server error, all is counted and nothing is closed: more is not known of an unknown failure.
        self._open().record(guard_options(provider, tokens, key, model), verdict or Verdict("server_error"))
        return verdict

    def record_retry(self, provider: str, *, model: str | None = None, key: str | None = None) -> str:
        """Count one more request, without tokens: a retry of one that was recorded with its tokens.

        >>> limiter.record_retry("scraper")
        'no key'
        """
        return self.record_request(provider, 0, model=model, key=key)

    @staticmethod
    def should_retry(error: BaseException) -> bool:
        """Whether the same request may pass later: not after a wrong key, a bad request, an empty account.

        >>> limiter.should_retry(RuntimeError("429 Too Many Requests"))
        True
        >>> limiter.should_retry(ValueError("no such page"))
        False
        """
        from quotaflow._retry.retryable import may_pass_later

        return may_pass_later(error)

    def provider_config(self, provider: str) -> dict[str, Any]:
        """Return what holds for a provider, as the config names it: limits, retries, `pause_threshold`, `models`.

        >>> limiter.provider_config("scraper")["rps"]
        5
        """
        import json

        name = required_name("provider", provider)
        stated: dict[str, Any] = json.loads(self._core.stated(name))
        return stated

    def status(self, key: str | None = None) -> dict[str, Any]:
        """Return every key, or those with this label, with its health, limits and blocks, and the waiting calls.

        >>> [entry["state"] for entry in limiter.status("OPENAI_API_KEY")["keys"]]
        ['healthy']
        """
        import json

        label = optional_name("key", key)
        snapshot: dict[str, Any] = json.loads(self._core.status())
        if label is not None:
            known = sorted({entry["label"] for entry in snapshot["keys"]})
            snapshot["keys"] = [entry for entry in snapshot["keys"] if entry["label"] == label]
            if not snapshot["keys"]:
                raise InvalidArgumentError(
                    f"there is no key labelled {label!r}", hint=f"the labels are {', '.join(known)}"
                )
        return snapshot

    def reset(self, key: str | None = None, provider: str | None = None) -> int:
        """Forget what was used and closed, of one key or one provider. Return how many ledgers were cleared.

        Args:
            key: only of the key with this label; `None` for all. The name of a provider that labels no key is
                taken as `provider`, so that `reset("openai")` and `reset("openai", "A")` mean what they do at
                `LLMInterface`.
            provider: only of this provider; `None` for all.

        >>> limiter.reset("scraper") >= 0
        True
        """
        label, of_provider = optional_name("key", key), optional_name("provider", provider)
        if label is not None and self._names_provider(label):
            label, of_provider = of_provider, label
        return self._open().reset(of_provider, label)

    def _names_provider(self, name: str) -> bool:
        import json

        from quotaflow._quotaflow import canonical_provider

        keys = json.loads(self._core.status())["keys"]
        if any(entry["label"] == name for entry in keys):
            return False
        try:
            self._core.stated(name)
        except QuotaflowError:
            return any(entry["provider"] == canonical_provider(name) for entry in keys)
        return True

    def clear(self) -> int:
        """Forget what was used and closed, of everything. Return how many ledgers were cleared.

        >>> limiter.clear() >= 0
        True
        """
        return self._open().reset(None, None)

    def save_usage(self, path: str | PathLike[str]) -> None:
        """Write down what counts now, as JSON, for another machine or state. It holds labels and no keys.

        Raises:
            StateError: the file cannot be written; an older one is still whole.

        >>> limiter.save_usage("usage.json")
        """
        from quotaflow._limiter.usage_file import save_usage

        save_usage(path, self.status())

    def load_usage(self, path: str | PathLike[str]) -> int:
        """Count at least what was written down, and close what was closed; nothing here is forgotten.

        Loading the same file twice changes nothing. What came back since it was written does not count, except in
        a rolling window, where it counts as if it were used now.

        Returns:
            Of how many keys something was known; keys with other labels are left out.

        Raises:
            StateError: the file cannot be read, or was not written by `save_usage`.

        >>> _ = limiter.record_request("scraper")
        >>> limiter.save_usage("usage.json")
        >>> limiter.load_usage("usage.json")
        1
        """
        from quotaflow._limiter.usage_file import load_usage

        return load_usage(path, self._core.take_over)
