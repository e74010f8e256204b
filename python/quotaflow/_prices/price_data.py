"""The prices of `genai-prices` in the shape of the snapshot.

Nothing of that package is imported here: its objects are only read, so that a newer release may differ in all
that is not needed. The result is the shape of `src/providers/prices/snapshot.json`, which `book.rs`
beside it describes.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date
    from decimal import Decimal
    from typing import Any

# What is billed by the token or by the call, in the order of the rows of the snapshot.
_UNITS = {
    "input_mtok": 1_000_000,
    "output_mtok": 1_000_000,
    "cache_read_mtok": 1_000_000,
    "cache_write_mtok": 1_000_000,
    "cache_write_1h_mtok": 1_000_000,
    "output_reasoning_mtok": 1_000_000,
    "requests_kcount": 1_000,
}
# Attributes of a clause, and the sign that stands before its text in the snapshot.
_SIGNS = {"equals": "=", "starts_with": "^", "ends_with": "$", "contains": "*", "regex": "~"}
# A call is told apart by these; what only other facts choose (the road of a router) is left out.
_TERMS = ("processing", "service_tier", "speed")
_PICODOLLARS = 1_000_000_000_000


def slim(providers: Iterable[Any], today: date, only: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """Return the providers of `genai-prices` in the snapshot's shape, without what is over or has no price.

    >>> from types import SimpleNamespace as Named
    >>> from datetime import date
    >>> from decimal import Decimal
    >>> match = Named(starts_with="tiny-")
    >>> model = Named(id="tiny-1", match=match, prices=Named(input_mtok=Decimal("0.5"), output_mtok=Decimal(2)))
    >>> slim([Named(id="acme", models=[model])], date(2026, 1, 1))
    [{'id': 'acme', 'models': [{'match': '^tiny-', 'rates': [500000, 2000000]}]}]
    """
    wanted = None if only is None else frozenset(only)
    slimmed = []
    for provider in providers:
        if wanted is not None and provider.id not in wanted:
            continue
        # A model without a price keeps its place: it must not be taken for one that comes after it.
        models = [_model(model, today) for model in provider.models]
        fallbacks = getattr(provider, "fallback_model_providers", None)
        made: dict[str, Any] = {"id": provider.id}
        if fallbacks:
            made["else"] = list(fallbacks)
        slimmed.append(made | {"models": models})
    return slimmed


def _model(model: Any, today: date) -> dict[str, Any]:
    made: dict[str, Any] = {"match": _rule(model.match)}
    if not isinstance(model.prices, list):
        made["rates"] = _rates(model.prices)
    else:
        dated = _still_to_come(model.prices, today)
        made |= dated[0] if len(dated) == 1 and len(dated[0]) == 1 else {"prices": dated}
    variants = [_variant(variant, today) for variant in getattr(model, "price_variants", None) or ()]
    variants = [variant for variant in variants if variant is not None]
    return made | {"variants": variants} if variants else made


def _still_to_come(prices: list[Any], today: date) -> list[dict[str, Any]]:
    """Return the prices that may hold from `today` on, each with when it does."""
    first = max((place for place, price in enumerate(prices) if _holds_for_good(price, today)), default=0)
    return [{"rates": _rates(price.prices)} | _when(price.constraint, today) for price in prices[first:]]


def _holds_for_good(price: Any, today: date) -> bool:
    constraint = price.constraint
    start = getattr(constraint, "start_date", None)
    return constraint is None or (start is not None and start <= today)


def _when(constraint: Any, today: date) -> dict[str, Any]:
    """Return a constraint: `from` a day, or every day between two times, in UTC."""
    start = getattr(constraint, "start_date", None)
    if start is not None:
        return {"from": start.isoformat()} if start > today else {}
    begins, ends = getattr(constraint, "start_time", None), getattr(constraint, "end_time", None)
    if begins is None or ends is None:
        return {}
    return {"begins": _second_of_day(begins), "ends": _second_of_day(ends)}


def _second_of_day(time: Any) -> int:
    offset = time.utcoffset()
    seconds = time.hour * 3600 + time.minute * 60 + time.second - (offset.total_seconds() if offset else 0)
    return int(seconds % 86_400)


def _variant(variant: Any, today: date) -> dict[str, Any] | None:
    when: Mapping[str, str] = variant.when
    if not when or any(term not in _TERMS for term in when):
        return None
    rates = _rates(variant.prices)
    # One that changes nothing says what holds anyway.
    return {"terms": sorted(when.items()), "rates": rates} | _when(variant.constraint, today) if rates else None


def _rule(clause: Any) -> Any:
    """Return a text with a sign before it, a list of which one must hold, or `{"and": [...]}`."""
    for attribute, sign in _SIGNS.items():
        text = getattr(clause, attribute, None)
        if text is not None:
            # A pattern is not folded: `\\D` is not `\\d`. What it is matched with is in lower case.
            return sign + (text if attribute == "regex" else text.lower())
    either = getattr(clause, "or_", None)
    if either is not None:
        return [_rule(part) for part in either]
    return {"and": [_rule(part) for part in clause.and_]}


def _rates(prices: Any) -> list[Any]:
    """Return picodollars by unit, in the order of the units; with tiers, by how long the whole prompt is."""
    row = [_rate(getattr(prices, name, None), per) for name, per in _UNITS.items()]
    while row and row[-1] is None:
        row.pop()
    return row


def _rate(price: Any, per: int) -> Any:
    if price is None:
        return None
    tiers = getattr(price, "tiers", None)
    if tiers is None:
        return _picodollars(price, per)
    starts = [[tier.start, _picodollars(tier.price, per)] for tier in tiers]
    return {"base": _picodollars(price.base, per), "tiers": starts}


def _picodollars(price: Decimal, per: int) -> int:
    """Return whole picodollars for one unit; what is less is a rounding error of floating point."""
    return round(price * _PICODOLLARS / per)
