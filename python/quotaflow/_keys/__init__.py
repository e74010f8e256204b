"""The key manager: which of several API keys may be used now.

Programs call it as `quotaflow.APIKeyManager`.
It may import `_retry`, `_call` and `errors`.
"""
