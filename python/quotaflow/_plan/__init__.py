"""Plans: when a batch finishes, what it costs, which limit decides that.

`interface` inherits its method.
It may import `_batch`, `_prices`, `_call`, `errors` and `records`.
"""
