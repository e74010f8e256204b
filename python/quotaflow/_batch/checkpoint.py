"""The checkpoint file of a batch: written while it runs, read to resume it.

A file of lines of JSON. The first says which job it is of, each other one holds one finished prompt: its place,
the digest of its content, and the reply or the error. Lines are only ever appended. What was written survives the
death of the process at once, and a power cut after a second.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from errno import ENOSPC
from hashlib import blake2b

from quotaflow import errors
from quotaflow._batch.results import BatchItem, Results
from quotaflow._quotaflow import DigestTable
from quotaflow.errors import AnswerError, CallError, CheckpointError, QuotaflowError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from quotaflow._quotaflow import Outcome
    from quotaflow._structured.repair import Wanted
    from quotaflow.reply import Reply

_VERSION = 1
_SYNC_EACH = 1.0
_READ = 1 << 20


class Checkpoint:
    """The file of one job, held by one run at a time.

    Args:
        path: the file; made when it is not there.
        job: what the answers depend on beside the prompts, by name.

    Raises:
        CheckpointError: it is of another job or no checkpoint, another run holds it, or it cannot be used at all.
    """

    def __init__(self, path: str, job: Mapping[str, object]) -> None:
        self._path = path
        self._known = DigestTable()
        # What `save` will write: lines by where they will stand, and where that of a prompt will.
        self._unsaved: dict[int, bytes] = {}
        self._places: dict[int, int] = {}
        self._synced_at = 0.0
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._trouble(error) from error
        try:
            self._hold()
            self._end = self._next = self._read(_header(job))
        except OSError as error:
            self.close()
            raise self._trouble(error) from error
        except BaseException:
            self.close()
            raise

    def known(self, key: bytes) -> int | None:
        """Return where the reply to this prompt stands, if an earlier run got one."""
        return self._known.get(key)

    def add(self, index: int, line: str) -> int:
        """Take a line that `save` will write; return where it will stand."""
        known = self._places.get(index)
        if known is not None:
            return known
        encoded, offset = line.encode(), self._next
        # In one statement without a call, so that Ctrl-C finds all of it done or nothing.
        self._unsaved[offset], self._places[index], self._next = encoded, offset, offset + len(encoded)
        return offset

    def save(self, *, sync: bool) -> None:
        """Write what was added; once a second, or with `sync`, make it safe from a power cut as well.

        Raises:
            CheckpointError: it cannot be written; nothing of what was added is lost, it is in `unsaved`.
        """
        if self._file < 0:
            return
        try:
            if self._unsaved:
                # Written at its place: after a Ctrl-C in between, writing it once more changes nothing.
                _write_at(self._file, b"".join(self._unsaved.values()), self._end)
                fresh: tuple[dict[int, bytes], dict[int, int]] = ({}, {})
                self._end, (self._unsaved, self._places) = self._next, fresh
            now = time.monotonic()
            if sync or now - self._synced_at >= _SYNC_EACH:
                os.fsync(self._file)
                self._synced_at = now
        except OSError as error:
            os.ftruncate(self._file, self._end)
            trouble = self._trouble(error)
            trouble.unsaved = tuple(_item(json.loads(line), None) for line in self._unsaved.values())
            raise trouble from error

    def lines(self) -> Lines:
        """Open the lines for reading, now and after this is closed."""
        return Lines(self._path, self)

    def unsaved_at(self, offset: int) -> bytes | None:
        """Return the line that will stand there, when it is not written yet."""
        return self._unsaved.get(offset)

    def close(self) -> None:
        """Let go of the file. Closing twice is fine."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self.close()

    def _hold(self) -> None:
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise self._no_checkpoint("it is no file that can be read again")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CheckpointError(
                f"{self._path} is in use by another run",
                hint="wait until that has ended, or give this one another file",
                path=self._path,
            ) from None

    def _read(self, header: dict[str, Any]) -> int:
        """Read what is there, cut off a line that was never finished, and return where the next one belongs."""
        first = (json.dumps(header, separators=(",", ":")) + "\n").encode()
        end, other_job = 0, None
        spoilt: list[int] = []
        left_out: list[int] = []
        for number, (offset, line) in enumerate(_lines_of(self._file), start=1):
            if number == 1:
                if not line.endswith(b"\n") and first.startswith(line):
                    break  # its maker died in the middle of the first line
                other_job = self._other_job(line, header)
            elif not line.endswith(b"\n"):
                break
            else:
                try:
                    facts = json.loads(line)
                    if "reply" in facts:
                        if other_job is not None:
                            raise other_job
                        self._known.put(bytes.fromhex(facts["digest"]), offset)
                except (ValueError, TypeError, KeyError):
                    # After a power cut any of the last lines may be anything; what is good may stand behind them.
                    spoilt.append(number)
                    continue
            end = offset + len(line)
            left_out, spoilt = left_out + spoilt, []
        if left_out:
            self._warn_of(left_out)
        if other_job is not None:
            end = 0  # it holds no reply that would be lost
        os.ftruncate(self._file, end)
        if end == 0:
            _write_at(self._file, first, 0)
            os.fsync(self._file)
            end = len(first)
        return end

    def _warn_of(self, spoilt: list[int]) -> None:
        from quotaflow._call.logs import logger

        numbers = ", ".join(map(str, spoilt[:5])) + (f" and {len(spoilt) - 5} more" if len(spoilt) > 5 else "")
        logger().warning(
            "line%s %s of %s cannot be read, and what stood there is sent again",
            "s" if len(spoilt) > 1 else "", numbers, self._path,
        )  # fmt: skip

    def _other_job(self, line: bytes, header: dict[str, Any]) -> CheckpointError | None:
        """Return the error for a file of another job, or `None`."""
        try:
            found = json.loads(line)
            version, job = found["quotaflow_checkpoint"], dict(found["job"])
        except (ValueError, TypeError, KeyError):
            raise self._no_checkpoint("it does not begin like one") from None
        if version != _VERSION:
            raise self._no_checkpoint(f"it is of version {version}, and this quotaflow writes {_VERSION}")
        own = header["job"]
        differ = sorted(name for name in {*job, *own} if job.get(name) != own.get(name))
        if not differ:
            return None
        # Where an argument says another model, that needs not be said twice.
        named = [name for name in differ if name != "default model"] or differ
        return CheckpointError(
            f"{self._path} is of another job: it was made with another {', '.join(named)}",
            hint="give this job its own file, or the arguments it had",
            path=self._path,
        )

    def _no_checkpoint(self, why: str) -> CheckpointError:
        hint = "give the batch a path where nothing is, or move the file away; it was not touched"
        return CheckpointError(f"{self._path} is no checkpoint to go on with: {why}", hint=hint, path=self._path)

    def _trouble(self, error: OSError) -> CheckpointError:
        hint = (
            "free some space and run the same again" if error.errno == ENOSPC else "check the path and its rights"
        )
        why = error.strerror or str(error)
        return CheckpointError(f"{self._path} cannot be used: {why}", hint=hint, path=self._path)


