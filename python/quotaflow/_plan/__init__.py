"""Plans: what it would take to send a workload, from the quotas as they are now.

`interface` inherits its methods.
It may import `_batch`, `_structured`, `_prices`, `_call`, `errors` and `records`.
"""
