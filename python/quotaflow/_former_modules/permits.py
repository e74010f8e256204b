"""Former home of what is in `quotaflow._limiter.permits`."""

from quotaflow._limiter.permits import Permit, PermitKey

__all__ = ["Permit", "PermitKey"]
