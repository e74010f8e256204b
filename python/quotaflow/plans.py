"""When would it finish, what would each key do, and which limit decides that?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


@dataclass(frozen=True, slots=True)
class PlannedKey:
    """What one key would have to do.

    Attributes:
        provider: the provider.
        model: the model.
        key: the label of the key.
        requests: how many calls it would make.
        input_tokens: tokens of their prompts, estimated.
        output_tokens: tokens of the answers, as many as such answers had so far.
    """

    provider: str
    model: str
    key: str
    requests: int
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class PlannedLimit:
    """Something that would be waited for.

    Attributes:
        provider: the provider.
        model: the model.
        limit: what it is, for instance `"40 requests per minute"`.
        seconds: for how long nothing could leave because of it.
    """

    provider: str
    model: str
    limit: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What would come of sending so many prompts, from what is used and closed now. Nothing was sent.

    Printed, it is a report for people.

    Attributes:
        start: when it begins; an aware datetime, as all moments here.
        finish: when the last prompt that is answered would be.
        prompts: how many there are.
        answered: how many would be answered.
        refused: how many would be refused, because a limit is used up for longer than a call waits, or is smaller
            than the prompt.
        why_refused: the first reason, or `None`.
        patient_finish: when all would be answered by somebody who asks again until every limit is back; `None` when
            nothing is refused, or when something never can be answered.
        ahead: how many calls wait already and go first.
        keys: what each key would have to do.
        limits: what would be waited for, the longest first.
        finish_if_doubled: when it would finish if the first of `limits` were twice as large; `None` when that is no
            limit that could be.
    """

    start: datetime
    finish: datetime
    prompts: int
    answered: int
    refused: int
    why_refused: str | None
    patient_finish: datetime | None
    ahead: int
    keys: tuple[PlannedKey, ...]
    limits: tuple[PlannedLimit, ...]
    finish_if_doubled: datetime | None

    @property
    def seconds(self) -> float:
        """How long it would take."""
        return (self.finish - self.start).total_seconds()

    @property
    def binding(self) -> PlannedLimit | None:
        """The limit that decides how long it takes; `None` when nothing would be waited for."""
        return self.limits[0] if self.limits else None

    @property
    def requests(self) -> int:
        """Calls of all keys."""
        return sum(key.requests for key in self.keys)

    @property
    def input_tokens(self) -> int:
        """Tokens of all prompts, estimated."""
        return sum(key.input_tokens for key in self.keys)

    @property
    def output_tokens(self) -> int:
        """Tokens of all answers, estimated."""
        return sum(key.output_tokens for key in self.keys)

    def __str__(self) -> str:
        lines = [f"{self.answered:,} of {self.prompts:,} prompts by {_clock(self.finish)}, in {_span(self.seconds)}"]
        if self.ahead:
            lines.append(f"  {self.ahead:,} calls wait already and go first")
        if self.refused:
            lines.append(f"  {self.refused:,} would be refused: {self.why_refused}")
            if self.patient_finish is not None:
                took = (self.patient_finish - self.start).total_seconds()
                lines.append(f"  asked again until every limit is back: by {_clock(self.patient_finish)}, {_span(took)}")
        bound = self.binding
        if bound is not None:
            lines.append(f"  waits most for {bound.limit} at {bound.provider}/{bound.model}: {_span(bound.seconds)}")
            if self.finish_if_doubled is not None:
                took = (self.finish_if_doubled - self.start).total_seconds()
                lines.append(f"  with twice that limit: {_span(took)}")
        lines.extend(
            f"  {key.provider}/{key.model} {key.key}: {key.requests:,} requests, "
            f"{key.input_tokens:,} + {key.output_tokens:,} tokens"
            for key in self.keys
        )
        return "\n".join(lines)


def plan_from(facts: Mapping[str, Any]) -> Plan:
    """A plan as Rust tells it.

    >>> facts = dict(start=0.0, finish=90.0, prompts=2, answered=2, refused=0, why_refused=None, patient_finish=None)
    >>> plan_from({**facts, "ahead": 0, "keys": [], "limits": [], "finish_if_doubled": None}).seconds
    90.0
    """
    return Plan(
        start=_moment(facts["start"]),
        finish=_moment(facts["finish"]),
        prompts=facts["prompts"],
        answered=facts["answered"],
        refused=facts["refused"],
        why_refused=facts["why_refused"],
        patient_finish=None if facts["patient_finish"] is None else _moment(facts["patient_finish"]),
        ahead=facts["ahead"],
        keys=tuple(PlannedKey(**key) for key in facts["keys"]),
        limits=tuple(PlannedLimit(**limit) for limit in facts["limits"]),
        finish_if_doubled=None if facts["finish_if_doubled"] is None else _moment(facts["finish_if_doubled"]),
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _clock(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _span(seconds: float) -> str:
    """Seconds as people say them.

    >>> _span(0.25), _span(75), _span(7_260), _span(200_000)
    ('0.2 s', '1 min 15 s', '2 h 1 min', '2 d 7 h')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    for place, (name, length) in enumerate(units):
        if whole >= length:
            first = f"{whole // length} {name}"
            if place + 1 == len(units):
                return first
            below, size = units[place + 1]
            rest = whole % length // size
            return f"{first} {rest} {below}" if rest else first
    return "0 s"
