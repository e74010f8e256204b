"""Plans: when a batch would finish, what it would cost, and which limit decides that.

`interface` inherits its method.
It may import `_batch`, `_prices`, `_call`, `errors` and `records`.
"""
