"""Prompt templates: `$name` and Jinja.

Programs call it as `quotaflow.render`, and `interface` does.
It may import `_call` and `errors`.
"""
