"""Retries of any function, and the classification of any exception.

Programs call it as `quotaflow.retrying` and `quotaflow.classify_error`; `_limiter` and `_keys` do, too.
It may import `_call` and `errors`.
"""
