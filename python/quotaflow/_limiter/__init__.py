"""The rate limiter for calls that other code sends: permits, runs, accounting.

Programs call it as `quotaflow.RateLimiter`.
It may import `_retry`, `_call` and `errors`.
"""
