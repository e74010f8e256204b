"""The prompts of a batch: lists, generators and `.jsonl` files, one by one."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import blake2b
from os import PathLike, fspath
from pathlib import Path

from quotaflow._call.checks import wrong_type
from quotaflow._call.prompt import encode_prompt, encode_text
from quotaflow.errors import InvalidArgumentError, InvalidPromptError, QuotaflowError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from quotaflow._quotaflow import DigestTable

# A line that is longer than this is no prompt but a file without lines.
_LONGEST_LINE = 64 * 1024 * 1024
_EXPECTED = "pass a list, a generator, or the path of a .jsonl file"
# Arguments of the call that a prompt may have itself; everything else in its dict is a provider's parameter.
CALL_OPTIONS = (
    "task_name", "provider", "model", "retry", "fallback", "max_retries", "retry_delay", "system", "priority",
    "timeout", "user", "deadline", "skip_rate_limit",
)  # fmt: skip
_OF_THE_BATCH = ("concurrency", "ordered", "progress", "checkpoint", "stop_on_error", "dedupe", "on_retry")
# A file of more bytes is not read twice only to say how many lines it has.
_LARGEST_COUNTED = 256 * 1024 * 1024
# One of fewer is counted at once, in some milliseconds.
_COUNTED_AT_ONCE = 4 * 1024 * 1024
_CHUNK = 1024 * 1024
_CONTENT = ("prompt", "messages", "template")


_OF_THE_ANSWER = ("task_name", "provider", "model", "system", "fallback")


def what_answers_depend_on(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return those arguments of a call that another answer may come from; the others say when and how it is sent.

    >>> what_answers_depend_on({"model": "gpt-4o", "priority": 1})
    {'model': 'gpt-4o'}
    """
    return {name: call[name] for name in _OF_THE_ANSWER if name in call}


def told_apart(digest: bytes, call: Mapping[str, Any], params: Mapping[str, Any]) -> bytes:
    """Return the digest of a prompt with own options that no answer depends on: user, priority, timeouts.

    >>> told_apart(b"d", {"model": "gpt-4o"}, {}), len(told_apart(b"d", {"user": "ann"}, {}))
    (b'd', 16)
    """
    own = {name: value for name, value in call.items() if name not in _OF_THE_ANSWER}
    if "cache" in params:
        own["cache"] = params["cache"]
    return blake2b(digest + repr(sorted(own.items())).encode(), digest_size=16).digest() if own else digest


def what_is_said(prompt: str | bytes) -> bytes:
    """Return a prompt as `encode_prompt` gives it, the same for those that say the same.

    >>> what_is_said("Hi") == what_is_said(b'[{"content": "Hi", "role": "user"}]')
    True
    """
    if isinstance(prompt, str):
        return b"t" + encode_text(prompt)
    messages = json.loads(prompt)
    if len(messages) == 1 and messages[0].keys() == {"role", "content"} and messages[0]["role"] == "user":
        content = messages[0]["content"]
        if isinstance(content, str):
            return b"t" + encode_text(content)
    return b"m" + json.dumps(messages, sort_keys=True).encode()


def digest_of(question: bytes, prompt: str | bytes) -> bytes:
    """Return what tells a prompt from others; `question` is what is asked beside it."""
    return blake2b(question + what_is_said(prompt), digest_size=16).digest()


def own_digest(met: DigestTable, digest: bytes) -> bytes:
    """Return the digest of a prompt that is sent although it was met before: one that counts how often."""
    count = met.get(digest)
    nth = 0 if count is None else count + 1
    met.put(digest, nth)
    # The first one is what it is for those who send it once.
    return blake2b(digest + nth.to_bytes(8, "big"), digest_size=16).digest() if nth else digest


