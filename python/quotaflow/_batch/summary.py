"""Counts of a batch: `BatchSummary`, `BatchProgress` and their tally."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """The whole of a batch in numbers; as text it is a table.

    >>> print(BatchSummary(total=3, successful=2, failed=1, input_tokens=60, output_tokens=12, seconds=1.5))
    prompts      3: 2 answered, 1 failed, 0 tried again
    tokens       60 in, 12 out
    time         1.5 s, 2.0 prompts/s
    an answer    0.00 s on average; 0.00 s (p50), 0.00 s (p95), 0.00 s (p99)
    """

    total: int = 0
    """How many prompts there were."""
    successful: int = 0
    """How many have an answer."""
    failed: int = 0
    """How many have none."""
    unfit: int = 0
    """How many of the failed have an answer, paid and counted below, in another shape than was asked for."""
    retried: int = 0
    """How many were sent more than once."""
    duplicates: int = 0
    """How many were the same as an earlier one, and have its answer."""
    resumed: int = 0
    """How many an earlier run had finished; they count in everything but the time."""
    cached: int = 0
    """How many were given again from the cache (`cache=`): they cost nothing, and their tokens do not count."""
    input_tokens: int = 0
    """Tokens of the prompts that were sent, as the providers counted them."""
    output_tokens: int = 0
    """Tokens of the answers to them, as the providers counted them."""
    cost: Decimal | None = None
    """What they cost in US dollars, as far as prices are known; `None` when none is."""
    without_cost: int = 0
    """How many answers have no known price."""
    average_tokens: float = 0.0
    """Tokens of a prompt that was sent and its answer together, on average."""
    seconds: float = 0.0
    """How long this run took."""
    average_seconds: float = 0.0
    """How long an answer took on average, waits and failed attempts included."""
    p50_seconds: float = 0.0
    """How long half of the answers took at most."""
    p95_seconds: float = 0.0
    """How long 95 of 100 answers took at most."""
    p99_seconds: float = 0.0
    """How long 99 of 100 answers took at most."""
    waited: Mapping[str, float] = field(default_factory=dict)
    """The seconds for which calls of this run were held up, by what held them up."""

    @property
    def per_second(self) -> float:
        """Prompts that this run finished, by second."""
        return (self.total - self.resumed) / self.seconds if self.seconds > 0 else 0.0

    def __str__(self) -> str:
        counts = f"{self.total:,}: {self.successful:,} answered, {self.failed:,} failed"
        counts += f" ({self.unfit:,} in another shape)" if self.unfit else ""
        counts += f", {self.retried:,} tried again"
        if self.duplicates:
            counts += f", {self.duplicates:,} duplicates"
        if self.cached:
            counts += f", {self.cached:,} from the cache"
        if self.resumed:
            counts += f", {self.resumed:,} from an earlier run"
        lines = [
            f"prompts      {counts}",
            f"tokens       {self.input_tokens:,} in, {self.output_tokens:,} out",
            f"time         {self.seconds:,.1f} s, {self.per_second:,.1f} prompts/s",
        ]
        percentiles = ((self.p50_seconds, 50), (self.p95_seconds, 95), (self.p99_seconds, 99))
        times = ", ".join(f"{seconds:.2f} s (p{share})" for seconds, share in percentiles)
        lines.append(f"an answer    {self.average_seconds:.2f} s on average; {times}")
        if self.cost is not None:
            missing = f", and {self.without_cost:,} of unknown price" if self.without_cost else ""
            lines.insert(2, f"cost         ${self.cost:.4f}{missing}")
        for number, (name, seconds) in enumerate(sorted(self.waited.items(), key=lambda lost: -lost[1])):
            lines.append(f"{'' if number else 'held up by':<12} {seconds:,.1f} s {name}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """How far a batch is, as `progress=` gets it, at most ten times a second and once at the end.

    >>> BatchProgress(done=5, total=10, failed=1).left
    5
    """

    done: int = 0
    """Prompts that are finished, failed ones and those of an earlier run included."""
    total: int | None = None
    """How many there are; `None` while a generator or a file has not said."""
    failed: int = 0
    """How many have no answer."""
    resumed: int = 0
    """How many an earlier run had finished."""
    under_way: int = 0
    """Calls that were begun and are not finished."""
    waiting: int = 0
    """How many of them wait for quota, for a turn or for the end of a pause."""
    waiting_on: str | None = None
    """What they wait for, for instance `requests per minute at openai/gpt-4o-mini`."""
    input_tokens: int = 0
    """Tokens of the prompts so far."""
    output_tokens: int = 0
    """Tokens of the answers so far."""
    cost: Decimal | None = None
    """US dollars so far, as far as prices are known."""
    seconds: float = 0.0
    """Since when this run has been under way."""
    remaining_seconds: float | None = None
    """How long the rest takes, by the quotas; `None` when that is unknown."""
    finished: bool = False
    """Whether this is the last one."""

    @property
    def left(self) -> int | None:
        """Prompts that are not finished; `None` when that is unknown."""
        return None if self.total is None else max(0, self.total - self.done)

    @property
    def per_second(self) -> float:
        """Prompts that this run finished, by second."""
        return (self.done - self.resumed) / self.seconds if self.seconds > 0 else 0.0


class Tally:
    """Counts what a batch finishes, in a few bytes for each."""

    __slots__ = (
        "cached", "cost", "duplicates", "failed", "input_tokens", "latencies", "output_tokens", "resumed",
        "retried", "shared", "successful", "unfit", "without_cost",
    )  # fmt: skip

    def __init__(self) -> None:
        self.successful = self.failed = self.unfit = self.retried = self.duplicates = self.resumed = 0
        self.cached = 0
        # Of the duplicates, those that have an answer.
        self.shared = 0
        self.input_tokens = self.output_tokens = self.without_cost = 0
        self.cost: Decimal | None = None
        self.latencies = array("f")

    @property
    def done(self) -> int:
        """How many are finished."""
        return self.successful + self.failed

    @property
    def sent(self) -> int:
        """How many answers came to a prompt that was sent."""
        return self.successful + self.unfit - self.shared - self.cached

    def paid(self, cost: Decimal | None) -> None:
        """Count one more answer with its price."""
        if cost is None:
            self.without_cost += 1
        else:
            self.cost = cost if self.cost is None else self.cost + cost

    def summary(self, seconds: float, waited: Mapping[str, float]) -> BatchSummary:
        """Return everything so far."""
        times = sorted(self.latencies)
        return BatchSummary(
            total=self.done,
            successful=self.successful,
            failed=self.failed,
            unfit=self.unfit,
            retried=self.retried,
            duplicates=self.duplicates,
            resumed=self.resumed,
            cached=self.cached,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cost=self.cost,
            without_cost=self.without_cost,
            average_tokens=(self.input_tokens + self.output_tokens) / max(1, self.sent),
            seconds=seconds,
            average_seconds=sum(times) / len(times) if times else 0.0,
            p50_seconds=_percentile(times, 0.50),
            p95_seconds=_percentile(times, 0.95),
            p99_seconds=_percentile(times, 0.99),
            waited=dict(waited),
        )


def _percentile(times: list[float], share: float) -> float:
    """Return the smallest of the times that at least this share of them does not exceed."""
    if not times:
        return 0.0
    place = int(share * len(times))
    return times[min(place if place < share * len(times) else place - 1, len(times) - 1)] if place else times[0]
