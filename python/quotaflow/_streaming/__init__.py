"""Streamed answers: the stream, its pieces, and the methods that begin one.

`interface` inherits its methods, and `integrations` reads its streams.
It may import `_structured`, `reply`, `_call`, `errors` and `records`.
"""