class Lines:
    """The finished prompts of a checkpoint, read one by one."""

    def __init__(self, path: str, written: Checkpoint) -> None:
        self._written = written
        self._file = os.open(path, os.O_RDONLY)

    def item_at(self, offset: int, index: int) -> BatchItem:
        """Return the item whose line stands there, for the prompt at `index`."""
        line = self._written.unsaved_at(offset)
        if line is None:
            size = 4096
            while b"\n" not in (read := os.pread(self._file, size, offset)) and len(read) == size:
                size *= 4
            line = read.partition(b"\n")[0]
        return _item(json.loads(line), index)

    def __del__(self) -> None:
        file = getattr(self, "_file", -1)
        if file >= 0:
            os.close(file)


class SavedResults(Results):
    """Finished items in the lines of a checkpoint; in memory are only the places where they stand."""

    __slots__ = ("_checkpoint", "_errors_as_text", "_lines", "_offsets", "_originals", "_own", "_usual")

    def __init__(self, checkpoint: Checkpoint, usual: Wanted | None, errors_as_text: bool) -> None:
        from array import array

        super().__init__(None)
        self._checkpoint = checkpoint
        self._errors_as_text = errors_as_text
        self._lines: Lines = checkpoint.lines()
        self._offsets = array("q")
        # Of those whose line is another one's: the place of that one, and their own id.
        self._originals: dict[int, tuple[int, str | int | None]] = {}
        # What answers are held to, and where that is something else than usually: objects are read from the lines.
        self._usual = usual
        self._own: dict[int, Wanted | None] = {}

    def put(self, item: BatchItem, line: str | None) -> None:
        """Write an item down; a duplicate has the line of its original."""
        if item.duplicate_of is not None:
            self._originals[item.index] = (item.duplicate_of, item.id)
            return
        if line is not None:
            self._stands_at(item.index, self._checkpoint.add(item.index, line))

    def found(self, key: bytes, index: int, identity: str | int | None, wanted: Wanted | None) -> BatchItem | None:
        """Return the item of the same prompt, if an earlier run finished it and its answer has its shape."""
        if wanted is not self._usual:
            self._own[index] = wanted
        offset = self._checkpoint.known(key)
        if offset is None:
            return None
        self._stands_at(index, offset)
        if identity is not None:
            self._originals[index] = (index, identity)
        item, fits = self._read(index)
        if not fits:
            # A class may have become stricter since.
            self._offsets[index] = -1
            self._originals.pop(index, None)
        return item if fits else None

    def _stands_at(self, index: int, offset: int) -> None:
        missing = index + 1 - len(self._offsets)
        if missing > 0:
            self._offsets.extend([-1] * missing)
        self._offsets[index] = offset

    def get(self, index: int) -> BatchItem | None:
        """Return the item at this place, read from its line."""
        return self._read(index)[0]

    def _read(self, index: int) -> tuple[BatchItem | None, bool]:
        """Return the item, and whether its answer has the shape it is to have."""
        original, identity = self._originals.get(index, (index, None))
        if not 0 <= original < len(self._offsets) or self._offsets[original] < 0:
            return None, False
        item = self._lines.item_at(self._offsets[original], original)
        if self._errors_as_text and isinstance(item.error, CallError):
            from quotaflow.reply import failed_reply

            item.reply = failed_reply(item.error)
            return (item if original == index else item.again(index, identity)), True
        wanted, wrong = self._own.get(original, self._usual), None
        if wanted is not None and item.reply is not None:
            item.reply, wrong = wanted.judged(item.reply)
        if original != index:
            item = item.again(index, identity)
        elif identity is not None:
            item.id = identity
        return item, wrong is None

    def places(self) -> Sequence[int]:
        """Return the places that have an item, in order."""
        size = max(len(self._offsets), max(self._originals, default=-1) + 1)
        if -1 not in self._offsets and not self._originals:
            return range(size)
        places = [place for place in range(size) if self._has(place)]
        return range(size) if len(places) == size else places

    def _has(self, index: int) -> bool:
        original, _ = self._originals.get(index, (index, None))
        return original < len(self._offsets) and self._offsets[original] >= 0

    def save(self, *, sync: bool) -> None:
        """Write everything so far to the file."""
        self._checkpoint.save(sync=sync)

    def close(self) -> None:
        """Let another run have the file."""
        self._checkpoint.close()


