"""Structured answers: JSON schema of a type, check of the answer, repair round.

`interface`, `_streaming`, `_batch` and `integrations` call it when a call has a `response_format`.
It may import `reply`, `_call` and `errors`.
"""
