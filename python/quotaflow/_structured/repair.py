"""The repair round: an answer of another shape is sent back once.

One call, and when its answer has another shape, a second one that shows the model what was wrong: the repair
round. An answer that was cut off or refused is not sent back: it would come to the same.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from time import monotonic
from time import time as now

from quotaflow._call.options import HandedOn
from quotaflow._call.prompt import encode_prompt
from quotaflow._quotaflow import json_in_text
from quotaflow._structured.response_format import ResponseFormat, is_as_written
from quotaflow.errors import (
    AnswerError,
    CallError,
    InvalidArgumentError,
    ParseError,
    QuotaflowError,
    ValidationError,
)
from quotaflow.reply import failed_reply, forget, shaped_reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from typing import Any

    from quotaflow._call.caller import Caller
    from quotaflow._call.options import CallArguments
    from quotaflow.reply import Reply

_LONGEST_MESSAGE = 500
_MOST_FAULTS_SHOWN = 10
# To ask again would come to the same.
_NOT_REPAIRED = frozenset({"length", "content_filter"})
_REPAIR = "This answer is not what was asked for:\n{faults}\nAnswer again, whole and corrected, with JSON only."


def send_shaped(
    send: Callable[[object, CallArguments], Reply], caller: Caller, prompt: object, arguments: CallArguments
) -> Reply:
    """Return what `send` gives for the prompt, with `parsed`, after a repair round if need be.

    Args:
        send: sends a prompt with these arguments.
        caller: what every call of the interface needs.
        prompt: the prompt, as `send` takes it.
        arguments: the others, with what the caller gave as `response_format`.

    Raises:
        InvalidArgumentError: the `response_format` is none.
        AnswerError: the answer does not have the shape, nor has the second one.
    """
    rounds = _begun(caller, prompt, arguments)
    for asked, its_arguments in rounds.asked(arguments):
        try:
            rounds.judged(send(asked, its_arguments))
        except CallError as error:
            if not rounds.is_second:
                raise
            rounds.failed(error)
    return rounds.ended(caller.errors_as_text)


async def asend_shaped(
    send: Callable[[object, CallArguments], Awaitable[Reply]],
    caller: Caller,
    prompt: object,
    arguments: CallArguments,
) -> Reply:
    """Do the same for a `send` that is awaited."""
    rounds = _begun(caller, prompt, arguments)
    for asked, its_arguments in rounds.asked(arguments):
        try:
            rounds.judged(await send(asked, its_arguments))
        except CallError as error:
            if not rounds.is_second:
                raise
            rounds.failed(error)
    return rounds.ended(caller.errors_as_text)


def _begun(caller: Caller, prompt: object, arguments: CallArguments) -> Rounds:
    wanted = Wanted(arguments.params["response_format"])
    timeout = caller.core.call_timeout if arguments.timeout is None else arguments.timeout
    return Rounds(prompt, wanted, timeout, arguments.deadline)


class Wanted:
    """What a `response_format` comes to: what goes out in its place, and what an answer is held to.

    Args:
        response_format: what a caller gave; not `None`.

    Raises:
        InvalidArgumentError: it is no shape.

    >>> Wanted({"type": "integer"}).param
    {'type': 'answer_schema', 'name': 'answer', 'schema': {'type': 'integer'}}
    """

    __slots__ = ("is_binding", "param", "shape")

    param: HandedOn
    """The parameter as it is handed on."""
    shape: ResponseFormat | None
    """How an answer is read; `None` for not at all."""
    is_binding: bool
    """Whether an answer of another shape is an error; in OpenAI's own words it is a parameter like others."""

    def __init__(self, response_format: Any) -> None:
        self.is_binding = not is_as_written(response_format)
        if self.is_binding:
            is_made = isinstance(response_format, ResponseFormat)
            self.shape = response_format if is_made else ResponseFormat(response_format)
            self.param = HandedOn(self.shape.param)
        else:
            self.shape, self.param = _shape_as_written(response_format), HandedOn(response_format)

    def judged(self, reply: Reply, first: Reply | None = None) -> tuple[Reply, AnswerError | None]:
        """Return the reply with what it holds, and what is wrong with it; `first` is the answer it repairs.

        >>> from quotaflow import Reply
        >>> reply, error = Wanted({"type": "integer"}).judged(Reply("three"))
        >>> reply.parsed, str(error)
        (None, 'there is no JSON in the answer')
        """
        if self.shape is None:
            return shaped_reply(reply, None, first), None
        try:
            return shaped_reply(reply, parsed_answer(reply, self.shape), first), None
        except AnswerError as error:
            made = shaped_reply(reply, None, first)
            if self.is_binding:
                forget(reply)
            error.usage, error.cost, error.attempts = made.usage, made.cost, made.attempts
            return made, error if self.is_binding else None


