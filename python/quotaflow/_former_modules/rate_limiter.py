"""Former home of what is in `quotaflow._limiter.limiter`."""

from quotaflow._limiter.limiter import RateLimiter

__all__ = ["RateLimiter"]
