"""Structured answers: a type as a JSON schema, the check of an answer, the repair round.

`interface`, `_streaming`, `_batch` and `integrations` call it when a call has a `response_format`.
It may import `reply`, `_call` and `errors`.
"""
