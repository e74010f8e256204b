"""The rate limiter for calls that other code sends: permits, runs, accounts.

Programs call it, as `quotaflow.RateLimiter`.
It may import `_retry`, `_call`, `errors` and `records`.
"""