def line_of_reply(index: int, digest: str, identity: str | int | None, outcome: Outcome | Reply) -> str:
    """Return the line of a prompt that was answered: by one answer, or by a reply that is made of two."""
    name = "" if identity is None else f',"id":{json.dumps(identity)}'
    from quotaflow.reply import json_of, reply_from

    if isinstance(outcome, str):
        facts = json_of(outcome)
    else:
        # The reader may not have the prices of this config.
        cost = reply_from(outcome).cost
        facts = outcome.to_json(None if cost is None else str(cost))
    return f'{{"index":{index},"digest":"{digest}"{name},"reply":{facts}}}\n'


def line_of_error(index: int, digest: str, identity: str | int | None, error: QuotaflowError) -> str:
    """Return the line of a prompt without an answer; a later run sends it again."""
    # What every error of its class says need not be written down.
    names = _facts_of(type(error))
    facts = {name: vars(error)[name] for name in names if vars(error).get(name) is not None}
    if isinstance(error, CallError):
        facts["attempts"] = [[getattr(one, name) for name in one.__slots__] for one in error.attempts]
    if "usage" in facts:
        facts["usage"] = [getattr(facts["usage"], name) for name in facts["usage"].__slots__]
    if "cost" in facts:
        facts["cost"] = str(facts["cost"])
    line: dict[str, Any] = {"index": index, "digest": digest}
    if identity is not None:
        line["id"] = identity
    line["error"] = {"type": type(error).__name__, "message": error.message, **facts}
    return json.dumps(line, separators=(",", ":")) + "\n"


