"""Structured answers: a shape as a JSON schema, the check of an answer, and its repair.

`interface`, `_streaming` and `_batch` call it when a call has `response_format`.
It may import `reply`, `_call` and `errors`.
"""
