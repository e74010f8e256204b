"""`APIKeyManager`: which of several keys may be used now."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quotaflow._call.checks import optional_name
from quotaflow._call.config_manager import state_of
from quotaflow._call.logs import logger
from quotaflow._call.options import state_address
from quotaflow._keys import legacy
from quotaflow._keys.names import UNKNOWN, GivenKey, checked, default_provider, shown
from quotaflow._keys.ring import A_DAY, QUOTA, KeyRing, moment
from quotaflow._keys.views import ExhaustedKeys, FailedKeys
from quotaflow._quotaflow import canonical_provider
from quotaflow._retry.classify import classify_error
from quotaflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from os import PathLike

    from quotaflow._keys.ring import Ring
    from quotaflow._quotaflow import Verdict

_RATE = frozenset({"rate_limited", "token_limited", "overloaded"})
_SHORT = frozenset({"second", "minute", "hour"})
# A day that ends later than this is yesterday or today in no time zone.
_LATEST_END = 2.5 * A_DAY


class APIKeyManager:
    """Says which of several keys to use, and learns from errors which of them not to use for now.

    It sends nothing. What it marks stands in the state that `LLMInterface` uses: every process that shares the
    state leaves a marked key alone, and what their calls met is known here. One serves any number of threads.

    Args:
        primary_key_env: the name of the environment variable with the first key, or a key itself. A word that is
            set in the environment or in `.env`, one of capitals, digits and underscores, and any short plain word
            are names; everything else is a key.
        backup_key_envs: the others, in order.
        state_file: the JSON file of the pure-Python key manager. What still holds of it is taken over once, then
            it is renamed to `….taken-over`. Default: `api_key_state.json` where `config_manager` has its cache.
        config_manager: an object with `get_cache_path()` and `get_model_config()`, as far as it has them.
        provider: whose keys these are. Default: as the names tell (`OPENAI_API_KEY_2`, `MY_GOOGLE_KEY`), else as a
            key begins, else as `config_manager` says, else `unknown`.
        state: where quotas are remembered, as `LLMInterface` takes it. Default: the file that `LLMInterface` uses
            when it is given the same `config_manager`, or none.

    Raises:
        ConfigError: a name is empty or no text, no key can be one, or `get_cache_path()` gives no path. As long as
            one key is left, one that cannot be a key (it has a line break in it) is a warning and never offered.
        StateError: the remembered quotas cannot be read or written.

    >>> manager = APIKeyManager("OPENAI_API_KEY", ["OPENAI_API_KEY_2"], state="memory")
    >>> manager.get_next_key_env()
    'OPENAI_API_KEY'
    >>> manager.handle_api_error(RuntimeError("402 insufficient_quota"), "OPENAI_API_KEY")
    'quota_exhausted'
    >>> manager.get_next_key_env()
    'OPENAI_API_KEY_2'
    """

    primary_key_env: str
    """The first name, as it was given."""
    backup_key_envs: list[str]
    """The other names, as they were given."""
    current_key_env: str
    """The name that `get_next_key_env` gave last; the primary at first."""
    state_file: Path | None
    """The old manager's file, whether it is there or not; `None` when no path was given."""

    def __init__(
        self,
        primary_key_env: str,
        backup_key_envs: Iterable[str] = (),
        state_file: str | PathLike[str] | None = None,
        config_manager: object = None,
        *,
        provider: str | None = None,
        state: str | PathLike[str] | None = None,
    ) -> None:
        texts = checked(primary_key_env, backup_key_envs)
        given = optional_name("provider", provider)
        self._given = given
        canonical = None if given is None else canonical_provider(given)
        self._default = canonical or default_provider(texts, config_manager)
        google = self._default == "gemini" and "google" in texts[0].lower()
        self._provider_name = given or ("google" if google else self._default)
        self._state = state_address(state_of(config_manager) if state is None else state)
        self._failed_here: set[str] = set()
        self._ring = KeyRing(texts, canonical, self._default, self._state)
        ring = self._ring.now()
        self._names = ring.keys.names
        self.primary_key_env = self.current_key_env = self._names[0]
        self.backup_key_envs = list(self._names[1:])
        self.state_file = _old_file(state_file, config_manager)
        if self.state_file is not None:
            self._take_over(self.state_file, ring)

    def get_next_key_env(self) -> str | None:
        """Return the name of a key that may be used: the current one while it may, else the first that may.

        A name whose variable is not set comes after all others. When there is none: `None`, and an error in the
        log.

        >>> manager.get_next_key_env()
        'OPENAI_API_KEY'
        """
        ring = self._ring.now()
        # Only what this manager was made with is offered, whatever the current one was set to.
        names = [name for name in (self.current_key_env, *self._names) if name in self._names]
        names.sort(key=lambda name: name in ring.keys.places and not ring.keys.places[name].is_set)
        for name in dict.fromkeys(names):
            if self._word(name) == "available":
                self.current_key_env = name
                return name
        states = ", ".join(f"{shown(name)} {self._word(name)}" for name in self._names)
        logger().error("no key of %s may be used: %s", self.provider_name, states)
        return None

    def handle_api_error(self, error: object, key_env: str) -> str:
        """Mark the key for what a request with it met, and return what that was.

        Args:
            error: whatever was raised, by any library; see `classify_error`.
            key_env: the name of the key the request went out with.

        Returns:
            - `quota_exhausted`: the day's quota or the credit is used up. The key is closed until the provider's
              word, or else until the day turns there.
            - `rate_limited`: too many for a minute, or the provider is overloaded. The key stays available, and
              `LLMInterface` waits as long as the provider says.
            - `failed`: anything else. A bad key is disabled for everybody until `reset`; after any other failure
              only this manager leaves the key alone, until `reset`.

        >>> manager.handle_api_error(TimeoutError("no answer"), "OPENAI_API_KEY")
        'failed'
        """
        ring, name = self._ring.find(key_env)
        kind, verdict = self._judge(error, ring.keys.places[name].provider)
        if kind == "quota":
            self._exhaust(ring, name, verdict)
            return "quota_exhausted"
        if kind == "rate":
            if verdict is not None:
                ring.close(name, verdict)
            logger().warning("%s has to wait", shown(name))
            return "rate_limited"
        closed = None
        if verdict is not None and verdict.failure == "auth":
            closed = ring.close(name, verdict)
        if closed is None:
            self._failed_here.add(name)
        logger().warning(
            "%s failed: %s", shown(name), "the cause is unknown" if verdict is None else verdict.failure
        )
        return "failed"

    def is_rate_limit_error(self, error: object) -> bool:
        """Whether it tells to slow down: a minute's limit, or an overload. A used-up day is not one.

        >>> manager.is_rate_limit_error(RuntimeError("429 Too Many Requests"))
        True
        """
        return self._judge(error, self._default)[0] == "rate"

    def is_quota_exhausted_error(self, error: object) -> bool:
        """Whether it tells that the day's quota or the credit is used up.

        >>> manager.is_quota_exhausted_error(RuntimeError("Daily limit exceeded"))
        True
        """
        return self._judge(error, self._default)[0] == "quota"

    def mark_key_failed(self, key_env: str) -> None:
        """Mark a key that does not work: it is not used until `reset`, at most for a day.

        >>> manager.mark_key_failed("OPENAI_API_KEY")
        >>> manager.is_key_available("OPENAI_API_KEY")
        False
        """
        ring, name = self._ring.find(key_env)
        ring.disable(name, time.time() + A_DAY)
        logger().warning("%s is marked as failed", shown(name))

    def mark_key_quota_exhausted(self, key_env: str, error: object = None) -> None:
        """Mark a key that is used up: it is not used until the time in `error`, or until the day turns.

        >>> manager.mark_key_quota_exhausted("OPENAI_API_KEY")
        >>> list(manager.quota_exhausted_keys)
        ['OPENAI_API_KEY']
        """
        ring, name = self._ring.find(key_env)
        verdict = None if error is None else self._judge(error, ring.keys.places[name].provider)[1]
        self._exhaust(ring, name, verdict)

    def is_key_available(self, key_env: str) -> bool:
        """Whether the key is neither used up nor marked as failed; one that has to wait a minute is.

        >>> manager.is_key_available("OPENAI_API_KEY")
        True
        """
        return self._word(key_env) == "available"

    def get_quota_status(self) -> dict[str, str]:
        """Return `available`, `failed` or `quota_exhausted_until_…` for each name.

        What follows is `midnight_pt` (Gemini) or `midnight_utc` while the key comes back when the present day ends
        there, else the moment in UTC.

        >>> manager.get_quota_status()
        {'OPENAI_API_KEY': 'available', 'OPENAI_API_KEY_2': 'available'}
        """
        return {name: self._word(name) for name in self._names}

    def force_quota_reset_check(self) -> None:
        """Do nothing: what is closed is closed until a moment, and open after it.

        >>> manager.force_quota_reset_check()
        """

    def reset(self) -> None:
        """Open every key and forget its counts, for all who share the state; the primary is current again.

        What cannot be a key stays `failed` until its variable holds one.

        >>> manager.reset()
        >>> manager.current_key_env
        'OPENAI_API_KEY'
        """
        ring = self._ring.now()
        for name in ring.keys.names:
            ring.reset(name)
        self._failed_here.clear()
        self.current_key_env = self.primary_key_env

    def reset_quota_only(self) -> None:
        """Open what quotas and rate limits closed, for all who share the state; failed keys stay failed.

        >>> manager.reset_quota_only()
        """
        ring = self._ring.now()
        for name in ring.keys.names:
            ring.open(name, also_disabled=False)

    @property
    def provider_name(self) -> str:
        """Whose keys these are; `google` for Gemini where the first name says so, as it was of old."""
        return self._provider_name

    @property
    def failed_keys(self) -> set[str]:
        """The names of keys that do not work, as a set of this moment; what changes it changes the ledgers too.

        >>> manager.failed_keys == set()
        True
        """
        return self._failed()

    @failed_keys.setter
    def failed_keys(self, names: Iterable[str]) -> None:
        self._failed().become(names)

    @property
    def quota_exhausted_keys(self) -> dict[str, str]:
        """Used-up keys with the last day they are used up on, `YYYY-MM-DD` in the provider's zone.

        A dict of this moment; what changes it changes the ledgers too.

        >>> manager.quota_exhausted_keys == {}
        True
        """
        return ExhaustedKeys(self._ring)

    @quota_exhausted_keys.setter
    def quota_exhausted_keys(self, days: Mapping[str, str]) -> None:
        ExhaustedKeys(self._ring).become(days)

    def __repr__(self) -> str:
        names = ", ".join(map(shown, self._names))
        return f"<APIKeyManager of {self.provider_name}: {names}>"

    def __reduce__(self) -> tuple[Callable[..., APIKeyManager], tuple[Any, ...]]:
        if any(isinstance(name, GivenKey) for name in self._names):
            raise TypeError("this APIKeyManager holds a key and is not pickled: put the key into a variable")
        return _made_again, (self._names, self.state_file, self._given, self._state)

    def _judge(self, error: object, provider: str) -> tuple[str | None, Verdict | None]:
        """Return `quota`, `rate` or `None`, and what the error means."""
        verdict = classify_error(error, None if provider == UNKNOWN else provider)
        if verdict is None:
            return legacy.kind_of_words(error), None
        if verdict.failure in QUOTA:
            return "quota", verdict
        if verdict.failure not in _RATE:
            return None, verdict
        # Neither a time nor a short limit was stated: then words about a longer one hold.
        short = verdict.limit is not None and verdict.limit[1] in _SHORT
        is_stated = verdict.until is not None or short or verdict.failure == "token_limited"
        if not is_stated and verdict.status in {None, 429} and legacy.kind_of_words(error) == "quota":
            return "quota", None
        return "rate", verdict

    def _exhaust(self, ring: Ring, name: str, verdict: Verdict | None) -> None:
        closed = None
        if verdict is not None and verdict.failure in QUOTA and (verdict.until or 0) > time.time():
            closed = ring.close(name, verdict)
        if closed is None:
            closed = ring.exhaust(name, None)
        logger().warning("%s is used up until %s", shown(name), moment(closed))

    def _word(self, key_env: str) -> str:
        ring, name = self._ring.find(key_env)
        mark = ring.mark(name)
        if name in ring.keys.bad or mark.disabled is not None or name in self._failed_here:
            return "failed"
        return "available" if mark.used_up is None else ring.used_up(name, mark.used_up)

    def _failed(self) -> FailedKeys:
        return FailedKeys(self._ring, self._failed_here, self.mark_key_failed)

    def _take_over(self, path: Path, ring: Ring) -> None:
        """Take over what the old manager noted and still holds; entries of unknown keys stay in its file."""
        entries = legacy.read_entries(path)
        if entries is None:
            return
        left, now = dict[str, Any](), time.time()
        for name, day in entries.items():
            end = ring.day_ends(name, day) if name in ring.keys.places else None
            if end is None or end > now + _LATEST_END:
                left[name] = day
                if name in ring.keys.places:
                    logger().warning(
                        "%s: what stands at %s is no day to believe: it is left there", path, shown(name)
                    )
                continue
            if end > now:
                ring.exhaust(name, end)
                # What is kept by its name alone is forgotten when its variable is set.
                if not ring.keys.places[name].is_set:
                    left[name] = day
        # What is only in memory is gone with the process: then the file stays.
        if left != entries and self._state != "memory":
            legacy.put_aside(path, left)


def _made_again(
    names: Sequence[str], state_file: Path | None, provider: str | None, state: str | None
) -> APIKeyManager:
    return APIKeyManager(names[0], names[1:], state_file, provider=provider, state=state)


def _old_file(state_file: object, config_manager: object) -> Path | None:
    if state_file is not None:
        path = os.fspath(state_file) if isinstance(state_file, str | os.PathLike) else None
        if isinstance(path, str) and path:
            return Path(path)
        raise ConfigError("state_file is empty or no path", path="state_file", hint="pass None for the usual one")
    ask = getattr(config_manager, "get_cache_path", None)
    if not callable(ask):
        return None
    try:
        return Path(ask()) / legacy.NAME
    except Exception as error:  # noqa: BLE001 - the object is not part of quotaflow
        logger().warning("get_cache_path() gave no folder (%s): nothing is taken over", type(error).__name__)
        return None
