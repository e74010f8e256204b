"""Failed and used-up keys as a set and a dict that callers may change."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

from quotaflow.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from quotaflow._keys.ring import KeyRing

# Not the name, as `KeyError` has it elsewhere: it may be a key.
_NOT_THERE = "it is not there"


class FailedKeys(set[str]):
    """The names that do not work, as they were when they were asked for.

    What changes the set writes to the ledgers, and then it holds what they say. What is made of it (`copy`,
    `union`, `|`…) is a plain set.
    """

    def __init__(self, ring: KeyRing, failed_here: set[str], add: Callable[[str], None]) -> None:
        super().__init__()
        self._ring = ring
        self._failed_here = failed_here
        self._add = add
        self._look()

    def add(self, name: str, /) -> None:
        """Mark a key as failed."""
        self._add(name)
        self._look()

    def discard(self, name: object, /) -> None:
        """Let a key be used again, unless it is used up or cannot be a key."""
        self.become(self._look() - {name})

    def remove(self, name: object, /) -> None:
        """Do as `discard`; raise `KeyError` when it is not there."""
        if name not in self._look():
            raise KeyError(_NOT_THERE)
        self.discard(name)

    def pop(self) -> str:
        """Remove and return one."""
        for name in self._look():
            self.discard(name)
            return name
        raise KeyError(_NOT_THERE)

    def clear(self) -> None:
        """Let all be used again."""
        self.become(())

    def update(self, *others: Iterable[str]) -> None:
        """Mark keys as failed."""
        self.become(self._look().union(*others))

    def difference_update(self, *others: Iterable[object]) -> None:
        """Let those be used again."""
        self.become(self._look().difference(*others))

    def intersection_update(self, *others: Iterable[object]) -> None:
        """Let all but those be used again."""
        self.become(self._look().intersection(*others))

    def symmetric_difference_update(self, other: Iterable[str], /) -> None:
        """Toggle the membership of what the other holds."""
        self.become(self._look() ^ set(other))

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc]
        self.update(other)
        return self

    def __isub__(self, other: Any) -> Self:  # type: ignore[misc]
        self.difference_update(other)
        return self

    def __iand__(self, other: Any) -> Self:  # type: ignore[misc]
        self.intersection_update(other)
        return self

    def __ixor__(self, other: Any) -> Self:  # type: ignore[override,misc]
        self.symmetric_difference_update(other)
        return self

    def become(self, names: Iterable[str]) -> None:
        """Replace what is held with these."""
        wanted = set(names)
        known = self._look()
        for name in known - wanted:
            self._open(name)
        for name in wanted - known:
            self._add(name)
        self._look()

    def copy(self) -> set[str]:
        """Return a plain set."""
        return set(self)

    def union(self, *others: Iterable[Any]) -> set[Any]:
        """Return a plain set of these and those."""
        return set(self).union(*others)

    def difference(self, *others: Iterable[Any]) -> set[str]:
        """Return a plain set of these without those."""
        return set(self).difference(*others)

    def intersection(self, *others: Iterable[Any]) -> set[str]:
        """Return a plain set of what is in both."""
        return set(self).intersection(*others)

    def symmetric_difference(self, other: Iterable[Any], /) -> set[Any]:
        """Return a plain set of what is in one of both."""
        return set(self).symmetric_difference(other)

    def __reduce__(self) -> tuple[Any, ...]:
        return set, (list(self),)

    def __repr__(self) -> str:
        return repr(set(self))

    def _look(self) -> set[str]:
        ring = self._ring.now()
        here = self._failed_here | ring.keys.bad
        names = {name for name in ring.keys.names if name in here or ring.mark(name).disabled is not None}
        super().clear()
        super().update(names)
        return names

    def _open(self, name: str) -> None:
        ring, name = self._ring.find(name)
        self._failed_here.discard(name)
        mark = ring.mark(name)
        if mark.disabled is not None:
            ring.open(name, also_disabled=True)
            if mark.used_up is not None:
                ring.exhaust(name, mark.used_up)


class ExhaustedKeys(dict[str, str]):
    """The used-up names with the last day on which they are, as they were when they were asked for.

    What changes the dict writes to the ledgers, and then it holds what they say: a day that is over is not kept.
    What is made of it (`copy`, `|`…) is a plain dict.
    """

    def __init__(self, ring: KeyRing) -> None:
        super().__init__()
        self._ring = ring
        self._look()

    def __setitem__(self, name: str, day: str, /) -> None:
        self._close(name, day)
        self._look()

    def __delitem__(self, name: str, /) -> None:
        if name not in self._look():
            raise KeyError(_NOT_THERE)
        self._open(name)
        self._look()

    def pop(self, name: str, /, *default: Any) -> Any:
        """Let a key be used again, and give its day."""
        known = self._look()
        if name in known:
            del self[name]
        elif not default:
            raise KeyError(_NOT_THERE)
        return known.get(name, *default)

    def popitem(self) -> tuple[str, str]:
        """Let one be used again, and give its name and day."""
        item = self._look().popitem()
        del self[item[0]]
        return item

    def clear(self) -> None:
        """Let all be used again."""
        self.become({})

    def update(self, *others: Any, **days: str) -> None:
        """Close keys until those days are over."""
        for name, day in dict(*others, **days).items():
            self._close(name, day)
        self._look()

    def setdefault(self, name: str, day: Any = None, /) -> Any:
        """Return the day of a key that is used up, else close it until that day is over."""
        if name not in self._look():
            self[name] = day
        return self.get(name, day)

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc]
        self.update(other)
        return self

    def become(self, days: Mapping[str, str]) -> None:
        """Replace what is held with these."""
        wanted = dict(days)
        for name in self._look():
            if name not in wanted:
                self._open(name)
        self.update(wanted)

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (list(self.items()),)

    def _look(self) -> dict[str, str]:
        ring = self._ring.now()
        ends = {name: ring.mark(name).used_up for name in ring.keys.names}
        days = {name: ring.last_day(name, end) for name, end in ends.items() if end is not None}
        super().clear()
        super().update(days)
        return days

    def _close(self, name: str, day: object) -> None:
        ring, name = self._ring.find(name)
        end = ring.day_ends(name, day)
        if end is None:
            raise InvalidArgumentError("the day of a used-up key is no date", hint="pass it as YYYY-MM-DD")
        if end > time.time():
            ring.exhaust(name, end)

    def _open(self, name: str) -> None:
        ring, name = self._ring.find(name)
        ring.open(name, also_disabled=False)
