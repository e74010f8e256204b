"""The results of a batch: `BatchItem`, `Batch`, and the items kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import overload

    from quotaflow._batch.summary import BatchSummary
    from quotaflow._quotaflow import DigestTable
    from quotaflow._structured.repair import Wanted
    from quotaflow.errors import QuotaflowError
    from quotaflow.reply import Reply


class BatchItem:
    """What came back for one prompt of a batch.

    >>> item = llm.send_batch(["Name a river."], model="gpt-4o-mini")[0]
    >>> item.index, item.ok, item.reply.provider, item.attempts
    (0, True, 'openai', 1)
    """

    __slots__ = ("attempts", "digest", "duplicate_of", "error", "id", "index", "reply")

    index: int
    """Its place among the prompts, from 0."""
    id: str | int | None
    """The `id` of the prompt, if it had one."""
    reply: Reply | None
    """The answer; `None` when there is none."""
    error: QuotaflowError | None
    """Why there is no answer."""
    attempts: int
    """How often it was sent; 0 for what was never sent, and for a duplicate."""
    digest: str
    """What the prompt and its own parameters come to, in 32 hexadecimal digits; empty when it is no prompt."""
    duplicate_of: int | None
    """The place of the same prompt earlier in this batch, whose answer this is."""

    def __init__(
        self,
        index: int,
        identity: str | int | None,
        reply: Reply | None,
        error: QuotaflowError | None,
        attempts: int,
        digest: str,
        duplicate_of: int | None = None,
    ) -> None:
        self.index = index
        self.id = identity
        self.reply = reply
        self.error = error
        self.attempts = attempts
        self.digest = digest
        self.duplicate_of = duplicate_of

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None

    def again(self, index: int, identity: str | int | None) -> BatchItem:
        """Return the item of a prompt with the same content."""
        first = self.index if self.duplicate_of is None else self.duplicate_of
        return BatchItem(index, identity, self.reply, self.error, 0, self.digest, first)

    def __repr__(self) -> str:
        what = f"reply={str(self.reply)[:40]!r}" if self.error is None else f"error={type(self.error).__name__}"
        return f"<BatchItem {self.index} {what}>"


class Batch(Sequence[BatchItem]):
    """What came back for all prompts, in their order; `str(batch.summary)` is a table.

    With `checkpoint=` the items stand in that file and are read when they are asked for; it must stay where it is.

    >>> batch = llm.send_batch(["Name a river.", "Name a lake."], model="gpt-4o-mini")
    >>> len(batch), len(batch.replies), batch.errors, batch.summary.successful
    (2, 2, [], 2)
    """

    __slots__ = ("_places", "_results", "summary")

    summary: BatchSummary
    """How it went: counts, tokens, cost, times."""

    def __init__(self, results: Results, summary: BatchSummary) -> None:
        self._results = results
        self._places = results.places()
        self.summary = summary

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: int) -> BatchItem: ...

        @overload
        def __getitem__(self, index: slice) -> list[BatchItem]: ...

    def __getitem__(self, index: int | slice) -> BatchItem | list[BatchItem]:
        """Return the item of the prompt at this place, or a list of them."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        places = self._places
        place = index + len(places) if index < 0 else index
        if not 0 <= place < len(places):
            raise IndexError(f"there are {len(places)} items, and none at {index}")
        item = self._results.get(places[place])
        if item is None:
            raise IndexError(f"item {index} is gone")
        return item

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[BatchItem]:
        return (self[place] for place in range(len(self)))

    @property
    def replies(self) -> list[Reply]:
        """The answers, without the places where there is none; read anew each time."""
        return [item.reply for item in self if item.ok and item.reply is not None]

    @property
    def errors(self) -> list[BatchItem]:
        """The items without an answer."""
        return [item for item in self if not item.ok]

    def __repr__(self) -> str:
        return f"<Batch of {len(self)}, {self.summary.failed} failed>"


class Results:
    """Finished items in memory, all of them or the last ones."""

    __slots__ = ("_items", "_most", "_seen")

    def __init__(self, most: int | None, seen: DigestTable | None = None) -> None:
        self._items: OrderedDict[int, BatchItem] = OrderedDict()
        self._most = most
        self._seen = seen

    def put(self, item: BatchItem, line: str | None) -> None:  # noqa: ARG002 - memory needs no line
        """Keep an item."""
        self._items[item.index] = item
        if self._most is not None and len(self._items) > self._most:
            index, gone = self._items.popitem(last=False)
            if self._seen is not None and gone.digest:
                # A prompt whose answer is forgotten was never seen.
                self._seen.forget(bytes.fromhex(gone.digest), index)

    def get(self, index: int) -> BatchItem | None:
        """Return the item at this place, if it is still there."""
        return self._items.get(index)

    def places(self) -> Sequence[int]:
        """Return the places that have an item, in order."""
        size = len(self._items)
        return range(size) if max(self._items, default=-1) == size - 1 else sorted(self._items)

    def save(self, *, sync: bool) -> None:
        """Do nothing: memory is all there is."""

    def found(
        self,
        key: bytes,  # noqa: ARG002
        index: int,  # noqa: ARG002
        identity: str | int | None,  # noqa: ARG002
        wanted: Wanted | None,  # noqa: ARG002
    ) -> BatchItem | None:
        """Return nothing: there is no earlier run."""
        return None

    def close(self) -> None:
        """Do nothing: nothing is open."""
