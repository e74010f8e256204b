"""Retries of any function, and the classification of any exception.

Programs call it, as `quotaflow.retrying` and `quotaflow.classify_error`; so do `_limiter` and `_keys`.
It may import `_call`, `errors` and `records`.
"""
