"""Prices of answers, and newer ones from an installed `genai-prices`.

`interface`, `reply` and `_plan` call it.
It may import `_call`.
"""
