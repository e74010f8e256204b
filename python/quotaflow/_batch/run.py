"""One run of a batch: reading prompts, sending, collecting, finishing.

Reading and judging answers happens here, many at a time; sending, waiting and retrying happens in Rust at the
same time, and never stands still for this.
"""

from __future__ import annotations

import json
from contextlib import suppress
from time import monotonic

from quotaflow._batch.background_save import Keeper
from quotaflow._batch.checkpoint import Checkpoint, SavedResults, line_of_error, line_of_reply
from quotaflow._batch.interrupts import Uninterrupted
from quotaflow._batch.progress import Watched
from quotaflow._batch.results import Batch, BatchItem, Results
from quotaflow._batch.source import Prompts, digest_of, id_of, own_digest, read_prompt, told_apart
from quotaflow._batch.summary import Tally
from quotaflow._call.prompt import encode_prompt
from quotaflow._quotaflow import DigestTable, Outcome
from quotaflow.errors import (
    AnswerError,
    CallError,
    CheckpointError,
    ClosedError,
    ConfigError,
    ContentFilteredError,
    ContextTooLongError,
    DeadlineExceededError,
    InvalidArgumentError,
    InvalidPromptError,
    InvalidRequestError,
    QuotaflowError,
    StateError,
)
from quotaflow.reply import failed_reply, numbers_of, reply_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from typing import Any

    from quotaflow._batch.options import BatchOptions
    from quotaflow._quotaflow import BatchRun, CallOptions
    from quotaflow._structured.repair import Rounds, Wanted
    from quotaflow.reply import Reply

    # Prompt, options, whether those are the usual ones, what the answer is held to, and the prompt's own
    # arguments: of the call, and for the provider.
    _Call = tuple[str | bytes, CallOptions, bool, Wanted | None, dict[str, Any], dict[str, Any]]

# Finished without being sent: no more of them at a time, so that answers are looked at in between.
_MOST_READ = 1_024
# Ordered, no more than so many are read beyond the one that everybody waits for.
_MOST_AHEAD = 8_192
# Without a checkpoint, the replies of so many prompts are remembered for later ones that are the same.
_MOST_REMEMBERED = 10_000
_LOOK_EACH = 0.1
# What was read begins after so many seconds at the latest.
_HURRY = 0.02
# Added to the number of a prompt, it is that of its repair round.
_SECOND = 1 << 62


