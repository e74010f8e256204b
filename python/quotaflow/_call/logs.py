"""The logger `quotaflow`; levels and handlers are the program's to choose."""

from __future__ import annotations

import logging


def logger() -> logging.Logger:
    """Return the logger all others stand under; it is silent until the program configures logging.

    >>> logger().name, logger().level == logging.NOTSET
    ('quotaflow', True)
    """
    found = logging.getLogger("quotaflow")
    if not found.handlers:
        found.addHandler(logging.NullHandler())
    return found
