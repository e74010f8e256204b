"""The cost of an answer in US dollars, exact to the picodollar."""

from __future__ import annotations

from quotaflow._quotaflow import cost_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal
    from typing import Any

_PICODOLLARS = 10**12
# Models that a warning named already; a dict, for setting a default is one step.
_warned: dict[tuple[str, str], object] = {}


def reply_cost(outcome: Any, warns: bool = True) -> Decimal | None:
    """Return what an answer cost in US dollars; `None`, with one warning a model, if its price is not known."""
    from quotaflow._prices.genai_prices import look_once

    stated: Any = getattr(outcome, "cost", None)
    if callable(stated):
        look_once()
        picodollars = stated()
    elif stated is not None:
        known: Decimal = stated
        return known
    elif not outcome.provider or not outcome.model:
        return None
    else:
        look_once()
        picodollars = cost_of(outcome.provider, outcome.model, outcome.usage, outcome.raw, _when(outcome.attempts))
    if picodollars is not None:
        return dollars(picodollars)
    if warns and outcome.usage is not None:
        warn_once(outcome.provider, outcome.model)
    return None


def _when(attempts: Sequence[tuple[Any, ...]]) -> float:
    if attempts:
        started: float = attempts[-1][5]
        return started
    from time import time

    return time()


def dollars(picodollars: int) -> Decimal:
    """Return picodollars as US dollars, exact whatever the decimal context.

    >>> dollars(2_500_000), dollars(3 * 10**12)
    (Decimal('0.0000025'), Decimal('3'))
    """
    from decimal import Decimal

    whole, rest = divmod(picodollars, _PICODOLLARS)
    return Decimal(f"{whole}.{rest:012d}".rstrip("0").rstrip("."))


def warn_once(provider: str, model: str) -> None:
    """Warn once in this process that the price of this model is not known."""
    token = object()
    if _warned.setdefault((provider, model), token) is token:
        from quotaflow._call.logs import logger

        logger().warning(
            "no price is known for %s/%s, so that its cost is None; state one under prices in the config",
            provider, model,
        )  # fmt: skip