class Rounds:
    """A prompt whose answer is to have a shape, between its rounds.

    Args:
        prompt: as `send_prompt` takes it.
        wanted: the shape.
        timeout: the seconds for both rounds together, or a timedelta; `None` for any time.
        deadline: the same as a moment.
    """

    timeout: float | timedelta | None
    """What the next round may take."""
    error: AnswerError | None
    """What is wrong with the last answer."""
    reply: Reply | None
    """The last answer with all that it cost, the one before it included."""

    def __init__(self, prompt: object, wanted: Wanted, timeout: Any, deadline: Any) -> None:
        self.timeout = timeout
        self.error = self.reply = None
        self._prompt, self._wanted, self._deadline = prompt, wanted, deadline
        self._began = monotonic()
        self._first: Reply | None = None
        self._last: Reply | None = None
        # What the last round gave, be it the text of an error.
        self._given: Reply | None = None

    @property
    def is_second(self) -> bool:
        """Whether the repair round has begun."""
        return self._first is not None

    def stood_in_line(self, seconds: float) -> None:
        """Add seconds that the first round waited and that are no part of its time."""
        self._began += seconds

    def asked(self, arguments: CallArguments) -> Iterator[tuple[object, CallArguments]]:
        """Yield what is sent, with its arguments: the prompt, and after a wrong answer the repair round."""
        arguments = arguments._replace(params=arguments.params | {"response_format": self._wanted.param})
        yield self._prompt, arguments
        again = self.again()
        if again is not None:
            yield again, arguments._replace(timeout=self.timeout)

    def judged(self, reply: Reply) -> Reply:
        """Return the reply with what it holds; what is wrong with it is kept for `again` and `ended`."""
        self._given = reply
        if reply.error is not None:
            # A text that stands for an error.
            self.failed(reply.error)
            return reply
        self._last = reply
        self._given, self.error = self._wanted.judged(reply, self._first)
        self.reply = self._given
        return self.reply

    def again(self) -> list[dict[str, Any]] | None:
        """Return the prompt of the repair round; `None` when there is to be none."""
        error, shape = self.error, self._wanted.shape
        if error is None or shape is None or not shape.repair or self.is_second:
            return None
        if error.finish_reason in _NOT_REPAIRED or not self._has_time():
            return None
        self._first = self._last
        return repair_messages(self._prompt, error)

    def _has_time(self) -> bool:
        """Whether the caller's time is not over; the second round has what is left of it."""
        if self.timeout is not None:
            is_span = isinstance(self.timeout, timedelta)
            seconds: float = self.timeout.total_seconds() if is_span else self.timeout  # type: ignore[union-attr, assignment]
            self.timeout = left = seconds - (monotonic() - self._began)
            if left <= 0:
                return False
        ends = self._deadline.timestamp() if isinstance(self._deadline, datetime) else self._deadline
        return ends is None or ends > now()

    def failed(self, error: QuotaflowError) -> None:
        """Note a round without an answer; the error of the answer before stands."""
        if self.error is not None:
            self.error.__cause__ = error
            self.error.attempts += getattr(error, "attempts", ())

    def ended(self, errors_as_text: bool) -> Reply:
        """Return the last reply, or what is wrong with it."""
        if self.error is not None:
            if errors_as_text:
                return failed_reply(self.error)
            raise self.error
        if self._given is None:
            raise RuntimeError("no round was sent")
        return self._given


