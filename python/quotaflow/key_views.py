"""Which keys are failed or used up, as sets and mappings that callers change?"""

from __future__ import annotations

import time
from collections.abc import MutableMapping, MutableSet
from typing import TYPE_CHECKING, Any

from quotaflow.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from quotaflow.key_ring import KeyRing


class FailedKeys(MutableSet[str]):
    """The names that do not work. Looking reads the ledgers, adding and discarding writes them."""

    def __init__(self, ring: KeyRing, failed_here: set[str], add: Callable[[str], None]) -> None:
        self._ring = ring
        self._failed_here = failed_here
        self._add = add

    def _names(self) -> list[str]:
        ring = self._ring.now()
        here = self._failed_here
        return [name for name in ring.keys.names if name in here or ring.mark(name).disabled is not None]

    def __contains__(self, name: object) -> bool:
        return name in self._names()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def add(self, name: str) -> None:
        """Marks a key as failed."""
        self._add(name)

    def discard(self, name: str) -> None:
        """Lets a key be used again, unless it is used up."""
        if name not in self:
            return
        ring, name = self._ring.find(name)
        self._failed_here.discard(name)
        mark = ring.mark(name)
        if mark.disabled is not None:
            ring.open(name, also_disabled=True)
            if mark.used_up is not None:
                ring.exhaust(name, mark.used_up)

    def become(self, names: set[str]) -> None:
        """Holds these and no others."""
        for name in set(self) - names:
            self.discard(name)
        for name in names - set(self):
            self.add(name)

    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> set[Any]:
        return set(it)

    def __repr__(self) -> str:
        return repr(set(self._names()))


class ExhaustedKeys(MutableMapping[str, str]):
    """The used-up names with the last day on which they are. Looking reads the ledgers, setting writes them."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def _days(self) -> dict[str, str]:
        ring = self._ring.now()
        ends = {name: ring.mark(name).used_up for name in ring.keys.names}
        return {name: ring.last_day(name, end) for name, end in ends.items() if end is not None}

    def __getitem__(self, name: str) -> str:
        return self._days()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._days())

    def __len__(self) -> int:
        return len(self._days())

    def __setitem__(self, name: str, day: str) -> None:
        ring, name = self._ring.find(name)
        end = ring.day_ends(name, day)
        if end is None:
            raise InvalidArgumentError("the day of a used-up key is no date", hint="pass it as YYYY-MM-DD")
        if end > time.time():
            ring.exhaust(name, end)

    def __delitem__(self, name: str) -> None:
        if name not in self._days():
            raise KeyError(name)
        ring, name = self._ring.find(name)
        ring.open(name, also_disabled=False)

    def become(self, days: Mapping[str, str]) -> None:
        """Holds these and no others."""
        for name in set(self._days()) - set(days):
            del self[name]
        self.update(days)

    def __repr__(self) -> str:
        return repr(self._days())
