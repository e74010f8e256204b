"""The ledgers of several keys: what is marked, since when, until when."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from math import inf
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from quotaflow._call.logs import logger
from quotaflow._call.options import config_json
from quotaflow._keys.names import Keys, look_up, shown
from quotaflow._quotaflow import Core
from quotaflow.errors import ConfigError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quotaflow._quotaflow import Verdict

QUOTA = frozenset({"daily_quota", "credit_exhausted"})
A_DAY = 86_400.0
# Later than this is never: 2286-11-20.
_NEVER = 1e10
# Blocks end up to a second after what they wait for, so that not everybody comes back at once.
_SPREAD = 2.0


class Mark(NamedTuple):
    """Until when a key is closed, in seconds since 1970: infinite until it is opened, `None` where it is not."""

    disabled: float | None
    used_up: float | None


class Ring(NamedTuple):
    """The keys as the environment had them, and the ledgers they stand in."""

    keys: Keys
    core: Core
    seen: int
    """What the environment held, so that a change is noticed."""

    def called(self, name: str) -> str:
        """Return the name as it stands here: a key is shown as its label."""
        return next(known for known in self.keys.places if known == name)

    def mark(self, name: str) -> Mark:
        """Return what closes a key."""
        provider, label, _ = self.keys.places[name]
        status = json.loads(self.core.key(provider, label))
        used_up = [block["until"] or inf for block in status["blocks"] if block["reason"] in QUOTA]
        if status["exhausted_until"] is not None:
            used_up.append(status["exhausted_until"])
        disabled = [block["until"] or inf for block in status["blocks"] if block["reason"] == "auth"]
        return Mark(_end(disabled), _end(used_up))

    def close(self, name: str, verdict: Verdict) -> float | None:
        """Close what the verdict is about; return until when, `None` when it closes nothing."""
        provider, label, _ = self.keys.places[name]
        return self.core.close_key(provider, label, verdict)

    def exhaust(self, name: str, until: float | None) -> float:
        """Close a key until then, or until the day turns; return until when."""
        provider, label, _ = self.keys.places[name]
        return self.core.exhaust_key(provider, label, None if until is None else min(until, _NEVER))

    def disable(self, name: str, until: float) -> None:
        """Close a key until then."""
        provider, label, _ = self.keys.places[name]
        self.core.disable_key(provider, label, None if until == inf else until)

    def open(self, name: str, also_disabled: bool) -> None:
        """Open what quotas closed, or everything."""
        provider, label, _ = self.keys.places[name]
        self.core.open_key(provider, label, also_disabled)

    def reset(self, name: str) -> None:
        """Open everything and forget what was counted."""
        provider, label, _ = self.keys.places[name]
        self.core.reset(provider, label)

    def day_ends(self, name: str, day: object) -> float | None:
        """Return when a day, `YYYY-MM-DD`, ends at the provider of a key; `None` when it is none."""
        if not isinstance(day, str) or not day.isascii():
            return None
        return self.core.day_ends(self.keys.places[name].provider, day)

    def last_day(self, name: str, until: float) -> str:
        """Return the last day on which a key that is used up until then is used up, in its provider's zone."""
        return self._day(name, max(time.time(), until - _SPREAD))[0]

    def used_up(self, name: str, until: float) -> str:
        """Return `quota_exhausted_until_…`, as callers compare it."""
        midnight = self._day(name, time.time())[1]
        if abs(until - midnight) <= _SPREAD:
            return f"quota_exhausted_until_midnight_{'utc' if midnight % A_DAY == 0 else 'pt'}"
        return f"quota_exhausted_until_{moment(until)}"

    def _day(self, name: str, at: float) -> tuple[str, float]:
        """Return the civil day of that moment at the provider of a key, and when it ends."""
        utc = datetime.fromtimestamp(min(at, _NEVER), UTC).date()
        for days in (-1, 0, 1):
            day = (utc + timedelta(days=days)).isoformat()
            end = self.day_ends(name, day)
            if end is not None and end > at:
                return day, end
        return utc.isoformat(), at


