"""Batches of prompts: source, run, results, checkpoint, progress.

`interface` inherits its methods, and `_plan` reads prompts as it does.
It may import `_structured`, `reply`, `_call`, `errors` and `records`.
"""
