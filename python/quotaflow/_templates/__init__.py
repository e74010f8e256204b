"""Prompt templates: `$name` and Jinja.

Programs call it, as `quotaflow.render`; so does `interface`.
It may import `errors`.
"""
