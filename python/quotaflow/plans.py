"""When would it finish, what would each key do, and which limit decides that?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING

from quotaflow.batch_shapes import Shapes
from quotaflow.batch_sources import Prompts, read_prompt
from quotaflow.costs import dollars
from quotaflow.errors import InvalidArgumentError
from quotaflow.newer_prices import look_once
from quotaflow.options import optional_span, optional_whole
from quotaflow.templates import render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from quotaflow._quotaflow import CallOptions, Core

_USUAL_TOKENS = 100
_MOST_PROMPTS = 10**8
_MOST_TOKENS = 10**9
_AT_ONCE = 1_024
_READ_AT_ONCE = 512
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
    """

    provider: str
    model: str
    limit: str
    seconds: float


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
            than the prompt.
        why_refused: the first reason, or `None`.
        patient_finish: when all would be answered by somebody who asks again until every limit is back; `None`
            when nothing is refused, or when something never can be answered.
        ahead: how many calls wait already and go first.
        keys: what each key would have to do.
        limits: what would be waited for, the longest first.
        finish_if_doubled: when it would finish if the first of `limits` were twice as large; `None` when that is
            no limit that could be.
        cost: what the answered ones would cost; `None` when nobody knows the price of a model.
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
    cost: PlannedCost | None

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
            lines.append(
                f"  waits most for {bound.limit} at {bound.provider}/{bound.model}: {_span(bound.seconds)}"
            )
            if self.finish_if_doubled is not None:
                instead = (self.finish_if_doubled - self.start).total_seconds()
                lines.append(f"  with twice that limit: {_span(instead)}")
        lines.extend(
            f"  {key.provider}/{key.model} {key.key}: {key.requests:,} requests, "
            f"{key.input_tokens:,} + {key.output_tokens:,} tokens"
            for key in self.keys
        )
        return "\n".join(lines)


def made_plan(
    core: Core,
    options_for: Callable[..., CallOptions],
    prompts: object,
    count: object,
    tokens: object,
    guesses: Mapping[str, object],
    call: Mapping[str, object],
    params: dict[str, Any],
) -> Plan:
    """The plan for prompts, or for so many of one size; raises `InvalidArgumentError` for what cannot be meant."""
    if (prompts is None) == (count is None):
        raise InvalidArgumentError("a plan needs prompts or a count, not both", hint="pass prompts, or count=…")
    if prompts is not None and tokens is not None:
        raise InvalidArgumentError("tokens goes with count", hint="leave it out: the prompts are counted")

    def options(own: Mapping[str, Any], more: Mapping[str, Any]) -> CallOptions:
        asked = {**call, **{name: value for name, value in own.items() if name in call}}
        return options_for(
            asked["task_name"], asked["provider"], asked["model"], True, asked["fallback"], 3, 1.0,
            asked["system"], asked["priority"], None, asked["deadline"], None, False, {**params, **more}, None,
        )  # fmt: skip

    output = optional_whole("output_tokens", guesses["output_tokens"], _MOST_TOKENS)
    latency = optional_span("latency", guesses["latency"])
    most = optional_whole("concurrency", guesses["concurrency"], _MOST_PROMPTS)
    if most == 0:
        raise InvalidArgumentError("concurrency is 0", hint="pass at least 1, or None to leave it to the quotas")
    shapes = Shapes()
    params, _ = shapes.handed_on(params)
    usual = options({}, {})
    if count is None:
        loads = _sizes(core, Prompts(prompts), usual, options, shapes)
    else:
        size = optional_whole("tokens", tokens, _MOST_TOKENS)
        loads = [
            (
                usual,
                [(_USUAL_TOKENS if size is None else size, optional_whole("count", count, _MOST_PROMPTS) or 0)],
            )
        ]
    look_once()
    at_once, waiting = (_AT_ONCE, _FEW) if most is None else (most, min(most, _FEW))
    plans = [
        plan_from(
            json.loads(core.plan(asked, sizes, at_once, waiting, optional_span("latency", latency), output, None))
        )
        for asked, sizes in loads
    ]
    return plans[0] if len(plans) == 1 else _together(plans)


