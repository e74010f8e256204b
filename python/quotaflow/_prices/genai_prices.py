"""Newer prices from an installed `genai-prices`, taken over once."""

from __future__ import annotations

import sys

from quotaflow._quotaflow import prices_made_from, take_prices

_PACKAGE = "genai_prices"
# Filled when everything was looked at; two threads that look at once find the same.
_looked: list[bool] = []


def look_once() -> None:
    """Look for the package, the first time only; import it (a quarter of a second) if it is newer."""
    if _looked:
        return
    installed = _installed_version()
    if installed is not None and _parts(installed) > _parts(prices_made_from().rpartition(" ")[2]):
        _take_over(installed)
    _looked.append(True)


def _installed_version() -> str | None:
    from importlib.util import find_spec

    try:
        if _PACKAGE not in sys.modules and find_spec(_PACKAGE) is None:
            return None
        from importlib.metadata import version

        return version("genai-prices")
    except (ImportError, ValueError):  # nothing was installed under this name, or half of it
        return None


def _take_over(installed: str) -> None:
    try:
        import json
        from datetime import UTC, datetime
        from importlib import import_module

        from quotaflow._prices.price_data import slim

        providers = import_module(f"{_PACKAGE}.data").providers
        book = {
            "made_from": f"genai-prices {installed}",
            "providers": slim(providers, datetime.now(tz=UTC).date()),
        }
        take_prices(json.dumps(book))
    except Exception as error:  # noqa: BLE001 - another package may fail in any way; the prices of the snapshot hold
        from quotaflow._call.logs import logger

        logger().warning(
            "genai-prices %s is installed and its prices cannot be read (%s: %s); those of %s hold",
            installed, type(error).__name__, error, prices_made_from(),
        )  # fmt: skip


def _parts(version: str) -> tuple[int, ...]:
    """Return the numbers a version begins with: `1.2.3rc1` is as new as `1.2` until it is released.

    >>> _parts("0.2.10") > _parts("0.2.9"), _parts("1.2.3rc1")
    (True, (1, 2))
    """
    parts = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        parts.append(int(part))
    return tuple(parts)