class KeyRing:
    """Keeps up with the environment: variables may be set, and keys replaced, while a process runs."""

    def __init__(self, texts: list[str], provider: str | None, default: str, state: str | None) -> None:
        self._texts = texts
        self._provider = provider
        self._default = default
        self._state = state
        self._salt = os.urandom(8).hex()
        self._warned: set[str] = set()
        self._changing = Lock()
        self._known = self._made(texts, None)

    def now(self) -> Ring:
        """Return the keys as the environment has them now."""
        known = self._known
        return known if known.seen == _environment(self._texts) else self._renewed(())

    def find(self, key_env: object) -> tuple[Ring, str]:
        """Return the ring and the name as it stands there; a name that is new is taken in.

        Raises:
            InvalidArgumentError: it is empty or no text.
        """
        key_env = key_env.strip() if isinstance(key_env, str) else key_env
        if not isinstance(key_env, str) or not key_env:
            shows = "empty" if isinstance(key_env, str) else f"of type {type(key_env).__name__}"
            raise InvalidArgumentError(f"key_env is {shows}", hint="pass a name that get_next_key_env() gave")
        ring = self.now()
        if key_env not in ring.keys.places:
            ring = self._renewed([key_env])
        return ring, ring.called(key_env)

    def _renewed(self, more: Sequence[str]) -> Ring:
        with self._changing:
            texts = list(dict.fromkeys([*self._texts, *more]))
            seen = _environment(texts)
            if self._known.seen != seen:
                try:
                    self._known = self._made(texts, self._known)
                except ConfigError as error:
                    if more:
                        raise
                    logger().warning("the environment changed, and what was before holds on: %s", error)
                    self._known = self._known._replace(seen=seen)
                self._texts = texts
            return self._known

    def _made(self, texts: Sequence[str], before: Ring | None) -> Ring:
        seen = _environment(texts)
        try:
            keys, core = self._opened(texts, frozenset())
        except ConfigError:
            bad = self._bad_keys(texts, before is None)
            if not bad:
                raise
            keys, core = self._opened(texts, bad)
        for name, place in keys.places.items():
            if not place.is_set and name not in self._warned:
                self._warned.add(name)
                logger().warning("%s is not set to a key: it is kept by its name until it is", shown(name))
        ring = Ring(keys, core, seen)
        if before is not None and self._state == "memory":
            self._carry_over(before, ring)
        return ring

    def _opened(self, texts: Sequence[str], bad: frozenset[tuple[str, str]]) -> tuple[Keys, Core]:
        keys, by_provider = look_up(texts, self._provider, self._default, self._salt, bad)
        return keys, _core(by_provider, self._state)

    def _bad_keys(self, texts: Sequence[str], needs_one: bool) -> frozenset[tuple[str, str]]:
        """Return the providers and labels of what cannot be a key, each reported once.

        Empty when one is needed and none is left. Each is tried alone: only the core knows what `.env` holds
        and what a key may look like.
        """
        keys, by_provider = look_up(texts, self._provider, self._default, self._salt, frozenset())
        entries = [(provider, entry) for provider, several in by_provider.items() for entry in several]
        bad: dict[tuple[str, str], ConfigError] = {}
        for provider, entry in entries:
            try:
                _core({provider: [entry]}, "memory")
            except ConfigError as error:
                bad[provider, entry["label"]] = error
        if needs_one and len(bad) == len(entries):
            return frozenset()
        for name, place in keys.places.items():
            error_of_name = bad.get((place.provider, place.label))
            reported = f"{place.provider}/{place.label}/{keys.digests[name]}"
            if error_of_name is not None and reported not in self._warned:
                self._warned.add(reported)
                logger().warning("%s is never offered: %s", shown(name), error_of_name)
        return frozenset(bad)

    @staticmethod
    def _carry_over(before: Ring, ring: Ring) -> None:
        """Return what only the memory of the ring before holds."""
        for name, digest in before.keys.digests.items():
            if ring.keys.digests.get(name) == digest:
                mark = before.mark(name)
                if mark.disabled is not None:
                    ring.disable(name, mark.disabled)
                if mark.used_up is not None:
                    ring.exhaust(name, mark.used_up)


def _core(keys: dict[str, list[dict[str, str]]], state: str | None) -> Core:
    return Core(None, False, config_json("keys", keys), None, None, state, True)


def moment(at: float) -> str:
    """Return a moment in UTC, for people.

    >>> moment(1_800_000_000.0)
    '2027-01-15T08:00:00Z'
    """
    if at >= _NEVER:
        return "reset"
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _end(ends: list[float]) -> float | None:
    last = max(ends, default=None)
    return inf if last is not None and last >= _NEVER else last


def _environment(texts: Sequence[str]) -> int:
    return hash(tuple((text, os.environ.get(text)) for text in texts))