class BatchWork:
    """One run of a batch, driven by `finished` or `afinished`, which give what is finished as it comes."""

    def __init__(self, options: BatchOptions, keeps_all: bool) -> None:
        self._options = options
        self._prompts = Prompts(options.prompts)
        self._source = iter(self._prompts)
        self._watched = Watched(options.progress)
        self._usual: CallOptions = options.usual
        try:
            self._question = options.question(self._usual, {})
        except QuotaflowError:
            self._question = b""  # prompts without their own options will meet the same error
        self._errors_as_text = options.errors_as_text
        self._seen = DigestTable()
        # How often a prompt was met that is to be sent each time.
        self._met = DigestTable()
        self._results = self._kept(keeps_all)
        try:
            self._run: BatchRun = options.start()
        except BaseException:
            self._results.close()
            raise
        self.tally = Tally()
        self._next = 0
        # Number of a call: digest, id, whether what is wrong with it may be wrong with all of them.
        self._flying: dict[int, tuple[bytes, str | int | None, bool]] = {}
        # Of those whose answer is to have a shape: their rounds, and their own options.
        self._shaped: dict[int, tuple[Rounds, tuple[dict[str, Any], dict[str, Any]]]] = {}
        # Those that are the same: number, id, and how they are sent when the first one fails by itself.
        self._joined: dict[int, list[tuple[int, str | int | None, _Call | None]]] = {}
        # What tells those apart that say how they are sent; kept of those that failed.
        self._apart: dict[int, bytes] = {}
        # In which line of a file those stood that are under way.
        self._stood: dict[int, int] = {}
        # Read and not started.
        self._calls: list[tuple[int, str | bytes, CallOptions]] = []
        self._arrived: list[Any] = []
        self._ready: list[BatchItem] = []
        self._held_back: dict[int, BatchItem] = {}
        self._turn = 0
        self._all_read = self._is_done = False
        # Whether there is more to read before there is anything to wait for.
        self._reads_on = False
        self._raised: BaseException | None = None
        # Whether nothing more is to be sent.
        self._is_ending = False
        self._keeper = Keeper()

    def _kept(self, keeps_all: bool) -> Results:
        if self._options.checkpoint is not None:
            checkpoint = Checkpoint(self._options.checkpoint, self._options.job)
            return SavedResults(checkpoint, self._options.wanted, self._errors_as_text)
        return Results(None) if keeps_all else Results(_MOST_REMEMBERED, self._seen)

    def carried_out(self) -> Batch:
        """Run the batch to its end; an error that ends it early has in its `batch` what was finished."""
        finished = self.finished()
        try:
            for _ in finished:
                pass
        except BaseException as error:
            finished.close()  # type: ignore[attr-defined]
            self._goes_with(error)
            raise
        return self.batch()

    async def acarried_out(self) -> Batch:
        """Do the same for asyncio."""
        finished = self.afinished()
        try:
            async for _ in finished:
                pass
        except BaseException as error:
            await finished.aclose()  # type: ignore[attr-defined]
            self._goes_with(error)
            raise
        return self.batch()

    def finished(self) -> Iterator[list[BatchItem]]:
        """Yield what is finished, some at a time; at the end raise what ended the batch early."""
        try:
            for handed in self._turns():
                with self._keeper:
                    yield handed
                if self._is_waiting():
                    self._run.wait(_LOOK_EACH)
        finally:
            self._end()
        self._raise()

    async def afinished(self) -> AsyncIterator[list[BatchItem]]:
        """Do the same for asyncio."""
        import asyncio

        loop, bell = asyncio.get_running_loop(), asyncio.Event()
        try:
            loop.add_reader(self._run.fileno(), bell.set)
        except NotImplementedError:
            # A loop that cannot watch sockets looks now and then.
            each, watched = _LOOK_EACH / 10, False
        else:
            each, watched = _LOOK_EACH, True
        try:
            for handed in self._turns():
                with self._keeper:
                    yield handed
                    if self._is_done:
                        continue
                    try:
                        async with asyncio.timeout(each if self._is_waiting() else 0):
                            await bell.wait()
                    except TimeoutError:
                        pass
                bell.clear()
        finally:
            if watched:
                loop.remove_reader(self._run.fileno())
            self._end()
        self._raise()

    def _turns(self) -> Iterator[list[BatchItem]]:
        """Yield what is finished after each turn; between two of them the batch waits."""
        self._begins()
        while self._goes_on():
            yield self._handed_out()
        self._is_done = True
        yield self._handed_out()

    def _is_waiting(self) -> bool:
        """Whether there is nothing to do before something arrives."""
        return not (self._is_done or self._reads_on or self._ready)

    def _begins(self) -> None:
        if self._options.checkpoint is not None:
            self._keeper.start(self._keep)

    def batch(self) -> Batch:
        """Return everything that is finished."""
        return Batch(self._results, self.tally.summary(self._watched.seconds, self._watched.lost))

    def _goes_on(self) -> bool:
        """Take one turn: collect, save, feed; return whether there will be more."""
        self._collect()
        # Before more is begun: so what a crash makes us pay twice is never more than what is under way at once.
        self._save(sync=False)
        if self._raised is None:
            self._feed()
        else:
            # What waited for one that failed was read before, and is sent.
            self._put()
        if self._watched.is_due():
            total = self._total()
            with self._keeper:
                self._watched.show(self.tally, total, self._run)
        return bool(self._flying) or not (self._all_read or self._raised is not None)

    def _feed(self) -> None:
        """Read as many prompts as are wanted, and start them."""
        ahead = _MOST_AHEAD - (self._next - self._turn) if self._options.ordered else _MOST_READ
        wanted = 0 if self._all_read else min(self._run.wants(), ahead)
        began, read, hurries = monotonic(), 0, False
        free = most = max(0, min(_MOST_READ, ahead))
        while read < wanted and most > 0 and self._raised is None and not hurries:
            most -= 1
            try:
                with self._keeper:
                    given = next(self._source)
            except StopIteration:
                self._all_read = True
                break
            except Exception as error:  # noqa: BLE001 - it is raised when what was begun is finished
                self._raised, self._all_read = error, True
                break
            call = self._read(given)
            if call is not None:
                self._calls.append(call)
                read += 1
            # Of a source that is slow, nothing waits for what comes after it.
            hurries = bool(self._calls) and monotonic() - began > _HURRY
        self._reads_on = hurries or (free > most == 0 and not self._calls)
        self._put()

    def _put(self) -> None:
        """Start what was read."""
        calls, self._calls = self._calls, []
        if calls:
            for number, wrong in self._run.put(calls):
                self._arrived.append((number, InvalidPromptError(wrong), 0.0, 0, 0, 0))

    def _read(self, given: object) -> tuple[int, str | bytes, CallOptions] | None:
        """Return the call for this prompt; `None` when it is finished already, or joins one that is under way."""
        index, self._next = self._next, self._next + 1
        identity: str | int | None = None
        options, wanted, question = self._usual, self._options.wanted, self._question
        call: dict[str, Any] = {}
        params: dict[str, Any] = {}
        try:
            if type(given) is str and given and not given.isspace():
                prompt: str | bytes = given
                is_usual = True
            else:
                prompt, identity, call, params = read_prompt(given, self._options.render)
                is_usual = not (call or params)
                if not is_usual:
                    options, wanted = self._options.with_own(call, params)
                    question = self._options.question(options, params)
                    if self._options.falls_back and not call.get("fallback", True):
                        # Another target's answer is none to it.
                        question += b"alone"
            digest = digest_of(question, prompt)
        except Exception as error:  # noqa: BLE001 - whatever was given, it is one of many
            self._is_none(index, given, error)
            return None
        digest = self._its_own(digest)
        apart = digest if is_usual else told_apart(digest, call, params)
        sent = prompt, options, is_usual, wanted, call, params
        first = self._seen.first(digest, index)
        if first is not None and self._joins(first, index, identity, apart, sent):
            return None
        if first is not None:
            self._seen.put(digest, index)
        found = self._results.found(digest, index, identity, wanted)
        if found is not None:
            self._was_there(found)
            return None
        if self._options.is_over():
            self._fails(index, identity, DeadlineExceededError("the deadline came before this prompt was sent"))
            return None
        if self._prompts.line is not None:
            self._stood[index] = self._prompts.line
        return self._leaves(index, digest, identity, apart, sent)

    def _leaves(
        self, index: int, digest: bytes, identity: str | int | None, apart: bytes, sent: _Call
    ) -> tuple[int, str | bytes, CallOptions]:
        """Return the call for a prompt that is under way from here on."""
        prompt, options, is_usual, wanted, call, params = sent
        self._flying[index] = (digest, identity, is_usual)
        if apart != digest:
            self._apart[index] = apart
        if wanted is not None:
            asked = prompt if isinstance(prompt, str) else json.loads(prompt)
            self._shaped[index] = self._options.rounds(asked, wanted, call), (call, params)
        return index, prompt, options

    def _is_none(self, index: int, given: object, error: Exception) -> None:
        """Finish an invalid prompt as an item with its error."""
        if isinstance(error, QuotaflowError):
            wrong = error
        else:
            wrong = InvalidPromptError(f"the prompt cannot be read: that raised {type(error).__name__}")
            wrong.__cause__ = error
        if wrong is not given:
            wrong = self._prompts.located(wrong)
        self._failed(index, id_of(given), wrong, 0, "", False)

    def _its_own(self, digest: bytes) -> bytes:
        """Return the digest; for a prompt that is sent although it was seen, one that counts how often."""
        return digest if self._options.dedupe else own_digest(self._met, digest)

    def _joins(self, first: int, index: int, identity: str | int | None, apart: bytes, sent: _Call) -> bool:
        """Whether an earlier prompt has or will have the answer to this one.

        An answer is one for all; a failure for those that are sent alike, or when it is the question's own.
        """
        if first in self._flying:
            is_alike = apart == self._apart.get(first, self._flying[first][0])
            self._joined.setdefault(first, []).append((index, identity, None if is_alike else sent))
            return True
        item = self._results.get(first)
        if item is None:
            return False
        if _failed_by_itself(item) and apart != self._apart.get(first, bytes.fromhex(item.digest)):
            return False
        self._is_the_same(item.again(index, identity))
        return True

    def _keep(self) -> None:
        """Save what came while the driver is elsewhere; its hooks are called when the driver is back."""
        self._put()
        self._collect(tells=False)
        self._save(sync=False)

    def _collect(self, *, tells: bool = True) -> None:
        """Collect the calls that ended."""
        self._run.take(self._arrived, tells)
        with Uninterrupted():
            self._look_at_arrivals()

    def _look_at_arrivals(self) -> None:
        for number, outcome, seconds, tokens_in, tokens_out, attempts in self._arrived:
            index = number % _SECOND
            flight = self._flying.get(index)
            if flight is None:
                continue
            if index in self._shaped:
                self._collect_shaped(index, number >= _SECOND, outcome, attempts)
                continue
            digest, identity, is_usual = flight
            name = digest.hex()
            if type(outcome) is Outcome:
                reply = reply_from(outcome)
                item = self._succeeds(index, identity, reply, outcome, attempts, name)
                self._counts(reply, seconds, tokens_in, tokens_out, attempts)
            else:
                item = self._failed(index, identity, outcome, attempts, name, is_usual)
            self._lands(item)
        self._arrived.clear()

    def _collect_shaped(self, index: int, is_second: bool, outcome: Any, attempts: int) -> None:
        """Judge a round of a prompt whose answer is to have a shape."""
        digest, identity, is_usual = self._flying[index]
        rounds, own = self._shaped[index]
        if rounds.is_second != is_second:
            # This was looked at before a Ctrl-C.
            return
        came = what_came(rounds, outcome)
        if not isinstance(came, QuotaflowError):
            seconds, tokens_in, tokens_out, attempts = numbers_of(came)
            item = self._succeeds(
                index, identity, came, came if came.repaired else outcome, attempts, digest.hex()
            )
            self._counts(came, seconds, tokens_in, tokens_out, attempts)
        elif not isinstance(came, AnswerError):
            item = self._failed(index, identity, came, attempts, digest.hex(), is_usual)
        elif self._asks_again(index, rounds, own):
            return
        else:
            item = self._does_not_fit(index, identity, came, rounds.reply, digest.hex())
        self._lands(item)

    def _asks_again(self, index: int, rounds: Rounds, own: tuple[dict[str, Any], dict[str, Any]]) -> bool:
        """Start the repair round of a prompt, if there is to be one."""
        messages = None if self._is_ending else rounds.again()
        if messages is None:
            return False
        call, params = own
        options, _ = self._options.with_own(call | {"timeout": rounds.timeout}, params)
        for number, wrong in self._run.put([(index + _SECOND, encode_prompt(messages), options)]):
            self._arrived.append((number, InvalidPromptError(wrong), 0.0, 0, 0, 0))
        return True

    def _does_not_fit(
        self, index: int, identity: str | int | None, error: AnswerError, reply: Reply | None, name: str
    ) -> BatchItem:
        """Finish a prompt whose answer does not have its shape."""
        self.tally.unfit += 1
        if reply is not None:
            _, tokens_in, tokens_out, _ = numbers_of(reply)
            self._paid(reply, tokens_in, tokens_out)
        return self._fails(index, identity, error, len(error.attempts), name)

    def _lands(self, item: BatchItem) -> None:
        """Finish a prompt, and give its result to those that are the same."""
        fails_alone = _failed_by_itself(item) and not self._is_ending
        digest = self._flying[item.index][0]
        # Who tries next for all the others, and what tells it apart.
        tries: tuple[int, bytes] | None = None
        for index, other, sent in self._joined.pop(item.index, ()):
            if not fails_alone or sent is None:
                self._is_the_same(item.again(index, other))
                continue
            apart = told_apart(digest, sent[4], sent[5])
            if tries is None:
                tries = index, apart
                self._calls.append(self._leaves(index, digest, other, apart, sent))
                self._seen.put(digest, index)
            else:
                is_alike = apart == tries[1]
                self._joined.setdefault(tries[0], []).append((index, other, None if is_alike else sent))
        del self._flying[item.index]
        if item.ok:
            self._apart.pop(item.index, None)
        self._shaped.pop(item.index, None)
        self._stood.pop(item.index, None)

    def _succeeds(
        self,
        index: int,
        identity: str | int | None,
        reply: Reply,
        outcome: Outcome | Reply,
        attempts: int,
        name: str,
    ) -> BatchItem:
        """Finish a prompt that has an answer; `outcome` is what is written down of it."""
        item = BatchItem(index, identity, reply, None, attempts, name)
        line = line_of_reply(index, name, identity, outcome) if self._options.checkpoint else None
        self._results.put(item, line)
        self._ready.append(item)
        return item

    def _counts(self, reply: Reply, seconds: float, tokens_in: int, tokens_out: int, attempts: int) -> None:
        tally = self.tally
        tally.successful += 1
        tally.latencies.append(seconds)
        if attempts > 1:
            tally.retried += 1
        self._paid(reply, tokens_in, tokens_out)

    def _paid(self, reply: Reply, tokens_in: int, tokens_out: int) -> None:
        if reply.cached:
            self.tally.cached += 1
        else:
            self.tally.input_tokens += tokens_in
            self.tally.output_tokens += tokens_out
        self.tally.paid(reply.cost)

    def _failed(
        self,
        number: int,
        identity: str | int | None,
        error: QuotaflowError,
        attempts: int,
        name: str,
        is_usual: bool,
    ) -> BatchItem:
        wrong_for_all = isinstance(error, ClosedError | StateError) or (
            is_usual
            and isinstance(error, ConfigError | InvalidArgumentError)
            and not isinstance(error, InvalidPromptError)
        )
        if wrong_for_all and self._raised is None:
            self._raised = error
            self._withdraw()
        line = self._stood.get(number)
        if line is not None and not wrong_for_all and isinstance(error, ConfigError | InvalidArgumentError):
            error = self._prompts.located(error, line)
        return self._fails(number, identity, error, attempts, name)

    def _fails(
        self,
        index: int,
        identity: str | int | None,
        error: QuotaflowError,
        attempts: int = 0,
        name: str = "",
    ) -> BatchItem:
        """Finish a prompt that has no answer."""
        as_text = isinstance(error, CallError) and self._errors_as_text
        reply = failed_reply(error) if as_text and isinstance(error, CallError) else None
        item = BatchItem(index, identity, reply, error, attempts, name)
        line = line_of_error(index, name, identity, error) if self._options.checkpoint else None
        self._results.put(item, line)
        self.tally.failed += 1
        self.tally.retried += attempts > 1
        self._ready.append(item)
        if self._options.stop_on_error and self._raised is None:
            self._raised = error
            self._withdraw()
        return item

    def _is_the_same(self, item: BatchItem) -> None:
        """Finish a prompt that has the answer of an earlier one."""
        self._results.put(item, None)
        self.tally.duplicates += 1
        self.tally.successful += item.ok
        self.tally.shared += item.ok
        self.tally.failed += not item.ok
        self._ready.append(item)

    def _was_there(self, item: BatchItem) -> None:
        """Take over a prompt that an earlier run finished."""
        self.tally.resumed += 1
        reply = item.reply
        if reply is not None:
            usage = reply.usage
            tokens = (0, 0) if usage is None else (usage.input_tokens, usage.output_tokens)
            self._counts(reply, reply.latency, *tokens, item.attempts)
        self._ready.append(item)

    def _withdraw(self) -> None:
        """Withdraw what was not sent yet."""
        self._is_ending = True
        unsent = [*self._run.withdraw(), *(call[0] for call in self._calls)]
        self._calls.clear()
        for number in unsent:
            index = number % _SECOND
            rounds = self._shaped[index][0] if index in self._shaped else None
            if rounds is not None and rounds.error is not None:
                # Its first answer was there.
                digest, identity, _ = self._flying[index]
                item = self._does_not_fit(index, identity, rounds.error, rounds.reply, digest.hex())
                self._lands(item)
                continue
            self._flying.pop(index, None)
            self._stood.pop(index, None)
            self._shaped.pop(index, None)
            self._joined.pop(index, None)

    def _handed_out(self) -> list[BatchItem]:
        """Return what is finished and was not handed out; ordered, as far as nothing is missing in between."""
        ready, self._ready = self._ready, []
        if not self._options.ordered:
            return ready
        self._held_back.update((item.index, item) for item in ready)
        handed: list[BatchItem] = []
        while (item := self._held_back.pop(self._turn, None)) is not None:
            handed.append(item)
            self._turn += 1
        if not self._flying and self._raised is not None:
            # What is missing will not come any more.
            handed += [self._held_back[index] for index in sorted(self._held_back)]
            self._held_back.clear()
        return handed

    def _total(self) -> int | None:
        """Return how many prompts there are, if that is known."""
        if self._all_read:
            return self._next
        total = self._prompts.total
        return None if total is None else max(total, self._next)

    def _save(self, *, sync: bool) -> None:
        """Write down what is finished; if that fails, nothing more is sent."""
        try:
            self._results.save(sync=sync)
        except CheckpointError as error:
            if self._raised is None or isinstance(self._raised, CheckpointError):
                # The last one knows best what could not be written.
                self._raised = error
                self._withdraw()

    def _end(self) -> None:
        """Save what is finished and drop the rest, however this ends."""
        self._is_ending = True
        try:
            # A second Ctrl-C, of a person or of a shell, loses no answer.
            with Uninterrupted():
                self._keeper.end()
                self._collect()
                self._save(sync=True)
        finally:
            try:
                total = self._total() if self._watched.is_shown else None
                self._watched.end(self.tally, total, self._run)
            finally:
                with Uninterrupted():
                    self._results.close()
                    self._run.close()

    def _raise(self) -> None:
        """Raise what ended the batch before all was done, with what was done."""
        error = self._raised
        if error is None:
            return
        done = self.tally.done
        error.add_note(f"{done:,} prompts of the batch were finished before; they are in the error's `batch`")
        self._goes_with(error)
        raise error

    def _goes_with(self, error: BaseException) -> None:
        """Attach what was finished to the error that ends the batch."""
        with suppress(Exception):  # the exception may take no attributes
            error.batch = self.batch()  # type: ignore[attr-defined]


def _failed_by_itself(item: BatchItem) -> bool:
    """Whether a prompt has no answer for a reason that another one with the same content need not meet."""
    of_the_question = (InvalidRequestError, ContextTooLongError, ContentFilteredError, AnswerError)
    return isinstance(item.error, CallError) and not isinstance(item.error, of_the_question)


def what_came(rounds: Rounds, outcome: Any) -> Reply | QuotaflowError:
    """Return what a round of a prompt came to: its reply, or why there is none.

    Args:
        rounds: the rounds of the prompt, which remember what this one brought.
        outcome: an `Outcome` or an exception, as a run gives them.
    """
    if type(outcome) is Outcome:
        attempts = outcome.attempts
        if attempts and not rounds.is_second:
            rounds.stood_in_line(attempts[0][-1])
        reply = rounds.judged(reply_from(outcome))
        return reply if rounds.error is None else rounds.error
    if rounds.error is not None and isinstance(outcome, CallError | InvalidArgumentError):
        rounds.failed(outcome)
        return rounds.error
    failed: QuotaflowError = outcome
    return failed
