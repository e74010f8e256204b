"""Batches of prompts: source, run, checkpoint, progress, results.

`interface` inherits its methods.
It may import `_structured`, `_prices`, `reply`, `_call`, `errors` and `records`.
"""
