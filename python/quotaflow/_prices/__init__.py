"""Prices of answers, and newer ones from an installed `genai-prices`.

`interface`, `reply`, `_batch` and `_plan` call it.
It may import `_call`.
"""
