"""Former home of what is in `quotaflow._cli`."""

from quotaflow._cli import main

__all__ = ["main"]