def _item(line: dict[str, Any], index: int | None) -> BatchItem:
    reply: Reply | None = None
    error: QuotaflowError | None = None
    if "reply" in line:
        reply = _reply(line["reply"])
        attempts = len(line["reply"]["attempts"])
    else:
        error = _error(dict(line["error"]))
        attempts = len(getattr(error, "attempts", ()))
    place = line["index"] if index is None else index
    return BatchItem(place, line.get("id"), reply, error, attempts, line["digest"])


def _reply(facts: dict[str, Any]) -> Reply:
    from decimal import Decimal

    from quotaflow.reply import Reply

    usage = facts["usage"]
    return Reply(
        facts["text"],
        provider=facts["provider"],
        model=facts["model"],
        key=facts["key"],
        usage=None if usage is None else (usage[0], usage[1], usage[2], usage[3], usage[4]),
        latency=facts["latency"],
        finish_reason=facts["finish_reason"],
        tool_calls=facts["tool_calls"],
        raw=facts["raw"].encode(),
        attempts=[tuple(attempt) for attempt in facts["attempts"]],
        repaired=facts.get("repaired"),
        cached=facts.get("cached"),
        first_token_latency=facts.get("first_token_latency"),
        cost=None if facts.get("cost") is None else Decimal(facts["cost"]),
    )


def _error(facts: dict[str, Any]) -> QuotaflowError:
    found = getattr(errors, facts.pop("type"), None)
    made = found if isinstance(found, type) and issubclass(found, QuotaflowError) else QuotaflowError
    message = facts.pop("message")
    # A newer version may write down more.
    names = _facts_of(made)
    facts = {name: value for name, value in facts.items() if name in names}
    if "attempts" in facts:
        facts["attempts"] = [tuple(attempt) for attempt in facts["attempts"]]
    if facts.get("usage") is not None:
        from quotaflow.records import Usage

        facts["usage"] = Usage(*facts["usage"])
    if facts.get("cost") is not None:
        from decimal import Decimal

        facts["cost"] = Decimal(facts["cost"])
    return made(message, **facts)


def _facts_of(cls: type[QuotaflowError]) -> tuple[str, ...]:
    """Return the names of what errors of this class hold, beside their message."""
    names = cls._facts
    if issubclass(cls, CallError):
        names += ("failure", "attempts")
    if issubclass(cls, AnswerError):
        names += ("text", "errors")
    return names


def _header(job: Mapping[str, object]) -> dict[str, Any]:
    """Return the first line; it has digests of the arguments, for some are long and some are secret."""

    def digest(value: object) -> str:
        text = json.dumps(value, sort_keys=True, default=repr)
        return blake2b(text.encode(errors="replace"), digest_size=8).hexdigest()

    digests = {name: digest(value) for name, value in sorted(job.items()) if value is not None}
    return {"quotaflow_checkpoint": _VERSION, "job": digests}


def _lines_of(file: int) -> Iterator[tuple[int, bytes]]:
    """Return each line with its offset; the last one may have no end."""
    os.lseek(file, 0, os.SEEK_SET)
    offset, rest = 0, b""
    while chunk := os.read(file, _READ):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield offset, line + b"\n"
            offset += len(line) + 1
    if rest:
        yield offset, rest


def _write_at(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written