def _sizes(
    core: Core,
    prompts: Prompts,
    usual: CallOptions,
    options: Callable[[Mapping[str, Any], Mapping[str, Any]], CallOptions],
    shapes: Shapes,
) -> list[tuple[CallOptions, list[tuple[int, int]]]]:
    """How large the prompts are, in their order, for each set of options that they have."""
    found: dict[str, tuple[CallOptions, list[tuple[int, int]]]] = {"": (usual, [])}
    for own, texts in _chunks(prompts, shapes):
        if own not in found:
            found[own] = (options(*json.loads(own)), [])
        asked, sizes = found[own]
        for size, same in groupby(core.prompt_sizes(asked, texts)):
            sizes.append((size, sum(1 for _ in same)))
    return [load for own, load in found.items() if load[1] or len(found) == 1]


def _chunks(prompts: Prompts, shapes: Shapes) -> Iterator[tuple[str, list[tuple[str, bool]]]]:
    """Some prompts at a time, of those with the same options of their own."""
    held: dict[str, list[tuple[str, bool]]] = {}
    for given in prompts:
        if type(given) is str and given and not given.isspace():
            text, is_messages, own = given, False, ""
        else:
            text, is_messages, _, call, more = read_prompt(given, render)
            more, _ = shapes.handed_on(more)
            own = json.dumps([call, more], sort_keys=True, default=_seconds) if call or more else ""
        held.setdefault(own, []).append((text, is_messages))
        if len(held[own]) == _READ_AT_ONCE:
            yield own, held.pop(own)
    yield from held.items()


def _seconds(value: object) -> float:
    """A moment or a span that a prompt says for itself, as options take it."""
    for name in ("timestamp", "total_seconds"):
        if hasattr(value, name):
            seconds: float = getattr(value, name)()
            return seconds
    raise InvalidArgumentError(
        f"a prompt has an argument of type {type(value).__name__}", hint="pass plain values"
    )


def _together(plans: Iterable[Plan]) -> Plan:
    """Several plans side by side."""
    plans = list(plans)
    last = max(plans, key=lambda plan: plan.finish)
    reasons = [plan.why_refused for plan in plans if plan.why_refused is not None]
    waits = [plan.patient_finish or plan.finish for plan in plans]
    never = any(plan.refused and plan.patient_finish is None for plan in plans)
    refused = sum(plan.refused for plan in plans)
    doubled = [plan.finish_if_doubled if plan is last else plan.finish for plan in plans]
    return Plan(
        start=plans[0].start,
        finish=last.finish,
        prompts=sum(plan.prompts for plan in plans),
        answered=sum(plan.answered for plan in plans),
        refused=refused,
        why_refused=reasons[0] if reasons else None,
        patient_finish=max(waits) if refused and not never else None,
        ahead=max(plan.ahead for plan in plans),
        keys=tuple(key for plan in plans for key in plan.keys),
        limits=last.limits + tuple(limit for plan in plans if plan is not last for limit in plan.limits),
        finish_if_doubled=None if None in doubled else max(moment for moment in doubled if moment is not None),
        cost=_cost_together([plan.cost for plan in plans]),
    )


def _cost_together(costs: list[PlannedCost | None]) -> PlannedCost | None:
    known = [cost for cost in costs if cost is not None]
    if len(known) < len(costs):
        return None
    high = [cost.high for cost in known if cost.high is not None]
    return PlannedCost(
        low=sum((cost.low for cost in known), Decimal()),
        expected=sum((cost.expected for cost in known), Decimal()),
        high=sum(high, Decimal()) if len(high) == len(known) else None,
    )


def plan_from(facts: Mapping[str, Any]) -> Plan:
    """A plan as Rust tells it.

    >>> facts = dict(
    ...     start=0.0, finish=90.0, prompts=2, answered=2, refused=0, why_refused=None, patient_finish=None
    ... )
    >>> facts |= {"ahead": 0, "keys": [], "limits": [], "finish_if_doubled": None, "cost": None}
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
        cost=None if facts["cost"] is None else _cost(*facts["cost"]),
    )


def _cost(low: int, expected: int, high: int | None) -> PlannedCost:
    return PlannedCost(dollars(low), dollars(expected), None if high is None else dollars(high))


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _dollars(amount: Decimal) -> str:
    """Dollars as people say them.

    >>> _dollars(Decimal("0.0004213")), _dollars(Decimal("12.3456"))
    ('$0.00042', '$12.35')
    """
    return f"${amount:.2f}" if amount >= 1 else f"${float(amount):.2g}"


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
