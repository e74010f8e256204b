"""`Plan`: when a batch would finish, what each key would do, what decides it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from quotaflow._call.checks import optional_span, optional_whole
from quotaflow._plan.workload import PlannedPrompts
from quotaflow._prices.cost import dollars, warn_once
from quotaflow._prices.genai_prices import look_once
from quotaflow.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal
    from typing import Any

    from quotaflow._batch.options import BatchOptions
    from quotaflow._quotaflow import Core

_USUAL_TOKENS = 100
_MOST_PROMPTS = 10**8
_MOST_TOKENS = 10**9
_AT_ONCE = 1_024
# Few of a batch stand in line: about two for each key and these.
_FEW = 64


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
        refused: how many prompts would be refused because it is used up for longer than they wait.
    """

    provider: str
    model: str
    limit: str
    seconds: float
    refused: int = 0


@dataclass(frozen=True, slots=True)
class PlannedCost:
    """What a plan would cost, in US dollars.

    Attributes:
        low: with answers of no length.
        expected: with answers as long as such answers are on average.
        high: with answers as long as `max_tokens` allows; `None` when nothing bounds them.
    """

    low: Decimal
    expected: Decimal
    high: Decimal | None


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
            than the prompt; and those that are no prompt, or cannot be sent the way they ask for.
        why_refused: the first reason, or `None`.
        patient_finish: when all would be answered if refused prompts were sent again until every limit is back;
            `None` when nothing is refused, or when something never can be answered.
        ahead: how many calls wait already and go first.
        keys: what each key would have to do.
        limits: what decides how it goes: first what would refuse most, then what would be waited for longest.
        finish_if_doubled: when it would finish if the first of `limits` were twice as large, a stated concurrency
            too; `None` when that is nothing that could be.
        answered_if_doubled: how many would be answered then; `None` as before.
        cost: what the answered ones would cost; `None` when the price of a model is not known.
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
    answered_if_doubled: int | None
    cost: PlannedCost | None

    @property
    def seconds(self) -> float:
        """How long it would take."""
        return (self.finish - self.start).total_seconds()

    @property
    def binding(self) -> PlannedLimit | None:
        """The limit that decides how it goes; `None` when nothing would be refused or waited for."""
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
        lines = [
            f"{self.answered:,} of {self.prompts:,} prompts by {_clock(self.finish)}, in {_span(self.seconds)}"
        ]
        if self.ahead:
            lines.append(f"  {self.ahead:,} calls wait already and go first")
        if self.refused:
            lines.append(f"  {self.refused:,} would be refused: {self.why_refused}")
            if self.patient_finish is not None:
                took = (self.patient_finish - self.start).total_seconds()
                lines.append(
                    f"  asked again until every limit is back: by {_clock(self.patient_finish)}, {_span(took)}"
                )
        if self.cost is not None:
            high = "" if self.cost.high is None else f", at most {_dollars(self.cost.high)}"
            lines.append(f"  costs about {_dollars(self.cost.expected)}{high}")
        bound = self.binding
        if bound is not None:
            where = f"{bound.limit} at {bound.provider}/{bound.model}"
            if bound.refused:
                lines.append(f"  held back most by {where}: {bound.refused:,} refused")
            else:
                lines.append(f"  waits most for {where}: {_span(bound.seconds)}")
            if self.finish_if_doubled is not None:
                instead = (self.finish_if_doubled - self.start).total_seconds()
                more = f"{self.answered_if_doubled:,} answered, in " if bound.refused else ""
                lines.append(f"  with twice that limit: {more}{_span(instead)}")
        lines.extend(
            f"  {key.provider}/{key.model} {key.key}: {key.requests:,} requests, "
            f"{key.input_tokens:,} + {key.output_tokens:,} tokens"
            for key in self.keys
        )
        return "\n".join(lines)


def made_plan(
    core: Core, options: BatchOptions, count: object, tokens: object, output_tokens: object, latency: object
) -> Plan:
    """Return the plan for prompts, or for so many of one size; raise `InvalidArgumentError` if it is invalid."""
    if (options.prompts is None) == (count is None):
        raise InvalidArgumentError("a plan needs prompts or a count, not both", hint="pass prompts, or count=…")
    if count is None and tokens is not None:
        raise InvalidArgumentError("tokens goes with count", hint="leave it out: the prompts are counted")
    output = optional_whole("output_tokens", output_tokens, _MOST_TOKENS)
    took = optional_span("latency", latency)
    if count is None:
        load = PlannedPrompts(core, options)
    else:
        size = optional_whole("tokens", tokens, _MOST_TOKENS)
        number = optional_whole("count", count, _MOST_PROMPTS) or 0
        load = PlannedPrompts(core, options, (_USUAL_TOKENS if size is None else size, number))
    look_once()
    most = options.concurrency
    at_once, waiting = (_AT_ONCE, _FEW) if most is None else (most, min(most, _FEW))
    facts = json.loads(core.plan(load.asks, load.runs, at_once, waiting, took, output))
    facts["prompts"] += load.refused
    facts["refused"] += load.refused
    if load.refused:
        facts["why_refused"] = load.why_refused
        facts["patient_finish"] = None
    unpriced = facts.pop("unpriced")
    if unpriced is not None:
        warn_once(*unpriced)
    return plan_from(facts)


def plan_from(facts: Mapping[str, Any]) -> Plan:
    """Return a plan as Rust tells it.

    >>> facts = dict(
    ...     start=0.0,
    ...     finish=90.0,
    ...     prompts=2,
    ...     answered=2,
    ...     refused=0,
    ...     why_refused=None,
    ...     patient_finish=None,
    ...     ahead=0,
    ... )
    >>> facts |= {"keys": [], "limits": [], "finish_if_doubled": None, "answered_if_doubled": None, "cost": None}
    >>> plan_from(facts).seconds
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
        answered_if_doubled=facts["answered_if_doubled"],
        cost=None if facts["cost"] is None else _cost(*facts["cost"]),
    )


def _cost(low: int, expected: int, high: int | None) -> PlannedCost:
    return PlannedCost(dollars(low), dollars(expected), None if high is None else dollars(high))


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _dollars(amount: Decimal) -> str:
    """Return dollars as people say them.

    >>> from decimal import Decimal
    >>> _dollars(Decimal("0.0004213")), _dollars(Decimal("12.3456"))
    ('$0.00042', '$12.35')
    """
    return f"${amount:.2f}" if amount >= 1 else f"${float(amount):.2g}"


def _clock(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _span(seconds: float) -> str:
    """Return seconds as people say them.

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