def parsed_answer(reply: Reply, shape: ResponseFormat) -> Any:
    """Return the object in an answer: the first JSON value that has the shape; `None` when it calls tools instead.

    Raises:
        ParseError: there is no JSON in it, or it was cut off or refused.
        ValidationError: its JSON has another shape.

    >>> from quotaflow import Reply
    >>> parsed_answer(Reply('Here it is: {"name": "Rome"}'), ResponseFormat({"type": "object"}))
    {'name': 'Rome'}
    """
    text = str(reply)
    values, is_cut = json_in_text(text)
    faults: list[str] = []
    # What was cut off is the answer, and what is whole before it is not.
    is_lost = reply.finish_reason == "length" and (is_cut or _may_be_part_of_a_number(text, values))
    for value in () if is_lost else values:
        parsed, wrong = shape.read(value)
        if not wrong:
            return parsed
        faults = faults or wrong
    if reply.tool_calls:
        return None
    message, hint, kind = _what_is_wrong(reply, faults, is_cut)
    raise kind(
        message[:_LONGEST_MESSAGE],
        hint=hint,
        provider=reply.provider,
        model=reply.model,
        key=reply.key,
        attempts=reply.attempts,
        text=text,
        errors=faults,
        finish_reason=reply.finish_reason,
        usage=reply.usage,
    )


def _may_be_part_of_a_number(text: str, values: list[str]) -> bool:
    """Whether the only value is a number at the very end: it may have had more digits.

    >>> _may_be_part_of_a_number("2800", ["2800"]), _may_be_part_of_a_number("[2800]", ["[2800]"])
    (True, False)
    """
    return len(values) == 1 and values[0][-1:].isdigit() and text.rstrip().endswith(values[0])


def _what_is_wrong(reply: Reply, faults: list[str], is_cut: bool) -> tuple[str, str | None, type[AnswerError]]:
    if reply.finish_reason == "length":
        tokens = "" if reply.usage is None else f" after {reply.usage.output_tokens} tokens"
        hint = "raise max_tokens, or ask for less; thinking counts, too"
        return f"the answer was cut off by max_tokens{tokens}", hint, ParseError
    if reply.finish_reason == "content_filter":
        message = "the model refused to answer, or the provider's content filter withheld the answer"
        return message, "rephrase the prompt; `text` has what was said", ParseError
    if faults:
        shown = "; ".join(faults[:_MOST_FAULTS_SHOWN])
        return f"the JSON of the answer has another shape: {shown}", None, ValidationError
    if is_cut:
        return "the answer ends before its JSON does", None, ParseError
    return "there is no JSON in the answer" if reply else "the answer is empty", None, ParseError


def repair_messages(prompt: object, error: AnswerError) -> list[dict[str, Any]]:
    """Return the conversation with the wrong answer and what is wrong with it.

    >>> messages = repair_messages("Name a city.", ParseError("there is no JSON in the answer", text="Rome"))
    >>> [message["role"] for message in messages]
    ['user', 'assistant', 'user']
    """
    said = encode_prompt(prompt)
    messages: list[dict[str, Any]] = (
        [{"role": "user", "content": said}] if isinstance(said, str) else json.loads(said)
    )
    faults = "\n".join(f"- {fault}" for fault in error.errors[:_MOST_FAULTS_SHOWN]) or f"- {error.message}"
    # An empty turn is refused by some.
    answer = [{"role": "assistant", "content": error.text}] if error.text.strip() else []
    return [*messages, *answer, {"role": "user", "content": _REPAIR.format(faults=faults)}]


def _shape_as_written(wanted: Any) -> ResponseFormat | None:
    try:
        return None if wanted["type"] == "text" else ResponseFormat(wanted)
    except InvalidArgumentError:
        # It is the provider's to judge.
        return None
