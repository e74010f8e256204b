"""The prompts of a plan: how large each is, and with which options it is sent."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from quotaflow._batch.checkpoint import Checkpoint
from quotaflow._batch.source import Prompts, digest_of, own_digest, read_prompt
from quotaflow._quotaflow import DigestTable
from quotaflow.errors import InvalidPromptError, QuotaflowError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from quotaflow._batch.options import BatchOptions
    from quotaflow._quotaflow import CallOptions, Core

_READ_AT_ONCE = 512


class PlannedPrompts:
    """How large the prompts are, in their order, and how each is sent.

    Args:
        core: what sizes them.
        options: those of the batch, with its prompts.
        counted: instead of prompts, the tokens of each and how many there are.
    """

    def __init__(self, core: Core, options: BatchOptions, counted: tuple[int, int] | None = None) -> None:
        self.asks: list[CallOptions] = [options.usual]
        # Which of them, tokens, how many prompts after each other.
        self.runs: list[tuple[int, int, int]] = []
        self.refused = 0
        self.why_refused: str | None = None
        self._core = core
        self._places: dict[str, int] = {}
        # What is asked beside a prompt without its own options.
        self._usually = b""
        if counted is None:
            self._read(options)
        else:
            self.runs.append((0, *counted))

    def _read(self, options: BatchOptions) -> None:
        prompts = Prompts(options.prompts)
        with suppress(QuotaflowError):
            # Prompts without their own options will meet the same error.
            self._usually = options.question(options.usual, {})
        held: list[tuple[int, str | bytes]] = []
        with _Seen(options) as seen:
            for given in prompts:
                try:
                    place, own, prompt = self._way(given, options)
                    if seen.has(own, prompt):
                        continue
                except QuotaflowError as error:
                    self._refuse(error if error is given else prompts.located(error))
                    continue
                except Exception as error:  # noqa: BLE001 - whatever was given, it is one of many
                    wrong = f"the prompt cannot be read: that raised {type(error).__name__}"
                    self._refuse(prompts.located(InvalidPromptError(wrong)))
                    continue
                held.append((place, prompt))
                if len(held) == _READ_AT_ONCE:
                    self._size(held)
                    held = []
        self._size(held)

    def _way(self, given: object, options: BatchOptions) -> tuple[int, bytes, str | bytes]:
        """Return the place of a prompt's options, the digest of what is asked beside it, and the prompt."""
        if type(given) is str and given and not given.isspace():
            return 0, self._usually, given
        prompt, _, call, more = read_prompt(given, options.render)
        if not (call or more):
            return 0, self._usually, prompt
        key = json.dumps([call, more], sort_keys=True, default=repr)
        if key not in self._places:
            asked, _ = options.with_own(call, more)
            self.asks.append(asked)
            self._places[key] = len(self.asks) - 1
        place = self._places[key]
        return place, options.question(self.asks[place], more), prompt

    def _refuse(self, error: QuotaflowError) -> None:
        self.refused += 1
        if self.why_refused is None:
            self.why_refused = str(error)

    def _size(self, held: list[tuple[int, str | bytes]]) -> None:
        """Return sizes of some prompts, those with the same options together."""
        together: dict[int, list[int]] = {}
        for number, (place, _) in enumerate(held):
            together.setdefault(place, []).append(number)
        sizes: dict[int, int] = {}
        for place, numbers in together.items():
            if place == 0:
                # What is wrong with all of them is raised.
                self._core.prompt_sizes(self.asks[0], [])
            sizes.update(self._sizes(place, numbers, held))
        for number, (place, _) in enumerate(held):
            if number not in sizes:
                continue
            last = self.runs[-1] if self.runs else None
            if last is not None and last[:2] == (place, sizes[number]):
                self.runs[-1] = (*last[:2], last[2] + 1)
            else:
                self.runs.append((place, sizes[number], 1))

    def _sizes(
        self, place: int, numbers: list[int], held: list[tuple[int, str | bytes]]
    ) -> Iterator[tuple[int, int]]:
        prompts = [held[number][1] for number in numbers]
        try:
            yield from zip(numbers, self._core.prompt_sizes(self.asks[place], prompts), strict=True)
        except QuotaflowError as error:
            if len(numbers) == 1:
                self._refuse(error)
                return
            for number in numbers:
                yield from self._sizes(place, [number], held)


class _Seen:
    """Which prompts need not be sent: an earlier one is the same, or a checkpoint holds the answer."""

    def __init__(self, options: BatchOptions) -> None:
        self._dedupes = options.dedupe
        self._seen = DigestTable()
        path = options.checkpoint
        # A plan makes no file.
        is_there = path is not None and Path(path).exists()
        self._checkpoint = Checkpoint(path, options.job) if path is not None and is_there else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._checkpoint is not None:
            self._checkpoint.close()

    def has(self, own: bytes, prompt: str | bytes) -> bool:
        digest = digest_of(own, prompt)
        if not self._dedupes:
            digest = own_digest(self._seen, digest)
        elif self._seen.first(digest, 0) is not None:
            return True
        return self._checkpoint is not None and self._checkpoint.known(digest) is not None