class Prompts:
    """The prompts of a batch one after the other, as they were given; what a line of a file holds is parsed.

    >>> list(Prompts(["One?", {"prompt": "Two?", "id": 2}]))
    ['One?', {'prompt': 'Two?', 'id': 2}]
    """

    __slots__ = ("_counts", "_given", "_path", "_total", "line")

    line: int | None
    """The line the last prompt stood in; `None` when they come from no file."""

    def __init__(self, prompts: object) -> None:
        self.line = self._total = self._path = None
        self._counts = False
        self._given: Iterator[object]
        if isinstance(prompts, PathLike) or (isinstance(prompts, str) and prompts.endswith(".jsonl")):
            self._path = Path(fspath(prompts))
            try:
                self._path.open("rb").close()
            except OSError as error:
                raise InvalidArgumentError(f"prompts cannot be read: {error}", hint=_EXPECTED) from error
            self._given = self._lines(self._path)
        elif isinstance(prompts, str | bytes | bytearray | Mapping) or not isinstance(prompts, Iterable):
            raise wrong_type("prompts", prompts, _EXPECTED)
        else:
            try:
                self._total = len(prompts)  # type: ignore[arg-type]
            except TypeError:
                self._total = None
            self._given = iter(prompts)

    def __iter__(self) -> Iterator[object]:
        return self._given

    @property
    def total(self) -> int | None:
        """How many there are, as far as that is known before all were read.

        The lines of a file are counted when this is first asked, beside everything else if there are many; those
        of a very large one are not.
        """
        if self._total is None and self._path is not None and not self._counts:
            self._counts = True
            self._count(self._path)
        return self._total

    def _count(self, path: Path) -> None:
        from threading import Thread

        def count() -> None:
            with suppress(OSError):
                self._total = _lines_in(path)

        try:
            about = path.stat()
        except OSError:
            return
        if not stat.S_ISREG(about.st_mode) or about.st_size > _LARGEST_COUNTED:
            return
        if about.st_size <= _COUNTED_AT_ONCE:
            count()
        else:
            Thread(target=count, name="quotaflow-lines", daemon=True).start()

    def _lines(self, path: Path) -> Iterator[object]:
        self.line = 0
        with path.open("rb") as file:
            while line := file.readline(_LONGEST_LINE):
                self.line += 1
                if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
                    while (rest := file.readline(_LONGEST_LINE)) and not rest.endswith(b"\n"):
                        pass
                    yield self.located(InvalidPromptError(f"the line is longer than {_LONGEST_LINE >> 20} MiB"))
                    continue
                if self.line == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if line.isspace() or not line:
                    continue
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError) as error:
                    yield self.located(InvalidPromptError(f"this is no JSON: {error}"))

    def located(self, error: QuotaflowError, line: int | None = None) -> QuotaflowError:
        """Return the error with the line it is about: `line`, or the one that was read last."""
        if self._path is not None:
            error.args = (f"line {self.line if line is None else line} of {self._path.name}: {error.message}",)
        return error


def _lines_in(path: Path) -> int:
    """Return how many lines of a file are not blank."""
    count, blank = 0, True
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            first, *more = chunk.split(b"\n")
            blank = blank and not first.strip()
            for line in more:
                count += not blank
                blank = not line.strip()
    return count + (not blank)


def read_prompt(
    given: object, render: Callable[[str, Any], object] | None
) -> tuple[str | bytes, str | int | None, dict[str, Any], dict[str, Any]]:
    """Return the prompt as `encode_prompt` gives it, the `id`, its own call options, its own parameters.

    Args:
        given: one prompt of a batch.
        render: what fills a template.

    Raises:
        InvalidPromptError: it is none.

    >>> read_prompt({"id": 7, "prompt": "Hi", "model": "gpt-4o-mini", "temperature": 0}, None)
    ('Hi', 7, {'model': 'gpt-4o-mini'}, {'temperature': 0})
    """
    if isinstance(given, QuotaflowError):
        raise given
    if not isinstance(given, Mapping):
        return encode_prompt(given), None, {}, {}
    named = [name for name in _CONTENT if name in given]
    if len(named) != 1:
        if "role" in given and "content" in given:
            raise InvalidPromptError(
                "this is one message and no prompt",
                hint="pass a list of messages, or {'messages': [...]}, for each prompt",
            )
        what = f"both {' and '.join(named)}" if named else "neither prompt nor messages"
        raise InvalidPromptError(f"the prompt has {what}", hint="give it one of prompt, messages, template")
    for name in _OF_THE_BATCH:
        if name in given:
            hint = f"pass {name} to the batch; a prompt itself may have {', '.join(CALL_OPTIONS)} and cache"
            raise InvalidPromptError(f"{name} belongs to the whole batch and to no prompt", hint=hint)
    own = {name: given[name] for name in CALL_OPTIONS if name in given}
    identity = given.get("id")
    if not (identity is None or _is_id(identity)):
        raise wrong_type("the id of the prompt", identity, "pass a string or a number", InvalidPromptError)
    rest = {name: value for name, value in given.items() if name not in {*own, *_CONTENT, "id", "params"}}
    more = given.get("params", {})
    if not isinstance(more, Mapping):
        raise wrong_type("params of the prompt", more, "pass a dict", InvalidPromptError)
    content = given[named[0]]
    if named[0] == "template":
        if render is None:
            raise InvalidPromptError("templates cannot be filled in here", hint="fill them in before")
        content, more = render(content, more), {}
    params = {str(name): value for name, value in (rest | dict(more)).items()}
    return encode_prompt(content), identity, own, params


def id_of(given: object) -> str | int | None:
    """Return the `id` of what may be no prompt; `None` without a valid one.

    >>> id_of({"id": 7, "prompt": ""}), id_of({"id": 1.5}), id_of("Hi")
    (7, None, None)
    """
    # Another mapping may raise, and did perhaps.
    identity: str | int | None = given.get("id") if isinstance(given, dict) else None
    return identity if _is_id(identity) else None


def _is_id(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)
